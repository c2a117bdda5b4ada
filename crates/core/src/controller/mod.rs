//! The controller's part of the protocol: it decides, grants, moves and fences, and is one of possibly several.
//!
//! Everything it wants to happen follows from the fold: it looks at what the ledger says and at what the last plan wants,
//! and sends what is missing, again and again, until the ledger shows it. It keeps no progress of its own that a
//! successor would miss.
//!
//! ```text
//! rates, lag ─► planning ─► Plan ─┐                        ┌─► Stop (owner)      while the plan takes it away
//!                                 ▼                        │
//! ledger ─► fold ─► who owns what, who should ─► handoff ──┼─► Grant (ledger)    while it is Free
//!             │                                            └─► Start (new owner) while it is Granted
//!             └─► silence ─► Fenced
//! ```
//!
//! - K1: a Start is sent only for a grant that was read back and is valid.
//! - K2: only what is Free is granted; it becomes Free by its owner's word or by a fence.
//! - K3: a partition is taken from its owner only when the consumer that is to have it is ready, unless nobody is to have it: its
//!   topic is gone, or its consumer is to be left, must go before another may come, and has waited until the deadline.
//! - K4: silence fences only after the ledger was read up to an end fetched after the suspicion, and names the last beat.
//! - K5: a worker is removed only when its consumer owns nothing and is planned nothing.
//! - K6: in a new generation of the ledger nothing is granted before every lease of an older one has lapsed.

mod archive;
mod election;
mod gone;
mod handoff;
mod io;
mod lives;
mod machine;
mod outbox;
mod planning;
mod reading;
mod silence;
mod sizes;
mod standing;
mod withdraw;

#[cfg(test)]
mod evacuation_tests;
#[cfg(test)]
mod lives_tests;
#[cfg(test)]
mod tests;

pub use election::Role;
pub use io::{Effect, Input, Mode, Note, Settings, Steering, WorkerView};
pub use machine::Controller;
pub use planning::{Explanation, PlanState};
pub use sizes::Sizes;
