//! What a partition remembers of idempotent producers, so that a resent batch is not kept twice.
//!
//! The rules are those of Apache Kafka: the last five batches of each producer are known, a batch
//! that repeats one of them is acknowledged with its first offset, and any other batch must follow
//! the last one without a gap. A producer this partition never saw may start anywhere.

use std::collections::{BTreeMap, VecDeque};

use kafka_protocol::ResponseError;

use crate::batch::Sequence;

/// Batches remembered per producer; clients keep at most as many in flight, so that every resend is known.
const REMEMBERED: usize = 5;

/// The producers of one partition.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    known: BTreeMap<i64, Producer>,
}

/// What is to be done with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the next one: keep it.
    Append,
    /// It is kept already, at this offset: acknowledge that.
    Duplicate(i64),
}

#[derive(Debug)]
struct Producer {
    epoch: i16,
    recent: VecDeque<Kept>,
}

#[derive(Debug)]
struct Kept {
    first: i32,
    last: i32,
    base_offset: i64,
}

// === impl Producers ===

impl Producers {
    /// Decides about a batch; changes nothing.
    pub(crate) fn check(&self, batch: Sequence) -> Result<Verdict, ResponseError> {
        let Some(producer) = self.known.get(&batch.producer) else {
            return Ok(Verdict::Append);
        };
        if batch.epoch < producer.epoch {
            return Err(ResponseError::InvalidProducerEpoch);
        }
        let follows = if batch.epoch > producer.epoch {
            batch.first == 0
        } else if let Some(kept) = producer.kept(batch) {
            return Ok(Verdict::Duplicate(kept.base_offset));
        } else {
            producer.recent.back().is_none_or(|last| follows(last.last, batch.first))
        };
        if follows { Ok(Verdict::Append) } else { Err(ResponseError::OutOfOrderSequenceNumber) }
    }

    /// Remembers a batch that was kept at `base_offset`.
    pub(crate) fn remember(&mut self, batch: Sequence, base_offset: i64) {
        let producer = self.known.entry(batch.producer).or_insert_with(|| Producer {
            epoch: batch.epoch,
            recent: VecDeque::with_capacity(REMEMBERED),
        });
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.recent.clear();
        }
        if producer.recent.len() == REMEMBERED {
            producer.recent.pop_front();
        }
        producer.recent.push_back(Kept { first: batch.first, last: batch.last, base_offset });
    }
}

impl Producer {
    fn kept(&self, batch: Sequence) -> Option<&Kept> {
        self.recent.iter().find(|kept| kept.first == batch.first && kept.last == batch.last)
    }
}

fn follows(last: i32, next: i32) -> bool {
    if last == i32::MAX { next == 0 } else { next == last + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i16, first: i32, last: i32) -> Sequence {
        Sequence { producer: 1, epoch, first, last }
    }

    fn after(kept: &[(Sequence, i64)]) -> Producers {
        let mut producers = Producers::default();
        for (sequence, offset) in kept {
            producers.remember(*sequence, *offset);
        }
        producers
    }

    #[test]
    fn a_resent_batch_answers_with_its_first_offset() {
        let producers = after(&[(batch(0, 0, 4), 100), (batch(0, 5, 5), 105)]);
        assert_eq!(producers.check(batch(0, 0, 4)), Ok(Verdict::Duplicate(100)));
        assert_eq!(producers.check(batch(0, 6, 9)), Ok(Verdict::Append));
    }

    #[test]
    fn a_gap_is_out_of_order() {
        let producers = after(&[(batch(0, 0, 4), 0)]);
        let refused = Err(ResponseError::OutOfOrderSequenceNumber);
        assert_eq!(producers.check(batch(0, 6, 6)), refused);
        assert_eq!(producers.check(batch(0, 3, 5)), refused);
    }

    #[test]
    fn only_the_last_five_batches_are_known() {
        let kept: Vec<_> = (0..6).map(|n| (batch(0, n, n), i64::from(n))).collect();
        let producers = after(&kept);
        assert_eq!(producers.check(batch(0, 1, 1)), Ok(Verdict::Duplicate(1)));
        assert_eq!(producers.check(batch(0, 0, 0)), Err(ResponseError::OutOfOrderSequenceNumber));
    }

    #[test]
    fn a_higher_epoch_starts_at_zero_and_fences_the_lower() {
        let mut producers = after(&[(batch(0, 0, 4), 0)]);
        assert!(producers.check(batch(1, 5, 5)).is_err());
        assert_eq!(producers.check(batch(1, 0, 0)), Ok(Verdict::Append));
        producers.remember(batch(1, 0, 0), 5);
        assert_eq!(producers.check(batch(0, 5, 5)), Err(ResponseError::InvalidProducerEpoch));
    }

    #[test]
    fn the_sequence_wraps_to_zero() {
        let producers = after(&[(batch(0, i32::MAX - 1, i32::MAX), 0)]);
        assert_eq!(producers.check(batch(0, 0, 3)), Ok(Verdict::Append));
    }
}
