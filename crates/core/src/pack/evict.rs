//! Phase 2, evict: from each consumer above its overload limit the cheapest set of partitions that cures it goes into the pool.
//!
//! Cheapest means the least weight, then the fewest partitions. For up to [`EXACT_UP_TO`] partitions the set is the best there
//! is; beyond, a greedy choice comes close, as with many partitions some sum is near every excess.
//! A partition above the overload limit stands alone: what is with it leaves, down to idle partitions.
#![expect(
    clippy::indexing_slicing,
    reason = "pieces are indexes of the table, and chosen positions of what was given"
)]

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::report::MoveReason;
use super::state::State;
use super::table::{Piece, Slot, Table};

/// A search over 2^16 sets is a fraction of a millisecond, and pruning makes it far less; at 2^20 it would show.
const EXACT_UP_TO: usize = 16;

/// Cures every consumer that can be cured; returns what left. What is stuck has no better place and stays.
pub(super) fn evict(state: &mut State<'_>, stuck: &BTreeSet<Piece>) -> Vec<Piece> {
    let overloaded: Vec<_> = state.open().filter(|slot| state.is_overloaded(*slot)).collect();
    let mut pool = Vec::new();
    for slot in overloaded {
        let mut pieces = state.pieces(slot).to_vec();
        state.table.sort_heaviest_first(&mut pieces);
        let overload = state.consumer(slot).overload;
        let evicted = Cure { table: state.table, slot, overload, stuck }.of(&pieces);
        debug_assert!(evicted.len() < pieces.len(), "a cured consumer keeps something");
        state.spend(state.table.load_at_home(&evicted, slot));
        state.take(slot, &evicted);
        for piece in &evicted {
            state.because(*piece, MoveReason::Overload);
        }
        pool.extend(evicted);
    }
    pool
}

/// Finds what has to leave one consumer.
struct Cure<'a> {
    table: &'a Table<'a>,
    slot: Slot,
    overload: u64,
    stuck: &'a BTreeSet<Piece>,
}

impl Cure<'_> {
    /// The cheapest of these pieces, heaviest first, without which the load is at most the overload limit, or one stands alone.
    fn of(&self, pieces: &[Piece]) -> Vec<Piece> {
        let is_above = |piece: &&Piece| self.table.weights[**piece] > self.overload;
        match pieces.split_first() {
            Some((heaviest, rest)) if is_above(&heaviest) => self.isolate(*heaviest, rest),
            _ => self.lighten(pieces),
        }
    }

    /// Parts the heaviest partition, which is above the limit by itself, from the rest.
    ///
    /// The rest leaves: keeping as much of it as the limit allows would save less than the heaviest one weighs. Only where
    /// something of the rest is fixed, the heaviest goes, and all others like it.
    fn isolate(&self, heaviest: Piece, rest: &[Piece]) -> Vec<Piece> {
        if self.is_fixed(heaviest) || !rest.iter().any(|piece| self.is_fixed(*piece)) {
            return rest.iter().copied().filter(|piece| !self.is_fixed(*piece)).collect();
        }
        let goes =
            |piece: &Piece| self.table.weights[*piece] > self.overload && !self.is_fixed(*piece);
        let all = core::iter::once(heaviest).chain(rest.iter().copied());
        let (mut evicted, left): (Vec<_>, Vec<_>) = all.partition(goes);
        if left.len() > 1 && self.table.load(&left) > self.overload {
            evicted.extend(self.of(&left));
        }
        evicted
    }

    /// The least weight without which the rest is at most the limit.
    fn lighten(&self, pieces: &[Piece]) -> Vec<Piece> {
        let movable = |piece: &Piece| !self.is_fixed(*piece) && self.table.weights[*piece] > 0;
        let movable: Vec<Piece> = pieces.iter().copied().filter(movable).collect();
        let weights: Vec<u64> = movable.iter().map(|piece| self.table.weights[*piece]).collect();
        let excess = self.table.load(pieces).saturating_sub(self.overload);
        let chosen = if weights.len() <= EXACT_UP_TO {
            Search::run(&weights, excess)
        } else {
            greedy(&weights, excess)
        };
        chosen.into_iter().map(|at| movable[at]).collect()
    }

    fn is_fixed(&self, piece: Piece) -> bool {
        self.table.pins[piece] == Some(self.slot) || self.stuck.contains(&piece)
    }
}

/// While nothing alone cures it, the heaviest; then the lightest that does.
fn greedy(weights: &[u64], mut excess: u64) -> Vec<usize> {
    let mut chosen = Vec::new();
    let following = weights.iter().copied().skip(1).chain(core::iter::once(0));
    for (at, (weight, next)) in weights.iter().zip(following).enumerate() {
        if excess == 0 {
            break;
        }
        if next < excess {
            chosen.push(at);
            excess = excess.saturating_sub(*weight);
        }
    }
    chosen
}

/// Depth-first search for the cheapest set, over falling weights.
struct Search<'a> {
    weights: &'a [u64],
    excess: u64,
    chosen: Vec<usize>,
    best: Option<(u64, usize, Vec<usize>)>,
}

impl<'a> Search<'a> {
    /// The positions of the cheapest weights that are together at least `excess`; all of them when that is not enough.
    fn run(weights: &'a [u64], excess: u64) -> Vec<usize> {
        let mut search = Self { weights, excess, chosen: Vec::new(), best: None };
        let total = weights.iter().fold(0_u64, |sum, weight| sum.saturating_add(*weight));
        search.descend(0, 0, total);
        search.best.map_or_else(|| (0..weights.len()).collect(), |(_, _, chosen)| chosen)
    }

    /// `sum` is chosen so far, `left` is the sum of the weights from `at` on.
    fn descend(&mut self, at: usize, sum: u64, left: u64) {
        if sum >= self.excess {
            let better = match &self.best {
                Some((best, count, _)) => (sum, self.chosen.len()) < (*best, *count),
                None => true,
            };
            if better {
                self.best = Some((sum, self.chosen.len(), self.chosen.clone()));
            }
            return;
        }
        let hopeless = sum.saturating_add(left) < self.excess;
        let too_dear = self.best.as_ref().is_some_and(|(best, _, _)| sum >= *best);
        let perfect = self.best.as_ref().is_some_and(|(best, _, _)| *best == self.excess);
        let Some(weight) = self.weights.get(at) else {
            return;
        };
        if hopeless || too_dear || (perfect && self.is_no_shorter()) {
            return;
        }
        let (next, left) = (at.saturating_add(1), left.saturating_sub(*weight));
        self.chosen.push(at);
        self.descend(next, sum.saturating_add(*weight), left);
        self.chosen.pop();
        self.descend(next, sum, left);
    }

    /// Whether any further choice would take as many as the best set.
    fn is_no_shorter(&self) -> bool {
        let count = self.chosen.len().saturating_add(1);
        self.best.as_ref().is_some_and(|(_, best, _)| count >= *best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weight(all: &[u64], chosen: &[usize]) -> u64 {
        chosen.iter().map(|at| all[*at]).sum()
    }

    #[test]
    fn the_exact_search_finds_the_least_weight_that_cures() {
        let all = [50, 40, 30, 7, 6, 5];
        assert_eq!(weight(&all, &Search::run(&all, 12)), 12);
        assert_eq!(weight(&all, &Search::run(&all, 19)), 30);
        assert_eq!(weight(&all, &Search::run(&all, 18)), 18);
    }

    #[test]
    fn the_exact_search_equals_trying_every_set() {
        let all = [91, 80, 77, 60, 33, 21, 20, 13, 8, 5];
        for excess in 1..=400 {
            let every = (0_u32..1 << all.len()).map(|set| {
                (0..all.len()).filter(|at| set >> at & 1 == 1).map(|at| all[at]).sum::<u64>()
            });
            let least = every.filter(|sum| *sum >= excess).min().expect("all of them suffice");
            assert_eq!(weight(&all, &Search::run(&all, excess)), least, "excess {excess}");
        }
    }

    #[test]
    fn of_equal_weight_the_fewest_partitions_go() {
        let all = [6, 4, 3, 3];
        assert_eq!(Search::run(&all, 6), [0]);
    }

    #[test]
    fn the_greedy_choice_cures_and_ends_with_the_lightest_that_does() {
        let all = [9, 9, 8, 7, 6, 5, 4, 3, 2, 1];
        assert_eq!(weight(&all, &greedy(&all, 4)), 4);
        assert_eq!(weight(&all, &greedy(&all, 20)), 20);
    }
}
