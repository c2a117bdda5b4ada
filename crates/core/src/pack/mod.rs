//! The packer: as few consumers as the load needs, moving as little as it can.
//!
//! ```text
//! Problem ─► keep ─► evict ─► place ─► dissolve ─► better than before? ─ yes ─► again from there
//!                                                          └ no ─► improve, if anything was better ─► again
//!                                                          └ no ─► improve, for fewer consumers ─► again
//!                                                          └ no ─► Solution, report
//! ```
//!
//! Each round starts from an assignment and proposes another; it is taken only if its score is lower (see the score's fields
//! for what counts, most important first). So rounds end, and the end is a fixed point by construction:
//! `solve` of a problem whose homes are the last solution proposes what was just refused, and moves nothing.
//! What no round could better is searched only for fewer consumers, from where it stands, so that the next search there finds
//! nothing either. Constant load therefore means no moves for ever, even where the maximum of consumers leaves an overload that no move can cure.
//!
//! Invariants: a partition is placed exactly once; a consumer that gets a partition stays at most at its packing limit, unless the
//! partition stands alone, is pinned there, or the maximum of consumers binds; nothing depends on the order of input.
//!
//! It does not know time, and does not decide when to solve: see [`crate::demand`].

mod bound;
mod check;
mod dissolve;
mod evict;
pub mod exact;
mod improve;
mod keep;
mod place;
mod preset;
mod problem;
pub mod reference;
mod report;
mod state;

use alloc::collections::BTreeSet;

pub use bound::LowerBound;
pub use check::{Fault, check};
pub use preset::Preset;
pub(crate) use problem::permille_of;
pub use problem::{Assignment, Effort, Error, Item, Limits, Problem};
pub use report::{Binding, LoadChange, Move, MoveReason, Report, Solution};

use self::improve::Goal;
use self::keep::score_of;
use self::state::{Reasons, Score, State};

/// Packs partitions onto consumers.
///
/// ```
/// use std::collections::BTreeMap;
/// use tidegate_core::ids::{PartitionId, TopicId};
/// use tidegate_core::pack::{Item, Problem, check, solve};
///
/// let partition = |number| PartitionId { topic: TopicId::default(), number };
/// let item = |weight| Item { weight, ..Item::default() };
/// let items = BTreeMap::from([(partition(0), item(40)), (partition(1), item(30)), (partition(2), item(60))]);
/// let problem = Problem::new(items, 100);
///
/// let solution = solve(&problem)?;
/// assert_eq!(solution.consumers.len(), 2);
/// assert!(check(&problem, &solution.assignment).is_empty());
///
/// let again = solve(&problem.with_homes(&solution.assignment))?;
/// assert!(again.moves.is_empty());
/// # Ok::<(), tidegate_core::pack::Error>(())
/// ```
pub fn solve(problem: &Problem) -> Result<Solution, Error> {
    problem.validate()?;
    let home = |item: &Item| item.home.filter(|home| !problem.unavailable.contains(home));
    let homes = problem.items.iter().filter_map(|(at, item)| Some((*at, home(item)?)));
    let mut rounds = Rounds::new(problem, homes.collect());
    rounds.play();
    if rounds.is_better {
        rounds.improve();
    }
    while rounds.save() {}
    Ok(rounds.solution())
}

/// One proposal after the other, as long as each is better than what was there.
struct Rounds<'a> {
    problem: &'a Problem,
    current: Assignment,
    score: Score,
    reasons: Reasons,
    squeezed: BTreeSet<Binding>,
    /// What bound the last proposal.
    bound_by: BTreeSet<Binding>,
    /// A round has found something better than the beginning.
    is_better: bool,
}

impl<'a> Rounds<'a> {
    fn new(problem: &'a Problem, current: Assignment) -> Self {
        Self {
            score: score_of(problem, &current),
            problem,
            current,
            reasons: Reasons::new(),
            squeezed: BTreeSet::new(),
            bound_by: BTreeSet::new(),
            is_better: false,
        }
    }

    fn play(&mut self) {
        loop {
            let proposed = propose(self.problem, &self.current);
            let score = proposed.score();
            self.squeezed
                .extend(proposed.bound_by.iter().copied().filter(|bound| squeezes(*bound)));
            if score >= self.score {
                self.bound_by = proposed.bound_by;
                return;
            }
            self.is_better = true;
            self.current = proposed.assignment();
            self.score = score;
            for (partition, reason) in proposed.reasons {
                self.reasons.entry(partition).or_insert(reason);
            }
        }
    }

    /// Looks for something that costs less than what was found.
    fn improve(&mut self) -> bool {
        let found = improve::improve(self.problem, &self.current, Goal::LowerCost);
        self.go_on_from(found)
    }

    /// Looks for something with fewer consumers from where everything will be. That is what the next solution begins with:
    /// so it finds nothing either, once this has found nothing.
    fn save(&mut self) -> bool {
        if !improve::may_save(self.problem, &self.current) {
            return false;
        }
        let settled = self.problem.with_homes(&self.current);
        let found = improve::improve(&settled, &self.current, Goal::FewerConsumers);
        self.go_on_from(found)
    }

    fn go_on_from(&mut self, found: Option<Assignment>) -> bool {
        let is_found = found.is_some();
        if let Some(improved) = found {
            self.take(improved);
            self.play();
        }
        is_found
    }

    /// Takes what the search has found. Whatever it moves beyond what had to is for the sake of fewer consumers, or of lighter
    /// moves.
    fn take(&mut self, improved: Assignment) {
        let used: BTreeSet<_> = improved.values().collect();
        for (partition, to) in &improved {
            let home = self.problem.items.get(partition).and_then(|item| item.home);
            let is_given_up = home.is_some_and(|home| !used.contains(&home));
            let reason = if is_given_up { MoveReason::ScaleIn } else { MoveReason::MadeRoom };
            if home != Some(*to) {
                self.reasons.entry(*partition).or_insert(reason);
            }
        }
        self.score = score_of(self.problem, &improved);
        self.current = improved;
    }

    /// What binds is what kept the last proposal from being better; only the maximum shows as it squeezes.
    fn solution(mut self) -> Solution {
        self.bound_by.extend(self.squeezed);
        report::describe(self.problem, self.current, &self.reasons, self.bound_by)
    }
}

/// What fills consumers above their packing limits, or lets partitions wait.
fn squeezes(bound: Binding) -> bool {
    matches!(bound, Binding::MaxConsumers | Binding::MaxSurge)
}

/// One round: what the phases make of an assignment.
///
/// At the maximum, evictions can turn out to have no better place. The round is then played again with those partitions left
/// where they are, so that whatever is evicted in the end cures something: more stay each time, so this ends.
fn propose<'a>(problem: &'a Problem, homes: &Assignment) -> State<'a> {
    let mut stuck = BTreeSet::new();
    let mut bound_by = BTreeSet::new();
    loop {
        let (mut state, mut pool) = keep::keep(problem, homes);
        pool.extend(keep::retire(&mut state));
        pool.extend(evict::evict(&mut state, &stuck));
        let rest = place::place(&mut state, pool);
        dissolve::dissolve(&mut state);
        // Whoever was given up makes room for a new consumer.
        let rest = place::place(&mut state, rest);
        let without_place = place::squeeze(&mut state, rest);
        if without_place.is_empty() {
            debug_assert_eq!(
                state.score().unplaced,
                state.waiting(),
                "everything is placed or waits"
            );
            state.bound_by.extend(bound_by);
            return state;
        }
        bound_by.extend(state.bound_by.iter().copied().filter(|bound| squeezes(*bound)));
        stuck.extend(without_place.into_iter().map(|piece| piece.partition));
    }
}

#[cfg(test)]
mod tests;
