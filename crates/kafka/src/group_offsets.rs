//! Offsets of consumer groups and of logs, on the thin layer.
//!
//! Commits are made as an admin client makes them: without a member id, which a coordinator accepts only for a group
//! that has no members. Kafka keeps them by the topic's name: the topic's id is written beside each, so that the commit
//! of a topic that was deleted is not taken for one of its successor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::{
    FindCoordinatorRequest, GroupId, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse,
};
use kafka_protocol::protocol::StrBytes;
use tidegate_core::ids::{PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Bound, Class, Error, Offsets, TopicPartition};

use crate::cluster::{Cluster, Retry, topic_name};
use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors::{Right, refused};
use crate::list_offsets::{self, Isolation, NONE_SO_NEW};

/// How long a coordinator is looked for: the first group of a new cluster waits for the topic of offsets to be made.
const PATIENCE: Duration = Duration::from_secs(20);

/// The highest versions that name one group and topics by name, which every broker from 2.8 on speaks.
const FIND_VERSION: i16 = 3;
const FETCH_VERSION: i16 = 7;
const COMMIT_VERSION: i16 = 8;

/// What the metadata of a commit begins with; the topic's id follows.
const TOPIC_ID: &str = "topic-id=";

/// Offsets in one cluster.
#[derive(Clone, Debug)]
pub(crate) struct KafkaOffsets {
    cluster: Arc<Cluster>,
}

// === impl KafkaOffsets ===

impl KafkaOffsets {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    async fn coordinator(&self, group: &str) -> Result<Arc<Connection>, Error> {
        let request = FindCoordinatorRequest::default()
            .with_key(StrBytes::from_string(group.to_owned()))
            .with_key_type(0);
        let connection = self.cluster.any().await?;
        let version = connection.version::<FindCoordinatorRequest>(FIND_VERSION)?;
        let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let doing = format!("failed to find the coordinator of group {group}");
            let message = answer.error_message.as_ref().map(StrBytes::as_str);
            return Err(refused(doing, Right::group("Describe", group), code, message));
        }
        let id = answer.node_id.0;
        if let Ok(connection) = self.cluster.broker(id).await {
            return Ok(connection);
        }
        // The metadata may be older than the coordinator.
        self.cluster.metadata(Some(&[])).await?;
        self.cluster.broker(id).await
    }

    /// Asks a second time for what had no answer: leaders that had moved are known by then.
    async fn answers(
        &self,
        partitions: &[(String, u32)],
        which: Bound,
    ) -> Result<BTreeMap<(String, u32), u64>, Error> {
        let isolation = Isolation::ReadUncommitted;
        let mut found =
            list_offsets::of_partitions(&self.cluster, partitions, which, isolation).await?;
        let missing: Vec<_> =
            partitions.iter().filter(|key| !found.contains_key(*key)).cloned().collect();
        if !missing.is_empty() {
            let more = list_offsets::of_partitions(&self.cluster, &missing, which, isolation);
            found.extend(more.await?);
        }
        Ok(found)
    }

    async fn try_committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<PartitionId, Position>, Error> {
        let mut topics: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(&partition.topic).or_default().push(partition.id.number);
        }
        let topic = |(name, numbers): (&&str, &Vec<u32>)| {
            OffsetFetchRequestTopic::default()
                .with_name(topic_name(name))
                .with_partition_indexes(numbers.iter().map(|number| signed(*number)).collect())
        };
        let request = OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(Some(topics.iter().map(topic).collect()))
            .with_require_stable(false);
        let connection = self.coordinator(group).await?;
        let version = connection.version::<OffsetFetchRequest>(FETCH_VERSION)?;
        let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let doing = format!("failed to fetch the offsets of group {group}");
            return Err(refused(doing, Right::group("Describe", group), code, None));
        }
        let found = found_of(group, answer)?;
        let mut commits = BTreeMap::new();
        for partition in partitions {
            let Some(found) = found.get(&(partition.topic.clone(), partition.id.number)) else {
                let text = format!("group {group}: no answer for partition {partition}");
                return Err(Error::new(Class::Transient, text));
            };
            let of_another = found.topic.is_some_and(|topic| topic != partition.id.topic);
            // -1 says that there is no commit.
            if let (Ok(offset), false) = (u64::try_from(found.offset), of_another) {
                commits.insert(partition.id, Position(offset));
            }
        }
        Ok(commits)
    }

    async fn try_commit(
        &self,
        group: &str,
        positions: &BTreeMap<TopicPartition, Position>,
    ) -> Result<(), Error> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (partition, position) in positions {
            let metadata = format!("{TOPIC_ID}{}", partition.id.topic);
            let commit = OffsetCommitRequestPartition::default()
                .with_partition_index(signed(partition.id.number))
                .with_committed_offset(i64::try_from(position.0).unwrap_or(i64::MAX))
                .with_committed_metadata(Some(StrBytes::from_string(metadata)));
            topics.entry(&partition.topic).or_default().push(commit);
        }
        let topic = |(name, partitions): (&str, Vec<OffsetCommitRequestPartition>)| {
            OffsetCommitRequestTopic::default()
                .with_name(topic_name(name))
                .with_partitions(partitions)
        };
        let request = OffsetCommitRequest::default()
            .with_group_id(group_id(group))
            .with_topics(topics.into_iter().map(topic).collect());
        let connection = self.coordinator(group).await?;
        let version = connection.version::<OffsetCommitRequest>(COMMIT_VERSION)?;
        let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
        for topic in answer.topics {
            for partition in topic.partitions {
                let Some(code) = ResponseError::try_from_code(partition.error_code) else {
                    continue;
                };
                let name = topic.name.as_str();
                let right = if code == ResponseError::TopicAuthorizationFailed {
                    Right::topic("Read", name)
                } else {
                    Right::group("Read", group)
                };
                let doing = format!(
                    "failed to commit partition {name}-{} of group {group}: \
                     a commit is refused while the group has members",
                    partition.partition_index
                );
                return Err(refused(doing, right, code, None));
            }
        }
        Ok(())
    }
}

/// A commit as it is found.
#[derive(Clone, Copy, Debug)]
struct Found {
    offset: i64,
    /// The topic that it was made for, where this layer made it.
    topic: Option<TopicId>,
}

fn found_of(
    group: &str,
    answer: OffsetFetchResponse,
) -> Result<BTreeMap<(String, u32), Found>, Error> {
    let mut found = BTreeMap::new();
    for topic in answer.topics {
        for partition in topic.partitions {
            let name = topic.name.as_str();
            if let Some(code) = ResponseError::try_from_code(partition.error_code) {
                let doing = format!(
                    "failed to fetch the offset of partition {name}-{} of group {group}",
                    partition.partition_index
                );
                return Err(refused(doing, Right::topic("Describe", name), code, None));
            }
            if let Ok(number) = u32::try_from(partition.partition_index) {
                let metadata = partition.metadata.as_ref().map_or("", StrBytes::as_str);
                let topic = metadata.strip_prefix(TOPIC_ID).and_then(TopicId::parse);
                let commit = Found { offset: partition.committed_offset, topic };
                found.insert((name.to_owned(), number), commit);
            }
        }
    }
    Ok(found)
}

fn group_id(group: &str) -> GroupId {
    GroupId(StrBytes::from_string(group.to_owned()))
}

fn signed(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[async_trait]
impl Offsets for KafkaOffsets {
    async fn committed(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<PartitionId, Position>, Error> {
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut retry = Retry::within(PATIENCE);
        loop {
            match self.try_committed(group, partitions).await {
                Err(error) if retry.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn commit(
        &self,
        group: &str,
        positions: &BTreeMap<TopicPartition, Position>,
    ) -> Result<(), Error> {
        if positions.is_empty() {
            return Ok(());
        }
        let mut retry = Retry::within(PATIENCE);
        loop {
            match self.try_commit(group, positions).await {
                Err(error) if retry.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn bounds(
        &self,
        partitions: &[(String, u32)],
        which: Bound,
    ) -> Result<BTreeMap<(String, u32), u64>, Error> {
        if !matches!(which, Bound::Timestamp(_)) {
            return self.answers(partitions, which).await;
        }
        // The end first: a record that is new enough and comes in between stands above it.
        let mut ends = self.answers(partitions, Bound::Latest).await?;
        let found = self.answers(partitions, which).await?;
        ends.retain(|key, _| found.contains_key(key));
        ends.extend(found.into_iter().filter(|(_, offset)| *offset != NONE_SO_NEW));
        // Where the end has no answer there is none, either.
        Ok(ends)
    }
}
