//! The answer to a Metadata request, in the terms of this crate.

use std::collections::BTreeMap;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::MetadataResponse;
use kafka_protocol::messages::fetch_request::FetchTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponsePartition, MetadataResponseTopic,
};
use tidegate_core::ids::TopicId;
use uuid::Uuid;

use crate::transport::Address;

/// From this version on a fetch names topics by id, so that a topic of the same name is not taken for this one.
pub(crate) const FETCH_BY_ID: i16 = 13;

/// From this version on a fetch names the leader's epoch: a leader that was replaced and does not know it would else answer
/// that what was read from its successor is beyond its end.
pub(crate) const FETCH_WITH_EPOCH: i16 = 9;

/// The cluster at one moment, as one broker saw it.
#[derive(Debug)]
pub(crate) struct Metadata {
    /// Brokers by id.
    pub(crate) brokers: BTreeMap<i32, Address>,
    /// The broker that administration goes to.
    pub(crate) controller: i32,
    /// The topics asked for, or why there is no answer about one.
    pub(crate) topics: BTreeMap<String, Result<TopicMeta, ResponseError>>,
    /// Another broker has told of later leaders before.
    pub(crate) behind: bool,
}

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicMeta {
    pub(crate) id: TopicId,
    /// True for the cluster's own topics.
    pub(crate) internal: bool,
    pub(crate) partitions: BTreeMap<u32, PartitionMeta>,
}

/// A partition.
#[derive(Clone, Debug)]
pub(crate) struct PartitionMeta {
    /// `None` while it has none.
    pub(crate) leader: Option<i32>,
    /// Counts the leaders. Told with every request, so that one that was replaced and does not know it cannot answer.
    pub(crate) leader_epoch: i32,
    /// Number of replicas.
    pub(crate) replicas: u16,
}

/// The part of a fetch that names a topic by its id.
pub(crate) fn by_id(topic: TopicId) -> FetchTopic {
    FetchTopic::default().with_topic_id(Uuid::from_bytes(topic.0))
}

impl Metadata {
    pub(crate) fn from_answer(answer: MetadataResponse) -> Self {
        let brokers = answer.brokers.into_iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            Some((broker.node_id.0, Address { host: broker.host.to_string(), port }))
        });
        let topics = answer.topics.into_iter().filter_map(|topic| {
            let name = topic.name.as_ref()?.to_string();
            let error = ResponseError::try_from_code(topic.error_code);
            Some((name, error.map_or_else(|| Ok(TopicMeta::from_answer(topic)), Err)))
        });
        Self {
            brokers: brokers.collect(),
            controller: answer.controller_id.0,
            topics: topics.collect(),
            behind: false,
        }
    }
}

impl TopicMeta {
    fn from_answer(topic: MetadataResponseTopic) -> Self {
        let partition = |partition: MetadataResponsePartition| {
            let number = u32::try_from(partition.partition_index).ok()?;
            let leader = Some(partition.leader_id.0).filter(|leader| *leader >= 0);
            let replicas = u16::try_from(partition.replica_nodes.len()).unwrap_or(u16::MAX);
            let leader_epoch = partition.leader_epoch;
            Some((number, PartitionMeta { leader, leader_epoch, replicas }))
        };
        Self {
            id: TopicId(topic.topic_id.into_bytes()),
            internal: topic.is_internal,
            partitions: topic.partitions.into_iter().filter_map(partition).collect(),
        }
    }

    /// The partitions with their numbers, in order.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (u32, &PartitionMeta)> {
        self.partitions.iter().map(|(number, partition)| (*number, partition))
    }

    /// Number of partitions.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.partitions.len()).unwrap_or(u32::MAX)
    }

    /// True when every partition has a leader.
    pub(crate) fn is_led(&self) -> bool {
        self.partitions.values().all(|partition| partition.leader.is_some())
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::MetadataResponseBroker;
    use kafka_protocol::messages::{BrokerId, TopicName};
    use kafka_protocol::protocol::StrBytes;
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn broker() -> impl Strategy<Value = MetadataResponseBroker> {
        (any::<i32>(), any::<i32>(), ".{0,9}").prop_map(|(id, port, host)| {
            MetadataResponseBroker::default()
                .with_node_id(BrokerId(id))
                .with_port(port)
                .with_host(StrBytes::from_string(host))
        })
    }

    fn topic() -> impl Strategy<Value = MetadataResponseTopic> {
        let partition = (any::<i32>(), any::<i32>()).prop_map(|(index, leader)| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(BrokerId(leader))
        });
        let name = option::of(".{0,9}".prop_map(|name| TopicName(StrBytes::from_string(name))));
        (name, any::<i16>(), vec(partition, 0..6)).prop_map(|(name, code, partitions)| {
            MetadataResponseTopic::default()
                .with_name(name)
                .with_error_code(code)
                .with_partitions(partitions)
        })
    }

    proptest! {
        #[test]
        fn whatever_numbers_a_broker_tells_are_taken_or_left_out(
            brokers in vec(broker(), 0..5),
            topics in vec(topic(), 0..5),
        ) {
            let answer =
                MetadataResponse::default().with_brokers(brokers).with_topics(topics.clone());
            let metadata = Metadata::from_answer(answer);
            for topic in metadata.topics.values().flatten() {
                let count = usize::try_from(topic.count()).unwrap();
                prop_assert!(topics.iter().any(|told| told.partitions.len() >= count));
                let leaders = topic.partitions.values().filter_map(|partition| partition.leader);
                prop_assert!(leaders.into_iter().all(|leader| leader >= 0));
            }
        }
    }
}
