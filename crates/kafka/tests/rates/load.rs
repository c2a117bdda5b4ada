//! Producers that write at a steady rate, one batch at a time, until they are told to stop.
//!
//! A pause that lasted too long is not made up for: the rate is never above what was asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_kafka::{Kafka, ProducerOptions};
use tidegate_runtime::ports::{BootClock, Clock as _, OutgoingRecord, Producer};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The time between two batches.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes of a value.
pub(crate) const VALUE_BYTES: usize = 1000;

/// A producer at work.
pub(crate) struct Load {
    stop: CancellationToken,
    task: Task<Wrote>,
}

/// What a producer knows in the end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wrote {
    /// Bytes of the log that each batch takes; all batches are alike.
    pub(crate) batch_bytes: u64,
    /// When the first batch of every partition was in the log.
    pub(crate) first_unix_ms: u64,
}

impl Load {
    /// Writes so many records of 1 kB in each batch, ten batches a second, to each of some partitions.
    pub(crate) fn start(kafka: &Kafka, topic: &str, partitions: Vec<u32>, records: usize) -> Self {
        let (writer, topic) = (kafka.batch_writer(), topic.to_owned());
        let values = vec![Bytes::from(vec![b'x'; VALUE_BYTES]); records];
        let batches: BTreeMap<_, _> =
            partitions.into_iter().map(|number| (number, values.clone())).collect();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let write = async move {
            let mut wrote = Wrote::default();
            let mut ticks = ticks();
            while !stopped.is_cancelled() {
                ticks.tick().await;
                let now = BootClock.unix_ms();
                // One that fails may be in the log: it is like all others.
                let Ok(stored) = writer.write(&topic, &batches, now).await else { continue };
                for bytes in stored.into_values() {
                    assert!([0, bytes].contains(&wrote.batch_bytes));
                    wrote.batch_bytes = bytes;
                }
                if wrote.first_unix_ms == 0 {
                    wrote.first_unix_ms = BootClock.unix_ms();
                }
            }
            wrote
        };
        Self { stop, task: spawn_named("load", write) }
    }

    /// The same to partition 0 with keys, of which there are few: most records are soon replaced.
    pub(crate) fn start_keyed(kafka: &Kafka, topic: &str, records: u64) -> Self {
        let producer = kafka.producer(ProducerOptions::default()).unwrap();
        let topic: Arc<str> = topic.into();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let write = async move {
            let mut ticks = ticks();
            while !stopped.is_cancelled() {
                ticks.tick().await;
                write_keyed(&*producer, &topic, records).await;
            }
            Wrote::default()
        };
        Self { stop, task: spawn_named("load", write) }
    }

    /// Stops it, after its last batch.
    pub(crate) async fn end(self) -> Wrote {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

fn ticks() -> Interval {
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn write_keyed(producer: &dyn Producer, topic: &Arc<str>, records: u64) {
    let mut sent = Vec::new();
    for number in 0..records {
        let record = OutgoingRecord {
            topic: Arc::clone(topic),
            partition: 0,
            key: Some(Bytes::from(format!("{number:04}"))),
            value: Some(Bytes::from(vec![b'x'; VALUE_BYTES])),
            headers: Vec::new(),
            timestamp_ms: Some(BootClock.unix_ms()),
        };
        sent.push(producer.enqueue(record).await.unwrap());
    }
    for sent in sent {
        sent.await.unwrap();
    }
}
