//! The data path on librdkafka: manual assignment with explicit positions, never a group.
//!
//! ```text
//!  librdkafka's queue ──► reader thread ──batches──► bounded channel ──► next
//!                              ▲                                          │
//!                              └── assign, unassign, pause ───────────────┘ wakes the thread
//! ```
//!
//! Every assignment has a generation; a batch of an older one is dropped when it comes out of the channel. librdkafka
//! reports errors without their partition, so an error sends this module to the brokers to see which of its partitions
//! is out of range, gone, or another topic's. Ends of partitions come from the leaders, asked once a second for all
//! assigned partitions together, so that lag is known of a paused partition too.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use tidegate_core::ids::{PartitionId, Position};
use tidegate_runtime::ports::{Bound, Class, Error, PartitionReader, ReadEvent, TopicPartition};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::config::{self, Log};
use crate::ends::{Ends, watch_ends};
use crate::errors::{self, Right};
use crate::list_offsets::{self, Isolation};
use crate::reader_thread::{Command, Polled, Poller, Tagged};

/// Events that may wait for the caller: with the thread's limits, a few megabytes.
const QUEUE: usize = 4;

/// For how long a partition that looks out of range must give no record before it is said to be: what librdkafka had
/// fetched of it before the log was cut may still come.
const QUIET: Duration = Duration::from_millis(200);

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
    /// An error whose partition is not known yet.
    trouble: Option<KafkaError>,
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

/// A partition that looks out of range.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    generation: u64,
    next: Position,
    since: Instant,
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
        let consumer: BaseConsumer<Log> = settings
            .create_with_context(Log)
            .map_err(|error| config::not_made("consumer", &error))?;
        let (sender, polled) = mpsc::channel(QUEUE);
        let (commands, obeyed) = mpsc::channel(QUEUE);
        let handle = std::thread::Builder::new()
            .name("kafka-reader".to_owned())
            .spawn(move || Poller::new(consumer, obeyed, sender).run())
            .map_err(|cause| {
                Error::new(Class::Permanent, "failed to start the reader's thread").because(cause)
            })?;
        let ends = Arc::new(Ends::default());
        let watch = watch_ends(Arc::clone(&cluster), Arc::clone(&ends));
        Ok(Self {
            cluster,
            thread: Thread { commands: Some(commands), handle: Some(handle) },
            polled,
            assigned: BTreeMap::new(),
            next_generation: 0,
            ready: VecDeque::new(),
            trouble: None,
            suspects: BTreeMap::new(),
            ends,
            _watcher: spawn_named("kafka ends", watch),
        })
    }

    /// Takes over what the thread polled: drops what is not assigned, notes positions.
    fn accept(&mut self, polled: Polled) {
        let batches = match polled {
            Polled::Batches(batches) => batches,
            Polled::Trouble(error) => {
                self.note_trouble(error);
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

    fn note_trouble(&mut self, error: KafkaError) {
        match errors::code_of(&error) {
            // The group is never joined: it may be unknown, and its coordinator out of reach.
            Some(Code::GroupAuthorizationFailed | Code::GroupIdNotFound) => {}
            Some(code) if errors::class_of_code(code) == Class::Transient => {
                tracing::debug!(error = %error, "reading goes on by itself");
            }
            _ => self.trouble = Some(error),
        }
    }

    /// Asks the brokers which partitions an error is about. Cancel-safe: nothing changes before the last answer.
    async fn diagnose(&mut self) {
        let Some(error) = self.trouble.clone() else { return };
        let mut topics: BTreeMap<String, Vec<PartitionId>> = BTreeMap::new();
        for (id, assigned) in &self.assigned {
            topics.entry(assigned.partition.topic.clone()).or_default().push(*id);
        }
        let mut failed = Vec::new();
        for (topic, ids) in &topics {
            let outcome = self.cluster.look_up(topic).await;
            for id in ids {
                if let Some(error) = fault(&outcome, topic, *id) {
                    failed.push((*id, error));
                }
            }
        }
        let suspects = if errors::code_of(&error) == Some(Code::AutoOffsetReset) {
            self.out_of_range().await
        } else {
            BTreeMap::new()
        };
        self.trouble = None;
        if failed.is_empty() && suspects.is_empty() {
            self.blame_all(&error);
        }
        for (id, error) in failed {
            self.fail(id, error);
        }
        self.suspects.extend(suspects);
    }

    /// No partition is at fault in particular: a missing right, for instance, shows in none of the answers.
    fn blame_all(&mut self, error: &KafkaError) {
        if errors::code_of(error) == Some(Code::AutoOffsetReset) {
            // The log has caught up, or the record came after all.
            return;
        }
        let ids: Vec<PartitionId> = self.assigned.keys().copied().collect();
        for id in ids {
            let Some(assigned) = self.assigned.get(&id) else { continue };
            let partition = assigned.partition.clone();
            let right = Right::topic("Read", &partition.topic);
            let doing = format!("failed to read partition {partition}");
            let error = errors::library(doing, right, error.clone());
            self.ready.push_back(ReadEvent::Failed(partition, error));
        }
    }

    async fn out_of_range(&self) -> BTreeMap<PartitionId, Suspect> {
        let keys: Vec<(String, u32)> = self
            .assigned
            .values()
            .map(|assigned| (assigned.partition.topic.clone(), assigned.partition.id.number))
            .collect();
        let isolation = Isolation::ReadUncommitted;
        let bounds = |bound| list_offsets::of_partitions(&self.cluster, &keys, bound, isolation);
        let (starts, ends) = tokio::join!(bounds(Bound::Earliest), bounds(Bound::Latest));
        let (Ok(starts), Ok(ends)) = (starts, ends) else { return BTreeMap::new() };
        let since = Instant::now();
        let outside = self.assigned.iter().filter_map(|(id, assigned)| {
            let key = (assigned.partition.topic.clone(), assigned.partition.id.number);
            let next = assigned.next;
            let below = starts.get(&key).is_some_and(|start| next.0 < *start);
            let beyond = ends.get(&key).is_some_and(|end| next.0 > *end);
            let suspect = Suspect { generation: assigned.generation, next, since };
            (below || beyond).then_some((*id, suspect))
        });
        outside.collect()
    }

    /// Turns suspects that stayed quiet into events.
    fn convict(&mut self) {
        let due: Vec<PartitionId> = self
            .suspects
            .iter()
            .filter(|(_, suspect)| suspect.since.elapsed() >= QUIET)
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let suspect = self.suspects.remove(&id);
            let same = |assigned: &Assigned| {
                suspect.is_some_and(|suspect| {
                    assigned.generation == suspect.generation && assigned.next == suspect.next
                })
            };
            if self.assigned.get(&id).is_some_and(same)
                && let Some(partition) = self.give_up(id)
            {
                self.ready.push_back(ReadEvent::OutOfRange(partition));
            }
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
        self.ready.retain(|event| !matches!(event, ReadEvent::Records(list) if list.is_empty()));
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

/// What is wrong with a partition by the metadata.
fn fault(
    outcome: &Result<crate::metadata::TopicMeta, Error>,
    topic: &str,
    id: PartitionId,
) -> Option<Error> {
    match outcome {
        Ok(meta) if meta.id != id.topic => {
            let text = format!(
                "topic {topic} has id {} and not {}: it was deleted and created again",
                meta.id, id.topic
            );
            Some(Error::new(Class::Permanent, text))
        }
        Ok(meta) if !meta.partitions.contains_key(&id.number) => Some(errors::topic_missing(topic)),
        Ok(_) => None,
        Err(error) if error.class() == Class::Transient => None,
        Err(error) => Some(Error::new(error.class(), error.to_string()).coded(error.code())),
    }
}

#[async_trait]
impl PartitionReader for KafkaReader {
    async fn assign(&mut self, partition: &TopicPartition, from: Position) -> Result<(), Error> {
        let topic = &partition.topic;
        let known = self.cluster.topic(topic).await;
        // What the cache has against the partition may be old.
        let trouble = match fault(&known, topic, partition.id) {
            Some(_) => fault(&self.cluster.look_up(topic).await, topic, partition.id),
            None => known.err(),
        };
        if let Some(error) = trouble {
            return Err(error);
        }
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
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if self.trouble.is_some() {
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
