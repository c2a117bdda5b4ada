//! The consumer's part of the protocol: one life after the other, and in each the partitions it was granted.
//!
//! A consumer owns nothing that it was not told by a Start of its own incarnation, and believes in nothing longer than
//! its lease. It speaks through its outbox, which repeats ownership events until they are acknowledged.
//!
//! ```text
//! Locating ─► Greeting ─► Living ──lapse, Ended──► Locating (a new incarnation; owns nothing)
//!                            └────shutdown────► Leaving ─► Left
//! ```
//!
//! - C1: a Start is obeyed only in the highest term seen, for the own incarnation, with an epoch above any seen for the
//!   partition, under a live lease.
//! - C2: the lease counts from the moment before the last acknowledged heartbeat was handed over; an acknowledgement
//!   that comes after it has lapsed revives nothing.
//! - C3: a heartbeat is sent only after everything in the command partition below an end that was fetched since the
//!   heartbeat before has been obeyed, and while no ownership event waits for its acknowledgement.
//! - C4: a sink write begins only while the lease lasts longer than the write may take.
//! - C5: nothing is written after the `StopConsumingEvent` of an epoch.
//! - C6: who leaves clean has given everything back, and the ledger knows.

mod commands;
mod greeting;
mod holding;
mod io;
mod leaving;
mod life;
mod machine;
mod outbox;
mod sizes;
mod work;

#[cfg(test)]
mod tests;

pub use holding::Activity;
pub use io::{
    Alarm, AppendId, Effect, Extent, Failure, Gone, Input, Located, ReadFailure, Settings,
    SinkBehind,
};
pub use machine::{Consumer, Identity, Phase};
pub use sizes::Sizes;
