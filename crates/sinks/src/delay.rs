//! The `delay` sink: another sink behind a set rate and set waits. It makes a consumer of known capacity for tests of sizing,
//! and holds it in a state for as long as a test of that state needs.
//!
//! The rate is one for all partitions of the sink, as a consumer's is: each write takes the time that its bytes need,
//! one after the other in the order in which they began. A write that is given up keeps the time it has reserved. So the
//! write time-out must be above the time that one batch of each partition takes together.
//!
//! The waits are each call's own, as the round trips to a store are: partitions wait beside each other.

use std::hash::{BuildHasher as _, RandomState};
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tidegate_core::ids::{FencingToken, Instant, Position};
use tidegate_core::random::SplitMix64;
use tidegate_runtime::ports::{Batch, Clock, Guarantee, Record, Sink, SinkError, TopicPartition};
use tidegate_runtime::spec::{Rate, Span, shown};

/// How slow a sink is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delays {
    /// Bytes of keys, values and headers that it lets through per second.
    pub bytes_per_sec: NonZeroU64,
    /// What taking a partition over takes longer.
    pub acquire: Duration,
    /// What each write takes longer, whatever its size.
    pub write: Duration,
    /// The most that each of these takes longer still: a random part of it, another one each time.
    pub jitter: Duration,
}

/// A sink that is no faster than its delays.
#[derive(Debug)]
pub struct Delay {
    inner: Arc<dyn Sink>,
    delays: Delays,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// When the bytes accepted so far are through.
    free_at: Instant,
    random: SplitMix64,
}

// === impl Delays ===

impl Delays {
    /// A rate, and no waits.
    pub fn of_rate(bytes_per_sec: NonZeroU64) -> Self {
        let (acquire, write, jitter) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Self { bytes_per_sec, acquire, write, jitter }
    }

    /// Reads a rate, and waits behind a `?`: `10MB/s?write=50ms&jitter=20ms`. The error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (rate, options) = text.split_once('?').unwrap_or((text, ""));
        // What stands in the place of a rate may be a URL with a secret.
        let wrong = |_| format!("expected a rate such as 10MB/s, found {:?}", shown(text));
        let mut delays = Self::of_rate(Rate::parse(rate).map_err(wrong)?);
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("acquire", value)) => delays.acquire = Span::parse(value)?,
                Some(("write", value)) => delays.write = Span::parse(value)?,
                Some(("jitter", value)) => delays.jitter = Span::parse(value)?,
                _ => {
                    let name = option.split('=').next().unwrap_or_default();
                    return Err(format!("option {name:?} is not one of acquire, write, jitter"));
                }
            }
        }
        Ok(delays)
    }
}

// === impl Delay ===

impl Delay {
    /// A sink before `inner` that is slowed down so much.
    pub fn new(inner: Arc<dyn Sink>, delays: Delays, clock: Arc<dyn Clock>) -> Self {
        // Processes of one group must not wait in step.
        let random = SplitMix64::new(RandomState::new().hash_one(0));
        Self {
            inner,
            delays,
            clock,
            state: Mutex::new(State { free_at: Instant::default(), random }),
        }
    }

    /// Reserves the time of so many bytes and returns how long from now it ends, with the waits of a write.
    fn reserve(&self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.delays.bytes_per_sec.get());
        let takes = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free_at = state.free_at.max(now).after(takes);
        let free = state.free_at.since(now);
        free + self.delays.write + self.jitter(&mut state)
    }

    fn jitter(&self, state: &mut State) -> Duration {
        let most = u64::try_from(self.delays.jitter.as_micros()).unwrap_or(u64::MAX);
        let part = state.random.next().checked_rem(most.saturating_add(1));
        Duration::from_micros(part.unwrap_or_default())
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
        let jitter = self.jitter(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        tokio::time::sleep(self.delays.acquire + jitter).await;
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

    const TOKEN: FencingToken = FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) };

    fn sink(delays: &str, start: tokio::time::Instant) -> Delay {
        let delays = Delays::parse(delays).unwrap();
        Delay::new(Arc::new(Blackhole::default()), delays, Arc::new(Paused(start)))
    }

    fn partition() -> TopicPartition {
        let id = PartitionId { topic: TopicId([1; 16]), number: 2 };
        TopicPartition { topic: "orders".to_owned(), id }
    }

    fn records() -> [Record; 1] {
        let value = Some(Bytes::from(vec![0; 500]));
        [Record { offset: 0, timestamp_ms: 0, key: None, value, headers: Vec::new() }]
    }

    #[tokio::test(start_paused = true)]
    async fn writes_take_the_time_of_their_bytes_one_after_the_other() {
        let start = tokio::time::Instant::now();
        let (sink, partition, records) = (sink("1kB/s", start), partition(), records());
        let batch = Batch { expected: Position(0), records: &records, end: Position(1) };
        let write = || sink.write(&partition, TOKEN, batch);
        let (a, b, c) = tokio::join!(write(), write(), write());
        a.and(b).and(c).unwrap();
        assert_eq!(start.elapsed().as_millis(), 1500);
        tokio::time::sleep(Duration::from_secs(10)).await;
        write().await.unwrap();
        assert_eq!(start.elapsed().as_millis(), 12_000, "idle time is not saved up");
    }

    #[tokio::test(start_paused = true)]
    async fn waits_are_each_calls_own_and_jitter_is_within_its_limit() {
        let start = tokio::time::Instant::now();
        let sink = sink("1GB/s?acquire=3s&write=2s&jitter=1s", start);
        let (partition, records) = (partition(), records());
        let batch = Batch { expected: Position(0), records: &records, end: Position(1) };
        sink.acquire(&partition, TOKEN).await.unwrap();
        let acquired = start.elapsed();
        assert!((3000..=4001).contains(&acquired.as_millis()), "{acquired:?}");
        let mut waits = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let began = tokio::time::Instant::now();
            let write = || sink.write(&partition, TOKEN, batch);
            let (a, b) = tokio::join!(write(), write());
            a.and(b).unwrap();
            let took = began.elapsed();
            assert!((2000..=3001).contains(&took.as_millis()), "beside each other: {took:?}");
            waits.insert(took);
        }
        assert!(waits.len() > 1, "jitter is not the same each time: {waits:?}");
    }
}
