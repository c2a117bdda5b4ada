//! From librdkafka's memory into batches of records: the only copy that a record's bytes go through.
//!
//! It is one on purpose. A record that borrowed from the client's memory would keep the buffer of a whole fetch, and what a
//! consumer's memory is bounded by would not be what it has in hand.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use tidegate_core::ids::{PartitionId, Position};
use tidegate_runtime::ports::{Record, RecordBatch};

use super::{Holdings, Tagged};
use crate::batch::Fetched;

/// Bytes of records are copied into chunks, which their `Bytes` share: small ones first and larger ones for large batches, as a
/// record that waits keeps all of its chunk. No two batches share one.
const CHUNKS: std::ops::RangeInclusive<usize> = 4 << 10..=256 << 10;

/// Records on their way into batches.
pub(super) struct Gathering<'a> {
    pub(super) held: &'a Holdings,
    chunk: Chunk,
    pub(super) batches: Vec<Tagged>,
    /// The partition of the last record, as librdkafka tells them apart.
    place: Option<(usize, i32)>,
    /// Partitions that met an error, by name and number, and whether it is one that nothing behind it may pass.
    pub(super) failed: BTreeMap<(String, i32), bool>,
}

/// Where records are copied to.
#[derive(Default)]
struct Chunk {
    bytes: BytesMut,
    last_size: usize,
}

/// A record that is not what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

// === impl Gathering ===

impl<'a> Gathering<'a> {
    pub(super) fn new(held: &'a Holdings) -> Self {
        let (chunk, batches, failed) = (Chunk::default(), Vec::new(), BTreeMap::new());
        Self { held, chunk, batches, place: None, failed }
    }

    /// Notes an error of a partition, which is returned if it is assigned. After one that is permanent nothing more is taken of
    /// it: its records would pass what was lost.
    pub(super) fn fail(
        &mut self,
        topic: &str,
        number: i32,
        permanent: bool,
    ) -> Option<PartitionId> {
        *self.failed.entry((topic.to_owned(), number)).or_default() |= permanent;
        self.place = None;
        Some(self.held.get(topic)?.get(&number)?.partition.id)
    }

    /// Copies a record to the batch of its partition and returns its size; 0 when the partition is not assigned any more, or
    /// poisoned.
    pub(super) fn add(&mut self, fetched: &Fetched<'_>) -> Result<usize, Damaged> {
        let Some(offset) = fetched.offset() else { return Ok(0) };
        if self.place != Some(fetched.place()) {
            let Some(topic) = fetched.topic() else { return Ok(0) };
            let number = fetched.partition();
            let held = self.held.get(topic).and_then(|numbers| numbers.get(&number));
            let Some(held) = held.filter(|held| !held.poisoned && !self.is_poisoned(topic, number))
            else {
                return Ok(0);
            };
            self.chunk = Chunk::default();
            let records = vec![record(fetched, offset, &mut self.chunk)?];
            let (partition, next) = (held.partition.clone(), Position(offset.saturating_add(1)));
            let size = records.iter().map(Record::size).sum();
            let batch = RecordBatch { partition, records, next };
            self.batches.push(Tagged { generation: held.generation, batch });
            self.place = Some(fetched.place());
            return Ok(size);
        }
        let record = record(fetched, offset, &mut self.chunk)?;
        let Some(Tagged { batch, .. }) = self.batches.last_mut() else { return Ok(0) };
        let size = record.size();
        batch.records.push(record);
        batch.next = Position(offset.saturating_add(1));
        Ok(size)
    }

    fn is_poisoned(&self, topic: &str, number: i32) -> bool {
        !self.failed.is_empty() && self.failed.get(&(topic.to_owned(), number)) == Some(&true)
    }
}

// === impl Chunk ===

impl Chunk {
    fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if self.bytes.capacity() - self.bytes.len() < bytes.len() {
            self.last_size = (4 * self.last_size).clamp(*CHUNKS.start(), *CHUNKS.end());
            self.bytes = BytesMut::with_capacity(self.last_size.max(bytes.len()));
        }
        self.bytes.extend_from_slice(bytes);
        self.bytes.split().freeze()
    }
}

fn record(fetched: &Fetched<'_>, offset: u64, chunk: &mut Chunk) -> Result<Record, Damaged> {
    let mut headers = Vec::new();
    let known = fetched.headers(|name, value| {
        headers.push((name, value.map(|value| chunk.copy(value))));
    });
    if !known {
        return Err(Damaged);
    }
    Ok(Record {
        offset,
        timestamp_ms: fetched.timestamp_ms(),
        key: fetched.key().map(|key| chunk.copy(key)),
        value: fetched.value().map(|value| chunk.copy(value)),
        headers,
    })
}
