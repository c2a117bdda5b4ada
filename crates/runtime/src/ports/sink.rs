//! Where records go: the one trait a new sink implements.

use async_trait::async_trait;
use tidegate_core::ids::{FencingToken, Position};

use super::{Class, Record, TopicPartition};

/// What a sink promises when owners change at a bad moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// It compares positions (and tokens where it can): no offset is lost or doubled.
    ExactlyOnce,
    /// A record may arrive twice, none is lost.
    AtLeastOnce,
}

/// Records of one partition to be made durable together.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// Position at which the sink must stand: the end of the write before.
    pub expected: Position,
    /// The records, all at or above `expected` and below `end`; may be empty when only a gap is recorded.
    pub records: &'a [Record],
    /// Position after the batch.
    pub end: Position,
}

/// A record that a sink will never take, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Its offset.
    pub offset: u64,
    /// What the sink has against it.
    pub reason: String,
}

/// A call to a sink that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The sink stands elsewhere, or a later owner has acquired the partition: stop at once.
    #[error("the sink is fenced for partition {partition}: {reason}")]
    Fenced {
        /// Which partition.
        partition: TopicPartition,
        /// What the sink found.
        reason: String,
    },
    /// The sink is behind where the ledger says it was: a restored backup, or deleted objects.
    #[error("the sink is damaged for partition {partition}: {reason}")]
    Damaged {
        /// Which partition.
        partition: TopicPartition,
        /// What the sink found.
        reason: String,
    },
    /// It may work later; the outcome of the write is unknown until the partition is acquired again.
    #[error("failed to reach the sink for partition {partition}")]
    Unavailable {
        /// Which partition.
        partition: TopicPartition,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// It will never take these records, and has taken none of the batch: it stands where it stood and may be written to
    /// without being acquired again. Whoever called can put them elsewhere and write the batch without them.
    #[error("the sink rejects {} records of partition {partition}{}", records.len(), first(records))]
    Rejected {
        /// Which partition.
        partition: TopicPartition,
        /// Which records, in order of their offsets.
        records: Vec<Rejection>,
    },
    /// It will not work until a person changes something.
    #[error("the sink refuses partition {partition}")]
    Refused {
        /// Which partition.
        partition: TopicPartition,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl SinkError {
    /// What the caller may do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Fenced { .. } => Class::Fenced,
            Self::Unavailable { .. } => Class::Transient,
            Self::Damaged { .. } | Self::Rejected { .. } | Self::Refused { .. } => Class::Permanent,
        }
    }
}

fn first(records: &[Rejection]) -> String {
    let first = records.first();
    first.map(|first| format!(", at offset {}: {}", first.offset, first.reason)).unwrap_or_default()
}

/// A place that makes records durable.
///
/// For each partition the order of calls is `acquire`, any number of `write` (one at a time), `release`. Calls for
/// different partitions may run at the same time. A `write` that returned an error, or whose future was dropped, may
/// still have happened: the partition must be acquired again before the next write. The one exception is
/// [`SinkError::Rejected`], after which nothing has happened.
#[async_trait]
pub trait Sink: Send + Sync + std::fmt::Debug {
    /// What it promises.
    fn guarantee(&self) -> Guarantee;

    /// Takes a partition for the owner with this token, and returns the position at which the sink stands: the end of
    /// the last durable write of any owner, or `None` when there was none. Owners with a lower token are shut out as
    /// far as the sink's guarantee says.
    ///
    /// A sink that keeps no positions and shuts nobody out has nothing to do, and need not implement it.
    async fn acquire(
        &self,
        _partition: &TopicPartition,
        _token: FencingToken,
    ) -> Result<Option<Position>, SinkError> {
        Ok(None)
    }

    /// Makes a batch durable and returns when it is. Nothing of it is visible when the sink stands elsewhere than at
    /// `batch.expected` (for sinks that are exactly-once).
    async fn write(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError>;

    /// Gives a partition back; what `write` made durable stays. A sink that holds nothing for it need not implement it.
    async fn release(
        &self,
        _partition: &TopicPartition,
        _token: FencingToken,
    ) -> Result<(), SinkError> {
        Ok(())
    }
}
