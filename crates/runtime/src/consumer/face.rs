//! What a consumer shows: its metrics, its status page, and the alarms that its partitions have raised.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::consumer::{self, Activity, Consumer, Phase};
use tidegate_core::ids::{Instant, PartitionId};
use tidegate_core::ledger::Refusal;
use tidegate_wire::status::{HeldPartition, HeldState, LeaseState, RaisedAlarm};
use tidegate_wire::{Alarm, ConsumerStatus};
use tokio::sync::watch;

use super::gather::{Done, Gatherer, Gathering};
use super::shell::Start;
use crate::evacuation::Held;
use crate::ports::{Class, TopicPartition};
use crate::telemetry::metrics::{
    AlarmLabels, ConsumerMetrics, OutcomeLabels, PartitionLabels, ReasonLabels, SinkLabels,
};

/// Where a consumer shows itself.
#[derive(Debug)]
pub struct Shown {
    /// Its metrics.
    pub metrics: ConsumerMetrics,
    /// Its status page.
    pub status: watch::Sender<ConsumerStatus>,
    /// What it has, for who waits with its end.
    pub held: watch::Sender<Held>,
}

/// The state behind what is shown.
#[derive(Debug)]
pub(super) struct Face {
    pub(super) metrics: ConsumerMetrics,
    status: watch::Sender<ConsumerStatus>,
    held: watch::Sender<Held>,
    group: String,
    start: Start,
    alarms: BTreeMap<PartitionId, RaisedAlarm>,
    delivered: u64,
    shown: Option<(Instant, u64)>,
}

impl Face {
    pub(super) fn new(shown: Shown, group: String, start: Start) -> Self {
        Self {
            metrics: shown.metrics,
            status: shown.status,
            held: shown.held,
            group,
            start,
            alarms: BTreeMap::new(),
            delivered: 0,
            shown: None,
        }
    }

    /// Records came in.
    pub(super) fn received(&self, records: usize, bytes: usize) {
        self.metrics.received_records.inc_by(wide(records));
        self.metrics.received_bytes.inc_by(wide(bytes));
    }

    /// A batch is durable.
    pub(super) fn delivered(&mut self, sink: &str, done: &Done, age: Option<Duration>) {
        self.delivered += done.bytes;
        self.metrics.delivered_records.inc_by(done.records);
        self.metrics.delivered_bytes.inc_by(done.bytes);
        self.metrics.busy_seconds.inc_by(done.took.as_secs_f64());
        self.metrics.fetch_seconds.inc_by(done.fetched.as_secs_f64());
        let labels = SinkLabels { sink: sink_word(sink) };
        self.metrics
            .sink_flush_duration_seconds
            .get_or_create(&labels)
            .observe(done.took.as_secs_f64());
        if let Some(age) = age {
            self.metrics.freshness_seconds.observe(age.as_secs_f64());
        }
    }

    /// A gap is durable.
    pub(super) fn skipped(&self, offsets: u64) {
        self.metrics.skipped_offsets.inc_by(offsets);
    }

    /// Progress was on its way to the ledger for so long.
    pub(super) fn committing(metrics: &ConsumerMetrics, took: Duration) {
        metrics.commit_seconds.inc_by(took.as_secs_f64());
    }

    /// A write failed.
    pub(super) fn sink_failed(&self, class: Class) {
        let reason = class.name();
        self.metrics.sink_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// The group's offsets were committed, or not.
    pub(super) fn committed(metrics: &ConsumerMetrics, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        metrics.commits.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A heartbeat was acknowledged, or not.
    pub(super) fn beaten(metrics: &ConsumerMetrics, acknowledged: bool) {
        let outcome = if acknowledged { "acknowledged" } else { "failed" };
        metrics.heartbeats.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A command was not obeyed.
    pub(super) fn refused(&self, refusal: Refusal) {
        let reason = match refusal {
            Refusal::StaleTerm => "stale-term",
            Refusal::LeaseLapsed => "lease-lapsed",
            Refusal::ShuttingDown => "shutting-down",
            Refusal::UnknownCommand => "unknown-command",
        };
        self.metrics.commands_ignored.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A partition needs a person.
    pub(super) fn raise(
        &mut self,
        alarm: consumer::Alarm,
        partition: &TopicPartition,
        at_unix_ms: u64,
    ) {
        let name = partition.to_string();
        let raised = match alarm {
            consumer::Alarm::SinkBehind(_, _, stands, ledger) => Alarm::SinkBehind {
                partition: name,
                sink: stands.map(|stands| stands.0),
                ledger: ledger.0,
            },
            consumer::Alarm::SinkFailing(_, _, failure) => Alarm::SinkFailing {
                partition: name,
                reason: format!("{failure:?}").to_lowercase(),
            },
            consumer::Alarm::ReadFailing(..) => Alarm::ReadFailing { partition: name },
            consumer::Alarm::OutOfRange(_, _, next, consumer::Extent { start, end }) => {
                Alarm::OutOfRange { partition: name, next: next.0, start: start.0, end: end.0 }
            }
        };
        tracing::error!(%partition, alarm = raised.code(), "{}", raised.summary());
        self.alarms.insert(partition.id, raised.raised(at_unix_ms));
    }

    /// A partition is read again, or is not this consumer's any more.
    pub(super) fn clear(&mut self, partition: PartitionId) {
        self.alarms.remove(&partition);
    }

    /// So many commands were read.
    pub(super) fn heard(&self, commands: usize) {
        self.held.send_modify(|held| held.commands += wide(commands));
    }

    /// It has so many partitions.
    pub(super) fn holds(&self, partitions: usize) {
        self.held.send_if_modified(|held| {
            std::mem::replace(&mut held.partitions, partitions) != partitions
        });
    }

    /// Says what the process is at when it is told to end.
    pub(super) fn told_to_end(&self, core: &Consumer, gatherer: &Gatherer) {
        let partitions = counts(&states(core, gatherer));
        let leaving = core.is_leaving();
        tracing::info!(consumer = %self.start.consumer, leaving, partitions, "a stop begins");
    }

    /// Shows how things stand.
    pub(super) fn show(
        &mut self,
        now: Instant,
        at_unix_ms: u64,
        core: &Consumer,
        gatherer: &Gatherer,
    ) {
        self.gauges(now, at_unix_ms, core, gatherer);
        let rate = self.shown.map(|(then, bytes)| {
            let ms = u64::try_from(now.since(then).as_millis()).unwrap_or(u64::MAX).max(1);
            (self.delivered - bytes).saturating_mul(1000) / ms
        });
        self.shown = Some((now, self.delivered));
        let left = core.lease_left(now);
        self.status.send_replace(ConsumerStatus {
            group: self.group.clone(),
            at_unix_ms,
            number: self.start.consumer.get(),
            process: self.start.process.to_string(),
            incarnation: core.incarnation(now).map(|incarnation| incarnation.0.0),
            lease: match core.phase() {
                Phase::Locating { .. } | Phase::Greeting(_) => LeaseState::Joining,
                Phase::Living(_) if core.is_leaving() => LeaseState::Leaving,
                Phase::Living(_) => LeaseState::Live,
                Phase::Left => LeaseState::Leaving,
            },
            lease_left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            bytes_per_sec: rate.unwrap_or_default(),
            freshness: None,
            alarms: self.alarms.values().cloned().collect(),
            partitions: held(core, gatherer),
        });
    }

    fn gauges(&self, now: Instant, unix_ms: u64, core: &Consumer, gatherer: &Gatherer) {
        let metrics = &self.metrics;
        metrics.partitions.set(signed(core.holdings().count()));
        metrics.queued_bytes.set(signed(gatherer.memory()));
        metrics.lease_remaining_seconds.set(core.lease_left(now).as_secs_f64());
        metrics.partition_lag_records.clear();
        metrics.partition_lag_seconds.clear();
        for gathering in gatherer.iter() {
            let labels = PartitionLabels {
                topic: gathering.partition.topic.as_str().into(),
                partition: gathering.partition.id.number,
            };
            if let Some(age) = gathering.lag_age(unix_ms) {
                let gauge = metrics.partition_lag_seconds.get_or_create(&labels);
                gauge.set(age.as_secs_f64());
            }
            if let Some(lag) = gathering.figures().lag {
                let lag = i64::try_from(lag).unwrap_or(i64::MAX);
                metrics.partition_lag_records.get_or_create(&labels).set(lag);
            }
        }
        for alarm in Alarm::CODES {
            let raised = self.alarms.values().filter(|raised| raised.code == *alarm).count();
            metrics.alarms.get_or_create(&AlarmLabels { alarm }).set(i64::from(raised > 0));
        }
    }
}

/// What is done for each partition. Gathering and waiting for records are one to the state machine.
fn states(core: &Consumer, gatherer: &Gatherer) -> BTreeMap<PartitionId, HeldState> {
    let state = |(id, activity): (PartitionId, Activity)| {
        let state = match activity {
            Activity::Acquiring => HeldState::Acquiring,
            Activity::Pausing => HeldState::Pausing,
            Activity::Reading if gatherer.get(id).is_some_and(Gathering::has_records) => {
                HeldState::Gathering
            }
            Activity::Reading => HeldState::Reading,
            Activity::Waiting => HeldState::Waiting,
            Activity::Writing => HeldState::Writing,
            Activity::Stopping => HeldState::Stopping,
            Activity::Stuck => HeldState::Stuck,
        };
        (id, state)
    };
    core.activities().map(state).collect()
}

/// How many partitions are in which state, in words.
fn counts(states: &BTreeMap<PartitionId, HeldState>) -> String {
    let mut counts: BTreeMap<HeldState, usize> = BTreeMap::new();
    for state in states.values() {
        *counts.entry(*state).or_default() += 1;
    }
    let words = counts.iter().map(|(state, count)| format!("{count} {}", state.name()));
    let words = words.collect::<Vec<_>>().join(", ");
    if words.is_empty() { "none".to_owned() } else { words }
}

fn held(core: &Consumer, gatherer: &Gatherer) -> Vec<HeldPartition> {
    let states = states(core, gatherer);
    let row = |(id, epoch, next): (
        PartitionId,
        tidegate_core::ids::Epoch,
        tidegate_core::ids::Position,
    )| {
        let gathering = gatherer.get(id);
        HeldPartition {
            topic: gathering.map_or_else(
                || id.topic.to_string(),
                |gathering| gathering.partition.topic.clone(),
            ),
            number: id.number,
            epoch: epoch.0.0,
            state: states.get(&id).copied().unwrap_or_default(),
            next: Some(next.0),
            lag_records: gathering.and_then(|gathering| gathering.figures().lag),
        }
    };
    core.holdings().map(row).collect()
}

/// Labels are a closed list: a sink of somebody else's is `other`.
fn sink_word(scheme: &str) -> &'static str {
    ["file", "http", "https", "blackhole", "stdout", "delay"]
        .into_iter()
        .find(|known| *known == scheme)
        .unwrap_or("other")
}

fn wide(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
