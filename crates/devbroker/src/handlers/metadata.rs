//! Metadata, `DescribeCluster`, `FindCoordinator`: who is where.

use std::net::SocketAddr;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use kafka_protocol::messages::find_coordinator_response::Coordinator;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    BrokerId, DescribeClusterRequest, DescribeClusterResponse, FindCoordinatorRequest,
    FindCoordinatorResponse, MetadataRequest, MetadataResponse,
};

use super::{Context, broker_id, code, text, topic_name};
use crate::cluster::{Cluster, NewTopic, NodeId, Partition, Topic};

/// `DescribeCluster` asks for brokers with this; anything else would be controllers.
const ENDPOINT_BROKERS: i8 = 1;
/// `FindCoordinator` asks for a group's coordinator with this; anything else is for transactions.
const KEY_GROUP: i8 = 0;

pub(super) fn metadata(cx: &mut Context<'_>, request: &MetadataRequest) -> MetadataResponse {
    // Version 0 has no null: its empty list means all topics.
    let asked = request.topics.as_ref();
    let asked = asked.filter(|topics| cx.version > 0 || !topics.is_empty());
    let topics = match asked {
        None => cx.cluster.topics().map(|(name, topic)| found(cx.cluster, name, topic)).collect(),
        Some(asked) => {
            let create = request.allow_auto_topic_creation && cx.cluster.policy().auto_create;
            let asked = asked.iter();
            asked.map(|topic| one_topic(cx, topic, create)).collect()
        }
    };
    let broker = |(id, address): (NodeId, SocketAddr)| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(id.get()))
            .with_host(text(address.ip().to_string()))
            .with_port(address.port().into())
    };
    MetadataResponse::default()
        .with_brokers(cx.cluster.nodes.live().map(broker).collect())
        .with_cluster_id(Some(text(cx.cluster.id())))
        .with_controller_id(broker_id(controller(cx.cluster)))
        .with_topics(topics)
}

/// The node that clients take for the controller. Any node answers an administrator's requests.
fn controller(cluster: &Cluster) -> Option<NodeId> {
    cluster.nodes.live().next().map(|(id, _)| id)
}

fn one_topic(
    cx: &mut Context<'_>,
    asked: &MetadataRequestTopic,
    create: bool,
) -> MetadataResponseTopic {
    let missing = |error: ResponseError| {
        MetadataResponseTopic::default()
            .with_error_code(error.code())
            .with_name(asked.name.clone())
            .with_topic_id(asked.topic_id)
    };
    if let Err(error) = cx.check_request_fault() {
        return missing(error);
    }
    let name = match &asked.name {
        Some(name) => name.to_string(),
        None => match cx.cluster.name_of(asked.topic_id) {
            Ok(name) => name.to_owned(),
            Err(error) => return missing(error),
        },
    };
    if create && cx.cluster.topic(&name).is_err() {
        let new = NewTopic { partitions: -1, replication: -1, ..NewTopic::default() };
        if let Err((error, _)) = cx.cluster.create_topic(&name, new, false) {
            return missing(error);
        }
    }
    match cx.cluster.topic(&name) {
        Ok(topic) => found(cx.cluster, &name, topic),
        Err(error) => missing(error),
    }
}

fn found(cluster: &Cluster, name: &str, topic: &Topic) -> MetadataResponseTopic {
    let partitions = topic.numbered();
    let partitions = partitions.map(|(index, partition)| one_partition(cluster, index, partition));
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_topic_id(topic.id)
        .with_partitions(partitions.collect())
}

fn one_partition(
    cluster: &Cluster,
    index: i32,
    partition: &Partition,
) -> MetadataResponsePartition {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|id| BrokerId(id.get())).collect::<Vec<_>>();
    let leader = partition.leader().ok_or(ResponseError::LeaderNotAvailable);
    let in_sync = partition.in_sync(&cluster.nodes);
    let replicas = partition.replicas();
    let offline = replicas.iter().filter(|id| !in_sync.contains(id)).copied();
    MetadataResponsePartition::default()
        .with_error_code(code(&leader))
        .with_partition_index(index)
        .with_leader_id(broker_id(leader.ok()))
        .with_leader_epoch(partition.leader_epoch())
        .with_replica_nodes(ids(replicas))
        .with_isr_nodes(ids(&in_sync))
        .with_offline_replicas(ids(&offline.collect::<Vec<_>>()))
}

pub(super) fn cluster(
    cx: &mut Context<'_>,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse {
    let result = if cx.version > 0 && request.endpoint_type != ENDPOINT_BROKERS {
        Err(ResponseError::UnsupportedEndpointType)
    } else {
        cx.check_request_fault()
    };
    let broker = |(id, address): (NodeId, SocketAddr)| {
        DescribeClusterBroker::default()
            .with_broker_id(BrokerId(id.get()))
            .with_host(text(address.ip().to_string()))
            .with_port(address.port().into())
    };
    DescribeClusterResponse::default()
        .with_error_code(code(&result))
        .with_endpoint_type(ENDPOINT_BROKERS)
        .with_cluster_id(text(cx.cluster.id()))
        .with_controller_id(broker_id(controller(cx.cluster)))
        .with_brokers(cx.cluster.nodes.live().map(broker).collect())
}

pub(super) fn coordinator(
    cx: &mut Context<'_>,
    request: &FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let locate = |key: &str| -> Result<(NodeId, SocketAddr), ResponseError> {
        cx.check_request_fault()?;
        if request.key_type != KEY_GROUP {
            return Err(ResponseError::InvalidRequest);
        }
        let node = cx.cluster.nodes.coordinator(key);
        node.ok_or(ResponseError::CoordinatorNotAvailable)
    };
    if cx.version < 4 {
        let node = locate(request.key.as_str());
        let (id, host, port) = wire_address(node.as_ref().ok());
        return FindCoordinatorResponse::default()
            .with_error_code(code(&node))
            .with_node_id(id)
            .with_host(text(host))
            .with_port(port);
    }
    let keys = request.coordinator_keys.iter();
    let coordinators = keys.map(|key| {
        let node = locate(key.as_str());
        let (id, host, port) = wire_address(node.as_ref().ok());
        Coordinator::default()
            .with_key(key.clone())
            .with_error_code(code(&node))
            .with_node_id(id)
            .with_host(text(host))
            .with_port(port)
    });
    FindCoordinatorResponse::default().with_coordinators(coordinators.collect())
}

fn wire_address(node: Option<&(NodeId, SocketAddr)>) -> (BrokerId, String, i32) {
    node.map_or((BrokerId(-1), String::new(), -1), |(id, address)| {
        let port = address.port().into();
        (BrokerId(id.get()), address.ip().to_string(), port)
    })
}
