//! `OffsetCommit` and `OffsetFetch` for groups whose consumers assign themselves.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    GroupId, OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse,
};

use super::{Context, code, text, topic_name};
use crate::cluster::Committed;

/// The longest text that a client may leave beside an offset, as on Apache Kafka.
const MOST_METADATA: usize = 4096;
/// Since this version a request asks for several groups.
const MANY_GROUPS: i16 = 8;

pub(super) fn commit(cx: &mut Context<'_>, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let group = request.group_id.as_str();
    let member = request.generation_id_or_member_epoch >= 0;
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let result = if member {
                // A member of a group that has none.
                Err(ResponseError::UnknownMemberId)
            } else {
                commit_one(cx, group, topic.name.as_str(), asked)
            };
            OffsetCommitResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(&result))
        });
        OffsetCommitResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    OffsetCommitResponse::default().with_topics(topics.collect())
}

fn commit_one(
    cx: &mut Context<'_>,
    group: &str,
    topic: &str,
    asked: &OffsetCommitRequestPartition,
) -> Result<(), ResponseError> {
    cx.check_fault(topic, asked.partition_index)?;
    check_group(cx, group)?;
    cx.cluster.partition(topic, asked.partition_index)?;
    let metadata = asked.committed_metadata.as_ref();
    let metadata = metadata.map_or_else(String::new, ToString::to_string);
    if metadata.len() > MOST_METADATA {
        return Err(ResponseError::OffsetMetadataTooLarge);
    }
    let committed = Committed {
        offset: asked.committed_offset,
        leader_epoch: asked.committed_leader_epoch,
        metadata,
    };
    let groups = &mut cx.cluster.groups;
    groups.commit(group, topic, asked.partition_index, committed);
    Ok(())
}

fn check_group(cx: &Context<'_>, group: &str) -> Result<(), ResponseError> {
    match cx.cluster.nodes.coordinator(group) {
        _ if group.is_empty() => Err(ResponseError::InvalidGroupId),
        Some((node, _)) if node == cx.node => Ok(()),
        _ => Err(ResponseError::NotCoordinator),
    }
}

/// What is known of one partition.
#[derive(Debug)]
struct Found {
    index: i32,
    committed: Committed,
    code: i16,
}

/// The topics of one group, or why there are none.
type FoundTopics = Result<Vec<(String, Vec<Found>)>, ResponseError>;

pub(super) fn fetch(cx: &mut Context<'_>, request: &OffsetFetchRequest) -> OffsetFetchResponse {
    if cx.version >= MANY_GROUPS {
        let groups = request.groups.iter().map(|group| fetch_group(cx, group));
        return OffsetFetchResponse::default().with_groups(groups.collect());
    }
    let asked = request.topics.as_ref().map(|topics| {
        let topics = topics.iter();
        let topics = topics.map(|topic| (topic.name.to_string(), topic.partition_indexes.clone()));
        topics.collect::<Vec<_>>()
    });
    let found = find(cx, request.group_id.as_str(), asked);
    let failure = code(&found);
    let topics = found.unwrap_or_default().into_iter().map(|(name, found)| {
        let partition = |found: Found| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(found.index)
                .with_committed_offset(found.committed.offset)
                .with_committed_leader_epoch(found.committed.leader_epoch)
                .with_metadata(Some(text(found.committed.metadata)))
                .with_error_code(found.code)
        };
        OffsetFetchResponseTopic::default()
            .with_name(topic_name(&name))
            .with_partitions(found.into_iter().map(partition).collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect()).with_error_code(failure)
}

fn fetch_group(cx: &Context<'_>, group: &OffsetFetchRequestGroup) -> OffsetFetchResponseGroup {
    let asked = group.topics.as_ref().map(|topics| {
        let topics = topics.iter();
        let topics = topics.map(|topic| (topic.name.to_string(), topic.partition_indexes.clone()));
        topics.collect::<Vec<_>>()
    });
    let found = find(cx, group.group_id.as_str(), asked);
    let failure = code(&found);
    let topics = found.unwrap_or_default().into_iter().map(|(name, found)| {
        let partition = |found: Found| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(found.index)
                .with_committed_offset(found.committed.offset)
                .with_committed_leader_epoch(found.committed.leader_epoch)
                .with_metadata(Some(text(found.committed.metadata)))
                .with_error_code(found.code)
        };
        OffsetFetchResponseTopics::default()
            .with_name(topic_name(&name))
            .with_partitions(found.into_iter().map(partition).collect())
    });
    OffsetFetchResponseGroup::default()
        .with_group_id(GroupId(group.group_id.0.clone()))
        .with_topics(topics.collect())
        .with_error_code(failure)
}

/// The offsets asked for, or all that the group committed.
fn find(cx: &Context<'_>, group: &str, asked: Option<Vec<(String, Vec<i32>)>>) -> FoundTopics {
    cx.check_request_fault()?;
    check_group(cx, group)?;
    let everything = || {
        let topics = cx.cluster.groups.all_of(group).into_iter().flatten();
        let topics = topics.map(|(name, partitions)| {
            let indexes: Vec<i32> = partitions.keys().copied().collect();
            (name.clone(), indexes)
        });
        topics.collect()
    };
    let topics = asked.unwrap_or_else(everything).into_iter();
    let topics = topics.map(|(name, indexes)| {
        let indexes = indexes.into_iter();
        let found = indexes.map(|index| find_one(cx, group, &name, index)).collect();
        (name, found)
    });
    Ok(topics.collect())
}

fn find_one(cx: &Context<'_>, group: &str, topic: &str, index: i32) -> Found {
    let fault = cx.check_fault(topic, index);
    let committed = cx.cluster.groups.committed(group, topic, index);
    let none = Committed { offset: -1, leader_epoch: -1, metadata: String::new() };
    Found {
        index,
        committed: committed.filter(|_| fault.is_ok()).cloned().unwrap_or(none),
        code: code(&fault),
    }
}
