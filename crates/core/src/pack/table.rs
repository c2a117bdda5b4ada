//! The problem in dense tables, in which partitions and consumers are indexes: all that the phases look up is one step away.
//!
//! Invariants: indexes follow the order of partitions and of consumers, so that ordering by one is ordering by the other. There
//! are as many consumers as could ever get a partition: those that the problem names, and the lowest numbers besides.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "all tables have one row for each index that was handed out; sums of weights were found to fit"
)]

use alloc::vec::Vec;
use core::cmp::Reverse;

use super::problem::{Assignment, Problem};
use crate::ids::{ConsumerNumber, PartitionId};

/// Index of a partition.
pub(super) type Piece = usize;

/// Index of a consumer.
pub(super) type Slot = usize;

/// Who has which partition.
pub(super) type Placement = Vec<Option<Slot>>;

/// What a decision is made from.
#[derive(Clone, Debug)]
pub(super) struct Table<'a> {
    pub(super) problem: &'a Problem,
    pub(super) partitions: Vec<PartitionId>,
    pub(super) weights: Vec<u64>,
    /// Who had them before this decision.
    pub(super) homes: Placement,
    /// Where they must be, as far as that can be obeyed.
    pub(super) pins: Placement,
    /// There are other pins.
    pub(super) ignores_pins: bool,
    pub(super) consumers: Vec<Consumer>,
    /// The largest packing limit.
    pub(super) largest_packing: u64,
    /// So much load may leave home of what could stay.
    pub(super) max_moved_load: u64,
}

/// What is known of a consumer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Consumer {
    pub(super) number: ConsumerNumber,
    pub(super) capacity: u64,
    /// Up to here partitions are added.
    pub(super) packing: u64,
    /// Above here partitions are taken away.
    pub(super) overload: u64,
    /// It may have partitions.
    pub(super) is_usable: bool,
    /// Everything must leave it, and it is there still.
    pub(super) is_evacuated: bool,
    /// It runs already.
    pub(super) runs: bool,
}

// === impl Table ===

impl<'a> Table<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        let numbers = numbers(problem);
        let slot = |number: ConsumerNumber| slot(&numbers, number);
        let count = problem.items.len();
        let mut table = Self {
            problem,
            partitions: Vec::with_capacity(count),
            weights: Vec::with_capacity(count),
            homes: Vec::with_capacity(count),
            pins: Vec::with_capacity(count),
            ignores_pins: false,
            consumers: Vec::new(),
            largest_packing: 0,
            max_moved_load: problem.max_moved_load,
        };
        for (partition, item) in &problem.items {
            let pin = problem.effective_pin(item);
            table.partitions.push(*partition);
            table.weights.push(item.weight);
            table.homes.push(item.home.and_then(slot));
            table.pins.push(pin.and_then(slot));
            table.ignores_pins |= item.pinned != pin;
        }
        table.consumers = numbers.iter().map(|number| Consumer::new(problem, *number)).collect();
        table.largest_packing = table.consumers.iter().map(|at| at.packing).max().unwrap_or(0);
        table
    }

    /// The same problem with everything at home where it is now.
    pub(super) fn settled(&self, placement: &Placement) -> Self {
        let max_moved_load = self.max_moved_load.saturating_sub(self.moved_load(placement));
        Self { homes: placement.clone(), max_moved_load, ..self.clone() }
    }

    pub(super) fn len(&self) -> usize {
        self.partitions.len()
    }

    /// Who has what as the decision begins: what was on a consumer that is gone has nobody.
    pub(super) fn standing(&self) -> Placement {
        let there = |home: &Slot| {
            let home = &self.consumers[*home];
            home.is_usable || home.is_evacuated
        };
        self.homes.iter().map(|home| home.filter(there)).collect()
    }

    /// Heaviest first, then by partition.
    pub(super) fn sort_heaviest_first(&self, pieces: &mut [Piece]) {
        pieces.sort_unstable_by_key(|piece| (Reverse(self.weights[*piece]), *piece));
    }

    pub(super) fn rising_weights(&self) -> Vec<u64> {
        let mut weights = self.weights.clone();
        weights.sort_unstable();
        weights
    }

    pub(super) fn load(&self, pieces: &[Piece]) -> u64 {
        pieces.iter().map(|piece| self.weights[*piece]).sum()
    }

    /// The load of those that are at home on a consumer: so much is moved when they leave.
    pub(super) fn load_at_home(&self, pieces: &[Piece], slot: Slot) -> u64 {
        let at_home = pieces.iter().filter(|piece| self.homes[**piece] == Some(slot));
        at_home.map(|piece| self.weights[*piece]).sum()
    }

    /// The load that has left home for another consumer.
    pub(super) fn moved_load(&self, placement: &Placement) -> u64 {
        let places = self.homes.iter().zip(placement).zip(&self.weights);
        let moved = places.filter(|((home, at), _)| home.is_some() && at.is_some() && home != at);
        moved.map(|(_, weight)| weight).sum()
    }

    pub(super) fn assignment(&self, placement: &Placement) -> Assignment {
        let placed = self.partitions.iter().zip(placement);
        placed
            .filter_map(|(partition, at)| Some((*partition, self.consumers[(*at)?].number)))
            .collect()
    }
}

/// All consumers that could get a partition, in order.
fn numbers(problem: &Problem) -> Vec<ConsumerNumber> {
    let items = problem.items.values();
    let mut named: Vec<_> =
        items.flat_map(|item| item.home.into_iter().chain(item.pinned)).collect();
    named.extend(problem.running.iter().chain(problem.capacity_overrides.keys()));
    named.sort_unstable();
    named.dedup();
    let most = usize::try_from(problem.most_open()).unwrap_or(usize::MAX);
    let count = problem.items.len().min(most);
    let is_new =
        |number: &ConsumerNumber| problem.is_usable(*number) && slot(&named, *number).is_none();
    let further: Vec<_> = ConsumerNumber::FIRST.and_above().filter(is_new).take(count).collect();
    named.extend(further);
    named.sort();
    named
}

/// The index of a number in rising ones. Numbers without a gap are their own index.
fn slot(numbers: &[ConsumerNumber], number: ConsumerNumber) -> Option<Slot> {
    let likely = usize::try_from(number.get() - 1).ok()?;
    if numbers.get(likely) == Some(&number) {
        return Some(likely);
    }
    numbers.binary_search(&number).ok()
}

// === impl Consumer ===

impl Consumer {
    fn new(problem: &Problem, number: ConsumerNumber) -> Self {
        Self {
            number,
            capacity: problem.capacity_of(number),
            packing: problem.packing_limit_of(number),
            overload: problem.overload_limit_of(number),
            is_usable: problem.is_usable(number),
            is_evacuated: problem.evacuate.contains(&number)
                && !problem.unavailable.contains(&number),
            runs: problem.running.contains(&number),
        }
    }
}
