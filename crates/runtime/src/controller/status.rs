//! What the controller shows: the ledger, the plan and the load put side by side, once a second.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tidegate_core::controller::{Explanation, Note, Role};
use tidegate_core::ids::{ConsumerNumber, Incarnation, Instant, PartitionId, TopicId};
use tidegate_core::ledger::{Move, Ownership};
use tidegate_core::pack::Binding;
use tidegate_wire::status::{
    ConsumerRow, Decision, Mode, OverrideRow, Ownership as OwnershipWord, PartitionRow, PlanStatus,
    RaisedAlarm, Role as RoleWord, SpecSummary, TopicRow, Waiting, WorkerPhase,
};
use tidegate_wire::{Alarm, Status};

use super::rolling;
use super::shell::Shell;
use crate::ports::Phase;
use crate::spec;

/// How many decisions are shown.
const DECISIONS: usize = 20;

/// How often a worker may have been started until it counts as crash-looping.
const CRASH_LOOP_STARTS: u32 = 5;

/// What only the past knows.
#[derive(Debug, Default)]
pub(super) struct History {
    decisions: VecDeque<Decision>,
    /// Alarms that were raised before, with their begin.
    since: BTreeMap<Alarm, u64>,
    late: BTreeMap<ConsumerNumber, u64>,
    infeasible: Option<String>,
}

impl History {
    /// Takes a note up.
    pub(super) fn note(&mut self, note: &Note, at_unix_ms: u64) {
        match note {
            Note::Decided(explanation) => {
                self.infeasible = None;
                self.decisions.push_front(decision(explanation, at_unix_ms));
                self.decisions.truncate(DECISIONS);
            }
            Note::PlanInfeasible(error) => self.infeasible = Some(error.to_string()),
            Note::Late(consumer) => {
                self.late.insert(*consumer, at_unix_ms);
            }
            Note::Joined(consumer, _) => {
                self.late.remove(consumer);
            }
            Note::Leading(_)
            | Note::Ignored(..)
            | Note::Undecodable(_)
            | Note::Waiting(..)
            | Note::Fencing(..)
            | Note::PlanDone(..)
            | Note::Moved { .. }
            | Note::Genesis(_)
            | Note::TopicsGone(_)
            | Note::Snapshot(_)
            | Note::SnapshotDiffers(_) => {}
        }
    }
}

fn decision(explanation: &Explanation, at_unix_ms: u64) -> Decision {
    let report = &explanation.solution.report;
    Decision {
        at_unix_ms,
        trigger: explanation.trigger.name().to_owned(),
        moves: count(explanation.moves.len()),
        reasons: reasons(&explanation.moves),
        cost_permille: report.r_score_permille,
        consumers_before: report.consumers_before,
        consumers_after: report.consumers_after,
        raw_consumers: explanation.raw_consumers,
        lower_bound: report.lower_bound.consumers(),
        bound_by: report.bound_by.iter().map(|bound| bound.name().to_owned()).collect(),
    }
}

fn reasons(moves: &[Move]) -> BTreeMap<String, u32> {
    moves.iter().fold(BTreeMap::new(), |mut counts, change| {
        *counts.entry(change.reason.clone()).or_default() += 1;
        counts
    })
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The status now.
pub(super) fn of(shell: &mut Shell) -> Status {
    let now = shell.clock.now();
    let at_unix_ms = shell.clock.unix_ms();
    let alarms = alarms(shell, at_unix_ms);
    let ending = rolling::ending(&shell.core, &shell.workers);
    let view = View { shell, now, ending };
    let consumers = view.consumers();
    let core = &shell.core;
    Status {
        group: shell.config().group.0.clone(),
        mode: match shell.config().mode {
            spec::Mode::Observe => Mode::Observe,
            spec::Mode::Own => Mode::Own,
        },
        at_unix_ms,
        generation: core.fold().generation().map(|generation| generation.0),
        process: shell.process.to_string(),
        role: match core.role() {
            Role::Following => RoleWord::Follower,
            Role::Standing { .. } => RoleWord::Candidate,
            Role::Leading { .. } => RoleWord::Leader,
        },
        term: core.fold().reign().map(|reign| reign.term.0.0),
        ledger_position: core.fold().position().0,
        spec: summary(shell.config()),
        overrides: shell.followed.live().rows(),
        rollout: shell.rolling.status(now, core, shell.config(), &shell.workers),
        wanted_consumers: count(consumers.iter().filter(|consumer| consumer.wanted).count()),
        ready_consumers: count(consumers.iter().filter(|consumer| consumer.ready).count()),
        freshness: None,
        plan: view.plan(),
        alarms,
        topics: view.topics(),
        consumers,
        partitions: view.partitions(),
        decisions: shell.history.decisions.iter().cloned().collect(),
    }
}

fn summary(config: &spec::Config) -> SpecSummary {
    SpecSummary {
        topics: config.topic_patterns(),
        capacity_bytes_per_sec: config.capacity.bytes_per_second.get(),
        packing_permille: config.capacity.packing.0,
        overload_permille: config.capacity.overload.0,
        min_consumers: config.consumers.min.get(),
        max_consumers: config.consumers.max.get(),
        paused: config.paused,
    }
}

/// Alarms are read off the state, so that each ends with its cause; the history adds since when.
fn alarms(shell: &mut Shell, at_unix_ms: u64) -> Vec<RaisedAlarm> {
    let mut raised = Vec::new();
    let core = &shell.core;
    let lives = core.fold().lives();
    for (incarnation, life) in
        lives.iter().filter(|(incarnation, _)| !lives.is_current(*incarnation))
    {
        let current = lives.current(life.consumer).and_then(|current| lives.get(current));
        raised.push(Alarm::TwoProcessesOfOneNumber {
            consumer: life.consumer.get(),
            current: current.map(|current| current.process.to_string()).unwrap_or_default(),
            waiting: format!("{} (incarnation {incarnation})", life.process),
        });
    }
    let capacity = core.demand().settings().largest_capacity();
    for partition in core.demand().hot() {
        let rate = core.demand().table().get(partition).and_then(|rate| rate.filtered_rate);
        raised.push(Alarm::HotPartition {
            partition: shell.catalog.partition(partition).to_string(),
            bytes_per_sec: rate.unwrap_or_default(),
            capacity_bytes_per_sec: capacity,
        });
    }
    if core.has_lost_records() {
        let topic = shell.config().control_topics.ledger().to_owned();
        raised.push(Alarm::LedgerTruncated { topic });
    }
    let bound = core.last_decision().map(|decision| &decision.solution.report.bound_by);
    if bound.is_some_and(|bound| bound.contains(&Binding::MaxConsumers)) {
        raised.push(Alarm::MaxConsumersReached { max: shell.config().consumers.max.get() });
    }
    raised.extend(
        shell.history.late.keys().map(|consumer| Alarm::WorkerLate { consumer: consumer.get() }),
    );
    let infeasible = shell.history.infeasible.clone();
    raised.extend(infeasible.map(|reason| Alarm::PlanInfeasible { reason }));
    raised.extend(shell.rolling.refused().map(|reason| Alarm::RolloutTakenBack { reason }));
    for row in shell.followed.live().rows() {
        let OverrideRow { field, refused, .. } = row;
        raised.extend(refused.map(|reason| Alarm::OverrideRefused { field, reason }));
    }
    for (consumer, worker) in &shell.workers {
        if worker.phase == Phase::BackingOff && worker.starts >= CRASH_LOOP_STARTS {
            raised.push(Alarm::WorkerCrashLooping {
                consumer: consumer.get(),
                starts: worker.starts,
            });
        }
    }
    shell.history.since.retain(|alarm, _| raised.contains(alarm));
    let mut rows: Vec<RaisedAlarm> = raised
        .into_iter()
        .map(|alarm| {
            let since = *shell.history.since.entry(alarm.clone()).or_insert(at_unix_ms);
            alarm.raised(since)
        })
        .collect();
    rows.sort();
    rows
}

struct View<'a> {
    shell: &'a Shell,
    now: Instant,
    /// Consumers that somebody else has told to end.
    ending: BTreeSet<ConsumerNumber>,
}

impl View<'_> {
    fn consumers(&self) -> Vec<ConsumerRow> {
        let core = &self.shell.core;
        let wanted = core.wanted_consumers();
        let mut numbers = wanted.clone();
        numbers.extend(core.fold().lives().iter().map(|(_, life)| life.consumer));
        numbers.extend(self.shell.workers.keys());
        let weights = core.demand().weights(self.now).by_partition;
        let mut rows: BTreeMap<ConsumerNumber, ConsumerRow> = numbers
            .into_iter()
            .map(|number| (number, self.consumer(number, wanted.contains(&number))))
            .collect();
        for (partition, _) in core.fold().partitions() {
            let owner = core.fold().consumer_of(partition);
            if let Some(row) = owner.and_then(|owner| rows.get_mut(&owner)) {
                row.partitions_observed += 1;
                row.load_bytes_per_sec += weights.get(&partition).copied().unwrap_or_default();
            }
        }
        for target in core.target().values() {
            if let Some(row) = rows.get_mut(target) {
                row.partitions_target += 1;
            }
        }
        rows.into_values().collect()
    }

    fn consumer(&self, number: ConsumerNumber, wanted: bool) -> ConsumerRow {
        let lives = self.shell.core.fold().lives();
        let current = lives.current(number);
        let process = |incarnation: Incarnation| {
            lives.get(incarnation).map(|life| life.process.to_string()).unwrap_or_default()
        };
        let waiting = lives
            .waiting(number)
            .map(|waiting| Waiting { incarnation: waiting.0.0, process: process(waiting) })
            .collect();
        let worker = self.shell.workers.get(&number);
        let live = self.shell.core.is_ready(self.now, number);
        ConsumerRow {
            number: number.get(),
            incarnation: current.map(|current| current.0.0),
            process: current.map(process),
            waiting,
            live,
            ready: live && !self.ending.contains(&number),
            wanted,
            worker: worker.map(|worker| phase(worker.phase)).unwrap_or_default(),
            trouble: worker.and_then(|worker| worker.trouble.clone()),
            capacity_bytes_per_sec: self.shell.core.demand().settings().capacity_of(number),
            ..ConsumerRow::default()
        }
    }

    fn partitions(&self) -> Vec<PartitionRow> {
        let core = &self.shell.core;
        let target = core.target();
        let weights = core.demand().weights(self.now).by_partition;
        let mut known: Vec<PartitionId> =
            core.demand().table().iter().map(|(partition, _)| partition).collect();
        let told = core.fold().partitions().filter(|(partition, ownership)| {
            ownership.owner().is_some() || !core.is_gone(partition.topic)
        });
        known.extend(told.map(|(partition, _)| partition));
        known.sort_unstable();
        known.dedup();
        let row = |partition: PartitionId| {
            let ownership = core.fold().ownership(partition);
            let rate = core.demand().table().get(partition);
            PartitionRow {
                topic: self.shell.catalog.name(partition.topic),
                number: partition.number,
                bytes_per_sec: rate.and_then(|rate| rate.filtered_rate),
                weight_bytes_per_sec: weights.get(&partition).copied(),
                owner: core.fold().consumer_of(partition).map(ConsumerNumber::get),
                target: target.get(&partition).copied().map(ConsumerNumber::get),
                state: match ownership {
                    Ownership::Free { .. } => OwnershipWord::Free,
                    Ownership::Granted { .. } => OwnershipWord::Granted,
                    Ownership::Active { .. } => OwnershipWord::Active,
                },
                epoch: ownership.owner().map(|(epoch, _)| epoch.0.0),
                next: ownership.next().map(|next| next.0),
                lag_records: rate.and_then(|rate| rate.lag).map(|(_, lag)| lag.records),
            }
        };
        known.into_iter().map(row).collect()
    }

    fn topics(&self) -> Vec<TopicRow> {
        let mut topics: BTreeMap<TopicId, TopicRow> = BTreeMap::new();
        for (partition, rate) in self.shell.core.demand().table().iter() {
            let topic = topics.entry(partition.topic).or_insert_with(|| TopicRow {
                name: self.shell.catalog.name(partition.topic),
                id: partition.topic.to_string(),
                ..TopicRow::default()
            });
            topic.partitions += 1;
            topic.missing += u32::from(rate.is_missing);
            topic.bytes_per_sec += rate.filtered_rate.unwrap_or_default();
        }
        topics.into_values().collect()
    }

    fn plan(&self) -> Option<PlanStatus> {
        let fold = self.shell.core.fold();
        let plan = fold.plan()?;
        let is_done = |change: &&Move| {
            matches!(fold.ownership(change.partition), Ownership::Active { .. })
                && fold.consumer_of(change.partition) == change.to
        };
        let finished = self.shell.core.plan_state().is_some_and(|state| state.done_at.is_some());
        let moves = plan.body.moves.len();
        let done = if finished { moves } else { plan.body.moves.iter().filter(is_done).count() };
        Some(PlanStatus {
            id: plan.at.0,
            trigger: plan.body.trigger.map(|trigger| trigger.name().to_owned()),
            moves: count(moves),
            done: count(done),
            reasons: reasons(&plan.body.moves),
            cost_permille: plan.body.cost_permille,
            consumers: plan.body.consumers,
            lower_bound: plan.body.lower_bound,
        })
    }
}

fn phase(phase: Phase) -> WorkerPhase {
    match phase {
        Phase::Pending => WorkerPhase::Pending,
        Phase::Running => WorkerPhase::Running,
        Phase::BackingOff => WorkerPhase::BackingOff,
        Phase::Stopping => WorkerPhase::Stopping,
        Phase::Gone => WorkerPhase::Gone,
    }
}
