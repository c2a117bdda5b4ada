//! Committed offsets, and offsets by time.

use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionListElem};

use crate::support::{BOUND, broker, consumer, list, producer, send};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn committed_offsets_are_there_for_the_groups_next_consumer() {
    let broker = broker(3).await;
    broker.create_topic("t", 3, &[]).unwrap();
    let commit = list("t", &[(0, 5), (2, 7)]);
    consumer(&broker).commit(&commit, CommitMode::Sync).unwrap();

    let asked = list("t", &[(0, 0), (1, 0), (2, 0)]);
    let found = consumer(&broker).committed_offsets(asked, BOUND).unwrap();
    let offsets: Vec<Offset> =
        found.elements().iter().map(TopicPartitionListElem::offset).collect();
    assert_eq!(offsets, [Offset::Offset(5), Offset::Invalid, Offset::Offset(7)]);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_for_a_topic_that_does_not_exist_fails() {
    let broker = broker(1).await;
    let commit = list("nowhere", &[(0, 5)]);
    assert!(consumer(&broker).commit(&commit, CommitMode::Sync).is_err());
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_found_by_time() {
    let broker = broker(1).await;
    broker.create_topic("t", 1, &[]).unwrap();
    let producer = producer(&broker);
    for timestamp in [1_000, 2_000, 3_000] {
        let record = rdkafka::producer::FutureRecord::<(), _>::to("t")
            .partition(0)
            .timestamp(timestamp)
            .payload("x");
        producer.send(record, BOUND).await.unwrap();
    }
    let at = |timestamp| {
        let asked = list("t", &[(0, timestamp)]);
        let found = consumer(&broker).offsets_for_times(asked, BOUND).unwrap();
        found.elements()[0].offset()
    };
    assert_eq!(at(1_500), Offset::Offset(1));
    assert_eq!(at(3_000), Offset::Offset(2));
    assert_eq!(at(3_001), Offset::End);
    send(&producer, "t", 0, "now").await;
    assert_eq!(at(3_001), Offset::Offset(3));
    broker.stop().await;
}
