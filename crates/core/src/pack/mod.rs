//! The packer: as few consumers as the load needs, moving as little as it can.
//!
//! ```text
//! Problem ─► keep ─► evict ─► place ─► dissolve ─► better than before? ─ yes ─► again from there
//!                                                          └ no ─► again with ejection chains, for fewer consumers
//!                                                          └ no ─► improve, if anything was better ─► again
//!                                                          └ no ─► improve, for fewer consumers ─► again
//!                                                          └ no ─► Solution, report
//! ```
//!
//! Each round starts from an assignment and proposes another; it is taken only if its score is lower (see the score's fields
//! for what counts, most important first). So rounds end, and the end is a fixed point by construction:
//! `solve` of a problem whose homes are the last solution proposes what was just refused, and moves nothing.
//! What no round could better is searched only for fewer consumers, from where it stands, so that the next search there finds
//! nothing either. Constant load therefore means no moves for ever, even where the maximum of consumers leaves an overload that no
//! move can cure; but for what waits for the limit on moved load, which is another one in the next decision, and where so many
//! searches or rounds with chains found fewer consumers that a decision was not allowed another.
//!
//! Invariants: a partition is placed exactly once; a consumer that gets a partition stays at most at its packing limit, unless the
//! partition stands alone, is pinned there, or the maximum of consumers binds; nothing depends on the order of input.
//!
//! It does not know time, and does not decide when to solve: see [`crate::demand`].

mod bound;
mod chains;
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
mod table;

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

pub use bound::LowerBound;
pub use check::{Fault, check};
pub use preset::Preset;
pub(crate) use problem::permille_of;
pub use problem::{Assignment, Effort, Error, Item, Limits, Problem};
pub use report::{Binding, LoadChange, Move, MoveReason, Report, Solution};

use self::chains::Chains;
use self::improve::Goal;
use self::keep::Kept;
use self::state::State;
use self::table::{Piece, Placement, Table};

/// So often is something with fewer consumers searched for in one decision; each search but the last has found it.
const SAVES: u32 = 3;

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
    solve_observed(problem, &mut |_| {})
}

/// The same, and tells whenever a phase has ended: for whoever has a clock and wants to know what takes how long.
pub fn solve_observed(
    problem: &Problem,
    observe: &mut dyn FnMut(Phase),
) -> Result<Solution, Error> {
    problem.validate()?;
    let table = Table::new(problem);
    let mut rounds = Rounds::new(&table, observe);
    rounds.play();
    if rounds.is_better {
        rounds.improve();
    }
    for _ in 0..SAVES {
        if !rounds.save() {
            break;
        }
    }
    Ok(rounds.solution())
}

/// A part of the packer's work; all but the first and the last can come several times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The problem is checked and laid out in tables.
    Prepare,
    /// Everything stays at home that may.
    Keep,
    /// Overloaded consumers are relieved.
    Evict,
    /// What has no place gets one.
    Place,
    /// Consumers are given up.
    Dissolve,
    /// All is taken apart and put together again.
    Improve,
    /// The plan is written down, with its reasons and bounds.
    Describe,
}

impl Phase {
    /// All, in the order of their first time.
    pub const ALL: [Self; 7] = [
        Self::Prepare,
        Self::Keep,
        Self::Evict,
        Self::Place,
        Self::Dissolve,
        Self::Improve,
        Self::Describe,
    ];

    /// Its name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Keep => "keep",
            Self::Evict => "evict",
            Self::Place => "place",
            Self::Dissolve => "dissolve",
            Self::Improve => "improve",
            Self::Describe => "describe",
        }
    }
}

/// One proposal after the other, as long as each is better than what was there.
struct Rounds<'a> {
    table: &'a Table<'a>,
    observe: &'a mut dyn FnMut(Phase),
    current: Placement,
    reasons: Vec<Option<MoveReason>>,
    squeezed: BTreeSet<Binding>,
    /// What bound the last proposal.
    bound_by: BTreeSet<Binding>,
    /// A round has found something better than the beginning.
    is_better: bool,
    /// So many rounds may still look for ejection chains.
    chain_tries: u32,
}

impl<'a> Rounds<'a> {
    fn new(table: &'a Table<'a>, observe: &'a mut dyn FnMut(Phase)) -> Self {
        observe(Phase::Prepare);
        Self {
            table,
            observe,
            current: table.standing(),
            reasons: vec![None; table.len()],
            squeezed: BTreeSet::new(),
            bound_by: BTreeSet::new(),
            is_better: false,
            chain_tries: chains::rounds(table.problem),
        }
    }

    /// Plays rounds, each from what the one before has found, until one is refused. Where the fewest consumers are sought, a round
    /// with ejection chains must be refused too, as long as the decision may have one.
    fn play(&mut self) {
        let Kept { mut state, mut pool, standing: mut score } = self.keep();
        let mut has_chains = false;
        loop {
            let effort = self.table.problem.effort;
            let mut chains = if has_chains { Chains::new(effort) } else { Chains::none() };
            let proposed = self.propose(state, pool, &mut chains);
            let proposed_score = proposed.score();
            let bound_by = proposed.bound_by.iter().copied();
            self.squeezed.extend(bound_by.filter(|bound| squeezes(*bound)));
            if proposed_score < score {
                score = proposed_score;
                (state, pool) = self.accept(proposed);
                has_chains = false;
                continue;
            }
            self.bound_by = proposed.bound_by;
            if has_chains || self.chain_tries == 0 {
                return;
            }
            self.chain_tries = self.chain_tries.saturating_sub(1);
            Kept { state, pool, .. } = self.keep();
            has_chains = true;
        }
    }

    fn keep(&mut self) -> Kept<'a> {
        let kept = keep::keep(self.table, &self.current);
        (self.observe)(Phase::Keep);
        kept
    }

    /// Takes what a round has found, and sets the workbench up for the next one.
    fn accept(&mut self, mut proposed: State<'a>) -> (State<'a>, Vec<Piece>) {
        self.is_better = true;
        self.current = proposed.placement();
        for (stands, reason) in self.reasons.iter_mut().zip(&proposed.reasons) {
            *stands = stands.or(*reason);
        }
        if proposed.score().unplaced > 0 {
            let Kept { state, pool, .. } = self.keep();
            return (state, pool);
        }
        proposed.settle();
        (self.observe)(Phase::Keep);
        (proposed, Vec::new())
    }

    /// One round: what the phases make of an assignment.
    ///
    /// At the maximum, evictions can turn out to have no better place. The round is then played again with those partitions
    /// left where they are, so that whatever is evicted in the end cures something: more stay each time, so this ends.
    fn propose(
        &mut self,
        mut state: State<'a>,
        mut pool: Vec<Piece>,
        chains: &mut Chains,
    ) -> State<'a> {
        let mut stuck = BTreeSet::new();
        let mut bound_by = BTreeSet::new();
        loop {
            pool.extend(keep::retire(&mut state, &stuck));
            pool.extend(evict::evict(&mut state, &stuck));
            (self.observe)(Phase::Evict);
            let rest = place::place(&mut state, pool);
            (self.observe)(Phase::Place);
            dissolve::dissolve(&mut state, chains);
            (self.observe)(Phase::Dissolve);
            // Whoever was given up makes room for a new consumer.
            let rest = place::place(&mut state, rest);
            let without_place = place::squeeze(&mut state, rest);
            (self.observe)(Phase::Place);
            if without_place.is_empty() {
                state.bound_by.extend(bound_by);
                return state;
            }
            bound_by.extend(state.bound_by.iter().copied().filter(|bound| squeezes(*bound)));
            let before = stuck.len();
            stuck.extend(without_place);
            debug_assert!(before < stuck.len(), "what is stuck does not leave again");
            Kept { state, pool, .. } = self.keep();
        }
    }

    /// Looks for something that costs less than what was found.
    fn improve(&mut self) -> bool {
        let found = improve::improve(self.table, &self.current, Goal::LowerCost);
        self.go_on_from(found)
    }

    /// Looks for something with fewer consumers from where everything will be. That is what the next solution begins with:
    /// so it finds nothing either, once this has found nothing.
    fn save(&mut self) -> bool {
        if !improve::may_save(self.table, &self.current) {
            return false;
        }
        let settled = self.table.settled(&self.current);
        let found = improve::improve(&settled, &self.current, Goal::FewerConsumers);
        self.go_on_from(found)
    }

    fn go_on_from(&mut self, found: Option<Placement>) -> bool {
        (self.observe)(Phase::Improve);
        let is_found = found.is_some();
        if let Some(improved) = found {
            self.take(improved);
            self.play();
        }
        is_found
    }

    /// Takes what the search has found. Whatever it moves beyond what had to is for the sake of fewer consumers, or of lighter
    /// moves.
    fn take(&mut self, improved: Placement) {
        let used: BTreeSet<_> = improved.iter().flatten().copied().collect();
        let places = improved.iter().zip(&self.table.homes);
        for ((to, home), reason) in places.zip(&mut self.reasons) {
            let is_given_up = home.is_some_and(|home| !used.contains(&home));
            if home != to {
                reason.get_or_insert(if is_given_up {
                    MoveReason::ScaleIn
                } else {
                    MoveReason::MadeRoom
                });
            }
        }
        self.current = improved;
    }

    /// What binds is what kept the last proposal from being better; only the maximum shows as it squeezes.
    fn solution(mut self) -> Solution {
        self.bound_by.extend(self.squeezed);
        if self.table.ignores_pins {
            self.bound_by.insert(Binding::PinIgnored);
        }
        let solution = report::describe(self.table, &self.current, &self.reasons, self.bound_by);
        (self.observe)(Phase::Describe);
        solution
    }
}

/// What fills consumers above their packing limits, or lets partitions wait.
fn squeezes(bound: Binding) -> bool {
    matches!(bound, Binding::MaxConsumers | Binding::MaxSurge)
}

#[cfg(test)]
mod tests;
