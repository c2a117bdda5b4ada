//! Offsets of consumer groups and of logs, on the thin layer.
//!
//! Commits are made as an admin client makes them: without a member id, which a coordinator accepts only for a group
//! that has no members.

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
use tidegate_runtime::ports::{Bound, Class, Error, Offsets};

use crate::cluster::{Cluster, Retry, topic_name};
use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors::{Right, refused};
use crate::list_offsets::{self, Isolation};

/// How long a coordinator is looked for: the first group of a new cluster waits for the topic of offsets to be made.
const PATIENCE: Duration = Duration::from_secs(20);

/// The highest versions that name one group and topics by name, which every broker from 2.8 on speaks.
const FIND_VERSION: i16 = 3;
const FETCH_VERSION: i16 = 7;
const COMMIT_VERSION: i16 = 8;

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

    async fn try_committed(
        &self,
        group: &str,
        partitions: &BTreeMap<&str, Vec<u32>>,
    ) -> Result<BTreeMap<(String, u32), u64>, Error> {
        let topic = |(name, numbers): (&&str, &Vec<u32>)| {
            OffsetFetchRequestTopic::default()
                .with_name(topic_name(name))
                .with_partition_indexes(numbers.iter().map(|number| signed(*number)).collect())
        };
        let request = OffsetFetchRequest::default()
            .with_group_id(group_id(group))
            .with_topics(Some(partitions.iter().map(topic).collect()))
            .with_require_stable(false);
        let connection = self.coordinator(group).await?;
        let version = connection.version::<OffsetFetchRequest>(FETCH_VERSION)?;
        let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let doing = format!("failed to fetch the offsets of group {group}");
            return Err(refused(doing, Right::group("Describe", group), code, None));
        }
        let found = found_of(group, answer)?;
        let wanted = partitions.iter().flat_map(|(topic, numbers)| {
            numbers.iter().map(|number| ((*topic).to_owned(), *number))
        });
        let mut commits = BTreeMap::new();
        for key in wanted {
            let Some(offset) = found.get(&key) else {
                let text = format!("group {group}: no answer for partition {}-{}", key.0, key.1);
                return Err(Error::new(Class::Transient, text));
            };
            // -1 says that there is no commit.
            if let Ok(offset) = u64::try_from(*offset) {
                commits.insert(key, offset);
            }
        }
        Ok(commits)
    }

    async fn try_commit(
        &self,
        group: &str,
        offsets: &BTreeMap<(String, u32), u64>,
    ) -> Result<(), Error> {
        let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for ((topic, number), offset) in offsets {
            let partition = OffsetCommitRequestPartition::default()
                .with_partition_index(signed(*number))
                .with_committed_offset(i64::try_from(*offset).unwrap_or(i64::MAX))
                .with_committed_metadata(Some(StrBytes::from_static_str("")));
            topics.entry(topic).or_default().push(partition);
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

fn found_of(
    group: &str,
    answer: OffsetFetchResponse,
) -> Result<BTreeMap<(String, u32), i64>, Error> {
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
                found.insert((name.to_owned(), number), partition.committed_offset);
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
        partitions: &[(String, u32)],
    ) -> Result<BTreeMap<(String, u32), u64>, Error> {
        let mut wanted: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
        for (topic, number) in partitions {
            wanted.entry(topic).or_default().push(*number);
        }
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut retry = Retry::within(PATIENCE);
        loop {
            match self.try_committed(group, &wanted).await {
                Err(error) if retry.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn commit(
        &self,
        group: &str,
        offsets: &BTreeMap<(String, u32), u64>,
    ) -> Result<(), Error> {
        if offsets.is_empty() {
            return Ok(());
        }
        let mut retry = Retry::within(PATIENCE);
        loop {
            match self.try_commit(group, offsets).await {
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
        let isolation = Isolation::ReadUncommitted;
        let found =
            list_offsets::of_partitions(&self.cluster, partitions, which, isolation).await?;
        if found.len() == partitions.len() {
            return Ok(found);
        }
        // Leaders that had moved are known by now.
        let missing: Vec<_> =
            partitions.iter().filter(|key| !found.contains_key(*key)).cloned().collect();
        let mut found = found;
        found.extend(list_offsets::of_partitions(&self.cluster, &missing, which, isolation).await?);
        Ok(found)
    }
}
