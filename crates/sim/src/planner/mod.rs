//! Simulations of planners: the production packer, the published algorithms and Kafka's own assignors over the same streams of loads.
//! They run the production code in a closed loop, each decision starting from what the last one left, and measure what comes of it.
//!
//! ```text
//! recipe or file ─► Stream ─► Decider (one policy, with its assignment) ─► Decision ─┬─► compare: consumers, CBS, R, time
//!                                                                                    └─► latency, frequency: what readers feel
//! ```
//!
//! Nothing here reads a clock, and the same stream, policies and seed give the same figures but for the measured times.

pub mod bench;
pub mod compare;
mod decider;
pub mod frequency;
pub mod golden;
mod kafka;
pub mod latency;
mod policy;
pub mod rates;
mod sizing;
pub mod statistics;
pub mod stream;

pub use decider::{Decider, Decision};
pub use kafka::Assignor;
pub use policy::{Policy, PolicyError};
pub use sizing::{Sizing, SizingError, Tuning};
