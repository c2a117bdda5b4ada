//! Who believes to hold what, and what that one may do.

use tidegate_core::ids::{Epoch, PartitionId};
use tidegate_core::ledger::Ownership;

use super::super::World;
use super::super::process::{Process, ProcessKey};
use super::Promise;

impl World {
    /// C6.
    pub(in super::super) fn audit_exit(&mut self, key: ProcessKey, clean: bool) {
        if !clean {
            self.stats.unclean_exits += 1;
            return;
        }
        let Some(process) = self.processes.get(&key) else { return };
        let (id, since) = (process.id, process.consumer().and_then(|shell| shell.ends_since));
        let spoke_in = process.consumer().and_then(|shell| shell.consumer.generation());
        // What it has said since may be what was cut: it was acknowledged, and nobody can know more. And what it held in a
        // generation that it knows to be over it has abandoned; that the ledger does not know yet is no word of its own.
        let forgotten = self.audit.lineage.cut_at.is_some_and(|cut| Some(cut) >= since);
        if forgotten || spoke_in > self.audit.reference.generation() {
            return;
        }
        let fold = &self.audit.reference;
        let of_process = |owner| fold.lives().get(owner).is_some_and(|life| life.process == id);
        let left = fold.partitions().find(|(_, ownership)| {
            matches!(ownership, Ownership::Active { incarnation, .. } if of_process(*incarnation))
        });
        if let Some((partition, ownership)) = left {
            self.violate(
                Promise::CleanExit,
                format_args!("{key} leaves {partition} {ownership:?}"),
            );
        }
    }

    /// C1: a process holds only what was granted to it.
    fn audit_grants(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get(&key) else { return };
        let Some(shell) = process.consumer() else { return };
        let now = process.machine.clock(self.now);
        let Some(incarnation) = shell.consumer.incarnation(now) else { return };
        let Some(generation) = shell.consumer.generation() else { return };
        let granted = &self.audit.granted;
        let mut holdings = shell.consumer.holdings();
        let invented = holdings
            .find(|(at, epoch, _)| !granted.contains(&(generation, *at, *epoch, incarnation)));
        drop(holdings);
        if let Some(invented) = invented {
            self.violate(Promise::NothingInvented, format_args!("{key} holds {invented:?}"));
        }
    }

    /// P3, after a step of a process: nobody else believes that it holds what this one does.
    pub(in super::super) fn audit_claims(&mut self, key: ProcessKey) {
        self.audit_grants(key);
        let now = self.now;
        let claims = |process: &Process| -> Vec<(PartitionId, Epoch)> {
            let Some(shell) = process.consumer() else { return Vec::new() };
            if shell.consumer.incarnation(process.machine.clock(now)).is_none() {
                return Vec::new();
            }
            shell.consumer.holdings().map(|(partition, epoch, _)| (partition, epoch)).collect()
        };
        let Some(mine) = self.processes.get(&key).map(claims).filter(|mine| !mine.is_empty())
        else {
            return;
        };
        let others: Vec<_> = self.processes.iter().filter(|(other, _)| **other != key).collect();
        for (other, process) in others {
            let shared = claims(process)
                .into_iter()
                .find(|(partition, _)| mine.iter().any(|(own, _)| own == partition));
            if let Some((partition, epoch)) = shared {
                let what = format!("{partition} by {key} {mine:?} and by {other} in {epoch:?}");
                self.violate(Promise::OneClaim, format_args!("{what}"));
                return;
            }
        }
    }
}
