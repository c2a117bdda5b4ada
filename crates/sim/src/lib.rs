//! Simulators: the production state machines in worlds that are worse than any real one, and always the same.

pub mod world;
