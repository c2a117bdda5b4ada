//! What a monitor shows: its metrics and its status page.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tidegate_core::rates::Measurement;
use tidegate_wire::status::TopicRow;
use tidegate_wire::{MonitorStatus, PartitionRates};
use tokio::sync::watch;

use crate::ports::Class;
use crate::telemetry::metrics::{MonitorMetrics, OutcomeLabels, PartitionLabels, ReasonLabels};

/// Where a monitor shows itself.
#[derive(Debug)]
pub struct Shown {
    /// Its metrics.
    pub metrics: MonitorMetrics,
    /// Its status page.
    pub status: watch::Sender<MonitorStatus>,
}

impl Shown {
    /// Where nobody looks.
    pub fn to_nobody() -> Self {
        let metrics = MonitorMetrics::register(&mut Registry::default());
        Self { metrics, status: watch::Sender::default() }
    }
}

/// What the reports so far add up to.
#[derive(Debug)]
pub(super) struct Face {
    shown: Shown,
    group: String,
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug)]
struct Topic {
    name: Arc<str>,
    id: String,
    partitions: u32,
    /// The metrics of each partition that is measured.
    gauges: BTreeMap<u32, Gauges>,
    missing: usize,
}

/// The metrics of a partition, kept because to find them by their labels costs more than to set them.
#[derive(Debug)]
struct Gauges {
    filtered: Gauge,
    window: Gauge,
    records: Gauge,
}

impl Face {
    pub(super) fn new(shown: Shown, group: String) -> Self {
        Self { shown, group, topics: BTreeMap::new() }
    }

    /// A round failed as a whole, or one broker's part of it.
    pub(super) fn failed(&self, class: Class) {
        let reason = class.name();
        self.shown.metrics.sample_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// A record was published, or not.
    pub(super) fn published(&self, done: bool) {
        let outcome = if done { "done" } else { "failed" };
        self.shown.metrics.reports.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A round is complete: what there is to publish of it, how long it took, and whether log sizes may be asked for.
    pub(super) fn round(
        &mut self,
        reports: &[PartitionRates],
        took: Duration,
        log_sizes_permitted: bool,
        now_unix_ms: u64,
    ) {
        for report in reports {
            self.note(report);
        }
        let metrics = &self.shown.metrics;
        metrics.samples.inc();
        metrics.sample_duration_seconds.observe(took.as_secs_f64());
        metrics.log_sizes_permitted.set(i64::from(log_sizes_permitted));
        let partitions: u32 = self.topics.values().map(|topic| topic.partitions).sum();
        metrics.partitions.set(i64::from(partitions));
        let missing: usize = self.topics.values().map(|topic| topic.missing).sum();
        metrics.stale_partitions.set(i64::try_from(missing).unwrap_or(i64::MAX));
        self.shown.status.send_replace(MonitorStatus {
            group: self.group.clone(),
            at_unix_ms: now_unix_ms,
            sampled_unix_ms: Some(now_unix_ms),
            round_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            log_sizes_permitted,
            alarms: Vec::new(),
            topics: self.topics.values().map(Topic::row).collect(),
        });
    }

    fn note(&mut self, report: &PartitionRates) {
        let topic = self
            .topics
            .entry(report.topic.clone())
            .or_insert_with_key(|name| Topic::new(name.as_str().into()));
        topic.id = report.topic_id.to_string();
        topic.partitions = report.partitions;
        topic.missing = report.missing.len();
        if report.full && !topic.gauges.keys().eq(report.rates.keys()) {
            topic.gauges.retain(|number, _| report.rates.contains_key(number));
        }
        for (number, measured) in &report.rates {
            topic.gauges_of(*number, &self.shown.metrics).set(measured);
        }
    }
}

// === impl Topic ===

impl Topic {
    fn new(name: Arc<str>) -> Self {
        Self { name, id: String::new(), partitions: 0, gauges: BTreeMap::new(), missing: 0 }
    }

    fn gauges_of(&mut self, number: u32, metrics: &MonitorMetrics) -> &Gauges {
        self.gauges.entry(number).or_insert_with(|| {
            let labels = PartitionLabels { topic: Arc::clone(&self.name), partition: number };
            let of =
                |family: &Family<PartitionLabels, Gauge>| family.get_or_create(&labels).clone();
            Gauges {
                filtered: of(&metrics.partition_write_bytes_per_second),
                window: of(&metrics.partition_window_bytes_per_second),
                records: of(&metrics.partition_write_records_per_second),
            }
        })
    }

    fn row(&self) -> TopicRow {
        let rates = self.gauges.values().map(|gauges| gauges.filtered.get());
        TopicRow {
            name: self.name.to_string(),
            id: self.id.clone(),
            partitions: self.partitions,
            missing: u32::try_from(self.missing).unwrap_or(u32::MAX),
            bytes_per_sec: rates.fold(0, |sum: u64, rate| sum.saturating_add(rate.unsigned_abs())),
        }
    }
}

// === impl Gauges ===

impl Gauges {
    fn set(&self, measured: &Measurement) {
        let set = |gauge: &Gauge, value: u64| {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.filtered, measured.filtered_rate);
        set(&self.window, measured.write_rate);
        set(&self.records, measured.records_per_sec);
    }
}
