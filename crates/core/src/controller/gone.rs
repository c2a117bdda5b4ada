//! Topics that are gone: deleted, made again under the same name, which makes them other topics, or of no interest any more.
//!
//! That nobody measures a topic any more proves nothing. It is a reason to ask, and only the answer that the topic does not
//! exist takes its partitions from their owners: otherwise they would be read, and held against every scale-in, for ever.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

use super::io::{Effect, Note};
use super::machine::Controller;
use crate::ids::{Instant, PartitionId, TopicId};

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
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

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

    /// These topics are not to be read any more.
    pub(super) fn topics_left(&mut self, topics: BTreeSet<TopicId>) {
        for topic in &topics {
            self.demand.forget(*topic);
        }
        self.gone.topics.extend(topics);
        self.dirty = true;
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
}
