//! Simulators: the production state machines in worlds that are worse than any real one, and always the same; and the production
//! packer over long streams of loads, beside the published algorithms.

mod number;
pub mod planner;
mod rng;
pub mod world;
