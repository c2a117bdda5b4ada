//! How much a controller keeps: what the simulator watches, so that nothing grows for ever unseen.

use super::machine::Controller;
use crate::ledger;

/// Numbers of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// The fold.
    pub fold: ledger::Sizes,
    /// Records of its own that it has not read back.
    pub pending: usize,
    /// Partitions that something was sent for.
    pub sent: usize,
    /// Partitions whose start is known or was asked for.
    pub starts: usize,
    /// Partitions between two owners.
    pub handovers: usize,
    /// Workers.
    pub workers: usize,
    /// Processes that are known to be dead.
    pub dead: usize,
    /// Incarnations with a timer.
    pub timers: usize,
    /// Consumers that are expected, or passed over.
    pub standings: usize,
    /// Consumers that are to be left.
    pub leaving: usize,
}

impl Controller {
    /// How much it keeps.
    pub fn sizes(&self) -> Sizes {
        let office = self.office.as_ref();
        let asked = office.map_or(0, |office| office.starts_asked.len());
        Sizes {
            fold: self.fold.sizes(),
            pending: office.map_or(0, |office| office.outbox.len()),
            sent: office.map_or(0, |office| office.sent.len()),
            starts: self.starts.len().max(asked),
            handovers: self.handovers.len(),
            workers: self.workers.len(),
            dead: self.dead.len(),
            timers: self.silence.len(),
            standings: self.standings.len(),
            leaving: self.leaving.len(),
        }
    }
}
