//! Phase 3, place: every partition of the pool gets a consumer, heaviest first.
//!
//! In this order: home if it fits; a new consumer while there are fewer than the minimum; the consumer that it fills best; one
//! where a smaller partition can make room and fits elsewhere; a new consumer. When the maximum forbids that, and after consumers
//! were given up that are not needed: a consumer below its overload limit, home again, or the least loaded one.

use alloc::vec::Vec;

use super::problem::{permille_in, permille_of};
use super::report::{Binding, MoveReason};
use super::state::{Piece, State};
use crate::ids::{ConsumerNumber, PartitionId};

/// Making room is tried on so many consumers, those with the most room: they need the smallest ejection. Trying all would make
/// the first packing of a large group quadratic.
const EJECTION_CANDIDATES: usize = 64;

/// Places what has a place within the limits and the maximum; returns the rest.
pub(super) fn place(state: &mut State<'_>, mut pool: Vec<Piece>) -> Vec<Piece> {
    Piece::sort_heaviest_first(&mut pool);
    pool.retain(|piece| {
        let target = home(state, *piece)
            .or_else(|| below_minimum(state, *piece))
            .or_else(|| state.best_fit(piece.weight, None))
            .or_else(|| make_room(state, *piece))
            .or_else(|| open_new(state, *piece));
        if let Some(target) = target {
            state.put(target, *piece);
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
        let is_stuck = piece.home.is_some_and(|home| state.bin(home).is_some());
        match below_overload(state, piece) {
            Some(target) => state.put(target, piece),
            None if is_stuck => stuck.push(piece),
            None if is_held_up => state.wait(piece.partition),
            None => state.put(least_loaded(state), piece),
        }
    }
    stuck
}

fn home(state: &State<'_>, piece: Piece) -> Option<ConsumerNumber> {
    piece.home.filter(|home| state.fits(*home, piece.weight))
}

fn below_minimum(state: &mut State<'_>, piece: Piece) -> Option<ConsumerNumber> {
    let minimum = usize::try_from(state.problem.min_consumers).unwrap_or(usize::MAX);
    if state.len() < minimum { open_new(state, piece) } else { None }
}

/// The number of a consumer to open: its home's if free, else a running one without partitions, else the lowest free one; with
/// enough capacity, when capacities differ.
fn open_new(state: &mut State<'_>, piece: Piece) -> Option<ConsumerNumber> {
    if !state.may_open() {
        return None;
    }
    let problem = state.problem;
    let is_large_enough = |at: &ConsumerNumber| piece.weight <= problem.packing_limit_of(*at);
    let home = piece.home.filter(|home| state.is_free(*home));
    if let Some(home) = home.filter(is_large_enough) {
        return Some(home);
    }
    let default = permille_of(problem.capacity_bytes_per_sec, problem.limits.packing_permille);
    if piece.weight <= default {
        return state.free_consumers().find(is_large_enough);
    }
    let special = problem.capacity_overrides.keys().copied();
    let special = special.filter(|at| state.is_free(*at)).find(is_large_enough);
    // If nothing holds it, it overloads whom it gets, and its home at least costs no move.
    special.or(home).or_else(|| state.free_consumers().next())
}

/// A partition that may leave for another consumer, so that a larger one can come.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Ejection {
    cost: u64,
    weight: u64,
    partition: PartitionId,
    from: ConsumerNumber,
    to: ConsumerNumber,
}

/// Moves the cheapest partition out of the way, if that costs less than a new consumer; returns where there is room now.
fn make_room(state: &mut State<'_>, piece: Piece) -> Option<ConsumerNumber> {
    let problem = state.problem;
    let price = permille_of(problem.capacity_bytes_per_sec, problem.alpha_permille);
    let candidates = state.roomiest().take(EJECTION_CANDIDATES);
    let ejections =
        candidates.filter_map(|(residual, from)| ejection(state, piece, residual, from));
    let best = ejections.filter(|ejection| ejection.cost < price).min()?;
    let ejected = state.take(best.from, best.partition)?;
    state.because(ejected.partition, MoveReason::MadeRoom);
    state.put(best.to, ejected);
    Some(best.from)
}

fn ejection(
    state: &State<'_>,
    piece: Piece,
    residual: u64,
    from: ConsumerNumber,
) -> Option<Ejection> {
    let missing = piece.weight.checked_sub(residual)?;
    let bin = state.bin(from)?;
    let movable = bin.pieces.iter().filter(|other| {
        !other.pinned && other.weight >= missing && other.weight < piece.weight && other.weight > 0
    });
    let cost = |other: &Piece| {
        if other.home == Some(from) { other.weight } else { 0 }
    };
    let (cost, weight, partition) =
        movable.map(|other| (cost(other), other.weight, other.partition)).min()?;
    let to = state.best_fit(weight, Some(from))?;
    Some(Ejection { cost, weight, partition, from, to })
}

/// The consumer that is filled best up to its overload limit. Looks at all: at the maximum there is no cheaper way, and seldom.
fn below_overload(state: &State<'_>, piece: Piece) -> Option<ConsumerNumber> {
    let roomy = state.bins().filter_map(|(consumer, bin)| {
        let load = bin.load.checked_add(piece.weight)?;
        let room = bin.overload.checked_sub(load)?;
        Some((room, bin.pieces.len(), consumer))
    });
    roomy.min().map(|(_, _, consumer)| consumer)
}

fn least_loaded(state: &State<'_>) -> ConsumerNumber {
    let open = state.bins();
    let by_load = open.map(|(at, bin)| (permille_in(bin.load, bin.capacity), bin.pieces.len(), at));
    // At the maximum, which is not zero, somebody is open.
    by_load.min().map_or(ConsumerNumber::FIRST, |(_, _, consumer)| consumer)
}
