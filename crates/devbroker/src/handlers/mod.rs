//! Requests to responses: one function per API, each pure over the cluster's state.
//!
//! A handler gets the decoded request and a [`Context`] and answers with the response. It reads no
//! socket and no clock; what it changes for others is noted in the cluster (`take_woken`).
//! Fetch is a handler too, but who waits for data is decided by the connection that calls it.

mod configs;
#[cfg(test)]
mod damage_tests;
pub(crate) mod fetch;
mod groups;
mod log_dirs;
mod metadata;
mod offsets;
mod produce;
pub(crate) mod targets;
#[cfg(test)]
mod tests;
mod topics;
mod versions;
#[cfg(test)]
mod wire_tests;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiKey, BrokerId, CreatePartitionsRequest, CreateTopicsRequest,
    DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest, DescribeConfigsRequest,
    DescribeLogDirsRequest, FindCoordinatorRequest, IncrementalAlterConfigsRequest,
    InitProducerIdRequest, ListOffsetsRequest, MetadataRequest, OffsetCommitRequest,
    OffsetFetchRequest, OffsetForLeaderEpochRequest, TopicName,
};
use kafka_protocol::protocol::{Decodable, Request, StrBytes};

use crate::bounded;
use crate::cluster::{Cluster, NodeId};
use crate::codec::{self, CodecError, RawRequest};
use crate::faults::Fault;

/// What a handler knows besides its request.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// The state of the cluster.
    pub(crate) cluster: &'a mut Cluster,
    /// The node the request arrived at.
    pub(crate) node: NodeId,
    /// The version of the request, where an answer depends on it.
    pub(crate) version: i16,
    /// The time, in ms.
    pub(crate) now_ms: i64,
    /// The fault that strikes this request.
    pub(crate) fault: Option<&'a Fault>,
}

/// Answers any request but Fetch; `None` if the client wants no answer.
pub(crate) fn dispatch(
    cx: &mut Context<'_>,
    raw: &RawRequest,
) -> Result<Option<Bytes>, CodecError> {
    match raw.api {
        ApiKey::ApiVersions => versions::answer(cx, raw).map(Some),
        ApiKey::Produce => produce::answer(cx, raw),
        ApiKey::InitProducerId => answer::<InitProducerIdRequest>(cx, raw, produce::init),
        ApiKey::Metadata => answer::<MetadataRequest>(cx, raw, metadata::metadata),
        ApiKey::DescribeCluster => answer::<DescribeClusterRequest>(cx, raw, metadata::cluster),
        ApiKey::FindCoordinator => answer::<FindCoordinatorRequest>(cx, raw, metadata::coordinator),
        ApiKey::CreateTopics => answer::<CreateTopicsRequest>(cx, raw, topics::create),
        ApiKey::CreatePartitions => answer::<CreatePartitionsRequest>(cx, raw, topics::grow),
        ApiKey::DeleteTopics => answer::<DeleteTopicsRequest>(cx, raw, topics::delete),
        ApiKey::DescribeConfigs => answer::<DescribeConfigsRequest>(cx, raw, configs::describe),
        ApiKey::AlterConfigs => answer::<AlterConfigsRequest>(cx, raw, configs::replace),
        ApiKey::IncrementalAlterConfigs => {
            answer::<IncrementalAlterConfigsRequest>(cx, raw, configs::alter)
        }
        ApiKey::ListOffsets => answer::<ListOffsetsRequest>(cx, raw, offsets::list),
        ApiKey::DeleteRecords => answer::<DeleteRecordsRequest>(cx, raw, offsets::delete_records),
        ApiKey::OffsetForLeaderEpoch => {
            answer::<OffsetForLeaderEpochRequest>(cx, raw, offsets::epoch_ends)
        }
        ApiKey::DescribeLogDirs => answer::<DescribeLogDirsRequest>(cx, raw, log_dirs::describe),
        ApiKey::OffsetCommit => answer::<OffsetCommitRequest>(cx, raw, groups::commit),
        ApiKey::OffsetFetch => answer::<OffsetFetchRequest>(cx, raw, groups::fetch),
        other => Err(CodecError::Unsupported { api: other as i16, version: raw.version }),
    }
}

fn answer<R: Request>(
    cx: &mut Context<'_>,
    raw: &RawRequest,
    handle: fn(&mut Context<'_>, &R) -> R::Response,
) -> Result<Option<Bytes>, CodecError> {
    let request = decode::<R>(raw)?;
    let response = handle(cx, &request);
    codec::encode(raw, &response).map(Some)
}

/// The request's body as the type of its API.
pub(crate) fn decode<R: Decodable>(raw: &RawRequest) -> Result<R, CodecError> {
    bounded::decode(&mut raw.body.clone(), raw.version).map_err(|source| CodecError::Decode {
        api: raw.api,
        version: raw.version,
        source,
    })
}

// === impl Context ===

impl Context<'_> {
    /// Fails where an armed fault wants this partition to fail.
    fn check_fault(&self, topic: &str, partition: i32) -> Result<(), ResponseError> {
        let code = self.fault.and_then(|fault| fault.error_for(topic, partition));
        code.map_or(Ok(()), Err)
    }

    /// Fails where an armed fault wants the whole request to fail.
    fn check_request_fault(&self) -> Result<(), ResponseError> {
        let code = self.fault.and_then(Fault::error);
        code.map_or(Ok(()), Err)
    }
}

// === helpers of the handlers ===

fn text(text: impl Into<String>) -> StrBytes {
    StrBytes::from_string(text.into())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn broker_id(node: Option<NodeId>) -> BrokerId {
    BrokerId(node.map_or(-1, NodeId::get))
}

/// The code on the wire: 0 for success.
fn code<T>(result: &Result<T, ResponseError>) -> i16 {
    result.as_ref().err().map_or(0, ResponseError::code)
}

fn wire_size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
