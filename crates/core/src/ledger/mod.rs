//! The ledger: partition 0 of a group's controller topic, a totally ordered log that says who owns what.
//!
//! Ownership is a pure fold over its records, and the offsets of records are the fencing tokens: unique, rising, and
//! persisted by nobody else. Consumers say `Hello`, `Heartbeat` and what they did with their grants; the controller
//! says `Elect`, `Plan`, `Grant` and `Fenced`. Whatever is not valid where it stands is ignored, by every reader alike,
//! so that lost, late, repeated and foreign records are all legal.
//!
//! - L1: at each position a partition has at most one owner, and only a Free partition is granted.
//! - L2: a record of the controller takes effect at most once and in the order of its `seq`.
//! - L3: the known position of a partition never goes back.
//! - L4: an incarnation that has ended owns nothing, now or later.

mod attempts;
mod facts;
mod fold;
mod lives;
mod ownership;
mod record;
mod replay;
mod sizes;

#[cfg(test)]
mod tests;

pub use attempts::Attempt;
pub use facts::{Assembly, Facts};
pub use fold::{AdoptedPlan, Fold, Ignored, Reign};
pub use lives::{LatestHellos, Life, Lives};
pub use ownership::{Change, Ownership};
pub use record::{
    Command, CommandBody, Entry, Evidence, Hello, Move, PartitionFigures, PlanBody, Record,
    Refusal, Seal, StopReason, Trigger,
};
pub use replay::{Beginning, ForeignGroup, Replay};
pub use sizes::Sizes;
