//! P5: a deterministic and fair schedule, in which nothing goes wrong any more.
//!
//! Everything that is in flight arrives, everybody reads, looks and works until nothing is left to do; then a second
//! passes. Workers that the controller wants are there, and a controller is. A link that was cut stays cut.

use std::time::Duration;

use tidegate_core::ids::{ConsumerNumber, DirectoryId};
use tidegate_core::ledger::Ownership;

use crate::action::directory;
use crate::process::Claim;
use crate::scenario::Scenario;
use crate::settings;
use crate::share::Shared;
use crate::state::State;

/// Longer than the longest chain: a fence (20 s), an election (12 s), a worker that is counted on in vain (20 s) and passed
/// over (20 s), and a new one's first life (15 s), each once more for what a first try meets.
const HORIZON: Duration = Duration::from_secs(150);

const STEP: Duration = Duration::from_secs(1);

/// Steps at one moment: more are a sign that something goes round in circles.
const STEPS: usize = 2_000;

/// Numbers of directories that workers get which start where the old directory is still locked.
const FRESH_DIRECTORY: u128 = 1000;

impl State {
    /// Lets everything happen that needs no fault, until nothing is left to do. False when that does not end.
    pub(crate) fn quiesce(&mut self, scenario: &Scenario) -> bool {
        let mut actions = Vec::new();
        for _ in 0..STEPS {
            actions.clear();
            self.possible_steps(&mut actions);
            match actions.first() {
                Some(action) if self.audit.broken.is_none() => self.happen(scenario, *action),
                _ => return true,
            }
        }
        false
    }

    /// Does what is left to do, and lets so much time pass that the next decision is free to be made.
    pub(crate) fn rest(&mut self, scenario: &Scenario) {
        self.quiesce(scenario);
        self.now = self.now.after(STEP);
        self.quiesce(scenario);
    }

    /// Lets time pass until everything is well. Tells what is not, if that does not come to be.
    pub(crate) fn recover(&mut self, scenario: &Scenario) -> Result<(), String> {
        let start = self.now;
        loop {
            if !self.quiesce(scenario) {
                return Err("it goes round in circles".into());
            }
            if let Some(broken) = &self.audit.broken {
                return Err(format!("{:?}: {}", broken.0, broken.1));
            }
            let Some(ailment) = self.ailment(scenario) else { return Ok(()) };
            if self.since(start) >= HORIZON {
                return Err(ailment);
            }
            self.start_missing(scenario);
            self.now = self.now.after(STEP);
        }
    }

    /// What the controller's shell and a supervisor of controllers do.
    fn start_missing(&mut self, scenario: &Scenario) {
        for at in 0..self.processes.len() {
            if self.process(at).is_gone() {
                self.reap(at);
            }
        }
        let reachable = |process: &crate::process::Process| {
            process.is_reachable() && process.controller().is_some()
        };
        if !self.processes.iter().any(|process| reachable(process.get())) {
            self.start_controller(scenario);
        }
        let leader = self.processes.iter().find(|process| process.get().leads());
        let wanted = leader.and_then(|leader| Some(leader.get().controller()?.wanted_consumers()));
        for number in wanted.into_iter().flatten() {
            self.start_worker(number);
        }
    }

    fn start_worker(&mut self, number: ConsumerNumber) {
        let mut consumers = self.processes.iter().filter_map(|process| process.get().consumer());
        if consumers.any(|shell| shell.number == number) {
            return;
        }
        let own = directory(number.get());
        let fresh = DirectoryId(FRESH_DIRECTORY + u128::from(number.get()));
        let mut consumers = self.processes.iter().filter_map(|process| process.get().consumer());
        let locked = consumers.any(|shell| shell.directory == own);
        self.start_consumer(number, if locked { fresh } else { own });
    }

    /// What is not well, if anything.
    pub(crate) fn ailment(&self, scenario: &Scenario) -> Option<String> {
        let reign = self.audit.fold().reign();
        let leader = self.processes.iter().map(Shared::get).find(|process| {
            process.is_reachable()
                && process.leads()
                && reign.is_some_and(|reign| reign.process == process.id)
        });
        let Some(leader) = leader.and_then(|leader| leader.controller()) else {
            return Some("nobody leads".into());
        };
        if leader.plan_state().is_none_or(|plan| plan.done_at.is_none()) {
            return Some("the plan is not carried out".into());
        }
        let at_first = |number| {
            let first = Some(ConsumerNumber::FIRST);
            self.audit.fold().consumer_of(settings::partition(number)) == first
        };
        if self.respecified && (0..scenario.partitions).all(at_first) {
            return Some("nothing has left consumer 1".into());
        }
        (0..scenario.partitions).find_map(|number| self.ailment_of(number))
    }

    fn ailment_of(&self, number: u32) -> Option<String> {
        let partition = settings::partition(number);
        let ownership = self.audit.fold().ownership(partition);
        let Ownership::Active { epoch, incarnation, .. } = ownership else {
            return Some(format!("{partition} is {ownership:?}"));
        };
        let generation = self.audit.fold().generation().unwrap_or_default();
        let claim = Claim { generation, partition, epoch, incarnation };
        let mut processes = self.processes.iter().map(Shared::get);
        if !processes.any(|process| process.claims(self.now).contains(&claim)) {
            return Some(format!("{partition} is {ownership:?}, and its owner is not live"));
        }
        if partition != settings::moving() {
            return None;
        }
        let end = self.sink.end(partition);
        (end < self.records).then(|| format!("{partition} is durable to {end} of {}", self.records))
    }
}
