//! A batch as bodies of requests: lines that are encoded once, and cut where a receiver finds them too large.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use tidegate_core::ids::Position;
use tidegate_runtime::ports::{Batch, Record, TopicPartition};

use crate::ndjson::Encoder;

/// Bytes encoded between two points at which other tasks of the thread may run: below a millisecond of work.
const ENCODE_SLICE: usize = 256 * 1024;

/// The lines of a batch.
#[derive(Debug)]
pub(super) struct Lines {
    body: Bytes,
    /// Where the line of each record ends in the body.
    ends: Vec<usize>,
    /// Offset of each record.
    offsets: Vec<u64>,
    expected: Position,
    end: Position,
}

/// Records of a batch that go into one request: a range of their numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part(Range<usize>);

impl Lines {
    pub(super) async fn encode(partition: &TopicPartition, batch: Batch<'_>) -> Self {
        let encoder = Encoder::new(&partition.topic, partition.id.number);
        let hint = batch.records.iter().map(|record| encoder.size_hint(record)).sum();
        let (mut body, mut slice_end) = (Vec::with_capacity(hint), ENCODE_SLICE);
        let mut ends = Vec::with_capacity(batch.records.len());
        for record in batch.records {
            encoder.line(record, &mut body);
            ends.push(body.len());
            if body.len() >= slice_end {
                slice_end = body.len() + ENCODE_SLICE;
                tokio::task::yield_now().await;
            }
        }
        let offset = |record: &Record| record.offset;
        Self {
            body: body.into(),
            ends,
            offsets: batch.records.iter().map(offset).collect(),
            expected: batch.expected,
            end: batch.end,
        }
    }

    /// The batch in parts below so many bytes, or of one record where that is larger; at least one part.
    pub(super) fn parts(&self, below: usize) -> VecDeque<Part> {
        let mut parts = VecDeque::new();
        let mut begin = 0;
        for number in 1..self.ends.len() {
            if self.body_range(&(begin..number + 1)).len() >= below {
                parts.push_back(Part(begin..number));
                begin = number;
            }
        }
        parts.push_back(Part(begin..self.ends.len()));
        parts
    }

    /// A part in two halves; `None` when it has one record or none.
    pub(super) fn halves(part: &Part) -> Option<[Part; 2]> {
        let Range { start, end } = part.0;
        let middle = start.midpoint(end);
        (middle > start).then_some([Part(start..middle), Part(middle..end)])
    }

    /// The body of a part's request.
    pub(super) fn body(&self, part: &Part) -> Bytes {
        self.body.slice(self.body_range(&part.0))
    }

    /// How many records it has.
    pub(super) fn records(part: &Part) -> usize {
        part.0.len()
    }

    /// Offsets of its records.
    pub(super) fn offsets(&self, part: &Part) -> &[u64] {
        self.offsets.get(part.0.clone()).unwrap_or_default()
    }

    /// Positions before and after it: the parts of a batch follow each other without a gap.
    pub(super) fn span(&self, part: &Part) -> (Position, Position) {
        let at = |number: usize, otherwise| {
            self.offsets.get(number).map_or(otherwise, |offset| Position(*offset))
        };
        let begin = if part.0.start == 0 { self.expected } else { at(part.0.start, self.end) };
        (begin, at(part.0.end, self.end))
    }

    fn body_range(&self, records: &Range<usize>) -> Range<usize> {
        let end = |number: usize| {
            number.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or_default()
        };
        end(records.start)..end(records.end)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_core::ids::{PartitionId, TopicId};

    use super::*;

    fn lines(sizes: &[usize]) -> Lines {
        let id = PartitionId { topic: TopicId([1; 16]), number: 2 };
        let partition = TopicPartition { topic: "orders".to_owned(), id };
        let records: Vec<_> = sizes
            .iter()
            .zip(0..)
            .map(|(size, number)| Record {
                offset: 10 + 2 * number,
                timestamp_ms: 5,
                key: None,
                value: Some(Bytes::from("x".repeat(*size))),
                headers: Vec::new(),
            })
            .collect();
        let end = Position(100);
        let batch = Batch { expected: Position(7), records: &records, end };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(Lines::encode(&partition, batch))
    }

    #[test]
    fn a_batch_without_records_is_one_part_that_moves_the_position() {
        let lines = lines(&[]);
        let parts = lines.parts(1);
        assert_eq!(parts, [Part(0..0)]);
        assert_eq!(lines.span(&parts[0]), (Position(7), Position(100)));
        assert_eq!((lines.body(&parts[0]).len(), Lines::halves(&parts[0])), (0, None));
    }

    #[test]
    fn a_part_of_one_record_cannot_be_cut() {
        assert_eq!(Lines::halves(&Part(3..4)), None);
        assert_eq!(Lines::halves(&Part(3..6)), Some([Part(3..4), Part(4..6)]));
    }

    proptest! {
        #[test]
        fn parts_follow_each_other_and_are_below_the_limit(
            sizes in proptest::collection::vec(0_usize..300, 0..20),
            below in 1_usize..1500,
        ) {
            let lines = lines(&sizes);
            let parts = lines.parts(below);
            let bodies: Vec<u8> = parts.iter().flat_map(|part| lines.body(part)).collect();
            prop_assert_eq!(&bodies, &lines.body);
            let mut at = Position(7);
            for part in &parts {
                let (begin, end) = lines.span(part);
                prop_assert_eq!(begin, at);
                at = end;
                prop_assert!(lines.body(part).len() < below || Lines::records(part) <= 1);
                let inside = |offset: &u64| (begin.0..end.0).contains(offset);
                prop_assert!(lines.offsets(part).iter().all(inside));
                prop_assert_eq!(lines.body(part).split(|byte| *byte == b'\n').count() - 1, Lines::records(part));
            }
            prop_assert_eq!(at, Position(100));
        }
    }
}
