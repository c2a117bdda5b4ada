//! What a monitor shows: its metrics and its status page.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

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

/// What the reports so far add up to.
#[derive(Debug)]
pub(super) struct Face {
    shown: Shown,
    group: String,
    topics: BTreeMap<String, Topic>,
}

#[derive(Debug, Default)]
struct Topic {
    id: String,
    partitions: u32,
    rates: BTreeMap<u32, u64>,
    missing: BTreeSet<u32>,
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
        let missing: usize = self.topics.values().map(|topic| topic.missing.len()).sum();
        metrics.stale_partitions.set(i64::try_from(missing).unwrap_or(i64::MAX));
        self.shown.status.send_replace(MonitorStatus {
            group: self.group.clone(),
            at_unix_ms: now_unix_ms,
            sampled_unix_ms: Some(now_unix_ms),
            round_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            log_sizes_permitted,
            alarms: Vec::new(),
            topics: self.topics.iter().map(|(name, topic)| topic.row(name)).collect(),
        });
    }

    fn note(&mut self, report: &PartitionRates) {
        let topic = self.topics.entry(report.topic.clone()).or_default();
        topic.id = report.topic_id.to_string();
        topic.partitions = report.partitions;
        if report.full {
            topic.rates.clear();
        }
        topic.missing.clone_from(&report.missing);
        let metrics = &self.shown.metrics;
        for (number, measured) in &report.rates {
            topic.rates.insert(*number, measured.filtered_rate);
            let labels = PartitionLabels { topic: report.topic.clone(), partition: *number };
            let set = |gauge: &prometheus_client::metrics::family::Family<
                PartitionLabels,
                prometheus_client::metrics::gauge::Gauge,
            >,
                       value: u64| {
                gauge.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
            };
            set(&metrics.partition_write_bytes_per_second, measured.filtered_rate);
            set(&metrics.partition_window_bytes_per_second, measured.write_rate);
            set(&metrics.partition_write_records_per_second, measured.records_per_sec);
        }
    }
}

impl Topic {
    fn row(&self, name: &str) -> TopicRow {
        TopicRow {
            name: name.to_owned(),
            id: self.id.clone(),
            partitions: self.partitions,
            missing: u32::try_from(self.missing.len()).unwrap_or(u32::MAX),
            bytes_per_sec: self.rates.values().sum(),
        }
    }
}
