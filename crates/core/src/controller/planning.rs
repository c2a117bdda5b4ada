//! From measurements to a plan, and from a plan to where each partition should be.
//!
//! A plan lists moves from the ownership at its time. A partition that it does not name should be where it is, so that
//! whoever reads the ledger, a successor too, knows the target from the fold alone.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::io::{Effect, Mode, Note};
use super::machine::Controller;
use crate::demand::{self, Fleet};
use crate::ids::{ConsumerNumber, Instant, Offset, PartitionId};
use crate::ledger::{Fold, Move, Ownership, PlanBody, Record, Trigger};
use crate::pack::{self, Assignment, Binding, Solution};

/// A decision with everything that explains it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Explanation {
    /// What set it off.
    pub trigger: demand::Trigger,
    /// What the packer answered.
    pub solution: Solution,
    /// How many consumers it would have had without the least and the largest number.
    pub raw_consumers: u32,
    /// What is to change.
    pub moves: Vec<Move>,
}

/// The plan that is being carried out, or was last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanState {
    /// Its id: where it stands in the ledger.
    pub at: Offset,
    /// When this process read it.
    pub read_at: Instant,
    /// When its last move was seen done.
    pub done_at: Option<Instant>,
}

/// Pause between two decisions whatever sets them off: the time in which the first can be read back.
const DECISION_PAUSE: core::time::Duration = core::time::Duration::from_millis(500);

/// Moves in one plan at most: keeps the record below any broker's limit. What is left over has no owner or is overloaded
/// still, and sets off the next decision.
pub(super) const PLAN_SIZE: usize = 10_000;

/// What planning remembers between decisions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Planning {
    pub(super) state: Option<PlanState>,
    /// Where the partitions would be, in mode observe.
    pub(super) imagined: Assignment,
    /// No decision before this moment.
    rest_until: Instant,
    pub(super) last: Option<Explanation>,
}

/// Where a plan wants partitions: `None` is nowhere.
pub(super) type Targets = BTreeMap<PartitionId, Option<ConsumerNumber>>;

/// The state of the group in one look at everything. The fold does not change meanwhile.
#[derive(Debug)]
pub(super) struct Sight {
    /// Where the last plan wants its partitions.
    pub(super) planned: Targets,
    /// Each partition's consumer: where the plan wants it, else where it is.
    pub(super) assignment: Assignment,
    /// Consumers that should run.
    pub(super) wanted: BTreeSet<ConsumerNumber>,
}

fn planned(fold: &Fold) -> Targets {
    let moves = fold.plan().into_iter().flat_map(|plan| &plan.body.moves);
    moves.map(|change| (change.partition, change.to)).collect()
}

/// True when a move is done: its partition is where it should be and is read there.
pub(super) fn is_done(fold: &Fold, change: &Move) -> bool {
    match (fold.ownership(change.partition), change.to) {
        (Ownership::Active { incarnation, .. }, Some(to)) => {
            fold.lives().consumer_of(incarnation) == Some(to)
        }
        (Ownership::Free { .. }, None) => true,
        _ => false,
    }
}

impl From<demand::Trigger> for Trigger {
    fn from(trigger: demand::Trigger) -> Self {
        match trigger {
            demand::Trigger::ConsumerLost { .. } => Self::ConsumerLost,
            demand::Trigger::SpecChanged => Self::Spec,
            demand::Trigger::UnassignedPartition { .. } => Self::Unassigned,
            demand::Trigger::Overload { .. } => Self::Overload,
            demand::Trigger::Sentinel => Self::Sentinel,
        }
    }
}

impl Controller {
    /// A plan was read.
    pub(super) fn plan_read(&mut self, now: Instant, at: Offset) {
        self.planning.state = Some(PlanState { at, read_at: now, done_at: None });
    }

    /// Sees whether the plan in progress has become true. A partition that was granted long ago and is not read yet is its
    /// consumer's trouble, which has an alarm of its own: the other partitions do not wait for it.
    pub(super) fn watch_plan(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(state) = self.planning.state.filter(|state| state.done_at.is_none()) else {
            return;
        };
        let Some(plan) = self.fold.plan() else { return };
        let late = now.since(state.read_at) >= self.settings.start_deadline;
        let settled = |change: &Move| {
            is_done(&self.fold, change)
                || late && self.fold.consumer_of(change.partition) == change.to
        };
        if plan.body.moves.iter().all(settled) {
            self.planning.state = Some(PlanState { done_at: Some(now), ..state });
            self.demand.settled(now);
            effects.push(Effect::Note(Note::PlanDone(state.at, now.since(state.read_at))));
        }
    }

    /// What all parts of a look at everything go by.
    pub(super) fn sight(&self) -> Sight {
        let planned = planned(&self.fold);
        let assignment = self.assignment(&planned);
        let wanted = self.wanted(&assignment);
        Sight { planned, assignment, wanted }
    }

    /// Each partition's consumer: where the plan wants it, else where it is.
    fn assignment(&self, planned: &Targets) -> Assignment {
        let owners = self.fold.owners();
        let mut assignment: Assignment =
            owners.filter(|(partition, _)| !self.gone.holds(*partition)).collect();
        for (partition, to) in planned {
            match to {
                // A move that was done once and lost its owner since is no promise any more.
                Some(_) if self.is_orphan(*partition) => assignment.remove(partition),
                Some(to) => assignment.insert(*partition, *to),
                None => assignment.remove(partition),
            };
        }
        assignment
    }

    /// True when a partition is Free and the plan that was to give it an owner is done: its owner was lost since.
    fn is_orphan(&self, partition: PartitionId) -> bool {
        let done = self.planning.state.is_none_or(|state| state.done_at.is_some());
        done && self.fold.ownership(partition).owner().is_none()
    }

    /// Consumers that should run: those with partitions, by plan or in fact, and spare ones up to the minimum.
    fn wanted(&self, assignment: &Assignment) -> BTreeSet<ConsumerNumber> {
        let mut wanted: BTreeSet<_> = assignment.values().copied().collect();
        wanted.extend(self.fold.owners().map(|(_, consumer)| consumer));
        wanted.extend(self.held.iter().copied());
        let demand = &self.settings.demand;
        let left = self.workers.keys().filter(|consumer| self.leaving.contains(**consumer)).count();
        let most = demand.max_consumers.saturating_add(demand.max_surge);
        let most = most.saturating_sub(u32::try_from(left).unwrap_or(u32::MAX));
        let minimum = usize::try_from(demand.min_consumers.min(most)).unwrap_or(usize::MAX);
        let running = self.workers.keys().copied();
        let others = ConsumerNumber::FIRST.and_above().take_while(|_| !self.frozen);
        let spares = running.chain(others);
        let is_spare = |spare: &ConsumerNumber| {
            !self.standings.is_passed_over(*spare)
                && !self.leaving.contains(*spare)
                && (!self.frozen || self.lives(*spare))
        };
        for spare in spares.filter(is_spare) {
            if wanted.len() >= minimum {
                break;
            }
            wanted.insert(spare);
        }
        wanted
    }

    fn fleet(&self, assignment: Assignment) -> Fleet {
        let in_progress = self.planning.state.is_some_and(|state| state.done_at.is_none());
        let known = || self.demand.table().iter().map(|(partition, _)| partition);
        let orphaned = known().any(|partition| !assignment.contains_key(&partition));
        let running: BTreeSet<_> = match self.settings.mode {
            Mode::Own => self.workers.keys().copied().chain(assignment.values().copied()).collect(),
            Mode::Observe => assignment.values().copied().collect(),
        };
        let evacuate = self.leaving.consumers();
        let returning = evacuate.intersection(&self.held).count();
        let mut unavailable = self.standings.passed_over();
        if self.frozen && running.iter().any(|consumer| self.lives(*consumer)) {
            unavailable.extend(running.iter().filter(|consumer| !self.lives(**consumer)));
        }
        Fleet {
            assignment,
            running,
            unavailable,
            returning: u32::try_from(returning).unwrap_or(u32::MAX),
            evacuate,
            pins: self.pins.clone(),
            busy: in_progress && !orphaned,
        }
    }

    /// While nobody can be made a plan has those who live, if anybody does.
    fn freeze(&self, fleet: &Fleet, problem: &mut pack::Problem) {
        let living = fleet.running.iter().filter(|consumer| self.lives(**consumer)).count();
        if self.frozen && living > 0 {
            let most = u32::try_from(living).unwrap_or(u32::MAX);
            problem.max_consumers = problem.max_consumers.min(most);
            problem.min_consumers = problem.min_consumers.min(problem.max_consumers);
            problem.max_surge = 0;
        }
    }

    fn lives(&self, consumer: ConsumerNumber) -> bool {
        self.fold.lives().current(consumer).is_some()
    }

    /// Decides, if it is time to, and hands the plan to the ledger.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        assignment: Assignment,
        effects: &mut Vec<Effect>,
    ) {
        let waits = self.office.as_ref().is_some_and(|office| office.outbox.holds_plan());
        if waits || now < self.planning.rest_until {
            return;
        }
        let fleet = self.fleet(assignment);
        let Some(trigger) = self.demand.due(now, &fleet) else { return };
        self.planning.rest_until = now.after(DECISION_PAUSE);
        let mut problem = self.demand.problem(now, &fleet, trigger);
        self.freeze(&fleet, &mut problem);
        self.remember_homes(&mut problem);
        match pack::solve(&problem) {
            Ok(solution) => {
                let raw_consumers = raw_consumers(problem, &solution);
                self.decided(now, trigger, solution, raw_consumers, effects);
            }
            Err(error) => {
                self.demand.decided(now, false);
                effects.push(Effect::Note(Note::PlanInfeasible(error)));
            }
        }
    }

    /// A partition without an owner belongs best where it was: a consumer that was restarted has its connections, and
    /// other partitions stay where they are.
    fn remember_homes(&self, problem: &mut pack::Problem) {
        for (partition, item) in &mut problem.items {
            if item.home.is_none() {
                let last = self.handovers.get(partition).map(|handover| handover.from);
                let last = last.or_else(|| self.homes.get(partition).copied());
                item.home = last.filter(|consumer| {
                    !problem.unavailable.contains(consumer) && !problem.evacuate.contains(consumer)
                });
            }
        }
    }

    fn decided(
        &mut self,
        now: Instant,
        trigger: demand::Trigger,
        solution: Solution,
        raw_consumers: u32,
        effects: &mut Vec<Effect>,
    ) {
        let moves = self.moves_to(&solution);
        let acts = !moves.is_empty() || self.revokes(&solution);
        self.demand.decided(now, acts);
        if self.settings.mode == Mode::Observe {
            self.planning.imagined.clone_from(&solution.assignment);
            self.demand.settled(now);
        } else if acts {
            self.append_plan(now, trigger, &solution, moves.clone(), effects);
        }
        let explanation = Explanation { trigger, solution, raw_consumers, moves };
        self.planning.last = Some(explanation.clone());
        effects.push(Effect::Note(Note::Decided(explanation)));
    }

    /// True when the last plan still wants a partition where the solution does not: a plan that names it no more lets it
    /// stay where it is, where otherwise the last one would never be done.
    fn revokes(&self, solution: &Solution) -> bool {
        let plan = planned(&self.fold).into_iter();
        let mut pending = plan.filter(|(at, to)| to.is_some() && self.fold.consumer_of(*at) != *to);
        pending.any(|(partition, to)| {
            solution.assignment.get(&partition).is_some_and(|stays| Some(*stays) != to)
        })
    }

    /// What must change so that each partition is where the solution wants it.
    fn moves_to(&self, solution: &Solution) -> Vec<Move> {
        let reasons: BTreeMap<_, _> =
            solution.moves.iter().map(|change| (change.partition, change.reason.name())).collect();
        let current = |partition| match self.settings.mode {
            Mode::Own => self.fold.consumer_of(partition),
            Mode::Observe => self.planning.imagined.get(&partition).copied(),
        };
        let changed = |(partition, to): (&PartitionId, &ConsumerNumber)| {
            let from = current(*partition);
            let reason = reasons.get(partition).copied().unwrap_or("unassigned");
            (from != Some(*to)).then(|| Move {
                partition: *partition,
                from,
                to: Some(*to),
                reason: reason.into(),
            })
        };
        solution.assignment.iter().filter_map(changed).take(PLAN_SIZE).collect()
    }

    fn append_plan(
        &mut self,
        now: Instant,
        trigger: demand::Trigger,
        solution: &Solution,
        moves: Vec<Move>,
        effects: &mut Vec<Effect>,
    ) {
        let plan = PlanBody {
            parent: self.fold.plan().map(|plan| plan.at),
            trigger: Some(trigger.into()),
            moves,
            cost_permille: solution.report.r_score_permille,
            consumers: solution.report.consumers_after,
            lower_bound: solution.report.lower_bound.consumers(),
        };
        if let Some(office) = &mut self.office {
            office.outbox.append(now, |seal| Record::Plan { seal, plan }, effects);
        }
    }
}

/// How many consumers a solution would have without limits.
fn raw_consumers(mut problem: pack::Problem, solution: &Solution) -> u32 {
    let limited = solution.report.consumers_after;
    let bound_by = &solution.report.bound_by;
    if ![Binding::MaxConsumers, Binding::MinConsumers].iter().any(|it| bound_by.contains(it)) {
        return limited;
    }
    problem.min_consumers = 1;
    problem.max_consumers = u32::try_from(problem.items.len()).unwrap_or(u32::MAX).max(limited);
    pack::solve(&problem).map_or(limited, |raw| raw.report.consumers_after)
}
