//! What the monitor remembers of a partition: little, and no more after an hour than after some windows.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::ids::{Instant, Position, TopicId};
use tidegate_core::random::SplitMix64;
use tidegate_core::rates::{Monitor, Round, Sample, Settings, TopicRound};

const PARTITIONS: u32 = 1000;
const HOUR: u64 = 3600;

/// Samples every second, of logs that grow and are deleted from; now and then one is missing, or the leader another one.
struct World {
    monitor: Monitor,
    random: SplitMix64,
    samples: BTreeMap<u32, Option<Sample>>,
    second: u64,
}

impl World {
    fn new() -> Self {
        let empty = Sample {
            high_watermark: Position(0),
            log_start: Position(0),
            size: Some(0),
            leader: 1,
        };
        Self {
            monitor: Monitor::new(Settings::default()),
            random: SplitMix64::new(1),
            samples: (0..PARTITIONS).map(|number| (number, Some(empty))).collect(),
            second: 1,
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            let now = Instant::since_boot(Duration::from_secs(self.second));
            for sample in self.samples.values_mut() {
                let chance = self.random.next();
                let next = sample.as_mut().unwrap();
                next.high_watermark.0 += chance % 100;
                next.size = next.size.map(|size| size + chance % 100 * 130);
                if chance.is_multiple_of(50) {
                    next.log_start = next.high_watermark;
                    next.size = Some(0);
                }
                next.leader = i32::from(chance.is_multiple_of(1000));
            }
            let mut partitions = self.samples.clone();
            if self.random.next().is_multiple_of(10) {
                partitions.insert(u32::try_from(self.second).unwrap() % PARTITIONS, None);
            }
            let topic = TopicRound { listed_at: now, absent_at: None, partitions };
            let topics = [(TopicId([7; 16]), topic)].into();
            self.monitor.step(now, &Round { topics });
            self.second += 1;
        }
    }
}

/// Bytes that are held at the end beyond those that were held before.
fn held(work: impl FnOnce()) -> i64 {
    allocation_counter::measure(work).bytes_current
}

#[test]
fn a_partition_takes_less_than_two_kib_and_an_hour_takes_no_more_than_two_minutes() {
    let mut world = World::new();
    let first = held(|| world.run(120));
    let later = held(|| world.run(HOUR - 120));
    let each = first / i64::from(PARTITIONS);
    assert!((1..2048).contains(&each), "{each} bytes a partition");
    assert!(later <= first / 100, "{later} bytes more after an hour than {first}");
}
