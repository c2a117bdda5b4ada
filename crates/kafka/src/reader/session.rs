//! What one broker is asked for, as a fetch session: it remembers the partitions, and a request names those that have changed.
//!
//! A broker may keep no session: then every request names all partitions, and begins each time behind those that gave
//! records last, so that none is kept from being read by others.

use std::collections::BTreeMap;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use tidegate_core::ids::{PartitionId, TopicId};
use uuid::Uuid;

use super::entry::Ask;
use crate::metadata::by_id;

/// Only records of transactions that were committed, and those of none.
const READ_COMMITTED: i8 = 1;

/// How much and how long a fetch may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long it may be held back when there is nothing to return.
    pub(super) wait_ms: i32,
    pub(super) bytes: i32,
    pub(super) partition_bytes: i32,
}

/// A fetch session.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// As the broker numbers it; 0 while there is none.
    id: i32,
    epoch: i32,
    /// What was asked last of each partition: what an answer is about.
    asked: BTreeMap<PartitionId, Ask>,
    /// What the next request says in addition; `None` where a partition is not asked for any more.
    changes: BTreeMap<PartitionId, Option<Ask>>,
    /// The last partition that gave records.
    gave: Option<PartitionId>,
}

impl Session {
    /// What was asked of a partition by the last request.
    pub(super) fn asked(&self, id: PartitionId) -> Option<&Ask> {
        self.asked.get(&id)
    }

    /// True if a partition is asked for by the last request as it is now wanted.
    pub(super) fn covers(&self, id: PartitionId) -> bool {
        self.asked.contains_key(&id) && !self.changes.contains_key(&id)
    }

    /// The next request asks this of a partition.
    pub(super) fn ask(&mut self, id: PartitionId, ask: Ask) {
        if self.asked.get(&id) == Some(&ask) {
            self.changes.remove(&id);
        } else {
            self.changes.insert(id, Some(ask));
        }
    }

    /// The next request does not ask for a partition.
    pub(super) fn forget(&mut self, id: PartitionId) {
        if self.asked.contains_key(&id) {
            self.changes.insert(id, None);
        } else {
            self.changes.remove(&id);
        }
    }

    /// A partition gave records.
    pub(super) fn gave(&mut self, id: PartitionId) {
        self.gave = Some(id);
    }

    /// True if the next request would ask for nothing.
    pub(super) fn is_empty(&self) -> bool {
        let lost = self.changes.values().filter(|change| change.is_none()).count();
        self.asked.len() == lost && self.changes.values().all(Option::is_none)
    }

    /// The next request begins another session, and ends this one if the broker still knows it.
    pub(super) fn reset(&mut self) {
        self.epoch = 0;
    }

    /// Notes which session an answer is of.
    pub(super) fn answered(&mut self, id: i32) {
        (self.id, self.epoch) = if id == 0 { (0, 0) } else { (id, following(self.epoch)) };
    }

    /// The next request.
    pub(super) fn request(&mut self, limits: Limits) -> FetchRequest {
        let mut forgotten = BTreeMap::<TopicId, Vec<i32>>::new();
        let mut changed = BTreeMap::new();
        for (id, change) in std::mem::take(&mut self.changes) {
            if let Some(ask) = change {
                self.asked.insert(id, ask);
                changed.insert(id, ask);
            } else {
                self.asked.remove(&id);
                forgotten.entry(id.topic).or_default().push(number(id));
            }
        }
        let request = base(limits).with_session_id(self.id).with_session_epoch(self.epoch);
        if self.epoch == 0 {
            let behind = |id: &&PartitionId| self.gave.is_none_or(|gave| **id > gave);
            let (first, last): (Vec<_>, Vec<_>) = self.asked.iter().partition(|(id, _)| behind(id));
            return request.with_topics(topics(first.into_iter().chain(last), limits));
        }
        let forgotten = forgotten.into_iter().map(|(topic, partitions)| {
            ForgottenTopic::default()
                .with_topic_id(Uuid::from_bytes(topic.0))
                .with_partitions(partitions)
        });
        request
            .with_topics(topics(changed.iter(), limits))
            .with_forgotten_topics_data(forgotten.collect())
    }
}

/// A request outside of all sessions.
pub(super) fn lone(asks: &BTreeMap<PartitionId, Ask>, limits: Limits) -> FetchRequest {
    base(limits).with_session_epoch(-1).with_topics(topics(asks.iter(), limits))
}

fn base(limits: Limits) -> FetchRequest {
    FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(limits.wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(limits.bytes)
        .with_isolation_level(READ_COMMITTED)
}

/// Neighbours of one topic are told together.
fn topics<'a>(
    asks: impl Iterator<Item = (&'a PartitionId, &'a Ask)>,
    limits: Limits,
) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    let mut last = None;
    for (id, ask) in asks {
        if last != Some(id.topic) {
            last = Some(id.topic);
            topics.push(by_id(id.topic));
        }
        if let Some(topic) = topics.last_mut() {
            topic.partitions.push(partition(*id, ask, limits));
        }
    }
    topics
}

fn partition(id: PartitionId, ask: &Ask, limits: Limits) -> FetchPartition {
    FetchPartition::default()
        .with_partition(number(id))
        .with_fetch_offset(i64::try_from(ask.next).unwrap_or(i64::MAX))
        .with_current_leader_epoch(ask.leader_epoch)
        .with_last_fetched_epoch(ask.last_epoch)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(limits.partition_bytes)
}

fn number(id: PartitionId) -> i32 {
    i32::try_from(id.number).unwrap_or(i32::MAX)
}

/// Epochs of a session go on behind the largest with 1: 0 begins another session.
fn following(epoch: i32) -> i32 {
    epoch.checked_add(1).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::super::entry::Generation;
    use super::*;

    const LIMITS: Limits = Limits { wait_ms: 1, bytes: 2, partition_bytes: 3 };

    fn id(topic: u8, number: u32) -> PartitionId {
        PartitionId { topic: TopicId([topic; 16]), number }
    }

    fn ask(next: u64) -> Ask {
        Ask { generation: Generation::FIRST, next, leader: 1, leader_epoch: 4, last_epoch: -1 }
    }

    /// Topic, partition and offset of what a request names, in order; and what it forgets.
    fn named(request: &FetchRequest) -> (Vec<(u8, i32, i64)>, usize) {
        let topics = request.topics.iter().flat_map(|topic| {
            let id = topic.topic_id.as_bytes()[0];
            topic.partitions.iter().map(move |part| (id, part.partition, part.fetch_offset))
        });
        let forgotten = request.forgotten_topics_data.iter();
        (topics.collect(), forgotten.map(|topic| topic.partitions.len()).sum())
    }

    #[test]
    fn a_session_names_what_has_changed_and_begins_again_with_all() {
        let mut session = Session::default();
        assert!(session.is_empty());
        session.ask(id(1, 0), ask(5));
        session.ask(id(1, 1), ask(6));
        session.ask(id(2, 0), ask(7));
        let first = session.request(LIMITS);
        assert_eq!((first.session_id, first.session_epoch), (0, 0));
        assert_eq!(named(&first), (vec![(1, 0, 5), (1, 1, 6), (2, 0, 7)], 0));
        session.answered(77);
        let nothing = session.request(LIMITS);
        assert_eq!((nothing.session_id, nothing.session_epoch), (77, 1));
        assert_eq!(named(&nothing), (vec![], 0));
        session.answered(77);
        session.ask(id(1, 1), ask(9));
        session.forget(id(2, 0));
        assert_eq!(session.asked(id(1, 1)).map(|ask| ask.next), Some(6), "until it is sent");
        assert!(session.covers(id(1, 0)) && !session.covers(id(1, 1)));
        let second = session.request(LIMITS);
        assert_eq!((named(&second), second.session_epoch), ((vec![(1, 1, 9)], 1), 2));
        session.reset();
        let again = session.request(LIMITS);
        assert_eq!((again.session_id, again.session_epoch), (77, 0));
        assert_eq!(named(&again), (vec![(1, 0, 5), (1, 1, 9)], 0));
        session.forget(id(1, 0));
        session.forget(id(1, 1));
        assert!(session.is_empty());
    }

    #[test]
    fn without_sessions_who_gave_records_is_asked_last() {
        let mut session = Session::default();
        for number in 0..3 {
            session.ask(id(1, number), ask(0));
        }
        session.request(LIMITS);
        session.answered(0);
        session.gave(id(1, 1));
        let request = session.request(LIMITS);
        assert_eq!(request.session_epoch, 0);
        assert_eq!(named(&request).0, [(1, 2, 0), (1, 0, 0), (1, 1, 0)]);
    }

    #[test]
    fn a_change_that_is_taken_back_is_not_told() {
        let mut session = Session::default();
        session.ask(id(1, 0), ask(5));
        session.forget(id(1, 0));
        assert!(session.is_empty());
        session.ask(id(1, 0), ask(5));
        session.request(LIMITS);
        session.answered(7);
        session.forget(id(1, 0));
        session.ask(id(1, 0), ask(5));
        assert_eq!(named(&session.request(LIMITS)), (vec![], 0));
    }
}
