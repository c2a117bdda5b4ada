//! The produce port.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_kafka::{Kafka, ProducerOptions};
use tidegate_runtime::ports::{AppendError, Class, OutgoingRecord};
use tokio::time::Instant;

use super::{new_topic, soon};

pub(crate) fn record(topic: &Arc<str>, partition: u32, value: Bytes) -> OutgoingRecord {
    OutgoingRecord {
        topic: Arc::clone(topic),
        partition,
        key: None,
        value: Some(value),
        headers: Vec::new(),
        timestamp_ms: Some(1_700_000_000_000),
    }
}

pub(crate) async fn many_records_are_pipelined_and_acknowledged_in_order(kafka: Kafka) {
    const COUNT: u64 = 20_000;
    let topic: Arc<str> = new_topic(&kafka, "pipeline", 2).await.into();
    let producer = kafka.producer(ProducerOptions::default()).unwrap();
    let value = Bytes::from(vec![b'x'; 1024]);
    let started = Instant::now();
    let mut deliveries = [VecDeque::new(), VecDeque::new()];
    for number in 0..COUNT {
        let partition = u32::try_from(number % 2).unwrap();
        let record = record(&topic, partition, value.clone());
        let delivery = producer.enqueue(record).await.unwrap();
        deliveries[usize::try_from(partition).unwrap()].push_back(delivery);
    }
    for queue in deliveries {
        for (expected, delivery) in queue.into_iter().enumerate() {
            let offset = soon("an acknowledgement", delivery).await.unwrap();
            assert_eq!(offset, u64::try_from(expected).unwrap());
        }
    }
    let elapsed = started.elapsed();
    println!("{COUNT} records of 1 KiB in {elapsed:?}");
}

pub(crate) async fn a_partition_that_does_not_exist_is_refused(kafka: Kafka) {
    let topic: Arc<str> = new_topic(&kafka, "refuse", 1).await.into();
    let producer = kafka.producer(ProducerOptions::default()).unwrap();
    let outcome = producer.send(record(&topic, 1, Bytes::from_static(b"x"))).await;
    let Err(AppendError::Refused(error)) = outcome else { panic!("the record is refused") };
    assert_eq!(error.class(), Class::Permanent);
    let huge = Bytes::from(vec![b'x'; 4 << 20]);
    let outcome = producer.send(record(&topic, 0, huge)).await;
    assert!(matches!(outcome, Err(AppendError::Refused(_))), "{outcome:?}");
}
