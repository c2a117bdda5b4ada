//! The kinds of random numbers that the search needs.

use crate::random::SplitMix64;

/// Random numbers of a seed.
#[derive(Clone, Debug)]
pub(super) struct Random(SplitMix64);

impl Random {
    pub(super) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// An index below `len`; 0 when that is 0.
    pub(super) fn index(&mut self, len: usize) -> usize {
        let wide = u128::from(self.next()).saturating_mul(u128::try_from(len).unwrap_or(0));
        usize::try_from(wide >> 64).unwrap_or(0)
    }

    /// True once in 32 times.
    pub(super) const fn seldom(&mut self) -> bool {
        self.next() >> 59 == 0
    }

    /// A number of the exponential distribution with mean 1, in 1/1024: the binary logarithm of a uniform number by its
    /// leading zeros and a straight line between them, which is nowhere off by more than 0.06.
    pub(super) fn exponential(&mut self) -> u64 {
        let number = self.next();
        let zeros = u64::from(number.leading_zeros()).min(63);
        let mantissa = number.wrapping_shl(number.leading_zeros()) >> 53;
        let binary = zeros.saturating_mul(1024).saturating_add(2048_u64.saturating_sub(mantissa));
        // The logarithm of 2, in 1/1024.
        binary.saturating_mul(710) >> 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_below_its_limit_and_reaches_all() {
        let mut random = Random::new(1);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            seen[random.index(7)] += 1;
        }
        assert!(seen.iter().all(|count| (800..1200).contains(count)), "{seen:?}");
        assert_eq!(random.index(0), 0);
    }

    #[test]
    fn exponential_numbers_have_their_mean_and_their_tail() {
        let mut random = Random::new(1);
        let numbers: alloc::vec::Vec<u64> = (0..100_000).map(|_| random.exponential()).collect();
        let mean = numbers.iter().sum::<u64>() / 100_000;
        assert!((980..1100).contains(&mean), "{mean}");
        // e^-3 is 5 %.
        let tail = numbers.iter().filter(|number| **number > 3072).count();
        assert!((4_500..5_700).contains(&tail), "{tail}");
    }
}
