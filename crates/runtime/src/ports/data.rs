//! The data path: records of the partitions that a consumer was granted.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_core::ids::{PartitionId, Position};

use super::Error;

/// A data partition with the name that Kafka's requests and sinks need beside the id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: String,
    /// The topic's id and the partition's number.
    pub id: PartitionId,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.id.number)
    }
}

/// One record of a data partition. Its bytes may be shared with the answer that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its offset.
    pub offset: u64,
    /// Milliseconds since the Unix epoch; -1 when the record has none.
    pub timestamp_ms: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
}

impl Record {
    /// Bytes of key, value and headers: what batches are bounded by.
    pub fn size(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
        len(&self.key) + len(&self.value) + headers
    }

    /// Bytes of memory that it takes beside its size. Queues are bounded by both.
    pub fn overhead(&self) -> usize {
        size_of::<Self>() + self.headers.len() * size_of::<(String, Option<Bytes>)>()
    }
}

/// Consecutive records of one partition; none when there are none up to its next position, but markers of transactions or
/// records of aborted ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordBatch {
    /// Where they are from.
    pub partition: TopicPartition,
    /// In rising order of offsets; gaps (compaction, transaction markers) are possible.
    pub records: Vec<Record>,
    /// Position after the last of them, or further where it is known that there is no other before.
    pub next: Position,
}

/// What a reader has to say.
#[derive(Debug)]
pub enum ReadEvent {
    /// Records of one or more partitions, each batch of one partition.
    Records(Vec<RecordBatch>),
    /// The position asked for does not exist in the log: reading of this partition has stopped.
    OutOfRange(TopicPartition),
    /// Reading of this partition failed; class says whether the reader goes on by itself.
    Failed(TopicPartition, Error),
}

/// Reads the partitions it was told to, and no others; never commits, never joins a group.
#[async_trait]
pub trait PartitionReader: Send + fmt::Debug {
    /// Starts reading a partition at a position. Fails when the partition does not exist or has another topic id.
    async fn assign(&mut self, partition: &TopicPartition, from: Position) -> Result<(), Error>;

    /// Stops reading a partition; fine when it is not read. Records of it that are still queued are never returned.
    async fn unassign(&mut self, partition: &TopicPartition) -> Result<(), Error>;

    /// Stops fetching a partition (`paused` true) without giving it up, or goes on with it.
    async fn pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Error>;

    /// Waits for events. Cancel-safe: what was not returned is returned by the next call.
    async fn next(&mut self) -> ReadEvent;

    /// The last known high watermark (last stable offset) of a partition, for lag; `None` before the first fetch.
    fn end(&self, partition: &TopicPartition) -> Option<Position>;
}
