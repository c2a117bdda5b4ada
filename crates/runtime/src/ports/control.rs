//! The control topics as logs, and the administration of topics and group offsets.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_core::ids::{PartitionId, Position, TopicId};

use super::{Error, TopicPartition};

/// A record of a control topic as bytes; `tidegate-wire` knows what they mean.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawRecord {
    /// Its offset; ignored when appending.
    pub offset: u64,
    /// Milliseconds since the Unix epoch, as the broker has it; ignored when appending.
    pub timestamp_ms: u64,
    /// The record's key, for compacted topics and for people.
    pub key: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(String, Bytes)>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
}

/// Why an append was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The record may or may not be in the log, now or later: only reading can tell.
    #[error("the outcome of an append is unknown")]
    Unknown(#[source] Error),
    /// The record is not in the log and will not be.
    #[error("an append was refused")]
    Refused(#[source] Error),
}

/// Why a log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// What was to be read next has been deleted: the log begins later now.
    #[error("the log was trimmed below a reader")]
    Trimmed(#[source] Error),
    /// Records that were there are gone: the log has lost its end, or its topic was deleted or made again.
    #[error("the log has lost records")]
    Lost(#[source] Error),
    /// Anything else that waiting does not heal.
    #[error("the log cannot be read on")]
    Failed(#[source] Error),
}

/// The partitions of one control topic: append, find the end, read, trim.
#[async_trait]
pub trait ControlLog: Send + Sync + std::fmt::Debug {
    /// Appends one record with all in-sync replicas' acknowledgement and returns its offset. Calls made one after the
    /// other on one partition are appended in that order. Dropping the future leaves the outcome unknown.
    async fn append(&self, partition: u32, record: RawRecord) -> Result<u64, AppendError>;

    /// The offset that the next record of this partition will get, from the leader, at or after the call.
    async fn end(&self, partition: u32) -> Result<u64, Error>;

    /// The offset of the first record that can still be read.
    async fn start(&self, partition: u32) -> Result<u64, Error>;

    /// Starts reading a partition at an offset. An offset that is not in the log is the reader's to find out.
    async fn read(&self, partition: u32, from: u64) -> Result<Box<dyn ControlReader>, Error>;

    /// Lets the broker delete the records below an offset.
    async fn trim(&self, partition: u32, below: u64) -> Result<(), Error>;
}

/// A position in one partition of a control topic that moves forward.
#[async_trait]
pub trait ControlReader: Send + std::fmt::Debug {
    /// Waits for records and returns those at hand, in order; never an empty list. Cancel-safe: what was not returned
    /// is returned by the next call.
    async fn next(&mut self) -> Result<Vec<RawRecord>, ReadError>;
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: u32,
    /// Replicas of each partition; `None` takes the broker's default.
    pub replication: Option<u16>,
    /// Settings by Kafka's names.
    pub config: BTreeMap<String, String>,
}

/// A topic as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Number of partitions.
    pub partitions: u32,
    /// Replicas of the first partition.
    pub replication: u16,
    /// Effective settings by Kafka's names; empty when they may not be read.
    pub config: BTreeMap<String, String>,
}

/// Administration of topics.
#[async_trait]
pub trait Admin: Send + Sync + std::fmt::Debug {
    /// Number of brokers in the cluster.
    async fn brokers(&self) -> Result<u32, Error>;

    /// The names of all topics that may be seen, by id.
    async fn list(&self) -> Result<BTreeMap<TopicId, String>, Error>;

    /// The named topics that exist.
    async fn describe(&self, names: &[String]) -> Result<Vec<TopicState>, Error>;

    /// Creates a topic; `false` when it existed already.
    async fn create(&self, topic: &TopicSpec) -> Result<bool, Error>;

    /// Grows a topic to a number of partitions; fine when it has them already.
    async fn grow(&self, topic: &str, partitions: u32) -> Result<(), Error>;

    /// Changes settings of a topic and leaves the others as they are.
    async fn configure(&self, topic: &str, config: &BTreeMap<String, String>) -> Result<(), Error>;

    /// Deletes a topic; fine when there is none.
    async fn delete(&self, topic: &str) -> Result<(), Error>;
}

/// Offsets of a consumer group and of logs.
#[async_trait]
pub trait Offsets: Send + Sync + std::fmt::Debug {
    /// What the group has committed, for those of the partitions that have a commit. Fails as a whole when the
    /// coordinator or a partition gave no answer: a missing entry always means that there is no commit. One that
    /// [`Offsets::commit`] made for a topic of the same name that was deleted since is none.
    async fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<PartitionId, Position>, Error>;

    /// Commits positions for a group that has no members.
    async fn commit(
        &self,
        group: &str,
        positions: &BTreeMap<TopicPartition, Position>,
    ) -> Result<(), Error>;

    /// This offset of each of the partitions that answered.
    async fn bounds(
        &self,
        partitions: &[(String, u32)],
        which: super::measure::Bound,
    ) -> Result<BTreeMap<(String, u32), u64>, Error>;
}
