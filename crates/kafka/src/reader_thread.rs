//! The thread that owns librdkafka's consumer: it obeys commands, and copies records out of the client's queue.
//!
//! One thread does both, so that a record polled after an unassignment can never be taken for one of the next
//! assignment: librdkafka drops what it had queued for the old one, and what this thread had passed on carries the old
//! generation.
//!
//! The thread sleeps until the client's queue, a command or room in the channel wakes it. It never blocks on the
//! channel: who asks for an unassignment need not read at the same time.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::Offset;
use tidegate_core::ids::{Position, TopicId};
use tidegate_runtime::ports::{Record, RecordBatch, TopicPartition};
use tokio::sync::{mpsc, oneshot};

use crate::config::Callbacks;

/// How many records and bytes make one event at most: small enough that a batch of one partition does not hold up the
/// others, large enough that the channel costs nothing per record.
const MAX_RECORDS: usize = 2000;
const MAX_BYTES: usize = 1 << 20;

/// Bytes of records are copied into chunks of this size, which their `Bytes` share.
const CHUNK: usize = 256 << 10;

/// The longest sleep: a guard against a wake-up that librdkafka did not give, and no more than that.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// How long the look for a new topic's leaders may hold up the other partitions.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// What the thread is told.
#[derive(Debug)]
pub(crate) enum Command {
    Assign {
        partition: TopicPartition,
        from: Position,
        generation: u64,
        done: Done,
    },
    Unassign {
        partition: TopicPartition,
        done: Done,
    },
    Pause {
        partition: TopicPartition,
        paused: bool,
        done: Done,
    },
    /// Another client takes over where this one is, with the bearer token of now.
    Renew,
}

/// Where the outcome of a command goes.
pub(crate) type Done = oneshot::Sender<Result<(), KafkaError>>;

/// What the thread tells.
#[derive(Debug)]
pub(crate) enum Polled {
    Batches(Vec<Tagged>),
    /// librdkafka reports an error and not of which partition.
    Trouble(KafkaError),
}

/// A batch with the assignment that it belongs to.
#[derive(Debug)]
pub(crate) struct Tagged {
    pub(crate) generation: u64,
    pub(crate) batch: RecordBatch,
}

/// The state of the thread.
pub(crate) struct Poller {
    consumer: BaseConsumer<Callbacks>,
    commands: mpsc::Receiver<Command>,
    polled: mpsc::Sender<Polled>,
    held: Holdings,
    /// Topics whose leaders were looked for once, by the name that is theirs; librdkafka keeps their list up to date from
    /// then on.
    known: BTreeMap<String, TopicId>,
    /// Makes another client.
    make: Box<dyn Fn() -> Result<BaseConsumer<Callbacks>, KafkaError> + Send>,
    waiting: VecDeque<Polled>,
    chunk: BytesMut,
}

/// By name and number, as librdkafka knows them.
type Holdings = BTreeMap<String, BTreeMap<i32, Held>>;

/// An assigned partition.
#[derive(Debug)]
struct Held {
    generation: u64,
    partition: TopicPartition,
    /// What comes after the last record that was polled.
    next: Position,
    paused: bool,
}

// === impl Poller ===

impl Poller {
    pub(crate) fn new(
        consumer: BaseConsumer<Callbacks>,
        make: Box<dyn Fn() -> Result<BaseConsumer<Callbacks>, KafkaError> + Send>,
        commands: mpsc::Receiver<Command>,
        polled: mpsc::Sender<Polled>,
    ) -> Self {
        Self {
            consumer,
            make,
            commands,
            polled,
            held: BTreeMap::new(),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            chunk: BytesMut::new(),
        }
    }

    /// Runs until the other side is gone.
    pub(crate) fn run(mut self) {
        wake_on_records(&mut self.consumer);
        self.greet();
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            if self.waiting.is_empty() {
                self.gather();
            }
            let Some(event) = self.waiting.pop_front() else {
                std::thread::park_timeout(LONGEST_SLEEP);
                continue;
            };
            match self.polled.try_send(event) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    std::thread::park_timeout(LONGEST_SLEEP);
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        }
    }

    fn obey(&mut self, command: Command) {
        let (outcome, done) = match command {
            Command::Assign { partition, from, generation, done } => {
                (self.assign(partition, from, generation), done)
            }
            Command::Unassign { partition, done } => (self.unassign(&partition), done),
            Command::Pause { partition, paused, done } => (self.pause(&partition, paused), done),
            Command::Renew => {
                let renewed = self.renew().and_then(|()| self.assign_all());
                if let Err(error) = renewed {
                    self.waiting.push_back(Polled::Trouble(error));
                }
                return;
            }
        };
        // Whoever asked may have given up.
        let _gone = done.send(outcome);
    }

    fn assign(
        &mut self,
        partition: TopicPartition,
        from: Position,
        generation: u64,
    ) -> Result<(), KafkaError> {
        self.drop_namesake(&partition)?;
        match self.known.get(&partition.topic) {
            Some(known) if *known == partition.id.topic => {}
            Some(_) => {
                self.renew_for(&partition)?;
                self.known.insert(partition.topic.clone(), partition.id.topic);
            }
            None => self.look_for_leaders(&partition),
        }
        self.consumer.incremental_assign(&listed(&partition, at(from))?)?;
        let held = Held { generation, partition: partition.clone(), next: from, paused: false };
        self.held.entry(partition.topic).or_default().insert(number(partition.id.number), held);
        Ok(())
    }

    /// A new client may want a bearer token before it can connect to anybody, and asks for it by an event of its queue: the
    /// look for leaders would wait in vain.
    fn greet(&mut self) {
        self.gather();
    }

    /// Without this librdkafka looks for the leaders of a new topic at its next scan, up to a second later. When it fails
    /// that scan is what is left.
    fn look_for_leaders(&mut self, partition: &TopicPartition) {
        match self.consumer.fetch_metadata(Some(&partition.topic), METADATA_TIMEOUT) {
            Ok(_) => {
                self.known.insert(partition.topic.clone(), partition.id.topic);
            }
            Err(error) => {
                tracing::debug!(topic = partition.topic, %error, "failed to look for leaders");
            }
        }
    }

    /// Gives up whatever librdkafka holds under the name: it would refuse a second assignment, also when nobody but it
    /// remembers the first.
    fn drop_namesake(&mut self, partition: &TopicPartition) -> Result<(), KafkaError> {
        let namesake = namesake(&mut self.held, partition).map(|held| held.partition.clone());
        namesake.map_or(Ok(()), |namesake| self.unassign(&namesake))
    }

    /// Goes on with another client, which knows nothing of a topic that was deleted. This one keeps by name what leader epoch
    /// it has seen, and believes no leader of the new topic before that has been reached again.
    fn renew_for(&mut self, new: &TopicPartition) -> Result<(), KafkaError> {
        self.renew()?;
        if let Some(numbers) = self.held.get_mut(&new.topic) {
            numbers.retain(|_, held| held.partition.id.topic == new.id.topic);
        }
        self.assign_all()
    }

    fn renew(&mut self) -> Result<(), KafkaError> {
        let mut consumer = (self.make)()?;
        wake_on_records(&mut consumer);
        self.consumer = consumer;
        self.greet();
        Ok(())
    }

    /// Tells a new client what is held.
    fn assign_all(&self) -> Result<(), KafkaError> {
        for held in self.held.values().flat_map(BTreeMap::values) {
            self.consumer.incremental_assign(&listed(&held.partition, at(held.next))?)?;
            if held.paused {
                self.consumer.pause(&listed(&held.partition, Offset::Invalid)?)?;
            }
        }
        Ok(())
    }

    /// What is held of a partition: nothing, too, when a topic has taken the name over since.
    fn held(&mut self, partition: &TopicPartition) -> Option<&mut Held> {
        namesake(&mut self.held, partition).filter(|held| held.partition.id == partition.id)
    }

    fn pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), KafkaError> {
        let Some(held) = self.held(partition) else { return Ok(()) };
        held.paused = paused;
        let list = listed(partition, Offset::Invalid)?;
        if paused { self.consumer.pause(&list) } else { self.consumer.resume(&list) }
    }

    fn unassign(&mut self, partition: &TopicPartition) -> Result<(), KafkaError> {
        if self.held(partition).is_none() {
            return Ok(());
        }
        if let Some(numbers) = self.held.get_mut(&partition.topic) {
            numbers.remove(&number(partition.id.number));
            if numbers.is_empty() {
                self.held.remove(&partition.topic);
            }
        }
        let list = listed(partition, Offset::Invalid)?;
        // In librdkafka a pause outlives the assignment that it was made for: the next one would read nothing, for ever.
        self.consumer.resume(&list)?;
        self.consumer.incremental_unassign(&list)
    }

    /// Takes what librdkafka has ready, up to the limits of one event.
    fn gather(&mut self) {
        let Self { consumer, held, chunk, waiting, .. } = self;
        let mut batches: Vec<Tagged> = Vec::new();
        let mut trouble = None;
        let (mut records, mut bytes, mut dry) = (0, 0, 0);
        // An event that is no record looks like an empty queue: only the second in a row counts.
        while records < MAX_RECORDS && bytes < MAX_BYTES && dry < 2 {
            match consumer.poll(Duration::ZERO) {
                None => dry += 1,
                Some(Ok(message)) => {
                    dry = 0;
                    if let Some(size) = take(&message, held, chunk, &mut batches) {
                        records += 1;
                        bytes += size;
                    }
                }
                Some(Err(error)) => {
                    trouble = Some(error);
                    break;
                }
            }
        }
        for Tagged { generation, batch } in &batches {
            let held = namesake(held, &batch.partition);
            if let Some(held) = held.filter(|held| held.generation == *generation) {
                held.next = batch.next;
            }
        }
        if !batches.is_empty() {
            waiting.push_back(Polled::Batches(batches));
        }
        waiting.extend(trouble.map(Polled::Trouble));
    }
}

/// What is held under a partition's name and number, of whatever topic.
fn namesake<'a>(holdings: &'a mut Holdings, of: &TopicPartition) -> Option<&'a mut Held> {
    holdings.get_mut(&of.topic)?.get_mut(&number(of.id.number))
}

fn at(position: Position) -> Offset {
    Offset::Offset(i64::try_from(position.0).unwrap_or(i64::MAX))
}

/// The client wakes this thread when its queue is not empty any more.
fn wake_on_records(consumer: &mut BaseConsumer<Callbacks>) {
    let thread = std::thread::current();
    consumer.set_nonempty_callback(move || thread.unpark());
}

/// Copies a record to the batch of its partition; `None` when the partition is not assigned any more.
fn take(
    message: &BorrowedMessage<'_>,
    held: &Holdings,
    chunk: &mut BytesMut,
    batches: &mut Vec<Tagged>,
) -> Option<usize> {
    let (topic, partition) = (message.topic(), message.partition());
    let offset = u64::try_from(message.offset()).ok()?;
    let same = batches.last().is_some_and(|last| {
        let of = &last.batch.partition;
        number(of.id.number) == partition && of.topic == topic
    });
    if !same {
        let held = held.get(topic)?.get(&partition)?;
        let batch = RecordBatch {
            partition: held.partition.clone(),
            records: Vec::new(),
            next: Position(offset),
        };
        batches.push(Tagged { generation: held.generation, batch });
    }
    let batch = &mut batches.last_mut()?.batch;
    let record = record(message, offset, chunk);
    let size = record.size();
    batch.records.push(record);
    batch.next = Position(offset.saturating_add(1));
    Some(size)
}

fn record(message: &BorrowedMessage<'_>, offset: u64, chunk: &mut BytesMut) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        let header = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(|value| copy(chunk, value)))
        };
        headers.iter().map(header).collect()
    });
    Record {
        offset,
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(|key| copy(chunk, key)),
        value: message.payload().map(|payload| copy(chunk, payload)),
        headers,
    }
}

/// The only copy that a record's bytes go through.
fn copy(chunk: &mut BytesMut, bytes: &[u8]) -> Bytes {
    if chunk.capacity() - chunk.len() < bytes.len() {
        *chunk = BytesMut::with_capacity(CHUNK.max(bytes.len()));
    }
    chunk.extend_from_slice(bytes);
    chunk.split().freeze()
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn listed(partition: &TopicPartition, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&partition.topic, number(partition.id.number), offset)?;
    Ok(list)
}
