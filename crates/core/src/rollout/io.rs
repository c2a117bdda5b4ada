//! What a rollout sees of the group, and what it wishes for.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::ids::{ConsumerNumber, Incarnation, Instant, PartitionId, Position};

/// Names what a consumer runs: image and configuration.
pub type Revision = String;

/// One consumer as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    /// What its worker was told to run.
    pub revision: Revision,
    /// That can be run again, so that it may be gone back to.
    pub is_known: bool,
    /// Its life in the ledger.
    pub incarnation: Option<Incarnation>,
    /// It can be given partitions, and its worker runs and says that it is ready.
    pub ready: bool,
    /// How often its worker was started, as far as anybody counts.
    pub starts: u32,
    /// Its worker has ended by itself and waits to be started again, for this reason.
    pub trouble: Option<String>,
}

/// A partition that a consumer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// The consumer's life now has said that it reads it.
    pub is_read: bool,
    /// The offset after the last durable record.
    pub next: Option<Position>,
    /// Records that are not durable, and when that was told.
    pub lag: Option<(u64, Instant)>,
}

/// The group as it is now.
pub struct View<'a> {
    /// Its consumers, those that are to go left out.
    pub members: &'a BTreeMap<ConsumerNumber, Member>,
    /// What a consumer has.
    pub held: &'a dyn Fn(ConsumerNumber) -> BTreeMap<PartitionId, Held>,
    /// Consumers that are to go, as an operator wishes.
    pub drained: &'a BTreeSet<ConsumerNumber>,
    /// Some partition's backlog is above its limit.
    pub is_behind: bool,
    /// Nothing is to be changed.
    pub paused: bool,
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("members", &self.members).finish_non_exhaustive()
    }
}

/// How long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Patience {
    /// For each phase of a step, before the revision is refused.
    pub step: Duration,
    /// With the canary, after it has its partitions again.
    pub canary: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Partitions are to leave this consumer.
    pub leave: Option<ConsumerNumber>,
    /// Its worker stays though it has nothing.
    pub hold: Option<ConsumerNumber>,
    /// Partitions that are to come back.
    pub pins: BTreeMap<PartitionId, ConsumerNumber>,
    /// A worker is to be updated now.
    pub update: Option<(ConsumerNumber, Revision)>,
    /// What has happened.
    pub notes: Vec<Note>,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// So many consumers are to be updated to this.
    Begun(Revision, usize),
    /// One runs it, and has its partitions again; it took this long.
    Updated(ConsumerNumber, Duration),
    /// It does not work, for this reason: those that have it are taken back.
    Refused(Revision, String),
    /// All consumers run this.
    Done(Revision),
}

/// Where a rollout is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Consumers that run what they should.
    pub updated: usize,
    /// All consumers.
    pub all: usize,
    /// Who is being updated, and how far that is.
    pub step: Option<(ConsumerNumber, &'static str)>,
    /// Why the wanted revision is not run.
    pub refused: Option<String>,
}
