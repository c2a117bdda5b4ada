//! Requests against a cluster without sockets.

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{FetchRequest, GroupId, ProduceRequest};

use super::*;
use crate::batch::tests::encoded;
use crate::cluster::{NewTopic, Policy, WaiterId};
use crate::faults::{Call, FaultAction, FaultRule, Faults};

pub(super) const TOPIC: &str = "t";

/// Nodes 1.. and one topic of two partitions, of which node 1 leads the first.
pub(super) fn cluster(nodes: i32, replication: i16) -> Cluster {
    let mut cluster = Cluster::new(Policy::default(), 1);
    for number in 1..=nodes {
        let address = "127.0.0.1:9092".parse().unwrap();
        cluster.nodes.add(NodeId::new(number), address);
    }
    let new = NewTopic { partitions: 2, replication, ..NewTopic::default() };
    cluster.create_topic(TOPIC, new, false).unwrap();
    cluster
}

pub(super) fn at(cluster: &mut Cluster, version: i16) -> Context<'_> {
    Context { cluster, node: NodeId::new(1), version, now_ms: 0, fault: None }
}

fn fault(rule: FaultRule) -> Fault {
    let mut faults = Faults::default();
    faults.arm(rule);
    let call = Call {
        api: ApiKey::Produce,
        node: NodeId::new(1),
        client_id: "",
        partitions: &[(TOPIC.to_owned(), 0)].into(),
    };
    faults.strike(&call).unwrap()
}

pub(super) fn produce_to(topic: &str, partitions: &[i32], acks: i16) -> ProduceRequest {
    let data = partitions.iter().map(|index| {
        PartitionProduceData::default()
            .with_index(*index)
            .with_records(Some(encoded(&[b"a", b"b"], 0, None).into()))
    });
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(data.collect());
    ProduceRequest::default().with_acks(acks).with_topic_data(vec![topic])
}

/// (code, base offset) per partition.
fn produced(cx: &mut Context<'_>, request: &ProduceRequest) -> Vec<(i16, i64)> {
    let mut response = produce::produce(cx, request);
    let topic = response.responses.remove(0);
    let partitions = topic.partition_responses.iter();
    partitions.map(|one| (one.error_code, one.base_offset)).collect()
}

pub(super) fn fetch_from(offset: i64) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20);
    let topic =
        FetchTopic::default().with_topic(topic_name(TOPIC)).with_partitions(vec![partition]);
    FetchRequest::default().with_min_bytes(1).with_max_bytes(1 << 20).with_topics(vec![topic])
}

#[test]
fn offsets_follow_each_other_in_each_partition() {
    let mut cluster = cluster(1, 1);
    let mut cx = at(&mut cluster, 9);
    assert_eq!(produced(&mut cx, &produce_to(TOPIC, &[0, 1], -1)), [(0, 0); 2]);
    assert_eq!(produced(&mut cx, &produce_to(TOPIC, &[1], 1)), [(0, 2)]);
}

#[test]
fn produce_is_refused_with_kafkas_codes() {
    let mut cluster = cluster(2, 1);
    let mut cx = at(&mut cluster, 9);
    let mut codes = |request: ProduceRequest| produced(&mut cx, &request).remove(0).0;
    let code = |error: ResponseError| error.code();
    assert_eq!(codes(produce_to("no", &[0], 1)), code(ResponseError::UnknownTopicOrPartition));
    assert_eq!(codes(produce_to(TOPIC, &[7], 1)), code(ResponseError::UnknownTopicOrPartition));
    assert_eq!(codes(produce_to(TOPIC, &[1], 1)), code(ResponseError::NotLeaderOrFollower));
    assert_eq!(codes(produce_to(TOPIC, &[0], 2)), code(ResponseError::InvalidRequiredAcks));
}

#[test]
fn acks_all_needs_the_replicas_the_topic_asks_for() {
    let mut cluster = cluster(2, 2);
    let settings = [("min.insync.replicas".to_owned(), "2".to_owned())].into();
    cluster.configure(TOPIC, settings, false).unwrap();
    cluster.set_node_up(NodeId::new(2), false);
    let mut cx = at(&mut cluster, 9);
    let refused = ResponseError::NotEnoughReplicas.code();
    assert_eq!(produced(&mut cx, &produce_to(TOPIC, &[0], -1)), [(refused, -1)]);
    assert_eq!(produced(&mut cx, &produce_to(TOPIC, &[0], 1)), [(0, 0)]);
}

#[test]
fn an_armed_error_strikes_its_partition_and_has_no_effect_there() {
    let mut cluster = cluster(1, 1);
    let action = FaultAction::Error(ResponseError::RequestTimedOut);
    let fault = fault(FaultRule::new(ApiKey::Produce, action).on_partition(TOPIC, 0));
    let mut cx = Context { fault: Some(&fault), ..at(&mut cluster, 9) };
    let result = produced(&mut cx, &produce_to(TOPIC, &[0, 1], -1));
    assert_eq!(result, [(ResponseError::RequestTimedOut.code(), -1), (0, 0)]);
    assert_eq!(cluster.partition(TOPIC, 0).unwrap().log.end(), 0);
}

#[test]
fn an_armed_duplicate_keeps_the_batch_twice_and_acknowledges_the_first() {
    let mut cluster = cluster(1, 1);
    let fault = fault(FaultRule::new(ApiKey::Produce, FaultAction::DuplicateAppend));
    let mut cx = Context { fault: Some(&fault), ..at(&mut cluster, 9) };
    assert_eq!(produced(&mut cx, &produce_to(TOPIC, &[0], -1)), [(0, 0)]);
    assert_eq!(cluster.partition(TOPIC, 0).unwrap().log.end(), 4);
}

#[test]
fn a_fetch_waits_for_its_bytes_and_hears_of_them() {
    let mut cluster = cluster(1, 1);
    let mut cx = at(&mut cluster, 11);
    assert!(!fetch::look(&mut cx, &fetch_from(0)).done);
    fetch::wait(&mut cx, &fetch_from(0), WaiterId(5));
    produced(&mut cx, &produce_to(TOPIC, &[0], -1));
    assert_eq!(cx.cluster.take_woken(), [WaiterId(5)].into());
    let look = fetch::look(&mut cx, &fetch_from(0));
    let data = &look.response.responses[0].partitions[0];
    assert!(look.done && data.records.as_ref().is_some_and(|bytes| !bytes.is_empty()));
    assert_eq!((data.high_watermark, look.response.session_id), (2, 0));
    assert!(!fetch::look(&mut cx, &fetch_from(0).with_min_bytes(1 << 16)).done);
}

#[test]
fn a_fetch_that_fails_is_answered_at_once() {
    let mut cluster = cluster(1, 1);
    let mut cx = at(&mut cluster, 11);
    let look = fetch::look(&mut cx, &fetch_from(1));
    let data = &look.response.responses[0].partitions[0];
    assert!(look.done);
    assert_eq!(data.error_code, ResponseError::OffsetOutOfRange.code());
    let look = fetch::look(&mut cx, &fetch_from(0).with_session_id(3));
    let code = ResponseError::FetchSessionIdNotFound.code();
    assert!(look.done && look.response.error_code == code);
}

#[test]
fn a_fetch_by_topic_id_tells_an_unknown_id() {
    let mut cluster = cluster(1, 1);
    let id = cluster.topic(TOPIC).unwrap().id;
    let mut cx = at(&mut cluster, 13);
    let mut request = fetch_from(0);
    request.topics[0].topic_id = id;
    assert!(!fetch::look(&mut cx, &request).done);
    request.topics[0].topic_id = uuid::Uuid::from_u64_pair(9, 9);
    let look = fetch::look(&mut cx, &request);
    let code = look.response.responses[0].partitions[0].error_code;
    assert_eq!(code, ResponseError::UnknownTopicId.code());
}

#[test]
fn a_partition_listed_twice_is_refused_as_apache_kafka_does() {
    let mut cluster = cluster(1, 1);
    let mut cx = at(&mut cluster, 7);
    let asked = |timestamp| {
        ListOffsetsPartition::default().with_timestamp(timestamp).with_current_leader_epoch(-1)
    };
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partitions(vec![asked(-1), asked(-2)]);
    let response = offsets::list(&mut cx, &ListOffsetsRequest::default().with_topics(vec![topic]));
    let codes: Vec<i16> = response.topics[0].partitions.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [ResponseError::InvalidRequest.code(); 2]);
}

#[test]
fn metadata_of_version_0_takes_an_empty_list_for_all() {
    let mut cluster = cluster(2, 1);
    let empty = || MetadataRequest::default().with_topics(Some(vec![]));
    let all = metadata::metadata(&mut at(&mut cluster, 0), &empty());
    let none = metadata::metadata(&mut at(&mut cluster, 9), &empty());
    assert_eq!((all.topics.len(), none.topics.len(), none.brokers.len()), (1, 0, 2));
}

#[test]
fn metadata_finds_a_topic_by_its_id() {
    let mut cluster = cluster(1, 1);
    let id = cluster.topic(TOPIC).unwrap().id;
    let by_id = |id| {
        let topic = MetadataRequestTopic::default().with_topic_id(id).with_name(None);
        MetadataRequest::default().with_topics(Some(vec![topic]))
    };
    let found = metadata::metadata(&mut at(&mut cluster, 12), &by_id(id));
    assert_eq!(found.topics[0].name, Some(topic_name(TOPIC)));
    let unknown = by_id(uuid::Uuid::from_u64_pair(9, 9));
    let missing = metadata::metadata(&mut at(&mut cluster, 12), &unknown);
    assert_eq!(missing.topics[0].error_code, ResponseError::UnknownTopicId.code());
}

pub(super) fn commit_request(generation: i32) -> OffsetCommitRequest {
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(5);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partitions(vec![partition]);
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic])
}

#[test]
fn committed_offsets_are_found_by_the_old_and_the_batched_request() {
    let mut cluster = cluster(1, 1);
    let response = groups::commit(&mut at(&mut cluster, 8), &commit_request(-1));
    assert_eq!(response.topics[0].partitions[0].error_code, 0);
    let topic = OffsetFetchRequestTopic::default()
        .with_name(topic_name(TOPIC))
        .with_partition_indexes(vec![0, 1]);
    let old = OffsetFetchRequest::default()
        .with_group_id(GroupId(text("g")))
        .with_topics(Some(vec![topic]));
    let old = groups::fetch(&mut at(&mut cluster, 7), &old);
    let offsets = old.topics[0].partitions.iter().map(|one| one.committed_offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [5, -1]);
    let group =
        OffsetFetchRequestGroup::default().with_group_id(GroupId(text("g"))).with_topics(None);
    let batched = OffsetFetchRequest::default().with_groups(vec![group]);
    let batched = groups::fetch(&mut at(&mut cluster, 8), &batched);
    assert_eq!(batched.groups[0].topics[0].partitions[0].committed_offset, 5);
}

#[test]
fn commits_of_members_and_at_the_wrong_node_are_refused() {
    let mut cluster = cluster(2, 1);
    let code = |cx: &mut Context<'_>, generation| {
        let response = groups::commit(cx, &commit_request(generation));
        response.topics[0].partitions[0].error_code
    };
    let (coordinator, _) = cluster.nodes.coordinator("g").unwrap();
    let other = NodeId::new(3 - coordinator.get());
    let mut cx = at(&mut cluster, 8);
    cx.node = coordinator;
    assert_eq!(code(&mut cx, 3), ResponseError::UnknownMemberId.code());
    cx.node = other;
    assert_eq!(code(&mut cx, -1), ResponseError::NotCoordinator.code());
}

#[test]
fn settings_are_set_deleted_and_extended_one_by_one() {
    let mut cluster = cluster(1, 1);
    let mut alter = |operation, name: &str, value: Option<&str>| {
        let config = AlterableConfig::default()
            .with_name(text(name))
            .with_config_operation(operation)
            .with_value(value.map(text));
        let resource = AlterConfigsResource::default()
            .with_resource_type(2)
            .with_resource_name(text(TOPIC))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let response = configs::alter(&mut at(&mut cluster, 1), &request);
        let own = cluster.topic(TOPIC).unwrap().config.own();
        (response.responses[0].error_code, own.get(name).cloned())
    };
    let set = alter(0, "retention.ms", Some("5"));
    assert_eq!(set, (0, Some("5".to_owned())));
    assert_eq!(alter(1, "retention.ms", None), (0, None));
    let both = Some("compact,delete".to_owned());
    assert_eq!(alter(2, "cleanup.policy", Some("compact")), (0, both));
    let compact = Some("compact".to_owned());
    assert_eq!(alter(3, "cleanup.policy", Some("delete")), (0, compact));
    let refused = ResponseError::InvalidConfig.code();
    assert_eq!(alter(0, "retention.ms", Some("soon")), (refused, None));
}

#[test]
fn log_dirs_tell_the_sizes_of_the_replicas_on_the_node_asked() {
    let mut cluster = cluster(2, 1);
    let mut cx = at(&mut cluster, 4);
    produced(&mut cx, &produce_to(TOPIC, &[0], 1));
    let all = DescribeLogDirsRequest::default().with_topics(None);
    let response = log_dirs::describe(&mut cx, &all);
    let partitions = &response.results[0].topics[0].partitions;
    let size = i64::try_from(encoded(&[b"a", b"b"], 0, None).len()).unwrap();
    assert_eq!(partitions.len(), 1);
    assert_eq!((partitions[0].partition_index, partitions[0].partition_size), (0, size));
}
