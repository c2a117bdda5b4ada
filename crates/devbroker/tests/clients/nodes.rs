//! Nodes that stop and start, leaders that move.

use kafka_protocol::messages::MetadataRequest;
use rdkafka::producer::FutureRecord;
use tidegate_devbroker::NodeId;

use crate::raw::{RawClient, batch, produce_request};
use crate::support::{assign, broker, consumer, producer, read, read_all, send};

const RECORDS: usize = 3_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_goes_on_over_a_stopped_leader_without_loss_or_duplicate() {
    let broker = broker(3).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let producer = producer(&broker);
    let leader = broker.leader("t", 0).unwrap();
    let mut deliveries = Vec::new();
    for n in 0..RECORDS {
        if n == RECORDS / 3 {
            send(&producer, "t", 0, "in the middle").await;
        }
        if n == RECORDS / 2 {
            broker.stop_node(leader).await.unwrap();
        }
        let value = n.to_string();
        let record = FutureRecord::<(), _>::to("t").partition(0).payload(&value);
        deliveries.push(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
    }
    assert_ne!(broker.leader("t", 0), Some(leader));
    let mut values: Vec<_> = read_all(&broker, "t", 0).into_iter().map(|seen| seen.2).collect();
    values.retain(|value| value != "in the middle");
    assert_eq!(values, (0..RECORDS).map(|n| n.to_string()).collect::<Vec<_>>());
    broker.stop().await;
}

/// Three nodes, of which two are always up: librdkafka forgets a node that metadata does not list, so that a client of
/// two nodes that stop in turn can be left with none it knows (and asks `bootstrap.servers` again after minutes).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_follows_the_leader_and_a_node_comes_back() {
    let broker = broker(3).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let (producer, consumer) = (producer(&broker), consumer(&broker));
    assign(&consumer, "t", &[(0, 0)]);
    for offset in 0..3 {
        let leader = broker.leader("t", 0).unwrap();
        broker.stop_node(leader).await.unwrap();
        let value = offset.to_string();
        assert_eq!(send(&producer, "t", 0, &value).await, (0, offset));
        assert_eq!(read(&consumer, 1), [(0, offset, value)]);
        broker.start_node(leader).await.unwrap();
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_wrong_node_says_who_leads() {
    let broker = broker(2).await;
    broker.create_topic("t", 1, &[]).unwrap();
    broker.move_leader("t", 0, NodeId::new(2)).unwrap();
    let mut client = RawClient::connect(&broker, NodeId::new(1));
    let response = client.call(&produce_request("t", 0, batch(-1, -1, b"x")), 10);
    let partition = &response.responses[0].partition_responses[0];
    let code = tidegate_devbroker::ResponseError::NotLeaderOrFollower.code();
    assert_eq!((partition.error_code, partition.current_leader.leader_id.0), (code, 2));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_node_hangs_up_and_is_not_listed() {
    let broker = broker(2).await;
    let mut first = RawClient::connect(&broker, NodeId::new(1));
    let mut second = RawClient::connect(&broker, NodeId::new(2));
    let all = MetadataRequest::default().with_topics(None);
    assert_eq!(first.call(&all, 9).brokers.len(), 2);
    assert_eq!(second.call(&all, 9).brokers.len(), 2);
    broker.stop_node(NodeId::new(2)).await.unwrap();
    assert!(second.try_call(&all, 9).is_err());
    assert_eq!(first.call(&all, 9).brokers.len(), 1);
    broker.stop().await;
    assert!(first.try_call(&all, 9).is_err());
}
