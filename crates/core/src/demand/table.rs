//! What the controller knows about every partition, and the weights that follow.

use alloc::collections::{BTreeMap, BTreeSet};
use core::time::Duration;

use super::peak::Peak;
use super::settings::Settings;
use crate::ids::{Instant, PartitionId, TopicId};
use crate::rates::TopicReport;

/// How far the owner of a partition is behind, as its heartbeat says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lag {
    /// Records between the owner's position and the end.
    pub records: u64,
    /// The size of a record there.
    pub bytes_per_record: u64,
}

/// What is known of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartitionRate {
    /// When it was first heard of.
    pub known_since: Instant,
    /// Bytes/s after the filter, as last measured; `None` before the first measurement.
    pub filtered_rate: Option<u64>,
    /// Records/s, as last measured.
    pub records_per_sec: u64,
    /// When the rate was last confirmed.
    pub updated: Instant,
    /// The monitor has no measurement at present.
    pub is_missing: bool,
    /// The owner's last word on its backlog, and when it came.
    pub lag: Option<(Instant, Lag)>,
    peak: Peak,
}

/// What is known of all partitions.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct RateTable {
    partitions: BTreeMap<PartitionId, PartitionRate>,
    /// When the present part of all peaks began.
    turned_at: Option<Instant>,
}

/// The load that every partition puts on its consumer.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Weights {
    /// In bytes/s. A partition that still waits for its first measurement is not in it.
    pub by_partition: BTreeMap<PartitionId, u64>,
    /// Some weight is an old one held, or a guess.
    pub stale: bool,
    /// Some partition's owner is behind.
    pub behind: bool,
}

// === impl Weights ===

impl Weights {
    /// Whether these weights are good enough to give a consumer up.
    pub const fn allow_scale_in(&self) -> bool {
        !self.stale && !self.behind
    }

    /// All weights together.
    pub fn total(&self) -> u64 {
        self.by_partition.values().fold(0, |total, weight| total.saturating_add(*weight))
    }
}

// === impl RateTable ===

impl RateTable {
    /// An empty table.
    pub const fn new() -> Self {
        Self { partitions: BTreeMap::new(), turned_at: None }
    }

    /// All partitions that are known.
    pub fn iter(&self) -> impl Iterator<Item = (PartitionId, &PartitionRate)> {
        self.partitions.iter().map(|(partition, rate)| (*partition, rate))
    }

    /// One partition.
    pub fn get(&self, partition: PartitionId) -> Option<&PartitionRate> {
        self.partitions.get(&partition)
    }

    pub(super) fn report(&mut self, now: Instant, topic: TopicId, report: &TopicReport) {
        if report.full {
            let is_listed =
                |number: &u32| report.rates.contains_key(number) || report.missing.contains(number);
            self.partitions.retain(|at, _| at.topic != topic || is_listed(&at.number));
        }
        let of_topic = PartitionId { topic, number: 0 }..=PartitionId { topic, number: u32::MAX };
        for (at, rate) in self.partitions.range_mut(of_topic) {
            // In neither list means unchanged, and that confirms it; a partition that was missing is unchanged in being so.
            if !rate.is_missing && !report.missing.contains(&at.number) {
                rate.updated = now;
            }
        }
        for number in &report.missing {
            self.entry(now, PartitionId { topic, number: *number }).is_missing = true;
        }
        for (number, measured) in &report.rates {
            let rate = self.entry(now, PartitionId { topic, number: *number });
            rate.is_missing = false;
            rate.filtered_rate = Some(measured.filtered_rate);
            rate.peak.note(measured.filtered_rate);
            rate.records_per_sec = measured.records_per_sec;
            rate.updated = now;
        }
    }

    /// Lag of a partition that no report has named is dropped: heartbeats do not decide what is of interest.
    pub(super) fn lag(&mut self, now: Instant, partition: PartitionId, lag: Lag) {
        if let Some(rate) = self.partitions.get_mut(&partition) {
            rate.lag = Some((now, lag));
        }
    }

    pub(super) fn forget(&mut self, topic: TopicId) {
        self.partitions.retain(|at, _| at.topic != topic);
    }

    pub(super) fn above(&self, capacity: u64) -> BTreeSet<PartitionId> {
        let hot = |rate: &PartitionRate| rate.filtered_rate.is_some_and(|rate| rate > capacity);
        self.iter().filter(|(_, rate)| hot(rate)).map(|(partition, _)| partition).collect()
    }

    /// Lets peaks forget what is older than the hold.
    pub(super) fn turn(&mut self, now: Instant, hold: Duration) {
        let parts = self.turned_at.map_or(1, |at| Peak::parts_in(now.since(at), hold));
        if parts == 0 {
            return;
        }
        self.turned_at = Some(now);
        for rate in self.partitions.values_mut() {
            rate.peak.turn(parts, rate.filtered_rate.unwrap_or(0));
        }
    }

    /// The weights now.
    pub(super) fn weights(&self, now: Instant, settings: &Settings) -> Weights {
        self.weigh(now, settings, |known| known.filtered_rate)
    }

    /// The largest weights of the hold: who needs no more for these has needed no more all the time.
    pub(super) fn peaks(&self, now: Instant, settings: &Settings) -> Weights {
        self.weigh(now, settings, |known| Some(known.filtered_rate?.max(known.peak.largest())))
    }

    fn weigh(
        &self,
        now: Instant,
        settings: &Settings,
        rate: impl Fn(&PartitionRate) -> Option<u64>,
    ) -> Weights {
        let mut weights = Weights::default();
        for (partition, known) in self.iter() {
            let backlog = known.backlog(settings);
            let is_stale = known.is_missing || now.since(known.updated) > settings.stale_after;
            let waits = now.since(known.known_since) < settings.first_measurement;
            weights.stale |= is_stale || known.filtered_rate.is_none();
            weights.behind |= backlog > 0;
            let rate = rate(known).or(if waits { None } else { Some(0) });
            if let Some(rate) = rate {
                let extra = per_second(backlog, settings.drain_target);
                weights.by_partition.insert(partition, rate.saturating_add(extra));
            }
        }
        weights
    }

    fn entry(&mut self, now: Instant, partition: PartitionId) -> &mut PartitionRate {
        self.partitions.entry(partition).or_insert(PartitionRate {
            known_since: now,
            filtered_rate: None,
            records_per_sec: 0,
            updated: now,
            is_missing: true,
            lag: None,
            peak: Peak::default(),
        })
    }
}

// === impl PartitionRate ===

impl PartitionRate {
    /// The backlog in bytes, if it is more than `lag_limit` of work at the partition's own rate.
    pub fn backlog(&self, settings: &Settings) -> u64 {
        let Some((_, lag)) = self.lag else { return 0 };
        let backlog = lag.records.saturating_mul(lag.bytes_per_record);
        let rate = self.filtered_rate.unwrap_or(0);
        let tolerated =
            u128::from(rate).saturating_mul(settings.lag_limit.as_millis()).checked_div(1000);
        if u128::from(backlog) > tolerated.unwrap_or(0) { backlog } else { 0 }
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let per_milli = u128::from(bytes).saturating_mul(1000).checked_div(time.as_millis());
    per_milli.map_or(u64::MAX, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
}
