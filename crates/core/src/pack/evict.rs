//! Phase 2, evict: from each consumer above its overload limit the cheapest set of partitions that cures it goes into the pool.
//!
//! Cheapest means the least weight, then the fewest partitions. For up to [`EXACT_UP_TO`] partitions the set is the best there
//! is; beyond, a greedy choice comes close, as with many partitions some sum is near every excess.
//! A partition above the overload limit stands alone: what is with it leaves, down to idle partitions.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::report::MoveReason;
use super::state::{Bin, Piece, State};
use crate::ids::PartitionId;

/// A search over 2^16 sets is a fraction of a millisecond, and pruning makes it far less; at 2^20 it would show.
const EXACT_UP_TO: usize = 16;

/// Cures every consumer that can be cured; returns what left. What is stuck has no better place and stays.
pub(super) fn evict(state: &mut State<'_>, stuck: &BTreeSet<PartitionId>) -> Vec<Piece> {
    let overloaded: Vec<_> =
        state.bins().filter(|(_, bin)| bin.is_overloaded()).map(|(consumer, _)| consumer).collect();
    let mut pool = Vec::new();
    for consumer in overloaded {
        let Some(mut bin) = state.close(consumer) else {
            continue;
        };
        let evicted = cure(&mut bin, stuck);
        debug_assert!(!bin.pieces.is_empty(), "a cured consumer keeps something");
        state.open(consumer, bin);
        for piece in &evicted {
            state.because(piece.partition, MoveReason::Overload);
        }
        pool.extend(evicted);
    }
    pool
}

/// Takes the cheapest set away that leaves the load at most the overload limit, or one partition alone.
fn cure(bin: &mut Bin, stuck: &BTreeSet<PartitionId>) -> Vec<Piece> {
    let is_fixed = |piece: &Piece| piece.pinned || stuck.contains(&piece.partition);
    Piece::sort_heaviest_first(&mut bin.pieces);
    let overload = bin.overload;
    let Some(heaviest) = bin.pieces.first().copied() else {
        return Vec::new();
    };
    if heaviest.weight > overload {
        return isolate(bin, heaviest, stuck);
    }
    let movable: Vec<Piece> =
        bin.pieces.iter().filter(|piece| !is_fixed(piece) && piece.weight > 0).copied().collect();
    let excess = bin.load.saturating_sub(overload);
    let chosen = if movable.len() <= EXACT_UP_TO {
        Search::run(&movable, excess)
    } else {
        greedy(&movable, excess)
    };
    let mut chosen = chosen.into_iter().peekable();
    let mut at = 0_usize;
    split(bin, |piece| {
        if is_fixed(piece) || piece.weight == 0 {
            return false;
        }
        let hit = chosen.next_if_eq(&at).is_some();
        at = at.saturating_add(1);
        hit
    })
}

/// Parts the heaviest partition, which is above the limit by itself, from the rest.
///
/// The rest leaves: keeping as much of it as the limit allows would save less than the heaviest one weighs. Only where something
/// of the rest is pinned, the heaviest goes.
fn isolate(bin: &mut Bin, heaviest: Piece, stuck: &BTreeSet<PartitionId>) -> Vec<Piece> {
    let is_fixed = |piece: &Piece| piece.pinned || stuck.contains(&piece.partition);
    let overload = bin.overload;
    let mut rest = bin.pieces.iter().filter(|piece| piece.partition != heaviest.partition);
    if is_fixed(&heaviest) || !rest.any(is_fixed) {
        return split(bin, |piece| piece.partition != heaviest.partition && !is_fixed(piece));
    }
    let mut evicted = split(bin, |piece| piece.weight > overload && !is_fixed(piece));
    if bin.is_overloaded() {
        evicted.extend(cure(bin, stuck));
    }
    evicted
}

/// Takes everything away that `leaves`, in order.
fn split(bin: &mut Bin, mut leaves: impl FnMut(&Piece) -> bool) -> Vec<Piece> {
    let mut evicted = Vec::new();
    bin.pieces.retain(|piece| {
        let goes = leaves(piece);
        if goes {
            evicted.push(*piece);
        }
        !goes
    });
    let gone = evicted.iter().fold(0_u64, |sum, piece| sum.saturating_add(piece.weight));
    bin.load = bin.load.saturating_sub(gone);
    evicted
}

/// While nothing alone cures it, the heaviest; then the lightest that does.
fn greedy(pieces: &[Piece], mut excess: u64) -> Vec<usize> {
    let mut chosen = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let next_cures = at
            .checked_add(1)
            .and_then(|next| pieces.get(next))
            .is_some_and(|next| next.weight >= excess);
        if excess == 0 {
            break;
        }
        if !next_cures {
            chosen.push(at);
            excess = excess.saturating_sub(piece.weight);
        }
    }
    chosen
}

/// Depth-first search for the cheapest set, with pieces in falling order of weight.
struct Search<'a> {
    pieces: &'a [Piece],
    excess: u64,
    chosen: Vec<usize>,
    best: Option<(u64, usize, Vec<usize>)>,
}

impl<'a> Search<'a> {
    /// The positions of the cheapest pieces that weigh at least `excess`; all of them when that is not enough.
    fn run(pieces: &'a [Piece], excess: u64) -> Vec<usize> {
        let mut search = Self { pieces, excess, chosen: Vec::new(), best: None };
        let total = pieces.iter().fold(0_u64, |sum, piece| sum.saturating_add(piece.weight));
        search.descend(0, 0, total);
        search.best.map_or_else(|| (0..pieces.len()).collect(), |(_, _, chosen)| chosen)
    }

    /// `sum` is chosen so far, `left` is the weight of the pieces from `at` on.
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
        let Some(piece) = self.pieces.get(at) else {
            return;
        };
        if hopeless || too_dear || (perfect && self.is_no_shorter()) {
            return;
        }
        let (next, left) = (at.saturating_add(1), left.saturating_sub(piece.weight));
        self.chosen.push(at);
        self.descend(next, sum.saturating_add(piece.weight), left);
        self.chosen.pop();
        self.descend(next, sum, left);
    }

    /// Whether any further choice would use as many pieces as the best set.
    fn is_no_shorter(&self) -> bool {
        let count = self.chosen.len().saturating_add(1);
        self.best.as_ref().is_some_and(|(_, best, _)| count >= *best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::TopicId;

    fn pieces(weights: &[u64]) -> Vec<Piece> {
        let with_id = |(number, weight): (u32, &u64)| Piece {
            partition: PartitionId { topic: TopicId::default(), number },
            weight: *weight,
            home: None,
            pinned: false,
        };
        let mut pieces: Vec<_> = (0..).zip(weights).map(with_id).collect();
        Piece::sort_heaviest_first(&mut pieces);
        pieces
    }

    fn weight(pieces: &[Piece], chosen: &[usize]) -> u64 {
        chosen.iter().map(|at| pieces[*at].weight).sum()
    }

    #[test]
    fn the_exact_search_finds_the_least_weight_that_cures() {
        let all = pieces(&[50, 40, 30, 7, 6, 5]);
        assert_eq!(weight(&all, &Search::run(&all, 12)), 12);
        assert_eq!(weight(&all, &Search::run(&all, 19)), 30);
        assert_eq!(weight(&all, &Search::run(&all, 18)), 18);
    }

    #[test]
    fn the_exact_search_equals_trying_every_set() {
        let all = pieces(&[91, 80, 77, 60, 33, 21, 20, 13, 8, 5]);
        for excess in 1..=400 {
            let every = (0_u32..1 << all.len()).map(|set| {
                (0..all.len()).filter(|at| set >> at & 1 == 1).map(|at| all[at].weight).sum::<u64>()
            });
            let least = every.filter(|sum| *sum >= excess).min().expect("all of them suffice");
            assert_eq!(weight(&all, &Search::run(&all, excess)), least, "excess {excess}");
        }
    }

    #[test]
    fn of_equal_weight_the_fewest_partitions_go() {
        let all = pieces(&[6, 4, 3, 3]);
        assert_eq!(Search::run(&all, 6), [0]);
    }

    #[test]
    fn the_greedy_choice_cures_and_ends_with_the_lightest_that_does() {
        let all = pieces(&[9, 9, 8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(weight(&all, &greedy(&all, 4)), 4);
        assert_eq!(weight(&all, &greedy(&all, 20)), 20);
    }
}
