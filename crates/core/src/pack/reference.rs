//! The twelve published algorithms, exact: the yardstick that [`super::solve`] is measured with, and never used in production.
//!
//! Sizes are integers against a capacity; consumers have the numbers 0, 1, 2, ... as published. A consumer accepts a partition when
//! nothing has been put there in this run, or when it still fits: a partition above the capacity gets a consumer to itself.
//! A new consumer has the number of the partition's current one if that is not open yet, else the lowest that is not open.
//! Consumers are looked at in order of numbers, ties go to the lowest, and sorting is stable.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;

/// One of the twelve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Algorithm {
    /// Next fit.
    Nf,
    /// Next fit decreasing.
    Nfd,
    /// First fit.
    Ff,
    /// First fit decreasing.
    Ffd,
    /// Worst fit.
    Wf,
    /// Worst fit decreasing.
    Wfd,
    /// Best fit.
    Bf,
    /// Best fit decreasing.
    Bfd,
    /// Modified worst fit: consumers by their total load.
    Mwf,
    /// Modified best fit: consumers by their total load.
    Mbf,
    /// Modified worst fit: consumers by their largest partition.
    Mwfp,
    /// Modified best fit: consumers by their largest partition.
    Mbfp,
}

/// A partition, as the published algorithms see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Its size, in the unit of the capacity.
    pub size: u64,
    /// Its consumer before this run.
    pub current: Option<u32>,
}

/// Which open consumer a partition goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    Next,
    First,
    Worst,
    Best,
}

#[derive(Debug)]
struct Bins {
    capacity: u64,
    /// Load, and whether something has been put there.
    open: BTreeMap<u32, (u64, bool)>,
    last: u32,
}

/// A partition with its index, which is what the result is ordered by.
type Piece = (usize, Load);

// === impl Algorithm ===

impl Algorithm {
    /// All, in the order of the publication's tables.
    pub const ALL: [Self; 12] = [
        Self::Nf,
        Self::Nfd,
        Self::Ff,
        Self::Ffd,
        Self::Wf,
        Self::Wfd,
        Self::Bf,
        Self::Bfd,
        Self::Mwf,
        Self::Mbf,
        Self::Mwfp,
        Self::Mbfp,
    ];

    /// The name in lower case, as files and options have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nf => "nf",
            Self::Nfd => "nfd",
            Self::Ff => "ff",
            Self::Ffd => "ffd",
            Self::Wf => "wf",
            Self::Wfd => "wfd",
            Self::Bf => "bf",
            Self::Bfd => "bfd",
            Self::Mwf => "mwf",
            Self::Mbf => "mbf",
            Self::Mwfp => "mwfp",
            Self::Mbfp => "mbfp",
        }
    }

    /// Each partition's consumer, by index.
    ///
    /// `order` is the order in which the four that do not sort look at partitions; one that it leaves out stays without a
    /// consumer, shown as `None`.
    pub fn run(self, capacity: u64, loads: &[Load], order: &[usize]) -> Vec<Option<u32>> {
        match self {
            Self::Nf => fit(Fit::Next, capacity, loads, in_order(loads, order)),
            Self::Ff => fit(Fit::First, capacity, loads, in_order(loads, order)),
            Self::Wf => fit(Fit::Worst, capacity, loads, in_order(loads, order)),
            Self::Bf => fit(Fit::Best, capacity, loads, in_order(loads, order)),
            Self::Nfd => fit(Fit::Next, capacity, loads, decreasing(loads)),
            Self::Ffd => fit(Fit::First, capacity, loads, decreasing(loads)),
            Self::Wfd => fit(Fit::Worst, capacity, loads, decreasing(loads)),
            Self::Bfd => fit(Fit::Best, capacity, loads, decreasing(loads)),
            Self::Mwf => modified(Fit::Worst, capacity, loads, total),
            Self::Mbf => modified(Fit::Best, capacity, loads, total),
            Self::Mwfp => modified(Fit::Worst, capacity, loads, largest),
            Self::Mbfp => modified(Fit::Best, capacity, loads, largest),
        }
    }
}

/// One after the other into the consumer that fits.
fn fit(rule: Fit, capacity: u64, loads: &[Load], pieces: Vec<Piece>) -> Vec<Option<u32>> {
    let mut bins = Bins::new(capacity);
    if rule == Fit::Next {
        bins.open.insert(0, (0, false));
    }
    let mut next = alloc::vec![None; loads.len()];
    for (index, load) in pieces {
        let consumer = bins.place(rule, load);
        set(&mut next, index, consumer);
    }
    next
}

/// Each consumer's small partitions go elsewhere as far as possible, the others stay as far as they fit.
fn modified(
    rule: Fit,
    capacity: u64,
    loads: &[Load],
    weight: fn(&[Piece]) -> u128,
) -> Vec<Option<u32>> {
    let mut bins = Bins::new(capacity);
    let mut next = alloc::vec![None; loads.len()];
    let mut consumers: BTreeMap<u32, Vec<Piece>> = BTreeMap::new();
    let mut pool = Vec::new();
    for (index, load) in loads.iter().enumerate() {
        match load.current {
            Some(current) => consumers.entry(current).or_default().push((index, *load)),
            None => pool.push((index, *load)),
        }
    }
    let mut consumers: Vec<_> = consumers.into_iter().collect();
    consumers.sort_by_key(|(_, pieces)| Reverse(weight(pieces)));
    for (consumer, mut pieces) in consumers {
        pieces.sort_by_key(|(_, load)| Reverse(load.size));
        while let Some((index, load)) = pieces.pop() {
            let Some(target) = bins.find(rule, load.size) else {
                pieces.push((index, load));
                break;
            };
            bins.put(target, load.size);
            set(&mut next, index, target);
        }
        let mut rest = pieces.into_iter().peekable();
        while let Some((index, load)) = rest.next_if(|(_, load)| bins.accepts(consumer, load.size))
        {
            bins.put(consumer, load.size);
            set(&mut next, index, consumer);
        }
        pool.extend(rest);
    }
    pool.sort_by_key(|(_, load)| Reverse(load.size));
    for (index, load) in pool {
        let consumer = bins.place(rule, load);
        set(&mut next, index, consumer);
    }
    next
}

// === impl Bins ===

impl Bins {
    const fn new(capacity: u64) -> Self {
        Self { capacity, open: BTreeMap::new(), last: 0 }
    }

    fn place(&mut self, rule: Fit, load: Load) -> u32 {
        let consumer = self.find(rule, load.size).unwrap_or_else(|| self.fresh(load.current));
        self.put(consumer, load.size);
        self.last = consumer;
        consumer
    }

    fn find(&self, rule: Fit, size: u64) -> Option<u32> {
        let mut accepting = self
            .open
            .iter()
            .filter(|(consumer, _)| self.accepts(**consumer, size))
            .map(|(consumer, (load, _))| (*load, *consumer));
        match rule {
            Fit::Next => {
                let load = self.open.get(&self.last).map_or(0, |(load, _)| *load);
                (load == 0 || self.accepts(self.last, size)).then_some(self.last)
            }
            Fit::First => accepting.next().map(|(_, consumer)| consumer),
            Fit::Worst => accepting.min().map(|(_, consumer)| consumer),
            Fit::Best => accepting
                .max_by_key(|(load, consumer)| (*load, Reverse(*consumer)))
                .map(|(_, consumer)| consumer),
        }
    }

    fn accepts(&self, consumer: u32, size: u64) -> bool {
        match self.open.get(&consumer) {
            Some((load, true)) => load.saturating_add(size) <= self.capacity,
            Some((_, false)) | None => true,
        }
    }

    fn fresh(&self, current: Option<u32>) -> u32 {
        let is_free = |consumer: &u32| !self.open.contains_key(consumer);
        current.filter(is_free).or_else(|| (0..=u32::MAX).find(is_free)).unwrap_or(u32::MAX)
    }

    fn put(&mut self, consumer: u32, size: u64) {
        let (load, used) = self.open.entry(consumer).or_default();
        *load = load.saturating_add(size);
        *used = true;
    }
}

fn in_order(loads: &[Load], order: &[usize]) -> Vec<Piece> {
    order.iter().filter_map(|index| Some((*index, *loads.get(*index)?))).collect()
}

fn decreasing(loads: &[Load]) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = loads.iter().copied().enumerate().collect();
    pieces.sort_by_key(|(_, load)| Reverse(load.size));
    pieces
}

fn total(pieces: &[Piece]) -> u128 {
    pieces.iter().fold(0_u128, |sum, (_, load)| sum.saturating_add(u128::from(load.size)))
}

fn largest(pieces: &[Piece]) -> u128 {
    pieces.iter().map(|(_, load)| u128::from(load.size)).max().unwrap_or(0)
}

fn set(next: &mut [Option<u32>], index: usize, consumer: u32) {
    if let Some(slot) = next.get_mut(index) {
        *slot = Some(consumer);
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use serde_json::Value;

    use super::*;

    const GOLDEN: &str =
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../testing/golden/packing.jsonl"));

    fn numbers(case: &Value) -> Vec<i64> {
        let list = case.as_array().expect("a list");
        list.iter().map(|value| value.as_i64().expect("an integer")).collect()
    }

    #[test]
    fn all_twelve_equal_every_golden_case() {
        let mut compared = 0;
        for line in GOLDEN.lines().filter(|line| !line.trim().is_empty()) {
            let case: Value = serde_json::from_str(line).expect("a golden case is JSON");
            let capacity = case["capacity"].as_u64().expect("a capacity");
            let sizes = numbers(&case["sizes"]).into_iter();
            let loads: Vec<_> = sizes
                .zip(numbers(&case["current"]))
                .map(|(size, current)| Load {
                    size: size.try_into().expect("sizes are not negative"),
                    current: current.try_into().ok(),
                })
                .collect();
            let order: Vec<usize> =
                numbers(&case["order"]).into_iter().flat_map(usize::try_from).collect();
            for algorithm in Algorithm::ALL {
                let next = algorithm.run(capacity, &loads, &order);
                let next: Vec<_> = next.into_iter().map(|at| at.map_or(-1, i64::from)).collect();
                let golden = numbers(&case["results"][algorithm.name()]["next"]);
                assert_eq!(next, golden, "{} of {}", algorithm.name(), case["name"]);
                compared += 1;
            }
        }
        assert_eq!(compared, 35 * 12, "no case was left out");
    }
}
