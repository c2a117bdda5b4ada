//! The group as the controller sees it at the moment of a decision.

use alloc::collections::{BTreeMap, BTreeSet};

use crate::ids::{ConsumerNumber, PartitionId};
use crate::pack::Assignment;

/// Who has what, and who may be used.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Fleet {
    /// Each partition's consumer: its owner, or while it changes hands the one that will be. A partition that nobody has and
    /// nobody is about to get is not in it.
    pub assignment: Assignment,
    /// Consumers that run, or were asked to, with partitions or without.
    pub running: BTreeSet<ConsumerNumber>,
    /// Consumers that partitions must leave.
    pub evacuate: BTreeSet<ConsumerNumber>,
    /// How many of those come back, as those that are updated do: they count for the minimum.
    pub returning: u32,
    /// Consumers that are lost, or whose numbers cannot be used: what they have goes elsewhere at once.
    pub unavailable: BTreeSet<ConsumerNumber>,
    /// Partitions that must be on a certain consumer.
    pub pins: BTreeMap<PartitionId, ConsumerNumber>,
    /// The last decision is still being carried out. Only the loss of a consumer is a reason to decide meanwhile.
    pub busy: bool,
}
