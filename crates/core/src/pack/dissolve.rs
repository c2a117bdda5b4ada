//! Phase 4, dissolve: consumers are given up, lightest first, when everything on them fits on the others.
//!
//! Moving what is at home on a consumer costs its load; giving the consumer up earns alpha times its capacity. What does not pay
//! stays. Each attempt is all or nothing.

use alloc::vec::Vec;

use super::problem::permille_of;
use super::report::{Binding, MoveReason};
use super::state::{Bin, State};
use crate::ids::{ConsumerNumber, PartitionId};

/// Gives up what pays.
pub(super) fn dissolve(state: &mut State<'_>) {
    if !state.problem.scale_in {
        state.bound_by.insert(Binding::ScaleInHeld);
        return;
    }
    while pass(state) {}
}

/// Tries every consumer once, lightest first; says whether to try again.
fn pass(state: &mut State<'_>) -> bool {
    let loads = state.bins().map(|(consumer, bin)| (bin.load, bin.pieces.len(), consumer));
    let mut lightest: Vec<_> = loads.collect();
    lightest.sort_unstable();
    let minimum = usize::try_from(state.problem.min_consumers).unwrap_or(usize::MAX).max(1);
    let before = state.len();
    for (_, _, consumer) in lightest {
        if state.len() <= minimum {
            if state.len() > 1 {
                state.bound_by.insert(Binding::MinConsumers);
            }
            return false;
        }
        if let Err(binding) = give_up(state, consumer) {
            state.bound_by.insert(binding);
        }
    }
    state.len() < before
}

/// Gives one consumer up, or leaves everything as it was.
fn give_up(state: &mut State<'_>, consumer: ConsumerNumber) -> Result<(), Binding> {
    let bin = state.bin(consumer).ok_or(Binding::Fragmentation)?;
    let price = permille_of(bin.capacity, state.problem.alpha_permille);
    let at_home = bin.pieces.iter().filter(|piece| piece.home == Some(consumer));
    let cost = at_home.fold(0_u64, |sum, piece| sum.saturating_add(piece.weight));
    if bin.has_pins() {
        return Err(Binding::Pin);
    }
    if cost >= price {
        return Err(Binding::Alpha);
    }
    let others = state.free().saturating_sub(u128::from(bin.residual().unwrap_or(0)));
    if u128::from(bin.load) > others {
        return Err(Binding::Fragmentation);
    }
    let bin = state.close(consumer).ok_or(Binding::Fragmentation)?;
    let mut moved = Vec::new();
    if spread(state, &bin, &mut moved) {
        for piece in &bin.pieces {
            state.because(piece.partition, MoveReason::ScaleIn);
        }
        return Ok(());
    }
    for (partition, to) in moved {
        state.take(to, partition);
    }
    state.open(consumer, bin);
    Err(Binding::Fragmentation)
}

/// Puts everything of a closed consumer on others, home where possible; says whether all found a place.
fn spread(
    state: &mut State<'_>,
    bin: &Bin,
    moved: &mut Vec<(PartitionId, ConsumerNumber)>,
) -> bool {
    let mut pieces = bin.pieces.clone();
    super::state::Piece::sort_heaviest_first(&mut pieces);
    for piece in pieces {
        let home = piece.home.filter(|home| state.fits(*home, piece.weight));
        let Some(to) = home.or_else(|| state.best_fit(piece.weight, None)) else {
            return false;
        };
        state.put(to, piece);
        moved.push((piece.partition, to));
    }
    true
}
