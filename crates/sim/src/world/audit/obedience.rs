//! R3 and R9 at each consumer: it obeys exactly the commands that it must, and answers those that it must not.
//!
//! The promises alone would not show a consumer that obeys too much: the ledger, the lease and the sink stop it a second
//! time. This auditor looks at each command and at what the state machine did with it.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::consumer::{Consumer, Effect, Input, Phase};
use tidegate_core::ids::{Epoch, Generation, Incarnation, Instant, PartitionId, Term};
use tidegate_core::ledger::{Command, CommandBody, Record};

/// Looks of a process (ten a second) within which it answers: a write in flight takes half of them at most.
const ANSWER: u64 = 100;

/// What one consumer process was told.
#[derive(Debug, Default)]
pub(in super::super) struct Obedience {
    /// Terms and epochs are offsets in it.
    generation: Option<Generation>,
    term: Option<Term>,
    seen: BTreeMap<PartitionId, Epoch>,
    /// What it was told since its Hello was handed over, until that is acknowledged.
    early: Vec<Command>,
    /// Answers that are owed, and since which look.
    owed: BTreeMap<(PartitionId, Epoch), u64>,
}

/// What a command must make of a consumer: these partitions are taken up under this epoch, and no other.
#[derive(Debug, Default)]
pub(in super::super) struct Verdict {
    taken_up: Option<BTreeSet<(PartitionId, Epoch)>>,
    /// It must say what it holds.
    says_state: bool,
}

impl Obedience {
    /// An input is about to be taken in.
    pub(in super::super) fn expect(
        &mut self,
        consumer: &Consumer,
        now: Instant,
        look: u64,
        input: &Input,
    ) -> Verdict {
        let greets = matches!(consumer.phase(), Phase::Greeting(_));
        if !greets {
            self.early.clear();
        }
        let Input::Command(_, Some(command)) = input else { return Verdict::default() };
        if greets {
            self.early.push(command.clone());
            return Verdict { taken_up: Some(BTreeSet::new()), says_state: false };
        }
        self.enter(consumer.generation());
        let own = (consumer.generation(), consumer.incarnation(now));
        if own != (Some(command.generation), Some(command.incarnation)) {
            return Verdict { taken_up: Some(BTreeSet::new()), says_state: false };
        }
        let says_state = matches!(command.body, CommandBody::StateQuery { .. });
        Verdict { taken_up: Some(self.judge(consumer, look, command)), says_state }
    }

    /// Terms and epochs of another generation mean nothing.
    fn enter(&mut self, generation: Option<Generation>) {
        if self.generation != generation {
            let early = std::mem::take(&mut self.early);
            *self = Self { generation, early, ..Self::default() };
        }
    }

    /// A life has begun: what it was told meanwhile counts. Unless that has ended it at once: then nothing is left to look at.
    fn begin(&mut self, consumer: &Consumer, look: u64, own: Incarnation) -> Verdict {
        self.enter(consumer.generation());
        let early = std::mem::take(&mut self.early);
        if !matches!(consumer.phase(), Phase::Living(_)) {
            return Verdict::default();
        }
        let mut verdict = Verdict { taken_up: Some(BTreeSet::new()), says_state: false };
        for command in early {
            if (Some(command.generation), command.incarnation) == (self.generation, own) {
                let taken_up = self.judge(consumer, look, &command);
                verdict.taken_up.get_or_insert_default().extend(taken_up);
                verdict.says_state |= matches!(command.body, CommandBody::StateQuery { .. });
            }
        }
        verdict
    }

    fn judge(
        &mut self,
        consumer: &Consumer,
        look: u64,
        command: &Command,
    ) -> BTreeSet<(PartitionId, Epoch)> {
        let mut taken_up = BTreeSet::new();
        match &command.body {
            CommandBody::Start { term, epoch, partitions } => {
                let stale = self.hears(*term);
                let refused = stale || consumer.is_leaving();
                for (partition, _) in partitions.iter().filter(|_| !refused) {
                    if self.seen.get(partition).is_none_or(|seen| seen < epoch) {
                        self.seen.insert(*partition, *epoch);
                        taken_up.insert((*partition, *epoch));
                    } else if !holds(consumer, *partition, *epoch) {
                        self.owed.entry((*partition, *epoch)).or_insert(look);
                    }
                }
            }
            CommandBody::Stop { term, epoch, partitions, .. } => {
                self.hears(*term);
                for partition in partitions {
                    let seen = self.seen.entry(*partition).or_insert(*epoch);
                    *seen = (*epoch).max(*seen);
                    self.owed.entry((*partition, *epoch)).or_insert(look);
                }
            }
            CommandBody::StateQuery { term } => {
                self.hears(*term);
            }
            CommandBody::Drain { term } => {
                self.hears(*term);
                for (partition, epoch, _) in consumer.holdings() {
                    self.owed.entry((partition, epoch)).or_insert(look);
                }
            }
            CommandBody::Ended | CommandBody::Unknown { .. } => {}
        }
        taken_up
    }

    /// True when a later term has been heard.
    fn hears(&mut self, term: Term) -> bool {
        let stale = self.term.is_some_and(|heard| term < heard);
        self.term = self.term.max(Some(term));
        stale
    }

    /// What is wrong with what the consumer did.
    pub(in super::super) fn compare(
        &mut self,
        consumer: &Consumer,
        mut verdict: Verdict,
        look: u64,
        effects: &[Effect],
    ) -> Option<String> {
        for effect in effects {
            match effect {
                Effect::Append(_, entry) => self.answered(&entry.record),
                Effect::Began(incarnation) => {
                    self.owed.clear();
                    verdict = self.begin(consumer, look, *incarnation);
                }
                Effect::Lapsed(_) | Effect::Exit(_) => self.owed.clear(),
                _ => {}
            }
        }
        let acquired = |effect: &Effect| match effect {
            Effect::Acquire(partition, token) => Some((*partition, token.epoch)),
            _ => None,
        };
        let taken_up: BTreeSet<_> = effects.iter().filter_map(acquired).collect();
        let state = |effect: &Effect| match effect {
            Effect::Append(_, entry) => matches!(entry.record, Record::State { .. }),
            _ => false,
        };
        if verdict.says_state && !effects.iter().any(state) {
            return Some("does not say what it holds".into());
        }
        if let Some(must) = verdict.taken_up.as_ref().filter(|must| **must != taken_up) {
            return Some(format!("takes up {taken_up:?}, must take up {must:?}"));
        }
        let late = self.owed.iter().find(|(_, since)| look.saturating_sub(**since) > ANSWER);
        late.map(|((partition, epoch), _)| format!("does not answer for {partition} {epoch:?}"))
    }

    fn answered(&mut self, record: &Record) {
        if let Record::Stopped { partitions, .. } = record {
            for (partition, epoch, _) in partitions {
                self.owed.remove(&(*partition, *epoch));
            }
        }
    }
}

fn holds(consumer: &Consumer, partition: PartitionId, epoch: Epoch) -> bool {
    consumer.holdings().any(|(at, held, _)| (at, held) == (partition, epoch))
}
