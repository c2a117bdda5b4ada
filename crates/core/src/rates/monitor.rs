//! The monitor's step over all partitions of interest: one round of samples in, one report per topic out.
//!
//! A report is either full, or lists only what changed and what is missing: a partition in neither list is unchanged. So the cost
//! of the monitor topic follows the changes, and a reader that begins anywhere knows everything after one full period.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::window::{Basis, BytesPerRecord, Measurement, RateWindow, Sample};
use crate::ids::{Instant, PartitionId, TopicId};

/// How partitions are measured and reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A window holds the samples of at most so long. 30 s as published: long enough for batchy producers.
    pub window: Duration,
    /// The filter's time constant. 10 s: 95 % of a step within one window, and a burst of a second moves it by a tenth.
    pub time_constant: Duration,
    /// A full report goes out this often. 30 s: a controller that starts knows everything within one window.
    pub full_every: Duration,
    /// A filtered rate is changed when it moved by more than this. 1 %: far below what the packing band reacts to.
    pub change_permille: u64,
    /// What rates are measured from.
    pub basis: Basis,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            time_constant: Duration::from_secs(10),
            full_every: Duration::from_secs(30),
            change_permille: 10,
            basis: Basis::Best,
        }
    }
}

/// What one round of sampling found. A topic that is not in it is no longer of interest, and is forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Round {
    /// By topic.
    pub topics: BTreeMap<TopicId, TopicRound>,
}

/// What one round found of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicRound {
    /// When the list of the topic's partitions that this round goes by was read from the cluster.
    pub listed_at: Instant,
    /// A moment when the topic certainly did not exist, if there is one: its partitions are then measured from their first
    /// record. `None` for a topic that is older than our interest in it. Looked at only when the topic is seen first.
    pub absent_at: Option<Instant>,
    /// Every partition of that list, with its sample if there was an answer.
    pub partitions: BTreeMap<u32, Option<Sample>>,
}

/// What a topic's readers are told after a round.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TopicReport {
    /// Every partition of the topic is in one of the two lists.
    pub full: bool,
    /// Measured partitions: all of them in a full report, else those that changed.
    pub rates: BTreeMap<u32, Measurement>,
    /// Partitions that are not measured now; their last rate stays the best guess.
    pub missing: BTreeSet<u32>,
}

/// Measures all partitions.
#[derive(Clone, Debug)]
pub struct Monitor {
    settings: Settings,
    topics: BTreeMap<TopicId, Topic>,
    /// From batches, since the last step.
    learned: BTreeMap<TopicId, BTreeMap<u32, BytesPerRecord>>,
}

#[derive(Clone, Debug, Default)]
struct Topic {
    listed_at: Instant,
    full_at: Option<Instant>,
    partitions: BTreeMap<u32, Partition>,
}

#[derive(Clone, Debug)]
struct Partition {
    window: RateWindow,
    /// The filtered rate that readers have; none when they were told that it is missing.
    published: Option<u64>,
}

// === impl Monitor ===

impl Monitor {
    /// A monitor that has seen nothing.
    pub const fn new(settings: Settings) -> Self {
        Self { settings, topics: BTreeMap::new(), learned: BTreeMap::new() }
    }

    /// Takes in how many bytes and offsets a batch of a partition has, for the next step; for where log sizes are not told.
    pub fn learn(&mut self, partition: PartitionId, batch: BytesPerRecord) {
        self.learned.entry(partition.topic).or_default().insert(partition.number, batch);
    }

    /// Takes in a round; says what to publish for each topic.
    pub fn step(&mut self, now: Instant, round: &Round) -> BTreeMap<TopicId, TopicReport> {
        self.topics.retain(|topic, _| round.topics.contains_key(topic));
        let settings = self.settings;
        let mut learned = core::mem::take(&mut self.learned);
        let mut reports = BTreeMap::new();
        for (id, seen) in &round.topics {
            let absent_at = match self.topics.get(id) {
                Some(known) => Some(known.listed_at),
                None => seen.absent_at,
            };
            let topic = self.topics.entry(*id).or_default();
            topic.appear(settings, seen, absent_at);
            for (number, batch) in learned.remove(id).unwrap_or_default() {
                if let Some(partition) = topic.partitions.get_mut(&number) {
                    partition.window.learn(batch);
                }
            }
            topic.sample(now, seen);
            reports.insert(*id, topic.report(settings, now));
        }
        reports
    }
}

// === impl Topic ===

impl Topic {
    /// Partitions that are new now did not exist at `absent_at`.
    fn appear(&mut self, settings: Settings, seen: &TopicRound, absent_at: Option<Instant>) {
        self.listed_at = seen.listed_at;
        if !self.partitions.keys().eq(seen.partitions.keys()) {
            self.partitions.retain(|number, _| seen.partitions.contains_key(number));
            let new = seen.partitions.keys().filter(|number| !self.partitions.contains_key(number));
            let new = new.map(|number| (*number, Partition::new(settings, absent_at)));
            // A tree that is made at once has full nodes, one that grows at its end has half of them empty.
            let mut new: BTreeMap<u32, Partition> = new.collect();
            self.partitions.append(&mut new);
        }
    }

    fn sample(&mut self, now: Instant, seen: &TopicRound) {
        // Both have the same partitions now, in the same order.
        for (partition, sample) in self.partitions.values_mut().zip(seen.partitions.values()) {
            match sample {
                Some(sample) => partition.window.push(now, *sample),
                None => partition.window.missing(now),
            }
        }
    }

    fn report(&mut self, settings: Settings, now: Instant) -> TopicReport {
        let full = self.full_at.is_none_or(|at| now.since(at) >= settings.full_every);
        if full {
            self.full_at = Some(now);
        }
        let (mut rates, mut missing) = (Vec::new(), Vec::new());
        for (number, partition) in &mut self.partitions {
            let Some(rate) = partition.window.rate_at(now) else {
                partition.published = None;
                missing.push(*number);
                continue;
            };
            if full || partition.has_changed(rate, settings.change_permille) {
                partition.published = Some(rate);
                rates.extend(partition.window.measure(now).map(|measured| (*number, measured)));
            }
        }
        // As lists first: trees are made of lists in order for less than one by one.
        TopicReport {
            full,
            rates: rates.into_iter().collect(),
            missing: missing.into_iter().collect(),
        }
    }
}

// === impl Partition ===

impl Partition {
    fn new(settings: Settings, absent_at: Option<Instant>) -> Self {
        let window = RateWindow::new(settings.window, settings.time_constant, settings.basis);
        let window = match absent_at {
            Some(at) => window.empty_at(at),
            None => window,
        };
        Self { window, published: None }
    }

    fn has_changed(&self, rate: u64, permille: u64) -> bool {
        self.published.is_none_or(|published| {
            let moved = u128::from(rate.abs_diff(published)).saturating_mul(1000);
            moved > u128::from(published).saturating_mul(u128::from(permille))
        })
    }
}
