//! Lower bounds: no assignment with consumers filled up to the same limit can use fewer.
//!
//! Consumers are taken to be as large as the largest, and a partition above the limit as one that fills a consumer, so the bounds
//! hold for unequal capacities and hot partitions too. Pins and the minimum only ever add consumers.

use alloc::vec::Vec;

use super::problem::{Problem, permille_of};

/// The two bounds; both hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct LowerBound {
    /// The load divided by a consumer's limit, rounded up.
    pub volume: u32,
    /// Martello and Toth's L2, which also knows that two large partitions do not share a consumer; never below the volume bound.
    pub l2: u32,
}

impl LowerBound {
    /// The bounds for these weights, in rising order, and consumers filled up to `limit_permille` of the largest capacity.
    pub(super) fn of(problem: &Problem, limit_permille: u32, rising: &[u64]) -> Self {
        let overrides = problem.capacity_overrides.values().copied();
        let capacity = overrides.fold(problem.capacity_bytes_per_sec, u64::max);
        Self::of_rising(rising, permille_of(capacity, limit_permille))
    }

    /// The bounds for these weights and consumers of this limit, which must not be zero.
    pub fn of_weights(weights: impl Iterator<Item = u64>, limit: u64) -> Self {
        let mut weights: Vec<u64> = weights.collect();
        weights.sort_unstable();
        Self::of_rising(&weights, limit)
    }

    fn of_rising(weights: &[u64], limit: u64) -> Self {
        let weights: Vec<u64> = weights.iter().map(|weight| *weight.min(&limit)).collect();
        let at_least = u32::from(!weights.is_empty());
        let total = sum(&weights);
        let volume = saturate(total.div_ceil(u128::from(limit.max(1)))).max(at_least);
        Self { volume, l2: l2(&weights, limit).max(volume) }
    }

    /// The better of the two.
    pub fn consumers(self) -> u32 {
        self.volume.max(self.l2)
    }
}

/// For each threshold: partitions above `limit - threshold` need a consumer for themselves as long as only those from the
/// threshold up are looked at, those above half the limit need one each, and what the smaller ones overflow from their gaps needs more.
fn l2(weights: &[u64], limit: u64) -> u32 {
    let half = limit / 2;
    let small_end = weights.partition_point(|weight| *weight <= half);
    let (small, large) = weights.split_at(small_end);
    let (mut small_sum, mut best) = (sum(small), saturate_len(large.len()));
    let mut paired_end = large.len();
    let mut paired_sum = sum(large);
    for threshold in small {
        while let Some(largest) = paired_end.checked_sub(1).and_then(|last| large.get(last)) {
            if *largest <= limit.saturating_sub(*threshold) {
                break;
            }
            paired_sum = paired_sum.saturating_sub(u128::from(*largest));
            paired_end = paired_end.saturating_sub(1);
        }
        let room =
            u128::try_from(paired_end).unwrap_or(u128::MAX).saturating_mul(u128::from(limit));
        let gaps = room.saturating_sub(paired_sum);
        let overflow = small_sum.saturating_sub(gaps).div_ceil(u128::from(limit.max(1)));
        best = best.max(saturate_len(large.len()).saturating_add(saturate(overflow)));
        small_sum = small_sum.saturating_sub(u128::from(*threshold));
    }
    best
}

fn sum(weights: &[u64]) -> u128 {
    weights.iter().fold(0_u128, |sum, weight| sum.saturating_add(u128::from(*weight)))
}

fn saturate(count: u128) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn saturate_len(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound(weights: &[u64], limit: u64) -> LowerBound {
        LowerBound::of_weights(weights.iter().copied(), limit)
    }

    #[test]
    fn partitions_above_half_the_limit_need_a_consumer_each() {
        assert_eq!(bound(&[51, 51, 51], 100), LowerBound { volume: 2, l2: 3 });
    }

    #[test]
    fn what_does_not_fit_into_the_gaps_needs_more() {
        // Beside 70s only 30 is free, so the 35s share consumers of their own, two each.
        assert_eq!(bound(&[70, 70, 35, 35, 35], 100), LowerBound { volume: 3, l2: 4 });
    }

    #[test]
    fn a_hot_partition_counts_as_one_consumer() {
        assert_eq!(bound(&[1000, 10], 100), LowerBound { volume: 2, l2: 2 });
    }

    #[test]
    fn idle_partitions_need_one_consumer_and_none_need_none() {
        assert_eq!(bound(&[0, 0, 0], 100).consumers(), 1);
        assert_eq!(bound(&[], 100).consumers(), 0);
    }
}
