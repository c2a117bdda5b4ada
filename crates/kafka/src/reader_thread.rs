//! The thread that owns librdkafka's consumer: it obeys commands, and copies records out of the client's queue, so that
//! the buffers of whole fetches can go.
//!
//! One thread does both, so that a record polled after an unassignment can never be taken for one of the next
//! assignment: librdkafka drops what it had queued for the old one, and what this thread had passed on carries the old
//! generation.
//!
//! The thread sleeps until the client's queues, a command or room in the channel wakes it. It never blocks on the
//! channel: who asks for an unassignment need not read at the same time.
//!
//! Markers of transactions take offsets and are no records: once a second the thread asks how far the client has come, and
//! tells it by a batch without records.

mod gathering;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::Offset;
use tidegate_core::ids::{PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Class, RecordBatch, TopicPartition};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::gathering::{Damaged, Gathering};
use crate::batch::{BATCH, BatchConsumer, Taken};
use crate::config::Callbacks;
use crate::errors;

/// How many records and bytes make one event at most: small enough that a batch of one partition does not hold up the
/// others, large enough that the channel costs nothing per record.
const MAX_RECORDS: usize = 2000;
const MAX_BYTES: usize = 1 << 20;

/// The longest sleep: a guard against a wake-up that librdkafka did not give, and no more than that.
const LONGEST_SLEEP: Duration = Duration::from_millis(250);

/// Time between two looks at how far the client has come.
const POSITIONS: Duration = Duration::from_secs(1);

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
    /// The client has stopped fetching the partition by itself: it goes on where this thread is.
    Restart {
        partition: TopicPartition,
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
    /// librdkafka reports an error.
    Trouble(Trouble),
}

/// An error of librdkafka's.
#[derive(Clone, Debug)]
pub(crate) struct Trouble {
    pub(crate) error: KafkaError,
    /// The partition that it is about, where librdkafka tells, and its words.
    pub(crate) of: Option<(PartitionId, String)>,
}

/// A batch with the assignment that it belongs to.
#[derive(Debug)]
pub(crate) struct Tagged {
    pub(crate) generation: u64,
    pub(crate) batch: RecordBatch,
}

/// The state of the thread.
pub(crate) struct Poller {
    consumer: BatchConsumer,
    commands: mpsc::Receiver<Command>,
    polled: mpsc::Sender<Polled>,
    held: Holdings,
    /// Topics whose leaders were looked for once, by the name that is theirs; librdkafka keeps their list up to date from
    /// then on.
    known: BTreeMap<String, TopicId>,
    make: Maker,
    waiting: VecDeque<Polled>,
    /// Records that are taken at a time: fewer where they are large.
    batch: usize,
    positions_due: Instant,
}

/// Makes another client.
pub(crate) struct Maker {
    pub(crate) make: Box<dyn Fn() -> Result<BaseConsumer<Callbacks>, KafkaError> + Send>,
    pub(crate) callbacks: Callbacks,
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
    /// Where the client said to be before this assignment: it may say so for a while.
    stale: Option<Position>,
    /// An error came and no record since: the client takes the offset that an error names for one that was read.
    erred: bool,
    /// Something in it was damaged: nothing behind that is passed on under this assignment.
    poisoned: bool,
    paused: bool,
}

// === impl Maker ===

impl Maker {
    /// To be called by the thread that reads.
    fn make(&self) -> Result<BatchConsumer, KafkaError> {
        Ok(BatchConsumer::new((self.make)()?, self.callbacks.clone()))
    }
}

// === impl Poller ===

impl Poller {
    /// To be called by the thread that reads: it is woken when there is something to read.
    pub(crate) fn new(
        consumer: BaseConsumer<Callbacks>,
        make: Maker,
        commands: mpsc::Receiver<Command>,
        polled: mpsc::Sender<Polled>,
    ) -> Self {
        Self {
            consumer: BatchConsumer::new(consumer, make.callbacks.clone()),
            make,
            commands,
            polled,
            held: BTreeMap::new(),
            known: BTreeMap::new(),
            waiting: VecDeque::new(),
            batch: BATCH,
            positions_due: Instant::now(),
        }
    }

    /// Runs until the other side is gone.
    pub(crate) fn run(mut self) {
        self.hear();
        loop {
            loop {
                match self.commands.try_recv() {
                    Ok(command) => self.obey(command),
                    Err(mpsc::error::TryRecvError::Empty) => break,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            }
            self.hear();
            if self.waiting.is_empty() {
                self.gather();
            }
            if self.waiting.is_empty() && self.positions_due <= Instant::now() {
                self.positions_due = Instant::now() + POSITIONS;
                self.look_at_positions();
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
            Command::Restart { partition } => {
                if let Err(error) = self.restart(&partition) {
                    self.waiting.push_back(Polled::Trouble(Trouble { error, of: None }));
                }
                return;
            }
            Command::Renew => {
                let renewed = self.renew().and_then(|()| self.assign_all());
                if let Err(error) = renewed {
                    self.waiting.push_back(Polled::Trouble(Trouble { error, of: None }));
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
        let stale = self.positions(&listed(&partition, Offset::Invalid)?).pop();
        let stale = stale.map(|(_, _, position)| position);
        self.consumer.incremental_assign(&listed(&partition, at(from))?)?;
        let held = Held {
            generation,
            partition: partition.clone(),
            next: from,
            stale,
            erred: false,
            poisoned: false,
            paused: false,
        };
        self.held.entry(partition.topic).or_default().insert(number(partition.id.number), held);
        Ok(())
    }

    /// Serves what librdkafka has to tell beside records. A new client may want a bearer token before it can connect to anybody:
    /// the look for leaders would wait in vain.
    fn hear(&mut self) {
        let errors = self.consumer.errors().into_iter();
        let troubles = errors.map(|error| Polled::Trouble(Trouble { error, of: None }));
        self.waiting.extend(troubles);
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
        self.consumer = self.make.make()?;
        self.hear();
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
        let erred = held.erred;
        let list = listed(partition, Offset::Invalid)?;
        if paused {
            return self.consumer.pause(&list);
        }
        self.consumer.resume(&list)?;
        // The client would go on where it believes to be.
        if erred { self.restart(partition) } else { Ok(()) }
    }

    fn restart(&mut self, partition: &TopicPartition) -> Result<(), KafkaError> {
        let Some(held) = self.held(partition) else { return Ok(()) };
        let (next, paused) = (held.next, held.paused);
        let list = listed(partition, Offset::Invalid)?;
        self.consumer.incremental_unassign(&list)?;
        self.consumer.incremental_assign(&listed(partition, at(next))?)?;
        if paused { self.consumer.pause(&list) } else { Ok(()) }
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
        let Self { consumer, held, .. } = self;
        let mut gathering = Gathering::new(held);
        let mut troubles = Vec::new();
        let (mut records, mut bytes) = (0, 0);
        while records < MAX_RECORDS && bytes < MAX_BYTES {
            let taken = consumer.take(self.batch, |taken| {
                let fault = match taken {
                    Taken::Record(record) => match gathering.add(&record) {
                        Ok(size) => {
                            bytes += size;
                            return;
                        }
                        Err(Damaged) => record.damaged(),
                    },
                    Taken::Failed(fault) => fault,
                };
                let permanent = errors::code_of(&fault.error)
                    .is_some_and(|code| errors::class_of_code(code) == Class::Permanent);
                let of = fault.partition.and_then(|(topic, number)| {
                    Some((gathering.fail(topic, number, permanent)?, fault.text))
                });
                troubles.push(Trouble { error: fault.error, of });
            });
            records += taken;
            if taken < self.batch {
                break;
            }
        }
        let Gathering { batches, failed, .. } = gathering;
        if let Some(size) = bytes.checked_div(records) {
            self.batch = (MAX_BYTES / size.max(1)).clamp(1, BATCH);
        }
        for Tagged { generation, batch } in &batches {
            let held = namesake(&mut self.held, &batch.partition);
            if let Some(held) = held.filter(|held| held.generation == *generation) {
                held.next = batch.next;
                held.stale = None;
                held.erred = false;
            }
        }
        for ((topic, number), permanent) in failed {
            if let Some(held) = self.held.get_mut(&topic).and_then(|held| held.get_mut(&number)) {
                held.erred = true;
                held.poisoned |= permanent;
            }
        }
        if !batches.is_empty() {
            self.waiting.push_back(Polled::Batches(batches));
        }
        self.waiting.extend(troubles.into_iter().map(Polled::Trouble));
    }

    /// Tells of partitions whose client has come further than their last record.
    fn look_at_positions(&mut self) {
        let mut list = TopicPartitionList::new();
        for held in self.held.values().flat_map(BTreeMap::values) {
            list.add_partition(&held.partition.topic, number(held.partition.id.number));
        }
        let mut moved = Vec::new();
        for (topic, number, position) in self.positions(&list) {
            let held = self.held.get_mut(&topic).and_then(|numbers| numbers.get_mut(&number));
            let Some(held) = held else { continue };
            if position > held.next && held.stale != Some(position) && !held.erred {
                held.next = position;
                let partition = held.partition.clone();
                let batch = RecordBatch { partition, records: Vec::new(), next: position };
                moved.push(Tagged { generation: held.generation, batch });
            }
        }
        if !moved.is_empty() {
            self.waiting.push_back(Polled::Batches(moved));
        }
    }

    /// Where the client is in these partitions, where it has begun.
    fn positions(&self, list: &TopicPartitionList) -> Vec<(String, i32, Position)> {
        if list.count() == 0 {
            return Vec::new();
        }
        self.consumer.look_at_positions(list);
        let elements = list.elements();
        let known = elements.iter().filter_map(|element| match element.offset() {
            Offset::Offset(at) => {
                let position = Position(u64::try_from(at).ok()?);
                Some((element.topic().to_owned(), element.partition(), position))
            }
            _ => None,
        });
        known.collect()
    }
}

/// What is held under a partition's name and number, of whatever topic.
fn namesake<'a>(holdings: &'a mut Holdings, of: &TopicPartition) -> Option<&'a mut Held> {
    holdings.get_mut(&of.topic)?.get_mut(&number(of.id.number))
}

fn at(position: Position) -> Offset {
    Offset::Offset(i64::try_from(position.0).unwrap_or(i64::MAX))
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

fn listed(partition: &TopicPartition, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition_offset(&partition.topic, number(partition.id.number), offset)?;
    Ok(list)
}
