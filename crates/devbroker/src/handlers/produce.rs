//! Produce and `InitProducerId`.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{
    InitProducerIdRequest, InitProducerIdResponse, ProduceRequest, ProduceResponse, ProducerId,
};

use super::{Context, broker_id, code, decode, topic_name};
use crate::batch::Batch;
use crate::codec::{self, CodecError, RawRequest};
use crate::faults::Fault;
use crate::log::{Appended, Stamp};

const ACKS_ALL: i16 = -1;
const ACKS_NONE: i16 = 0;
/// Since this version a request names topics by id.
const BY_TOPIC_ID: i16 = 13;

/// Answers, unless the client asked for no acknowledgement.
pub(super) fn answer(cx: &mut Context<'_>, raw: &RawRequest) -> Result<Option<Bytes>, CodecError> {
    let request = decode::<ProduceRequest>(raw)?;
    let acks = request.acks;
    let response = produce(cx, &request);
    if acks == ACKS_NONE {
        return Ok(None);
    }
    codec::encode(raw, &response).map(Some)
}

pub(super) fn produce(cx: &mut Context<'_>, request: &ProduceRequest) -> ProduceResponse {
    let acks = request.acks;
    let topics = request.topic_data.iter();
    let responses = topics.map(|topic| produce_topic(cx, topic, acks));
    ProduceResponse::default().with_responses(responses.collect())
}

fn produce_topic(
    cx: &mut Context<'_>,
    topic: &TopicProduceData,
    acks: i16,
) -> TopicProduceResponse {
    let name = if cx.version >= BY_TOPIC_ID {
        cx.cluster.name_of(topic.topic_id).map(str::to_owned)
    } else {
        Ok(topic.name.to_string())
    };
    let shown = name.as_deref().unwrap_or_default();
    let partitions = topic.partition_data.iter().map(|data| {
        let index = data.index;
        let name = name.as_deref().map_err(|error| *error);
        let result = name.and_then(|name| produce_one(cx, name, data, acks));
        respond(cx, shown, index, &result)
    });
    let partition_responses = partitions.collect();
    TopicProduceResponse::default()
        .with_name(topic_name(shown))
        .with_topic_id(topic.topic_id)
        .with_partition_responses(partition_responses)
}

fn produce_one(
    cx: &mut Context<'_>,
    topic: &str,
    data: &PartitionProduceData,
    acks: i16,
) -> Result<Appended, ResponseError> {
    cx.check_fault(topic, data.index)?;
    if !(-1..=1).contains(&acks) {
        return Err(ResponseError::InvalidRequiredAcks);
    }
    let (node, now_ms) = (cx.node, cx.now_ms);
    let config = &cx.cluster.topic(topic)?.config;
    let (limits, least) = (*config.limits(), config.min_insync_replicas());
    let partition = cx.cluster.partition(topic, data.index)?;
    partition.check_leader(node, -1)?;
    if acks == ACKS_ALL && partition.in_sync(&cx.cluster.nodes).len() < least {
        return Err(ResponseError::NotEnoughReplicas);
    }
    let batch = Batch::parse(data.records.clone())?;
    let twice = cx.fault.is_some_and(|fault: &Fault| fault.duplicates(topic, data.index));
    let partition = cx.cluster.partition_mut(topic, data.index)?;
    let stamp = Stamp { leader_epoch: partition.leader_epoch(), now_ms };
    let appended = partition.log.append(&batch, stamp, &limits)?;
    if twice {
        partition.log.push(&batch, stamp, &limits);
    }
    cx.cluster.wake(topic, data.index);
    Ok(appended)
}

fn respond(
    cx: &Context<'_>,
    topic: &str,
    index: i32,
    result: &Result<Appended, ResponseError>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default()
        .with_index(index)
        .with_error_code(code(result))
        .with_base_offset(result.map_or(-1, |appended| appended.base_offset));
    let Ok(partition) = cx.cluster.partition(topic, index) else {
        return response;
    };
    let response = response.with_log_start_offset(partition.log.start());
    if *result == Err(ResponseError::NotLeaderOrFollower) {
        let leader = LeaderIdAndEpoch::default()
            .with_leader_id(broker_id(partition.leader()))
            .with_leader_epoch(partition.leader_epoch());
        return response.with_current_leader(leader);
    }
    response
}

/// Gives a new id to an idempotent producer. There are no transactions.
pub(super) fn init(
    cx: &mut Context<'_>,
    request: &InitProducerIdRequest,
) -> InitProducerIdResponse {
    let result = cx.check_request_fault().and_then(|()| {
        if request.transactional_id.is_some() {
            return Err(ResponseError::InvalidRequest);
        }
        Ok(cx.cluster.next_producer_id())
    });
    InitProducerIdResponse::default()
        .with_error_code(code(&result))
        .with_producer_id(ProducerId(result.unwrap_or(-1)))
        .with_producer_epoch(if result.is_ok() { 0 } else { -1 })
}
