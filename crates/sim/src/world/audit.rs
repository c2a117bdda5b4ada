//! The auditors: after each event they look whether every promise is kept, with eyes that no process has.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use tidegate_core::controller::Role;
use tidegate_core::ids::{ConsumerNumber, Epoch, Incarnation, Offset, PartitionId, Term};
use tidegate_core::ledger::{
    Change, Command, CommandBody, Entry, Evidence, Fold, Ownership, Record, StopReason,
};

use super::World;
use super::controllers::group;
use super::process::{Process, ProcessKey};
use super::queue::Moment;
use super::shadow::{Held, Shadow};
use super::sink::Write;

/// A controller says something every two seconds, and again every second until it has read it; three such times may be
/// lost, and the slowest reader is three seconds late.
const VIGOUR: Duration = Duration::from_secs(10);

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// P1: at each position of the ledger a partition has at most one valid owner: the fold says what its table says,
    /// and every reader's fold says the same.
    Ledger,
    /// P2: with a sink that compares, no offset is written twice; with any, none is left out.
    ExactlyOnce,
    /// Nothing that the ledger calls durable is missing in the sink.
    NothingLost,
    /// P3: no two processes believe at one moment that they hold a partition.
    OneClaim,
    /// C2, C3, C4: a lease lasts from before what was acknowledged last, who cannot hear cannot renew it, and no write
    /// begins that could outlast it.
    Lease,
    /// P4: each record of a controller takes effect at most once, in the order of its `seq`.
    InOrder,
    /// C5: nothing is written after it was said that it stopped.
    QuietAfterStop,
    /// L3: a known position never goes back.
    NeverBack,
    /// K5: no worker is removed while its consumer owns something or is to get it.
    WorkersStay,
    /// K1, C1: nobody is told to read, or believes that it holds, what the ledger never granted it.
    NothingInvented,
    /// No living incarnation is told that it has ended.
    LifeRespected,
    /// C6: who says that it left in order has nothing left.
    CleanExit,
    /// P5: once nothing goes wrong any more, everything is well again in time.
    Recovery,
}

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub promise: Promise,
    /// When.
    pub at: Moment,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}: {}", self.promise, self.at.since(Moment(0)), self.what)
    }
}

/// What the auditors remember.
#[derive(Debug)]
pub(super) struct Audit {
    /// The production fold over everything that was appended.
    pub(super) reference: Fold,
    shadow: Shadow,
    /// How far each partition is durable without a hole.
    pub(super) durable: BTreeMap<PartitionId, u64>,
    /// What processes have said that they stopped.
    pub(super) stopped: BTreeSet<(ProcessKey, PartitionId, Epoch)>,
    /// Partitions between two owners: who had it, and whether that one stopped when told to.
    between: BTreeMap<PartitionId, (ConsumerNumber, bool)>,
    /// Controllers' records that took effect.
    effects: BTreeSet<(Term, u64)>,
    compared: BTreeMap<ProcessKey, Offset>,
    /// Everything that was ever granted.
    granted: BTreeSet<(PartitionId, Epoch, Incarnation)>,
    /// When the last record of a controller took effect.
    reign_heard: Moment,
    pub(super) violation: Option<Violation>,
}

impl Audit {
    pub(super) fn new() -> Self {
        Self {
            reference: Fold::new(group()),
            shadow: Shadow::default(),
            durable: BTreeMap::new(),
            stopped: BTreeSet::new(),
            between: BTreeMap::new(),
            effects: BTreeSet::new(),
            compared: BTreeMap::new(),
            granted: BTreeSet::new(),
            reign_heard: Moment(0),
            violation: None,
        }
    }
}

fn held(ownership: Ownership) -> Held {
    Held { owner: ownership.owner(), next: ownership.next() }
}

impl World {
    /// The first broken promise counts: what comes after may follow from it.
    pub(super) fn violate(&mut self, promise: Promise, what: fmt::Arguments<'_>) {
        self.trace.note(self.now, format_args!("audit"), format_args!("{promise:?} {what}"));
        if self.audit.violation.is_none() {
            let violation = Violation { promise, at: self.now, what: what.to_string() };
            self.audit.violation = Some(violation);
        }
    }

    /// A record was appended: `read` is what readers make of it, `entry` what it says.
    pub(super) fn audit_record(&mut self, at: Offset, entry: &Entry, read: &Entry) {
        let before = self.audit.reference.reign();
        let known: Vec<_> = self.audit.reference.partitions().collect();
        let applied = self.audit.reference.apply(at, read);
        self.audit.shadow.apply(at, entry);
        match &applied {
            Ok(change) => self.count(&entry.record, change, before.is_some()),
            Err(reason) => *self.stats.ignored.entry(format!("{reason:?}")).or_default() += 1,
        }
        self.audit_positions(at, &known);
        let owned = self.audit.reference.partitions().filter_map(|(partition, ownership)| {
            ownership.owner().map(|(epoch, owner)| (partition, epoch, owner))
        });
        self.audit.granted.extend(owned);
        let after = self.audit.reference.reign();
        if after != before {
            self.audit.reign_heard = self.now;
        }
        if after != before
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

    fn audit_positions(&mut self, at: Offset, before: &[(PartitionId, Ownership)]) {
        for (partition, ownership) in before {
            let now = self.audit.reference.ownership(*partition);
            if now.next() < ownership.next() {
                self.violate(
                    Promise::NeverBack,
                    format_args!("{at:?} {partition}: {ownership:?} -> {now:?}"),
                );
            }
            let durable = self.audit.durable.get(partition).copied().unwrap_or(0);
            if now.next().is_some_and(|next| next.0 > durable) {
                self.violate(
                    Promise::NothingLost,
                    format_args!("{at:?} {partition}: {now:?}, but durable to {durable}"),
                );
            }
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
    pub(super) fn audit_fold(&mut self, key: ProcessKey) {
        let Some(shell) = self.processes.get(&key).and_then(Process::controller) else { return };
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
    pub(super) fn audit_command(&mut self, key: ProcessKey, command: &Command) {
        let incarnation = command.incarnation;
        if let CommandBody::Start { epoch, partitions, .. } = &command.body {
            let granted = &self.audit.granted;
            if !partitions.iter().all(|(at, _)| granted.contains(&(*at, *epoch, incarnation))) {
                self.violate(Promise::NothingInvented, format_args!("{key} sends {command:?}"));
            }
        }
        let lives = self.audit.reference.lives().get(incarnation).is_some();
        if command.body == CommandBody::Ended && lives {
            self.violate(Promise::LifeRespected, format_args!("{key} sends {command:?}"));
        }
    }

    /// C6.
    pub(super) fn audit_exit(&mut self, key: ProcessKey, clean: bool) {
        if !clean {
            self.stats.unclean_exits += 1;
            return;
        }
        let Some(id) = self.processes.get(&key).map(|process| process.id) else { return };
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
        let granted = &self.audit.granted;
        let mut holdings = shell.consumer.holdings();
        let invented =
            holdings.find(|(at, epoch, _)| !granted.contains(&(*at, *epoch, incarnation)));
        drop(holdings);
        if let Some(invented) = invented {
            self.violate(Promise::NothingInvented, format_args!("{key} holds {invented:?}"));
        }
    }

    /// P3, after a step of a process: nobody else believes that it holds what this one does.
    pub(super) fn audit_claims(&mut self, key: ProcessKey) {
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

    /// C5.
    pub(super) fn audit_write_begins(&mut self, write: &Write) {
        let (from, partition, epoch) = (write.from, write.partition, write.token.epoch);
        if self.audit.stopped.contains(&(from, partition, epoch)) {
            self.violate(
                Promise::QuietAfterStop,
                format_args!("{from} writes {partition} in {epoch:?}"),
            );
        }
    }

    /// P2: a write has become durable.
    pub(super) fn audit_write(&mut self, write: &Write) {
        self.stats.writes += 1;
        let durable = self.audit.durable.entry(write.partition).or_default();
        let end = *durable;
        *durable = end.max(write.end);
        let (expected, partition) = (write.expected, write.partition);
        if expected > end {
            self.violate(
                Promise::ExactlyOnce,
                format_args!("{partition}: {end}..{expected} is left out"),
            );
        } else if expected < end {
            self.stats.repeated += end.min(write.end) - expected;
            if self.sink.fenced {
                self.violate(
                    Promise::ExactlyOnce,
                    format_args!("{partition}: {expected}..{end} again"),
                );
            }
        }
    }

    /// K5, by what the controller itself knows.
    pub(super) fn audit_removal(&mut self, key: ProcessKey, consumer: ConsumerNumber) {
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
    pub(super) fn audit_vigour(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get(&key) else { return };
        let leads = process.controller().is_some_and(|shell| {
            let reign = self.audit.reference.reign();
            shell.controller.role()
                == Role::Leading { term: reign.map_or(Term(Offset(0)), |at| at.term) }
        });
        let harmed = process.harmed_until().max(self.weather.broker_down_until);
        let well_since = harmed.max(self.audit.reign_heard);
        if leads && self.now.since(well_since) > VIGOUR {
            let heard = self.audit.reign_heard;
            self.violate(
                Promise::Recovery,
                format_args!("{key} leads and is well, but silent since {heard:?}"),
            );
        }
    }

    /// P5: what is not well yet, if anything.
    pub(super) fn ailment(&self) -> Option<String> {
        let leaders: Vec<_> = self
            .processes
            .values()
            .filter_map(Process::controller)
            .filter(|at| at.leads())
            .collect();
        let [leader] = leaders.as_slice() else {
            return Some(format!("{} controllers lead", leaders.len()));
        };
        if leader.controller.plan_state().is_none_or(|plan| plan.done_at.is_none()) {
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
            let known = |incarnation| self.audit.reference.lives().get(incarnation).is_some();
            shell.consumer.is_leaving() || incarnation.is_some_and(known)
        })
    }

    fn orphaned(&self, partition: PartitionId) -> Option<String> {
        let ownership = self.audit.reference.ownership(partition);
        let Ownership::Active { epoch, incarnation, .. } = ownership else {
            return Some(format!("{partition} is {ownership:?}"));
        };
        let holds = self.processes.values().any(|process| {
            let now = process.machine.clock(self.now);
            process.consumer().is_some_and(|shell| {
                shell.consumer.incarnation(now) == Some(incarnation)
                    && shell
                        .consumer
                        .holdings()
                        .any(|(at, held, _)| (at, held) == (partition, epoch))
            })
        });
        (!holds).then(|| format!("{partition} is {ownership:?}, and that process does not hold it"))
    }

    /// P5: the first partition whose records are not all in the sink.
    pub(super) fn undrained(&self) -> Option<String> {
        let durable = |partition| self.audit.durable.get(partition).copied().unwrap_or(0);
        let produced = self.data.produced();
        let behind = produced.iter().find(|(partition, end)| durable(partition) < **end);
        behind.map(|(partition, end)| {
            format!("{partition} is durable to {} of {end}", durable(partition))
        })
    }
}
