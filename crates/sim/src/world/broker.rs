//! The broker: the ledger and the command partitions as logs, and everything that can happen to a request.
//!
//! An append can be lost, applied without an answer, applied long after its sender gave up, applied twice, or answered
//! late. A reader sees a prefix of the log, later than it is there. Requests of one process arrive in order unless
//! something happens to one of them.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::consumer::{AppendId, Input as ConsumerInput, Located};
use tidegate_core::controller::Input as ControllerInput;
use tidegate_core::ids::{ConsumerNumber, Offset, PartitionId};
use tidegate_core::ledger::{Command, Entry};

use super::mutants::twist;
use super::process::{Input, Link, ProcessKey, Role};
use super::queue::Moment;
use super::weather::Weather;
use super::{Event, Mutant, World};

/// How long a client waits for an acknowledgement.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

const LATENCY: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(15));

/// How late an append may arrive that everybody has given up.
const LATE: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));

/// How old the answer where a log ends may be.
const STALE_MS: u64 = 8_000;

/// All logs.
#[derive(Clone, Debug, Default)]
pub(super) struct Broker {
    pub(super) ledger: Vec<Entry>,
    /// What is below has been deleted.
    pub(super) ledger_start: Offset,
    pub(super) command_starts: BTreeMap<ConsumerNumber, Offset>,
    pub(super) commands: BTreeMap<ConsumerNumber, Vec<Command>>,
    /// Logs that have no leader until then.
    pub(super) leaderless: BTreeMap<Log, Moment>,
}

/// One of the logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Log {
    Ledger,
    Commands(ConsumerNumber),
    Data(PartitionId),
}

/// A record on its way.
#[derive(Clone, Debug)]
pub(super) enum Payload {
    Ledger(Entry),
    Command(ConsumerNumber, Command),
}

/// An append on its way.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) payload: Payload,
    /// Who waits for an answer, and how much longer than usual it takes.
    pub(super) answer: Option<(ProcessKey, AppendId, Duration)>,
}

/// A question where a log ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Question {
    /// A consumer looks for both ends, the ledger's first.
    Locate,
    /// The second half of that.
    LocateCommands(Offset),
    /// A consumer asks for its command partition's end.
    Commands(u64),
    /// A controller asks for the ledger's.
    Ledger(u64),
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Fine,
    Lost,
    Unacknowledged,
    Late,
    Twice,
    SlowlyAcknowledged,
}

impl Broker {
    /// The first offset that is left of the log that such a process reads.
    pub(super) fn start_of(&self, role: &Role) -> Offset {
        match role {
            Role::Consumer(shell) => {
                self.command_starts.get(&shell.number).copied().unwrap_or_default()
            }
            Role::Controller(_) => self.ledger_start,
        }
    }

    /// When a log can be reached again, if it cannot be now.
    fn unreachable_until(&self, log: Log, weather: &Weather, now: Moment) -> Option<Moment> {
        let leaderless = self.leaderless.get(&log).copied().unwrap_or_default();
        Some(leaderless.max(weather.broker_down_until)).filter(|until| now < *until)
    }

    pub(super) fn command_end(&self, consumer: ConsumerNumber) -> Offset {
        offset(self.commands.get(&consumer).map_or(0, Vec::len))
    }
}

pub(super) fn offset(length: usize) -> Offset {
    Offset(u64::try_from(length).unwrap_or(u64::MAX))
}

pub(super) fn index(offset: Offset) -> usize {
    usize::try_from(offset.0).unwrap_or(usize::MAX)
}

impl World {
    pub(super) fn latency(&mut self) -> Duration {
        let latency = self.rng.between(LATENCY.0, LATENCY.1);
        latency * self.weather.slowness
    }

    /// When a log can be reached again, if it cannot be now.
    pub(super) fn unreachable_until(&self, log: Log) -> Option<Moment> {
        self.broker.unreachable_until(log, &self.weather, self.now)
    }

    fn fate(&mut self, from: ProcessKey, log: Log) -> Fate {
        let leaderless = self.unreachable_until(log).is_some();
        let mute = self.processes.get(&from).is_some_and(|process| self.now < process.mute_until);
        let weather = &self.weather;
        let [lost, unacknowledged, late, twice, slowly] = if mute || leaderless {
            // What a leader took before it was gone may be there, and nobody hears of it.
            if leaderless { [500, 200, 300, 0, 0] } else { [700, 0, 300, 0, 0] }
        } else {
            weather.appends
        };
        if matches!(log, Log::Commands(_)) && self.rng.chance(weather.commands_late) {
            return Fate::Late;
        }
        let mut die = u32::try_from(self.rng.below(1000)).unwrap_or(0);
        let fates = [
            (lost, Fate::Lost),
            (unacknowledged, Fate::Unacknowledged),
            (late, Fate::Late),
            (twice, Fate::Twice),
            (slowly, Fate::SlowlyAcknowledged),
        ];
        for (permille, fate) in fates {
            if die < permille {
                return fate;
            }
            die -= permille;
        }
        Fate::Fine
    }

    /// A process hands a record to its client.
    pub(super) fn append(&mut self, from: ProcessKey, answer: Option<AppendId>, payload: &Payload) {
        let log = match payload {
            Payload::Ledger(_) => Log::Ledger,
            Payload::Command(consumer, _) => Log::Commands(*consumer),
        };
        let fate = self.fate(from, log);
        let latency = self.latency();
        let usual = self.in_order(from, self.now.after(latency));
        let late = self.now.after(self.rng.between(LATE.0, LATE.1));
        let soon = |delay| answer.map(|id| (from, id, delay));
        let arrives = |world: &mut Self, at, answer| {
            let request = Request { payload: payload.clone(), answer };
            world.queue.schedule(at, Event::Append(request));
        };
        match fate {
            Fate::Fine => arrives(self, usual, soon(Duration::ZERO)),
            Fate::SlowlyAcknowledged => {
                let delay = self.rng.between(Duration::from_millis(300), Duration::from_secs(20));
                arrives(self, usual, soon(delay));
            }
            Fate::Lost => {}
            Fate::Unacknowledged => arrives(self, usual, None),
            Fate::Late => arrives(self, late, None),
            Fate::Twice => {
                let first = self.rng.chance(500);
                arrives(self, usual, soon(Duration::ZERO).filter(|_| first));
                arrives(self, late, soon(Duration::ZERO).filter(|_| !first));
            }
        }
        if fate != Fate::Fine {
            let (now, limit) = (self.now, REQUEST_TIMEOUT);
            self.trace.note(now, format_args!("{from}"), format_args!("append fares {fate:?}"));
            // An answer that comes later finds that nobody waits for it.
            if let Some(id) = answer.filter(|_| fate != Fate::SlowlyAcknowledged) {
                self.deliver(limit, from, Input::Consumer(ConsumerInput::AppendFailed(id)));
            }
        }
    }

    /// Requests of one client that fare well stay in order.
    fn in_order(&mut self, from: ProcessKey, at: Moment) -> Moment {
        let Some(process) = self.processes.get_mut(&from) else { return at };
        process.last_arrival = process.last_arrival.max(at);
        process.last_arrival
    }

    /// A record is appended.
    pub(super) fn arrive(&mut self, request: Request) {
        let at = match request.payload {
            Payload::Ledger(entry) => {
                let at = offset(self.broker.ledger.len());
                self.trace.note(self.now, format_args!("ledger"), format_args!("{at:?} {entry:?}"));
                let read = twist(self.scenario.mutant, &self.audit.reference, at, &entry);
                self.audit_record(at, &entry, &read);
                self.broker.ledger.push(read);
                self.wake_readers(None);
                at
            }
            Payload::Command(consumer, command) => {
                let at = self.broker.command_end(consumer);
                self.broker.commands.entry(consumer).or_default().push(command);
                self.wake_readers(Some(consumer));
                at
            }
        };
        if let Some((to, id, delay)) = request.answer {
            let latency = self.latency() + delay;
            self.deliver(latency, to, Input::Consumer(ConsumerInput::Appended(id, at)));
        }
    }

    /// Readers of a log learn that there is something: of the ledger, or of a consumer's command partition.
    fn wake_readers(&mut self, commands: Option<ConsumerNumber>) {
        let reads = |role: &Role| match role {
            Role::Consumer(shell) => Some(shell.number) == commands,
            Role::Controller(_) => commands.is_none(),
        };
        let idle: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| !process.polls && reads(&process.role))
            .map(|(key, _)| *key)
            .collect();
        for key in idle {
            self.schedule_poll(key);
        }
    }

    /// A controller reads the ledger from its first record that is left.
    pub(super) fn open_ledger(&mut self, key: ProcessKey) {
        let start = self.broker.ledger_start;
        let Some(process) = self.processes.get_mut(&key) else { return };
        (process.cursor, process.read, process.link) = (start, start, Link::Sound);
        process.opens += 1;
        self.give(key, Input::Controller(ControllerInput::LedgerOpened(start)));
        self.schedule_poll(key);
    }

    /// Deletes what is below an offset, of the ledger or of a command partition.
    pub(super) fn trim(&mut self, consumer: Option<ConsumerNumber>, below: Offset) {
        let start = match consumer {
            None => &mut self.broker.ledger_start,
            Some(consumer) => self.broker.command_starts.entry(consumer).or_default(),
        };
        if below > *start {
            *start = below;
            self.stats.trims += 1;
        }
    }

    /// A process will fetch what there is.
    pub(super) fn schedule_poll(&mut self, key: ProcessKey) {
        let latency = self.latency();
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.polls = true;
        let slow = if self.now < process.slow_until { self.rng.below(3_000) } else { 0 };
        let at = self.now.after(latency + Duration::from_millis(slow)).max(process.deaf_until);
        self.queue.schedule(at, Event::Poll(key));
    }

    /// A process gets the next records of the log that it reads: a prefix of what there is.
    pub(super) fn poll(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        process.polls = false;
        if self.now < process.deaf_until {
            self.schedule_poll(key);
            return;
        }
        let from = process.cursor;
        let trimmed = from < self.broker.start_of(&process.role);
        let log = process.log();
        if let Some(until) = self.broker.unreachable_until(log, &self.weather, self.now) {
            process.polls = true;
            self.queue.schedule(until, Event::Poll(key));
            return;
        }
        match process.link {
            Link::Sound => {}
            Link::Cut => {
                self.notice_loss(key);
                return;
            }
            Link::Reopening => return,
        }
        let end = match &mut process.role {
            Role::Consumer(shell) if !shell.listening => return,
            // What it was to read is deleted, or the end that it was to read from is not there any more.
            Role::Consumer(shell) if trimmed || self.broker.command_end(shell.number) < from => {
                self.notice_loss(key);
                return;
            }
            Role::Controller(_)
                if trimmed && self.scenario.mutant == Some(Mutant::GapBlindReader) =>
            {
                process.cursor = self.broker.ledger_start;
                self.schedule_poll(key);
                return;
            }
            Role::Controller(_) if trimmed => {
                self.stats.overtaken += 1;
                self.open_ledger(key);
                return;
            }
            Role::Consumer(shell) => self.broker.command_end(shell.number),
            Role::Controller(_) => offset(self.broker.ledger.len()),
        };
        if from >= end {
            return;
        }
        let partly = self.weather.slowness > 1 || self.now < process.slow_until;
        let available = end.0 - from.0;
        let count = if partly { 1 + self.rng.below(available) } else { available };
        let upto = Offset(from.0 + count);
        process.cursor = upto;
        process.read = process.read.max(upto);
        let times = if self.scenario.mutant == Some(Mutant::Flood) { 200 } else { 1 };
        for input in read(&self.broker, &process.role, from, upto) {
            for _ in 0..times {
                self.give(key, input.clone());
            }
        }
        if upto < end {
            self.schedule_poll(key);
        }
    }

    /// A process asks where a log ends.
    pub(super) fn ask(&mut self, key: ProcessKey, question: Question) {
        let latency = self.latency();
        let [unsure, _] = self.weather.ends;
        let log = match (question, self.processes.get(&key)) {
            (Question::Locate, _) | (_, None) => Log::Ledger,
            (_, Some(process)) => process.log(),
        };
        let down = self.unreachable_until(log).is_some();
        if down || self.rng.chance(unsure) {
            self.deliver(REQUEST_TIMEOUT, key, unanswered(question));
        } else {
            self.queue.schedule(self.now.after(latency), Event::Ask(key, question));
        }
    }

    /// The question reaches the broker.
    pub(super) fn answer(&mut self, key: ProcessKey, question: Question) {
        let Some(process) = self.processes.get(&key) else { return };
        let commands = match &process.role {
            Role::Consumer(shell) => self.broker.command_end(shell.number),
            Role::Controller(_) => Offset(0),
        };
        let ledger = offset(self.broker.ledger.len());
        let input = match question {
            Question::Locate => {
                self.ask(key, Question::LocateCommands(ledger));
                return;
            }
            Question::LocateCommands(ledger_end) => {
                let first = self.broker.ledger.get(index(self.broker.ledger_start));
                let located = first.map(|first| Located {
                    generation: first.generation,
                    ledger_end,
                    command_end: commands,
                });
                Input::Consumer(ConsumerInput::Located(located))
            }
            Question::Commands(id) => {
                Input::Consumer(ConsumerInput::CommandEnd(id, Some(commands)))
            }
            Question::Ledger(id) => Input::Controller(ControllerInput::LedgerEnd(id, Some(ledger))),
        };
        let [_, slow] = self.weather.ends;
        let delay = if self.rng.chance(slow) { self.rng.below(STALE_MS) } else { 0 };
        let latency = self.latency() + Duration::from_millis(delay);
        self.deliver(latency, key, input);
    }
}

fn unanswered(question: Question) -> Input {
    match question {
        Question::Locate | Question::LocateCommands(_) => {
            Input::Consumer(ConsumerInput::Located(None))
        }
        Question::Commands(id) => Input::Consumer(ConsumerInput::CommandEnd(id, None)),
        Question::Ledger(id) => Input::Controller(ControllerInput::LedgerEnd(id, None)),
    }
}

/// Records from one offset up to another as a process takes them in.
fn read(broker: &Broker, role: &Role, from: Offset, upto: Offset) -> Vec<Input> {
    let range = index(from)..index(upto);
    let offsets = (from.0..upto.0).map(Offset);
    match role {
        Role::Consumer(shell) => {
            let log = broker.commands.get(&shell.number).and_then(|log| log.get(range));
            let commands = offsets.zip(log.unwrap_or_default());
            let input = |(at, command): (Offset, &Command)| {
                Input::Consumer(ConsumerInput::Command(at, Some(command.clone())))
            };
            commands.map(input).collect()
        }
        Role::Controller(_) => {
            let entries = broker.ledger.get(range).unwrap_or_default();
            let records = offsets.zip(entries.iter().cloned().map(Some)).collect();
            vec![Input::Controller(ControllerInput::Ledger(records))]
        }
    }
}
