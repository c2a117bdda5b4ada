//! One run of a consumer, in a process of its own so that its CPU time and memory are its own: the production loop with the
//! production reader, all partitions granted at once, a sink that counts. What a user's consumer has and this has not is
//! Kafka behind its ledger.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_trait::async_trait;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use serde::{Deserialize, Serialize};
use tidegate_core::ids::{
    ConsumerNumber, DirectoryId, FencingToken, Instant, PartitionId, Position, ProcessId,
};
use tidegate_kafka::Kafka;
use tidegate_runtime::consumer::{self, Sinks};
use tidegate_runtime::ports::{
    Batch, Bound, Clock, ControlLog, Error, Guarantee, PartitionReader, Persisted, ReadEvent,
    Record, Sink, SinkError, StateError, StateFile, TopicPartition,
};
use tidegate_runtime::spec::{Config, ControlTopics, GroupSpec, SinkTarget, TopicOfInterest};
use tidegate_runtime::telemetry::metrics::ConsumerMetrics;
use tokio::sync::{mpsc, watch};

use super::ledger::{Granter, MemoryLog};
use crate::args::ConsumeOnceArgs;
use crate::commands::bench::usage;
use crate::failure::{Exit, InvalidSpec};
use crate::output::Output;
use crate::quantiles::nearest_ranks;
use crate::setup::{self, Patience};
use crate::wiring;

/// The only consumer.
const CONSUMER: u32 = 1;

/// What a run found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Found {
    pub(super) records: u64,
    /// Of values.
    pub(super) bytes: u64,
    /// From the command to start until the last record is read: what follows is the wait for a batch that is not full.
    pub(super) seconds: f64,
    /// Of the whole process, from its start.
    pub(super) cpu_seconds: f64,
    pub(super) rss_peak_mib: u64,
    /// Without work, after all was read: share of one core, in percent.
    pub(super) idle_cpu_percent: Option<f64>,
    /// From a command to start until the first record is read, and until it is in the sink: median and 99th of 100.
    pub(super) first_read_ms: Option<(f64, f64)>,
    pub(super) first_durable_ms: Option<(f64, f64)>,
}

pub(super) async fn run(args: &ConsumeOnceArgs, output: &Output) -> anyhow::Result<Exit> {
    let found = measure(args).await?;
    output.result(&format!("{found:?}"), &found)?;
    Ok(Exit::Done)
}

async fn measure(args: &ConsumeOnceArgs) -> anyhow::Result<Found> {
    let config = Arc::new(configuration(args)?);
    let kafka = setup::connect(&config.cluster, "tidegate-bench", Patience::Command).await?;
    let (partitions, expected) = partitions(&kafka, &args.topics).await?;
    ensure!(expected > 0, "the topics {:?} hold no records", args.topics);
    let watched = Arc::new(Watched::new(wiring::clock()));
    let (ledger, granter) = Granter::new(config.group.clone(), CONSUMER);
    let ports = ports(&kafka, &config, &Arc::new(ledger), &watched);
    let number = ConsumerNumber::new(CONSUMER).context("the consumer has a number")?;
    let start = consumer::Start { consumer: number, process: ProcessId(1), boot: None };
    let (stop, stops) = mpsc::channel(2);
    let mut running = pin!(consumer::run(Arc::clone(&config), start, ports, stops));
    let limit = config.ownership.write_timeout;
    let mut course = Course { watched, granter, number, partitions, limit };
    let found = tokio::select! {
        found = course.run(args, expected) => found?,
        ended = &mut running => {
            ended?;
            bail!("the consumer ended before it had read everything");
        }
    };
    stop.send(()).await.context("the consumer has ended by itself")?;
    ensure!(running.await?, "the consumer did not end cleanly");
    Ok(found)
}

/// The world of a user's consumer, but for the ledger and the sink.
fn ports(
    kafka: &Kafka,
    config: &Arc<Config>,
    ledger: &Arc<MemoryLog>,
    watched: &Arc<Watched>,
) -> consumer::Ports {
    let sink = Arc::clone(watched);
    let open = Box::new(move |_: &SinkTarget| {
        let sink = Arc::clone(&sink) as Arc<dyn Sink>;
        Box::pin(async move { Ok::<_, Error>(sink) }) as BoxFuture<'_, _>
    });
    let reader = kafka.partition_reader(wiring::reader_options(config));
    let ledger = Arc::clone(ledger) as Arc<dyn ControlLog>;
    consumer::Ports {
        clock: Arc::clone(&watched.clock),
        ledger: Arc::clone(&ledger),
        commands: ledger,
        reader: Box::new(WatchedReader { reader, watched: Arc::clone(watched) }),
        sinks: Sinks::new(Arc::clone(config), kafka.admin(), open),
        offsets: kafka.offsets(),
        state: Box::new(Forgetful),
        shown: consumer::Shown {
            metrics: ConsumerMetrics::register(&mut Registry::default()),
            status: watch::Sender::default(),
            held: watch::Sender::default(),
        },
    }
}

/// What the consumer is put through.
struct Course {
    watched: Arc<Watched>,
    granter: Granter,
    number: ConsumerNumber,
    partitions: Vec<PartitionId>,
    /// For giving partitions back.
    limit: Duration,
}

impl Course {
    async fn run(&mut self, args: &ConsumeOnceArgs, expected: u64) -> anyhow::Result<Found> {
        let clock = Arc::clone(&self.watched.clock);
        let life = self.granter.hello().await?;
        let from: Vec<_> = self.partitions.iter().map(|id| (*id, Position(0))).collect();
        let began = clock.now();
        let mut epoch = self.granter.start(self.number, life, &from);
        self.watched.until(expected).await;
        let last_read = self.watched.lock().last_read;
        let mut found = Found {
            records: self.watched.records.load(Ordering::Relaxed),
            bytes: self.watched.bytes.load(Ordering::Relaxed),
            seconds: last_read.unwrap_or(began).since(began).as_secs_f64(),
            cpu_seconds: usage::cpu().as_secs_f64(),
            rss_peak_mib: usage::memory().map_or(0, |memory| memory.peak >> 20),
            ..Found::default()
        };
        if let Some(duration) = args.idle {
            let before = usage::cpu();
            tokio::time::sleep(duration).await;
            let used = usage::cpu().saturating_sub(before);
            found.idle_cpu_percent = Some(100.0 * used.as_secs_f64() / duration.as_secs_f64());
        }
        let (mut read, mut durable) = (Vec::new(), Vec::new());
        for _ in 0..args.grants {
            self.granter.stop(life, epoch, self.partitions.clone(), self.limit).await?;
            self.watched.forget();
            let began = clock.now();
            epoch = self.granter.start(self.number, life, &from);
            self.watched.until(1).await;
            let since = |at: Option<Instant>| at.map_or(Duration::ZERO, |at| at.since(began));
            let moments = *self.watched.lock();
            read.push(since(moments.first_read));
            durable.push(since(moments.first_durable));
        }
        found.first_read_ms = quantiles(read);
        found.first_durable_ms = quantiles(durable);
        Ok(found)
    }
}

/// Median and 99th of a hundred, in milliseconds.
fn quantiles(times: Vec<Duration>) -> Option<(f64, f64)> {
    if times.is_empty() {
        return None;
    }
    let [median, most, _] = nearest_ranks(times).map(|time| time.as_secs_f64() * 1000.0);
    Some((median, most))
}

/// All partitions of the topics, and how many records they hold.
async fn partitions(kafka: &Kafka, topics: &[String]) -> anyhow::Result<(Vec<PartitionId>, u64)> {
    let found = kafka.admin().describe(topics).await?;
    ensure!(found.len() == topics.len(), "not all of the topics {topics:?} exist");
    let mut ids = Vec::new();
    let mut names = Vec::new();
    for topic in found {
        for number in 0..topic.partitions {
            ids.push(PartitionId { topic: topic.id, number });
            names.push((topic.name.clone(), number));
        }
    }
    let ends = kafka.offsets().bounds(&names, Bound::Latest).await?;
    ensure!(ends.len() == names.len(), "not all partitions have told where they end");
    Ok((ids, ends.values().sum()))
}

fn configuration(args: &ConsumeOnceArgs) -> anyhow::Result<Config> {
    let topic = |name: &String| TopicOfInterest {
        name: name.clone(),
        sink: "blackhole:".to_owned(),
        ..TopicOfInterest::default()
    };
    let mut spec = GroupSpec {
        group: "tidegate-bench".to_owned(),
        topics: args.topics.iter().map(topic).collect(),
        control_topics: ControlTopics::prefixed("tidegate-bench"),
        ..GroupSpec::default()
    };
    spec.cluster.bootstrap_servers.clone_from(&args.bootstrap);
    let named = "the configuration of the bench".to_owned();
    Ok(spec.validate().map_err(|faults| InvalidSpec::new(named, &faults))?)
}

/// Drops everything, and knows how much that was and when it began and ended.
#[derive(Debug)]
struct Watched {
    clock: Arc<dyn Clock>,
    records: AtomicU64,
    bytes: AtomicU64,
    moments: Mutex<Moments>,
    changed: watch::Sender<()>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    first_read: Option<Instant>,
    last_read: Option<Instant>,
    first_durable: Option<Instant>,
}

/// The reader that a user's consumer has, watched.
#[derive(Debug)]
struct WatchedReader {
    reader: Box<dyn PartitionReader>,
    watched: Arc<Watched>,
}

/// No directory: the run has no past and no future.
#[derive(Debug)]
struct Forgetful;

// === impl Watched ===

impl Watched {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let (records, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { clock, records, bytes, moments: Mutex::default(), changed: watch::Sender::new(()) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Moments> {
        self.moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        self.records.store(0, Ordering::Relaxed);
        *self.lock() = Moments::default();
    }

    async fn until(&self, records: u64) {
        let mut changed = self.changed.subscribe();
        while self.records.load(Ordering::Relaxed) < records {
            // The sender is in this very value.
            drop(changed.changed().await);
        }
    }
}

#[async_trait]
impl Sink for Watched {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn write(
        &self,
        _: &TopicPartition,
        _: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let now = self.clock.now();
        self.lock().first_durable.get_or_insert(now);
        let bytes: usize = batch.records.iter().map(Record::size).sum();
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.records.fetch_add(batch.records.len() as u64, Ordering::Relaxed);
        self.changed.send_replace(());
        Ok(())
    }
}

// === impl WatchedReader ===

#[async_trait]
impl PartitionReader for WatchedReader {
    async fn assign(&mut self, partition: &TopicPartition, from: Position) -> Result<(), Error> {
        self.reader.assign(partition, from).await
    }

    async fn unassign(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.reader.unassign(partition).await
    }

    async fn pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Error> {
        self.reader.pause(partition, paused).await
    }

    async fn next(&mut self) -> ReadEvent {
        let event = self.reader.next().await;
        if matches!(event, ReadEvent::Records(_)) {
            let now = self.watched.clock.now();
            let mut moments = self.watched.lock();
            moments.first_read.get_or_insert(now);
            moments.last_read = Some(now);
        }
        event
    }

    fn end(&self, partition: &TopicPartition) -> Option<Position> {
        self.reader.end(partition)
    }
}

// === impl Forgetful ===

impl StateFile for Forgetful {
    fn load(&mut self) -> Result<Persisted, StateError> {
        Ok(Persisted {
            clean: true,
            directory: DirectoryId(1),
            boot: None,
            partitions: BTreeMap::new(),
        })
    }

    fn save(&mut self, _: &Persisted) -> Result<(), StateError> {
        Ok(())
    }
}

/// How long a run may take; a hundred times what any has taken.
pub(super) const PATIENCE: Duration = Duration::from_secs(600);
