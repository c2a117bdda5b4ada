//! The data path on librdkafka: manual assignment with explicit positions, never a group.
//!
//! ```text
//!  librdkafka's queue ──► reader thread ──batches──► bounded channel ──► next
//!                              ▲                                          │
//!                              └── assign, unassign, pause ───────────────┘ wakes the thread
//! ```
//!
//! Every assignment has a generation; a batch of an older one is dropped when it comes out of the channel. Ends of
//! partitions come from the leaders, asked once a second for all assigned partitions together, so that lag is known of a
//! paused partition too.

mod trouble;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidegate_core::ids::{PartitionId, Position};
use tidegate_runtime::ports::{Class, Error, PartitionReader, ReadEvent, TopicPartition};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::trouble::{QUIET, Suspect, fault};
use crate::cluster::Cluster;
use crate::config::{self, Callbacks};
use crate::ends::{self, Ends};
use crate::errors::{self, Right};
use crate::reader_thread::{Command, Maker, Polled, Poller, Tagged, Trouble};

/// Events that may wait for the caller: with the thread's limits, a few megabytes.
const QUEUE: usize = 4;

/// Memory and patience of a reader.
#[derive(Clone, Copy, Debug)]
pub struct ReaderOptions {
    /// How much librdkafka may fetch ahead, over all partitions.
    pub queue_kib: u32,
    /// How long a broker holds a fetch back that has nothing to return.
    pub fetch_wait: Duration,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            // Two sink batches of the default size, and room for the fetches under way.
            queue_kib: 16 << 10,
            // Measured: with librdkafka's 500 ms a partition added to a fetch waits that long for its first record.
            fetch_wait: Duration::from_millis(50),
        }
    }
}

/// Reads partitions of one cluster.
#[derive(Debug)]
pub(crate) struct KafkaReader {
    cluster: Arc<Cluster>,
    thread: Thread,
    polled: mpsc::Receiver<Polled>,
    assigned: BTreeMap<PartitionId, Assigned>,
    next_generation: u64,
    ready: VecDeque<ReadEvent>,
    /// Errors that were not looked into yet.
    troubles: VecDeque<Trouble>,
    /// When the thread was told last to go on with another client.
    renewed: Option<Instant>,
    suspects: BTreeMap<PartitionId, Suspect>,
    ends: Arc<Ends>,
    _watcher: Task<()>,
}

/// The reader thread: told to stop and joined when dropped.
#[derive(Debug)]
struct Thread {
    commands: Option<mpsc::Sender<Command>>,
    handle: Option<std::thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Assigned {
    partition: TopicPartition,
    generation: u64,
    next: Position,
}

// === impl KafkaReader ===

impl KafkaReader {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        mut settings: ClientConfig,
        group: &str,
        options: ReaderOptions,
    ) -> Result<Self, Error> {
        settings
            // librdkafka refuses manual assignment without a group id; the group is never joined.
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("allow.auto.create.topics", "false")
            .set("fetch.queue.backoff.ms", "5")
            .set("fetch.error.backoff.ms", "50")
            .set("fetch.wait.max.ms", options.fetch_wait.as_millis().to_string())
            .set("queued.min.messages", "100000")
            .set("queued.max.messages.kbytes", options.queue_kib.to_string())
            // Corrupt batches are an error, not data.
            .set("check.crcs", "true");
        let callbacks = Callbacks::new(cluster.tokens());
        let context = callbacks.clone();
        let make =
            move || settings.create_with_context::<_, BaseConsumer<Callbacks>>(context.clone());
        let consumer = make().map_err(|error| config::not_made("consumer", &error))?;
        let make = Maker { make: Box::new(make), callbacks };
        let (sender, polled) = mpsc::channel(QUEUE);
        let (commands, obeyed) = mpsc::channel(QUEUE);
        let handle = std::thread::Builder::new()
            .name("kafka-reader".to_owned())
            .spawn(move || Poller::new(consumer, make, obeyed, sender).run())
            .map_err(|cause| {
                Error::new(Class::Permanent, "failed to start the reader's thread").because(cause)
            })?;
        let ends = Arc::new(Ends::default());
        let watch = ends::watch(Arc::clone(&cluster), Arc::clone(&ends));
        Ok(Self {
            cluster,
            thread: Thread { commands: Some(commands), handle: Some(handle) },
            polled,
            assigned: BTreeMap::new(),
            next_generation: 0,
            ready: VecDeque::new(),
            troubles: VecDeque::new(),
            renewed: None,
            suspects: BTreeMap::new(),
            ends,
            _watcher: spawn_named("kafka ends", watch),
        })
    }

    /// Takes over what the thread polled: drops what is not assigned, notes positions.
    fn accept(&mut self, polled: Polled) {
        let batches = match polled {
            Polled::Batches(batches) => batches,
            Polled::Trouble(trouble) => {
                self.note_trouble(trouble);
                return;
            }
        };
        let mut wanted = Vec::with_capacity(batches.len());
        for Tagged { generation, batch } in batches {
            let id = batch.partition.id;
            match self.assigned.get_mut(&id) {
                Some(assigned) if assigned.generation == generation => {
                    assigned.next = batch.next;
                    self.suspects.remove(&id);
                    wanted.push(batch);
                }
                _ => {}
            }
        }
        if !wanted.is_empty() {
            self.ready.push_back(ReadEvent::Records(wanted));
        }
    }

    fn note_trouble(&mut self, trouble: Trouble) {
        match errors::code_of(&trouble.error) {
            // The group is never joined: it may be unknown, and its coordinator out of reach.
            Some(Code::GroupAuthorizationFailed | Code::GroupIdNotFound) => {}
            Some(code) if errors::class_of_code(code) == Class::Transient => {
                tracing::debug!(error = %trouble.error, of = ?trouble.of, "reading goes on by itself");
            }
            _ => self.troubles.push_back(trouble),
        }
    }

    fn fail(&mut self, id: PartitionId, error: Error) {
        if let Some(partition) = self.give_up(id) {
            self.ready.push_back(ReadEvent::Failed(partition, error));
        }
    }

    /// Stops reading a partition without waiting for the thread; it is in order with the commands that follow.
    fn give_up(&mut self, id: PartitionId) -> Option<TopicPartition> {
        let partition = self.assigned.remove(&id)?.partition;
        self.forget(id);
        let (done, _) = oneshot::channel();
        self.thread.try_send(Command::Unassign { partition: partition.clone(), done });
        Some(partition)
    }

    fn forget(&mut self, id: PartitionId) {
        self.suspects.remove(&id);
        self.ends.remove(id);
        // Events that wait already may hold its records.
        for event in &mut self.ready {
            if let ReadEvent::Records(batches) = event {
                batches.retain(|batch| batch.partition.id != id);
            }
        }
        self.ready.retain(|event| match event {
            ReadEvent::Records(batches) => !batches.is_empty(),
            ReadEvent::OutOfRange(of) | ReadEvent::Failed(of, _) => of.id != id,
        });
    }

    async fn command(
        &self,
        doing: String,
        partition: &TopicPartition,
        command: impl FnOnce(oneshot::Sender<Result<(), KafkaError>>) -> Command + Send,
    ) -> Result<(), Error> {
        let (done, outcome) = oneshot::channel();
        self.thread.send(command(done)).await?;
        match outcome.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                Err(errors::library(doing, Right::topic("Read", &partition.topic), error))
            }
            Err(gone) => Err(Error::new(Class::Permanent, doing).because(gone)),
        }
    }
}

#[async_trait]
impl PartitionReader for KafkaReader {
    async fn assign(&mut self, partition: &TopicPartition, from: Position) -> Result<(), Error> {
        let topic = &partition.topic;
        let known = self.cluster.topic(topic).await;
        // What the cache has against the partition may be old.
        let trouble = match fault(&known, topic, partition.id) {
            Some(_) => {
                self.cluster.ask_another();
                fault(&self.cluster.look_up(topic).await, topic, partition.id)
            }
            None => known.err(),
        };
        if let Some(error) = trouble {
            return Err(error);
        }
        self.displace(partition);
        let generation = self.next_generation;
        self.next_generation += 1;
        let assigned = Assigned { partition: partition.clone(), generation, next: from };
        if let Some(before) = self.assigned.insert(partition.id, assigned) {
            self.forget(partition.id);
            let doing = format!("failed to stop reading partition {partition}");
            self.command(doing, partition, |done| Command::Unassign {
                partition: before.partition,
                done,
            })
            .await?;
        }
        let doing = format!("failed to start reading partition {partition}");
        let outcome = self
            .command(doing, partition, |done| Command::Assign {
                partition: partition.clone(),
                from,
                generation,
                done,
            })
            .await;
        match &outcome {
            Ok(()) => self.ends.add(partition),
            Err(_) => {
                self.assigned.remove(&partition.id);
            }
        }
        outcome
    }

    async fn unassign(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        if self.assigned.remove(&partition.id).is_none() {
            return Ok(());
        }
        self.forget(partition.id);
        let doing = format!("failed to stop reading partition {partition}");
        self.command(doing, partition, |done| Command::Unassign {
            partition: partition.clone(),
            done,
        })
        .await
    }

    async fn pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Error> {
        if !self.assigned.contains_key(&partition.id) {
            let text = format!("partition {partition} is not assigned");
            return Err(Error::new(Class::Permanent, text));
        }
        let doing = format!("failed to pause partition {partition}");
        self.command(doing, partition, |done| Command::Pause {
            partition: partition.clone(),
            paused,
            done,
        })
        .await
    }

    async fn next(&mut self) -> ReadEvent {
        // Cancel-safe: an event is taken out of `ready` in the poll that returns it, and everything before only fills it.
        loop {
            self.convict();
            self.part_with_strangers();
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if !self.troubles.is_empty() {
                self.diagnose().await;
                continue;
            }
            let wait = if self.suspects.is_empty() { None } else { Some(QUIET) };
            tokio::select! {
                polled = self.polled.recv() => match polled {
                    Some(polled) => {
                        self.thread.wake();
                        self.accept(polled);
                    }
                    // The thread ends only when it is told to, or by a bug: nothing will ever come.
                    None => std::future::pending().await,
                },
                () = tokio::time::sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    fn end(&self, partition: &TopicPartition) -> Option<Position> {
        let end = self.ends.get(partition.id)?;
        // What was read is there, whatever was asked before it came.
        let read = self.assigned.get(&partition.id).map_or(0, |assigned| assigned.next.0);
        Some(Position(end.max(read)))
    }
}

// === impl Thread ===

impl Thread {
    async fn send(&self, command: Command) -> Result<(), Error> {
        let gone = || Error::new(Class::Permanent, "the reader's thread has ended");
        let commands = self.commands.as_ref().ok_or_else(gone)?;
        // The thread empties this queue whatever else it waits for.
        commands.send(command).await.map_err(|_| gone())?;
        self.wake();
        Ok(())
    }

    fn try_send(&self, command: Command) {
        if let Some(commands) = &self.commands
            && let Err(error) = commands.try_send(command)
        {
            tracing::warn!(error = %error, "a partition goes on being fetched in vain");
        }
        self.wake();
    }

    fn wake(&self) {
        if let Some(handle) = &self.handle {
            handle.thread().unpark();
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.commands = None;
        self.wake();
        if let Some(handle) = self.handle.take()
            && handle.join().is_err()
        {
            tracing::error!("the reader's thread panicked");
        }
    }
}
