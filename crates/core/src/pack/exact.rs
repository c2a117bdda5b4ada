//! The least number of consumers for a dozen partitions, and the least that must move at that number: a yardstick for
//! [`super::solve`], by branch and bound, and never used in production.
//!
//! A consumer holds partitions up to a limit, or one partition alone. Partitions are looked at heaviest first; each goes to a consumer
//! that somebody is at home at, to one that is open already, or to a new one, of which one stands for all.

use alloc::vec;
use alloc::vec::Vec;

/// What is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Optimum {
    /// Consumers with partitions.
    pub consumers: usize,
    /// Sum of the weights of the partitions that leave their home.
    pub moved: u64,
}

/// A partition: its weight, and the number of its home.
pub type Load = (u64, Option<usize>);

/// The optimum for these partitions. Takes long from some fifteen partitions on.
pub fn optimum(loads: &[Load], limit: u64) -> Optimum {
    let mut loads = loads.to_vec();
    loads.sort_unstable_by(|a, b| b.cmp(a));
    let homes =
        loads.iter().filter_map(|(_, home)| *home).max().map_or(0, |home| home.saturating_add(1));
    let rest = loads.iter().rev().scan(0_u64, |sum, (weight, _)| {
        *sum = sum.saturating_add(*weight);
        Some(*sum)
    });
    let mut rest: Vec<u64> = rest.collect();
    rest.reverse();
    let mut search = Search {
        limit,
        rest,
        bins: vec![Bin::default(); homes.saturating_add(loads.len())],
        homes,
        loads,
        open: 0,
        moved: 0,
        best: Optimum { consumers: usize::MAX, moved: u64::MAX },
    };
    search.descend(0);
    search.best
}

#[derive(Clone, Copy, Debug, Default)]
struct Bin {
    load: u64,
    count: usize,
}

#[derive(Debug)]
struct Search {
    limit: u64,
    loads: Vec<Load>,
    /// The weight of all partitions from each on.
    rest: Vec<u64>,
    /// First the homes, then others.
    bins: Vec<Bin>,
    homes: usize,
    open: usize,
    moved: u64,
    best: Optimum,
}

impl Search {
    fn descend(&mut self, at: usize) {
        let now = Optimum { consumers: self.open, moved: self.moved };
        let Some((weight, home)) = self.loads.get(at).copied() else {
            self.best = self.best.min(now);
            return;
        };
        let needed = Optimum { consumers: self.open.saturating_add(self.missing(at)), ..now };
        if needed >= self.best {
            return;
        }
        let mut order: Vec<usize> = (0..self.bins.len()).collect();
        order.sort_unstable_by_key(|bin| Some(*bin) != home);
        let mut has_tried_new = false;
        for bin in order {
            let Some(found) = self.bins.get(bin).copied() else { continue };
            let is_new = found.count == 0;
            // Empty, and nobody who is left is at home there: one like the other.
            let is_stranger = is_new && self.is_strange(at, bin);
            let fits = is_new || found.load.saturating_add(weight) <= self.limit;
            if !fits || is_stranger && has_tried_new {
                continue;
            }
            has_tried_new |= is_stranger;
            let cost = if home.is_none_or(|home| home == bin) { 0 } else { weight };
            let before = (self.open, self.moved);
            self.set(
                bin,
                Bin {
                    load: found.load.saturating_add(weight),
                    count: found.count.saturating_add(1),
                },
            );
            self.open = self.open.saturating_add(usize::from(is_new));
            self.moved = self.moved.saturating_add(cost);
            self.descend(at.saturating_add(1));
            (self.open, self.moved) = before;
            self.set(bin, found);
        }
    }

    fn is_strange(&self, at: usize, bin: usize) -> bool {
        let mut left = self.loads.iter().skip(at);
        bin >= self.homes || !left.any(|(_, home)| *home == Some(bin))
    }

    fn set(&mut self, bin: usize, to: Bin) {
        if let Some(found) = self.bins.get_mut(bin) {
            *found = to;
        }
    }

    /// At least so many consumers more for the partitions from this one on.
    fn missing(&self, at: usize) -> usize {
        let used = self.bins.iter().filter(|bin| bin.count > 0);
        let room =
            used.fold(0_u64, |sum, bin| sum.saturating_add(self.limit.saturating_sub(bin.load)));
        let rest = self.rest.get(at).copied().unwrap_or(0);
        let above = rest.saturating_sub(room).div_ceil(self.limit.max(1));
        // A partition above the limit takes one consumer, whatever its weight says.
        let alone = self.loads.get(at).is_some_and(|(weight, _)| *weight > self.limit);
        if alone { 0 } else { usize::try_from(above).unwrap_or(usize::MAX) }
    }
}

#[cfg(test)]
#[expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a panic, and that is what it should be"
)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ids::{ConsumerNumber, PartitionId, TopicId};
    use crate::pack::{Assignment, Item, Limits, Preset, Problem, solve};

    #[test]
    fn the_fewest_consumers_come_first_and_the_fewest_moves_then() {
        // 60 + 40 and 50 + 50 fill two; of the three at home on 0, the 40 stays and the 50 goes.
        let loads = [(60, Some(0)), (40, Some(0)), (50, Some(0)), (50, Some(1))];
        assert_eq!(optimum(&loads, 100), Optimum { consumers: 2, moved: 50 });
        assert_eq!(optimum(&[(0, None), (0, None)], 100), Optimum { consumers: 1, moved: 0 });
        assert_eq!(
            optimum(&[(150, Some(0)), (10, Some(0))], 100),
            Optimum { consumers: 2, moved: 10 }
        );
        assert_eq!(optimum(&[], 100), Optimum { consumers: 0, moved: 0 });
    }

    /// All ways to give partitions to as many consumers as there are partitions and homes.
    fn by_trying_all(loads: &[Load], limit: u64, bins: &mut Vec<Vec<u64>>, moved: u64) -> Optimum {
        let Some(((weight, home), rest)) = loads.split_first() else {
            let used = bins.iter().filter(|bin| !bin.is_empty()).count();
            return Optimum { consumers: used, moved };
        };
        let mut best = Optimum { consumers: usize::MAX, moved: u64::MAX };
        for bin in 0..bins.len() {
            let load: u64 = bins[bin].iter().sum();
            if bins[bin].is_empty() || load + weight <= limit {
                bins[bin].push(*weight);
                let cost = if home.is_none_or(|home| home == bin) { 0 } else { *weight };
                best = best.min(by_trying_all(rest, limit, bins, moved + cost));
                bins[bin].pop();
            }
        }
        best
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn it_is_what_trying_everything_finds(
            loads in prop::collection::vec((0_u64..=100, prop::option::of(0_usize..3)), 0..6),
        ) {
            let mut bins = vec![Vec::new(); loads.len() + 3];
            prop_assert_eq!(optimum(&loads, 100), by_trying_all(&loads, 100, &mut bins, 0));
        }
    }

    fn partition(number: u32) -> PartitionId {
        PartitionId { topic: TopicId::default(), number }
    }

    fn number(home: usize) -> ConsumerNumber {
        ConsumerNumber::FIRST.and_above().nth(home).expect("numbers go on")
    }

    /// What the packer finds for the same partitions.
    fn packed(loads: &[Load], preset: Preset) -> (Optimum, Assignment) {
        let item =
            |(weight, home): &Load| Item { weight: *weight, home: home.map(number), pinned: None };
        let items: BTreeMap<_, _> = (0..).map(partition).zip(loads.iter().map(item)).collect();
        let mut problem = Problem::new(items, 100);
        problem.limits = Limits { packing_permille: 1000, overload_permille: 1000 };
        preset.apply(&mut problem, 100_000, 1);
        let solution = solve(&problem).expect("the problem is valid");
        let found =
            Optimum { consumers: solution.consumers.len(), moved: solution.report.moved_load };
        (found, solution.assignment)
    }

    /// Loads that walk at random, each decision from where the last one left everything.
    #[test]
    fn the_packer_moves_within_two_percent_of_the_least_at_the_fewest_consumers() {
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        let (mut moved, mut least, mut more) = (0, 0, 0);
        for case in 0..40 {
            let count = 8 + case % 5;
            let mut loads: Vec<Load> = (0..count).map(|_| (random(101), None)).collect();
            for _ in 0..6 {
                let best = optimum(&loads, 100);
                let (found, assignment) = packed(&loads, Preset::Tight);
                assert!(found.consumers >= best.consumers, "{loads:?}");
                if found.consumers == best.consumers {
                    assert!(found.moved >= best.moved, "{loads:?}");
                    (moved, least) = (moved + found.moved, least + best.moved);
                } else {
                    more += 1;
                }
                for (load, at) in loads.iter_mut().zip(assignment.values()) {
                    let home = usize::try_from(at.get()).expect("numbers are small") - 1;
                    *load = ((load.0 + random(31)).saturating_sub(15).min(100), Some(home));
                }
            }
        }
        assert!(moved * 100 <= least * 102, "moved {moved}, least {least}");
        assert_eq!(more, 0, "decisions with more consumers than needed");
    }
}
