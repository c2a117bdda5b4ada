//! What the ledger means: the fold against its table, every reader's fold, and what controllers do.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::controller::Role;
use tidegate_core::ids::{ConsumerNumber, Offset, PartitionId, Term};
use tidegate_core::ledger::{
    Change, Command, CommandBody, Entry, Evidence, Fold, Record, StopReason,
};

use super::super::World;
use super::super::broker::Log;
use super::super::duel::held;
use super::super::process::{Link, Process, ProcessKey};
use super::Promise;

/// A controller says something every two seconds, and again every second until it has read it; three such times may be
/// lost, and the slowest reader is three seconds late.
const VIGOUR: Duration = Duration::from_secs(10);

impl World {
    /// A record was appended: `read` is what readers make of it, `entry` what it says.
    pub(in super::super) fn audit_record(&mut self, at: Offset, entry: &Entry, read: &Entry) {
        let (before, generation) =
            (self.audit.reference.reign(), self.audit.reference.generation());
        let known: Vec<_> = self.audit.reference.partitions().collect();
        let applied = self.audit.reference.apply(at, read);
        self.audit.shadow.apply(at, entry);
        match &applied {
            Ok(change) => self.count(&entry.record, change, before.is_some()),
            Err(reason) => *self.stats.ignored.entry(format!("{reason:?}")).or_default() += 1,
        }
        self.stats.states += u64::from(matches!(entry.record, Record::State { .. }));
        self.audit.lineage.keep(at, entry, read);
        if applied.is_ok() {
            self.audit_settling(at, entry, generation);
        }
        let begun = self.audit.reference.generation();
        self.audit_tenures(at, &known);
        self.audit_positions(at, if begun == generation { &known } else { &[] });
        let owned = self.audit.reference.partitions().filter_map(|(partition, ownership)| {
            ownership
                .owner()
                .zip(begun)
                .map(|((epoch, owner), generation)| (generation, partition, epoch, owner))
        });
        self.audit.granted.extend(owned);
        let after = self.audit.reference.reign();
        if after != before {
            self.audit.reign_heard = self.now;
        }
        if (applied.is_ok() || after != before)
            && let Some(seal) = entry.record.seal()
        {
            let rises = before.is_some_and(|reign| reign.term == seal.term && reign.seq < seal.seq);
            if !rises || !self.audit.effects.insert((seal.term, seal.seq)) {
                self.violate(Promise::InOrder, format_args!("{at:?} {entry:?} after {before:?}"));
            }
        }
        let folded: BTreeMap<_, _> = self
            .audit
            .reference
            .partitions()
            .map(|(partition, at)| (partition, held(at)))
            .collect();
        let living = self.audit.reference.lives().iter().map(|(incarnation, _)| incarnation);
        let same_lives = living.eq(self.audit.shadow.living_ones());
        if folded != self.audit.shadow.held || !same_lives {
            let shadow = format!("{:?}", self.audit.shadow);
            self.violate(
                Promise::Ledger,
                format_args!("{at:?}: {folded:?}, but by the table {shadow}"),
            );
        }
    }

    fn count(&mut self, record: &Record, change: &Change, reigned: bool) {
        match record {
            Record::Elect { .. } if reigned => self.stats.takeovers += 1,
            Record::Fenced { evidence: Evidence::Silence, .. } => self.stats.fences += 1,
            Record::Fenced { evidence: Evidence::Death, .. } => self.stats.deaths += 1,
            Record::Hello(_) => self.stats.hellos_with_proof += change.ended.len() as u64,
            Record::Plan { .. } => self.stats.plans += 1,
            _ => {}
        }
        let commanded = matches!(record, Record::Stopped { reason: StopReason::Command, .. });
        let lives = self.audit.reference.lives();
        for (partition, owner) in &change.freed {
            if let Some(from) = lives.consumer_of(*owner) {
                self.audit.between.insert(*partition, (from, commanded));
            }
        }
        for partition in &change.activated {
            let to = self.audit.reference.consumer_of(*partition);
            match self.audit.between.remove(partition) {
                Some((from, true)) if to != Some(from) => self.stats.handoffs += 1,
                Some(_) => self.stats.recoveries += 1,
                None => {}
            }
        }
    }

    /// P1: whoever has read everything knows the same.
    pub(in super::super) fn audit_fold(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get(&key) else { return };
        let Some(shell) = process.controller().filter(|_| is_informed(process)) else { return };
        let fold = shell.controller.fold();
        let position = fold.position();
        let compared = self.audit.compared.insert(key, position);
        if compared == Some(position) || position != self.audit.reference.position() {
            return;
        }
        if *fold != self.audit.reference {
            self.violate(Promise::Ledger, format_args!("{key} has another fold at {position:?}"));
        }
    }

    /// K1, and that only the dead are told that they are.
    pub(in super::super) fn audit_command(
        &mut self,
        key: ProcessKey,
        to: ConsumerNumber,
        command: &Command,
    ) {
        let incarnation = command.incarnation;
        if let CommandBody::Start { epoch, partitions, .. } = &command.body {
            let granted = &self.audit.granted;
            let generation = command.generation;
            let is_granted = |at| granted.contains(&(generation, at, *epoch, incarnation));
            if !partitions.iter().all(|(at, _)| is_granted(*at)) {
                self.violate(Promise::NothingInvented, format_args!("{key} sends {command:?}"));
            }
        }
        // A Stop of a grant that is over takes nothing from anybody: it bars that grant for ever.
        if let CommandBody::Stop { epoch, partitions, .. } = &command.body
            && let Some(partition) = partitions.iter().find(|at| {
                self.audit.reference.ownership(**at).owner() == Some((*epoch, incarnation))
                    && self.is_taken_for_nobody(key, **at)
            })
        {
            let what = format_args!("{key} takes {partition}, and nobody is there to have it");
            self.violate(Promise::OnlyToReady, what);
        }
        let lives = self.audit.reference.generation() == Some(command.generation)
            && self
                .audit
                .reference
                .lives()
                .get(incarnation)
                .is_some_and(|life| life.consumer == to);
        // An end may have been lost with the rest, and its controller not know yet.
        let informed = self.processes.get(&key).is_some_and(is_informed);
        if command.body == CommandBody::Ended && lives && informed {
            self.violate(Promise::LifeRespected, format_args!("{key} sends {command:?}"));
        }
    }

    fn is_taken_for_nobody(&self, key: ProcessKey, partition: PartitionId) -> bool {
        let shell = self.processes.get(&key).and_then(Process::controller);
        shell.is_some_and(|shell| lacks_taker(shell.controller.fold(), partition))
    }

    /// K5, by what the controller itself knows.
    pub(in super::super) fn audit_removal(&mut self, key: ProcessKey, consumer: ConsumerNumber) {
        let Some(shell) = self.processes.get(&key).and_then(Process::controller) else { return };
        let fold = shell.controller.fold();
        let owns = fold.partitions().any(|(at, _)| fold.consumer_of(at) == Some(consumer));
        let planned = shell.controller.target().values().any(|target| *target == consumer);
        if owns || planned {
            self.violate(
                Promise::WorkersStay,
                format_args!(
                    "{key} removes c{consumer}, which owns: {owns}, is planned: {planned}"
                ),
            );
        }
    }

    /// P5: a controller that can read and append is heard.
    pub(in super::super) fn audit_vigour(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get(&key) else { return };
        let leads = process.controller().is_some_and(|shell| {
            let reign = self.audit.reference.reign();
            shell.controller.role()
                == Role::Leading { term: reign.map_or(Term(Offset(0)), |at| at.term) }
        });
        let leaderless = self.broker.leaderless.get(&Log::Ledger).copied().unwrap_or_default();
        let broker_well = self.weather.broker_down_until.max(leaderless);
        let harmed = process.harmed_until().max(broker_well);
        let well_since = harmed.max(self.audit.reign_heard);
        if leads && self.now.since(well_since) > VIGOUR {
            let heard = self.audit.reign_heard;
            self.violate(
                Promise::Recovery,
                format_args!("{key} leads and is well, but silent since {heard:?}"),
            );
        }
    }
}

/// True when the plan gives a partition to a consumer that does not live.
/// Whether a controller knows the ledger as it is: it does not look for where to begin, and has taken in what is gone.
fn is_informed(process: &Process) -> bool {
    let shell = process.controller();
    shell.is_some_and(|shell| {
        let up_to_date = process.link == Link::Sound && shell.opened == process.opens;
        up_to_date && !shell.controller.is_replaying()
    })
}

fn lacks_taker(fold: &Fold, partition: PartitionId) -> bool {
    let mut moves = fold.plan().into_iter().flat_map(|plan| &plan.body.moves);
    let to = moves.find(|change| change.partition == partition).and_then(|change| change.to);
    to.is_some_and(|to| fold.lives().current(to).is_none())
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::{Generation, ProcessId, TopicId};
    use tidegate_core::ledger::{Move, PlanBody, Seal};

    use super::super::super::controllers::group;
    use super::*;

    const PARTITION: PartitionId = PartitionId { topic: TopicId([7; 16]), number: 0 };

    #[test]
    fn a_partition_that_is_planned_for_a_consumer_without_a_life_lacks_a_taker() {
        let to = Some(ConsumerNumber::FIRST);
        let moved = Move { partition: PARTITION, from: None, to, reason: "unassigned".into() };
        let plan = PlanBody { moves: vec![moved], ..PlanBody::default() };
        let seal = Seal { term: Term(Offset(1)), seq: 1 };
        let records = [
            Record::Genesis { group: group(), first: true },
            Record::Elect { process: ProcessId(1), attempt: 1 },
            Record::Plan { seal, plan },
        ];
        let mut fold = Fold::new(group());
        assert!(!lacks_taker(&fold, PARTITION), "no plan takes nothing");
        for (at, record) in (0..).zip(records) {
            let entry = Entry { generation: Generation(1), record };
            assert!(fold.apply(Offset(at), &entry).is_ok());
        }
        assert!(lacks_taker(&fold, PARTITION));
    }
}
