//! The packer's workbench: consumers with what is on them, and two ordered indexes that find a place in O(log n).
//!
//! Invariants: no consumer here is empty between two phases; a consumer is in `by_residual` exactly while its load is at most
//! its packing limit, and in `by_count` exactly while its load is at most its overload limit.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::problem::{Assignment, Problem};
use super::report::{Binding, MoveReason};
use crate::ids::{ConsumerNumber, PartitionId};

/// Why partitions left the consumer they were on.
pub(super) type Reasons = BTreeMap<PartitionId, MoveReason>;

/// A partition on the workbench.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) partition: PartitionId,
    pub(super) weight: u64,
    /// A consumer where it is at home and may stay.
    pub(super) home: Option<ConsumerNumber>,
    /// It must stay where it is.
    pub(super) pinned: bool,
}

/// A consumer on the workbench.
#[derive(Clone, Debug)]
pub(super) struct Bin {
    pub(super) capacity: u64,
    pub(super) packing: u64,
    pub(super) overload: u64,
    pub(super) load: u64,
    pub(super) pieces: Vec<Piece>,
}

/// All consumers on the workbench.
#[derive(Debug)]
pub(super) struct State<'a> {
    pub(super) problem: &'a Problem,
    pub(super) reasons: Reasons,
    pub(super) bound_by: BTreeSet<Binding>,
    bins: BTreeMap<ConsumerNumber, Bin>,
    by_residual: BTreeSet<(u64, usize, ConsumerNumber)>,
    by_count: BTreeSet<(usize, ConsumerNumber)>,
    /// The sum of all residuals in `by_residual`.
    free: u128,
    /// Running consumers that may be used and are not open.
    idle: BTreeSet<ConsumerNumber>,
    /// No number below is free.
    free_from: ConsumerNumber,
    /// So many consumers may be open.
    most_open: u32,
    /// Partitions that have no place before somebody has gone.
    waiting: BTreeSet<PartitionId>,
}

/// How good an assignment is, most important first; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// Partitions without a consumer, or on one that they must leave.
    pub(super) unplaced: usize,
    /// Consumers above the maximum.
    pub(super) above_maximum: usize,
    /// Load above the overload limits, of consumers where taking partitions away can help.
    pub(super) excess: u128,
    /// Consumers with partitions.
    pub(super) consumers: usize,
}

// === impl Piece ===

impl Piece {
    /// Heaviest first, then by partition.
    pub(super) fn sort_heaviest_first(pieces: &mut [Self]) {
        pieces.sort_unstable_by(|a, b| {
            b.weight.cmp(&a.weight).then_with(|| a.partition.cmp(&b.partition))
        });
    }
}

// === impl Bin ===

impl Bin {
    fn new(problem: &Problem, consumer: ConsumerNumber) -> Self {
        Self {
            capacity: problem.capacity_of(consumer),
            packing: problem.packing_limit_of(consumer),
            overload: problem.overload_limit_of(consumer),
            load: 0,
            pieces: Vec::new(),
        }
    }

    /// Loads add up to at most the sum of all weights, which [`Problem::validate`] has found to fit.
    pub(super) fn push(&mut self, piece: Piece) {
        self.load = self.load.saturating_add(piece.weight);
        self.pieces.push(piece);
    }

    fn take(&mut self, partition: PartitionId) -> Option<Piece> {
        let at = self.pieces.iter().position(|piece| piece.partition == partition)?;
        let piece = self.pieces.swap_remove(at);
        self.load = self.load.saturating_sub(piece.weight);
        Some(piece)
    }

    /// Room below the packing limit; none when the load is above it.
    pub(super) fn residual(&self) -> Option<u64> {
        self.packing.checked_sub(self.load)
    }

    /// Whether it stays at most this full with so much more; without weight only the overload limit counts.
    fn accepts(&self, weight: u64) -> bool {
        let limit = if weight == 0 { self.overload } else { self.packing };
        self.load.checked_add(weight).is_some_and(|load| load <= limit)
    }

    pub(super) fn is_overloaded(&self) -> bool {
        self.load > self.overload && self.pieces.len() > 1
    }

    pub(super) fn has_pins(&self) -> bool {
        self.pieces.iter().any(|piece| piece.pinned)
    }
}

// === impl State ===

impl<'a> State<'a> {
    pub(super) fn new(problem: &'a Problem) -> Self {
        Self {
            problem,
            reasons: Reasons::new(),
            bound_by: BTreeSet::new(),
            bins: BTreeMap::new(),
            by_residual: BTreeSet::new(),
            by_count: BTreeSet::new(),
            free: 0,
            idle: problem.running.iter().copied().filter(|at| problem.is_usable(*at)).collect(),
            free_from: ConsumerNumber::FIRST,
            most_open: problem.most_open(),
            waiting: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.bins.len()
    }

    pub(super) fn bins(&self) -> impl DoubleEndedIterator<Item = (ConsumerNumber, &Bin)> {
        self.bins.iter().map(|(consumer, bin)| (*consumer, bin))
    }

    pub(super) fn bin(&self, consumer: ConsumerNumber) -> Option<&Bin> {
        self.bins.get(&consumer)
    }

    /// Room below all packing limits together.
    pub(super) fn free(&self) -> u128 {
        self.free
    }

    /// Consumers with the most room below their packing limit first.
    pub(super) fn roomiest(&self) -> impl Iterator<Item = (u64, ConsumerNumber)> {
        self.by_residual.iter().rev().map(|(residual, _, consumer)| (*residual, *consumer))
    }

    /// Notes why a partition leaves; the first reason stands.
    pub(super) fn because(&mut self, partition: PartitionId, reason: MoveReason) {
        self.reasons.entry(partition).or_insert(reason);
    }

    /// Puts a partition on a consumer, which is opened at need.
    pub(super) fn put(&mut self, consumer: ConsumerNumber, piece: Piece) {
        let mut bin = self.close(consumer).unwrap_or_else(|| Bin::new(self.problem, consumer));
        bin.push(piece);
        self.open(consumer, bin);
    }

    /// Takes a partition from a consumer, which is closed when nothing is left on it.
    pub(super) fn take(
        &mut self,
        consumer: ConsumerNumber,
        partition: PartitionId,
    ) -> Option<Piece> {
        let mut bin = self.close(consumer)?;
        let piece = bin.take(partition);
        if !bin.pieces.is_empty() {
            self.open(consumer, bin);
        }
        piece
    }

    /// Takes a consumer off the workbench with everything on it.
    pub(super) fn close(&mut self, consumer: ConsumerNumber) -> Option<Bin> {
        let bin = self.bins.remove(&consumer)?;
        let count = bin.pieces.len();
        if let Some(residual) = bin.residual() {
            self.by_residual.remove(&(residual, count, consumer));
            self.free = self.free.saturating_sub(u128::from(residual));
        }
        self.by_count.remove(&(count, consumer));
        if self.problem.is_usable(consumer) {
            self.free_from = self.free_from.min(consumer);
            if self.problem.running.contains(&consumer) {
                self.idle.insert(consumer);
            }
        }
        Some(bin)
    }

    /// Puts a consumer on the workbench with everything on it.
    pub(super) fn open(&mut self, consumer: ConsumerNumber, bin: Bin) {
        let count = bin.pieces.len();
        if let Some(residual) = bin.residual() {
            self.by_residual.insert((residual, count, consumer));
            self.free = self.free.saturating_add(u128::from(residual));
        }
        if bin.load <= bin.overload {
            self.by_count.insert((count, consumer));
        }
        self.bins.insert(consumer, bin);
        self.idle.remove(&consumer);
    }

    /// Whether a consumer may be opened.
    pub(super) fn is_free(&self, consumer: ConsumerNumber) -> bool {
        !self.bins.contains_key(&consumer) && self.problem.is_usable(consumer)
    }

    /// Consumers that may be opened: running ones without partitions first, then by number.
    pub(super) fn free_consumers(&mut self) -> impl Iterator<Item = ConsumerNumber> {
        let from = self.free_from.and_above().find(|at| self.is_free(*at));
        self.free_from = from.unwrap_or(self.free_from);
        let this = &*self;
        let lowest = this.free_from.and_above().filter(|at| this.is_free(*at));
        this.idle.iter().copied().chain(lowest)
    }

    /// The empty consumer of this number.
    pub(super) fn empty_bin(&self, consumer: ConsumerNumber) -> Bin {
        Bin::new(self.problem, consumer)
    }

    /// Whether an open consumer has room for so much more.
    pub(super) fn fits(&self, consumer: ConsumerNumber, weight: u64) -> bool {
        self.bins.get(&consumer).is_some_and(|bin| bin.accepts(weight))
    }

    /// The open consumer that so much more fills best: least room left, then fewest partitions, then lowest number.
    ///
    /// What has no weight fills nothing: it goes where the fewest partitions are, so that idle ones spread.
    pub(super) fn best_fit(
        &self,
        weight: u64,
        except: Option<ConsumerNumber>,
    ) -> Option<ConsumerNumber> {
        let allowed = |consumer: &ConsumerNumber| Some(*consumer) != except;
        if weight == 0 {
            return self.by_count.iter().map(|(_, consumer)| *consumer).find(allowed);
        }
        let from = (weight, 0, ConsumerNumber::FIRST);
        self.by_residual.range(from..).map(|(_, _, consumer)| *consumer).find(allowed)
    }

    /// Whether the maximum allows one consumer more.
    pub(super) fn may_open(&self) -> bool {
        u32::try_from(self.bins.len()).is_ok_and(|open| open < self.most_open)
    }

    /// Whether it would, were those gone that are being left.
    pub(super) fn is_held_up(&self) -> bool {
        let allowed = |open| self.most_open <= open && open < self.problem.max_consumers;
        u32::try_from(self.bins.len()).is_ok_and(allowed)
    }

    /// Leaves a partition where it is until there is room.
    pub(super) fn wait(&mut self, partition: PartitionId) {
        self.waiting.insert(partition);
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Who has what.
    pub(super) fn assignment(&self) -> Assignment {
        let placed = self.bins.iter();
        let placed =
            placed.flat_map(|(at, bin)| bin.pieces.iter().map(|piece| (piece.partition, *at)));
        let home = |partition: &PartitionId| {
            let home = self.problem.items.get(partition)?.home?;
            self.problem.evacuate.contains(&home).then_some((*partition, home))
        };
        placed.chain(self.waiting.iter().filter_map(home)).collect()
    }

    /// How good this is.
    pub(super) fn score(&self) -> Score {
        let maximum = usize::try_from(self.problem.max_consumers).unwrap_or(usize::MAX);
        let (mut placed, mut excess) = (0_usize, 0_u128);
        for bin in self.bins.values() {
            placed = placed.saturating_add(bin.pieces.len());
            if bin.is_overloaded() {
                excess = excess.saturating_add(u128::from(bin.load.saturating_sub(bin.overload)));
            }
        }
        Score {
            unplaced: self.problem.items.len().saturating_sub(placed),
            above_maximum: self.bins.len().saturating_sub(maximum),
            excess,
            consumers: self.bins.len(),
        }
    }
}
