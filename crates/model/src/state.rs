//! The state of the world: logs, sink, processes with what is in flight, and what may still go wrong.
//!
//! Everything a state machine asks for is answered at once; what may be late, lost or repeated is an append, an answer to
//! one, a write or a read. So a step of a process is atomic, and what lies between two steps is the checker's choice.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::consumer::{
    AppendId, Consumer, Effect as ConsumerEffect, Identity, Input as ConsumerInput, Located,
};
use tidegate_core::controller::{
    Controller, Effect as ControllerEffect, Input as ControllerInput, Steering,
};
use tidegate_core::ids::{
    BootId, ConsumerNumber, DirectoryId, Instant, Offset, PartitionId, Position, ProcessId,
};
use tidegate_core::ledger::{Command, CommandBody, Entry};
use tidegate_core::mutants::{self, Mutant};

use crate::audit::{Audit, Promise};
use crate::process::{ConsumerShell, ControllerShell, Lane, Machine, Payload, Process, Request};
use crate::scenario::{Budget, Scenario};
use crate::settings;
use crate::share::{Log, Shared};
use crate::sink::{Sink, Write};

/// What a state directory keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct StateFile {
    clean: bool,
    partitions: BTreeMap<PartitionId, Position>,
}

/// An acknowledgement that is late: who waits for it, for what, and where that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Answer {
    pub(crate) to: usize,
    pub(crate) id: AppendId,
    pub(crate) at: u64,
}

/// The state of the world.
#[derive(Clone, Debug)]
pub struct State {
    pub(crate) now: Instant,
    pub(crate) ledger: Log<Entry>,
    pub(crate) commands: BTreeMap<ConsumerNumber, Log<Command>>,
    pub(crate) processes: Vec<Shared<Process>>,
    /// Appends that everybody has given up and that may still arrive, in the order of their senders.
    pub(crate) late: Vec<Request>,
    pub(crate) answers: Vec<Answer>,
    pub(crate) writes: Vec<Write>,
    pub(crate) sink: Sink,
    pub(crate) directories: BTreeMap<DirectoryId, StateFile>,
    pub(crate) budget: Budget,
    /// Records in each partition.
    pub(crate) records: u64,
    /// Capacities were changed, so that a partition must move.
    pub(crate) respecified: bool,
    /// Processes that are dead for certain and that no controller knows of yet.
    pub(crate) unreaped: Vec<(ConsumerNumber, ProcessId)>,
    pub(crate) audit: Audit,
}

/// The audit follows from the logs, but for what it found.
impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.now, &self.ledger, &self.commands, &self.processes).hash(state);
        (&self.late, &self.answers, &self.writes, &self.sink, &self.directories).hash(state);
        (self.budget, self.respecified, &self.unreaped, self.audit.broken.is_some()).hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        let logs = self.now == other.now
            && self.ledger == other.ledger
            && self.commands == other.commands
            && self.processes == other.processes;
        let flight =
            self.late == other.late && self.answers == other.answers && self.writes == other.writes;
        let rest = self.sink == other.sink
            && self.directories == other.directories
            && self.budget == other.budget
            && self.respecified == other.respecified
            && self.unreaped == other.unreaped;
        logs && flight && rest && self.audit.broken.is_some() == other.audit.broken.is_some()
    }
}

impl Eq for State {}

impl State {
    /// An empty ledger and nobody there.
    pub(crate) fn new(scenario: &Scenario) -> Self {
        Self {
            now: settings::BEGINNING,
            ledger: Log::default(),
            commands: BTreeMap::new(),
            processes: Vec::new(),
            late: Vec::new(),
            answers: Vec::new(),
            writes: Vec::new(),
            sink: Sink::new(scenario.sink),
            directories: BTreeMap::new(),
            budget: scenario.budget,
            records: 0,
            respecified: false,
            unreaped: Vec::new(),
            audit: Audit::default(),
        }
    }

    /// Makes fingerprints of what a step has changed.
    pub(crate) fn seal(&mut self) {
        self.processes.iter_mut().for_each(Shared::seal);
        self.late.sort_by_key(|request| (request.from, request.id));
        self.writes.sort_by_key(|write| (write.from, write.id));
    }

    pub(crate) fn process(&self, at: usize) -> &Process {
        self.processes[at].get()
    }

    pub(crate) fn change(&mut self, at: usize) -> &mut Process {
        self.processes[at].change()
    }

    pub(crate) fn clock(&self, at: usize) -> Instant {
        self.now.after(self.process(at).ahead)
    }

    // === processes ===

    /// Ids count from 1, so that what is printed can be read.
    fn next_process(&self) -> ProcessId {
        ProcessId(self.processes.len() as u128 + 1)
    }

    /// Starts a controller, which knows the partitions' rates.
    pub(crate) fn start_controller(&mut self, scenario: &Scenario) {
        let id = self.next_process();
        let settings = settings::controller(scenario, self.respecified, self.now);
        let controller = Controller::new(settings, settings::group(), id, self.now);
        let start = self.now;
        let shell = ControllerShell { controller, start, opened: 0, acknowledged: BTreeMap::new() };
        self.processes.push(Shared::new(Process::new(id, Machine::Controller(Box::new(shell)))));
        let at = self.processes.len() - 1;
        self.open_ledger(at);
        let (topic, report) = settings::rates(scenario.partitions);
        self.step_controller(at, ControllerInput::Rates(topic, report));
    }

    /// Starts a process of a consumer, which takes the state directory's lock.
    pub(crate) fn start_consumer(&mut self, number: ConsumerNumber, directory: DirectoryId) {
        let id = self.next_process();
        let file = self.directories.entry(directory).or_default();
        let identity = Identity {
            consumer: number,
            process: id,
            boot: Some(BootId(1)),
            directory: Some(directory),
            clean: file.clean,
            persisted: file.partitions.iter().map(|(at, next)| (*at, *next)).collect(),
        };
        let shell = ConsumerShell {
            number,
            directory,
            consumer: Consumer::new(settings::consumer(), identity, self.now),
            listening: false,
            lanes: BTreeMap::new(),
            writes: 0,
        };
        self.processes.push(Shared::new(Process::new(id, Machine::Consumer(Box::new(shell)))));
        self.step_consumer(self.processes.len() - 1, ConsumerInput::Tick);
    }

    /// A process ends without a word. What it had sent may still arrive.
    pub(crate) fn end(&mut self, at: usize) {
        let process = self.change(at);
        let number = process.consumer().map(|shell| shell.number);
        let id = process.id;
        process.machine = Machine::Gone;
        (process.deaf, process.ahead, process.looked) = (false, Duration::ZERO, None);
        process.ledger.iter_mut().for_each(|request| request.id = None);
        self.answers.retain(|answer| answer.to != at);
        self.unreaped.extend(number.map(|number| (number, id)));
    }

    // === steps ===

    pub(crate) fn step_controller(&mut self, at: usize, input: ControllerInput) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.clock(at);
            let process = self.change(at);
            process.looked = Some(now);
            let Machine::Controller(shell) = &mut process.machine else { return };
            let effects = shell.controller.step(now, input);
            for effect in effects {
                inputs.extend(self.perform_controller(at, effect));
            }
        }
    }

    fn perform_controller(
        &mut self,
        at: usize,
        effect: ControllerEffect,
    ) -> Option<ControllerInput> {
        match effect {
            ControllerEffect::Append(entry) => {
                let payload = Payload::Ledger(entry.into());
                let queue = &mut self.change(at).ledger;
                // What is sent again while it waits to be sent changes nothing.
                if queue.iter().all(|request| request.payload != payload) {
                    queue.push_back(Request { from: at, payload, id: None });
                }
            }
            ControllerEffect::Command(consumer, command) => {
                let command = Arc::new(self.as_sent(at, command));
                let payload = Payload::Command(consumer, command);
                self.change(at).commands.push_back(Request { from: at, payload, id: None });
            }
            ControllerEffect::FetchLedgerEnd(id) => {
                return Some(ControllerInput::LedgerEnd(id, Some(Offset(self.ledger.end()))));
            }
            ControllerEffect::ResolveStarts(partitions) => {
                let starts = partitions.into_iter().map(|partition| (partition, Position(0)));
                return Some(ControllerInput::Starts(starts.collect()));
            }
            ControllerEffect::AskSteering => {
                return Some(ControllerInput::Steering(Steering::default()));
            }
            ControllerEffect::LookForTraces => {
                return Some(ControllerInput::Traces(self.sink.has_traces()));
            }
            ControllerEffect::RefuseLedger => {
                self.audit.violate(Promise::P1, "a controller refuses its own group's ledger");
            }
            ControllerEffect::EnsureWorker(_)
            | ControllerEffect::RemoveWorker(_)
            | ControllerEffect::CheckTopics(_) => {}
            ControllerEffect::Trim(consumer, below) => self.trim(consumer, below),
            ControllerEffect::Note(note) => self.noted(at, &note),
        }
        None
    }

    /// A command as the shell sends it: the same, but under one planted defect.
    fn as_sent(&self, at: usize, mut command: Command) -> Command {
        if mutants::is_planted(Mutant::EpochOfAcknowledgement)
            && let CommandBody::Start { epoch, partitions, .. } = &mut command.body
            && let Machine::Controller(shell) = &self.process(at).machine
            && let Some((partition, _)) = partitions.first()
            && let Some(acknowledged) = shell.acknowledged.get(partition)
        {
            epoch.0 = Offset(*acknowledged);
        }
        command
    }

    pub(crate) fn step_consumer(&mut self, at: usize, input: ConsumerInput) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let now = self.clock(at);
            let Some(shell) = self.change(at).consumer_mut() else { return };
            let effects = shell.consumer.step(now, input);
            for effect in effects {
                inputs.extend(self.perform_consumer(at, effect));
            }
        }
    }

    fn perform_consumer(&mut self, at: usize, effect: ConsumerEffect) -> Option<ConsumerInput> {
        let shell = self.process(at).consumer()?;
        let (number, directory) = (shell.number, shell.directory);
        let command_end = Offset(self.commands.get(&number).map_or(0, Log::end));
        match effect {
            ConsumerEffect::Locate => {
                let ledger_end = Offset(self.ledger.end());
                let located = |generation| Located { generation, ledger_end, command_end };
                return Some(ConsumerInput::Located(self.first_generation().map(located)));
            }
            ConsumerEffect::FetchCommandEnd(id) => {
                return Some(ConsumerInput::CommandEnd(id, Some(command_end)));
            }
            ConsumerEffect::Listen(from) => {
                let process = self.change(at);
                process.cursor = from.0;
                process.consumer_mut()?.listening = true;
            }
            ConsumerEffect::Append(id, entry) => {
                let payload = Payload::Ledger(entry.into());
                self.change(at).ledger.push_back(Request { from: at, payload, id: Some(id) });
            }
            ConsumerEffect::Acquire(partition, token) => {
                let epoch = token.epoch;
                return Some(match self.sink.acquire(partition, token) {
                    Ok(stands) => ConsumerInput::Acquired(partition, epoch, Some(stands)),
                    Err(failure) => ConsumerInput::AcquireFailed(partition, epoch, failure),
                });
            }
            ConsumerEffect::Read(partition, epoch, from) => {
                let stands = from.0;
                let lane = Lane { epoch, stands, reads: true, announced: false, writing: None };
                self.change(at).consumer_mut()?.lanes.insert(partition, lane);
            }
            ConsumerEffect::Unread(partition) => {
                let lanes = &mut self.change(at).consumer_mut()?.lanes;
                if let Some(lane) = lanes.get_mut(&partition) {
                    (lane.reads, lane.announced) = (false, false);
                }
            }
            ConsumerEffect::Write(partition, token) => self.begin_write(at, partition, token),
            ConsumerEffect::Abort(partition) | ConsumerEffect::Release(partition, _) => {
                self.change(at).consumer_mut()?.lanes.remove(&partition);
            }
            ConsumerEffect::Save { clean, partitions } => {
                self.directories.insert(directory, StateFile { clean, partitions });
            }
            ConsumerEffect::Raise(alarm) => self.audit.raised(alarm),
            ConsumerEffect::Exit(_) => self.end(at),
            ConsumerEffect::Finish(partition, token) => {
                let lane = self.change(at).consumer_mut()?.lanes.get_mut(&partition)?;
                lane.reads = false;
                if !lane.announced {
                    let stands = Position(lane.stands);
                    return Some(ConsumerInput::Written(partition, token.epoch, stands));
                }
                self.begin_write(at, partition, token);
            }
            ConsumerEffect::Skip(..) => unreachable!("no world decides to leave a gap"),
            ConsumerEffect::Began(_) | ConsumerEffect::Lapsed(_) | ConsumerEffect::Ignored(_) => {}
        }
        None
    }

    fn begin_write(
        &mut self,
        at: usize,
        partition: PartitionId,
        token: tidegate_core::ids::FencingToken,
    ) {
        let Some(shell) = self.change(at).consumer_mut() else { return };
        shell.writes += 1;
        let id = shell.writes;
        let Some(lane) = shell.lanes.get_mut(&partition) else { return };
        lane.writing = Some(id);
        let (expected, end) = (lane.stands, lane.stands + 1);
        self.writes.push(Write { from: at, id, partition, token, expected, end });
    }
}
