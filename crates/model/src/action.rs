//! What can happen in a state, and what it does.

use std::fmt;
use std::time::Duration;

use tidegate_core::consumer::{Failure, Input as ConsumerInput};
use tidegate_core::controller::{Input as ControllerInput, WorkerView};
use tidegate_core::ids::{DirectoryId, Instant, PartitionId, Position};

use crate::audit::Promise;
use crate::process::{Machine, Request};
use crate::scenario::{Failing, Loss, Scenario};
use crate::settings;
use crate::share::Shared;
use crate::state::{Answer, State};

/// Which of a process's two ways to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the ledger.
    Ledger,
    /// To the command partitions.
    Commands,
}

/// What becomes of the first append on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives and is acknowledged.
    Arrives,
    /// It arrives, and the client sends it again: what is acknowledged is the next copy.
    ArrivesUnheard,
    /// It arrives and is acknowledged, and another copy is on its way.
    ArrivesTwice,
    /// It arrives, and its sender is told that it may not have.
    Unknown,
    /// Its sender is told that it may not have arrived; it is still on its way.
    Late,
    /// It arrives, and the acknowledgement is on its way.
    AnswerLate,
    /// It never arrives. Of an append to the ledger that is late as well, and stays away.
    Lost,
}

impl Fate {
    /// Those that cost a fault.
    pub const FAULTS: &'static [Self] =
        &[Self::ArrivesUnheard, Self::ArrivesTwice, Self::Unknown, Self::Late, Self::AnswerLate];

    /// True where nobody waits for an acknowledgement as well.
    const fn needs_no_sender(self) -> bool {
        matches!(self, Self::ArrivesUnheard | Self::ArrivesTwice | Self::Late)
    }
}

/// What happens next. Processes are named by their place.
#[derive(Clone, Copy, Debug, PartialEq)]
#[expect(missing_docs, reason = "each is told by `State::describe`, for people")]
pub enum Action {
    Send(usize, Way, Fate),
    Straggle(usize),
    Answer(usize),
    Read(usize),
    Look(usize),
    Gather(usize, PartitionId),
    Land(usize),
    GiveUpWrite(usize),
    Pass(u64),
    Lapse(usize, u64),
    Crash(usize),
    Restart(usize),
    Reap(usize),
    Twin,
    Respec,
    Deafen(usize),
    Silence(usize),
    ForgeGrant,
    ForgeFence,
    Shutdown(usize),
    Lose(Loss),
    Arrive,
}

/// The directory of the first process of each consumer, and that of the second process of consumer 1.
pub(crate) fn directory(number: u32) -> DirectoryId {
    DirectoryId(number.into())
}
const TWINS_DIRECTORY: DirectoryId = DirectoryId(100);

impl State {
    // === what can happen ===

    /// Everything that can happen next. What needs no fault comes first.
    pub(crate) fn possible(&self, scenario: &Scenario, actions: &mut Vec<Action>) {
        if self.audit.broken.is_some() {
            return;
        }
        self.possible_steps(actions);
        self.possible_faults(scenario, actions);
        self.possible_ends(actions);
    }

    /// What happens by itself, sooner or later.
    pub(crate) fn possible_steps(&self, actions: &mut Vec<Action>) {
        for at in 0..self.processes.len() {
            let process = self.process(at);
            if !process.mute && !process.ledger.is_empty() {
                actions.push(Action::Send(at, Way::Ledger, Fate::Arrives));
            }
            if !process.mute && !process.commands.is_empty() {
                actions.push(Action::Send(at, Way::Commands, Fate::Arrives));
            }
            if self.can_read(at) {
                actions.push(Action::Read(at));
            }
            if !process.is_gone() && process.looked.is_none_or(|looked| looked < self.clock(at)) {
                actions.push(Action::Look(at));
            }
            for (partition, lane) in process.consumer().into_iter().flat_map(|shell| &shell.lanes) {
                let free = lane.reads && !lane.announced && lane.writing.is_none();
                if free && *partition == settings::moving() && lane.stands < self.records {
                    actions.push(Action::Gather(at, *partition));
                }
            }
        }
        actions.extend((0..self.late.len()).map(Action::Straggle));
        actions.extend((0..self.answers.len()).map(Action::Answer));
        actions.extend((0..self.writes.len()).map(Action::Land));
    }

    fn possible_faults(&self, scenario: &Scenario, actions: &mut Vec<Action>) {
        let budget = self.budget;
        for at in 0..self.processes.len() {
            let process = self.process(at);
            if budget.faults > 0 && !process.mute {
                self.possible_fates(scenario, at, actions);
            }
            if budget.command_faults > 0 && !process.mute && !process.commands.is_empty() {
                let fates = scenario.command_fates.iter();
                actions.extend(fates.map(|fate| Action::Send(at, Way::Commands, *fate)));
            }
        }
        if budget.faults > 0 {
            let awaited =
                |(at, _): (usize, _)| self.is_awaited(at).then_some(Action::GiveUpWrite(at));
            actions.extend(self.writes.iter().enumerate().filter_map(awaited));
        }
        if budget.passes > 0 {
            actions.extend(scenario.spans.iter().map(|seconds| Action::Pass(*seconds)));
        }
        if budget.forgeries > 0 {
            actions.extend(self.forged_grant().map(|_| Action::ForgeGrant));
            actions.extend(self.forged_fence().map(|_| Action::ForgeFence));
        }
        if budget.losses > 0 {
            let losses = scenario.losses.iter().filter(|loss| self.can_lose(**loss));
            actions.extend(losses.map(|loss| Action::Lose(*loss)));
        }
        if budget.arrivals > 0 {
            actions.push(Action::Arrive);
        }
        if budget.respecs > 0 {
            actions.push(Action::Respec);
        }
        if budget.twins > 0 {
            actions.push(Action::Twin);
        }
        if budget.lapses > 0 {
            let living = (0..self.processes.len()).filter(|at| !self.process(*at).is_gone());
            actions.extend(living.flat_map(|at| {
                scenario.spans.iter().map(move |seconds| Action::Lapse(at, *seconds))
            }));
        }
    }

    fn possible_fates(&self, scenario: &Scenario, at: usize, actions: &mut Vec<Action>) {
        let process = self.process(at);
        let Some(first) = process.ledger.front() else { return };
        let fails = match scenario.failing {
            Failing::Everybody => true,
            Failing::Controllers => process.controller().is_some(),
            Failing::Consumers => process.consumer().is_some(),
        };
        let possible = |fate: &&Fate| fails && (first.id.is_some() || fate.needs_no_sender());
        let fates = scenario.fates.iter().filter(possible);
        actions.extend(fates.map(|fate| Action::Send(at, Way::Ledger, *fate)));
    }

    fn possible_ends(&self, actions: &mut Vec<Action>) {
        let budget = self.budget;
        for at in 0..self.processes.len() {
            let process = self.process(at);
            if process.is_gone() {
                let dead = self.unreaped.iter().any(|(_, id)| *id == process.id);
                if dead {
                    actions.push(Action::Reap(at));
                }
                continue;
            }
            if budget.crashes > 0 {
                actions.push(Action::Crash(at));
            }
            if budget.cuts > 0 && process.is_reachable() {
                actions.extend([Action::Deafen(at), Action::Silence(at)]);
            }
            if budget.shutdowns > 0
                && process.consumer().is_some_and(|shell| !shell.consumer.is_leaving())
            {
                actions.push(Action::Shutdown(at));
            }
        }
        if budget.restarts > 0 {
            let free = self.directories.keys().enumerate();
            actions.extend(
                free.filter(|(_, directory)| !self.is_locked(**directory))
                    .map(|(place, _)| Action::Restart(place)),
            );
        }
    }

    fn is_locked(&self, directory: DirectoryId) -> bool {
        let mut consumers = self.processes.iter().filter_map(|process| process.get().consumer());
        consumers.any(|shell| shell.directory == directory)
    }

    /// True when its process waits for the outcome of this write.
    fn is_awaited(&self, write: usize) -> bool {
        let write = &self.writes[write];
        let shell = self.process(write.from).consumer();
        let lane = shell.and_then(|shell| shell.lanes.get(&write.partition));
        lane.is_some_and(|lane| lane.writing == Some(write.id))
    }

    // === what it does ===

    /// Lets it happen.
    pub(crate) fn happen(&mut self, scenario: &Scenario, action: Action) {
        match action {
            Action::Send(at, way, fate) => self.send(at, way, fate),
            Action::Straggle(place) => {
                let request = self.late.remove(place);
                self.append(&request);
            }
            Action::Answer(place) => {
                let Answer { to, id, at } = self.answers.remove(place);
                self.acknowledge(to, id, at);
            }
            Action::Read(at) => self.read(at),
            Action::Look(at) => self.look(at),
            Action::Gather(at, partition) => self.gather(at, partition),
            Action::Land(place) => self.land(place),
            Action::GiveUpWrite(place) => {
                self.budget.faults -= 1;
                let write = self.writes[place];
                self.write_answered(&write, Err(Failure::Transient));
            }
            Action::Pass(seconds) => {
                self.budget.passes -= 1;
                self.now = self.now.after(Duration::from_secs(seconds));
            }
            Action::Lapse(at, seconds) => {
                self.budget.lapses -= 1;
                self.change(at).ahead += Duration::from_secs(seconds);
            }
            Action::Crash(at) => {
                self.budget.crashes -= 1;
                self.end(at);
            }
            Action::Restart(place) => self.restart(place),
            Action::Reap(at) => self.reap(at),
            Action::Twin => {
                self.budget.twins -= 1;
                self.start_consumer(settings::consumer_number(1), TWINS_DIRECTORY);
            }
            Action::Respec => {
                self.budget.respecs -= 1;
                self.respec(scenario);
            }
            Action::Deafen(at) => {
                self.budget.cuts -= 1;
                self.change(at).deaf = true;
            }
            Action::Silence(at) => {
                self.budget.cuts -= 1;
                self.change(at).mute = true;
            }
            Action::Lose(loss) => self.lose(loss),
            Action::Arrive => {
                self.budget.arrivals -= 1;
                self.start_controller(scenario);
            }
            Action::ForgeGrant => self.forge(self.forged_grant()),
            Action::ForgeFence => self.forge(self.forged_fence()),
            Action::Shutdown(at) => {
                self.budget.shutdowns -= 1;
                self.step_consumer(at, ConsumerInput::Shutdown(Duration::from_secs(60)));
            }
        }
        self.judge(scenario);
        self.hurry(scenario);
        self.seal();
    }

    pub(crate) fn judge(&mut self, scenario: &Scenario) {
        let Self { processes, audit, .. } = self;
        audit.folds(processes.iter().filter_map(|process| process.get().fold()));
        audit.claims(self.now, processes.iter().map(Shared::get), scenario.claims_are_alone());
    }

    pub(crate) fn send(&mut self, at: usize, way: Way, fate: Fate) {
        let process = self.change(at);
        let queue = match way {
            Way::Ledger => &mut process.ledger,
            Way::Commands => &mut process.commands,
        };
        let Some(request) = queue.pop_front() else { return };
        if fate == Fate::ArrivesUnheard {
            queue.push_front(request.clone());
        }
        match (fate, way) {
            (Fate::Arrives, _) => {}
            (_, Way::Ledger) => self.budget.faults -= 1,
            (_, Way::Commands) => self.budget.command_faults -= 1,
        }
        if matches!(fate, Fate::ArrivesTwice | Fate::Late) {
            self.late.push(Request { id: None, ..request.clone() });
        }
        let arrives = !matches!(fate, Fate::Late | Fate::Lost);
        let arrived = arrives.then(|| self.append(&request));
        let Some(id) = request.id else { return };
        match (fate, arrived) {
            (Fate::Arrives | Fate::ArrivesTwice, Some(offset)) => self.acknowledge(at, id, offset),
            (Fate::AnswerLate, Some(offset)) => {
                self.answers.push(Answer { to: at, id, at: offset });
            }
            (Fate::Unknown | Fate::Late, _) => {
                self.step_consumer(at, ConsumerInput::AppendFailed(id));
            }
            _ => {}
        }
    }

    fn acknowledge(&mut self, to: usize, id: tidegate_core::consumer::AppendId, at: u64) {
        self.step_consumer(to, ConsumerInput::Appended(id, tidegate_core::ids::Offset(at)));
    }

    pub(crate) fn look(&mut self, at: usize) {
        match self.process(at).machine {
            Machine::Controller(_) => self.step_controller(at, ControllerInput::Tick),
            Machine::Consumer(_) => {
                let now = self.clock(at);
                self.change(at).looked = Some(now);
                self.step_consumer(at, ConsumerInput::Tick);
            }
            Machine::Gone => {}
        }
    }

    pub(crate) fn gather(&mut self, at: usize, partition: PartitionId) {
        let Some(shell) = self.change(at).consumer_mut() else { return };
        let Some(lane) = shell.lanes.get_mut(&partition) else { return };
        lane.announced = true;
        let epoch = lane.epoch;
        self.step_consumer(at, ConsumerInput::Ready(partition, epoch));
    }

    pub(crate) fn land(&mut self, place: usize) {
        let write = self.writes.remove(place);
        match self.sink.write(&write) {
            Ok(true) => self.write_answered(&write, Ok(())),
            Ok(false) => self.write_answered(&write, Err(Failure::Fenced)),
            Err(broken) => self.audit.violate(Promise::P2, broken),
        }
    }

    fn write_answered(&mut self, write: &crate::sink::Write, result: Result<(), Failure>) {
        let Some(shell) = self.change(write.from).consumer_mut() else { return };
        let Some(lane) = shell.lanes.get_mut(&write.partition) else { return };
        if lane.writing != Some(write.id) {
            return;
        }
        lane.writing = None;
        let (partition, epoch) = (write.partition, write.token.epoch);
        let input = match result {
            Ok(()) => {
                (lane.announced, lane.stands) = (false, write.end);
                ConsumerInput::Written(partition, epoch, Position(write.end))
            }
            Err(failure) => ConsumerInput::WriteFailed(partition, epoch, failure),
        };
        self.step_consumer(write.from, input);
    }

    fn restart(&mut self, place: usize) {
        self.budget.restarts -= 1;
        let Some(directory) = self.directories.keys().nth(place).copied() else { return };
        let number =
            if directory == TWINS_DIRECTORY { 1 } else { u32::try_from(directory.0).unwrap_or(1) };
        self.start_consumer(settings::consumer_number(number), directory);
    }

    /// The controllers learn that a process is dead.
    pub(crate) fn reap(&mut self, at: usize) {
        let id = self.process(at).id;
        let Some(place) = self.unreaped.iter().position(|(_, dead)| *dead == id) else { return };
        let (consumer, process) = self.unreaped.remove(place);
        let view = WorkerView { consumer, exists: true, died: Some(process) };
        for controller in 0..self.processes.len() {
            if self.process(controller).controller().is_some() {
                self.step_controller(controller, ControllerInput::Worker(view));
            }
        }
    }

    fn respec(&mut self, scenario: &Scenario) {
        self.respecified = true;
        for at in 0..self.processes.len() {
            if let Machine::Controller(shell) = &self.process(at).machine {
                let settings = settings::controller(scenario, true, shell.start);
                self.step_controller(at, ControllerInput::Settings(Box::new(settings)));
            }
        }
    }

    /// How long a run has gone on.
    pub(crate) fn since(&self, start: Instant) -> Duration {
        self.now.since(start)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
