//! The `http` sink against receivers on loopback: what is sent, what each answer comes to, lost answers, TLS, and the
//! conformance suite with receivers in Rust and in Python.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod answers;
mod conformance;
mod losing;
mod python;
mod receiver;
mod tls;

use std::sync::Arc;

use async_trait::async_trait;
use tidegate_core::ids::{Epoch, Generation, Offset};
use tidegate_runtime::ports::{BootClock, Class};
use tidegate_runtime::sink::{
    Batch, Bytes, FencingToken, Guarantee, PartitionId, Position, Record, Sink, SinkError, TopicId,
    TopicPartition,
};

pub(crate) async fn open(url: &str) -> Arc<dyn Sink> {
    tidegate_sinks::open(url, Arc::new(BootClock)).await.unwrap()
}

pub(crate) fn token(epoch: u64) -> FencingToken {
    FencingToken { generation: Generation(3), epoch: Epoch(Offset(epoch)) }
}

pub(crate) fn partition() -> TopicPartition {
    let id = PartitionId { topic: TopicId([9; 16]), number: 7 };
    TopicPartition { topic: "orders".to_owned(), id }
}

pub(crate) fn record(offset: u64, value: &str) -> Record {
    let value = Some(Bytes::from(value.to_owned()));
    Record { offset, timestamp_ms: 5, key: None, value, headers: Vec::new() }
}

pub(crate) fn batch(expected: u64, records: &[Record], end: u64) -> Batch<'_> {
    Batch { expected: Position(expected), records, end: Position(end) }
}

/// An error with all of its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// An owner of the partition that writes to a URL.
pub(crate) struct Owner(Arc<dyn Sink>);

impl Owner {
    pub(crate) async fn of(url: &str) -> Self {
        let sink = open(url).await;
        sink.acquire(&partition(), token(5)).await.unwrap();
        Self(sink)
    }

    pub(crate) async fn acquires(&self, epoch: u64) -> Result<Option<u64>, SinkError> {
        Ok(self.0.acquire(&partition(), token(epoch)).await?.map(|at| at.0))
    }

    pub(crate) async fn writes(
        &self,
        expected: u64,
        records: &[Record],
        end: u64,
    ) -> Result<(), SinkError> {
        self.0.write(&partition(), token(5), batch(expected, records, end)).await
    }

    /// Writes one record that should fail; returns the class and the whole text of the error.
    pub(crate) async fn fails(&self) -> (Class, String) {
        let error = self.writes(0, &[record(0, "a")], 1).await.unwrap_err();
        (error.class(), chain(&error))
    }
}

/// The sink as one that promises what a receiver makes of it.
#[derive(Debug)]
pub(crate) struct Exactly(pub(crate) Arc<dyn Sink>);

#[async_trait]
impl Sink for Exactly {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn acquire(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<Option<Position>, SinkError> {
        self.0.acquire(partition, token).await
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        self.0.write(partition, token, batch).await
    }

    async fn release(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<(), SinkError> {
        self.0.release(partition, token).await
    }
}
