//! Requests that are damaged or made up: each is answered or ends its connection, and none brings the broker down.

use bytes::BytesMut;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiVersionsRequest, FetchRequest, ProduceRequest, RequestHeader};
use kafka_protocol::protocol::Encodable;
use proptest::collection::vec;
use proptest::prelude::*;

use super::tests::{TOPIC, at, cluster, commit_request, fetch_from, produce_to};
use super::*;

/// The frame of a request in a version.
fn frame<R: Request>(request: &R, version: i16) -> Vec<u8> {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_client_id(Some(text("c")));
    let mut frame = BytesMut::new();
    header.encode(&mut frame, R::header_version(version)).unwrap();
    request.encode(&mut frame, version).unwrap();
    frame.to_vec()
}

/// Some requests with much in them, of versions with both kinds of lengths.
fn frames() -> Vec<Vec<u8>> {
    let asked = MetadataRequestTopic::default().with_name(Some(topic_name("new")));
    let metadata = MetadataRequest::default()
        .with_topics(Some(vec![asked; 2]))
        .with_allow_auto_topic_creation(true);
    let since = |timestamp| ListOffsetsPartition::default().with_timestamp(timestamp);
    let listed = ListOffsetsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![
        since(-1),
        since(0),
        since(1),
    ]);
    let list = ListOffsetsRequest::default().with_topics(vec![listed]);
    let created = CreatableTopic::default()
        .with_name(topic_name("new"))
        .with_num_partitions(2)
        .with_replication_factor(1);
    let create = CreateTopicsRequest::default().with_topics(vec![created]);
    let grown = CreatePartitionsTopic::default()
        .with_name(topic_name(TOPIC))
        .with_count(5)
        .with_assignments(None);
    let grow = CreatePartitionsRequest::default().with_topics(vec![grown]);
    let cut = DeleteRecordsPartition::default().with_offset(1);
    let cut = DeleteRecordsTopic::default().with_name(topic_name(TOPIC)).with_partitions(vec![cut]);
    let cut = DeleteRecordsRequest::default().with_topics(vec![cut]);
    let produce = produce_to(TOPIC, &[0, 1], -1);
    vec![
        frame(&ApiVersionsRequest::default(), 3),
        frame(&metadata, 4),
        frame(&metadata, 12),
        frame(&list, 1),
        frame(&list, 7),
        frame(&create, 4),
        frame(&create, 7),
        frame(&grow, 1),
        frame(&grow, 3),
        frame(&cut, 1),
        frame(&cut, 2),
        frame(&produce, 7),
        frame(&produce, 9),
        frame(&fetch_from(0), 4),
        frame(&fetch_from(0), 12),
        frame(&commit_request(-1), 5),
        frame(&commit_request(-1), 8),
    ]
}

/// Answers a frame as a connection does; whatever a client said before stays said.
fn is_answered(cluster: &mut Cluster, frame: Vec<u8>) -> Result<(), CodecError> {
    let raw = codec::parse(Bytes::from(frame))?;
    let mut cx = at(cluster, raw.version);
    if raw.api == ApiKey::Fetch {
        let request: FetchRequest = decode(&raw)?;
        let look = fetch::look(&mut cx, &request);
        return codec::encode(&raw, &look.response).map(drop);
    }
    dispatch(&mut cx, &raw).map(drop)
}

fn with_records() -> Cluster {
    let mut cluster = cluster(1, 1);
    let request: ProduceRequest = produce_to(TOPIC, &[0], -1);
    is_answered(&mut cluster, frame(&request, 9)).unwrap();
    cluster
}

#[test]
fn these_requests_are_answered_while_they_are_sound() {
    for frame in frames() {
        is_answered(&mut with_records(), frame).unwrap();
    }
}

/// Partitions, elements, bytes: whatever a number counts, it is not made room for because it is said.
#[test]
fn the_largest_number_anywhere_brings_nobody_down() {
    for frame in frames() {
        for place in 8..frame.len() {
            for claim in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
                let mut frame = frame.clone();
                let end = frame.len().min(place + claim.len());
                frame.splice(place..end, claim.iter().copied());
                drop(is_answered(&mut with_records(), frame));
            }
        }
    }
}

#[test]
fn a_topic_of_two_billion_partitions_is_refused() {
    let topic = CreatableTopic::default()
        .with_name(topic_name("new"))
        .with_num_partitions(i32::MAX)
        .with_replication_factor(1);
    let request = CreateTopicsRequest::default().with_topics(vec![topic]);
    let mut cluster = cluster(1, 1);
    let response = topics::create(&mut at(&mut cluster, 7), &request);
    assert_eq!(response.topics[0].error_code, ResponseError::InvalidPartitions.code());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn damaged_requests_are_answered_or_refused(
        frame in prop::sample::select(frames()),
        changes in vec((any::<prop::sample::Index>(), 0..4_usize, vec(any::<u8>(), 0..4)), 1..4),
    ) {
        let mut frame = frame;
        for (at, removed, new) in changes {
            let at = at.index(frame.len() + 1);
            frame.splice(at..frame.len().min(at + removed), new);
        }
        drop(is_answered(&mut with_records(), frame));
    }

    #[test]
    fn any_bytes_behind_any_header_are_answered_or_refused(
        key in 0..75_i16,
        version in -1..16_i16,
        rest in vec(any::<u8>(), 0..80),
    ) {
        let frame = [&key.to_be_bytes()[..], &version.to_be_bytes(), &rest].concat();
        drop(is_answered(&mut with_records(), frame));
    }
}
