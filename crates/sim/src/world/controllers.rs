//! A controller process: what its shell does with the effects of the state machine.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::controller::{
    Controller, Effect, Input as ControllerInput, Note, Role as Reigning, Steering, WorkerView,
};
use tidegate_core::ids::{
    ConsumerNumber, Epoch, Generation, GroupName, Offset, PartitionId, Position, ProcessId,
};
use tidegate_core::ledger::{Command, CommandBody, Entry, Record};

use super::audit::{Patience, Promise};
use super::broker::{Payload, Question};
use super::process::{Input, Process, ProcessKey, Role};
use super::scenario::controller_settings;
use super::{Mutant, World};

/// The shell of one controller process.
#[derive(Debug)]
pub(super) struct ControllerShell {
    /// Which of the group's controllers: started again when it dies.
    pub(super) slot: usize,
    pub(super) controller: Controller,
    /// What the auditors know of its standing for election.
    pub(super) patience: Patience,
    /// How often it has taken in that its log was opened.
    pub(super) opened: u64,
    /// The last generation that it was told to have lost records.
    pub(super) lost: Option<Generation>,
    /// Workers that are to run or to end, and the API has not confirmed it.
    pub(super) wishes: BTreeMap<ConsumerNumber, bool>,
}

impl ControllerShell {
    pub(super) fn leads(&self) -> bool {
        matches!(self.controller.role(), Reigning::Leading { .. })
    }
}

pub(super) fn group() -> GroupName {
    GroupName("simulated".into())
}

impl World {
    pub(super) fn start_controller(&mut self, slot: usize) {
        let id = ProcessId(self.rng.wide());
        let Some(machine) = self.machines.get(slot % self.machines.len()).copied() else { return };
        let jitter = self.rng.between(Duration::ZERO, Duration::from_millis(1500));
        let (now, genesis) = (machine.clock(self.now), self.unix_time());
        let mut settings = controller_settings(jitter, genesis);
        // Some groups are run by whom a lease chooses.
        settings.deposes = self.seed % 8 == 5;
        let patience = Patience::new(settings.elect_after, settings.deposes, now);
        if self.scenario.mutant == Some(Mutant::HastyElection) {
            settings.elect_after = Duration::from_secs(4);
        }
        // Some groups have no room for another consumer beside one that is to be left.
        if self.seed % 4 == 2 {
            settings.demand.max_consumers = 3;
            settings.demand.max_surge = u32::from(self.seed % 8 == 2);
        }
        let controller = Controller::new(settings, group(), id, now);
        let shell = ControllerShell {
            slot,
            controller,
            patience,
            opened: 0,
            lost: None,
            wishes: BTreeMap::new(),
        };
        let key = self.start(Process::new(id, machine, Role::Controller(Box::new(shell))));
        self.trace.note(self.now, format_args!("{key} controller"), format_args!("started {id}"));
        self.open_ledger(key);
    }

    fn steering(&self) -> ControllerInput {
        ControllerInput::Steering(Steering { leave: self.leaving.clone(), ..Steering::default() })
    }

    /// What a person wishes reaches every controller.
    pub(super) fn tell_leaving(&mut self) {
        for key in self.controllers() {
            self.give(key, Input::Controller(self.steering()));
        }
    }

    pub(super) fn perform_controller(&mut self, key: ProcessKey, effect: Effect) {
        match effect {
            Effect::Append(mut entry) => {
                if let (Some(Mutant::FirstAgain), Record::Genesis { first, .. }) =
                    (self.scenario.mutant, &mut entry.record)
                {
                    *first = true;
                }
                let withdraws = matches!(&entry.record, Record::Plan { plan, .. }
                    if plan.moves.iter().any(|change| change.to.is_none()));
                self.stats.withdrawals += u64::from(withdraws);
                self.audit_halt(key, &entry);
                self.be_hasty(key, &entry);
                self.append(key, None, &Payload::Ledger(entry));
            }
            Effect::Command(consumer, command) => {
                let command = self.twisted(command);
                self.audit_command(key, consumer, &command);
                self.trace.note(
                    self.now,
                    format_args!("{key} controller"),
                    format_args!("to c{consumer}: {command:?}"),
                );
                self.append(key, None, &Payload::Command(consumer, command));
            }
            Effect::FetchLedgerEnd(id) => self.ask(key, Question::Ledger(id)),
            Effect::AskSteering => self.give(key, Input::Controller(self.steering())),
            Effect::LookForTraces => {
                let latency = self.latency();
                let traces = !self.workers.is_empty() || !self.committed.is_empty();
                self.deliver(latency, key, Input::Controller(ControllerInput::Traces(traces)));
            }
            // Topics are never deleted in this world.
            Effect::CheckTopics(_) => {}
            Effect::Trim(consumer, below) => self.trim(consumer, below),
            Effect::ResolveStarts(partitions) => self.resolve_starts(key, partitions),
            Effect::EnsureWorker(consumer) => self.wish(key, consumer, true),
            Effect::RemoveWorker(consumer) => {
                self.audit_removal(key, consumer);
                self.wish(key, consumer, false);
            }
            Effect::RefuseLedger => {
                self.violate(Promise::Ledger, format_args!("{key} refuses its own group's ledger"));
            }
            Effect::Note(note) => self.noted(key, &note),
        }
    }

    fn resolve_starts(&mut self, key: ProcessKey, partitions: Vec<PartitionId>) {
        let [unsure, _] = self.weather.ends;
        if self.now < self.weather.broker_down_until || self.rng.chance(unsure) {
            return;
        }
        let start = |at: PartitionId| {
            let committed = self.committed.get(&at).copied();
            (at, committed.unwrap_or_else(|| Position(self.data.start(at))))
        };
        let starts: BTreeMap<PartitionId, Position> = partitions.into_iter().map(start).collect();
        let latency = self.latency();
        self.deliver(latency, key, Input::Controller(ControllerInput::Starts(starts)));
    }

    fn noted(&mut self, key: ProcessKey, note: &Note) {
        self.trace.note(self.now, format_args!("{key} controller"), format_args!("{note:?}"));
        match note {
            Note::Decided(_) => self.stats.decisions += 1,
            Note::PlanInfeasible(_) => self.stats.infeasible += 1,
            Note::Moved { planned: true, pause: Some(_), .. } => self.stats.handoffs_seen += 1,
            Note::Leading(_)
            | Note::Ignored(..)
            | Note::Undecodable(_)
            | Note::Joined(..)
            | Note::Waiting(..)
            | Note::Fencing(..)
            | Note::PlanDone(..)
            | Note::Late(_)
            | Note::Moved { .. }
            | Note::Genesis(_)
            | Note::TopicsGone(_) => {}
            Note::Snapshot(_) => self.stats.snapshots += 1,
            // One was written of what was cut.
            Note::SnapshotDiffers(upto) if self.audit.lineage.was_cut_below(*upto) => {}
            Note::SnapshotDiffers(upto) => {
                self.violate(Promise::Ledger, format_args!("a snapshot of {upto:?} differs"));
            }
        }
    }

    /// Under some mutants consumers hear something else than what they were told.
    fn twisted(&self, mut command: Command) -> Command {
        match (self.scenario.mutant, &command.body) {
            (Some(Mutant::NoStop), CommandBody::Stop { .. }) => {
                command.body = CommandBody::Unknown { kind: "stop".into() };
            }
            (Some(Mutant::FalseEnded), CommandBody::Stop { .. }) => {
                command.body = CommandBody::Ended;
            }
            _ => {}
        }
        command
    }

    /// Under some mutants a controller acts before it knows.
    fn be_hasty(&mut self, key: ProcessKey, entry: &Entry) {
        let Record::Grant { seal, consumer, incarnation, partitions } = &entry.record else {
            return;
        };
        match self.scenario.mutant {
            Some(Mutant::EpochFromAcknowledgement) => {
                let at = Offset(self.broker.ledger.len().try_into().unwrap_or(u64::MAX));
                let (term, partitions) = (seal.term, partitions.clone());
                let body = CommandBody::Start { term, epoch: Epoch(at), partitions };
                let command =
                    Command { generation: entry.generation, incarnation: *incarnation, body };
                self.perform_controller(key, Effect::Command(*consumer, command));
            }
            Some(Mutant::HastyRemoval) if self.is_stormy() => {
                self.perform_controller(key, Effect::RemoveWorker(*consumer));
            }
            _ => {}
        }
    }

    pub(super) fn controllers(&self) -> Vec<ProcessKey> {
        let is_controller = |(_, process): &(&ProcessKey, &Process)| process.controller().is_some();
        self.processes.iter().filter(is_controller).map(|(key, _)| *key).collect()
    }

    pub(super) fn controller_mut(&mut self, key: ProcessKey) -> Option<&mut ControllerShell> {
        match &mut self.processes.get_mut(&key)?.role {
            Role::Controller(shell) => Some(shell),
            Role::Consumer(_) => None,
        }
    }

    /// Every controller learns something about a worker, once the API can be reached.
    pub(super) fn tell_controllers(
        &mut self,
        consumer: ConsumerNumber,
        exists: bool,
        died: Option<ProcessId>,
    ) {
        for key in self.controllers() {
            self.tell_controller(key, consumer, exists, died);
        }
    }

    pub(super) fn tell_controller(
        &mut self,
        key: ProcessKey,
        consumer: ConsumerNumber,
        exists: bool,
        died: Option<ProcessId>,
    ) {
        let view = WorkerView { consumer, exists, died };
        let waits = self.weather.api_down_until.since(self.now);
        let input = Input::Controller(ControllerInput::Worker(view));
        self.deliver(Duration::from_millis(50) + waits, key, input);
    }
}
