//! Phase 5, improve: what the phases before have found is taken apart a little and put together again, many times over.
//!
//! Each step takes the partitions of a few consumers off and puts them back where they cost least, with some chance in the
//! order and in what is overlooked. The result is kept when it costs less, and early on also when it costs a little more
//! (ruin and recreate, with a temperature that falls). What counts is the price of every consumer with partitions and the
//! weight of every partition that is not at home.
//!
//! It starts from what was found, or for [`Effort::fewest`] from a packing made anew when that has fewer consumers; then it is
//! also asked for fewer consumers where nothing else is to be done. The number of steps is the caller's; the same problem and
//! seed always give the same answer.

mod anneal;
mod bench;
mod random;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use self::anneal::anneal;
use self::bench::Bench;
use super::bound::LowerBound;
use super::problem::Effort;
use super::table::{Placement, Table};

/// When everything is packed anew, home may leave this much more of a consumer unused than the best fit, in permille of its
/// limit: some, which saves moves, and nothing, which can save a consumer.
const HOMESICK_PERMILLE: [u32; 2] = [150, 0];

/// Setting the workbench up takes as long as so many looks for each partition beyond a few.
const SETUP: u64 = 25;
const FEW: usize = 1000;

/// Packing anew takes as long as so many looks for each partition beyond a few, and takes half of them all at most.
const PACKING: u64 = 40;

/// Where so much of the load must move, a consumer is worth its price.
const USUAL_PERMILLE: u64 = 70;

/// The least and the most that it is worth, in 1/1024 of the price.
const SHORTEST: u64 = 512;
const LONGEST: u64 = 1024;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// Something that costs less.
    LowerCost,
    /// Something that costs less because fewer consumers have partitions.
    FewerConsumers,
}

impl Goal {
    /// Its part of a decision's steps. Whoever seeks the fewest consumers searches twice in most decisions, and has two rounds with
    /// ejection chains, an eighth together.
    const fn share(self, fewest: bool, steps: u64) -> u64 {
        match (fewest, self) {
            (false, _) => steps,
            (true, Self::LowerCost) => (steps / 8).saturating_mul(5),
            (true, Self::FewerConsumers) => steps / 4,
        }
    }
}

/// What was looked for, if it was found. Where partitions wait, or a consumer with several is above its overload limit, nothing is
/// looked for.
pub(super) fn improve(table: &Table<'_>, found: &Placement, goal: Goal) -> Option<Placement> {
    let Effort { steps, seed, fewest } = table.problem.effort;
    let many = u64::try_from(table.len().saturating_sub(FEW)).unwrap_or(u64::MAX);
    let steps = steps.saturating_sub(many.saturating_mul(SETUP));
    if steps == 0 {
        return None;
    }
    let mut kept = Bench::new(table, found)?;
    kept.scale_prices(horizon(kept.moved_permille()));
    let (cost, len) = (kept.cost(), kept.len());
    let packing = many.saturating_mul(PACKING);
    let packed = HOMESICK_PERMILLE.iter().filter(|_| fewest && packing <= steps / 4);
    let tried = u64::try_from(packed.clone().count()).unwrap_or(u64::MAX);
    let packed: Vec<_> = packed.filter_map(|permille| kept.packed_anew(*permille)).collect();
    let steps = steps.saturating_sub(packing.saturating_mul(tried));
    // Who needs fewer consumers has the better start: to give one up takes many steps that each must go right.
    let starts = core::iter::once(kept).chain(packed);
    let mut bench = starts.min_by_key(|start| (start.len(), start.cost()))?;
    anneal(&mut bench, goal.share(fewest, steps), seed);
    let is_found = bench.cost() < cost && (goal == Goal::LowerCost || bench.len() < len);
    is_found.then(|| bench.placement())
}

/// What a consumer is worth, in 1/1024 of its price: a saving lasts the longer, the less the load moves about. How much of it
/// must move this time tells that.
const fn horizon(moved_permille: u64) -> u64 {
    let of_1024 = match (USUAL_PERMILLE << 10).checked_div(moved_permille) {
        Some(of_1024) => of_1024,
        None => LONGEST,
    };
    if of_1024 < SHORTEST {
        SHORTEST
    } else if of_1024 > LONGEST {
        LONGEST
    } else {
        of_1024
    }
}

/// Whether fewer consumers are worth a search of their own: it is wanted, consumers may be given up, and the load does not need
/// them all.
pub(super) fn may_save(table: &Table<'_>, found: &Placement) -> bool {
    let problem = table.problem;
    let Effort { steps, fewest, .. } = problem.effort;
    if steps == 0 || !fewest || !problem.scale_in {
        return false;
    }
    let used: BTreeSet<_> = found.iter().flatten().collect();
    let needed = LowerBound::of(problem, problem.limits.packing_permille, &table.rising_weights());
    let needed = needed.consumers();
    let needed = usize::try_from(needed.max(problem.min_consumers)).unwrap_or(usize::MAX);
    used.len() > needed
}

#[cfg(test)]
mod tests {
    use super::super::chains::Chains;
    use super::*;

    #[test]
    fn the_parts_of_a_usual_decision_come_to_its_steps() {
        let steps = 1600;
        let searches = [Goal::LowerCost, Goal::FewerConsumers].map(|goal| goal.share(true, steps));
        let chains = Chains::new(Effort { steps, seed: 0, fewest: true }).looks();
        assert_eq!(searches.iter().sum::<u64>() + 2 * chains, steps);
        assert_eq!(Goal::LowerCost.share(false, steps), steps);
    }
}
