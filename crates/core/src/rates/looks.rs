//! Which batches to look at where the cluster tells no log sizes: the header of a partition's last batch tells how many bytes its
//! records have.
//!
//! A look costs the broker a read and the network a batch, so there are only so many a round: first at partitions of which nothing is
//! known, then in turn at those that were written since.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::monitor::Round;
use super::window::Sample;
use crate::ids::{PartitionId, Position, TopicId};

/// How many partitions to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Most {
    /// Of those that were not looked at yet.
    pub unknown: usize,
    /// Of the others.
    pub again: usize,
}

/// Who was looked at, and whose turn it is.
#[derive(Clone, Debug, Default)]
pub struct BatchLooks {
    /// High watermarks at the last look.
    looked: BTreeMap<PartitionId, Position>,
    /// The last partition of the last turn.
    last: Option<PartitionId>,
}

// === impl BatchLooks ===

impl BatchLooks {
    /// Partitions of a round to look at, each with the offset of a record of its last batch: as many unknown ones and as many others
    /// as `most` says. Only topics that are open may be looked at.
    pub fn next(
        &mut self,
        round: &Round,
        most: Most,
        is_open: impl Fn(&TopicId) -> bool,
    ) -> Vec<(PartitionId, Position)> {
        let written = written(round, is_open);
        self.looked.retain(|partition, _| written.contains_key(partition));
        let is_new =
            |(partition, _): &(&PartitionId, &Position)| !self.looked.contains_key(partition);
        let has_grown = |(partition, end): &(&PartitionId, &Position)| {
            self.looked.get(partition).is_some_and(|looked| looked != *end)
        };
        let is_later = |partition: &PartitionId| self.last.is_none_or(|last| last < *partition);
        let (later, earlier): (Vec<_>, Vec<_>) =
            written.iter().filter(has_grown).partition(|(partition, _)| is_later(partition));
        let turn = later.into_iter().chain(earlier);
        let new = written.iter().filter(is_new).take(most.unknown);
        let next = new.chain(turn.take(most.again));
        let next: Vec<_> = next.map(|(partition, end)| (*partition, *end)).collect();
        for (partition, end) in &next {
            if self.looked.insert(*partition, *end).is_some() {
                self.last = Some(*partition);
            }
        }
        next.into_iter()
            .map(|(partition, end)| (partition, Position(end.0.saturating_sub(1))))
            .collect()
    }

    /// A partition was not asked after all.
    pub fn not_asked(&mut self, partition: PartitionId) {
        self.looked.remove(&partition);
    }

    /// There was no answer of a partition: it is looked at again when its turn comes, whether it is written or not. Not before the
    /// others: some never answer.
    pub fn again(&mut self, partition: PartitionId) {
        self.looked.insert(partition, Position::default());
    }
}

/// Partitions that have records and no size, with their high watermarks.
fn written(round: &Round, is_open: impl Fn(&TopicId) -> bool) -> BTreeMap<PartitionId, Position> {
    let topics = round.topics.iter().filter(|(topic, _)| is_open(topic));
    let partitions = topics.flat_map(|(topic, seen)| {
        seen.partitions.iter().filter_map(|(number, sample)| {
            let Sample { high_watermark, log_start, size, .. } = (*sample)?;
            let is_wanted = size.is_none() && log_start < high_watermark;
            is_wanted.then_some((PartitionId { topic: *topic, number: *number }, high_watermark))
        })
    });
    partitions.collect()
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::super::monitor::TopicRound;
    use super::*;
    use crate::ids::Instant;

    /// Partitions by high watermark and size; they begin at offset 5.
    fn round(partitions: &[(u64, Option<u64>)]) -> Round {
        let sample = |(end, size): &(u64, Option<u64>)| {
            let high_watermark = Position(*end);
            Some(Sample { high_watermark, log_start: Position(5), size: *size, leader: 1 })
        };
        let partitions = (0..).zip(partitions.iter().map(sample)).collect();
        let topic = TopicRound { listed_at: Instant::default(), absent_at: None, partitions };
        Round { topics: [(TopicId::default(), topic)].into() }
    }

    fn next(looks: &mut BatchLooks, round: &Round, unknown: usize) -> Vec<(u32, u64)> {
        let most = Most { unknown, again: 1 };
        let next = looks.next(round, most, |_| true).into_iter();
        next.map(|(partition, offset)| (partition.number, offset.0)).collect()
    }

    #[test]
    fn only_partitions_with_records_and_without_a_size_are_looked_at() {
        let mut looks = BatchLooks::default();
        let round = round(&[(5, None), (9, Some(100)), (9, None)]);
        assert_eq!(next(&mut looks, &round, 8), [(2, 8)]);
        assert_eq!(next(&mut looks, &round, 8), [], "nothing was written since");
        let most = Most { unknown: 8, again: 8 };
        assert_eq!(BatchLooks::default().next(&round, most, |_| false), []);
    }

    #[test]
    fn unknown_ones_come_first_and_the_others_in_turn() {
        let mut looks = BatchLooks::default();
        assert_eq!(next(&mut looks, &round(&[(9, None); 3]), 2), [(0, 8), (1, 8)]);
        assert_eq!(next(&mut looks, &round(&[(10, None); 3]), 2), [(2, 9), (0, 9)]);
        assert_eq!(next(&mut looks, &round(&[(11, None); 3]), 2), [(1, 10)]);
        assert_eq!(next(&mut looks, &round(&[(12, None); 3]), 2), [(2, 11)]);
        assert_eq!(next(&mut looks, &round(&[(13, None); 3]), 2), [(0, 12)]);
    }

    #[test]
    fn one_without_an_answer_is_looked_at_in_its_turn_and_one_that_is_gone_is_forgotten() {
        let mut looks = BatchLooks::default();
        let both = round(&[(9, None), (9, None)]);
        assert_eq!(next(&mut looks, &both, 2).len(), 2);
        looks.again(PartitionId { topic: TopicId::default(), number: 1 });
        assert_eq!(next(&mut looks, &both, 2), [(1, 8)]);
        looks.not_asked(PartitionId { topic: TopicId::default(), number: 1 });
        assert_eq!(next(&mut looks, &both, 2), [(1, 8)]);
        looks.again(PartitionId { topic: TopicId::default(), number: 1 });
        let other = round(&[(10, None), (9, None)]);
        assert_eq!(next(&mut looks, &other, 2), [(0, 9)], "it is the other one's turn");
        assert_eq!(next(&mut looks, &other, 2), [(1, 8)]);
        assert_eq!(next(&mut looks, &round(&[(10, None)]), 2), vec![]);
        assert_eq!(next(&mut looks, &other, 2), [(1, 8)]);
    }
}
