//! Random numbers that a seed repeats. The protocol under test gets none of them.

use std::time::Duration;

use tidegate_core::random::SplitMix64;

/// The kinds of random numbers that faults need.
#[derive(Clone, Debug)]
pub(crate) struct Random(SplitMix64);

impl Random {
    /// A sequence of its own for each seed and each purpose.
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mixed = SplitMix64::new(seed).next();
        Self(SplitMix64::new(mixed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93)))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `end`; 0 when there is none.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.next() % end).unwrap_or_default()
    }

    /// A time between two others, the ends included.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_millis().saturating_add(1);
        let more = u128::from(self.next()) % span;
        least + Duration::from_millis(u64::try_from(more).unwrap_or_default())
    }

    /// Puts a list into another order (Fisher and Yates).
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for last in (1..list.len()).rev() {
            let other = self.below(last + 1);
            list.swap(last, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_its_numbers_and_purposes_differ() {
        let numbers = |seed, purpose| {
            let mut random = Random::new(seed, purpose);
            [random.next(), random.next()]
        };
        assert_eq!(numbers(7, 1), numbers(7, 1));
        assert_ne!(numbers(7, 1), numbers(7, 2));
        assert_ne!(numbers(7, 1), numbers(8, 1));
    }

    #[test]
    fn a_shuffle_keeps_every_entry() {
        let mut list: Vec<u32> = (0..20).collect();
        Random::new(3, 0).shuffle(&mut list);
        assert_ne!(list, (0..20).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn times_lie_between_their_ends() {
        let (least, most) = (Duration::from_millis(5), Duration::from_millis(7));
        let mut random = Random::new(1, 1);
        let times: Vec<_> = (0..100).map(|_| random.between(least, most)).collect();
        assert!(times.iter().all(|time| (least..=most).contains(time)));
        assert!(times.contains(&least) && times.contains(&most));
    }
}
