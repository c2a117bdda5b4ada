//! The loop itself: waits for what comes next, hands it to the state machine, and performs the effects.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidegate_core::consumer::{Consumer, Identity, Input, ReadFailure};
use tidegate_core::ids::{BootId, ConsumerNumber, Epoch, Instant, Offset, PartitionId, ProcessId};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::calls::{self, Call, Outcome};
use super::face::{Face, Shown};
use super::gather::{Gatherer, Limits};
use super::mirror::Mirror;
use super::reading::{self, Order, Read, ReaderHandle};
use super::sinks::Sinks;
use crate::codec;
use crate::ports::{
    Class, Clock, ControlLog, ControlReader, Offsets, PartitionReader, Persisted, RawRecord,
    ReadError, Record, Sink, StateError, StateFile, TopicPartition,
};
use crate::settings;
use crate::spec::Config;
use crate::task::{self, TaskError};

/// Time between two looks at what time alone brings: batches that have become old enough, retries, the heartbeat.
const TICK: Duration = Duration::from_millis(25);

/// Time between two updates of what is shown, and of the figures in heartbeats.
const SHOW: Duration = Duration::from_secs(1);

/// Time between two commits of durable positions under the group's name, for the tools that read them.
const MIRROR: Duration = Duration::from_secs(5);

/// Who this process is.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// Its number: the partition of the controller topic that its commands come on.
    pub consumer: ConsumerNumber,
    /// This run.
    pub process: ProcessId,
    /// The machine's boot, where it can be told.
    pub boot: Option<BootId>,
}

/// The world of a consumer.
#[derive(Debug)]
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// The topic whose partition 0 is the ledger.
    pub ledger: Arc<dyn ControlLog>,
    /// The topic with the command partitions; the ledger's unless the spec separates them.
    pub commands: Arc<dyn ControlLog>,
    /// Records.
    pub reader: Box<dyn PartitionReader>,
    /// Where they go.
    pub sinks: Sinks,
    /// The group's offsets, as a mirror.
    pub offsets: Arc<dyn Offsets>,
    /// What outlives the process.
    pub state: Box<dyn StateFile>,
    /// Where the consumer shows itself.
    pub shown: Shown,
}

/// Runs a consumer until it has left. Each message on `stops` is one wish to end: the first begins a controlled stop,
/// the second cuts it short. Returns true after a controlled stop.
pub async fn run(
    config: Arc<Config>,
    start: Start,
    ports: Ports,
    stops: mpsc::Receiver<()>,
) -> Result<bool, Error> {
    let (shell, reader) = Shell::new(config, start, ports)?;
    let reader = task::spawn_named("reader", reader);
    // On a worker of the runtime, as the reader is: what they tell each other then seldom has to wake another thread.
    let shell = task::spawn_named("consumer", shell.run(stops));
    let clean = shell.await.map_err(Error::Task)??;
    // Told to stop by the shell's end.
    reader.await.map_err(Error::Task)?.map_err(Error::Reader)?;
    Ok(clean)
}

/// Why a consumer could not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state directory cannot be used.
    #[error("failed to load the consumer's state")]
    State(#[source] StateError),
    /// A task died.
    #[error("a task of the consumer ended")]
    Task(#[source] TaskError),
    /// The reader failed.
    #[error("the partition reader ended")]
    Reader(#[source] task::Failure),
}

/// A partition whose sink was acquired.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) partition: TopicPartition,
    pub(super) sink: Arc<dyn Sink>,
}

pub(super) struct Shell {
    pub(super) config: Arc<Config>,
    pub(super) start: Start,
    pub(super) core: Consumer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ledger: Arc<dyn ControlLog>,
    pub(super) commands: Arc<dyn ControlLog>,
    pub(super) sinks: Arc<Sinks>,
    pub(super) offsets: Arc<dyn Offsets>,
    /// Away while it is being saved.
    pub(super) state: Option<Box<dyn StateFile>>,
    /// What is to be saved has changed meanwhile.
    pub(super) save_again: bool,
    pub(super) persisted: Persisted,
    pub(super) reader: ReaderHandle,
    pub(super) stop_reader: CancellationToken,
    pub(super) listening: Option<Box<dyn ControlReader>>,
    pub(super) calls: FuturesUnordered<Call>,
    pub(super) writes: JoinSet<Outcome>,
    /// The write under way of each partition, with its epoch.
    pub(super) writing: BTreeMap<PartitionId, (Epoch, AbortHandle)>,
    /// How many offsets the write under way passes over, where it records a gap.
    pub(super) skipping: BTreeMap<(PartitionId, Epoch), u64>,
    pub(super) targets: BTreeMap<PartitionId, Target>,
    pub(super) gatherer: Gatherer,
    pub(super) face: Face,
    pub(super) inputs: VecDeque<Input>,
    pub(super) show_due: Instant,
    pub(super) mirror: Mirror,
    pub(super) mirror_due: Instant,
    pub(super) ended: Option<bool>,
}

impl Shell {
    fn new(
        config: Arc<Config>,
        start: Start,
        mut ports: Ports,
    ) -> Result<(Self, impl Future<Output = Result<(), task::Failure>>), Error> {
        let persisted = ports.state.load().map_err(Error::State)?;
        let now = ports.clock.now();
        let identity = Identity {
            consumer: start.consumer,
            process: start.process,
            boot: start.boot,
            directory: Some(persisted.directory),
            clean: persisted.clean,
            persisted: persisted.partitions.iter().map(|(at, next)| (*at, *next)).collect(),
        };
        tracing::info!(consumer = %start.consumer, clean = persisted.clean, partitions = persisted.partitions.len(), "the last stop of this consumer");
        let stop_reader = CancellationToken::new();
        let (reader, task) = reading::reader(ports.reader, stop_reader.clone());
        let shell = Self {
            core: Consumer::new(settings::consumer(&config), identity, now),
            gatherer: Gatherer::new(limits(&config)),
            face: Face::new(ports.shown, config.group.0.clone(), start),
            config,
            start,
            clock: ports.clock,
            ledger: ports.ledger,
            commands: ports.commands,
            sinks: Arc::new(ports.sinks),
            offsets: ports.offsets,
            state: Some(ports.state),
            save_again: false,
            persisted,
            reader,
            stop_reader,
            listening: None,
            calls: FuturesUnordered::new(),
            writes: JoinSet::new(),
            writing: BTreeMap::new(),
            skipping: BTreeMap::new(),
            targets: BTreeMap::new(),
            inputs: VecDeque::new(),
            show_due: now,
            mirror: Mirror::new(now),
            mirror_due: now,
            ended: None,
        };
        Ok((shell, task))
    }

    async fn run(mut self, mut stops: mpsc::Receiver<()>) -> Result<bool, Error> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            // Cancel-safe: each branch takes its message and returns it in one poll; an unfinished call stays where it is.
            tokio::select! {
                biased;
                Some(()) = stops.recv() => {
                    self.face.told_to_end(&self.core, &self.gatherer);
                    self.inputs.push_back(Input::Shutdown(self.config.consumer.stop_budget));
                }
                Some(outcome) = self.calls.next(), if !self.calls.is_empty() => self.take(outcome),
                _ = ticks.tick() => self.tick(),
                Some(outcome) = self.writes.join_next(), if !self.writes.is_empty() => {
                    match outcome {
                        Ok(outcome) => self.take(outcome),
                        Err(error) if error.is_panic() => self.broken("a write to a sink", &error),
                        Err(_) => {}
                    }
                }
                records = next_commands(&mut self.listening) => self.take_commands(records),
                read = self.reader.reads.recv() => match read {
                    Some(read) => self.take_read(read),
                    None => self.broken("the partition reader", &"it ended"),
                },
            }
            self.step();
            if let Some(clean) = self.ended {
                self.stop_reader.cancel();
                self.writes.shutdown().await;
                self.save_last().await;
                return Ok(clean);
            }
        }
    }

    /// Something that must not end has ended: this process cannot keep its promises, and a new one begins clean.
    pub(super) fn broken(&mut self, what: &str, error: &dyn std::fmt::Display) {
        tracing::error!(%error, "{what} is broken");
        self.ended = Some(false);
    }

    fn saved(&mut self, state: Box<dyn StateFile>) {
        self.state = Some(state);
        if std::mem::take(&mut self.save_again)
            && let Some(state) = self.state.take()
        {
            self.calls.push(calls::save(state, self.persisted.clone()));
        }
    }

    /// A save that was under way when the end came is waited for, and then the end itself is saved.
    async fn save_last(&mut self) {
        while self.state.is_none()
            && let Some(outcome) = self.calls.next().await
        {
            if let Outcome::Saved(state) = outcome {
                self.state = Some(calls::save_now(state, &self.persisted));
            }
        }
    }

    // === inputs ===

    fn take(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::Ends(ends) => self.gatherer.ends(&ends),
            Outcome::Committed(commit, result) => self.committed(commit, result),
            Outcome::Extent(id, reading, failure) => {
                if let Some(gathering) = self.gatherer.of_reading(id, reading) {
                    self.inputs.push_back(Input::ReadFailed(id, gathering.epoch, failure));
                }
            }
            Outcome::Saved(state) => self.saved(state),
            Outcome::Input(input) => self.inputs.push_back(input),
            Outcome::Listening(Ok(reader)) => self.listening = Some(reader),
            Outcome::Listening(Err(from)) => {
                self.calls.push(calls::listen(
                    Arc::clone(&self.commands),
                    self.start.consumer,
                    from,
                ));
            }
            Outcome::Acquired(partition, sink, epoch, stands) => {
                let id = partition.id;
                self.targets.insert(id, Target { partition, sink });
                self.inputs.push_back(Input::Acquired(id, epoch, stands));
            }
            Outcome::Written(id, epoch, written) => {
                // One that was given up may end when the next owner's is under way.
                if self.writing.get(&id).is_some_and(|(of, _)| *of == epoch) {
                    self.writing.remove(&id);
                }
                let skipped = self.skipping.remove(&(id, epoch));
                let input = match written {
                    Ok(done) => {
                        self.face.skipped(skipped.unwrap_or_default());
                        self.count_write(id, epoch, done);
                        Input::Written(id, epoch, done.end)
                    }
                    Err(error) => {
                        self.face.sink_failed(error.class());
                        Input::WriteFailed(id, epoch, calls::sink_failure(&error))
                    }
                };
                self.inputs.push_back(input);
            }
        }
    }

    fn count_write(&mut self, id: PartitionId, epoch: Epoch, done: super::gather::Done) {
        let Some(gathering) = self.gatherer.get(id).filter(|gathering| gathering.epoch == epoch)
        else {
            return;
        };
        let written = done.first_unix_ms.and_then(|at| u64::try_from(at).ok());
        let age = written.map(|at| Duration::from_millis(self.clock.unix_ms().saturating_sub(at)));
        let sink =
            self.config.topic(&gathering.partition.topic).map_or("", |topic| topic.sink.scheme());
        self.face.delivered(sink, &done, age);
        if self.gatherer.written(id, done, age) {
            self.pause(id, false);
        }
    }

    fn take_commands(&mut self, records: Result<Vec<RawRecord>, ReadError>) {
        match records {
            Ok(records) => {
                self.face.heard(records.len());
                self.inputs.extend(records.iter().map(|record| {
                    let command = codec::command(record).map_err(|error| {
                        self.face.metrics.commands_undecodable.inc();
                        tracing::warn!(
                            offset = record.offset,
                            error = &error as &dyn std::error::Error,
                            "a command cannot be read"
                        );
                    });
                    Input::Command(Offset(record.offset), command.ok())
                }));
            }
            Err(error) => {
                // Without commands there is no heartbeat: the lease lapses and a new life begins where the log ends. What
                // is lost is no better for being waited for.
                if matches!(error, ReadError::Lost(_) | ReadError::Trimmed(_)) {
                    self.inputs.push_back(Input::CommandsLost);
                }
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the command partition cannot be read on"
                );
                self.listening = None;
            }
        }
    }

    fn take_read(&mut self, read: Read) {
        let now = self.clock.now();
        match read {
            Read::Records(reading, batch, end) => {
                let id = batch.partition.id;
                self.face
                    .received(batch.records.len(), batch.records.iter().map(Record::size).sum());
                if self.gatherer.add(now, reading, batch, end) {
                    self.pause(id, true);
                }
                if self.gatherer.is_crowded() {
                    self.announce(now);
                } else if let Some(epoch) = self.gatherer.announce_one(now, id) {
                    self.inputs.push_back(Input::Ready(id, epoch));
                }
            }
            Read::OutOfRange(reading, partition) => {
                if self.gatherer.of_reading(partition.id, reading).is_some() {
                    let offsets = Arc::clone(&self.offsets);
                    self.calls.push(calls::extent(offsets, reading, partition));
                }
            }
            Read::Failed(reading, partition, error) => {
                tracing::warn!(%partition, error = &error as &dyn std::error::Error, "reading failed");
                if let Some(gathering) = self.gatherer.of_reading(partition.id, reading) {
                    let failure = match error.class() {
                        Class::Transient => ReadFailure::Transient,
                        Class::Permanent | Class::Fenced => ReadFailure::Permanent,
                    };
                    self.inputs.push_back(Input::ReadFailed(
                        partition.id,
                        gathering.epoch,
                        failure,
                    ));
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.announce(now);
        for partition in self.gatherer.resumable() {
            self.order(Order::Pause(partition, false));
        }
        if self.show_due <= now {
            self.show_due = now.after(SHOW);
            self.face.show(now, self.clock.unix_ms(), &self.core, &self.gatherer);
            self.inputs.push_back(Input::Figures(self.gatherer.figures()));
        }
        if self.mirror_due <= now {
            self.mirror_due = now.after(MIRROR);
            self.fetch_ends();
            self.commit(now);
        }
        self.inputs.push_back(Input::Tick);
    }

    fn announce(&mut self, now: Instant) {
        let ready = self.gatherer.announce(now);
        self.inputs.extend(ready.into_iter().map(|(id, epoch)| Input::Ready(id, epoch)));
    }

    fn step(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            for effect in self.core.step(self.clock.now(), input) {
                self.perform(effect);
            }
        }
        self.face.holds(self.core.holds());
    }
}

async fn next_commands(
    reader: &mut Option<Box<dyn ControlReader>>,
) -> Result<Vec<RawRecord>, ReadError> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

fn limits(config: &Config) -> Limits {
    let bytes = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
    Limits {
        batch_bytes: bytes(config.consumer.batch_bytes),
        wait_time: config.consumer.wait_time,
        first_batch: config.consumer.first_batch,
        queue_bytes: bytes(config.consumer.queue_bytes),
    }
}
