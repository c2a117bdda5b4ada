//! The producer of the experiment: it writes each partition at rates that change in steps, waits at random between two
//! batches, and notes what every batch takes in the log.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::random::SplitMix64;
use tidegate_kafka::BatchWriter;
use tidegate_runtime::ports::Clock;

/// The published payload.
pub(super) const PAYLOAD: Bytes = Bytes::from_static(&[b'x'; 123]);

/// The published waits, in milliseconds.
const SHORTEST_WAIT: u64 = 10;
const LONGEST_WAIT: u64 = 2000;

/// Records of a batch at most: half of what a broker takes by default.
const MOST_RECORDS: u64 = 4000;

/// The rates of one partition, one after the other, each for as long.
#[derive(Clone, Debug)]
pub(super) struct Course {
    /// Bytes of payload in a second.
    pub(super) rates: Vec<NonZeroU64>,
    pub(super) step: Duration,
}

/// A batch that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Between its request and the acknowledgement: milliseconds since the Unix epoch.
    pub(super) unix_ms: u64,
    /// Bytes of its values.
    pub(super) payload: u64,
    /// Bytes by which the log grew.
    pub(super) stored: u64,
}

/// What was written to a partition so far, in order; shared with its writer.
pub(super) type Notes = Arc<Mutex<Vec<Written>>>;

/// Writes one partition.
pub(super) struct PartitionWriter {
    pub(super) writer: BatchWriter,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) topic: String,
    pub(super) number: u32,
    pub(super) course: Course,
    pub(super) random: SplitMix64,
    pub(super) notes: Notes,
}

impl Course {
    /// As long as all of it takes.
    pub(super) fn duration(&self) -> Duration {
        self.step.saturating_mul(u32::try_from(self.rates.len()).unwrap_or(u32::MAX))
    }

    /// Payload that is due after this time.
    fn due(&self, elapsed: Duration) -> u64 {
        let mut left = elapsed;
        let mut due: u128 = 0;
        for rate in &self.rates {
            let passed = left.min(self.step);
            due += u128::from(rate.get()) * passed.as_micros() / 1_000_000;
            left = left.saturating_sub(passed);
        }
        u64::try_from(due).unwrap_or(u64::MAX)
    }
}

impl PartitionWriter {
    /// Writes until the course is over.
    pub(super) async fn run(mut self) -> anyhow::Result<()> {
        let began = self.clock.now();
        let mut records = 0;
        loop {
            let wait = SHORTEST_WAIT + self.random.next() % (LONGEST_WAIT - SHORTEST_WAIT + 1);
            tokio::time::sleep(Duration::from_millis(wait)).await;
            let elapsed = self.clock.now().since(began);
            if elapsed >= self.course.duration() {
                return Ok(());
            }
            let due = self.course.due(elapsed) / PAYLOAD.len() as u64;
            while records < due {
                let count = (due - records).min(MOST_RECORDS);
                self.write(count).await?;
                records += count;
            }
        }
    }

    async fn write(&self, count: u64) -> anyhow::Result<()> {
        let values: Vec<Bytes> = (0..count).map(|_| PAYLOAD).collect();
        let asked = self.clock.unix_ms();
        let batch = BTreeMap::from([(self.number, values)]);
        let stored = self.writer.write(&self.topic, &batch, asked).await?;
        let unix_ms = asked.midpoint(self.clock.unix_ms());
        let payload = count * PAYLOAD.len() as u64;
        let written = Written { unix_ms, payload, stored: stored.values().sum() };
        // A panic elsewhere leaves whole entries.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).push(written);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_follows_the_steps_and_ends_with_them() {
        let rates = [100, 400].map(|rate| NonZeroU64::new(rate).unwrap()).into();
        let course = Course { rates, step: Duration::from_secs(10) };
        let due = [0, 500, 10_000, 15_000, 20_000, 99_000];
        let due = due.map(|ms| course.due(Duration::from_millis(ms)));
        assert_eq!(due, [0, 50, 1000, 3000, 5000, 5000]);
        assert_eq!(course.duration(), Duration::from_secs(20));
    }
}
