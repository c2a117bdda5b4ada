//! How much a consumer keeps: what the simulator watches, so that nothing grows for ever unseen.

use super::machine::{Consumer, Phase};

/// Numbers of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Commands that came before the Hello's acknowledgement.
    pub early: usize,
    /// Partitions in ownership events that wait for their acknowledgement.
    pub events: usize,
    /// Partitions whose position waits to be told.
    pub progress: usize,
    /// Partitions whose highest epoch is known.
    pub seen: usize,
    /// Partitions that it holds.
    pub holdings: usize,
    /// Partitions with figures.
    pub figures: usize,
}

impl Consumer {
    /// How much it keeps.
    pub fn sizes(&self) -> Sizes {
        let early = match self.phase() {
            Phase::Greeting(greeting) => greeting.kept(),
            Phase::Locating { .. } | Phase::Living(_) | Phase::Left => 0,
        };
        let (events, progress) = self.living().map_or((0, 0), |living| living.outbox.sizes());
        Sizes {
            early,
            events,
            progress,
            seen: self.seen.len(),
            holdings: self.holdings.len(),
            figures: self.figures_kept(),
        }
    }
}
