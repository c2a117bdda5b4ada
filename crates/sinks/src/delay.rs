//! The `delay` sink: another sink behind a set rate. It makes a consumer of known capacity for tests of sizing.
//!
//! The rate is one for all partitions of the sink, as a consumer's is: each write takes the time that its bytes need,
//! one after the other in the order in which they began. A write that is given up keeps the time it has reserved. So the
//! write time-out must be above the time that one batch of each partition takes together.

use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tidegate_core::ids::{FencingToken, Instant, Position};
use tidegate_runtime::ports::{Batch, Clock, Guarantee, Record, Sink, SinkError, TopicPartition};

/// A sink that is no faster than a rate.
#[derive(Debug)]
pub struct Delay {
    inner: Arc<dyn Sink>,
    bytes_per_sec: NonZeroU64,
    clock: Arc<dyn Clock>,
    /// When the bytes accepted so far are through.
    free_at: Mutex<Instant>,
}

// === impl Delay ===

impl Delay {
    /// A sink before `inner` that lets through so many bytes of keys, values and headers per second.
    pub fn new(inner: Arc<dyn Sink>, bytes_per_sec: NonZeroU64, clock: Arc<dyn Clock>) -> Self {
        Self { inner, bytes_per_sec, clock, free_at: Mutex::default() }
    }

    /// Reserves the time of so many bytes and returns how long from now it ends.
    fn reserve(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_sec.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = self.clock.now();
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        *free_at = (*free_at).max(now).after(takes);
        free_at.since(now)
    }
}

#[async_trait]
impl Sink for Delay {
    fn guarantee(&self) -> Guarantee {
        self.inner.guarantee()
    }

    async fn acquire(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<Option<Position>, SinkError> {
        self.inner.acquire(partition, token).await
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let bytes: usize = batch.records.iter().map(Record::size).sum();
        tokio::time::sleep(self.reserve(bytes as u64)).await;
        self.inner.write(partition, token, batch).await
    }

    async fn release(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<(), SinkError> {
        self.inner.release(partition, token).await
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tidegate_core::ids::{Epoch, Generation, Offset, PartitionId, TopicId};

    use super::*;
    use crate::blackhole::Blackhole;

    /// Tokio's paused clock.
    #[derive(Debug)]
    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn now(&self) -> Instant {
            Instant::since_boot(self.0.elapsed())
        }

        fn unix_ms(&self) -> u64 {
            0
        }
    }

    #[tokio::test(start_paused = true)]
    async fn writes_take_the_time_of_their_bytes_one_after_the_other() {
        let start = tokio::time::Instant::now();
        let rate = NonZeroU64::new(1000).unwrap();
        let sink = Delay::new(Arc::new(Blackhole::default()), rate, Arc::new(Paused(start)));
        let id = PartitionId { topic: TopicId([1; 16]), number: 2 };
        let partition = TopicPartition { topic: "orders".to_owned(), id };
        let token = FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) };
        let records = [Record {
            offset: 0,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::from(vec![0; 500])),
            headers: Vec::new(),
        }];
        let batch = Batch { expected: Position(0), records: &records, end: Position(1) };
        let write = || sink.write(&partition, token, batch);
        let (a, b, c) = tokio::join!(write(), write(), write());
        a.and(b).and(c).unwrap();
        assert_eq!(start.elapsed().as_millis(), 1500);
        tokio::time::sleep(Duration::from_secs(10)).await;
        write().await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 12_000, "idle time is not saved up");
    }
}
