//! Records from a producer to a consumer.

use std::time::Duration;

use kafka_protocol::messages::{FetchRequest, InitProducerIdRequest};
use rdkafka::consumer::Consumer;
use rdkafka::producer::Producer;
use tidegate_devbroker::ResponseError;
use tokio::time::Instant;

use crate::raw::{RawClient, batch, fetch_request, produce_request};
use crate::support::{BOUND, assign, broker, consumer, producer, read, read_all, send};

/// Far longer than any wait for data may take, far shorter than the fetch would wait by itself.
const SOON: Duration = Duration::from_secs(20);
const LONG_POLL_MS: i32 = 50_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_arrive_in_order_and_unchanged_from_every_partition() {
    let broker = broker(3).await;
    broker.create_topic("t", 3, &[]).unwrap();
    let producer = producer(&broker);
    let mut sent = Vec::new();
    for n in 0..600_usize {
        let partition = i32::try_from(n % 3).unwrap();
        let value = format!("{n}-{}", "x".repeat(n));
        let record =
            rdkafka::producer::FutureRecord::<(), _>::to("t").partition(partition).payload(&value);
        let delivery = producer.send_result(record).map_err(|(error, _)| error).unwrap();
        sent.push((partition, value, delivery));
    }
    let mut expected = Vec::new();
    for (partition, value, delivery) in sent {
        let delivered = delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
        expected.push((partition, delivered.offset, value));
    }
    let consumer = consumer(&broker);
    assign(&consumer, "t", &[(0, 0), (1, 0), (2, 0)]);
    let mut seen = read(&consumer, expected.len());
    let ordered = |partition| {
        let offsets: Vec<i64> = seen.iter().filter(|r| r.0 == partition).map(|r| r.1).collect();
        offsets == (0..200).collect::<Vec<_>>()
    };
    assert!((0..3).all(ordered));
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_waiting_fetch_is_answered_when_a_record_arrives() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let mut client = RawClient::to_leader(&broker, "t", 0);
    let started = Instant::now();
    let waiting = tokio::task::spawn_blocking(move || {
        let request: FetchRequest = fetch_request("t", 0, LONG_POLL_MS);
        client.call(&request, 11)
    });
    send(&producer(&broker), "t", 0, "wake up").await;
    let response = waiting.await.unwrap();
    let data = &response.responses[0].partitions[0];
    assert!(data.records.as_ref().is_some_and(|records| !records.is_empty()));
    assert!(started.elapsed() < SOON);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_without_data_ends_when_its_time_is_over() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let mut client = RawClient::to_leader(&broker, "t", 0);
    let started = Instant::now();
    let response = client.call(&fetch_request("t", 0, 50), 11);
    let data = &response.responses[0].partitions[0];
    assert!(data.records.as_ref().is_none_or(bytes::Bytes::is_empty));
    assert!(started.elapsed() >= Duration::from_millis(50));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_at_the_end_gets_the_next_record() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let (producer, consumer) = (producer(&broker), consumer(&broker));
    assign(&consumer, "t", &[(0, 0)]);
    for n in 0..3 {
        let value = n.to_string();
        send(&producer, "t", 0, &value).await;
        assert_eq!(read(&consumer, 1), [(0, n, value)]);
    }
    let ends = consumer.fetch_watermarks("t", 0, BOUND).unwrap();
    assert_eq!(ends, (0, 3));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_sent_twice_is_kept_once_under_its_first_offset() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let mut client = RawClient::to_leader(&broker, "t", 0);
    let id = client.call(&InitProducerIdRequest::default().with_transactional_id(None), 4);
    let mut send = |sequence, value: &[u8]| {
        let batch = batch(id.producer_id.0, sequence, value);
        let response = client.call(&produce_request("t", 0, batch), 9);
        let partition = &response.responses[0].partition_responses[0];
        (partition.error_code, partition.base_offset)
    };
    assert_eq!(send(0, b"a"), (0, 0));
    assert_eq!(send(1, b"b"), (0, 1));
    assert_eq!(send(0, b"a"), (0, 0));
    let gap = ResponseError::OutOfOrderSequenceNumber.code();
    assert_eq!(send(3, b"d"), (gap, -1));
    assert_eq!(broker.offsets("t", 0), Some((0, 2)));
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_asynchronous_producer_loses_nothing_between_flushes() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let producer = producer(&broker);
    for n in 0..5_000 {
        let value = n.to_string();
        let record = rdkafka::producer::FutureRecord::<(), _>::to("t").partition(0).payload(&value);
        drop(producer.send_result(record).map_err(|(error, _)| error).unwrap());
    }
    producer.flush(BOUND).unwrap();
    let values: Vec<_> = read_all(&broker, "t", 0).into_iter().map(|seen| seen.2).collect();
    assert_eq!(values, (0..5_000).map(|n| n.to_string()).collect::<Vec<_>>());
    broker.stop().await;
}
