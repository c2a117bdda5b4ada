//! Phase 4, dissolve: consumers are given up, lightest first, when everything on them fits on the others.
//!
//! Moving what is at home on a consumer costs its load; giving the consumer up earns alpha times its capacity. What does not pay
//! stays. Each attempt is all or nothing.
#![expect(clippy::indexing_slicing, reason = "pieces are indexes of the table")]

use alloc::vec::Vec;

use super::problem::permille_of;
use super::report::{Binding, MoveReason};
use super::state::State;
use super::table::{Piece, Slot};

/// Tries to give every consumer up once, lightest first; what that allows further is the next round's.
pub(super) fn dissolve(state: &mut State<'_>) {
    if !state.table.problem.scale_in {
        state.bound_by.insert(Binding::ScaleInHeld);
        return;
    }
    let minimum = usize::try_from(state.table.problem.min_consumers).unwrap_or(usize::MAX).max(1);
    for slot in state.lightest_first() {
        if state.len() <= minimum {
            if state.len() > 1 {
                state.bound_by.insert(Binding::MinConsumers);
            }
            return;
        }
        // Most have no chance; that is seen without a look at what is on them.
        if !(state.load(slot) == 0 || state.may_fit_beside(slot)) {
            state.bound_by.insert(Binding::Fragmentation);
        } else if let Err(binding) = give_up(state, slot) {
            state.bound_by.insert(binding);
        }
    }
}

/// Gives one consumer up, or leaves everything as it was.
fn give_up(state: &mut State<'_>, slot: Slot) -> Result<(), Binding> {
    let moved = may_go(state, slot)?;
    let mut pieces = state.clear(slot);
    state.table.sort_heaviest_first(&mut pieces);
    let placed = spread(state, &pieces);
    if placed.len() < pieces.len() {
        for (piece, to) in pieces.iter().zip(placed) {
            state.take(to, &[*piece]);
        }
        state.put(slot, &pieces);
        return Err(Binding::Fragmentation);
    }
    for piece in pieces {
        state.because(piece, MoveReason::ScaleIn);
    }
    state.spend(moved);
    Ok(())
}

/// Whether it pays to give a consumer up and might succeed; tells the load that is moved by it.
fn may_go(state: &State<'_>, slot: Slot) -> Result<u64, Binding> {
    let (table, pieces) = (state.table, state.pieces(slot));
    let at_home = pieces.iter().filter(|piece| state.home(**piece) == Some(slot));
    let cost = at_home.fold(0_u64, |sum, piece| sum.saturating_add(table.weights[*piece]));
    if state.has_pins(slot) {
        return Err(Binding::Pin);
    }
    if cost >= permille_of(state.consumer(slot).capacity, table.problem.alpha_permille) {
        return Err(Binding::Alpha);
    }
    let moved = table.load_at_home(pieces, slot);
    if moved > state.movable {
        return Err(Binding::MaxMovedLoad);
    }
    Ok(moved)
}

/// Puts partitions where they fit, at home where possible; ends with the first that has no place.
fn spread(state: &mut State<'_>, pieces: &[Piece]) -> Vec<Slot> {
    let mut placed = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let home = state.fitting_home(*piece);
        let Some(to) = home.or_else(|| state.best_fit(state.table.weights[*piece])) else {
            break;
        };
        state.put(to, &[*piece]);
        placed.push(to);
    }
    placed
}
