//! Sets of numbers that come in long runs, in memory that grows with the runs and not with the numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A set of numbers as disjoint runs that do not touch.
///
/// ```
/// use tidegate_load::ranges::RangeSet;
///
/// let mut set = RangeSet::default();
/// assert!(set.insert(4) && set.insert(6) && set.insert(5));
/// assert!(!set.insert(5), "it was there");
/// assert_eq!(set.ranges().collect::<Vec<_>>(), [4..7]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RangeSet {
    /// First number of each run, and the first behind it.
    runs: BTreeMap<u64, u64>,
}

// === impl RangeSet ===

impl RangeSet {
    /// Adds a number below `u64::MAX`; false when it was there already.
    pub fn insert(&mut self, number: u64) -> bool {
        let mut start = number;
        if let Some((first, end)) = self.runs.range_mut(..=number).next_back() {
            if number < *end {
                return false;
            }
            if number == *end {
                *end = number.saturating_add(1);
                start = *first;
            }
        }
        let next = number.saturating_add(1);
        let end = self.runs.remove(&next).unwrap_or(next);
        self.runs.insert(start, end);
        true
    }

    /// Whether a number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.runs.range(..=number).next_back().is_some_and(|(_, end)| number < *end)
    }

    /// How many numbers are in the set.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|(start, end)| end - start).sum()
    }

    /// True when no number is in the set.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The runs in rising order.
    pub fn ranges(&self) -> impl Iterator<Item = std::ops::Range<u64>> {
        self.runs.iter().map(|(start, end)| *start..*end)
    }

    /// The parts of a range that are not in the set, in rising order.
    pub fn missing(&self, range: std::ops::Range<u64>) -> Vec<std::ops::Range<u64>> {
        let mut missing = Vec::new();
        let mut at = range.start;
        let first = self.runs.range(..=range.start).next_back().map_or(0, |(start, _)| *start);
        for (start, end) in self.runs.range(first..range.end) {
            if at < *start {
                missing.push(at..*start);
            }
            at = at.max(*end);
        }
        if at < range.end {
            missing.push(at..range.end);
        }
        missing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set(numbers in proptest::collection::vec(0_u64..60, 0..80), low in 0_u64..60, span in 0_u64..30) {
            let mut set = RangeSet::default();
            let mut model = BTreeSet::new();
            for number in numbers {
                prop_assert_eq!(set.insert(number), model.insert(number));
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            prop_assert!((0..60).all(|number| set.contains(number) == model.contains(&number)));
            let ends: Vec<_> = set.ranges().collect();
            prop_assert!(ends.windows(2).all(|pair| pair[0].end < pair[1].start), "runs do not touch");
            let range = low..low + span;
            let missing: Vec<u64> = set.missing(range.clone()).into_iter().flatten().collect();
            prop_assert_eq!(missing, range.filter(|number| !model.contains(number)).collect::<Vec<_>>());
        }
    }
}
