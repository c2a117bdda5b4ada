//! A run of batches that is removed as a whole, as the segment files of Apache Kafka are.

use bytes::Bytes;

/// A batch as it is kept and sent to readers.
#[derive(Debug, Clone)]
pub(crate) struct StoredBatch {
    /// Offset of the first record.
    pub(crate) base_offset: i64,
    /// Offset of the last record.
    pub(crate) last_offset: i64,
    /// Timestamp of the newest record in ms; the time of arrival if the producer gave none.
    pub(crate) max_timestamp: i64,
    /// The batch itself.
    pub(crate) bytes: Bytes,
}

/// Batches in the order of their offsets.
#[derive(Debug, Default)]
pub(crate) struct Segment {
    batches: Vec<StoredBatch>,
    size: u64,
    largest_timestamp: Option<i64>,
}

// === impl Segment ===

impl Segment {
    /// Adds a batch at the end.
    pub(crate) fn push(&mut self, batch: StoredBatch) {
        debug_assert!(self.last_offset().is_none_or(|last| batch.base_offset > last));
        self.size += batch.bytes.len() as u64;
        self.largest_timestamp = self.largest_timestamp.max(Some(batch.max_timestamp));
        self.batches.push(batch);
    }

    /// The batches from the one that holds `offset`, or the first behind it, on.
    pub(crate) fn from(&self, offset: i64) -> &[StoredBatch] {
        let start = self.batches.partition_point(|batch| batch.last_offset < offset);
        &self.batches[start..]
    }

    /// Turns the last byte of the batch that holds `offset`, so that its checksum is wrong. Answers whether there is one.
    pub(crate) fn corrupt(&mut self, offset: i64) -> bool {
        let start = self.batches.partition_point(|batch| batch.last_offset < offset);
        let Some(batch) = self.batches.get_mut(start) else { return false };
        let mut bytes = batch.bytes.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last = !*last;
        }
        batch.bytes = bytes.into();
        true
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Sum of the bytes of its batches.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Offset of its last record.
    pub(crate) fn last_offset(&self) -> Option<i64> {
        self.batches.last().map(|batch| batch.last_offset)
    }

    /// Timestamp of its first batch; rolling by age counts from it.
    pub(crate) fn first_timestamp(&self) -> Option<i64> {
        self.batches.first().map(|batch| batch.max_timestamp)
    }

    /// Timestamp of its newest record; retention by age counts from it.
    pub(crate) fn largest_timestamp(&self) -> Option<i64> {
        self.largest_timestamp
    }
}
