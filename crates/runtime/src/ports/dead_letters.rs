//! Where records go that a sink will never take.

use std::fmt;

use async_trait::async_trait;
use tidegate_core::ids::FencingToken;

use super::{Error, Record, TopicPartition};

/// A record that a sink rejected, and why.
#[derive(Clone, Copy, Debug)]
pub struct DeadLetter<'a> {
    /// The record.
    pub record: &'a Record,
    /// What the sink has against it.
    pub reason: &'a str,
}

/// Keeps rejected records, at least once: whoever reads them tells repetitions by topic id, partition and offset.
#[async_trait]
pub trait DeadLetters: Send + Sync + fmt::Debug {
    /// Makes records of a partition durable and returns when all of them are. After an error some may be. The token is
    /// that of the owner who writes; a stale owner may do so as well, for what it repeats is the same.
    async fn put(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        letters: &[DeadLetter<'_>],
    ) -> Result<(), Error>;
}
