//! The log of one partition: batches in segments, in memory, nothing else.
//!
//! Pure: time comes in as a parameter. Its invariants: offsets have no gaps; `start <= end`;
//! `size` is the sum of the kept batches' bytes, so that it falls by whole segments only (a log
//! start that `DeleteRecords` moves into a segment leaves the size alone, as in Apache Kafka).
//! A compacted topic's log is kept whole: nothing here compacts.

mod producers;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;

use self::producers::{Producers, Verdict};
use self::segment::{Segment, StoredBatch};
use crate::batch::{self, Batch};

/// The topic settings that shape a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogLimits {
    /// `segment.bytes`: a new segment starts when the next batch would exceed it.
    pub(crate) segment_bytes: u64,
    /// `segment.ms`: a new segment starts when the first batch is older than this.
    pub(crate) segment_ms: i64,
    /// `retention.bytes`, `None` for no limit.
    pub(crate) retention_bytes: Option<u64>,
    /// `retention.ms`, `None` for no limit.
    pub(crate) retention_ms: Option<i64>,
    /// `max.message.bytes`: the largest batch.
    pub(crate) max_message_bytes: usize,
    /// Whether `cleanup.policy` names `delete`; without it nothing is removed by size or age.
    pub(crate) deletes: bool,
}

/// What became of an accepted batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appended {
    /// The offset to acknowledge.
    pub(crate) base_offset: i64,
    /// The batch was kept before; nothing was added.
    pub(crate) duplicate: bool,
}

/// How a batch is stamped when it is added.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamp {
    /// The leader epoch of the partition.
    pub(crate) leader_epoch: i32,
    /// The time of arrival in ms.
    pub(crate) now_ms: i64,
}

/// The log of one partition.
#[derive(Debug, Default)]
pub(crate) struct PartitionLog {
    segments: VecDeque<Segment>,
    start: i64,
    end: i64,
    size: u64,
    producers: Producers,
}

// === impl LogLimits ===

impl LogLimits {
    /// Whether retention may remove a segment while the log holds `size` bytes.
    fn expires(&self, segment: &Segment, size: u64, now_ms: i64) -> bool {
        let too_big =
            self.retention_bytes.is_some_and(|limit| size.saturating_sub(segment.size()) >= limit);
        let too_old = match (self.retention_ms, segment.largest_timestamp()) {
            (Some(limit), Some(newest)) => now_ms.saturating_sub(newest) > limit,
            _ => false,
        };
        self.deletes && (too_big || too_old)
    }
}

// === impl PartitionLog ===

impl PartitionLog {
    /// The first offset a reader may ask for.
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset of the next record; also the high watermark, as the nodes share one log.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// Sum of the bytes of the kept batches.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Adds a batch, unless its idempotent producer sent it before.
    pub(crate) fn append(
        &mut self,
        batch: &Batch,
        stamp: Stamp,
        limits: &LogLimits,
    ) -> Result<Appended, ResponseError> {
        if batch.bytes.len() > limits.max_message_bytes {
            return Err(ResponseError::MessageTooLarge);
        }
        if let Some(sequence) = batch.sequence {
            if let Verdict::Duplicate(base_offset) = self.producers.check(sequence)? {
                return Ok(Appended { base_offset, duplicate: true });
            }
            self.producers.remember(sequence, self.end);
        }
        Ok(Appended { base_offset: self.push(batch, stamp, limits), duplicate: false })
    }

    /// Adds a batch without asking whether it is a duplicate. For the fault that keeps a batch twice.
    pub(crate) fn push(&mut self, batch: &Batch, stamp: Stamp, limits: &LogLimits) -> i64 {
        let base_offset = self.end;
        let timestamp = if batch.max_timestamp < 0 { stamp.now_ms } else { batch.max_timestamp };
        let added = batch.bytes.len() as u64;
        if self.must_roll(added, timestamp, limits) {
            self.segments.push_back(Segment::default());
        }
        self.end += i64::from(batch.records);
        self.size += added;
        let active = self.segments.back_mut().expect("rolled when there was none");
        active.push(StoredBatch {
            base_offset,
            last_offset: self.end - 1,
            max_timestamp: timestamp,
            bytes: batch.stamped(base_offset, stamp.leader_epoch),
        });
        base_offset
    }

    fn must_roll(&self, added: u64, timestamp: i64, limits: &LogLimits) -> bool {
        let Some(active) = self.segments.back() else {
            return true;
        };
        let full = active.size() + added > limits.segment_bytes;
        let old = active
            .first_timestamp()
            .is_some_and(|first| timestamp.saturating_sub(first) > limits.segment_ms);
        !active.is_empty() && (full || old)
    }

    /// Whole batches from `offset` on, at most `max_bytes`, but the first one in any case if `at_least_one`.
    pub(crate) fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        at_least_one: bool,
    ) -> Result<Bytes, ResponseError> {
        if offset < self.start || offset > self.end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        let mut taken: Vec<&Bytes> = Vec::new();
        let mut total = 0;
        for batch in self.batches_from(offset) {
            let fits = total + batch.bytes.len() <= max_bytes;
            let forced = at_least_one && taken.is_empty();
            if !fits && !forced {
                break;
            }
            total += batch.bytes.len();
            taken.push(&batch.bytes);
        }
        if let [only] = taken[..] {
            return Ok(only.clone());
        }
        let mut joined = BytesMut::with_capacity(total);
        for bytes in taken {
            joined.extend_from_slice(bytes);
        }
        Ok(joined.freeze())
    }

    /// Spoils the batch that holds `offset`. Answers whether there is one.
    pub(crate) fn corrupt(&mut self, offset: i64) -> bool {
        let holds =
            |segment: &&mut Segment| segment.last_offset().is_some_and(|last| last >= offset);
        self.segments.iter_mut().find(holds).is_some_and(|segment| segment.corrupt(offset))
    }

    fn batches_from(&self, offset: i64) -> impl Iterator<Item = &StoredBatch> {
        let first = self
            .segments
            .partition_point(|segment| segment.last_offset().is_some_and(|last| last < offset));
        self.segments.range(first..).flat_map(move |segment| segment.from(offset))
    }

    /// The first record at or after `timestamp`, as (offset, its timestamp); `None` if there is none yet.
    pub(crate) fn find_timestamp(&self, timestamp: i64) -> Option<(i64, i64)> {
        let holds = |batch: &&StoredBatch| batch.max_timestamp >= timestamp;
        self.batches_from(self.start).filter(holds).find_map(|kept| {
            let (delta, at) = batch::first_record_since(&kept.bytes, timestamp)?;
            Some(((kept.base_offset + i64::from(delta)).max(self.start), at))
        })
    }

    /// The record with the newest timestamp, as (offset, timestamp): the first of equals.
    pub(crate) fn newest_timestamp(&self) -> Option<(i64, i64)> {
        let newest = self.batches_from(self.start).map(|batch| batch.max_timestamp).max()?;
        self.find_timestamp(newest)
    }

    /// Moves the start to `offset`, or to the end for -1, and answers the start that holds now.
    pub(crate) fn delete_records(&mut self, offset: i64) -> Result<i64, ResponseError> {
        let wanted = if offset == -1 { self.end } else { offset };
        if wanted < 0 || wanted > self.end {
            return Err(ResponseError::OffsetOutOfRange);
        }
        self.start = self.start.max(wanted);
        Ok(self.start)
    }

    /// Removes the segments that are over the limits or wholly before the start, oldest first, and answers the bytes freed.
    pub(crate) fn retain(&mut self, now_ms: i64, limits: &LogLimits) -> u64 {
        let before = self.size;
        while let Some(oldest) = self.segments.front() {
            let Some(last) = oldest.last_offset() else {
                break;
            };
            if last >= self.start && !limits.expires(oldest, self.size, now_ms) {
                break;
            }
            self.size -= oldest.size();
            self.start = self.start.max(last + 1);
            self.segments.pop_front();
        }
        before - self.size
    }
}
