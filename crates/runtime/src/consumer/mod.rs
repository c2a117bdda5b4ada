//! The consumer's loop: carries out what its state machine in `core` decides.
//!
//! ```text
//! command partition ─► core::consumer ─► ledger
//!                        │  ▲
//!            Read, Write │  │ Ready, Written
//!                        ▼  │
//! partition reader ─► gatherer ─► sink
//! ```
//!
//! One task owns all of it. Calls to Kafka and to the sink run beside it and come back as inputs; the partition reader
//! has a task of its own. Nothing here decides who owns what, when to write, or when to give up.

mod calls;
mod effects;
mod face;
mod gather;
mod mirror;
mod reading;
mod shell;
mod sinks;
mod write;

pub use face::Shown;
pub use shell::{Ports, Start, run};
pub use sinks::{DeadLetterFactory, SinkFactory, Sinks};
