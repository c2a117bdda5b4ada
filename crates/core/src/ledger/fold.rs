//! The fold: what the records of the ledger, applied one after the other, mean.
//!
//! [`Fold::apply`] is the table of the protocol, one arm a record. It never fails: a record that is not valid where it
//! stands changes nothing and the reason is returned.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::attempts::Attempts;
use super::lives::Lives;
use super::ownership::{Change, Ownership};
use super::record::{Entry, Evidence, Hello, PlanBody, Record, Seal};
use super::sizes::Sizes;
use crate::ids::{
    ConsumerNumber, Epoch, Generation, GroupName, Incarnation, Offset, PartitionId, Position,
    ProcessId, Term,
};
use crate::mutants::{self, Mutant};

/// A controller's reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reign {
    /// Its term.
    pub term: Term,
    /// The process.
    pub process: ProcessId,
    /// Which of its tries.
    pub attempt: u32,
    /// Its last record.
    pub seq: u64,
}

/// The last plan.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AdoptedPlan {
    /// Where it stands in the ledger: its id.
    pub at: Offset,
    /// What it says.
    pub body: PlanBody,
}

/// Why a record changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ignored {
    /// Its offset was applied before.
    Replayed,
    /// Nothing counts before Genesis.
    NoGenesis,
    /// A second Genesis, not of a higher generation.
    AlreadyBegun,
    /// The ledger is another group's. Nothing may run on it.
    ForeignGroup,
    /// It was written for another life of the ledger.
    OtherGeneration,
    /// The process has tried with this number or a higher one before.
    StaleAttempt,
    /// Another process of the same number has said Hello since the sender looked.
    LateHello,
    /// Its term is not the current one.
    StaleTerm,
    /// Its `seq` is not above the last.
    StaleSeq,
    /// Its incarnation has ended or never was.
    NotLiving,
    /// Its incarnation waits behind another of the same consumer, or is another consumer's.
    NotCurrent,
    /// Nothing in it concerned a partition that it could concern.
    NothingApplied,
    /// The incarnation has shown a sign of life since.
    HasBeaten,
    /// It has no effect by its kind.
    NoEffect,
    /// Its kind is not known to this version.
    UnknownKind,
}

/// The state of the ledger at a position.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fold {
    group: GroupName,
    pub(super) generation: Option<Generation>,
    pub(super) position: Offset,
    pub(super) reign: Option<Reign>,
    pub(super) plan: Option<AdoptedPlan>,
    pub(super) attempts: Attempts,
    pub(super) lives: Lives,
    pub(super) partitions: BTreeMap<PartitionId, Ownership>,
}

impl Fold {
    /// The state before the first record of the ledger of this group.
    pub fn new(group: GroupName) -> Self {
        Self {
            group,
            generation: None,
            position: Offset(0),
            reign: None,
            plan: None,
            attempts: Attempts::default(),
            lives: Lives::default(),
            partitions: BTreeMap::new(),
        }
    }

    /// The group whose ledger this is.
    pub fn group(&self) -> &GroupName {
        &self.group
    }

    /// The ledger's generation, once its Genesis was read.
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Offset of the next record to apply.
    pub fn position(&self) -> Offset {
        self.position
    }

    /// Who reigns.
    pub fn reign(&self) -> Option<Reign> {
        self.reign
    }

    /// The last plan.
    pub fn plan(&self) -> Option<&AdoptedPlan> {
        self.plan.as_ref()
    }

    /// The incarnations.
    pub fn lives(&self) -> &Lives {
        &self.lives
    }

    /// Who owns this partition; Free without a position when the ledger has never heard of it.
    pub fn ownership(&self, partition: PartitionId) -> Ownership {
        self.partitions.get(&partition).copied().unwrap_or(Ownership::Free { next: None })
    }

    /// How much it keeps.
    pub fn sizes(&self) -> Sizes {
        let (attempts, partitions) = (self.attempts.len(), self.partitions.len());
        Sizes { attempts, partitions, ..self.lives.sizes() }
    }

    /// Every partition the ledger has heard of.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, Ownership)> {
        self.partitions.iter().map(|(partition, ownership)| (*partition, *ownership))
    }

    /// The partitions that have an owner, with its consumer number.
    pub fn owners(&self) -> impl Iterator<Item = (PartitionId, ConsumerNumber)> {
        self.partitions.iter().filter_map(|(partition, ownership)| {
            let (_, incarnation) = ownership.owner()?;
            Some((*partition, self.lives.consumer_of(incarnation)?))
        })
    }

    /// Owner of a partition by consumer number.
    pub fn consumer_of(&self, partition: PartitionId) -> Option<ConsumerNumber> {
        let (_, incarnation) = self.ownership(partition).owner()?;
        self.lives.consumer_of(incarnation)
    }

    /// Applies the record at an offset. Offsets must rise; gaps are legal.
    ///
    /// ```
    /// use tidegate_core::ids::{Generation, GroupName, Offset};
    /// use tidegate_core::ledger::{Entry, Fold, Ignored, Record};
    /// let group = GroupName("orders".into());
    /// let genesis = Entry { generation: Generation(1), record: Record::Genesis { group: group.clone(), first: true } };
    /// let mut fold = Fold::new(group);
    /// assert!(fold.apply(Offset(0), &genesis).is_ok());
    /// assert_eq!(fold.apply(Offset(1), &genesis), Err(Ignored::AlreadyBegun));
    /// ```
    pub fn apply(&mut self, at: Offset, entry: &Entry) -> Result<Change, Ignored> {
        if at < self.position {
            return Err(Ignored::Replayed);
        }
        self.position = at.next();
        let mut change = Change::default();
        match self.generation {
            None => return self.begin(entry),
            Some(_) if self.is_renewed_by(entry) => {
                self.renew(entry.generation, &mut change);
                return Ok(change);
            }
            Some(generation) if generation != entry.generation => {
                return Err(Ignored::OtherGeneration);
            }
            Some(_) => {}
        }
        self.apply_record(at, &entry.record, &mut change)?;
        debug_assert!(self.owners_live(), "L4: an owner must be a living incarnation");
        Ok(change)
    }

    /// Passes over an offset whose record cannot be read.
    pub fn skip(&mut self, at: Offset) {
        self.position = self.position.max(at.next());
    }

    fn begin(&mut self, entry: &Entry) -> Result<Change, Ignored> {
        match &entry.record {
            Record::Genesis { .. } if !self.is_genesis(entry) => Err(Ignored::ForeignGroup),
            Record::Genesis { .. } => {
                self.generation = Some(entry.generation);
                Ok(Change::default())
            }
            _ => Err(Ignored::NoGenesis),
        }
    }

    /// True for a record that ends the present life of the ledger and begins another.
    pub(crate) fn is_renewed_by(&self, entry: &Entry) -> bool {
        self.generation.is_some_and(|present| present < entry.generation) && self.is_genesis(entry)
    }

    fn is_genesis(&self, entry: &Entry) -> bool {
        matches!(&entry.record, Record::Genesis { group, .. } if *group == self.group)
    }

    /// A new life of the ledger, begun by who saw that it had lost records. Nothing of the old one counts, so that whoever
    /// begins to read here knows the same as whoever has read everything.
    fn renew(&mut self, generation: Generation, change: &mut Change) {
        let living: Vec<_> = self.lives.iter().map(|(incarnation, _)| incarnation).collect();
        for incarnation in living {
            self.end(incarnation, change);
        }
        let position = self.position;
        *self = Self { generation: Some(generation), position, ..Self::new(self.group.clone()) };
    }

    fn apply_record(
        &mut self,
        at: Offset,
        record: &Record,
        change: &mut Change,
    ) -> Result<(), Ignored> {
        match record {
            Record::Genesis { .. } => Err(Ignored::AlreadyBegun),
            Record::Elect { process, attempt } => self.elect(at, *process, *attempt),
            Record::Tick { seal } => self.sealed(*seal),
            Record::Plan { seal, plan } => {
                self.sealed(*seal)?;
                self.plan = Some(AdoptedPlan { at, body: plan.clone() });
                Ok(())
            }
            Record::Hello(hello) => self.hello(at, hello, change),
            Record::Heartbeat { incarnation, seq, .. } => {
                self.living(*incarnation)?;
                if self.lives.beat(*incarnation, *seq) { Ok(()) } else { Err(Ignored::StaleSeq) }
            }
            Record::Grant { seal, consumer, incarnation, partitions } => {
                self.grant(at, *seal, (*consumer, *incarnation), partitions)
            }
            Record::Started { incarnation, partitions } => {
                self.started(*incarnation, partitions, change)
            }
            Record::Progress { incarnation, partitions } => self.progress(*incarnation, partitions),
            Record::Stopped { incarnation, partitions, .. } => {
                self.stopped(*incarnation, partitions, change)
            }
            Record::Fenced { seal, incarnation, beat, evidence } => {
                self.fenced(*seal, *incarnation, *beat, *evidence)?;
                self.end(*incarnation, change);
                Ok(())
            }
            Record::Goodbye { incarnation, .. } => {
                self.living(*incarnation)?;
                self.end(*incarnation, change);
                Ok(())
            }
            Record::Reply { .. } | Record::State { .. } | Record::Snapshot { .. } => {
                Err(Ignored::NoEffect)
            }
            Record::Unknown { .. } => Err(Ignored::UnknownKind),
        }
    }

    /// A try of a process counts only above its highest.
    fn attempt(&mut self, at: Offset, process: ProcessId, attempt: u32) -> Result<(), Ignored> {
        if self.attempts.take(process, attempt, at) { Ok(()) } else { Err(Ignored::StaleAttempt) }
    }

    fn elect(&mut self, at: Offset, process: ProcessId, attempt: u32) -> Result<(), Ignored> {
        self.attempt(at, process, attempt)?;
        self.reign = Some(Reign { term: Term(at), process, attempt, seq: 0 });
        Ok(())
    }

    /// L2: takes a controller's record up only in its reign and above the last.
    fn sealed(&mut self, seal: Seal) -> Result<(), Ignored> {
        match &mut self.reign {
            Some(reign) if reign.term == seal.term => {
                if seal.seq <= reign.seq && !mutants::is_planted(Mutant::NoSeq) {
                    return Err(Ignored::StaleSeq);
                }
                reign.seq = seal.seq;
                Ok(())
            }
            Some(_) | None => Err(Ignored::StaleTerm),
        }
    }

    fn living(&self, incarnation: Incarnation) -> Result<(), Ignored> {
        self.lives.get(incarnation).map(|_| ()).ok_or(Ignored::NotLiving)
    }

    fn hello(&mut self, at: Offset, hello: &Hello, change: &mut Change) -> Result<(), Ignored> {
        if let Err(reason) = self.greet(at, hello) {
            self.lives.remember_ended(Incarnation(at), hello.consumer);
            return Err(reason);
        }
        for ended in self.lives.join(at, hello) {
            self.free_all(ended, change);
        }
        Ok(())
    }

    fn greet(&mut self, at: Offset, hello: &Hello) -> Result<(), Ignored> {
        if self.lives.is_late(hello) {
            return Err(Ignored::LateHello);
        }
        self.attempt(at, hello.process, hello.attempt)
    }

    /// L1: only what is Free is granted, and only to a current incarnation; partitions that are not Free are passed
    /// over one by one.
    fn grant(
        &mut self,
        at: Offset,
        seal: Seal,
        (consumer, incarnation): (ConsumerNumber, Incarnation),
        partitions: &[(PartitionId, Position)],
    ) -> Result<(), Ignored> {
        self.sealed(seal)?;
        if self.lives.current(consumer) != Some(incarnation) {
            return Err(Ignored::NotCurrent);
        }
        let mut applied = false;
        for (partition, from) in partitions {
            let ownership =
                self.partitions.entry(*partition).or_insert(Ownership::Free { next: None });
            let is_free = ownership.owner().is_none();
            if is_free || mutants::is_planted(Mutant::GrantWhatIsOwned) {
                let next = ownership.next().unwrap_or(*from);
                *ownership = Ownership::Granted { epoch: Epoch(at), incarnation, next };
                applied = true;
            }
        }
        something(applied)
    }

    /// Changes those of the partitions that the speaker owns under the epoch it names.
    fn change_owned<T>(
        &mut self,
        incarnation: Incarnation,
        partitions: impl Iterator<Item = (PartitionId, Epoch, T)>,
        change: impl Fn(Ownership, Epoch, T) -> Option<Ownership>,
    ) -> Result<(), Ignored> {
        self.living(incarnation)?;
        let mut applied = false;
        for (partition, epoch, detail) in partitions {
            let Some(ownership) = self.partitions.get_mut(&partition) else {
                continue;
            };
            if !ownership.is_owned(epoch, incarnation) {
                continue;
            }
            if let Some(changed) = change(*ownership, epoch, detail) {
                debug_assert!(changed.next() >= ownership.next(), "L3: a position never goes back");
                *ownership = changed;
                applied = true;
            }
        }
        something(applied)
    }

    fn started(
        &mut self,
        incarnation: Incarnation,
        partitions: &[(PartitionId, Epoch)],
        change: &mut Change,
    ) -> Result<(), Ignored> {
        let granted = |(partition, epoch): &&(PartitionId, Epoch)| {
            let ownership = self.ownership(*partition);
            matches!(ownership, Ownership::Granted { .. })
                && ownership.is_owned(*epoch, incarnation)
        };
        change.activated = partitions.iter().filter(granted).map(|(at, _)| *at).collect();
        let owned = partitions.iter().map(|(partition, epoch)| (*partition, *epoch, ()));
        self.change_owned(incarnation, owned, |ownership, epoch, ()| {
            ownership.next().map(|next| Ownership::Active { epoch, incarnation, next })
        })
    }

    fn progress(
        &mut self,
        incarnation: Incarnation,
        partitions: &[(PartitionId, Epoch, Position)],
    ) -> Result<(), Ignored> {
        self.change_owned(incarnation, partitions.iter().copied(), |ownership, _, next| {
            match ownership {
                Ownership::Granted { epoch, incarnation, next: known } if next >= known => {
                    Some(Ownership::Granted { epoch, incarnation, next })
                }
                Ownership::Active { epoch, incarnation, next: known } if next >= known => {
                    Some(Ownership::Active { epoch, incarnation, next })
                }
                Ownership::Free { .. } | Ownership::Granted { .. } | Ownership::Active { .. } => {
                    None
                }
            }
        })
    }

    fn stopped(
        &mut self,
        incarnation: Incarnation,
        partitions: &[(PartitionId, Epoch, Option<Position>)],
        change: &mut Change,
    ) -> Result<(), Ignored> {
        let owned = |(partition, epoch, _): &&(PartitionId, Epoch, Option<Position>)| {
            self.ownership(*partition).is_owned(*epoch, incarnation)
        };
        change.freed = partitions.iter().filter(owned).map(|(at, ..)| (*at, incarnation)).collect();
        self.change_owned(incarnation, partitions.iter().copied(), |ownership, _, next| {
            Some(Ownership::Free { next: next.max(ownership.next()) })
        })
    }

    /// Checks a fence.
    fn fenced(
        &mut self,
        seal: Seal,
        incarnation: Incarnation,
        beat: u64,
        evidence: Evidence,
    ) -> Result<(), Ignored> {
        self.sealed(seal)?;
        let life = self.lives.get(incarnation).ok_or(Ignored::NotLiving)?;
        let has_beaten = life.beat != beat && !mutants::is_planted(Mutant::FenceWithoutBeat);
        if evidence == Evidence::Silence && has_beaten {
            return Err(Ignored::HasBeaten);
        }
        Ok(())
    }

    fn end(&mut self, incarnation: Incarnation, change: &mut Change) {
        self.lives.end(incarnation);
        self.free_all(incarnation, change);
    }

    fn free_all(&mut self, incarnation: Incarnation, change: &mut Change) {
        change.ended.push(incarnation);
        for (partition, ownership) in &mut self.partitions {
            if ownership.owner().is_some_and(|(_, owner)| owner == incarnation) {
                *ownership = Ownership::Free { next: ownership.next() };
                change.freed.push((*partition, incarnation));
            }
        }
    }

    pub(super) fn owners_live(&self) -> bool {
        let owners: Vec<Incarnation> = self
            .partitions
            .values()
            .filter_map(|ownership| ownership.owner())
            .map(|(_, owner)| owner)
            .collect();
        owners.into_iter().all(|owner| self.lives.is_current(owner))
    }
}

fn something(applied: bool) -> Result<(), Ignored> {
    if applied { Ok(()) } else { Err(Ignored::NothingApplied) }
}
