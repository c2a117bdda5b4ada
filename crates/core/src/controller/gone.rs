//! Topics that are gone: deleted, or made again under the same name, which makes them other topics.
//!
//! That nobody measures a topic any more proves nothing. It is a reason to ask, and only the answer that the topic does not
//! exist takes its partitions from their owners: otherwise they would be read, and held against every scale-in, for ever.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use super::io::{Effect, Note};
use super::machine::Controller;
use super::planning::{PLAN_SIZE, is_done, planned};
use crate::ids::{Instant, PartitionId, TopicId};
use crate::ledger::{Move, PlanBody, Record, Trigger};

/// Pause between two questions about topics that nobody measures: they cost a request, and nothing waits for them.
const ASK_PAUSE: Duration = Duration::from_secs(15);

/// What is known of topics that may be gone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Gone {
    topics: BTreeSet<TopicId>,
    /// Answered once to be gone: one broker may be behind the others.
    suspected: BTreeSet<TopicId>,
    asked: Option<Instant>,
}

impl Gone {
    pub(super) fn holds(&self, partition: PartitionId) -> bool {
        self.topics.contains(&partition.topic)
    }

    /// Whatever was answered: it is there.
    pub(super) fn is_measured(&mut self, topic: TopicId) {
        self.topics.remove(&topic);
        self.suspected.remove(&topic);
    }
}

impl Controller {
    /// True for a topic that is known not to exist any more.
    pub fn is_gone(&self, topic: TopicId) -> bool {
        self.gone.topics.contains(&topic)
    }

    /// Asks about topics with owned partitions that have not been measured for a while.
    pub(super) fn watch_topics(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.gone.asked.is_some_and(|asked| now.since(asked) < ASK_PAUSE) {
            return;
        }
        let stale_after = self.settings.demand.stale_after;
        let measured: BTreeSet<TopicId> = self
            .demand
            .table()
            .iter()
            .filter(|(_, rate)| now.since(rate.updated) <= stale_after)
            .map(|(partition, _)| partition.topic)
            .collect();
        let owned = self.fold.partitions().filter(|(_, ownership)| ownership.owner().is_some());
        let doubtful: BTreeSet<TopicId> = owned
            .map(|(partition, _)| partition.topic)
            .filter(|topic| !measured.contains(topic) && !self.gone.topics.contains(topic))
            .collect();
        self.gone.asked = Some(now);
        if !doubtful.is_empty() {
            effects.push(Effect::CheckTopics(doubtful));
        }
    }

    /// These topics were not found. What is not found twice in a row does not exist any more.
    pub(super) fn topics_gone(&mut self, missing: &BTreeSet<TopicId>, effects: &mut Vec<Effect>) {
        let suspected = core::mem::take(&mut self.gone.suspected);
        let gone: BTreeSet<_> = missing.intersection(&suspected).copied().collect();
        self.gone.suspected = missing.difference(&gone).copied().collect();
        for topic in &gone {
            self.demand.forget(*topic);
        }
        self.gone.topics.extend(gone.iter().copied());
        self.dirty = true;
        if !gone.is_empty() {
            effects.push(Effect::Note(Note::TopicsGone(gone)));
        }
    }

    /// Plans the partitions of topics that are gone onto nobody. What the last plan still has to do stays in it.
    pub(super) fn drop_gone(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.gone.topics.is_empty() {
            return;
        }
        let plan = planned(&self.fold);
        let kept = |partition: PartitionId| {
            let owned = self.fold.ownership(partition).owner().is_some();
            owned && self.gone.holds(partition) && plan.get(&partition) != Some(&None)
        };
        let mut moves: Vec<Move> = self
            .fold
            .partitions()
            .filter(|(partition, _)| kept(*partition))
            .take(PLAN_SIZE / 2)
            .map(|(partition, _)| Move {
                partition,
                from: self.fold.consumer_of(partition),
                to: None,
                reason: "topic-gone".into(),
            })
            .collect();
        let Some(office) = self.office.as_mut().filter(|_| !moves.is_empty()) else { return };
        if office.outbox.holds_plan() {
            return;
        }
        let last = self.fold.plan();
        let unfinished = last
            .into_iter()
            .flat_map(|plan| &plan.body.moves)
            .filter(|change| !self.gone.holds(change.partition) && !is_done(&self.fold, change));
        moves.extend(unfinished.take(PLAN_SIZE / 2).cloned());
        let body = PlanBody {
            parent: last.map(|plan| plan.at),
            trigger: Some(Trigger::TopicGone),
            consumers: last.map_or(0, |plan| plan.body.consumers),
            lower_bound: last.map_or(0, |plan| plan.body.lower_bound),
            moves,
            cost_permille: 0,
        };
        office.outbox.append(now, |seal| Record::Plan { seal, plan: body }, effects);
    }
}
