//! Quantiles of millions of numbers in 30 kB, exact to 1.6 %.

/// Buckets for each doubling; numbers below it have a bucket of their own.
const SUB: u64 = 64;

/// Doublings above [`SUB`] up to the highest `u64`.
const DOUBLINGS: usize = 58;

/// Counts of numbers by size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: vec![0; (DOUBLINGS + 1) * 64], count: 0, max: 0 }
    }
}

// === impl Histogram ===

impl Histogram {
    /// Counts a number.
    pub fn record(&mut self, value: u64) {
        if let Some(bucket) = self.buckets.get_mut(bucket_of(value)) {
            *bucket += 1;
        }
        self.count += 1;
        self.max = self.max.max(value);
    }

    /// How many numbers were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The highest number; 0 when there is none.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// A number that at least this share of all numbers, in thousandths, does not exceed; 0 when there is none.
    pub fn quantile(&self, permille: u32) -> u64 {
        let wanted = u128::from(self.count) * u128::from(permille.min(1000));
        let mut below = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            below += u128::from(*count) * 1000;
            if below >= wanted && below > 0 {
                return highest_of(bucket).min(self.max);
            }
        }
        self.max
    }
}

fn bucket_of(value: u64) -> usize {
    let shift = value.checked_ilog2().unwrap_or(0).saturating_sub(6);
    let bucket = (u64::from(shift) * SUB) + (value >> shift);
    usize::try_from(bucket).unwrap_or(usize::MAX)
}

fn highest_of(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / SUB).saturating_sub(1);
    let top = bucket - shift * SUB;
    u64::try_from(((u128::from(top) + 1) << shift) - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_of_small_numbers_are_exact() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(500), 0);
        (1..=100).for_each(|value| histogram.record(value));
        assert_eq!((histogram.quantile(500), histogram.max(), histogram.count()), (50, 100, 100));
        assert_eq!((histogram.quantile(0), histogram.quantile(1000)), (1, 100));
    }

    proptest! {
        #[test]
        fn a_quantile_is_at_most_one_part_in_64_too_high(
            mut values in proptest::collection::vec(any::<u64>().prop_flat_map(|top| 0..=top), 1..200),
            permille in 1_u32..=1000,
        ) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record(*value);
            }
            values.sort_unstable();
            let rank = (values.len() * permille as usize).div_ceil(1000) - 1;
            let (exact, found) = (values[rank], histogram.quantile(permille));
            prop_assert!(exact <= found && found - exact <= exact / 64, "{exact} {found}");
        }
    }
}
