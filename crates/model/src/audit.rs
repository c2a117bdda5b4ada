//! The auditor: it sees every record as it is appended, with the production fold before and after it, and judges by the
//! protocol's table whether that may be.
//!
//! It does not look at how the fold comes to its answer. What it keeps follows from the logs alone, so that it is no part
//! of what distinguishes states, except for what it has found.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use tidegate_core::consumer::Alarm;
use tidegate_core::ids::{ConsumerNumber, Epoch, Incarnation, Offset, PartitionId, ProcessId};
use tidegate_core::ledger::{
    Change, Entry, Evidence, Fold, Hello, Life, Ownership, Record, Seal, StopReason,
};

use crate::process::{Claim, Process};
use crate::settings::{self, BEGINNING, genesis};
use crate::sink::Sink;

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// At each position of the ledger a partition has at most one valid owner: ownership changes as the table says.
    P1,
    /// With a sink that fences no record is lost or doubled, and where it compares epochs no write of a lower one becomes
    /// visible after a higher one has acquired it.
    P2,
    /// No two processes believe at one moment, under live leases, that they own a partition.
    P3,
    /// A record of a controller takes effect at most once, in the order of its `seq`.
    P4,
    /// Once faults stop, every partition gets a live and current owner, where the plan wants it, and is drained.
    P5,
    /// Nobody holds, under a live lease, what the ledger never granted it under that epoch.
    K1,
}

impl Promise {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::P1, Self::P2, Self::P3, Self::P4, Self::P5, Self::K1];

    /// Its name as a property of the checker.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P1 => "P1 one owner by the table",
            Self::P2 => "P2 exactly once",
            Self::P3 => "P3 one live claim",
            Self::P4 => "P4 once and in order",
            Self::P5 => "P5 recovery",
            Self::K1 => "K1 nothing invented",
        }
    }
}

/// What must happen somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// A partition went from one consumer to another by Stop, `StopConsumingEvent`, Grant, Start.
    HandOff,
    /// An incarnation was ended for its silence.
    Fence,
    /// A controller's reign was ended by another one's.
    TakeOver,
    /// A Hello ended an older life by evidence.
    Proof,
    /// An incarnation waited behind another of its number.
    Waiting,
    /// A Grant was appended twice.
    GrantTwice,
    /// A partition was granted in another generation of the ledger than its first.
    Renewal,
    /// A controller began at a snapshot, because what was before it is deleted, and was elected.
    HeirOfSnapshot,
}

impl Reached {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::HandOff,
        Self::Fence,
        Self::TakeOver,
        Self::Proof,
        Self::Waiting,
        Self::GrantTwice,
        Self::Renewal,
        Self::HeirOfSnapshot,
    ];

    /// Its name as a property of the checker.
    pub const fn name(self) -> &'static str {
        match self {
            Self::HandOff => "hand-off",
            Self::Fence => "fence",
            Self::TakeOver => "take-over",
            Self::Proof => "Hello with proof",
            Self::Waiting => "waiting incarnation",
            Self::GrantTwice => "Grant twice",
            Self::Renewal => "new generation",
            Self::HeirOfSnapshot => "heir of a snapshot",
        }
    }
}

/// What the auditor keeps.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audit {
    known: Arc<Known>,
    /// The first broken promise, and what was seen.
    pub(crate) broken: Option<Arc<(Promise, String)>>,
}

#[derive(Clone, Debug)]
struct Known {
    fold: Fold,
    /// The last record of a controller that took effect.
    effect: Option<Seal>,
    /// Hellos that were valid.
    hellos: Vec<(Offset, ConsumerNumber, ProcessId)>,
    /// Everything that was ever granted, by records that the ledger has lost since among them.
    granted: BTreeSet<Claim>,
    /// Seals of all grants.
    grants: BTreeSet<Seal>,
    /// Partitions whose owner stopped when it was told to, and who that was.
    stopped: BTreeSet<(PartitionId, ConsumerNumber)>,
    reached: BTreeSet<Reached>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            fold: Fold::new(settings::group()),
            effect: None,
            hellos: Vec::new(),
            granted: BTreeSet::new(),
            grants: BTreeSet::new(),
            stopped: BTreeSet::new(),
            reached: BTreeSet::new(),
        }
    }
}

impl Audit {
    /// What the ledger says.
    pub(crate) fn fold(&self) -> &Fold {
        &self.known.fold
    }

    pub(crate) fn has_reached(&self, what: Reached) -> bool {
        self.known.reached.contains(&what)
    }

    pub(crate) fn is_broken(&self, promise: Promise) -> bool {
        self.broken.as_ref().is_some_and(|broken| broken.0 == promise)
    }

    /// Nothing of before counts as reached: what follows must reach it by itself.
    pub(crate) fn begin(&mut self) {
        Arc::make_mut(&mut self.known).reached.clear();
    }

    /// The first broken promise counts: what comes after may follow from it.
    pub(crate) fn violate(&mut self, promise: Promise, what: impl fmt::Display) {
        if self.broken.is_none() {
            self.broken = Some(Arc::new((promise, what.to_string())));
        }
    }

    /// The ledger has lost records: what is left of it, applied anew, is what it says.
    pub(crate) fn rebuild<'a>(&mut self, records: impl Iterator<Item = (u64, &'a Arc<Entry>)>) {
        let known = Arc::make_mut(&mut self.known);
        let past = std::mem::take(known);
        for (at, entry) in records {
            let before = known.fold.clone();
            let applied = known.fold.apply(Offset(at), entry);
            known.order(&before, entry, applied.is_ok());
            known.note(Offset(at), &entry.record, applied.ok().as_ref(), &before);
        }
        known.granted.extend(past.granted);
        known.reached = past.reached;
    }

    /// No fault of a model can bring a sink behind the ledger.
    pub(crate) fn raised(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::SinkBehind(..) => self.violate(Promise::P2, format_args!("{alarm:?}")),
            Alarm::SinkFailing(..) | Alarm::ReadFailing(..) | Alarm::OutOfRange(..) => {}
        }
    }

    /// A record was appended.
    pub(crate) fn record(&mut self, at: Offset, entry: &Entry, sink: &Sink) {
        let before = self.known.fold.clone();
        let known = Arc::make_mut(&mut self.known);
        let applied = known.fold.apply(at, entry);
        let late = known.is_late(&entry.record);
        let mut found = judge(&before, (at, entry), &known.fold, late);
        if let Some(lost) = lost(&known.fold, sink) {
            found.get_or_insert((Promise::P2, lost));
        }
        if let Some(unordered) = known.order(&before, entry, applied.is_ok()) {
            found.get_or_insert((Promise::P4, unordered));
        }
        known.note(at, &entry.record, applied.ok().as_ref(), &before);
        if let Some((promise, what)) = found {
            self.violate(promise, format_args!("{what} by {at:?} {:?}", entry.record));
        }
    }

    pub(crate) fn reach(&mut self, what: Reached) {
        if !self.has_reached(what) {
            Arc::make_mut(&mut self.known).reached.insert(what);
        }
    }

    /// P1: who has read all of the ledger knows the same as everybody, wherever it began.
    pub(crate) fn folds<'a>(&mut self, folds: impl Iterator<Item = &'a Fold>) {
        for fold in folds {
            let own = &self.known.fold;
            let same = fold.position() != own.position() || fold == own;
            if fold.generation().is_some() && !same {
                self.violate(Promise::P1, "somebody reads another state in the same ledger");
            }
        }
    }

    /// P3 and K1, over all processes at one moment.
    pub(crate) fn claims<'a>(
        &mut self,
        now: tidegate_core::ids::Instant,
        processes: impl Iterator<Item = &'a Process>,
        alone: bool,
    ) {
        let mut claimed = BTreeSet::new();
        for process in processes {
            for claim in process.claims(now) {
                let partition = claim.partition;
                if !claimed.insert(partition) && alone {
                    self.violate(Promise::P3, format_args!("two live claims to {partition}"));
                }
                if !self.known.granted.contains(&claim) {
                    self.violate(Promise::K1, format_args!("{claim:?} was never granted"));
                }
            }
        }
    }
}

/// P2: what the ledger calls durable is in the sink.
fn lost(fold: &Fold, sink: &Sink) -> Option<String> {
    let missing = |(partition, ownership): (PartitionId, Ownership)| {
        let (known, end) = (ownership.next()?.0, sink.end(partition));
        (known > end).then(|| format!("{partition} is called durable to {known} of {end}"))
    };
    fold.partitions().find_map(missing)
}

// === the table ===

type Found = Option<(Promise, String)>;

/// P1: whether ownership and lives may change by this record as they did.
fn judge(before: &Fold, (at, entry): (Offset, &Entry), after: &Fold, late: bool) -> Found {
    let record = &entry.record;
    for (incarnation, life) in before.lives().iter() {
        let over = after.lives().get(incarnation).is_none();
        if over && !may_end(before, entry, (incarnation, life), late) {
            return Some((Promise::P1, format!("{incarnation:?} was ended without evidence")));
        }
    }
    for (partition, now) in after.partitions() {
        let was = before.ownership(partition);
        let may = match (was.owner(), now.owner()) {
            (None, None) => true,
            (same, other) if same == other => true,
            (Some((epoch, owner)), None) => {
                after.lives().get(owner).is_none() || stops(record, (partition, epoch, owner))
            }
            (None, Some((epoch, owner))) => {
                epoch == Epoch(at) && grants(before, record, (partition, owner))
            }
            (_, Some(_)) => false,
        };
        if !may || now.next() < was.next() {
            return Some((Promise::P1, format!("{partition}: {was:?} became {now:?}")));
        }
    }
    None
}

fn is_sealed(before: &Fold, seal: Seal) -> bool {
    before.reign().is_some_and(|reign| reign.term == seal.term && reign.seq < seal.seq)
}

fn may_end(
    before: &Fold,
    entry: &Entry,
    (incarnation, life): (Incarnation, &Life),
    late: bool,
) -> bool {
    match &entry.record {
        Record::Genesis { .. } => Some(entry.generation) > before.generation(),
        Record::Goodbye { incarnation: speaker, .. } => *speaker == incarnation,
        Record::Fenced { seal, incarnation: fenced, beat, evidence } => {
            let silent = *evidence == Evidence::Death || *beat == life.beat;
            *fenced == incarnation && silent && is_sealed(before, *seal)
        }
        Record::Hello(hello) => !late && life.consumer == hello.consumer && proves(hello, life),
        _ => false,
    }
}

fn proves(hello: &Hello, life: &Life) -> bool {
    let same_lock = (hello.boot, hello.directory) == (life.boot, life.directory)
        && hello.boot.is_some()
        && hello.directory.is_some();
    hello.process == life.process || same_lock
}

fn stops(record: &Record, (partition, epoch, owner): (PartitionId, Epoch, Incarnation)) -> bool {
    match record {
        Record::Stopped { incarnation, partitions, .. } => {
            let named = partitions.iter().any(|(at, of, _)| (*at, *of) == (partition, epoch));
            *incarnation == owner && named
        }
        _ => false,
    }
}

fn grants(before: &Fold, record: &Record, (partition, owner): (PartitionId, Incarnation)) -> bool {
    let Record::Grant { seal, consumer, incarnation, partitions } = record else { return false };
    let mut lives = before.lives().iter();
    let oldest = lives.find(|(_, life)| life.consumer == *consumer).map(|(at, _)| at);
    let named = partitions.iter().any(|(at, _)| *at == partition);
    named && oldest == Some(owner) && *incarnation == owner && is_sealed(before, *seal)
}

// === what is known ===

impl Known {
    /// True for a Hello whose sender has not seen that another process of its number has said Hello.
    fn is_late(&self, record: &Record) -> bool {
        let Record::Hello(hello) = record else { return false };
        self.hellos.iter().any(|(at, consumer, process)| {
            *consumer == hello.consumer && *process != hello.process && *at >= hello.seen
        })
    }

    /// P4: tells what is wrong with the order of a record that took effect.
    fn order(&mut self, before: &Fold, entry: &Entry, applied: bool) -> Option<String> {
        let seal = entry.record.seal().filter(|_| applied)?;
        let reigns = before.reign().is_some_and(|reign| reign.term == seal.term);
        let rises = self.effect.is_none_or(|last| last < seal);
        let last = self.effect.replace(seal);
        (!reigns || !rises).then(|| format!("{seal:?} took effect after {last:?}"))
    }

    fn note(&mut self, at: Offset, record: &Record, change: Option<&Change>, before: &Fold) {
        let generation = self.fold.generation().unwrap_or_default();
        let owned = self.fold.partitions().filter_map(|(partition, ownership)| {
            let (epoch, incarnation) = ownership.owner()?;
            Some(Claim { generation, partition, epoch, incarnation })
        });
        self.granted.extend(owned);
        if let Record::Grant { seal, .. } = record
            && !self.grants.insert(*seal)
        {
            self.reached.insert(Reached::GrantTwice);
        }
        let Some(change) = change else { return };
        match record {
            // Nothing of the life before counts.
            Record::Genesis { .. } => {
                self.hellos.clear();
                self.stopped.clear();
            }
            Record::Grant { .. } if before.generation() > Some(genesis(BEGINNING)) => {
                self.reached.insert(Reached::Renewal);
            }
            Record::Hello(hello) => {
                self.hellos.push((at, hello.consumer, hello.process));
                if !change.ended.is_empty() {
                    self.reached.insert(Reached::Proof);
                } else if !self.fold.lives().is_current(Incarnation(at)) {
                    self.reached.insert(Reached::Waiting);
                }
            }
            Record::Fenced { evidence: Evidence::Silence, .. } => {
                self.reached.insert(Reached::Fence);
            }
            Record::Elect { process, .. }
                if before.reign().is_some_and(|reign| reign.process != *process) =>
            {
                self.reached.insert(Reached::TakeOver);
            }
            _ => {}
        }
        self.note_hand_off(record, change);
    }

    fn note_hand_off(&mut self, record: &Record, change: &Change) {
        let told = matches!(record, Record::Stopped { reason: StopReason::Command, .. });
        for (partition, owner) in &change.freed {
            self.stopped.retain(|(at, _)| at != partition);
            let from = self.fold.lives().consumer_of(*owner).filter(|_| told);
            self.stopped.extend(from.map(|from| (*partition, from)));
        }
        for partition in &change.activated {
            let to = self.fold.consumer_of(*partition);
            let moved = self.stopped.iter().any(|(at, from)| at == partition && Some(*from) != to);
            if moved {
                self.reached.insert(Reached::HandOff);
            }
            self.stopped.retain(|(at, _)| at != partition);
        }
    }
}
