//! How fast partitions are written: one partition's [`RateWindow`], and the [`Monitor`] over all of them.
//!
//! ```text
//! Sample ─► RateWindow: bytes since the last sample ─► window (30 s) ─► write rate
//!                                                  └─► filter (EWMA) ─► filtered rate ─► Monitor ─► changed, missing
//! ```
//!
//! Invariants: a rate is never negative; a missing sample is missing and never a rate of zero; floats stay inside [`LowPass`].

mod filter;
mod looks;
mod monitor;
mod steps;
mod window;

pub use filter::LowPass;
pub use looks::{BatchLooks, Most};
pub use monitor::{Monitor, Round, Settings, TopicReport, TopicRound};
pub use window::{Basis, BytesPerRecord, Measurement, RateWindow, Sample, Source};

#[cfg(test)]
mod tests;
