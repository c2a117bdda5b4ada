//! The fold once more, written from its table without a look at the production one: what the auditors compare it with.

use std::collections::BTreeMap;

use tidegate_core::ids::{
    ConsumerNumber, Epoch, Generation, Incarnation, Offset, PartitionId, Position, ProcessId, Term,
};
use tidegate_core::ledger::{Entry, Evidence, Hello, Record, Seal};

/// An incarnation that was valid once.
#[derive(Debug)]
struct Life {
    incarnation: Incarnation,
    hello: Hello,
    beat: u64,
    ended: bool,
}

/// Owner and known position of a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) owner: Option<(Epoch, Incarnation)>,
    pub(super) next: Option<Position>,
    /// Its owner has said that it reads.
    pub(super) active: bool,
}

/// The state: everything that was ever valid is kept, nothing is summed up.
#[derive(Debug, Default)]
pub(super) struct Shadow {
    generation: Option<Generation>,
    reign: Option<(Term, u64)>,
    attempts: BTreeMap<ProcessId, u32>,
    lives: Vec<Life>,
    pub(super) held: BTreeMap<PartitionId, Held>,
}

impl Shadow {
    pub(super) fn apply(&mut self, at: Offset, entry: &Entry) {
        match (&entry.record, self.generation) {
            (Record::Genesis { .. }, None) => self.generation = Some(entry.generation),
            (Record::Genesis { .. }, Some(generation)) if entry.generation > generation => {
                *self = Self { generation: Some(entry.generation), ..Self::default() };
            }
            (_, Some(generation)) if generation == entry.generation => {
                self.record(at, &entry.record);
            }
            _ => {}
        }
    }

    fn record(&mut self, at: Offset, record: &Record) {
        match record {
            Record::Elect { process, attempt } => {
                if self.tries(*process, *attempt) {
                    self.reign = Some((Term(at), 0));
                }
            }
            Record::Tick { seal } | Record::Plan { seal, .. } => {
                self.reigns(*seal);
            }
            Record::Hello(hello) => self.hello(at, hello),
            Record::Heartbeat { incarnation, seq, .. } => {
                if let Some(life) = self.living(*incarnation) {
                    life.beat = life.beat.max(*seq);
                }
            }
            Record::Grant { seal, consumer, incarnation, partitions } => {
                if self.reigns(*seal) && self.current(*consumer) == Some(*incarnation) {
                    for (partition, from) in partitions {
                        let held = self.held.entry(*partition).or_default();
                        if held.owner.is_none() {
                            held.owner = Some((Epoch(at), *incarnation));
                            held.active = false;
                            held.next.get_or_insert(*from);
                        }
                    }
                }
            }
            Record::Progress { incarnation, partitions } => {
                for (partition, epoch, next) in partitions {
                    if let Some(held) = self.owned(*partition, *epoch, *incarnation) {
                        held.next = held.next.max(Some(*next));
                    }
                }
            }
            Record::Stopped { incarnation, partitions, .. } => {
                for (partition, epoch, next) in partitions {
                    if let Some(held) = self.owned(*partition, *epoch, *incarnation) {
                        let next = held.next.max(*next);
                        *held = Held { owner: None, next, active: false };
                    }
                }
            }
            Record::Fenced { seal, incarnation, beat, evidence } => {
                if self.reigns(*seal) {
                    let proven = *evidence == Evidence::Death;
                    if self.living(*incarnation).is_some_and(|life| proven || life.beat == *beat) {
                        self.end(*incarnation);
                    }
                }
            }
            Record::Goodbye { incarnation, .. } => self.end(*incarnation),
            Record::Started { incarnation, partitions } => {
                for (partition, epoch) in partitions {
                    if let Some(held) = self.owned(*partition, *epoch, *incarnation) {
                        held.active = true;
                    }
                }
            }
            Record::Genesis { .. }
            | Record::Reply { .. }
            | Record::State { .. }
            | Record::Snapshot { .. }
            | Record::Unknown { .. } => {}
        }
    }

    fn tries(&mut self, process: ProcessId, attempt: u32) -> bool {
        let highest = self.attempts.entry(process).or_default();
        let above = attempt > *highest;
        *highest = attempt.max(*highest);
        above
    }

    fn reigns(&mut self, seal: Seal) -> bool {
        let valid = self.reign.is_some_and(|(term, seq)| term == seal.term && seq < seal.seq);
        if valid {
            self.reign = Some((seal.term, seal.seq));
        }
        valid
    }

    fn hello(&mut self, at: Offset, hello: &Hello) {
        let late = self.lives.iter().any(|life| {
            life.hello.consumer == hello.consumer
                && life.hello.process != hello.process
                && life.incarnation.0 >= hello.seen
        });
        if late || !self.tries(hello.process, hello.attempt) {
            return;
        }
        let over = |life: &&Life| {
            let same_lock = life.hello.boot.is_some()
                && life.hello.directory.is_some()
                && (life.hello.boot, life.hello.directory) == (hello.boot, hello.directory);
            life.hello.consumer == hello.consumer
                && (life.hello.process == hello.process || same_lock)
        };
        let over: Vec<_> = self.lives.iter().filter(over).map(|life| life.incarnation).collect();
        for incarnation in over {
            self.end(incarnation);
        }
        let incarnation = Incarnation(at);
        self.lives.push(Life { incarnation, hello: hello.clone(), beat: 0, ended: false });
    }

    /// Those that have not ended, oldest first.
    pub(super) fn living_ones(&self) -> impl Iterator<Item = Incarnation> {
        self.lives.iter().filter(|life| !life.ended).map(|life| life.incarnation)
    }

    /// The same with their last heartbeats.
    pub(super) fn beats(&self) -> impl Iterator<Item = (Incarnation, u64)> {
        self.lives.iter().filter(|life| !life.ended).map(|life| (life.incarnation, life.beat))
    }

    pub(super) const fn reign(&self) -> Option<(Term, u64)> {
        self.reign
    }

    fn living(&mut self, incarnation: Incarnation) -> Option<&mut Life> {
        self.lives.iter_mut().find(|life| life.incarnation == incarnation && !life.ended)
    }

    /// The oldest that has not ended.
    fn current(&self, consumer: ConsumerNumber) -> Option<Incarnation> {
        let of_consumer = |life: &&Life| life.hello.consumer == consumer && !life.ended;
        self.lives.iter().find(of_consumer).map(|life| life.incarnation)
    }

    fn owned(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        incarnation: Incarnation,
    ) -> Option<&mut Held> {
        let held = self.held.get_mut(&partition)?;
        (held.owner == Some((epoch, incarnation))).then_some(held)
    }

    fn end(&mut self, incarnation: Incarnation) {
        if let Some(life) = self.living(incarnation) {
            life.ended = true;
        }
        for held in self.held.values_mut() {
            if held.owner.is_some_and(|(_, owner)| owner == incarnation) {
                (held.owner, held.active) = (None, false);
            }
        }
    }
}
