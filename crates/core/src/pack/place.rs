//! Phase 3, place: every partition of the pool gets a consumer, those that are pinned before the others, and heaviest first.
//!
//! In this order: where it is pinned; home if it fits; a new consumer while there are fewer than the minimum; the consumer that it
//! fills best; one where a smaller partition can make room and fits elsewhere; a new consumer. When the maximum forbids that, and
//! after consumers were given up that are not needed: a consumer below its overload limit, home again, or the least loaded one.
#![expect(clippy::indexing_slicing, reason = "pieces are indexes of the table")]

use alloc::vec::Vec;

use super::problem::{permille_in, permille_of};
use super::report::{Binding, MoveReason};
use super::state::State;
use super::table::{Piece, Slot};

/// Making room is tried on so many consumers, those with the most room: they need the smallest ejection. Trying all would make
/// the first packing of a large group quadratic.
const EJECTION_CANDIDATES: usize = 64;

/// Places what has a place within the limits and the maximum; returns the rest.
pub(super) fn place(state: &mut State<'_>, mut pool: Vec<Piece>) -> Vec<Piece> {
    state.table.sort_heaviest_first(&mut pool);
    pool.sort_by_key(|piece| state.table.pins[*piece].is_none());
    pool.retain(|piece| {
        let target = state.table.pins[*piece]
            .or_else(|| state.fitting_home(*piece))
            .or_else(|| below_minimum(state, *piece))
            .or_else(|| state.best_fit(state.table.weights[*piece]))
            .or_else(|| make_room(state, *piece))
            .or_else(|| open_new(state, *piece));
        if let Some(target) = target {
            state.put(target, &[*piece]);
        }
        target.is_none()
    });
    pool
}

/// Places the rest above the packing limits, as the maximum is reached; returns what had better not been evicted.
///
/// Up to the overload limit everybody must take more. Above it a move would only carry an overload elsewhere: who had a home
/// should have stayed there, and what has none goes where it hurts least; or waits, when there will be room for another consumer
/// as soon as those have gone that are being left.
pub(super) fn squeeze(state: &mut State<'_>, rest: Vec<Piece>) -> Vec<Piece> {
    let mut stuck = Vec::new();
    for piece in rest {
        let is_held_up = state.is_held_up();
        state.bound_by.insert(if is_held_up { Binding::MaxSurge } else { Binding::MaxConsumers });
        let is_stuck = state.home(piece).is_some_and(|home| state.is_open(home));
        match below_overload(state, piece) {
            Some(target) => state.put(target, &[piece]),
            None if is_stuck => stuck.push(piece),
            None if is_held_up => state.wait(piece),
            None => match least_loaded(state) {
                Some(target) => state.put(target, &[piece]),
                None => state.wait(piece),
            },
        }
    }
    stuck
}

fn below_minimum(state: &mut State<'_>, piece: Piece) -> Option<Slot> {
    let minimum = usize::try_from(state.table.problem.min_consumers).unwrap_or(usize::MAX);
    if state.len() < minimum { open_new(state, piece) } else { None }
}

/// The consumer to open: home if free, else a running one without partitions, else the one with the lowest free number; with
/// enough capacity, when capacities differ.
fn open_new(state: &mut State<'_>, piece: Piece) -> Option<Slot> {
    if !state.may_open() {
        return None;
    }
    let (table, weight) = (state.table, state.table.weights[piece]);
    let holds = |slot: &Slot| weight <= table.consumers[*slot].packing;
    let home = state.home(piece).filter(|home| !state.is_open(*home));
    let is_hot = weight > table.largest_packing;
    // If nothing holds it, it overloads whom it gets, and its home at least costs no move.
    home.filter(holds)
        .or_else(|| if is_hot { None } else { state.free_consumers().find(holds) })
        .or(home)
        .or_else(|| state.free_consumers().next())
}

/// A partition that may leave for another consumer, so that a larger one can come.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ejection {
    cost: u64,
    weight: u64,
    piece: Piece,
    from: Slot,
    to: Slot,
}

/// Moves the cheapest partition out of the way, if that costs less than a new consumer; returns where there is room now.
fn make_room(state: &mut State<'_>, piece: Piece) -> Option<Slot> {
    let problem = state.table.problem;
    if !state.has_lighter(state.table.weights[piece]) {
        return None;
    }
    let price = permille_of(problem.capacity_bytes_per_sec, problem.alpha_permille);
    let candidates = state.roomiest().take(EJECTION_CANDIDATES);
    let ejections = candidates.filter_map(|from| ejection(state, piece, from));
    let best = ejections.filter(|ejection| ejection.cost < price).min()?;
    state.spend(state.table.load_at_home(&[best.piece], best.from));
    state.take(best.from, &[best.piece]);
    state.because(best.piece, MoveReason::MadeRoom);
    state.put(best.to, &[best.piece]);
    Some(best.from)
}

fn ejection(state: &State<'_>, piece: Piece, from: Slot) -> Option<Ejection> {
    let movable = state.makes_room(from, state.table.weights[piece]);
    let ranked =
        movable.map(|(other, weight)| (state.weight_at_home(&[other], from), weight, other));
    let (cost, weight, piece) = ranked.min()?;
    if state.table.load_at_home(&[piece], from) > state.movable {
        return None;
    }
    let to = state.best_fit_among(weight, |slot| *slot != from)?;
    Some(Ejection { cost, weight, piece, from, to })
}

/// The consumer that is filled best up to its overload limit. Looks at all: at the maximum there is no cheaper way, and seldom.
fn below_overload(state: &State<'_>, piece: Piece) -> Option<Slot> {
    let roomy = state.open().filter_map(|slot| {
        let load = state.load(slot).checked_add(state.table.weights[piece])?;
        let room = state.consumer(slot).overload.checked_sub(load)?;
        Some((room, state.pieces(slot).len(), slot))
    });
    roomy.min().map(|(.., slot)| slot)
}

/// The consumer with the least share of its capacity in use; any when there is none, as the maximum is not zero.
fn least_loaded(state: &mut State<'_>) -> Option<Slot> {
    let by_load = state.open().map(|slot| {
        let share = permille_in(state.load(slot), state.consumer(slot).capacity);
        (share, state.pieces(slot).len(), slot)
    });
    let least = by_load.min().map(|(.., slot)| slot);
    least.or_else(|| state.free_consumers().next())
}
