//! How much a fold keeps: what the simulator watches, so that nothing grows for ever unseen.

/// Numbers of entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Processes whose highest attempt is remembered.
    pub attempts: usize,
    /// Incarnations that live.
    pub living: usize,
    /// Incarnations that have ended and are remembered.
    pub ended: usize,
    /// Consumer numbers that were ever used.
    pub numbers: usize,
    /// Partitions.
    pub partitions: usize,
}
