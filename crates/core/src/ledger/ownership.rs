//! Who owns one partition, and what a record may change about it.

use alloc::vec::Vec;

use crate::ids::{Epoch, Incarnation, PartitionId, Position};

/// Who owns a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ownership {
    /// Nobody. Left by a Grant.
    Free {
        /// Where the next owner begins; `None` before the first grant.
        next: Option<Position>,
    },
    /// An incarnation that has not yet said that it reads. Left by its events, its end, or a Stop that it answers.
    Granted {
        /// The grant.
        epoch: Epoch,
        /// The owner.
        incarnation: Incarnation,
        /// Where it begins.
        next: Position,
    },
    /// An incarnation that reads. Left by its `StopConsumingEvent` or its end.
    Active {
        /// The grant.
        epoch: Epoch,
        /// The owner.
        incarnation: Incarnation,
        /// What is durable.
        next: Position,
    },
}

impl Ownership {
    /// Epoch and owner, if there is one.
    pub fn owner(self) -> Option<(Epoch, Incarnation)> {
        match self {
            Self::Free { .. } => None,
            Self::Granted { epoch, incarnation, .. } | Self::Active { epoch, incarnation, .. } => {
                Some((epoch, incarnation))
            }
        }
    }

    /// The known position.
    pub fn next(self) -> Option<Position> {
        match self {
            Self::Free { next } => next,
            Self::Granted { next, .. } | Self::Active { next, .. } => Some(next),
        }
    }

    pub(super) fn is_owned(self, epoch: Epoch, incarnation: Incarnation) -> bool {
        self.owner() == Some((epoch, incarnation))
    }
}

/// What a record that took effect ended, for those who keep timers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Incarnations that are over.
    pub ended: Vec<Incarnation>,
    /// Partitions that are Free now, with the owner they had.
    pub freed: Vec<(PartitionId, Incarnation)>,
    /// Partitions that were Granted and are Active now.
    pub activated: Vec<PartitionId>,
}
