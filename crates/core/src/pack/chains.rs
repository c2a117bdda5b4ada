//! Ejection chains: a partition comes to where it has no room, as a lighter one leaves for where it fits; for which a still lighter
//! one may have to leave, and so on. Weights fall along a chain, so the cheapest one is a shortest path.
//!
//! A chain costs the weight of what leaves home for it. By chains [`super::dissolve`] gives consumers up whose partitions fit nowhere
//! as the others are.
#![expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "pieces and links are indexes that were handed out; costs are sums of weights that were found to fit"
)]

use alloc::collections::{BTreeMap, BTreeSet, BinaryHeap};
use alloc::vec::Vec;
use core::cmp::Reverse;

use super::problem::{Effort, Problem};
use super::report::{Binding, MoveReason};
use super::state::State;
use super::table::{Piece, Slot};

/// A chain goes on at so many consumers, those with the most room: there the lightest suffices. And at home.
const CANDIDATES: usize = 64;

/// A chain that was not found after so many links is not looked for any further.
const LINKS: usize = 64;

/// The share of a decision's looks that the chains of one round may take; and the rounds with chains in one decision. What the last
/// of them finds is not looked at again: the next decision goes on from there.
const SHARE: u64 = 16;
const ROUNDS: u32 = 8;

/// Finds chains, as long as its looks last.
#[derive(Debug)]
pub(super) struct Chains {
    looks: u64,
}

/// What a chain is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Where nothing may come.
    pub(super) except: Slot,
    /// It must cost less.
    pub(super) price: u64,
}

/// Each goes where the next one leaves; the last goes where it fits.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) cost: u64,
    steps: Vec<Step>,
}

/// A partition's way; the first of a chain comes from nowhere.
#[derive(Clone, Copy, Debug)]
struct Step {
    piece: Piece,
    from: Option<Slot>,
    to: Slot,
}

/// A chain's end, as far as it was followed.
#[derive(Debug)]
struct Link {
    piece: Piece,
    /// Where it leaves, and for whom.
    from: Option<(Slot, usize)>,
    /// So much load is moved up to here that could stay.
    moved: u64,
}

/// How many rounds with chains a decision may have: none unless the fewest consumers are sought and some may be given up.
pub(super) const fn rounds(problem: &Problem) -> u32 {
    let Effort { steps, fewest, .. } = problem.effort;
    if fewest && steps > 0 && problem.scale_in { ROUNDS } else { 0 }
}

// === impl Chains ===

impl Chains {
    /// For a round without chains.
    pub(super) const fn none() -> Self {
        Self { looks: 0 }
    }

    /// For a round with chains. Each has as many looks: what the last one could not better, the next decision cannot either.
    pub(super) const fn new(effort: Effort) -> Self {
        Self { looks: effort.steps / SHARE }
    }

    /// So many looks are left.
    pub(super) const fn looks(&self) -> u64 {
        self.looks
    }

    /// A cheapest chain that begins with this partition, which is nowhere; without looks only one that ends with it. Or why there is
    /// none: the price or the limit on moved load where one of these alone cut off what had the room, else fragmentation.
    ///
    /// No consumer is on a chain twice. A way to a partition is forgotten when a cheaper one is found, though that may go through a
    /// consumer which the rest of the chain needs: so of long chains the one that is found need not be the cheapest of all.
    pub(super) fn find(
        &mut self,
        state: &State<'_>,
        piece: Piece,
        wanted: Wanted,
    ) -> Result<Chain, Binding> {
        let weight = state.table.weights[piece];
        let mut links = Vec::from([Link { piece, from: None, moved: 0 }]);
        let mut next = BinaryHeap::from([Reverse((0, weight, piece, 0))]);
        let mut least = BTreeMap::from([(piece, 0)]);
        let mut followed = 0;
        let mut cut_off = BTreeSet::new();
        while let Some(Reverse((cost, weight, piece, at))) = next.pop() {
            if least.get(&piece).is_some_and(|least| *least < cost) {
                continue;
            }
            let path = path(&links, at);
            let is_free = |slot: &Slot| *slot != wanted.except && !path.contains(slot);
            let home = state.home(piece).filter(is_free);
            let home_fits = home.filter(|home| state.fits(*home, weight));
            if let Some(to) = home_fits.or_else(|| state.best_fit_among(weight, is_free)) {
                return Ok(Chain::new(&links, at, to, cost));
            }
            if followed == LINKS {
                return Err(Binding::Fragmentation);
            }
            followed += 1;
            let roomiest = state.roomiest().take(CANDIDATES).filter(is_free);
            for slot in roomiest.chain(home) {
                let Some(left) = self.looks.checked_sub(looks(state, slot)) else {
                    self.looks = 0;
                    return Err(Binding::Fragmentation);
                };
                self.looks = left;
                for (other, lighter) in state.makes_room(slot, weight) {
                    let cost = cost + state.weight_at_home(&[other], slot);
                    let moved = links[at].moved + state.table.load_at_home(&[other], slot);
                    if wanted.price <= cost {
                        cut_off.insert(Binding::Alpha);
                    } else if state.movable < moved {
                        cut_off.insert(Binding::MaxMovedLoad);
                    } else if least.get(&other).is_none_or(|least| cost < *least) {
                        least.insert(other, cost);
                        next.push(Reverse((cost, lighter, other, links.len())));
                        links.push(Link { piece: other, from: Some((slot, at)), moved });
                    }
                }
            }
        }
        let only = if cut_off.len() == 1 { cut_off.pop_first() } else { None };
        Err(only.unwrap_or(Binding::Fragmentation))
    }
}

/// What it takes to look at everything on a consumer.
fn looks(state: &State<'_>, slot: Slot) -> u64 {
    1 + u64::try_from(state.pieces(slot).len()).unwrap_or(u64::MAX - 1)
}

/// The consumers that the chain goes through up to here.
fn path(links: &[Link], mut at: usize) -> Vec<Slot> {
    let mut path = Vec::new();
    while let Some((slot, before)) = links[at].from {
        path.push(slot);
        at = before;
    }
    path
}

// === impl Chain ===

impl Chain {
    fn new(links: &[Link], mut at: usize, mut to: Slot, cost: u64) -> Self {
        let mut steps = Vec::new();
        while let Link { piece, from: Some((from, before)), .. } = links[at] {
            steps.push(Step { piece, from: Some(from), to });
            (at, to) = (before, from);
        }
        steps.push(Step { piece: links[at].piece, from: None, to });
        Self { cost, steps }
    }

    /// One partition to where it fits.
    pub(super) fn straight(piece: Piece, to: Slot) -> Self {
        Self { cost: 0, steps: Vec::from([Step { piece, from: None, to }]) }
    }

    /// Moves all, the last first.
    pub(super) fn play(&self, state: &mut State<'_>) {
        for Step { piece, from, to } in &self.steps {
            if let Some(from) = from {
                state.spend(state.table.load_at_home(&[*piece], *from));
                state.take(*from, &[*piece]);
            }
            state.put(*to, &[*piece]);
        }
    }

    /// Notes why all of them have left.
    pub(super) fn because(&self, state: &mut State<'_>, reason: MoveReason) {
        for step in &self.steps {
            state.because(step.piece, reason);
        }
    }

    /// Moves all back; the first is nowhere again.
    pub(super) fn undo(&self, state: &mut State<'_>) {
        for Step { piece, from, to } in self.steps.iter().rev() {
            state.take(*to, &[*piece]);
            if let Some(from) = from {
                state.put(*from, &[*piece]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use proptest::prelude::*;

    use super::super::keep::keep;
    use super::super::table::{Placement, Table};
    use super::super::tests::world;
    use super::*;
    use crate::ids::ConsumerNumber;

    /// Capacity 100, all of it to be filled; a partition without consumer looks for a place.
    fn with_newcomer(
        placed: &[(u64, u32, u32)],
        weight: u64,
        check: impl FnOnce(&mut State<'_>, Piece),
    ) {
        let homes = placed.iter().map(|(weight, home, _)| (*weight, *home));
        let mut problem = world(&homes.chain([(weight, 0)]).collect::<Vec<_>>());
        problem.limits = super::super::Limits { packing_permille: 1000, overload_permille: 1000 };
        problem.running = (1..=6).filter_map(ConsumerNumber::new).collect();
        let table = Table::new(&problem);
        let mut state = keep(&table, &table.standing()).state;
        for (piece, (_, home, at)) in placed.iter().enumerate() {
            if home != at {
                let slot = |number: &u32| usize::try_from(*number - 1).expect("it is small");
                state.take(slot(home), &[piece]);
                state.put(slot(at), &[piece]);
            }
        }
        check(&mut state, placed.len());
    }

    fn find(state: &State<'_>, piece: Piece) -> Option<Chain> {
        let wanted = Wanted { except: usize::MAX, price: u64::MAX };
        Chains { looks: u64::MAX }.find(state, piece, wanted).ok()
    }

    #[test]
    fn what_fits_moves_nobody() {
        with_newcomer(&[(60, 1, 1), (70, 2, 2)], 30, |state, newcomer| {
            let chain = find(state, newcomer).expect("there is room");
            assert_eq!((chain.cost, chain.steps.len()), (0, 1));
        });
    }

    #[test]
    fn a_chain_goes_through_several_consumers() {
        // 52 comes for 45, which comes for 35, which fits.
        let placed = [(45, 1, 1), (45, 1, 1), (35, 2, 2), (55, 2, 2), (62, 3, 3)];
        with_newcomer(&placed, 52, |state, newcomer| {
            let chain = find(state, newcomer).expect("there is a way");
            assert_eq!((chain.cost, chain.steps.len()), (80, 3));
            chain.play(state);
            assert!((0..3).all(|slot| state.load(slot) <= 100));
            assert_eq!((state.load(0), state.load(1), state.load(2)), (97, 100, 97));
        });
    }

    #[test]
    fn who_is_away_already_is_asked_first() {
        let placed = [(60, 1, 1), (30, 1, 1), (60, 1, 2), (30, 3, 2), (65, 3, 3)];
        with_newcomer(&placed, 36, |state, newcomer| {
            let chain = find(state, newcomer).expect("there is a way");
            assert_eq!((chain.cost, chain.steps.len()), (0, 2));
        });
    }

    #[test]
    fn without_looks_or_above_the_price_there_is_no_chain() {
        with_newcomer(&[(50, 1, 1), (40, 1, 1), (60, 2, 2)], 45, |state, newcomer| {
            let wanted = Wanted { except: usize::MAX, price: 41 };
            let found = |chains: Chains, wanted, state: &State<'_>| {
                let mut chains = chains;
                chains.find(state, newcomer, wanted).map(|chain| chain.cost)
            };
            let enough = || Chains { looks: 100 };
            assert_eq!(found(Chains::none(), wanted, state), Err(Binding::Fragmentation));
            assert_eq!(found(enough(), wanted, state), Ok(40));
            let cheaper = Wanted { price: 40, ..wanted };
            assert_eq!(found(enough(), cheaper, state), Err(Binding::Alpha));
            state.movable = 39;
            assert_eq!(found(enough(), wanted, state), Err(Binding::MaxMovedLoad));
        });
    }

    /// The least that any chain of so many steps costs, by trying all.
    fn least(state: &State<'_>, piece: Piece, path: &mut Vec<Slot>, steps: usize) -> Option<u64> {
        let weight = state.table.weights[piece];
        let open: Vec<Slot> = state.open().filter(|slot| !path.contains(slot)).collect();
        if open.iter().any(|slot| state.fits(*slot, weight)) {
            return Some(0);
        }
        if steps == 1 {
            return None;
        }
        let mut costs = Vec::new();
        for slot in open {
            for (other, lighter) in state.makes_room(slot, weight).collect::<Vec<_>>() {
                path.push(slot);
                let rest = least(state, other, path, steps - 1);
                path.pop();
                let leaves = if state.home(other) == Some(slot) { lighter } else { 0 };
                costs.extend(rest.map(|rest| rest + leaves));
            }
        }
        costs.into_iter().min()
    }

    proptest! {
        #[test]
        fn a_chain_is_the_cheapest_keeps_the_limits_and_can_be_undone(
            placed in prop::collection::vec((1_u64..60, 1_u32..6, 1_u32..6), 1..16),
            weight in 1_u64..90,
        ) {
            let mut loads = [0; 6];
            let fitting = placed.into_iter().filter(|(weight, _, at)| {
                let load = &mut loads[usize::try_from(*at).expect("it is small")];
                let fits = *load + weight <= 100;
                *load += if fits { *weight } else { 0 };
                fits
            });
            let placed: Vec<_> = fitting.collect();
            let mut result = Ok(());
            with_newcomer(&placed, weight, |state, newcomer| {
                result = check(state, newcomer);
            });
            result?;
        }
    }

    fn check(state: &mut State<'_>, newcomer: Piece) -> Result<(), TestCaseError> {
        let shortest = least(state, newcomer, &mut vec![], 2);
        let any = least(state, newcomer, &mut vec![], 6);
        let before: Placement = state.placement();
        let Some(chain) = find(state, newcomer) else {
            prop_assert_eq!(shortest, None);
            return Ok(());
        };
        prop_assert!(any.is_some_and(|any| any <= chain.cost));
        prop_assert!(shortest.is_none_or(|shortest| chain.cost <= shortest));
        chain.play(state);
        let after = state.placement();
        let pieces = before.iter().zip(&after).enumerate();
        let left = pieces.filter(|(piece, (from, to))| {
            from.is_some() && from != to && state.home(*piece) == **from
        });
        prop_assert_eq!(left.map(|(piece, _)| state.table.weights[piece]).sum::<u64>(), chain.cost);
        prop_assert!(state.open().all(|slot| state.load(slot) <= 100));
        chain.undo(state);
        prop_assert_eq!(state.placement(), before);
        Ok(())
    }
}
