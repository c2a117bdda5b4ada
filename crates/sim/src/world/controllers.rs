//! A controller process: what its shell does with the effects of the state machine.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::controller::{
    Controller, Effect, Input as ControllerInput, Note, Role as Reigning,
};
use tidegate_core::ids::{ConsumerNumber, GroupName, PartitionId, Position, ProcessId};

use super::audit::Promise;
use super::broker::{Payload, Question};
use super::process::{Input, Process, ProcessKey, Role};
use super::scenario::controller_settings;
use super::{Event, Mutant, World};

/// The shell of one controller process.
#[derive(Debug)]
pub(super) struct ControllerShell {
    /// Which of the group's controllers: started again when it dies.
    pub(super) slot: usize,
    pub(super) controller: Controller,
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
        let now = machine.clock(self.now);
        let controller = Controller::new(controller_settings(jitter), group(), id, now);
        let shell = ControllerShell { slot, controller };
        let key = self.start(Process::new(id, machine, Role::Controller(Box::new(shell))));
        self.trace.note(self.now, format_args!("{key} controller"), format_args!("started {id}"));
        self.open_ledger(key);
    }

    pub(super) fn perform_controller(&mut self, key: ProcessKey, effect: Effect) {
        match effect {
            Effect::Append(entry) => self.append(key, None, &Payload::Ledger(entry)),
            Effect::Command(consumer, command) => {
                self.audit_command(key, &command);
                let command = self.twisted(command);
                self.trace.note(
                    self.now,
                    format_args!("{key} controller"),
                    format_args!("to c{consumer}: {command:?}"),
                );
                self.append(key, None, &Payload::Command(consumer, command));
            }
            Effect::FetchLedgerEnd(id) => self.ask(key, Question::Ledger(id)),
            Effect::ResolveStarts(partitions) => {
                let starts: BTreeMap<PartitionId, Position> =
                    partitions.into_iter().map(|partition| (partition, Position(0))).collect();
                let latency = self.latency();
                self.deliver(latency, key, Input::Controller(ControllerInput::Starts(starts)));
            }
            Effect::LookForTraces => {
                let latency = self.latency();
                self.deliver(latency, key, Input::Controller(ControllerInput::Traces(false)));
            }
            // Topics are never deleted in this world.
            Effect::CheckTopics(_) => {}
            Effect::Trim(consumer, below) => self.trim(consumer, below),
            Effect::EnsureWorker(consumer) => {
                self.trace.note(
                    self.now,
                    format_args!("{key}"),
                    format_args!("ensure c{consumer}"),
                );
                let latency = self.latency();
                self.queue.schedule(self.now.after(latency), Event::Ensure(consumer));
            }
            Effect::RemoveWorker(consumer) => {
                self.trace.note(
                    self.now,
                    format_args!("{key}"),
                    format_args!("remove c{consumer}"),
                );
                self.audit_removal(key, consumer);
                let latency = self.latency();
                self.queue.schedule(self.now.after(latency), Event::Remove(consumer));
            }
            Effect::RefuseLedger => {
                self.violate(Promise::Ledger, format_args!("{key} refuses its own group's ledger"));
            }
            Effect::Note(note) => self.noted(key, &note),
        }
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
            Note::SnapshotDiffers(upto) => {
                self.violate(Promise::Ledger, format_args!("a snapshot of {upto:?} differs"));
            }
        }
    }

    /// Under one mutant consumers never hear a Stop.
    fn twisted(
        &self,
        mut command: tidegate_core::ledger::Command,
    ) -> tidegate_core::ledger::Command {
        use tidegate_core::ledger::CommandBody;
        if self.scenario.mutant == Some(Mutant::NoStop)
            && matches!(command.body, CommandBody::Stop { .. })
        {
            command.body = CommandBody::Unknown { kind: "stop".into() };
        }
        command
    }

    /// Every controller learns something about a worker.
    pub(super) fn tell_controllers(
        &mut self,
        consumer: ConsumerNumber,
        exists: bool,
        died: Option<ProcessId>,
    ) {
        let view = tidegate_core::controller::WorkerView { consumer, exists, died };
        let controllers: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| process.controller().is_some())
            .map(|(key, _)| *key)
            .collect();
        for key in controllers {
            let input = Input::Controller(ControllerInput::Worker(view));
            self.deliver(Duration::from_millis(50), key, input);
        }
    }
}
