//! The ledger loses records: its tail, all of it, what came after a backup, or its beginning before a reader is there.
//!
//! ```text
//!  Truncation   0 ──────────── n │xxxx        the leader that was elected did not have the tail
//!  Remake       (empty, another topic)        by hand, or by `tidegate ledger reset`, which begins a generation
//!  Restore      s ──── backup │xxxxxxxxxxx    what a backup had, also what was trimmed since
//!  Overtaking   xxxxxxxx │ n ──────────       deleted below n, whoever has still to read it
//! ```
//!
//! A reader that has read what is gone is told so when it fetches next, as Kafka's leader epochs and topic ids make sure;
//! one that has not goes on as if nothing were. Offsets are given again to other records.

use std::time::Duration;

use tidegate_core::consumer::Input as ConsumerInput;
use tidegate_core::controller::Input as ControllerInput;
use tidegate_core::ids::{Generation, Offset};
use tidegate_core::ledger::{Entry, Record};

use super::broker::{Broker, Log, Payload, Request, index, offset};
use super::controllers::group;
use super::process::{Input, Link, Process, ProcessKey, Role};
use super::scenario::GENESIS;
use super::{Event, Mutant, World};
use crate::rng::Rng;

/// Pause of a controller before it opens a log again that it could not read on.
const REOPEN: Duration = Duration::from_secs(1);

/// How long a log has no leader when its tail is cut or its topic is made again.
const LEADERLESS: Duration = Duration::from_secs(3);

/// How long a reader is behind when it is overtaken.
const BEHIND: Duration = Duration::from_secs(8);

/// Records that a new leader mostly lacks: what was written while it had fallen behind.
const TAIL: u64 = 20;

/// How the ledger can lose records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LedgerLoss {
    /// An election of a leader that did not have everything: offsets are given again.
    Truncation,
    /// The topic is deleted and made again.
    Remake,
    /// The topic is as it was when a backup was taken.
    Restore,
    /// What is deleted has not been read by everybody: a reader that falls behind or just begins.
    Overtaking,
}

impl LedgerLoss {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Truncation, Self::Remake, Self::Restore, Self::Overtaking];

    /// How often each strikes beside the other faults. Half of the worlds keep what was written: after a loss there is
    /// nothing for 20 s that other faults could hit.
    pub(super) fn likelihoods(losses: &[Self], rng: &mut Rng) -> Vec<(Self, u64)> {
        let loses = rng.chance(500);
        let of = |loss: &Self| match loss {
            Self::Overtaking => (*loss, rng.below(4)),
            _ => (*loss, if loses { rng.below(3) } else { 0 }),
        };
        losses.iter().map(of).collect()
    }
}

impl World {
    /// The ledger loses records.
    pub(super) fn lose(&mut self, loss: LedgerLoss) {
        match loss {
            LedgerLoss::Truncation => self.truncate(),
            LedgerLoss::Remake => self.remake(),
            LedgerLoss::Restore => self.restore(),
            LedgerLoss::Overtaking => self.overtake(),
        }
    }

    /// The tail of the ledger, or of a command partition, is gone.
    fn truncate(&mut self) {
        let consumers: Vec<_> = self.broker.commands.keys().copied().collect();
        let consumer = self.rng.pick(&consumers).copied().filter(|_| self.rng.chance(250));
        let log = consumer.map_or(Log::Ledger, Log::Commands);
        let (start, end) = self.broker.bounds(log);
        let length = end.0.saturating_sub(start.0);
        let most = if self.rng.chance(700) { TAIL.min(length) } else { length };
        let cut = Offset(end.0 - self.rng.below(most + 1));
        self.trace.note(
            self.now,
            format_args!("world"),
            format_args!("{log:?} is cut at {cut:?} of {end:?}"),
        );
        match log {
            Log::Commands(consumer) => {
                self.broker.commands.entry(consumer).or_default().truncate(index(cut));
            }
            _ => self.broker.ledger.truncate(index(cut)),
        }
        self.await_leader(log);
        self.cut(log, cut);
    }

    /// The topic is deleted and made again, sometimes by a person who begins a generation in it.
    fn remake(&mut self) {
        self.broker.ledger.clear();
        self.broker.ledger_start = Offset(0);
        let mut logs = vec![Log::Ledger];
        if !self.ledger_apart {
            logs.extend(self.broker.commands.keys().copied().map(Log::Commands));
            self.broker.commands.clear();
            self.broker.command_starts.clear();
        }
        let reset = self.rng.chance(500);
        let what = format_args!("{logs:?} are made again, by reset: {reset}");
        self.trace.note(self.now, format_args!("world"), what);
        self.await_leader(Log::Ledger);
        for log in logs {
            self.part(log, |_| true);
        }
        self.audit_cut(Offset(0));
        if reset {
            let record = Record::Genesis { group: group(), first: false };
            let payload = Payload::Ledger(Entry { generation: self.unix_time(), record });
            self.arrive(Request { payload, answer: None });
        }
    }

    /// A backup is taken; or the logs are made what they were when the last one was.
    fn restore(&mut self) {
        let Some(backup) = self.backup.take().filter(|_| self.rng.chance(700)) else {
            self.backup = Some(Box::new(self.broker.clone()));
            return;
        };
        let before = std::mem::replace(&mut self.broker, (*backup).clone());
        self.broker.leaderless.clone_from(&before.leaderless);
        self.backup = Some(backup);
        let left = common(&before.ledger, &self.broker.ledger);
        self.trace.note(
            self.now,
            format_args!("world"),
            format_args!("restored, {left:?} of {} are left", before.ledger.len()),
        );
        self.await_leader(Log::Ledger);
        if self.scenario.mutant == Some(Mutant::RestoreBlindReader) {
            self.audit_cut(left);
        } else {
            self.cut(Log::Ledger, left);
        }
        for (consumer, commands) in &before.commands {
            let restored = self.broker.commands.get(consumer).map_or(&[][..], Vec::as_slice);
            let left = common(commands, restored);
            self.part(Log::Commands(*consumer), |read| read > left);
        }
    }

    /// A reader falls behind, or a process is to start, and meanwhile records are deleted.
    fn overtake(&mut self) {
        let ends = self.storm_ends();
        let behind = self.now.after(self.rng.between(Duration::ZERO, BEHIND));
        if let Some(key) = self.rng.pick(&self.controllers()).copied() {
            if self.rng.chance(300) {
                self.exited(key, false);
            } else if let Some(process) = self.processes.get_mut(&key) {
                process.deaf_until = behind.min(ends).max(process.deaf_until);
            }
        }
        let deleted = self.now.after(self.rng.between(Duration::ZERO, BEHIND)).min(ends);
        self.queue.schedule(deleted, Event::Delete);
    }

    /// Records are deleted below the last snapshot, or anywhere, without a look at who has still to read them. What nobody
    /// has read stays: no retention is so short, and a generation whose Genesis nobody ever met cannot be known.
    pub(super) fn delete(&mut self) {
        let (start, end) = self.broker.bounds(Log::Ledger);
        let snapshot = self.broker.ledger.iter().rev().find_map(|entry| match &entry.record {
            Record::Snapshot { upto, .. } => Some(*upto),
            _ => None,
        });
        let anywhere = Offset(start.0 + self.rng.below(end.0.saturating_sub(start.0) + 1));
        let below = snapshot.filter(|upto| *upto < end && self.rng.chance(700)).unwrap_or(anywhere);
        let sound =
            |process: &&Process| process.controller().is_some() && process.link == Link::Sound;
        let furthest = self.processes.values().filter(sound).map(|process| process.read).max();
        let below = below.min(furthest.unwrap_or_default());
        self.trace.note(
            self.now,
            format_args!("world"),
            format_args!("the ledger is deleted below {below:?}"),
        );
        self.trim(None, below);
    }

    /// The log's leader is gone, and the new one is not there at once.
    fn await_leader(&mut self, log: Log) {
        let until = self.now.after(self.rng.between(Duration::ZERO, LEADERLESS));
        self.broker.leaderless.insert(log, until.min(self.storm_ends()));
    }

    fn cut(&mut self, log: Log, upto: Offset) {
        self.part(log, |read| read > upto);
        if log == Log::Ledger {
            self.audit_cut(upto);
        }
    }

    /// Readers of a log that have read what is not there any more find it out when they fetch next.
    fn part(&mut self, log: Log, has_read: impl Fn(Offset) -> bool) {
        let reads = |process: &Process| process.log() == log && has_read(process.read);
        let parted: Vec<_> = self
            .processes
            .iter_mut()
            .filter(|(_, process)| reads(process) && process.link == Link::Sound)
            .map(|(key, process)| {
                process.link = Link::Cut;
                (*key, process.polls)
            })
            .collect();
        for (key, _) in parted.into_iter().filter(|(_, polls)| !polls) {
            self.schedule_poll(key);
        }
    }

    /// A process learns that what it has read is gone.
    pub(super) fn notice_loss(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        match &mut process.role {
            Role::Consumer(shell) => {
                shell.listening = false;
                process.link = Link::Sound;
                if self.scenario.mutant != Some(Mutant::UnheardLoss) {
                    self.give(key, Input::Consumer(ConsumerInput::CommandsLost));
                }
            }
            Role::Controller(_) => {
                process.link = Link::Reopening;
                process.polls = true;
                self.stats.losses_noticed += 1;
                self.give(key, Input::Controller(ControllerInput::LedgerLost));
                self.queue.schedule(self.now.after(REOPEN), Event::Reopen(key));
            }
        }
    }

    /// A controller opens the ledger again that it could not read on.
    pub(super) fn reopen(&mut self, key: ProcessKey) {
        let deaf_until = self.processes.get(&key).map(|process| process.deaf_until);
        let until = self.unreachable_until(Log::Ledger).unwrap_or_default();
        let until = until.max(deaf_until.unwrap_or_default());
        if self.now < until {
            self.queue.schedule(until, Event::Reopen(key));
        } else {
            self.open_ledger(key);
        }
    }

    /// The generation that a ledger has which is begun now.
    pub(super) fn unix_time(&self) -> Generation {
        Generation(GENESIS.0 + self.now.0 / 1_000_000)
    }
}

/// How many first records two logs have in common.
fn common<T: PartialEq>(one: &[T], other: &[T]) -> Offset {
    let differs = one.iter().zip(other).position(|(one, other)| one != other);
    offset(differs.unwrap_or_else(|| one.len().min(other.len())))
}

impl Broker {
    /// The first offset that is left of a log, and its end.
    fn bounds(&self, log: Log) -> (Offset, Offset) {
        match log {
            Log::Commands(consumer) => {
                let start = self.command_starts.get(&consumer).copied().unwrap_or_default();
                (start, self.command_end(consumer))
            }
            Log::Ledger | Log::Data(_) => (self.ledger_start, offset(self.ledger.len())),
        }
    }
}
