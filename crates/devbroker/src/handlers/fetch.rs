//! Fetch, as one look at the logs. Waiting for more is the connection's business.
//!
//! There are no fetch sessions: the answer's session id is 0, so that clients name all partitions
//! each time. There are no transactions, so that every isolation level sees the same.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{
    FetchableTopicResponse, LeaderIdAndEpoch, PartitionData,
};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};

use super::{Context, broker_id, topic_name};
use crate::cluster::WaiterId;

/// Since this version a request names topics by id.
const BY_TOPIC_ID: i16 = 13;
/// The most one answer holds, whatever the client asks for: as on Apache Kafka.
const MOST_BYTES: usize = 55 * 1024 * 1024;

/// One look.
#[derive(Debug)]
pub(crate) struct Look {
    /// What to answer if nobody waits any longer.
    pub(crate) response: FetchResponse,
    /// Whether waiting is pointless: there is enough, or an error.
    pub(crate) done: bool,
}

struct Taken {
    left: usize,
    bytes: usize,
    failed: bool,
}

/// Looks at every partition that is asked for.
pub(crate) fn look(cx: &mut Context<'_>, request: &FetchRequest) -> Look {
    let known_session = request.session_id == 0;
    if let (Err(error), _) | (Ok(()), Some(error)) = (
        cx.check_request_fault(),
        (!known_session).then_some(ResponseError::FetchSessionIdNotFound),
    ) {
        let response = FetchResponse::default().with_error_code(error.code());
        return Look { response, done: true };
    }
    let wanted = usize::try_from(request.max_bytes).unwrap_or_default();
    let mut taken = Taken { left: wanted.min(MOST_BYTES), bytes: 0, failed: false };
    let topics = request.topics.iter();
    let responses = topics.map(|topic| look_at_topic(cx, topic, &mut taken)).collect();
    let enough = usize::try_from(request.min_bytes).unwrap_or_default();
    Look {
        response: FetchResponse::default().with_responses(responses),
        done: taken.failed || taken.bytes >= enough,
    }
}

/// Has the connection woken when one of the partitions changes.
pub(crate) fn wait(cx: &mut Context<'_>, request: &FetchRequest, waiter: WaiterId) {
    for topic in &request.topics {
        let Ok(name) = resolved(cx, topic) else {
            continue;
        };
        for asked in &topic.partitions {
            if let Ok(partition) = cx.cluster.partition_mut(&name, asked.partition) {
                partition.wait(waiter);
            }
        }
    }
}

fn resolved(cx: &Context<'_>, topic: &FetchTopic) -> Result<String, ResponseError> {
    if cx.version >= BY_TOPIC_ID {
        cx.cluster.name_of(topic.topic_id).map(str::to_owned)
    } else {
        Ok(topic.topic.to_string())
    }
}

fn look_at_topic(
    cx: &Context<'_>,
    topic: &FetchTopic,
    taken: &mut Taken,
) -> FetchableTopicResponse {
    let name = resolved(cx, topic);
    let partitions = topic.partitions.iter().map(|asked| {
        let name = name.as_deref().map_err(|error| *error);
        let found = name.and_then(|name| look_at_partition(cx, name, asked, taken));
        found.unwrap_or_else(|error| {
            taken.failed = true;
            failed(cx, name.unwrap_or_default(), asked.partition, error)
        })
    });
    let partitions = partitions.collect();
    FetchableTopicResponse::default()
        .with_topic(topic_name(name.as_deref().unwrap_or_default()))
        .with_topic_id(topic.topic_id)
        .with_partitions(partitions)
}

fn look_at_partition(
    cx: &Context<'_>,
    topic: &str,
    asked: &FetchPartition,
    taken: &mut Taken,
) -> Result<PartitionData, ResponseError> {
    cx.check_fault(topic, asked.partition)?;
    let partition = cx.cluster.partition(topic, asked.partition)?;
    partition.check_leader(cx.node, asked.current_leader_epoch)?;
    let most = usize::try_from(asked.partition_max_bytes).unwrap_or_default();
    let most = most.min(taken.left);
    let records = partition.log.read(asked.fetch_offset, most, taken.bytes == 0)?;
    taken.bytes += records.len();
    taken.left = taken.left.saturating_sub(records.len());
    let end = partition.log.end();
    Ok(PartitionData::default()
        .with_partition_index(asked.partition)
        .with_high_watermark(end)
        .with_last_stable_offset(end)
        .with_log_start_offset(partition.log.start())
        .with_aborted_transactions(None)
        .with_preferred_read_replica(BrokerId(-1))
        .with_records(Some(records)))
}

fn failed(cx: &Context<'_>, topic: &str, index: i32, error: ResponseError) -> PartitionData {
    let data = PartitionData::default()
        .with_partition_index(index)
        .with_error_code(error.code())
        .with_high_watermark(-1)
        .with_last_stable_offset(-1)
        .with_log_start_offset(-1)
        .with_aborted_transactions(None)
        .with_preferred_read_replica(BrokerId(-1));
    let partition = cx.cluster.partition(topic, index);
    match (error, partition) {
        (ResponseError::OffsetOutOfRange, Ok(partition)) => data
            .with_high_watermark(partition.log.end())
            .with_log_start_offset(partition.log.start()),
        (ResponseError::NotLeaderOrFollower | ResponseError::FencedLeaderEpoch, Ok(partition)) => {
            let leader = LeaderIdAndEpoch::default()
                .with_leader_id(broker_id(partition.leader()))
                .with_leader_epoch(partition.leader_epoch());
            data.with_current_leader(leader)
        }
        _ => data,
    }
}
