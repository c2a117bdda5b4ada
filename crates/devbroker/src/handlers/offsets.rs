//! `ListOffsets`, `DeleteRecords`, `OffsetForLeaderEpoch`: where a partition's log starts, ends and changed hands.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::{
    DeleteRecordsRequest, DeleteRecordsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::{Context, code};
use crate::cluster::Partition;

/// Since this version an answer of `ListOffsets` has room for the leader epoch.
const WITH_LEADER_EPOCH: i16 = 4;

/// What a client may ask for instead of a timestamp.
mod special {
    pub(super) const LATEST: i64 = -1;
    pub(super) const EARLIEST: i64 = -2;
    pub(super) const NEWEST_TIMESTAMP: i64 = -3;
    pub(super) const EARLIEST_LOCAL: i64 = -4;
}

pub(super) fn list(cx: &mut Context<'_>, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.iter().map(|topic| {
        let twice = named_twice(topic);
        let partitions = topic.partitions.iter().map(|asked| {
            let name = topic.name.as_str();
            let found = if twice.contains(&asked.partition_index) {
                // Apache Kafka refuses a partition that is asked for twice in one request.
                Err(ResponseError::InvalidRequest)
            } else {
                list_one(cx, name, asked)
            };
            let (offset, timestamp, epoch) = found.unwrap_or((-1, -1, -1));
            ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(&found))
                .with_offset(offset)
                .with_timestamp(timestamp)
                .with_leader_epoch(epoch)
        });
        ListOffsetsTopicResponse::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn named_twice(topic: &ListOffsetsTopic) -> BTreeSet<i32> {
    let mut seen = BTreeSet::new();
    let indexes = topic.partitions.iter().map(|asked| asked.partition_index);
    indexes.filter(|index| !seen.insert(*index)).collect()
}

/// (offset, timestamp, leader epoch); offset -1 where no record is that new.
fn list_one(
    cx: &Context<'_>,
    topic: &str,
    asked: &ListOffsetsPartition,
) -> Result<(i64, i64, i32), ResponseError> {
    cx.check_fault(topic, asked.partition_index)?;
    let partition = cx.cluster.partition(topic, asked.partition_index)?;
    partition.check_leader(cx.node, asked.current_leader_epoch)?;
    let log = &partition.log;
    let found = match asked.timestamp {
        special::LATEST => Some((log.end(), -1)),
        special::EARLIEST | special::EARLIEST_LOCAL => Some((log.start(), -1)),
        special::NEWEST_TIMESTAMP => log.newest_timestamp(),
        timestamp if timestamp >= 0 => log.find_timestamp(timestamp),
        _ => return Err(ResponseError::UnsupportedVersion),
    };
    let epoch = if cx.version >= WITH_LEADER_EPOCH { partition.leader_epoch() } else { -1 };
    Ok(found.map_or((-1, -1, -1), |(offset, at)| (offset, at, epoch)))
}

pub(super) fn delete_records(
    cx: &mut Context<'_>,
    request: &DeleteRecordsRequest,
) -> DeleteRecordsResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let name = topic.name.as_str();
            let start = led(cx, name, asked.partition_index)
                .and_then(|partition| partition.log.delete_records(asked.offset));
            if start.is_ok() {
                cx.cluster.wake(name, asked.partition_index);
            }
            DeleteRecordsPartitionResult::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code(&start))
                .with_low_watermark(start.unwrap_or(-1))
        });
        DeleteRecordsTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(partitions.collect())
    });
    DeleteRecordsResponse::default().with_topics(topics.collect())
}

fn led<'a>(
    cx: &'a mut Context<'_>,
    topic: &str,
    index: i32,
) -> Result<&'a mut Partition, ResponseError> {
    cx.check_fault(topic, index)?;
    let partition = cx.cluster.partition_mut(topic, index)?;
    partition.check_leader(cx.node, -1)?;
    Ok(partition)
}

pub(super) fn epoch_ends(
    cx: &mut Context<'_>,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| {
            let found = epoch_end(cx, topic.topic.as_str(), asked);
            let (epoch, end) = found.unwrap_or((-1, -1));
            EpochEndOffset::default()
                .with_partition(asked.partition)
                .with_error_code(code(&found))
                .with_leader_epoch(epoch)
                .with_end_offset(end)
        });
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn epoch_end(
    cx: &Context<'_>,
    topic: &str,
    asked: &OffsetForLeaderPartition,
) -> Result<(i32, i64), ResponseError> {
    cx.check_request_fault()?;
    let partition = cx.cluster.partition(topic, asked.partition)?;
    partition.check_leader(cx.node, asked.current_leader_epoch)?;
    Ok(partition.epoch_end(asked.leader_epoch).unwrap_or((-1, -1)))
}
