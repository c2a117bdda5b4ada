//! What happens at once where a configuration is not about when it happens.
//!
//! Every order that is left out here is explored by another configuration, which leaves out something else.

use tidegate_core::ledger::Record;

use crate::action::{Action, Way};
use crate::process::Payload;
use crate::scenario::{Matter, Scenario};
use crate::state::State;

impl State {
    /// What is in no hurry in the world is in a hurry here, where a configuration is not about it.
    pub(crate) fn hurry(&mut self, scenario: &Scenario) {
        let mut steps = Vec::new();
        while self.audit.broken.is_none() {
            steps.clear();
            self.possible_steps(&mut steps);
            let Some(urgent) = steps.iter().find(|step| self.is_urgent(scenario, **step)) else {
                return;
            };
            match *urgent {
                Action::Send(at, way, fate) => self.send(at, way, fate),
                Action::Read(at) => self.read(at),
                Action::Look(at) => self.look(at),
                Action::Gather(at, partition) => self.gather(at, partition),
                Action::Land(place) => self.land(place),
                _ => return,
            }
            self.judge(scenario);
        }
    }

    fn is_urgent(&self, scenario: &Scenario, step: Action) -> bool {
        match step {
            Action::Send(_, Way::Commands, _) => !scenario.explores(Matter::Commands),
            Action::Send(at, Way::Ledger, _) => !scenario.explores(self.matter_of_append(at)),
            Action::Read(at) => {
                self.process(at).controller().is_some() && !scenario.explores(Matter::Lag)
            }
            Action::Look(_) => !scenario.explores(Matter::Stalls),
            Action::Gather(..) | Action::Land(_) => !scenario.explores(Matter::Writes),
            _ => false,
        }
    }

    /// What the first append of a process is about.
    fn matter_of_append(&self, at: usize) -> Matter {
        let process = self.process(at);
        let first = process.ledger.front().map(|request| &request.payload);
        match first {
            Some(Payload::Ledger(entry)) if is_routine(&entry.record) => Matter::Beats,
            Some(Payload::Ledger(entry)) if entry.record.speaker().is_none() => {
                match entry.record {
                    Record::Hello(_) => Matter::Hellos,
                    _ => Matter::Grants,
                }
            }
            _ => Matter::Events,
        }
    }
}

/// Records that ownership does not follow from.
fn is_routine(record: &Record) -> bool {
    matches!(
        record,
        Record::Heartbeat { .. }
            | Record::Progress { .. }
            | Record::Tick { .. }
            | Record::Snapshot { .. }
    )
}
