//! From a batch to the record lines of objects: one object, or several when one would be too large.
//!
//! All of a batch is encoded before any of it is written, so that a record that no object can hold is found while
//! nothing has happened yet.

use tidegate_core::ids::Position;
use tidegate_runtime::ports::{Batch, Rejection, TopicPartition};

use super::Refusal;
use crate::ndjson::Encoder;

/// Bytes encoded between two points at which other tasks of the thread may run: below a millisecond of work.
const SLICE: usize = 256 * 1024;

/// What one object is to hold.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where its range begins.
    pub(super) start: Position,
    /// Where its range ends, and that of the next piece begins.
    pub(super) end: Position,
    /// Number of its lines.
    pub(super) records: u64,
    /// Its record lines.
    pub(super) lines: Vec<u8>,
}

/// Why a batch cannot be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is not a batch.
    Refused(Refusal),
    /// These records are too large.
    Rejected(Vec<Rejection>),
}

/// Encodes a batch into pieces of at most `limit` bytes each, in order and without a gap.
pub(super) async fn cut(
    partition: &TopicPartition,
    batch: Batch<'_>,
    limit: usize,
) -> Result<Vec<Piece>, Unfit> {
    if batch.end <= batch.expected {
        return Err(Unfit::Refused(Refusal::EmptyRange));
    }
    let encoder = Encoder::new(&partition.topic, partition.id.number);
    let hint: usize = batch.records.iter().map(|record| encoder.size_hint(record)).sum();
    let mut pieces = Vec::new();
    let mut rejected = Vec::new();
    let mut piece = Piece::starting(batch.expected, batch.end, hint.min(limit));
    let (mut least, mut since_pause) = (batch.expected.0, 0);
    for record in batch.records {
        if record.offset < least || record.offset >= batch.end.0 {
            return Err(Unfit::Refused(Refusal::Offset(record.offset)));
        }
        least = record.offset + 1;
        let before = piece.lines.len();
        encoder.line(record, &mut piece.lines);
        let line = piece.lines.len() - before;
        if line > limit {
            piece.lines.truncate(before);
            rejected.push(too_large(record.offset, line, limit));
        } else {
            if piece.lines.len() > limit {
                let next = piece.split_at(before, Position(record.offset), hint.min(limit));
                pieces.push(std::mem::replace(&mut piece, next));
            }
            piece.records += 1;
        }
        since_pause += line;
        if since_pause >= SLICE {
            since_pause = 0;
            tokio::task::yield_now().await;
        }
    }
    if !rejected.is_empty() {
        return Err(Unfit::Rejected(rejected));
    }
    pieces.push(piece);
    Ok(pieces)
}

impl Piece {
    fn starting(start: Position, end: Position, capacity: usize) -> Self {
        Self { start, end, records: 0, lines: Vec::with_capacity(capacity) }
    }

    /// Ends this piece before its last line, which begins the next one.
    fn split_at(&mut self, at: usize, start: Position, capacity: usize) -> Self {
        let mut next = Self::starting(start, self.end, capacity);
        next.lines.extend(self.lines.drain(at..));
        self.end = start;
        next
    }
}

fn too_large(offset: u64, line: usize, limit: usize) -> Rejection {
    let reason =
        format!("its line takes {line} bytes, more than the {limit} that maxObjectBytes leaves");
    Rejection { offset, reason }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use tidegate_core::ids::{PartitionId, TopicId};
    use tidegate_runtime::ports::Record;

    use super::*;

    fn cut_now(sizes: &[usize], end: u64, limit: usize) -> Result<Vec<Piece>, Unfit> {
        let record = |(at, size): (usize, &usize)| Record {
            offset: 10 + 2 * at as u64,
            timestamp_ms: 1,
            key: None,
            value: Some(Bytes::from(vec![b'x'; *size])),
            headers: Vec::new(),
        };
        let records: Vec<_> = sizes.iter().enumerate().map(record).collect();
        let batch = Batch { expected: Position(7), records: &records, end: Position(end) };
        let id = PartitionId { topic: TopicId([7; 16]), number: 3 };
        let partition = TopicPartition { topic: "orders".to_owned(), id };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(cut(&partition, batch, limit))
    }

    #[test]
    fn a_record_that_no_object_can_hold_is_named_and_no_other() {
        let Err(Unfit::Rejected(found)) = cut_now(&[10, 500, 10, 900], 30, 400) else {
            panic!("expected a rejection")
        };
        let offsets: Vec<u64> = found.iter().map(|rejection| rejection.offset).collect();
        assert_eq!(offsets, [12, 16]);
        assert!(found[0].reason.contains("more than the 400 that maxObjectBytes leaves"));
    }

    #[test]
    fn a_batch_without_records_is_one_piece() {
        let pieces = cut_now(&[], 9, 400).unwrap();
        assert_eq!(pieces, [Piece::starting(Position(7), Position(9), 0)]);
    }

    proptest! {
        #[test]
        fn pieces_follow_each_other_and_hold_all_lines(
            sizes in proptest::collection::vec(0_usize..300, 0..40),
            limit in 400_usize..2000,
        ) {
            let end = 100;
            let whole = cut_now(&sizes, end, usize::MAX >> 1).unwrap();
            prop_assert_eq!(whole.len(), 1);
            let pieces = cut_now(&sizes, end, limit).unwrap();
            prop_assert_eq!((pieces[0].start, pieces[pieces.len() - 1].end), (Position(7), Position(end)));
            prop_assert!(pieces.windows(2).all(|two| two[0].end == two[1].start));
            prop_assert!(pieces.iter().all(|piece| piece.lines.len() <= limit));
            prop_assert!(pieces.len() == 1 || pieces.iter().all(|piece| piece.records > 0));
            prop_assert_eq!(pieces.iter().map(|piece| piece.records).sum::<u64>(), sizes.len() as u64);
            let joined: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.lines).collect();
            prop_assert_eq!(&joined, &whole[0].lines);
        }
    }
}
