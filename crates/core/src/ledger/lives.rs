//! Which incarnations live, and which of a consumer's is the current one.
//!
//! The incumbent wins: of several living incarnations of one consumer number the oldest is current, the others wait.
//! An incarnation ends by its own Goodbye, by a fence, or by a Hello that carries evidence of its end.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::record::Hello;
use super::sizes::Sizes;
use crate::ids::{BootId, ConsumerNumber, DirectoryId, Incarnation, Offset, ProcessId};
use crate::mutants::{self, Mutant};

/// How many ended incarnations are remembered, so that one that still speaks can be told. An ended process speaks every
/// two seconds until it is told; 4096 ends in between would need a group of thousands that all restart at once.
const ENDED_REMEMBERED: usize = 4096;

/// A living incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Life {
    /// Its consumer number.
    pub consumer: ConsumerNumber,
    /// Its process.
    pub process: ProcessId,
    /// Boot of its machine.
    pub boot: Option<BootId>,
    /// Its state directory.
    pub directory: Option<DirectoryId>,
    /// Its last heartbeat's `seq`; 0 before the first.
    pub beat: u64,
}

/// The latest Hellos of one consumer number: the last one, and the last by any other process than that one's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LatestHellos {
    /// The last one, and whose it was.
    pub last: (Offset, ProcessId),
    /// The last one of another process.
    pub other: Option<Offset>,
}

impl LatestHellos {
    fn add(&mut self, at: Offset, process: ProcessId) {
        if self.last.1 != process {
            self.other = Some(self.last.0);
        }
        self.last = (at, process);
    }

    /// Offset of the last Hello of a process other than this one.
    fn of_another(&self, process: ProcessId) -> Option<Offset> {
        if self.last.1 == process { self.other } else { Some(self.last.0) }
    }
}

/// The incarnations of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Lives {
    living: BTreeMap<Incarnation, Life>,
    by_consumer: BTreeMap<ConsumerNumber, BTreeSet<Incarnation>>,
    hellos: BTreeMap<ConsumerNumber, LatestHellos>,
    ended: BTreeMap<Incarnation, ConsumerNumber>,
}

impl Lives {
    pub(super) fn of_facts(
        lives: Vec<(Incarnation, Life)>,
        ended: Vec<(Incarnation, ConsumerNumber)>,
        hellos: Vec<(ConsumerNumber, LatestHellos)>,
    ) -> Self {
        let mut by_consumer = BTreeMap::<_, BTreeSet<_>>::new();
        for (incarnation, life) in &lives {
            by_consumer.entry(life.consumer).or_default().insert(*incarnation);
        }
        Self {
            living: lives.into_iter().collect(),
            by_consumer,
            hellos: hellos.into_iter().collect(),
            ended: ended.into_iter().collect(),
        }
    }

    pub(super) fn ended(&self) -> impl Iterator<Item = (Incarnation, ConsumerNumber)> {
        self.ended.iter().map(|(incarnation, consumer)| (*incarnation, *consumer))
    }

    pub(super) fn hellos(&self) -> impl Iterator<Item = (ConsumerNumber, LatestHellos)> {
        self.hellos.iter().map(|(consumer, latest)| (*consumer, *latest))
    }

    /// The incarnation, if it has not ended.
    pub fn get(&self, incarnation: Incarnation) -> Option<&Life> {
        self.living.get(&incarnation)
    }

    /// All living incarnations, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (Incarnation, &Life)> {
        self.living.iter().map(|(incarnation, life)| (*incarnation, life))
    }

    /// The current incarnation of a consumer: the oldest that has not ended.
    pub fn current(&self, consumer: ConsumerNumber) -> Option<Incarnation> {
        self.by_consumer.get(&consumer)?.first().copied()
    }

    /// True when this is the current incarnation of its consumer.
    pub fn is_current(&self, incarnation: Incarnation) -> bool {
        self.get(incarnation).is_some_and(|life| self.current(life.consumer) == Some(incarnation))
    }

    /// The incarnations of a consumer that wait behind the current one.
    pub fn waiting(&self, consumer: ConsumerNumber) -> impl Iterator<Item = Incarnation> {
        self.by_consumer.get(&consumer).into_iter().flatten().skip(1).copied()
    }

    /// The consumer of an incarnation, also of one that has ended.
    pub fn consumer_of(&self, incarnation: Incarnation) -> Option<ConsumerNumber> {
        let living = self.living.get(&incarnation).map(|life| life.consumer);
        living.or_else(|| self.ended.get(&incarnation).copied())
    }

    pub(super) fn sizes(&self) -> Sizes {
        Sizes {
            living: self.living.len(),
            ended: self.ended.len(),
            numbers: self.hellos.len(),
            ..Sizes::default()
        }
    }

    /// True when a process of the same number has said Hello since this one looked: it may hold the lock by now, so
    /// this Hello is late and proves nothing.
    pub(super) fn is_late(&self, hello: &Hello) -> bool {
        let other =
            self.hellos.get(&hello.consumer).and_then(|latest| latest.of_another(hello.process));
        other.is_some_and(|at| at >= hello.seen) && !mutants::is_planted(Mutant::LateHello)
    }

    /// Takes a valid Hello up and returns the older incarnations that end by it.
    pub(super) fn join(&mut self, at: Offset, hello: &Hello) -> Vec<Incarnation> {
        let older = self.by_consumer.get(&hello.consumer).cloned().unwrap_or_default();
        let over = |incarnation: &Incarnation| {
            self.living.get(incarnation).is_some_and(|life| is_over(life, hello))
        };
        let ended: Vec<Incarnation> = older.into_iter().filter(over).collect();
        for incarnation in &ended {
            self.end(*incarnation);
        }
        let life = Life {
            consumer: hello.consumer,
            process: hello.process,
            boot: hello.boot,
            directory: hello.directory,
            beat: 0,
        };
        self.living.insert(Incarnation(at), life);
        self.by_consumer.entry(hello.consumer).or_default().insert(Incarnation(at));
        self.hellos
            .entry(hello.consumer)
            .and_modify(|latest| latest.add(at, hello.process))
            .or_insert(LatestHellos { last: (at, hello.process), other: None });
        ended
    }

    /// Notes a heartbeat; false when it is not above the last.
    pub(super) fn beat(&mut self, incarnation: Incarnation, seq: u64) -> bool {
        match self.living.get_mut(&incarnation) {
            Some(life) if seq > life.beat => {
                life.beat = seq;
                true
            }
            Some(_) | None => false,
        }
    }

    /// Ends an incarnation.
    pub(super) fn end(&mut self, incarnation: Incarnation) {
        let Some(life) = self.living.remove(&incarnation) else {
            return;
        };
        if let Some(of_consumer) = self.by_consumer.get_mut(&life.consumer) {
            of_consumer.remove(&incarnation);
            if of_consumer.is_empty() {
                self.by_consumer.remove(&life.consumer);
            }
        }
        self.remember_ended(incarnation, life.consumer);
    }

    /// Remembers one that lives no longer, or never did because its Hello was ignored, so that it can be told.
    pub(super) fn remember_ended(&mut self, incarnation: Incarnation, consumer: ConsumerNumber) {
        self.ended.insert(incarnation, consumer);
        if self.ended.len() > ENDED_REMEMBERED {
            self.ended.pop_first();
        }
    }
}

/// Evidence in a Hello that an older life of the same number is over: it is the same process, or it had the same state
/// directory in the same boot of the machine, whose lock only one process can hold.
fn is_over(life: &Life, hello: &Hello) -> bool {
    let same_lock = life.boot.is_some()
        && life.boot == hello.boot
        && life.directory.is_some()
        && life.directory == hello.directory;
    life.process == hello.process || same_lock || mutants::is_planted(Mutant::HelloWithoutEvidence)
}
