//! The packer's workbench: consumers with what is on them, and ordered indexes that find a place in O(log n).
//!
//! Invariants: a consumer is in `by_residual` exactly while it has partitions and its load is at most its packing limit; it is in
//! `by_count`, once that is there, exactly while it has partitions and its load is at most its overload limit.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "the tables are indexed by what the table handed out; loads are sums of weights that were found to fit, and \
              counts are of what is there"
)]

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;
use core::mem;

use super::report::{Binding, MoveReason};
use super::table::{Consumer, Piece, Placement, Slot, Table};

/// All consumers on the workbench.
#[derive(Debug)]
pub(super) struct State<'a> {
    pub(super) table: &'a Table<'a>,
    pub(super) bound_by: BTreeSet<Binding>,
    /// Why partitions left the consumer they were on; the first reason stands.
    pub(super) reasons: Vec<Option<MoveReason>>,
    /// So much load may still be moved that could stay.
    pub(super) movable: u64,
    pieces: Vec<Vec<Piece>>,
    load: Vec<u64>,
    /// The weight of the heaviest partition on each.
    heaviest: Vec<u64>,
    at: Placement,
    /// Where partitions are at home in this round and may stay.
    home: Placement,
    by_residual: BTreeSet<(u64, usize, Slot)>,
    /// Made when the first partition without weight looks for a place.
    by_count: Option<BTreeSet<(usize, Slot)>>,
    /// No partition with weight that was ever put on a consumer is lighter.
    lightest: u64,
    /// How many consumers have partitions.
    open: usize,
    /// Running consumers that may be used and have no partitions.
    idle: BTreeSet<Slot>,
    /// No consumer before is free.
    free_from: Slot,
    /// So many consumers may have partitions.
    most_open: usize,
    /// Partitions that stay on a consumer that they must leave, or on none, before there is room.
    waiting: Vec<Piece>,
}

/// How good an assignment is, most important first; less is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    /// Partitions without a consumer, on one that they must leave, or not where they are pinned.
    pub(super) unplaced: usize,
    /// Consumers above the maximum.
    pub(super) above_maximum: usize,
    /// Load above the overload limits, of consumers where taking partitions away can help.
    pub(super) excess: u128,
    /// Consumers with partitions.
    pub(super) consumers: usize,
}

impl<'a> State<'a> {
    /// A workbench on which `stays` says who has what; each partition's home is where it `was`, if it may stay there.
    pub(super) fn new(table: &'a Table<'a>, was: &Placement, stays: Placement) -> Self {
        let consumers = table.consumers.iter().enumerate();
        let idle = consumers.filter(|(_, consumer)| consumer.runs && consumer.is_usable);
        let usable = |slot: &Slot| table.consumers[*slot].is_usable;
        let mut state = Self {
            table,
            bound_by: BTreeSet::new(),
            reasons: vec![None; table.len()],
            movable: u64::MAX,
            pieces: vec![Vec::new(); table.consumers.len()],
            load: vec![0; table.consumers.len()],
            heaviest: vec![0; table.consumers.len()],
            at: stays,
            home: was.iter().map(|home| home.filter(usable)).collect(),
            by_residual: BTreeSet::new(),
            by_count: None,
            lightest: u64::MAX,
            open: 0,
            idle: idle.map(|(slot, _)| slot).collect(),
            free_from: 0,
            most_open: usize::try_from(table.problem.most_open()).unwrap_or(usize::MAX),
            waiting: Vec::new(),
        };
        for (piece, at) in state.at.iter().enumerate() {
            if let Some(slot) = *at {
                let weight = table.weights[piece];
                state.pieces[slot].push(piece);
                state.load[slot] += weight;
                state.heaviest[slot] = state.heaviest[slot].max(weight);
            }
        }
        state.make_index();
        state
    }

    fn make_index(&mut self) {
        let placed = self.table.weights.iter().zip(&self.at).filter(|(_, at)| at.is_some());
        self.lightest = placed
            .map(|(weight, _)| *weight)
            .filter(|weight| *weight > 0)
            .min()
            .unwrap_or(u64::MAX);
        let open: Vec<_> = self.open().collect();
        self.open = open.len();
        self.idle.retain(|slot| self.pieces[*slot].is_empty());
        let residual = |slot: &Slot| Some((self.residual(*slot)?, self.pieces[*slot].len(), *slot));
        self.by_residual = open.iter().filter_map(residual).collect();
    }

    /// Makes where everything is its home, for another round.
    pub(super) fn settle(&mut self) {
        debug_assert!(self.waiting.is_empty(), "what waits is looked at anew");
        self.home.clone_from(&self.at);
        self.bound_by.clear();
    }

    // === who is there ===

    /// How many consumers have partitions.
    pub(super) fn len(&self) -> usize {
        self.open
    }

    /// Consumers with partitions.
    pub(super) fn open(&self) -> impl Iterator<Item = Slot> {
        let pieces = self.pieces.iter().enumerate();
        pieces.filter(|(_, pieces)| !pieces.is_empty()).map(|(slot, _)| slot)
    }

    /// Consumers with partitions, the lightest first.
    pub(super) fn lightest_first(&self) -> impl Iterator<Item = Slot> + use<> {
        let mut open: Vec<_> =
            self.open().map(|slot| (self.load[slot], self.pieces[slot].len(), slot)).collect();
        open.sort_unstable();
        open.into_iter().map(|(_, _, slot)| slot)
    }

    pub(super) fn is_open(&self, slot: Slot) -> bool {
        !self.pieces[slot].is_empty()
    }

    pub(super) fn consumer(&self, slot: Slot) -> &Consumer {
        &self.table.consumers[slot]
    }

    pub(super) fn pieces(&self, slot: Slot) -> &[Piece] {
        &self.pieces[slot]
    }

    pub(super) fn load(&self, slot: Slot) -> u64 {
        self.load[slot]
    }

    pub(super) fn home(&self, piece: Piece) -> Option<Slot> {
        self.home[piece]
    }

    pub(super) fn has_pins(&self, slot: Slot) -> bool {
        self.pieces[slot].iter().any(|piece| self.table.pins[*piece].is_some())
    }

    pub(super) fn is_overloaded(&self, slot: Slot) -> bool {
        let relieve = self.table.problem.relieve;
        relieve && self.load[slot] > self.consumer(slot).overload && self.pieces[slot].len() > 1
    }

    /// The weight of those that were on a consumer as the round began: so much it costs that they leave it.
    pub(super) fn weight_at_home(&self, pieces: &[Piece], slot: Slot) -> u64 {
        let at_home = pieces.iter().filter(|piece| self.home[**piece] == Some(slot));
        at_home.map(|piece| self.table.weights[*piece]).sum()
    }

    /// Room below the packing limit; none when the load is above it.
    pub(super) fn residual(&self, slot: Slot) -> Option<u64> {
        self.consumer(slot).packing.checked_sub(self.load[slot])
    }

    // === changes ===

    /// Notes why a partition leaves; the first reason stands.
    pub(super) fn because(&mut self, piece: Piece, reason: MoveReason) {
        self.reasons[piece].get_or_insert(reason);
    }

    /// Pays for moving so much; what must move may exceed the limit.
    pub(super) fn spend(&mut self, load: u64) {
        self.movable = self.movable.saturating_sub(load);
    }

    /// Leaves a partition where it is, although it should go.
    pub(super) fn wait(&mut self, piece: Piece) {
        self.waiting.push(piece);
    }

    /// Puts partitions on a consumer.
    pub(super) fn put(&mut self, slot: Slot, pieces: &[Piece]) {
        self.lift(slot);
        for piece in pieces {
            self.at[*piece] = Some(slot);
            let weight = self.table.weights[*piece];
            self.lightest = if weight > 0 { self.lightest.min(weight) } else { self.lightest };
            self.heaviest[slot] = self.heaviest[slot].max(weight);
        }
        self.pieces[slot].extend_from_slice(pieces);
        self.load[slot] += self.table.load(pieces);
        self.lower(slot);
    }

    /// Takes partitions from a consumer.
    pub(super) fn take(&mut self, slot: Slot, pieces: &[Piece]) {
        self.lift(slot);
        for piece in pieces {
            self.at[*piece] = None;
        }
        self.pieces[slot].retain(|piece| self.at[*piece].is_some());
        self.load[slot] -= self.table.load(pieces);
        let left = self.pieces[slot].iter().map(|piece| self.table.weights[*piece]);
        self.heaviest[slot] = left.max().unwrap_or(0);
        self.lower(slot);
    }

    /// Takes everything from a consumer.
    pub(super) fn clear(&mut self, slot: Slot) -> Vec<Piece> {
        self.lift(slot);
        (self.load[slot], self.heaviest[slot]) = (0, 0);
        let pieces = mem::take(&mut self.pieces[slot]);
        for piece in &pieces {
            self.at[*piece] = None;
        }
        self.lower(slot);
        pieces
    }

    /// Takes a consumer out of the indexes, as it will change.
    fn lift(&mut self, slot: Slot) {
        let count = self.pieces[slot].len();
        if count == 0 {
            self.idle.remove(&slot);
            return;
        }
        if let Some(residual) = self.residual(slot) {
            self.by_residual.remove(&(residual, count, slot));
        }
        if let Some(by_count) = &mut self.by_count {
            by_count.remove(&(count, slot));
        }
        self.open -= 1;
    }

    /// Puts it back into the indexes; when nothing is left on it, it is free.
    fn lower(&mut self, slot: Slot) {
        let count = self.pieces[slot].len();
        let Consumer { overload, runs, .. } = self.table.consumers[slot];
        if count == 0 {
            self.free_from = self.free_from.min(slot);
            if runs {
                self.idle.insert(slot);
            }
            return;
        }
        if let Some(residual) = self.residual(slot) {
            self.by_residual.insert((residual, count, slot));
        }
        if let Some(by_count) = self.by_count.as_mut().filter(|_| self.load[slot] <= overload) {
            by_count.insert((count, slot));
        }
        self.open += 1;
    }

    // === places ===

    /// Whether a consumer with partitions has room for so much more; without weight only its overload limit counts.
    pub(super) fn fits(&self, slot: Slot, weight: u64) -> bool {
        let Consumer { packing, overload, .. } = self.table.consumers[slot];
        let limit = if weight == 0 { overload } else { packing };
        self.is_open(slot) && self.load[slot].checked_add(weight).is_some_and(|load| load <= limit)
    }

    /// Whether there can be something lighter than this that has weight.
    pub(super) fn has_lighter(&self, weight: u64) -> bool {
        self.lightest < weight
    }

    /// Whether the consumers with the most room could take what is on this one, each one partition: without that nobody can.
    pub(super) fn may_fit_beside(&self, slot: Slot) -> bool {
        let (heaviest, count) = (self.heaviest[slot], self.pieces[slot].len());
        let others = self.by_residual.iter().rev().filter(|(_, _, other)| *other != slot);
        let mut rooms = others.map(|(residual, ..)| *residual).take(count).peekable();
        let fits = rooms.peek().is_some_and(|most| heaviest <= *most);
        let mut left = self.load[slot];
        fits && rooms.any(|room| {
            left = left.saturating_sub(room);
            left == 0
        })
    }

    /// The room below all packing limits.
    pub(super) fn room(&self) -> u128 {
        self.by_residual.iter().map(|(residual, ..)| u128::from(*residual)).sum()
    }

    /// Home, where there is room for it.
    pub(super) fn fitting_home(&self, piece: Piece) -> Option<Slot> {
        self.home[piece].filter(|home| self.fits(*home, self.table.weights[piece]))
    }

    /// Consumers with the most room below their packing limit first.
    pub(super) fn roomiest(&self) -> impl Iterator<Item = Slot> {
        self.by_residual.iter().rev().map(|(_, _, slot)| *slot)
    }

    /// The consumer that so much more fills best: least room left, then fewest partitions, then lowest number.
    ///
    /// What has no weight fills nothing: it goes where the fewest partitions are, so that idle ones spread.
    pub(super) fn best_fit(&mut self, weight: u64) -> Option<Slot> {
        if weight == 0 { self.fewest() } else { self.best_fit_among(weight, |_| true) }
    }

    /// The same for what has weight, on one of these.
    pub(super) fn best_fit_among(
        &self,
        weight: u64,
        is_allowed: impl Fn(&Slot) -> bool,
    ) -> Option<Slot> {
        let mut fitting = self.by_residual.range((weight, 0, 0)..).map(|(_, _, slot)| *slot);
        fitting.find(is_allowed)
    }

    /// Partitions of a consumer, each with its weight, that are lighter than this and whose leaving would make room for it.
    pub(super) fn makes_room(&self, slot: Slot, weight: u64) -> impl Iterator<Item = (Piece, u64)> {
        let missing = self.residual(slot).and_then(|residual| weight.checked_sub(residual));
        let least = missing.map_or(u64::MAX, |missing| missing.max(1));
        let pieces = self.pieces[slot].iter().map(|piece| (*piece, self.table.weights[*piece]));
        pieces.filter(move |(piece, lighter)| {
            least <= *lighter && *lighter < weight && self.table.pins[*piece].is_none()
        })
    }

    fn fewest(&mut self) -> Option<Slot> {
        if self.by_count.is_none() {
            let relaxed =
                self.open().filter(|slot| self.load[*slot] <= self.consumer(*slot).overload);
            self.by_count = Some(relaxed.map(|slot| (self.pieces[slot].len(), slot)).collect());
        }
        self.by_count.as_ref()?.first().map(|(_, slot)| *slot)
    }

    // === further consumers ===

    /// Consumers that may get their first partition: running ones first, then by number.
    pub(super) fn free_consumers(&mut self) -> impl Iterator<Item = Slot> {
        let is_free = |slot: &Slot| self.consumer(*slot).is_usable && !self.is_open(*slot);
        let all = self.free_from..self.pieces.len();
        let from = all.clone().find(is_free).unwrap_or(all.end);
        self.free_from = from;
        let this = &*self;
        let is_free = move |slot: &Slot| this.consumer(*slot).is_usable && !this.is_open(*slot);
        this.idle.iter().copied().chain((from..all.end).filter(is_free))
    }

    /// Whether the maximum allows one consumer more.
    pub(super) fn may_open(&self) -> bool {
        self.open < self.most_open
    }

    /// Whether it would, were those gone that are being left.
    pub(super) fn is_held_up(&self) -> bool {
        let most = usize::try_from(self.table.problem.max_consumers).unwrap_or(usize::MAX);
        self.most_open <= self.open && self.open < most
    }

    // === what has come of it ===

    /// Who has what. What waits is still on the consumer that it should leave.
    pub(super) fn placement(&self) -> Placement {
        let mut placement = self.at.clone();
        for piece in &self.waiting {
            let home = self.table.homes[*piece];
            placement[*piece] = home.filter(|home| self.consumer(*home).is_evacuated);
        }
        placement
    }

    /// How many consumers have partitions beyond the maximum.
    pub(super) fn above_maximum(&self) -> usize {
        let maximum = usize::try_from(self.table.problem.max_consumers).unwrap_or(usize::MAX);
        self.open.saturating_sub(maximum)
    }

    /// How good this is.
    pub(super) fn score(&self) -> Score {
        let overloaded = self.open().filter(|slot| self.is_overloaded(*slot));
        let excess = |slot: Slot| u128::from(self.load[slot] - self.consumer(slot).overload);
        let places = self.table.pins.iter().zip(&self.at);
        let unplaced = places.filter(|(pin, at)| at.is_none() || pin.is_some() && pin != at);
        Score {
            unplaced: unplaced.count(),
            above_maximum: self.above_maximum(),
            excess: overloaded.map(excess).sum(),
            consumers: self.open,
        }
    }
}
