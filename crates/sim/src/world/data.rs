//! The data: partitions that grow at changing rates, and the monitor that measures them.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::controller::Input as ControllerInput;
use tidegate_core::ids::{PartitionId, Position, TopicId};
use tidegate_core::rates::{Monitor, Round, Sample, Settings, TopicRound};

use super::process::{Input, Role};
use super::rng::Rng;
use super::{Event, World};

/// Size of a record. One size for all: what varies is how many there are.
pub(super) const RECORD_BYTES: u64 = 1_000;

/// Time between two looks of producers and of the monitor.
const PRODUCE: Duration = Duration::from_millis(100);
const SAMPLE: Duration = Duration::from_secs(1);

/// No topic grows beyond this.
const PARTITIONS: usize = 12;

/// Records per second: a consumer can do 1000.
const RATES: (u64, u64) = (20, 400);

const TOPIC: TopicId = TopicId([7; 16]);

/// The one topic.
#[derive(Debug)]
pub(super) struct Data {
    partitions: BTreeMap<PartitionId, Producer>,
    monitor: Monitor,
    pub(super) produces: bool,
}

#[derive(Clone, Copy, Debug)]
struct Producer {
    records_per_sec: u64,
    /// Thousandths of records.
    produced: u64,
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
            let producer = Producer { records_per_sec: rate(rng), produced: 0 };
            self.partitions.insert(PartitionId { topic: TOPIC, number }, producer);
        }
    }

    /// Some partitions change their rates.
    pub(super) fn shift(&mut self, rng: &mut Rng) {
        for producer in self.partitions.values_mut() {
            if rng.chance(300) {
                producer.records_per_sec = rate(rng);
            }
        }
    }

    /// Number of records in each partition.
    pub(super) fn produced(&self) -> BTreeMap<PartitionId, u64> {
        self.partitions.iter().map(|(at, producer)| (*at, producer.produced / 1000)).collect()
    }

    fn round(&mut self, now: tidegate_core::ids::Instant) -> Round {
        let sample = |producer: &Producer| {
            let records = producer.produced / 1000;
            Sample {
                high_watermark: Position(records),
                log_start: Position(0),
                size: Some(records * RECORD_BYTES),
                leader: 1,
            }
        };
        let partitions = self
            .partitions
            .iter()
            .map(|(at, producer)| (at.number, Some(sample(producer))))
            .collect();
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
            for producer in self.data.partitions.values_mut() {
                producer.produced += producer.records_per_sec * 100;
            }
        }
    }

    /// The monitor looks, and tells every controller.
    pub(super) fn sample(&mut self) {
        self.queue.schedule(self.now.after(SAMPLE), Event::Sample);
        if self.now < self.weather.monitor_down_until {
            return;
        }
        let now = self.machines.first().map(|machine| machine.clock(self.now)).unwrap_or_default();
        let round = self.data.round(now);
        let reports = self.data.monitor.step(now, &round);
        let is_controller = |role: &Role| matches!(role, Role::Controller(_));
        let controllers: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| is_controller(&process.role))
            .map(|(key, _)| *key)
            .collect();
        for (topic, report) in reports {
            for key in &controllers {
                let input = ControllerInput::Rates(topic, report.clone());
                self.deliver(Duration::from_millis(20), *key, Input::Controller(input));
            }
        }
    }
}
