//! `ApiVersions`: what this broker speaks.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{
    AlterConfigsRequest, ApiVersionsRequest, ApiVersionsResponse, CreatePartitionsRequest,
    CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeLogDirsRequest, FetchRequest, FindCoordinatorRequest,
    IncrementalAlterConfigsRequest, InitProducerIdRequest, ListOffsetsRequest, MetadataRequest,
    OffsetCommitRequest, OffsetFetchRequest, OffsetForLeaderEpochRequest, ProduceRequest,
};
use kafka_protocol::protocol::{Message, Request, VersionRange};

use super::{Context, code};
use crate::codec::{self, CodecError, RawRequest};

/// Answers in the request's version, or in version 0 to a client that is newer than this broker.
pub(super) fn answer(cx: &Context<'_>, raw: &RawRequest) -> Result<Bytes, CodecError> {
    let known = (0..=ApiVersionsRequest::VERSIONS.max).contains(&raw.version);
    let result =
        if known { cx.check_request_fault() } else { Err(ResponseError::UnsupportedVersion) };
    let response = ApiVersionsResponse::default()
        .with_error_code(code(&result))
        .with_api_keys(supported())
        .with_finalized_features_epoch(-1);
    codec::encode_as(raw, if known { raw.version } else { 0 }, &response)
}

/// Every API with the versions that both sides of the library can code.
fn supported() -> Vec<ApiVersion> {
    let mut produce = entry::<ProduceRequest>();
    // librdkafka before 2.11 takes a broker without Produce v0 for one that cannot compress.
    // Apache Kafka 4 claims v0 for the same reason; neither accepts it.
    produce.min_version = 0;
    vec![
        produce,
        entry::<FetchRequest>(),
        entry::<ListOffsetsRequest>(),
        entry::<MetadataRequest>(),
        entry::<OffsetCommitRequest>(),
        entry::<OffsetFetchRequest>(),
        entry::<FindCoordinatorRequest>(),
        entry::<ApiVersionsRequest>(),
        entry::<CreateTopicsRequest>(),
        entry::<DeleteTopicsRequest>(),
        entry::<DeleteRecordsRequest>(),
        entry::<InitProducerIdRequest>(),
        entry::<OffsetForLeaderEpochRequest>(),
        entry::<DescribeConfigsRequest>(),
        entry::<AlterConfigsRequest>(),
        entry::<DescribeLogDirsRequest>(),
        entry::<CreatePartitionsRequest>(),
        entry::<IncrementalAlterConfigsRequest>(),
        entry::<DescribeClusterRequest>(),
    ]
}

fn entry<R: Request>() -> ApiVersion {
    let VersionRange { min, max } = R::VERSIONS.intersect(&R::Response::VERSIONS);
    ApiVersion::default().with_api_key(R::KEY).with_min_version(min).with_max_version(max)
}
