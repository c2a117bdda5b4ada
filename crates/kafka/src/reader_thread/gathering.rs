//! From librdkafka's memory into batches of records: the only copy that a record's bytes go through.
//!
//! It is one on purpose. A record that borrowed from the client's memory would keep the buffer of a whole fetch, and what a
//! consumer's memory is bounded by would not be what it has in hand.

use bytes::{Bytes, BytesMut};
use tidegate_core::ids::Position;
use tidegate_runtime::ports::{Record, RecordBatch};

use super::{Holdings, Tagged};
use crate::batch::Fetched;

/// Bytes of records are copied into chunks of this size, which their `Bytes` share.
const CHUNK: usize = 256 << 10;

/// Records on their way into batches.
pub(super) struct Gathering<'a> {
    pub(super) held: &'a Holdings,
    chunk: &'a mut BytesMut,
    pub(super) batches: Vec<Tagged>,
    /// The partition of the last record, as librdkafka tells them apart.
    place: Option<(usize, i32)>,
}

// === impl Gathering ===

impl<'a> Gathering<'a> {
    pub(super) fn new(held: &'a Holdings, chunk: &'a mut BytesMut) -> Self {
        Self { held, chunk, batches: Vec::new(), place: None }
    }

    /// Copies a record to the batch of its partition and returns its size; `None` when the partition is not assigned any
    /// more.
    pub(super) fn add(&mut self, fetched: &Fetched<'_>) -> Option<usize> {
        let offset = fetched.offset()?;
        if self.place != Some(fetched.place()) {
            let (topic, number) = (fetched.topic()?, fetched.partition());
            let held = self.held.get(topic)?.get(&number)?;
            let partition = held.partition.clone();
            let batch = RecordBatch { partition, records: Vec::new(), next: Position(offset) };
            self.batches.push(Tagged { generation: held.generation, batch });
            self.place = Some(fetched.place());
        }
        let batch = &mut self.batches.last_mut()?.batch;
        let record = record(fetched, offset, self.chunk);
        let size = record.size();
        batch.records.push(record);
        batch.next = Position(offset.saturating_add(1));
        Some(size)
    }
}

fn record(fetched: &Fetched<'_>, offset: u64, chunk: &mut BytesMut) -> Record {
    let mut headers = Vec::new();
    fetched.headers(|name, value| {
        headers.push((name.to_owned(), value.map(|value| copy(chunk, value))));
    });
    Record {
        offset,
        timestamp_ms: fetched.timestamp_ms(),
        key: fetched.key().map(|key| copy(chunk, key)),
        value: fetched.value().map(|value| copy(chunk, value)),
        headers,
    }
}

fn copy(chunk: &mut BytesMut, bytes: &[u8]) -> Bytes {
    if chunk.capacity() - chunk.len() < bytes.len() {
        *chunk = BytesMut::with_capacity(CHUNK.max(bytes.len()));
    }
    chunk.extend_from_slice(bytes);
    chunk.split().freeze()
}
