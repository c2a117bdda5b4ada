//! Armed faults as clients meet them.

use std::time::Duration;

use kafka_protocol::messages::{DescribeLogDirsRequest, MetadataRequest};
use rdkafka::consumer::{CommitMode, Consumer};
use tidegate_devbroker::{ApiKey, FaultAction, FaultRule, NodeId, ResponseError};
use tokio::time::Instant;

use crate::raw::{RawClient, batch, produce_request};
use crate::support::{broker, consumer, list, producer, read_all, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotent_producer_survives_unknown_outcomes() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let rule = FaultRule::new(ApiKey::Produce, FaultAction::ApplyThenDrop);
    let fault = broker.inject(rule.on_partition("t", 0).after(2).times(2));
    let producer = producer(&broker);
    for n in 0..6 {
        assert_eq!(send(&producer, "t", 0, &n.to_string()).await, (0, n));
    }
    assert_eq!(broker.fault_hits(fault), Some(2));
    let values: Vec<_> = read_all(&broker, "t", 0).into_iter().map(|seen| seen.2).collect();
    assert_eq!(values, ["0", "1", "2", "3", "4", "5"]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_can_be_retried_is_retried_by_librdkafka() {
    let broker = broker(1).await;
    broker.create_topic("t", 2, &[]).unwrap();
    let action = FaultAction::Error(ResponseError::NotEnoughReplicas);
    let rule = FaultRule::new(ApiKey::Produce, action).on_partition("t", 1);
    let fault = broker.inject(rule.times(3));
    let producer = producer(&broker);
    assert_eq!(send(&producer, "t", 0, "spared").await, (0, 0));
    assert_eq!(broker.fault_hits(fault), Some(0));
    assert_eq!(send(&producer, "t", 1, "struck").await, (1, 0));
    assert_eq!(broker.remove_fault(fault), Some(3));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_that_cannot_be_retried_reaches_the_caller() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let action = FaultAction::Error(ResponseError::GroupAuthorizationFailed);
    broker.inject(FaultRule::new(ApiKey::OffsetCommit, action));
    let (consumer, commit) = (consumer(&broker), list("t", &[(0, 1)]));
    assert!(consumer.commit(&commit, CommitMode::Sync).is_err());
    broker.clear_faults();
    consumer.commit(&commit, CommitMode::Sync).unwrap();
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_can_be_refused_to_one_client() {
    let broker = broker(1).await;
    let action = FaultAction::Error(ResponseError::ClusterAuthorizationFailed);
    let rule = FaultRule::new(ApiKey::DescribeLogDirs, action);
    broker.inject(rule.from_client("raw"));
    let mut client = RawClient::connect(&broker, NodeId::new(1));
    let sizes = DescribeLogDirsRequest::default().with_topics(None);
    let refused = ResponseError::ClusterAuthorizationFailed.code();
    assert_eq!(client.call(&sizes, 4).error_code, refused);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_request_has_no_effect_and_a_doubled_one_has_two() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    broker.inject(FaultRule::new(ApiKey::Produce, FaultAction::DropConnection).times(1));
    broker.inject(FaultRule::new(ApiKey::Produce, FaultAction::DuplicateAppend).times(1));
    let request = produce_request("t", 0, batch(-1, -1, b"x"));
    let mut client = RawClient::to_leader(&broker, "t", 0);
    assert!(client.try_call(&request, 9).is_err());
    assert_eq!(broker.offsets("t", 0), Some((0, 0)));
    let mut client = RawClient::to_leader(&broker, "t", 0);
    client.call(&request, 9);
    assert_eq!(broker.offsets("t", 0), Some((0, 2)));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delayed_request_is_answered_later() {
    let broker = broker(1).await;
    let delay = Duration::from_millis(80);
    broker.inject(FaultRule::new(ApiKey::Metadata, FaultAction::Delay(delay)).times(1));
    let mut client = RawClient::connect(&broker, NodeId::new(1));
    let started = Instant::now();
    client.call(&MetadataRequest::default(), 9);
    assert!(started.elapsed() >= delay);
    broker.stop().await;
}
