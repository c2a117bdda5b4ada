//! P5: what is not well, once nothing goes wrong any more.

use tidegate_core::ids::PartitionId;
use tidegate_core::ledger::Ownership;

use super::super::World;
use super::super::process::Process;
use super::Promise;

/// How far a rate that has been constant for long may be measured from what it is: 5 % for the monitor's clock, and a little
/// for what falls between two looks.
const RATE_ERROR_PERMILLE: u64 = 70;

/// What is left of a hot partition's rate (2.5 MB/s) after four and a half time constants of the filter.
const RATE_ERROR: u64 = 28_000;

impl World {
    /// P5: what is not well yet, if anything.
    pub(in super::super) fn ailment(&self) -> Option<String> {
        let leaders: Vec<_> = self
            .processes
            .values()
            .filter_map(Process::controller)
            .filter(|at| at.leads())
            .collect();
        let [leader] = leaders.as_slice() else {
            return Some(format!("{} controllers lead", leaders.len()));
        };
        // What stands still because its sink is behind is never read, and the plan that wants it read is never done.
        let waits = self.audit.behind.values().any(|(_, told)| *told);
        if !waits && leader.controller.plan_state().is_none_or(|plan| plan.done_at.is_none()) {
            return Some("the last plan is not carried out".into());
        }
        let nobody = self.processes.iter().find(|(_, process)| !self.is_known(process));
        if let Some((key, _)) = nobody {
            return Some(format!(
                "{key} is no living incarnation, or does not know that it is one"
            ));
        }
        self.data.produced().keys().find_map(|partition| self.orphaned(*partition))
    }

    /// True unless it is a consumer that should live and does not, or lives in its own eyes only.
    fn is_known(&self, process: &Process) -> bool {
        process.consumer().is_none_or(|shell| {
            let incarnation = shell.consumer.incarnation(process.machine.clock(self.now));
            let present = shell.consumer.generation() == self.audit.reference.generation();
            let known =
                |incarnation| present && self.audit.reference.lives().get(incarnation).is_some();
            shell.consumer.is_leaving() || incarnation.is_some_and(known)
        })
    }

    fn orphaned(&self, partition: PartitionId) -> Option<String> {
        if self.audit.is_told_behind(partition) {
            return None;
        }
        let ownership = self.audit.reference.ownership(partition);
        let Ownership::Active { epoch, incarnation, .. } = ownership else {
            return Some(format!("{partition} is {ownership:?}"));
        };
        let holds = self.processes.values().any(|process| {
            let now = process.machine.clock(self.now);
            process.consumer().is_some_and(|shell| {
                shell.consumer.incarnation(now) == Some(incarnation)
                    && shell.consumer.generation() == self.audit.reference.generation()
                    && shell
                        .consumer
                        .holdings()
                        .any(|(at, held, _)| (at, held) == (partition, epoch))
            })
        });
        (!holds).then(|| format!("{partition} is {ownership:?}, and that process does not hold it"))
    }

    /// Rates that have been constant since the last fault are known as they are.
    pub(in super::super) fn audit_rates(&mut self) {
        let leader = self.processes.values().filter_map(Process::controller).find(|at| at.leads());
        let Some(table) = leader.map(|leader| leader.controller.demand().table()) else { return };
        let wrong = self.data.rates().find_map(|(partition, rate)| {
            let known = table.get(partition).filter(|known| !known.is_missing);
            let measured = known.and_then(|known| known.filtered_rate);
            let allowed = RATE_ERROR + rate * RATE_ERROR_PERMILLE / 1000;
            let right = measured.is_some_and(|measured| measured.abs_diff(rate) <= allowed);
            (!right).then(|| format!("{partition} has {rate} B/s, measured as {measured:?}"))
        });
        if let Some(wrong) = wrong {
            self.violate(Promise::Measured, format_args!("{wrong}"));
        }
    }
}
