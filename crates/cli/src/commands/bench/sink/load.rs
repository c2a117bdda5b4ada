//! The records that are written, and the way a consumer writes them: batches of its usual size, partitions at the same
//! time, one write of a partition after the other.

use std::sync::Arc;

use anyhow::ensure;
use bytes::Bytes;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Batch, Guarantee, Record, Sink, SinkError, TopicPartition};
use tidegate_runtime::spec;
use tokio::task::JoinSet;

use crate::commands::bench::figures::Run;
use crate::commands::bench::usage::Meter;
use crate::wiring;

/// What is written.
#[derive(Clone, Debug)]
pub(super) struct Load {
    partitions: Vec<TopicPartition>,
    /// Batches of each partition.
    batches: u64,
    /// Those of one batch; offsets are added.
    records: Vec<Record>,
}

impl Load {
    pub(super) fn new(record_bytes: u64, partitions: u32, bytes: u64) -> anyhow::Result<Self> {
        let of_partition = (bytes / u64::from(partitions)).max(record_bytes);
        let batch_bytes = spec::Consumer::default().batch_bytes.clamp(record_bytes, of_partition);
        let count = batch_bytes / record_bytes;
        let value = usize::try_from(record_bytes)?;
        let topic = TopicId(u128::from(wiring::clock().unix_ms()).to_be_bytes());
        let partition = |number| {
            let id = PartitionId { topic, number };
            TopicPartition { topic: "bench".to_owned(), id }
        };
        Ok(Self {
            partitions: (0..partitions).map(partition).collect(),
            batches: of_partition / (count * record_bytes),
            records: (0..count).map(|number| record(number, value)).collect(),
        })
    }

    /// Of all partitions together.
    pub(super) fn records(&self) -> u64 {
        self.partitions.len() as u64 * self.batches * self.records.len() as u64
    }

    pub(super) fn partitions(&self) -> &[TopicPartition] {
        &self.partitions
    }

    /// The batches of a partition, in order.
    pub(super) fn batches(&self) -> Batches {
        Batches { records: self.records.clone(), next: 0, left: self.batches }
    }

    /// Writes everything to a sink, and asks it then how far it has come.
    pub(super) async fn write(&self, sink: Arc<dyn Sink>) -> anyhow::Result<Run> {
        let token = |epoch| FencingToken { generation: Generation(1), epoch: Epoch(Offset(epoch)) };
        for partition in &self.partitions {
            sink.acquire(partition, token(1)).await?;
        }
        let meter = Meter::start();
        let mut writers = JoinSet::new();
        for partition in &self.partitions {
            let (partition, sink) = (partition.clone(), Arc::clone(&sink));
            let mut batches = self.batches();
            writers.spawn(async move {
                while let Some(batch) = batches.next() {
                    sink.write(&partition, token(1), batch).await?;
                }
                Ok::<_, SinkError>(())
            });
        }
        while let Some(written) = writers.join_next().await {
            written??;
        }
        let run = meter.stop();
        let end = Position(self.batches * self.records.len() as u64);
        for partition in &self.partitions {
            sink.release(partition, token(1)).await?;
            if sink.guarantee() == Guarantee::ExactlyOnce {
                let found = sink.acquire(partition, token(2)).await?;
                ensure!(found == Some(end), "{partition} stands at {found:?}, not at {end:?}");
                sink.release(partition, token(2)).await?;
            }
        }
        Ok(run)
    }
}

/// Batches that use the same records again.
pub(super) struct Batches {
    records: Vec<Record>,
    next: u64,
    left: u64,
}

impl Batches {
    pub(super) fn next(&mut self) -> Option<Batch<'_>> {
        self.left = self.left.checked_sub(1)?;
        let expected = Position(self.next);
        for (record, offset) in self.records.iter_mut().zip(self.next..) {
            record.offset = offset;
        }
        self.next += self.records.len() as u64;
        Some(Batch { expected, records: &self.records, end: Position(self.next) })
    }
}

/// A record like those of a log: text with digits that differ.
fn record(number: u64, bytes: usize) -> Record {
    let mut value = format!("{number:010} ").into_bytes();
    let filling = b"the quick brown fox jumps over the lazy dog; ".iter().copied().cycle();
    value.extend(filling.take(bytes.saturating_sub(value.len())));
    value.truncate(bytes);
    Record {
        offset: 0,
        timestamp_ms: 1_700_000_000_000,
        key: None,
        value: Some(Bytes::from(value)),
        headers: Vec::new(),
    }
}
