//! The data: partitions that grow at changing rates, move between leaders, and lose their oldest records.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::ids::{Instant, PartitionId, Position, TopicId};
use tidegate_core::rates::{Monitor, Round, Sample, Settings, TopicRound};

use super::{Event, World};
use crate::rng::Rng;

/// Size of a record. One size for all: what varies is how many there are.
pub(super) const RECORD_BYTES: u64 = 1_000;

/// Time between two looks of producers.
const PRODUCE: Duration = Duration::from_millis(100);

/// No topic grows beyond this.
pub(super) const PARTITIONS: usize = 12;

/// Records per second: a consumer can do 1000.
const RATES: (u64, u64) = (20, 400);

/// Of a partition that no consumer can bear.
const HOT_RATES: (u64, u64) = (1_100, 2_500);

/// Replicas of each partition.
const REPLICAS: usize = 3;

/// How much later than the watermark a partition's size is asked for, by the same monitor: another request, to another broker.
const SIZE_LATER_MS: u64 = 150;

/// Factors by which all rates change at once, in percent.
const STEPS: [u64; 4] = [25, 50, 200, 300];

const TOPIC: TopicId = TopicId([7; 16]);

/// The one topic.
#[derive(Debug)]
pub(super) struct Data {
    partitions: BTreeMap<PartitionId, Partition>,
    pub(super) monitor: Monitor,
    pub(super) produces: bool,
}

#[derive(Clone, Copy, Debug)]
struct Partition {
    records_per_sec: u64,
    /// Thousandths of records.
    produced: u64,
    /// The oldest record that is still there.
    start: u64,
    leader: i32,
    /// Records that each replica keeps below the start: none deletes its segments at the same moment as the others.
    kept: [u64; REPLICAS],
    /// How many records the new leader does not know to be safe yet.
    unsafe_records: u64,
}

impl Partition {
    /// Bytes of the leader's log so many milliseconds later.
    fn size(&self, later_ms: u64) -> u64 {
        let written = (self.produced + self.records_per_sec * later_ms) / 1000;
        let leader = usize::try_from(self.leader).unwrap_or_default();
        let kept = self.kept.get(leader - 1).copied().unwrap_or_default();
        (written - self.start + kept) * RECORD_BYTES
    }
}

impl Data {
    pub(super) fn new(partitions: u32, rng: &mut Rng) -> Self {
        let monitor = Monitor::new(Settings::default());
        let mut data = Self { partitions: BTreeMap::new(), monitor, produces: true };
        for _ in 0..partitions {
            data.grow(rng);
        }
        data
    }

    /// One partition more.
    pub(super) fn grow(&mut self, rng: &mut Rng) {
        if let Ok(number) = u32::try_from(self.partitions.len())
            && self.partitions.len() < PARTITIONS
        {
            let records_per_sec = rate(rng);
            let partition = Partition {
                records_per_sec,
                produced: 0,
                start: 0,
                leader: 1,
                kept: [0; REPLICAS],
                unsafe_records: 0,
            };
            self.partitions.insert(PartitionId { topic: TOPIC, number }, partition);
        }
    }

    /// Some partitions change their rates.
    pub(super) fn shift(&mut self, rng: &mut Rng) {
        for partition in self.partitions.values_mut() {
            if rng.chance(300) {
                partition.records_per_sec = rate(rng);
            }
        }
    }

    /// All change by the same factor, within what all consumers together can bear.
    pub(super) fn step_rates(&mut self, rng: &mut Rng) {
        let percent = rng.pick(&STEPS).copied().unwrap_or(100);
        for partition in self.partitions.values_mut() {
            let stepped = partition.records_per_sec * percent / 100;
            partition.records_per_sec = stepped.clamp(RATES.0, RATES.1);
        }
    }

    /// One partition is written faster than a consumer can bear.
    pub(super) fn heat(&mut self, rng: &mut Rng) {
        let partitions: Vec<_> = self.partitions.keys().copied().collect();
        let hot = rng.pick(&partitions).and_then(|hot| self.partitions.get_mut(hot));
        if let Some(partition) = hot {
            partition.records_per_sec = HOT_RATES.0 + rng.below(HOT_RATES.1 - HOT_RATES.0);
        }
    }

    /// No partition is hot any more.
    pub(super) fn become_bearable(&mut self, rng: &mut Rng) {
        for partition in self.partitions.values_mut() {
            if partition.records_per_sec > RATES.1 {
                partition.records_per_sec = rate(rng);
            }
        }
    }

    /// Another broker leads, and knows a little less at first.
    pub(super) fn move_leader(&mut self, at: PartitionId, rng: &mut Rng) {
        if let Some(partition) = self.partitions.get_mut(&at) {
            partition.leader = 1 + partition.leader % 3;
            partition.unsafe_records = rng.below(partition.records_per_sec / 2 + 1);
        }
    }

    /// Records below this one are no longer there.
    pub(super) fn delete_below(&mut self, at: PartitionId, start: u64, rng: &mut Rng) {
        if let Some(partition) = self.partitions.get_mut(&at) {
            let before = partition.start;
            partition.start = before.max(start.min(partition.produced / 1000));
            let deleted = partition.start - before;
            partition.kept = partition.kept.map(|kept| rng.below(kept + deleted + 1));
        }
    }

    /// The oldest record of a partition that is still there.
    pub(super) fn start(&self, at: PartitionId) -> u64 {
        self.partitions.get(&at).map_or(0, |partition| partition.start)
    }

    /// Number of records in each partition.
    pub(super) fn produced(&self) -> BTreeMap<PartitionId, u64> {
        self.partitions.iter().map(|(at, partition)| (*at, partition.produced / 1000)).collect()
    }

    /// Bytes that are written to each partition in a second.
    pub(super) fn rates(&self) -> impl Iterator<Item = (PartitionId, u64)> {
        let rate = |(at, partition): (&PartitionId, &Partition)| {
            (*at, partition.records_per_sec * RECORD_BYTES)
        };
        self.partitions.iter().map(rate)
    }

    pub(super) fn restart_monitor(&mut self) {
        self.monitor = Monitor::new(Settings::default());
    }

    /// What the monitor sees of every partition; nothing of some, so many in a thousand.
    pub(super) fn round(&mut self, now: Instant, missing: u32, rng: &mut Rng) -> Round {
        let mut sample = |partition: &mut Partition| {
            let produced = partition.produced / 1000;
            let high_watermark = produced.saturating_sub(partition.unsafe_records);
            partition.unsafe_records = 0;
            (!rng.chance(missing)).then(|| Sample {
                high_watermark: Position(high_watermark),
                log_start: Position(partition.start),
                size: Some(partition.size(rng.below(SIZE_LATER_MS))),
                leader: partition.leader,
            })
        };
        let partitions =
            self.partitions.iter_mut().map(|(at, found)| (at.number, sample(found))).collect();
        let topic = TopicRound { listed_at: now, absent_at: None, partitions };
        Round { topics: BTreeMap::from([(TOPIC, topic)]) }
    }
}

fn rate(rng: &mut Rng) -> u64 {
    RATES.0 + rng.below(RATES.1 - RATES.0)
}

impl World {
    pub(super) fn produce(&mut self) {
        self.queue.schedule(self.now.after(PRODUCE), Event::Produce);
        if self.data.produces {
            for partition in self.data.partitions.values_mut() {
                partition.produced += partition.records_per_sec * 100;
            }
        }
    }
}
