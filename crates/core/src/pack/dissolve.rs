//! Phase 4, dissolve: consumers are given up, lightest first, when everything on them finds a place on the others.
//!
//! Moving what is at home on a consumer costs its load, and so does what makes room for it; giving the consumer up earns alpha times
//! its capacity. What does not pay stays. Each attempt is all or nothing.
#![expect(clippy::indexing_slicing, reason = "pieces are indexes of the table")]

use alloc::vec::Vec;

use super::chains::{Chain, Chains, Wanted};
use super::problem::permille_of;
use super::report::{Binding, MoveReason};
use super::state::State;
use super::table::{Piece, Slot};

/// Tries to give every consumer up once, lightest first; what that allows further is the next round's.
pub(super) fn dissolve(state: &mut State<'_>, chains: &mut Chains) {
    if !state.table.problem.scale_in {
        state.bound_by.insert(Binding::ScaleInHeld);
        return;
    }
    let minimum = usize::try_from(state.table.problem.min_consumers).unwrap_or(usize::MAX).max(1);
    let mut room = state.room();
    for slot in state.lightest_first() {
        if state.len() <= minimum {
            if state.len() > 1 {
                state.bound_by.insert(Binding::MinConsumers);
            }
            return;
        }
        // Most have no chance; that is seen without a look at what is on them.
        let others = room.saturating_sub(state.residual(slot).unwrap_or(0).into());
        let left = others.checked_sub(state.load(slot).into());
        let may_fit = state.load(slot) == 0
            || if chains.looks() > 0 { left.is_some() } else { state.may_fit_beside(slot) };
        let given_up =
            if may_fit { give_up(state, slot, chains) } else { Err(Binding::Fragmentation) };
        match given_up {
            Ok(()) => room = left.unwrap_or(0),
            Err(binding) => {
                state.bound_by.insert(binding);
            }
        }
    }
}

/// Gives one consumer up, or leaves everything as it was.
fn give_up(state: &mut State<'_>, slot: Slot, chains: &mut Chains) -> Result<(), Binding> {
    let price = may_go(state, slot)?;
    let movable = state.movable;
    state.spend(state.table.load_at_home(state.pieces(slot), slot));
    let mut pieces = state.clear(slot);
    state.table.sort_heaviest_first(&mut pieces);
    let mut played = Vec::with_capacity(pieces.len());
    if let Err(binding) = spread(state, slot, &pieces, price, chains, &mut played) {
        for chain in played.iter().rev() {
            chain.undo(state);
        }
        state.put(slot, &pieces);
        state.movable = movable;
        return Err(binding);
    }
    for chain in played {
        chain.because(state, MoveReason::ScaleIn);
    }
    Ok(())
}

/// Whether it pays to give a consumer up, and may be done; tells what making room for what is on it must cost less than.
fn may_go(state: &State<'_>, slot: Slot) -> Result<u64, Binding> {
    let (table, pieces) = (state.table, state.pieces(slot));
    let cost = state.weight_at_home(pieces, slot);
    let earned = permille_of(state.consumer(slot).capacity, table.problem.alpha_permille);
    if state.has_pins(slot) {
        return Err(Binding::Pin);
    }
    if cost >= earned {
        return Err(Binding::Alpha);
    }
    if table.load_at_home(pieces, slot) > state.movable {
        return Err(Binding::MaxMovedLoad);
    }
    Ok(earned.saturating_sub(cost))
}

/// Finds a place for each on another consumer; ends with the first that has none, and what keeps it from one.
fn spread(
    state: &mut State<'_>,
    except: Slot,
    pieces: &[Piece],
    mut price: u64,
    chains: &mut Chains,
    played: &mut Vec<Chain>,
) -> Result<(), Binding> {
    for piece in pieces {
        let chain = if state.table.weights[*piece] == 0 {
            let to = state.fitting_home(*piece).or_else(|| state.best_fit(0));
            Chain::straight(*piece, to.ok_or(Binding::Fragmentation)?)
        } else {
            chains.find(state, *piece, Wanted { except, price })?
        };
        price = price.saturating_sub(chain.cost);
        chain.play(state);
        played.push(chain);
    }
    Ok(())
}
