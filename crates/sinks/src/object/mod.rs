//! The `object` sink: exactly-once on any store that can create an object only where there is none.
//!
//! The objects of a partition form a chain: each is named by its chain position, the end of the one before, and holds
//! its own end. An owner writes the next object at the end of the last one it knows. If another owner got there first,
//! the name is taken: the write is fenced and nothing of it is visible. So
//!
//! - O1: at each chain position there is at most one object, whole, for ever;
//! - O2: offsets between two neighbours of a chain are in exactly one of them, or in none because there were none: a gap
//!   is an object without records;
//! - O3: tokens never go down along a chain: an owner knows a position only from a write of its own or from `acquire`,
//!   which refuses a token below that of the last object;
//! - O4: of one partition one write is in flight per sink; `acquire` and `release` wait until none is.
//!
//! A stale owner may append one more object before the new owner's first: it is harmless, for the new owner is fenced
//! at that position, acquires again and goes on behind it.
//!
//! `acquire` reads the headers of the last two objects only, however long the chain and however large they are: both
//! must have their full length, and the one must end where the other begins. [`ObjectReader::verify`] checks everything.
//! Objects may be deleted from the beginning of a chain, by a retention rule for instance; any other missing object is
//! damage.
//!
//! A batch is one object, or several in order when one would be larger than it may be. Whoever wants larger objects
//! lets batches grow. A write that fails in the middle of several leaves those before: its outcome is as unknown as that
//! of any other, and `acquire` finds where the chain stands.
//!
//! A store may tell that a name is taken because an earlier try of the same call made the object: its answer was lost,
//! and it was sent again. The header tells whose it is; nobody is fenced by an object of its own.

mod batch;
mod encoding;
pub mod file;
pub mod format;
pub mod layout;
pub mod place;
pub mod probe;
mod reader;
#[cfg(feature = "s3")]
pub mod s3;
pub mod store;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_core::ids::{FencingToken, PartitionId, Position};
use tidegate_runtime::ports::{Batch, Class, Clock, Guarantee, Sink, SinkError, TopicPartition};
use tokio::sync::Mutex as Lane;

use self::batch::{Piece, Unfit};
use self::format::{Body, Header};
use self::store::{Created, Creation, Hold, Store, StoreError};

pub use self::encoding::{Compression, Encoding};
pub use self::reader::{ChainReader, ChainReport, Fault, HeadLink, Link, Object, ObjectReader};

/// How the sink is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ObjectConfig {
    /// Largest object that is written or read, in bytes and before compression: from 64 KiB to 1 GiB. A batch that
    /// encodes to more becomes several objects; a record that alone does is rejected. The default of 256 MiB is far
    /// above a batch of the largest records that Kafka takes, six bytes for one (control characters), and still fits a
    /// small machine's memory.
    pub max_object_bytes: u64,
    /// Objects written at a time, of all partitions: from 1 to 256. Each takes a thread and a batch of memory. The
    /// default of 16 lets a journaling file system share the syncs of many partitions.
    pub parallel_writes: usize,
    /// What is done with record lines. The default leaves them as they are, for any tool to read.
    pub compression: Compression,
}

impl Default for ObjectConfig {
    fn default() -> Self {
        let compression = Compression::None;
        Self { max_object_bytes: 256 << 20, parallel_writes: 16, compression }
    }
}

/// A batch or partition that the sink cannot take: a mistake of its caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// Kafka does not allow such a topic name, and it might lead out of the prefix.
    #[error("topic name {0:?} is not legal")]
    TopicName(String),
    /// Nothing is between the batch's expected position and its end.
    #[error("the batch covers no offsets")]
    EmptyRange,
    /// A record is outside of the batch's range, or its offset is not above that of the one before.
    #[error("the record at offset {0} is out of range or out of order")]
    Offset(u64),
}

/// An object of this owner is where its next one was to be: a write that was given up came late.
#[derive(Debug, thiserror::Error)]
#[error("an earlier write of this owner has arrived at {0:?}")]
struct Late(Position);

/// Writes batches as objects of a chain.
#[derive(Debug)]
pub struct ObjectSink {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    config: ObjectConfig,
    entries: Mutex<BTreeMap<PartitionId, Entry>>,
}

/// What the sink knows of a partition that it has seen.
#[derive(Debug, Default)]
struct Entry {
    /// Held by whoever acquires or releases, and by a write until its outcome is decided (O4).
    lane: Arc<Lane<()>>,
    /// The owner in this process.
    owner: Option<Owner>,
}

#[derive(Clone, Copy, Debug)]
struct Owner {
    token: FencingToken,
    stand: Stand,
}

/// Where the chain stands, as its owner knows it.
#[derive(Clone, Copy, Debug)]
enum Stand {
    /// There was no object. Left by a write.
    Empty,
    /// The last object ends here. Left by the next write.
    At(Position),
    /// A write is in flight, was given up, or failed. Left by `acquire` only, except for a write that succeeds.
    Unknown,
}

// === impl ObjectConfig ===

impl ObjectConfig {
    /// What is out of bounds, named; `None` when nothing is.
    pub fn fault(&self) -> Option<String> {
        if !(64 << 10..=1 << 30).contains(&self.max_object_bytes) {
            return Some(format!("maxObjectBytes {} is not in 64KiB..1GiB", self.max_object_bytes));
        }
        if !(1..=256).contains(&self.parallel_writes) {
            return Some(format!("parallelWrites {} is not in 1..256", self.parallel_writes));
        }
        self.compression.fault()
    }

    /// Most bytes of record lines in one object.
    fn max_lines_bytes(&self) -> usize {
        let bytes = self.max_object_bytes.saturating_sub(format::MAX_HEADER as u64);
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

// === impl ObjectSink ===

impl ObjectSink {
    /// A sink that keeps its objects in a store.
    pub fn new(store: Arc<dyn Store>, config: ObjectConfig, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock, config, entries: Mutex::default() }
    }

    fn with_entry<T>(&self, id: PartitionId, with: impl FnOnce(&mut Entry) -> T) -> T {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        with(entries.entry(id).or_default())
    }

    fn lane(&self, partition: &TopicPartition) -> Arc<Lane<()>> {
        self.with_entry(partition.id, |entry| Arc::clone(&entry.lane))
    }

    /// Checks that this owner may write at this position now, and takes its stand from it: it gets it back when the
    /// write has succeeded.
    fn begin(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        expected: Position,
    ) -> Result<Stand, SinkError> {
        let reason = self.with_entry(partition.id, |entry| {
            let Some(owner) = entry.owner.as_mut().filter(|owner| owner.token == token) else {
                return Err("it is not acquired with this token".to_owned());
            };
            match owner.stand {
                Stand::Unknown => Err("a write is in flight or its outcome unknown".to_owned()),
                Stand::At(at) if at != expected => {
                    Err(format!("it stands at {at:?} and the batch begins at {expected:?}"))
                }
                stand => {
                    owner.stand = Stand::Unknown;
                    Ok(stand)
                }
            }
        });
        reason.map_err(|reason| SinkError::Fenced { partition: partition.clone(), reason })
    }

    fn stands(&self, id: PartitionId, token: FencingToken, stand: Stand) {
        self.with_entry(id, |entry| {
            if let Some(owner) = entry.owner.as_mut().filter(|owner| owner.token == token) {
                owner.stand = stand;
            }
        });
    }

    /// The last object of a chain, after checking it and its link to the one before.
    async fn tail(
        &self,
        partition: &TopicPartition,
        folder: &str,
    ) -> Result<Option<Header>, SinkError> {
        let damaged = |reason: String| SinkError::Damaged { partition: partition.clone(), reason };
        let positions = self.store.last(folder, None, 2).await;
        let positions = positions.map_err(|error| lift(partition, error))?;
        let mut last = None;
        for position in positions {
            let Some(header) = self.header(partition, folder, position).await? else { continue };
            if let Some(before) = last.replace(header) {
                let begins = last.as_ref().map(|header| header.position);
                if begins != Some(before.end) {
                    let end = before.end;
                    let reason =
                        format!("the object that ends at {end:?} is followed by {begins:?}");
                    return Err(damaged(reason));
                }
            }
        }
        Ok(last)
    }

    /// The header of one object, of full length; `None` when it was deleted meanwhile.
    async fn header(
        &self,
        partition: &TopicPartition,
        folder: &str,
        position: Position,
    ) -> Result<Option<Header>, SinkError> {
        let name = layout::name(position);
        let head = self.store.head(folder, &name, format::MAX_HEADER as u64).await;
        let Some(head) = head.map_err(|error| lift(partition, error))? else { return Ok(None) };
        let reason = match format::open_head(&head.content, head.object_bytes) {
            Ok((header, _)) if header.position != position => "it is another object's",
            Ok((header, _)) if header.partition != *partition => "it is another partition's",
            Ok((header, _)) => return Ok(Some(header)),
            Err(error) => &error.to_string(),
        };
        let reason = format!("object {folder}/{name}: {reason}");
        Err(SinkError::Damaged { partition: partition.clone(), reason })
    }

    /// Writes one object of the chain, for as long as `hold` is kept.
    async fn append(&self, header: Header, lines: Vec<u8>, hold: Hold) -> Result<(), SinkError> {
        let partition = &header.partition;
        let folder = folder(partition)?;
        let lines_bytes = lines.len() as u64;
        let (encoding, stored) = self.config.compression.apply(lines).await.map_err(|error| {
            SinkError::Unavailable { partition: partition.clone(), source: error.into() }
        })?;
        let body = Body { encoding, stored: Bytes::from(stored), lines_bytes };
        let creation = Creation {
            name: layout::name(header.position),
            folder: folder.clone(),
            parts: vec![format::seal(&header, &body).into(), body.stored],
            token: header.token,
            hold,
        };
        match self.store.create(creation).await.map_err(|error| lift(partition, error))? {
            Created::Done => Ok(()),
            Created::Taken => self.taken(&header, &folder).await,
        }
    }

    /// What it means that there is an object already.
    async fn taken(&self, ours: &Header, folder: &str) -> Result<(), SinkError> {
        let partition = ours.partition.clone();
        match self.header(&partition, folder, ours.position).await? {
            Some(there) if there == *ours => Ok(()),
            Some(there) if there.token == ours.token => {
                let source = Late(ours.position).into();
                Err(SinkError::Unavailable { partition, source })
            }
            _ => Err(SinkError::Fenced {
                partition,
                reason: format!("another owner has written the object at {:?}", ours.position),
            }),
        }
    }
}

#[async_trait]
impl Sink for ObjectSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn acquire(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<Option<Position>, SinkError> {
        let folder = folder(partition)?;
        let lane = self.lane(partition).lock_owned().await;
        let fenced = |by: FencingToken| SinkError::Fenced {
            partition: partition.clone(),
            reason: format!("epoch {} has acquired it, ours is {}", by.epoch, token.epoch),
        };
        if let Some(owner) = self.with_entry(partition.id, |entry| entry.owner)
            && owner.token > token
        {
            return Err(fenced(owner.token));
        }
        let settled = self.store.settle(&folder, token).await;
        settled.map_err(|error| lift(partition, error))?;
        let tail = self.tail(partition, &folder).await?;
        if let Some(last) = tail.as_ref().filter(|last| last.token > token) {
            return Err(fenced(last.token));
        }
        let end = tail.map(|last| last.end);
        let stand = end.map_or(Stand::Empty, Stand::At);
        self.with_entry(partition.id, |entry| entry.owner = Some(Owner { token, stand }));
        drop(lane);
        Ok(end)
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let stand = self.begin(partition, token, batch.expected)?;
        let pieces = match batch::cut(partition, batch, self.config.max_lines_bytes()).await {
            Ok(pieces) => pieces,
            Err(Unfit::Refused(refusal)) => return Err(refused(partition, refusal)),
            Err(Unfit::Rejected(records)) => {
                self.stands(partition.id, token, stand);
                return Err(SinkError::Rejected { partition: partition.clone(), records });
            }
        };
        let hold = Arc::new(self.lane(partition).lock_owned().await);
        let mut position = if let Stand::At(at) = stand { at } else { Position(0) };
        for Piece { start, end, records, lines } in pieces {
            let (partition, written_ms) = (partition.clone(), self.clock.unix_ms());
            let header = Header { partition, position, start, end, records, token, written_ms };
            self.append(header, lines, Box::new(Arc::clone(&hold))).await?;
            position = end;
        }
        self.stands(partition.id, token, Stand::At(batch.end));
        Ok(())
    }

    async fn release(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<(), SinkError> {
        let lane = self.lane(partition).lock_owned().await;
        self.with_entry(partition.id, |entry| {
            entry.owner = entry.owner.filter(|owner| owner.token != token);
        });
        drop(lane);
        Ok(())
    }
}

fn folder(partition: &TopicPartition) -> Result<String, SinkError> {
    let illegal = || refused(partition, Refusal::TopicName(partition.topic.clone()));
    layout::folder(partition).ok_or_else(illegal)
}

fn refused(partition: &TopicPartition, refusal: Refusal) -> SinkError {
    SinkError::Refused { partition: partition.clone(), source: refusal.into() }
}

fn lift(partition: &TopicPartition, error: StoreError) -> SinkError {
    let (partition, permanent) = (partition.clone(), error.class == Class::Permanent);
    let source = error.into();
    if permanent {
        SinkError::Refused { partition, source }
    } else {
        SinkError::Unavailable { partition, source }
    }
}

#[cfg(test)]
mod tests;
