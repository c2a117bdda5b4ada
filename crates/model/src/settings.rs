//! What the processes of a model are told: times of the protocol, rates, and the change of a setting that moves a
//! partition.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use tidegate_core::ids::{
    ConsumerNumber, Generation, GroupName, Instant, PartitionId, Position, TopicId,
};
use tidegate_core::rates::{Measurement, Sample, Source, TopicReport};
use tidegate_core::{consumer, controller, demand};

use crate::scenario::Scenario;

/// When a world begins.
pub(crate) const BEGINNING: Instant = Instant::since_boot(Duration::from_secs(1000));

/// The generation that a controller begins a ledger with which started at this moment: the time in seconds.
pub(crate) fn genesis(start: Instant) -> Generation {
    Generation(start.since(Instant::default()).as_secs())
}

const TOPIC: TopicId = TopicId([0; 16]);

/// What each partition is written with, and what a consumer can do before and after the change of settings: all
/// partitions fit on one consumer before, and one must leave it after.
const RATE: u64 = 300;
const CAPACITY: NonZeroU64 = NonZeroU64::new(1000).expect("a thousand is not zero");
const SHRUNK: u64 = 110;

/// Longer than any run.
const NEVER: Duration = Duration::from_secs(1_000_000);

pub(crate) fn group() -> GroupName {
    GroupName("model".into())
}

/// A consumer; the numbers count from 1.
pub(crate) fn consumer_number(number: u32) -> ConsumerNumber {
    ConsumerNumber::new(number).expect("consumers count from 1")
}

pub(crate) fn partition(number: u32) -> PartitionId {
    PartitionId { topic: TOPIC, number }
}

/// The one that has records, and that moves when capacities change.
pub(crate) fn moving() -> PartitionId {
    partition(0)
}

/// The defaults: what is checked is what runs.
pub(crate) fn consumer() -> consumer::Settings {
    consumer::Settings::default()
}

/// The defaults of the protocol. Planning is quick and looks at nothing but the rates and the capacities, so that a plan
/// follows from them alone.
pub(crate) fn controller(
    scenario: &Scenario,
    respecified: bool,
    start: Instant,
) -> controller::Settings {
    controller::Settings {
        mark_every: scenario.marks.unwrap_or(u64::MAX),
        snapshot_pause: Duration::from_secs(5),
        start_deadline: Duration::from_secs(20),
        late_penalty: Duration::from_secs(20),
        demand: demand(scenario, respecified),
        ..controller::Settings::usual(genesis(start))
    }
}

fn demand(scenario: &Scenario, respecified: bool) -> demand::Settings {
    let shrunk = u64::from(scenario.partitions - 1) * RATE + SHRUNK;
    let overrides = respecified.then(|| (consumer_number(1), shrunk));
    demand::Settings {
        capacity_bytes_per_sec: CAPACITY,
        capacity_overrides: overrides.into_iter().collect(),
        min_consumers: 1,
        max_consumers: 3,
        first_measurement: Duration::ZERO,
        stale_after: NEVER,
        cooldown: Duration::ZERO,
        hold: NEVER,
        ..demand::Settings::default()
    }
}

/// What the monitor says, always.
pub(crate) fn rates(partitions: u32) -> (TopicId, TopicReport) {
    let sample =
        Sample { high_watermark: Position(1), log_start: Position(0), size: None, leader: 1 };
    let measurement = Measurement {
        sample,
        window: Duration::from_secs(30),
        write_rate: RATE,
        filtered_rate: RATE,
        records_per_sec: 1,
        bytes_per_record: None,
        staleness: Duration::ZERO,
        source: Source::LogSize,
    };
    let rates: BTreeMap<u32, Measurement> =
        (0..partitions).map(|number| (number, measurement)).collect();
    (TOPIC, TopicReport { full: true, rates, missing: BTreeSet::new() })
}
