//! Rates as the monitor reports them, for production code that is to decide on the rates of a simulation or of a file.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::ids::{PartitionId, Position, TopicId};
use tidegate_core::rates::{Measurement, Sample, Source, TopicReport};

/// Full reports of partitions that are written at these rates, in bytes per second.
pub fn reports(rates: impl Iterator<Item = (PartitionId, u64)>) -> BTreeMap<TopicId, TopicReport> {
    let mut reports: BTreeMap<TopicId, TopicReport> = BTreeMap::new();
    for (partition, rate) in rates {
        let report = reports.entry(partition.topic).or_default();
        report.full = true;
        report.rates.insert(partition.number, measurement(rate));
    }
    reports
}

/// Only the rate counts for decisions.
fn measurement(rate: u64) -> Measurement {
    let sample = Sample {
        high_watermark: Position::default(),
        log_start: Position::default(),
        size: None,
        leader: 0,
    };
    Measurement {
        sample,
        window: Duration::from_secs(30),
        write_rate: rate,
        filtered_rate: rate,
        records_per_sec: rate,
        bytes_per_record: Some(1),
        staleness: Duration::ZERO,
        source: Source::HighWatermark,
    }
}
