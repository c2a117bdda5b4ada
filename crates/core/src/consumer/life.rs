//! One incarnation's lease and its heartbeats.
//!
//! ```text
//! Resting ──due──► Hearing(end unknown) ──end──► Hearing(end) ──obeyed up to it──► Beating ──ack──► Resting
//! ```

use core::time::Duration;

use super::io::AppendId;
use crate::ids::{Incarnation, Instant, Offset};

/// Where the cycle of heartbeats stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Pulse {
    /// Nothing to do before this moment.
    Resting(Instant),
    /// The end of the command partition was asked for with this id, and is not known yet. An answer to an earlier
    /// question could be older than the heartbeat before.
    Asking(u64),
    /// Everything below this end must be obeyed first.
    Hearing(Offset),
    /// A heartbeat was handed over at this moment and waits for its acknowledgement.
    Beating { id: AppendId, handed: Instant },
}

/// An incarnation as long as it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lease {
    pub(super) incarnation: Incarnation,
    /// C2: the moment before the last acknowledged heartbeat (at first the Hello) was handed over.
    pub(super) from: Instant,
    /// Offset of that record: one that is not above it means that the ledger was cut.
    acknowledged: Offset,
    pub(super) seq: u64,
    pub(super) pulse: Pulse,
}

impl Lease {
    pub(super) fn new(incarnation: Incarnation, from: Instant, now: Instant) -> Self {
        Self { incarnation, from, acknowledged: incarnation.0, seq: 0, pulse: Pulse::Resting(now) }
    }

    /// True while this incarnation may act.
    pub(super) fn is_live(&self, now: Instant, lease: Duration) -> bool {
        now.since(self.from) < lease
    }

    /// When the lease lapses unless it is renewed.
    pub(super) fn lapses(&self, lease: Duration) -> Instant {
        self.from.after(lease)
    }

    /// Takes up an acknowledgement of the heartbeat in flight. False when the ledger has gone back: it was truncated
    /// or made anew, and this incarnation with it.
    pub(super) fn renew(&mut self, handed: Instant, at: Offset, rest_until: Instant) -> bool {
        self.pulse = Pulse::Resting(rest_until);
        if at <= self.acknowledged {
            return false;
        }
        self.acknowledged = at;
        self.from = handed;
        true
    }
}
