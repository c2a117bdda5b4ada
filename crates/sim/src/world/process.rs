//! A process: a state machine with its clock, its link to the broker, and whether it runs at all.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use tidegate_core::consumer::Consumer;
use tidegate_core::ids::{BootId, Instant, Offset, ProcessId};
use tidegate_core::ledger::CommandBody;
use tidegate_core::{consumer, controller};

use super::audit::Promise;
use super::broker::Log;
use super::consumers::ConsumerShell;
use super::controllers::ControllerShell;
use super::queue::Moment;
use super::{Event, Mutant, World};

/// Names a process in this world, in the order in which they were started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ProcessKey(pub(super) u32);

impl fmt::Display for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p{}", self.0)
    }
}

/// A machine: what its processes share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    pub(super) boot: BootId,
    /// How long before the world began it was booted.
    pub(super) uptime: Duration,
    /// How fast its clock runs, in millionths of true time.
    pub(super) pace: u32,
}

impl Machine {
    pub(super) fn clock(&self, now: Moment) -> Instant {
        let elapsed = u128::from(now.0) * u128::from(self.pace) / 1_000_000;
        let elapsed = Duration::from_micros(u64::try_from(elapsed).unwrap_or(u64::MAX));
        Instant::since_boot(self.uptime + elapsed)
    }
}

/// Something that a process takes in.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Consumer(consumer::Input),
    Controller(controller::Input),
}

/// What a process is.
#[derive(Debug)]
pub(super) enum Role {
    Consumer(Box<ConsumerShell>),
    Controller(Box<ControllerShell>),
}

/// What a process's place in the log that it reads is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    /// What it has read is there. Left by a cut below its place.
    Sound,
    /// What it has read is gone, and it does not know. Left by its next fetch.
    Cut,
    /// It knows, and has not begun again. Left by the log's being opened.
    Reopening,
}

/// A running process. One that has ended is no longer there.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: ProcessId,
    pub(super) machine: Machine,
    pub(super) role: Role,
    /// It gets no time until then; what comes meanwhile waits.
    pub(super) stalled_until: Moment,
    inbox: VecDeque<Input>,
    /// Its appends are lost until then.
    pub(super) mute_until: Moment,
    /// It reads nothing until then.
    pub(super) deaf_until: Moment,
    /// It reads late until then.
    pub(super) slow_until: Moment,
    /// It does not reach the sink until then.
    pub(super) sinkless_until: Moment,
    /// The next record that it reads.
    pub(super) cursor: Offset,
    /// The furthest that it has read of the log, whatever it reads again.
    pub(super) read: Offset,
    pub(super) link: Link,
    /// How often its log was opened, whether it has taken that in or not.
    pub(super) opens: u64,
    /// A fetch is under way.
    pub(super) polls: bool,
    pub(super) last_arrival: Moment,
}

impl Process {
    pub(super) fn new(id: ProcessId, machine: Machine, role: Role) -> Self {
        Self {
            id,
            machine,
            role,
            stalled_until: Moment(0),
            inbox: VecDeque::new(),
            mute_until: Moment(0),
            deaf_until: Moment(0),
            slow_until: Moment(0),
            sinkless_until: Moment(0),
            cursor: Offset(0),
            read: Offset(0),
            link: Link::Sound,
            opens: 0,
            polls: false,
            last_arrival: Moment(0),
        }
    }

    pub(super) fn consumer(&self) -> Option<&ConsumerShell> {
        match &self.role {
            Role::Consumer(shell) => Some(shell),
            Role::Controller(_) => None,
        }
    }

    pub(super) fn consumer_mut(&mut self) -> Option<&mut ConsumerShell> {
        match &mut self.role {
            Role::Consumer(shell) => Some(shell),
            Role::Controller(_) => None,
        }
    }

    pub(super) fn controller(&self) -> Option<&ControllerShell> {
        match &self.role {
            Role::Controller(shell) => Some(shell),
            Role::Consumer(_) => None,
        }
    }

    /// What it reads.
    pub(super) fn log(&self) -> Log {
        match &self.role {
            Role::Consumer(shell) => Log::Commands(shell.number),
            Role::Controller(_) => Log::Ledger,
        }
    }

    /// The end of the last harm that was done to it.
    pub(super) fn harmed_until(&self) -> Moment {
        self.stalled_until.max(self.mute_until).max(self.deaf_until).max(self.slow_until)
    }

    /// Time between two looks at what time alone brings.
    fn tick(&self) -> Duration {
        match self.role {
            Role::Consumer(_) => Duration::from_millis(100),
            Role::Controller(_) => Duration::from_millis(250),
        }
    }
}

impl World {
    /// Starts a process.
    pub(super) fn start(&mut self, process: Process) -> ProcessKey {
        self.started += 1;
        let key = ProcessKey(self.started);
        self.processes.insert(key, process);
        let phase = self.rng.between(Duration::ZERO, Duration::from_millis(100));
        self.queue.schedule(self.now.after(phase), Event::Tick(key));
        key
    }

    /// Something will reach a process after a while.
    pub(super) fn deliver(&mut self, delay: Duration, to: ProcessKey, input: Input) {
        self.queue.schedule(self.now.after(delay), Event::Give(to, input));
    }

    /// Time passes for a process.
    pub(super) fn tick(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if self.now < process.stalled_until {
            self.queue.schedule(process.stalled_until, Event::Tick(key));
            return;
        }
        let (pause, waiting) = (process.tick(), std::mem::take(&mut process.inbox));
        self.queue.schedule(self.now.after(pause), Event::Tick(key));
        for input in waiting {
            self.step(key, input);
        }
        self.look(key);
    }

    /// Something reaches a process; one that stands still finds it later.
    pub(super) fn give(&mut self, key: ProcessKey, input: Input) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        if self.now < process.stalled_until || !process.inbox.is_empty() {
            process.inbox.push_back(input);
        } else {
            self.step(key, input);
        }
    }

    fn look(&mut self, key: ProcessKey) {
        match self.processes.get(&key).map(|process| &process.role) {
            Some(Role::Consumer(_)) => self.look_at_lanes(key),
            Some(Role::Controller(_)) => {
                self.step(key, Input::Controller(controller::Input::Tick));
            }
            None => {}
        }
    }

    /// One step of a process's state machine, and its effects.
    pub(super) fn step(&mut self, key: ProcessKey, input: Input) {
        self.stats.steps += 1;
        match input {
            Input::Consumer(input) => self.step_consumer(key, input),
            Input::Controller(input) => self.step_controller(key, input),
        }
    }

    fn step_consumer(&mut self, key: ProcessKey, input: consumer::Input) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let now = process.machine.clock(self.now);
        let Some(shell) = process.consumer_mut() else { return };
        if !matches!(input, consumer::Input::Tick) {
            let who = format_args!("{key} c{}", shell.number);
            self.trace.note(self.now, who, format_args!("{input:?}"));
        }
        shell.lease.takes(&input);
        let abandons = shell.renewals.takes(&shell.consumer, now, &input);
        let look = shell.ticks;
        self.stats.drains += u64::from(drains(&shell.consumer, now, &input));
        let verdict = shell.obedience.expect(&shell.consumer, now, look, &input);
        let input = match input {
            consumer::Input::Command(at, Some(command))
                if is_lost(self.scenario.mutant, &command.body) =>
            {
                consumer::Input::Heard(at.next())
            }
            consumer::Input::Appended(id, _)
                if abandons && self.scenario.mutant == Some(Mutant::RisingAcknowledgement) =>
            {
                consumer::Input::Appended(id, Offset(u64::MAX / 2))
            }
            input => input,
        };
        let effects = shell.consumer.step(now, input);
        let fault = shell.obedience.compare(&shell.consumer, verdict, look, &effects);
        if let Some(fault) = fault {
            self.violate(Promise::Obedience, format_args!("{key} {fault}"));
        }
        for effect in effects {
            self.perform_consumer(key, effect);
        }
        if abandons {
            self.audit_abandoned(key);
        }
        self.audit_claims(key);
        self.audit_lease(key);
        self.audit_sizes(key);
        let soon = self.shell(key).map(|shell| std::mem::take(&mut shell.soon));
        for input in soon.into_iter().flatten() {
            self.step_consumer(key, input);
        }
    }

    fn step_controller(&mut self, key: ProcessKey, input: controller::Input) {
        let Some(process) = self.processes.get_mut(&key) else { return };
        let now = process.machine.clock(self.now);
        let Role::Controller(shell) = &mut process.role else { return };
        let quiet = matches!(
            input,
            controller::Input::Tick | controller::Input::Ledger(_) | controller::Input::Rates(..)
        );
        if !quiet {
            let who = format_args!("{key} controller");
            self.trace.note(self.now, who, format_args!("{input:?}"));
        }
        if input == controller::Input::LedgerLost {
            shell.lost = shell.controller.fold().generation().max(shell.lost);
        }
        shell.opened += u64::from(matches!(input, controller::Input::LedgerOpened(_)));
        let effects = shell.controller.step(now, input);
        if let Some(fault) = shell.patience.observe(now, &shell.controller, &effects) {
            self.violate(Promise::Patience, format_args!("{key} {fault}"));
        }
        for effect in effects {
            self.perform_controller(key, effect);
        }
        self.audit_fold(key);
        self.audit_vigour(key);
        self.audit_sizes(key);
    }
}

/// True for a command that takes from this consumer what it holds.
fn drains(consumer: &Consumer, now: Instant, input: &consumer::Input) -> bool {
    let consumer::Input::Command(_, Some(command)) = input else { return false };
    matches!(command.body, CommandBody::Drain { .. })
        && consumer.incarnation(now) == Some(command.incarnation)
        && consumer.holdings().next().is_some()
}

/// Under some mutants a command is read and not obeyed.
const fn is_lost(mutant: Option<Mutant>, body: &CommandBody) -> bool {
    matches!(
        (mutant, body),
        (Some(Mutant::LostStop), CommandBody::Stop { .. })
            | (Some(Mutant::LostDrain), CommandBody::Drain { .. })
            | (Some(Mutant::LostStateQuery), CommandBody::StateQuery { .. })
    )
}
