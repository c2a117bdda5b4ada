//! Phase 1, keep: every partition stays at home, unless its home must be left.
//!
//! What may not stay goes into the pool for [`super::place`]. Pinned partitions go to their consumers at once.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::problem::{Assignment, Item, Problem};
use super::report::{Binding, MoveReason};
use super::state::{Bin, Piece, Score, State};
use crate::ids::ConsumerNumber;

/// Sets the workbench up; returns what has no place yet.
pub(super) fn keep<'a>(problem: &'a Problem, homes: &Assignment) -> (State<'a>, Vec<Piece>) {
    let mut state = State::new(problem);
    let mut pool = Vec::new();
    let mut bins: BTreeMap<ConsumerNumber, Bin> = BTreeMap::new();
    for (partition, item) in &problem.items {
        let had = homes.get(partition).copied();
        let pin = problem.effective_pin(item);
        let home = had.filter(|home| problem.is_usable(*home));
        let stays = pin.or(home);
        if had.is_none() || had != stays {
            state.because(*partition, reason_to_leave(problem, item, pin.is_some()));
        }
        if item.pinned != pin {
            state.bound_by.insert(Binding::PinIgnored);
        }
        let piece =
            Piece { partition: *partition, weight: item.weight, home, pinned: pin.is_some() };
        match stays {
            Some(at) => bins.entry(at).or_insert_with(|| state.empty_bin(at)).push(piece),
            None => pool.push(piece),
        }
    }
    for (consumer, bin) in bins {
        state.open(consumer, bin);
    }
    (state, pool)
}

/// How good an assignment is as it stands: what must leave counts as not placed.
pub(super) fn score_of(problem: &Problem, assignment: &Assignment) -> Score {
    let (state, _) = keep(problem, assignment);
    let misplaced = problem.items.iter().filter(|(partition, item)| {
        let pin = problem.effective_pin(item);
        pin.is_some() && pin != assignment.get(partition).copied()
    });
    let mut score = state.score();
    score.unplaced = score.unplaced.saturating_add(misplaced.count());
    score
}

/// Phase 1b: empties the lightest consumers while there are more than the maximum; returns what was on them.
pub(super) fn retire(state: &mut State<'_>) -> Vec<Piece> {
    let mut above = state.score().above_maximum;
    if above == 0 {
        return Vec::new();
    }
    let mut lightest: Vec<_> = state
        .bins()
        .filter(|(_, bin)| !bin.has_pins())
        .map(|(consumer, bin)| (bin.load, bin.pieces.len(), consumer))
        .collect();
    lightest.sort_unstable();
    let mut pool = Vec::new();
    for (_, _, consumer) in lightest {
        if above == 0 {
            break;
        }
        above = above.saturating_sub(1);
        let Some(bin) = state.close(consumer) else {
            continue;
        };
        for piece in bin.pieces {
            state.because(piece.partition, MoveReason::AboveMaximum);
            pool.push(piece);
        }
    }
    pool
}

fn reason_to_leave(problem: &Problem, item: &Item, pinned: bool) -> MoveReason {
    match item.home {
        _ if pinned => MoveReason::Pinned,
        None => MoveReason::Unassigned,
        Some(home) if problem.evacuate.contains(&home) => MoveReason::Evacuated,
        Some(_) => MoveReason::ConsumerGone,
    }
}
