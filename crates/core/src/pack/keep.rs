//! Phase 1, keep: every partition stays at home, unless its home must be left.
//!
//! What may not stay goes into the pool for [`super::place`]. Pinned partitions go to their consumers at once. Of what is wanted
//! elsewhere, by evacuation or a pin, only as much goes as may be moved in one decision.
#![expect(clippy::indexing_slicing, reason = "pieces are indexes of the table")]

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::report::{Binding, MoveReason};
use super::state::{Score, State};
use super::table::{Piece, Placement, Table};

/// A workbench set up for a round.
#[derive(Debug)]
pub(super) struct Kept<'a> {
    pub(super) state: State<'a>,
    /// What has no place yet.
    pub(super) pool: Vec<Piece>,
    /// How good the placement is as it stands: what must leave counts as not placed.
    pub(super) standing: Score,
}

/// Sets the workbench up.
pub(super) fn keep<'a>(table: &'a Table<'a>, placement: &Placement) -> Kept<'a> {
    let moved = table.moved_load(placement);
    let mut movable = table.max_moved_load.saturating_sub(moved);
    let mut stays = placement.clone();
    let mut leaving = Vec::new();
    for (piece, place) in stays.iter_mut().enumerate() {
        let usable = place.filter(|at| table.consumers[*at].is_usable);
        let wanted = table.pins[piece].or(usable);
        if place.is_none() || *place != wanted {
            leaving.push(piece);
            *place = wanted;
        }
    }
    // Lightest first: where one of them finds no room, heavier ones would not have either.
    leaving.sort_unstable_by_key(|piece| (table.weights[*piece], *piece));
    let (leaving, mut waiting): (Vec<_>, Vec<_>) = leaving.into_iter().partition(|piece| {
        let had = placement[*piece];
        let cost = had.map_or(0, |_| table.weights[*piece]);
        let goes = cost <= movable;
        movable = movable.saturating_sub(if goes { cost } else { 0 });
        if !goes {
            stays[*piece] = had.filter(|at| table.consumers[*at].is_usable);
        }
        goes
    });
    let is_bound = !waiting.is_empty();
    waiting.retain(|piece| stays[*piece].is_none());
    let (pool, pinned): (Vec<_>, Vec<_>) =
        leaving.into_iter().partition(|piece| stays[*piece].is_none());
    let mut state = State::new(table, placement, stays);
    state.movable = movable;
    for piece in pool.iter().chain(&pinned) {
        state.because(*piece, reason_to_leave(table, *piece));
    }
    for piece in waiting {
        state.wait(piece);
    }
    if is_bound {
        state.bound_by.insert(Binding::MaxMovedLoad);
    }
    let mut standing = state.score();
    standing.unplaced = standing.unplaced.saturating_add(pinned.len());
    Kept { state, pool, standing }
}

/// Phase 1b: empties the lightest consumers while there are more than the maximum; returns what was on them. What is stuck has no
/// better place and stays.
pub(super) fn retire(state: &mut State<'_>, stuck: &BTreeSet<Piece>) -> Vec<Piece> {
    let mut above = state.above_maximum();
    if above == 0 {
        return Vec::new();
    }
    let mut pool = Vec::new();
    for slot in state.lightest_first() {
        if above == 0 {
            break;
        }
        if state.has_pins(slot) || state.pieces(slot).iter().any(|piece| stuck.contains(piece)) {
            continue;
        }
        let moved = state.table.load_at_home(state.pieces(slot), slot);
        if moved > state.movable {
            state.bound_by.insert(Binding::MaxMovedLoad);
            break;
        }
        above = above.saturating_sub(1);
        state.spend(moved);
        for piece in state.clear(slot) {
            state.because(piece, MoveReason::AboveMaximum);
            pool.push(piece);
        }
    }
    pool
}

fn reason_to_leave(table: &Table<'_>, piece: Piece) -> MoveReason {
    match table.homes[piece] {
        _ if table.pins[piece].is_some() => MoveReason::Pinned,
        None => MoveReason::Unassigned,
        Some(home) if table.consumers[home].is_evacuated => MoveReason::Evacuated,
        Some(_) => MoveReason::ConsumerGone,
    }
}
