//! Partitions that are taken from their owners though nobody is ready to have them: those of topics that are gone, and those
//! of a consumer that must be left when no other may be started beside it.
//!
//! Make before break is the rule; a consumer that is to be left keeps what finds no room until the evacuation's deadline. Then
//! its partitions are given up, so that it can go and another can take its place.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::io::Effect;
use super::machine::Controller;
use super::planning::{PLAN_SIZE, Targets, is_done};
use crate::ids::{ConsumerNumber, Instant, PartitionId};
use crate::ledger::{Move, PlanBody, Record, Trigger};
use crate::pack::{Binding, MoveReason};

/// Consumers that partitions must leave, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Leaving(BTreeMap<ConsumerNumber, Instant>);

impl Leaving {
    pub(super) fn consumers(&self) -> BTreeSet<ConsumerNumber> {
        self.0.keys().copied().collect()
    }

    pub(super) fn contains(&self, consumer: ConsumerNumber) -> bool {
        self.0.contains_key(&consumer)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// These are to be left, and no others.
    pub(super) fn note(&mut self, now: Instant, consumers: &BTreeSet<ConsumerNumber>) {
        self.0.retain(|consumer, _| consumers.contains(consumer));
        for consumer in consumers {
            self.0.entry(*consumer).or_insert(now);
        }
    }
}

impl Controller {
    /// Plans onto nobody what must not wait for a new owner. What the last plan still has to do stays in it.
    pub(super) fn withdraw(&mut self, now: Instant, plan: &Targets, effects: &mut Vec<Effect>) {
        if self.gone.is_empty() && self.leaving.0.is_empty() {
            return;
        }
        // What moves to somebody else by the plan is on its way.
        let stays = |partition: PartitionId, owner| {
            plan.get(&partition).is_none_or(|to| *to == Some(owner))
        };
        let mut trigger = Trigger::TopicGone;
        let mut moves = Vec::new();
        for (partition, owner) in self.fold.owners() {
            let reason = if self.gone.holds(partition) {
                "topic-gone"
            } else if !self.settings.demand.paused
                && self.is_overdue(now, owner)
                && stays(partition, owner)
            {
                trigger = Trigger::Spec;
                MoveReason::Evacuated.name()
            } else {
                continue;
            };
            if plan.get(&partition) != Some(&None) && moves.len() < PLAN_SIZE / 2 {
                moves.push(Move { partition, from: Some(owner), to: None, reason: reason.into() });
            }
        }
        self.append_withdrawal(now, trigger, moves, effects);
    }

    /// True when a consumer should have been left by now, and is not because nobody has room.
    fn is_overdue(&self, now: Instant, owner: ConsumerNumber) -> bool {
        let late = |since: &Instant| now.since(*since) >= self.settings.evacuation_deadline;
        let last = self.planning.last.as_ref();
        let waits =
            last.is_some_and(|last| last.solution.report.bound_by.contains(&Binding::MaxSurge));
        waits && self.leaving.0.get(&owner).is_some_and(late)
    }

    fn append_withdrawal(
        &mut self,
        now: Instant,
        trigger: Trigger,
        mut moves: Vec<Move>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(office) = self.office.as_mut().filter(|_| !moves.is_empty()) else { return };
        if office.outbox.holds_plan() {
            return;
        }
        let named: BTreeSet<PartitionId> = moves.iter().map(|change| change.partition).collect();
        let last = self.fold.plan();
        let unfinished = last
            .into_iter()
            .flat_map(|plan| &plan.body.moves)
            .filter(|change| {
                !named.contains(&change.partition) && !self.gone.holds(change.partition)
            })
            .filter(|change| !is_done(&self.fold, change));
        moves.extend(unfinished.take(PLAN_SIZE / 2).cloned());
        let body = PlanBody {
            parent: last.map(|plan| plan.at),
            trigger: Some(trigger),
            consumers: last.map_or(0, |plan| plan.body.consumers),
            lower_bound: last.map_or(0, |plan| plan.body.lower_bound),
            moves,
            cost_permille: 0,
        };
        office.outbox.append(now, |seal| Record::Plan { seal, plan: body }, effects);
    }
}
