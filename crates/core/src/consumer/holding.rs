//! One partition in a consumer's hands, from Start to `StopConsumingEvent`.
//!
//! ```text
//! Acquiring ──acquired──► Reading ──batch──► Gathered ──lease──► Writing ──durable──► Reading
//!     │  └─sink behind, to be continued─► Writing (the gap) ──durable──► Reading
//!     ▲  └─failed─► Pausing                                    │ └──Stop──► Stopping ──answer──► (gone)
//!     └──time─────────┘ ▲──────────── write failed ────────────┘
//! ```

use crate::ids::{Epoch, Instant, Position};

/// What is being done for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    /// The sink was asked. Left by its answer.
    Acquiring,
    /// The sink is asked again at this moment. Left by time.
    Pausing(Instant),
    /// Records are fetched. Left by a gathered batch or a Stop.
    Reading,
    /// A batch waits until the lease allows to write it. Left by the lease's renewal or a Stop.
    Gathered,
    /// A batch is being written. Left by the sink's answer.
    Writing,
    /// The last batch is being written, or what was gathered of it; then the partition is given back. Left by the sink's answer.
    Stopping(crate::ledger::StopReason),
    /// It cannot go on without a person, and is held so that nobody else stumbles over the same. Left by a Stop.
    Stuck,
}

/// What a consumer does for a partition that it holds, for whoever looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Activity {
    /// It takes the sink over.
    Acquiring,
    /// It waits until it tries again what has failed.
    Pausing,
    /// It fetches records.
    Reading,
    /// It has a batch, and waits for a longer lease.
    Waiting,
    /// It writes a batch.
    Writing,
    /// It writes the last batch before it gives the partition back.
    Stopping,
    /// It waits for a person.
    Stuck,
}

/// A partition that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Holding {
    pub(super) epoch: Epoch,
    /// The position after the last record known to be durable.
    pub(super) next: Position,
    pub(super) doing: Doing,
    /// True once the sink was acquired under this epoch: then a Start is answered with `StartConsumingEvent`.
    pub(super) acquired: bool,
    /// The write under way records a gap: records are not read yet.
    pub(super) skipping: bool,
    /// Reading failed during a write, with what [`super::Input::ReadFailed`] says: looked at when that has ended.
    pub(super) unreadable: Option<super::io::ReadFailure>,
}

impl Holding {
    pub(super) fn new(epoch: Epoch, from: Position) -> Self {
        Self {
            epoch,
            next: from,
            doing: Doing::Acquiring,
            acquired: false,
            skipping: false,
            unreadable: None,
        }
    }

    pub(super) fn activity(&self) -> Activity {
        match self.doing {
            Doing::Acquiring => Activity::Acquiring,
            Doing::Pausing(_) => Activity::Pausing,
            Doing::Reading => Activity::Reading,
            Doing::Gathered => Activity::Waiting,
            Doing::Writing => Activity::Writing,
            Doing::Stopping(_) => Activity::Stopping,
            Doing::Stuck => Activity::Stuck,
        }
    }

    pub(super) fn is_writing(&self) -> bool {
        matches!(self.doing, Doing::Writing | Doing::Stopping(_))
    }
}
