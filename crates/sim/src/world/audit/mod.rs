//! The auditors: after each event they look whether every promise is kept, with eyes that no process has.

mod claims;
mod ledger;
mod obedience;
mod patience;
mod positions;
mod records;
mod renewal;
mod sizes;
mod tenures;
mod wellness;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tidegate_core::ids::{
    ConsumerNumber, Epoch, FencingToken, Generation, Incarnation, Offset, PartitionId, Term,
};
use tidegate_core::ledger::Fold;

pub(super) use self::obedience::Obedience;
pub(super) use self::patience::Patience;
use self::renewal::Lineage;
pub(super) use self::renewal::Renewals;
use self::tenures::Tenures;
use super::World;
use super::controllers::group;
use super::process::ProcessKey;
use super::queue::Moment;
use super::shadow::Shadow;

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// P1: at each position of the ledger a partition has at most one valid owner: the fold says what its table says,
    /// and every reader's fold says the same.
    Ledger,
    /// P2: with a sink that compares, no offset is written twice; with any, none is left out.
    ExactlyOnce,
    /// Nothing that the ledger calls durable is missing in the sink.
    NothingLost,
    /// P3: no two processes believe at one moment that they hold a partition.
    OneClaim,
    /// C2, C3, C4: a lease lasts from before what was acknowledged last, who cannot hear cannot renew it, and no write
    /// begins that could outlast it.
    Lease,
    /// P4: each record of a controller takes effect at most once, in the order of its `seq`.
    InOrder,
    /// C5: nothing is written after it was said that it stopped.
    QuietAfterStop,
    /// L3: a known position never goes back.
    NeverBack,
    /// K5: no worker is removed while its consumer owns something or is to get it.
    WorkersStay,
    /// K3: a partition is taken from its owner only when the one that is to have it lives.
    OnlyToReady,
    /// K1, C1: nobody is told to read, or believes that it holds, what the ledger never granted it.
    NothingInvented,
    /// No living incarnation is told that it has ended.
    LifeRespected,
    /// C6: who says that it left in order has nothing left.
    CleanExit,
    /// P5: once nothing goes wrong any more, everything is well again in time.
    Recovery,
    /// P1 over time: a partition is Free between two owners, and each owner's epoch is above the last one's.
    Disjoint,
    /// One owner writes one batch after the other, each where the last one ended, and never the same epoch backwards.
    Order,
    /// Records that retention took are left out only after an alarm, and where somebody decided so.
    NothingSkipped,
    /// P2 with a sink that compares epochs: nothing of an epoch is taken once a higher one has acquired it.
    StaleOwner,
    /// R3, R9: a consumer obeys exactly the commands that it must, and answers those that it must not.
    Obedience,
    /// What the state machines keep stays below stated bounds.
    Bounded,
    /// R7: a controller stands for election only after silence of the present term.
    Patience,
    /// R14: when the ledger has lost records grants halt, consumers abandon all and say what they held, and a generation that
    /// is begun anew grants nothing before every older lease has lapsed.
    Renewal,
    /// Rates that have been constant for long are measured as they are.
    Measured,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// When.
    pub at: Moment,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}: {}", self.promise, self.at.since(Moment(0)), self.what)
    }
}

/// What the auditors remember.
#[derive(Debug)]
pub(super) struct Audit {
    /// The production fold over everything that was appended.
    pub(super) reference: Fold,
    shadow: Shadow,
    /// How far each partition is durable without a hole.
    pub(super) durable: BTreeMap<PartitionId, u64>,
    /// What processes have said that they stopped.
    pub(super) stopped: BTreeSet<(ProcessKey, PartitionId, FencingToken)>,
    /// Partitions between two owners: who had it, and whether that one stopped when told to.
    between: BTreeMap<PartitionId, (ConsumerNumber, bool)>,
    /// Controllers' records that took effect.
    effects: BTreeSet<(Term, u64)>,
    compared: BTreeMap<ProcessKey, Offset>,
    tenures: Tenures,
    /// What each process has begun to write last of a partition.
    begun: BTreeMap<(ProcessKey, PartitionId), (FencingToken, u64)>,
    /// The highest token that has acquired a partition in the sink.
    acquired: BTreeMap<PartitionId, FencingToken>,
    /// Where readers said that what they were to read next is gone.
    out_of_range: BTreeMap<PartitionId, BTreeSet<u64>>,
    /// Everything that was ever granted, whatever the ledger still knows of it.
    granted: BTreeSet<(Generation, PartitionId, Epoch, Incarnation)>,
    pub(super) lineage: Lineage,
    /// Partitions of which something was ever written.
    written: BTreeSet<PartitionId>,
    /// Partitions whose sink has lost records, and whether a reader has said so.
    pub(super) behind: BTreeMap<PartitionId, (u64, bool)>,
    /// When the last record of a controller took effect.
    reign_heard: Moment,
    pub(super) violation: Option<Violation>,
}

impl Audit {
    pub(super) fn new() -> Self {
        Self {
            reference: Fold::new(group()),
            shadow: Shadow::default(),
            durable: BTreeMap::new(),
            stopped: BTreeSet::new(),
            between: BTreeMap::new(),
            effects: BTreeSet::new(),
            compared: BTreeMap::new(),
            tenures: Tenures::default(),
            begun: BTreeMap::new(),
            acquired: BTreeMap::new(),
            out_of_range: BTreeMap::new(),
            granted: BTreeSet::new(),
            lineage: Lineage::default(),
            written: BTreeSet::new(),
            behind: BTreeMap::new(),
            reign_heard: Moment(0),
            violation: None,
        }
    }
}

impl Audit {
    /// True where the sink is known to have lost records: the partition stands still until somebody decides.
    pub(super) fn is_told_behind(&self, partition: PartitionId) -> bool {
        self.behind.get(&partition).is_some_and(|(_, told)| *told)
    }

    /// True while a reader's word stands that what it is to read next is gone.
    pub(super) fn is_out_of_range(&self, partition: PartitionId) -> bool {
        self.out_of_range.contains_key(&partition)
    }
}

impl World {
    /// The first broken promise counts: what comes after may follow from it.
    pub(super) fn violate(&mut self, promise: Promise, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, format_args!("audit"), format_args!("{promise:?} {what}"));
        if self.audit.violation.is_none() {
            let violation = Violation { promise, at: self.now, what: what.to_string() };
            self.audit.violation = Some(violation);
        }
    }
}
