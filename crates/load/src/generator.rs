//! Sends records at the rates of a profile and keeps account of what became of each.
//!
//! One task paces all partitions: at each tick every partition is owed the bytes of its rate, and whole records are
//! enqueued for them. Deliveries are looked at from the front of each partition's queue, so no record needs a task.
//! A record whose outcome is unknown is never sent again: its sequence number goes to the ledger's `maybe`, and the
//! next record has the next number. So the account is right whether or not that record is stored.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde::Serialize;
use tidegate_core::ids::Instant;
use tidegate_runtime::ports::{AppendError, Clock, Delivery, OutgoingRecord, Producer};

use crate::ledger::{Acknowledged, PartitionLedger};
use crate::profile::{Course, Profile};
use crate::stamp::{Stamp, Stamper};

/// Most that a partition may be owed: after a stall the load goes on at its rate and does not make up for more.
const MOST_OWED: Duration = Duration::from_secs(1);

/// How long a partition is left alone after the producer has refused a record of it.
const REFUSAL_PAUSE: Duration = Duration::from_secs(1);

/// Longest step that a tick accounts for, so that a suspended machine does not come back with a burst.
const MOST_ELAPSED: Duration = Duration::from_secs(5);

const NANOS_PER_SEC: u128 = 1_000_000_000;

/// How a generator works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GeneratorConfig {
    /// Marks the records of this run; another run to the same topics must have another.
    pub run: u64,
    /// Size of each value in bytes, at least [`crate::stamp::MIN_RECORD_BYTES`].
    pub record_bytes: usize,
    /// Time between two looks at the rates: below it the load comes in bursts. The default of 10 ms is a hundredth of
    /// the monitor's sample period.
    pub tick: Duration,
    /// Records of one partition that may wait for their acknowledgement. The default bounds 64 partitions of 1 kB
    /// records to 256 MB, and is reached only when brokers stall.
    pub max_in_flight: usize,
    /// How long to wait for outstanding acknowledgements at the end; what is still open then may be stored or not.
    pub drain: Duration,
}

impl Default for GeneratorConfig {
    fn default() -> Self {
        Self {
            run: 0,
            record_bytes: 1000,
            tick: Duration::from_millis(10),
            max_in_flight: 4096,
            drain: Duration::from_secs(30),
        }
    }
}

/// Counts that others may look at while the generator runs.
#[derive(Debug, Default)]
pub struct Progress {
    enqueued: AtomicU64,
    bytes: AtomicU64,
    stored: AtomicU64,
    maybe: AtomicU64,
    refused: AtomicU64,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Records handed to the client.
    pub enqueued: u64,
    /// Bytes of their values.
    pub bytes: u64,
    /// Records that were acknowledged.
    pub stored: u64,
    /// Records whose outcome is unknown.
    pub maybe: u64,
    /// Records that are certainly not stored.
    pub refused: u64,
}

/// What a run of the generator leaves.
#[derive(Debug)]
pub struct Outcome {
    /// What was acknowledged, for the audit.
    pub acknowledged: Acknowledged,
    /// The counts.
    pub totals: Totals,
    /// The last error of the producer, with its causes.
    pub trouble: Option<String>,
}

/// Sends records to partitions: the first of the profile's rates is for the first of them.
#[derive(Debug)]
pub struct Generator {
    producer: Arc<dyn Producer>,
    clock: Arc<dyn Clock>,
    config: GeneratorConfig,
    course: Course,
    stamper: Stamper,
    lanes: Vec<Lane>,
    progress: Arc<Progress>,
    began: Instant,
    last: Instant,
    /// Which partition comes first at the next tick, so that a client that is full starves none.
    first: usize,
    trouble: Option<String>,
}

/// One partition.
#[derive(Debug)]
struct Lane {
    topic: Arc<str>,
    number: u32,
    /// The next record's.
    sequence: u64,
    /// Bytes times nanoseconds per second.
    owed: u128,
    quiet_until: Instant,
    waiting: VecDeque<(u64, Delivery)>,
    ledger: PartitionLedger,
}

// === impl Progress ===

impl Progress {
    /// The counts up to now.
    pub fn totals(&self) -> Totals {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Totals {
            enqueued: load(&self.enqueued),
            bytes: load(&self.bytes),
            stored: load(&self.stored),
            maybe: load(&self.maybe),
            refused: load(&self.refused),
        }
    }
}

// === impl Generator ===

impl Generator {
    /// A generator for these partitions, by topic name and number; those beyond the profile's get nothing.
    pub fn new(
        producer: Arc<dyn Producer>,
        clock: Arc<dyn Clock>,
        profile: &Profile,
        partitions: Vec<(Arc<str>, u32)>,
        config: GeneratorConfig,
    ) -> Self {
        let lane = |(topic, number)| Lane {
            topic,
            number,
            sequence: 0,
            owed: 0,
            quiet_until: Instant::default(),
            waiting: VecDeque::new(),
            ledger: PartitionLedger::default(),
        };
        let now = clock.now();
        Self {
            producer,
            clock,
            config,
            course: profile.course(),
            stamper: Stamper::new(config.run, config.record_bytes),
            lanes: partitions.into_iter().map(lane).collect(),
            progress: Arc::default(),
            began: now,
            last: now,
            first: 0,
            trouble: None,
        }
    }

    /// The counts, to be looked at while it runs.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Sends until `stop` is ready, then waits for what is outstanding.
    pub async fn run(mut self, stop: impl Future<Output = ()> + Send) -> Outcome {
        let mut stop = pin!(stop);
        self.began = self.clock.now();
        self.last = self.began;
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = self.tick() => {}
            }
        }
        self.drain().await;
        self.outcome()
    }

    /// Waits for the next tick and sends what is due. Cancel-safe: a record counts as sent in the same poll in which
    /// the client takes it, and the client takes nothing when the future is dropped before.
    async fn tick(&mut self) {
        tokio::time::sleep(self.config.tick).await;
        self.collect().await;
        let now = self.clock.now();
        let elapsed = now.since(self.last).min(MOST_ELAPSED);
        self.last = now;
        let rates = self.course.at(now.since(self.began));
        for (lane, rate) in self.lanes.iter_mut().zip(rates) {
            lane.owe(*rate, elapsed, self.stamper.record_bytes());
        }
        let count = self.lanes.len();
        for turn in 0..count {
            self.serve((self.first + turn) % count, now).await;
        }
        self.first = (self.first + 1) % count.max(1);
    }

    async fn serve(&mut self, lane: usize, now: Instant) {
        let record_bytes = self.stamper.record_bytes();
        let price = record_bytes as u128 * NANOS_PER_SEC;
        let Some(lane) = self.lanes.get_mut(lane) else { return };
        while lane.owed >= price
            && lane.waiting.len() < self.config.max_in_flight
            && lane.quiet_until <= now
        {
            let time_ms = self.clock.unix_ms();
            let (run, sequence) = (self.config.run, lane.sequence);
            let stamp = Stamp { run, partition: lane.number, sequence, time_ms };
            let record = OutgoingRecord {
                topic: Arc::clone(&lane.topic),
                partition: lane.number,
                key: None,
                value: Some(self.stamper.value(stamp)),
                headers: Vec::new(),
                timestamp_ms: Some(time_ms),
            };
            let enqueued = self.producer.enqueue(record).await;
            lane.sequence += 1;
            lane.owed -= price;
            add(&self.progress.enqueued, 1);
            add(&self.progress.bytes, record_bytes as u64);
            match enqueued {
                Ok(delivery) => lane.waiting.push_back((sequence, delivery)),
                Err(error) => {
                    lane.quiet_until = now.after(REFUSAL_PAUSE);
                    self.trouble = Some(chain(&error));
                    lane.settle(sequence, &Err(error), &self.progress);
                }
            }
        }
    }

    /// Takes the outcomes that have arrived, all of them: tokio would stop at a number that is far below those of a tick.
    async fn collect(&mut self) {
        tokio::task::unconstrained(async { self.collect_now() }).await;
    }

    fn collect_now(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        for lane in &mut self.lanes {
            while let Some((sequence, delivery)) = lane.waiting.front_mut() {
                let Poll::Ready(outcome) = Pin::new(delivery).poll(&mut context) else { break };
                let sequence = *sequence;
                lane.waiting.pop_front();
                if let Err(error) = &outcome {
                    self.trouble = Some(chain(error));
                }
                lane.settle(sequence, &outcome, &self.progress);
            }
        }
    }

    async fn drain(&mut self) {
        let deadline = self.clock.now().after(self.config.drain);
        self.collect().await;
        while self.lanes.iter().any(|lane| !lane.waiting.is_empty()) && self.clock.now() < deadline
        {
            tokio::time::sleep(self.config.tick).await;
            self.collect().await;
        }
    }

    fn outcome(self) -> Outcome {
        let mut acknowledged = Acknowledged::new(self.config.run);
        for mut lane in self.lanes {
            for (sequence, _) in std::mem::take(&mut lane.waiting) {
                lane.ledger.maybe(sequence);
                add(&self.progress.maybe, 1);
            }
            acknowledged.insert(&lane.topic, lane.number, lane.ledger);
        }
        Outcome { acknowledged, totals: self.progress.totals(), trouble: self.trouble }
    }
}

// === impl Lane ===

impl Lane {
    fn owe(&mut self, bytes_per_sec: u64, elapsed: Duration, record_bytes: usize) {
        let most = u128::from(bytes_per_sec) * MOST_OWED.as_nanos();
        let most = most.max(record_bytes as u128 * NANOS_PER_SEC);
        self.owed = (self.owed + u128::from(bytes_per_sec) * elapsed.as_nanos()).min(most);
    }

    fn settle(&mut self, sequence: u64, outcome: &Result<u64, AppendError>, progress: &Progress) {
        let count = match outcome {
            Ok(offset) => {
                self.ledger.stored(sequence, *offset);
                &progress.stored
            }
            Err(AppendError::Unknown(_)) => {
                self.ledger.maybe(sequence);
                &progress.maybe
            }
            Err(AppendError::Refused(_)) => &progress.refused,
        };
        add(count, 1);
    }
}

fn add(count: &AtomicU64, number: u64) {
    count.fetch_add(number, Ordering::Relaxed);
}

fn chain(error: &AppendError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
