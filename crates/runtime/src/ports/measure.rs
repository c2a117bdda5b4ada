//! How full the partitions are: the monitor's view of the brokers.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use tidegate_core::ids::TopicId;

use super::Error;

/// Which offset of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// The log start offset.
    Earliest,
    /// The high watermark.
    Latest,
    /// The first record that is not older than this, in milliseconds since the Unix epoch; where there is none, the high
    /// watermark of before it was looked for.
    Timestamp(u64),
}

/// One partition as its leader reported it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartitionSample {
    /// Offset of the next record to be written and replicated.
    pub high_watermark: u64,
    /// Offset of the first record that is still there.
    pub log_start: u64,
    /// Bytes of the leader's log; `None` when it may not be asked or did not answer.
    pub size: Option<u64>,
    /// Broker id of the leader.
    pub leader: i32,
}

/// One topic in a round; a partition without an answer is absent from `samples`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeasuredTopic {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// How many partitions its metadata lists.
    pub partitions: u32,
    /// The answers by partition number.
    pub samples: BTreeMap<u32, PartitionSample>,
}

/// A broker that gave no answer, or only part of one, in a round.
#[derive(Debug)]
pub struct BrokerFailure {
    /// Broker id; -1 for a partition without leader.
    pub broker: i32,
    /// What failed.
    pub error: Error,
}

/// What one sampling round found.
#[derive(Debug, Default)]
pub struct Round {
    /// The topics of interest that exist.
    pub topics: Vec<MeasuredTopic>,
    /// Brokers that failed; the others' answers are in `topics`.
    pub failures: Vec<BrokerFailure>,
    /// How old the list of topics and partitions was when the samples were taken.
    pub metadata_age: Duration,
    /// False once the cluster has refused `DescribeLogDirs`.
    pub log_sizes_permitted: bool,
}

/// A record, of whose batch the size is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchAt {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub number: u32,
    /// Offset of the record.
    pub offset: u64,
}

/// What a batch's header tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSize {
    /// Its bytes in the log.
    pub bytes: u64,
    /// How many offsets it takes.
    pub offsets: u64,
}

/// Samples the partitions of topics.
#[async_trait]
pub trait LogSizes: Send + std::fmt::Debug {
    /// Samples the named topics; an entry that ends in `*` is a prefix pattern. Metadata is refreshed by the
    /// adapter when it is older than the refresh period it was made with.
    async fn sample(&mut self, topics: &[String]) -> Result<Round, Error>;

    /// The sizes of the batches with these records, in their order, for topics that were sampled before; instead of one that is a
    /// marker of a transaction that of the batch before. For clusters that do not tell log sizes: each costs reading a batch, so that
    /// a leader is not asked for all when they are large or take long; `None` stands for those.
    async fn batch_sizes(&mut self, records: Vec<BatchAt>)
    -> Vec<Option<Result<BatchSize, Error>>>;
}
