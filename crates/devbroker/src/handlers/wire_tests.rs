//! Every version of every API that is advertised can be asked and answered.
//!
//! The library refuses to encode a field that the version asked for does not have, so that an
//! answer which is right in the newest version can end the connection of an older client. These
//! tests ask with requests that fill the answers.

use bytes::{Buf, BytesMut};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, GroupId, ProduceRequest, RequestHeader,
    ResponseHeader, alter_configs_request, incremental_alter_configs_request,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, Message};

use super::tests::{TOPIC, at, cluster, commit_request, fetch_from, produce_to};
use super::*;

/// A request as it comes off the wire.
fn raw<R: Request>(request: &R, version: i16) -> RawRequest {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(77)
        .with_client_id(Some(text("c")));
    let mut frame = BytesMut::new();
    header.encode(&mut frame, R::header_version(version)).unwrap();
    let encoded = request.encode(&mut frame, version);
    encoded.unwrap_or_else(|error| panic!("request {} v{version}: {error:#}", R::KEY));
    codec::parse(frame.freeze()).unwrap()
}

/// The answer's body, after its frame and header were checked.
fn answered<R: Request>(mut frame: Bytes, version: i16) -> R::Response {
    assert_eq!(usize::try_from(frame.get_i32()).unwrap(), frame.len());
    let header_version = <R::Response as HeaderVersion>::header_version(version);
    let header = ResponseHeader::decode(&mut frame, header_version).unwrap();
    assert_eq!(header.correlation_id, 77);
    let response = R::Response::decode(&mut frame, version).unwrap();
    assert!(frame.is_empty());
    response
}

/// Two nodes of which the first is asked; it leads partition 0 and not partition 1, so that both kinds of answer occur.
fn every_version<R: Request>(request: impl Fn(i16, &Cluster) -> R) {
    let versions = R::VERSIONS.intersect(&<R::Response as Message>::VERSIONS);
    for version in versions.min..=versions.max {
        let mut cluster = cluster(2, 1);
        cluster.move_leader(TOPIC, 0, NodeId::new(1)).unwrap();
        let raw = raw(&request(version, &cluster), version);
        let mut cx = at(&mut cluster, version);
        let frame = if raw.api == ApiKey::Fetch {
            let look = fetch::look(&mut cx, &decode(&raw).unwrap());
            codec::encode(&raw, &look.response).map(Some)
        } else {
            dispatch(&mut cx, &raw)
        };
        let frame = frame.unwrap_or_else(|error| panic!("{:?} v{version}: {error:?}", raw.api));
        if let Some(frame) = frame {
            answered::<R>(frame, version);
        }
    }
}

#[test]
fn records_are_produced_and_fetched_in_every_version() {
    every_version(|version, cluster| {
        let mut request = produce_to(TOPIC, &[0, 1, 9], -1);
        if version >= 13 {
            request.topic_data[0].topic_id = cluster.topic(TOPIC).unwrap().id;
            request.topic_data[0].name = topic_name("");
        }
        request
    });
    every_version(|version, cluster| {
        let mut request = fetch_from(0);
        let mut other = request.topics[0].partitions[0].clone();
        other.partition = 1;
        let outside = other.clone().with_partition(0).with_fetch_offset(99);
        request.topics[0].partitions.extend([other, outside]);
        if version >= 13 {
            request.topics[0].topic_id = cluster.topic(TOPIC).unwrap().id;
            request.topics[0].topic = topic_name("");
        }
        request
    });
    every_version(|_, _| InitProducerIdRequest::default().with_transactional_id(None));
}

#[test]
fn an_unknown_topic_is_told_in_every_version() {
    every_version(|version, _| {
        let mut request = produce_to("", &[0], -1);
        if version < 13 {
            request = produce_to("no", &[0], -1);
        }
        request
    });
    every_version(|version, _| {
        let mut request = fetch_from(0);
        request.topics[0].topic = topic_name(if version < 13 { "no" } else { "" });
        request
    });
}

#[test]
fn the_cluster_is_described_in_every_version() {
    every_version(|_, _| ApiVersionsRequest::default());
    every_version(|version, _| {
        // Null means all topics, but in version 0, where an empty list does.
        let topics = (version == 0).then(Vec::new);
        MetadataRequest::default().with_topics(topics).with_allow_auto_topic_creation(true)
    });
    every_version(|_, _| {
        let asked = |name| MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        MetadataRequest::default()
            .with_topics(Some(vec![asked(TOPIC), asked("no")]))
            .with_allow_auto_topic_creation(true)
    });
    every_version(|_, _| DescribeClusterRequest::default());
    every_version(|version, _| match version {
        0..=3 => FindCoordinatorRequest::default().with_key(text("g")),
        _ => FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g")]),
    });
    every_version(|_, _| DescribeLogDirsRequest::default().with_topics(None));
}

#[test]
fn topics_are_managed_in_every_version() {
    every_version(|_, _| {
        let topic = |name, replication| {
            CreatableTopic::default()
                .with_name(topic_name(name))
                .with_num_partitions(2)
                .with_replication_factor(replication)
        };
        let topics = vec![topic("new", 1), topic(TOPIC, 1), topic("many", 9)];
        CreateTopicsRequest::default().with_topics(topics)
    });
    every_version(|_, _| {
        let topic = |name, count| {
            CreatePartitionsTopic::default()
                .with_name(topic_name(name))
                .with_count(count)
                .with_assignments(None)
        };
        let topics = vec![topic(TOPIC, 5), topic("no", 5)];
        CreatePartitionsRequest::default().with_topics(topics)
    });
    every_version(|version, _| {
        let names = [TOPIC, "no"].map(topic_name);
        if version < 6 {
            return DeleteTopicsRequest::default().with_topic_names(names.to_vec());
        }
        let topics = names.map(|name| DeleteTopicState::default().with_name(Some(name)));
        DeleteTopicsRequest::default().with_topics(topics.to_vec())
    });
}

#[test]
fn settings_are_described_and_altered_in_every_version() {
    every_version(|_, _| {
        let resource = |kind, name: &str| {
            DescribeConfigsResource::default()
                .with_resource_type(kind)
                .with_resource_name(text(name))
                .with_configuration_keys(None)
        };
        let resources = vec![resource(2, TOPIC), resource(4, "1"), resource(2, "no")];
        DescribeConfigsRequest::default().with_resources(resources)
    });
    every_version(|_, _| {
        let resource = |name: &str| {
            alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(name))
        };
        AlterConfigsRequest::default().with_resources(vec![resource(TOPIC), resource("no")])
    });
    every_version(|_, _| {
        let resource = |name: &str| {
            incremental_alter_configs_request::AlterConfigsResource::default()
                .with_resource_type(2)
                .with_resource_name(text(name))
        };
        let resources = vec![resource(TOPIC), resource("no")];
        IncrementalAlterConfigsRequest::default().with_resources(resources)
    });
}

#[test]
fn offsets_are_told_in_every_version() {
    every_version(|_, _| {
        let partition = |index| {
            ListOffsetsPartition::default()
                .with_partition_index(index)
                .with_current_leader_epoch(-1)
                .with_timestamp(-1)
        };
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(TOPIC))
            .with_partitions(vec![partition(0), partition(1)]);
        ListOffsetsRequest::default().with_topics(vec![topic])
    });
    every_version(|_, _| {
        let partition = |index| DeleteRecordsPartition::default().with_partition_index(index);
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name(TOPIC))
            .with_partitions(vec![partition(0), partition(1)]);
        DeleteRecordsRequest::default().with_topics(vec![topic])
    });
    every_version(|version, _| {
        let partition = |index| OffsetForLeaderPartition::default().with_partition(index);
        let topic = OffsetForLeaderTopic::default()
            .with_topic(topic_name(TOPIC))
            .with_partitions(vec![partition(0), partition(1)]);
        // A replica of -2 says that a debugger asks; clients of version 3 send -1.
        let replica = if version < 3 { -2 } else { -1 };
        OffsetForLeaderEpochRequest::default()
            .with_replica_id(BrokerId(replica))
            .with_topics(vec![topic])
    });
}

#[test]
fn groups_commit_and_fetch_in_every_version() {
    // "f" sums to an even number, so that node 1 of 2 keeps its offsets.
    for group in ["f", "g"] {
        let id = || GroupId(text(group));
        every_version(|_, _| commit_request(-1).with_group_id(id()));
        every_version(|version, _| {
            if version < 8 {
                let topic = OffsetFetchRequestTopic::default()
                    .with_name(topic_name(TOPIC))
                    .with_partition_indexes(vec![0, 9]);
                return OffsetFetchRequest::default()
                    .with_group_id(id())
                    .with_topics(Some(vec![topic]));
            }
            let topic = OffsetFetchRequestTopics::default()
                .with_name(topic_name(TOPIC))
                .with_partition_indexes(vec![0, 9]);
            let group = OffsetFetchRequestGroup::default()
                .with_group_id(id())
                .with_topics(Some(vec![topic]));
            OffsetFetchRequest::default().with_groups(vec![group])
        });
    }
}

#[test]
fn a_client_that_is_too_new_learns_the_versions_in_version_0() {
    let mut cluster = cluster(1, 1);
    let mut request = raw(&ApiVersionsRequest::default(), 4);
    request.version = 99;
    let frame = dispatch(&mut at(&mut cluster, 99), &request).unwrap().unwrap();
    let response: ApiVersionsResponse = answered::<ApiVersionsRequest>(frame, 0);
    assert_eq!(response.error_code, ResponseError::UnsupportedVersion.code());
    assert!(!response.api_keys.is_empty());
}

#[test]
fn an_api_that_is_not_spoken_ends_the_connection() {
    let mut cluster = cluster(1, 1);
    let mut request = raw(&MetadataRequest::default(), 9);
    request.api = ApiKey::JoinGroup;
    let result = dispatch(&mut at(&mut cluster, 9), &request);
    assert!(matches!(result, Err(CodecError::Unsupported { .. })));
}

#[test]
fn an_unacknowledged_produce_has_no_answer() {
    let mut cluster = cluster(1, 1);
    let request: ProduceRequest = produce_to(TOPIC, &[0], 0);
    let raw = raw(&request, 9);
    assert!(dispatch(&mut at(&mut cluster, 9), &raw).unwrap().is_none());
    assert_eq!(cluster.partition(TOPIC, 0).unwrap().log.end(), 2);
    let fetch: FetchRequest = fetch_from(0);
    assert!(fetch::look(&mut at(&mut cluster, 9), &fetch).done);
}
