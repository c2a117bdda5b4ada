//! Offsets of groups and logs.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::ids::{PartitionId, Position, TopicId};
use tidegate_kafka::{Kafka, ProducerOptions};
use tidegate_runtime::ports::{Bound, OutgoingRecord, TopicPartition};
use tidegate_testing::unique_name;

use super::produce::record;
use super::{new_log, new_topic, partition, raw};

pub(crate) async fn commits_are_found_again_and_missing_ones_are_absent(kafka: Kafka) {
    let topic = new_topic(&kafka, "commits", 3).await;
    let group = unique_name("group");
    let offsets = kafka.offsets();
    let first = partition(&kafka, &topic, 0).await;
    let numbered =
        |number| TopicPartition { id: PartitionId { number, ..first.id }, ..first.clone() };
    let all: Vec<TopicPartition> = (0..3).map(numbered).collect();
    assert!(offsets.committed(&group, &all).await.unwrap().is_empty());
    let commits = BTreeMap::from([(all[0].clone(), Position(7)), (all[2].clone(), Position(0))]);
    offsets.commit(&group, &commits).await.unwrap();
    let found = BTreeMap::from([(all[0].id, Position(7)), (all[2].id, Position(0))]);
    assert_eq!(offsets.committed(&group, &all).await.unwrap(), found);
    let later = BTreeMap::from([(all[0].clone(), Position(9))]);
    offsets.commit(&group, &later).await.unwrap();
    let found = BTreeMap::from([(all[0].id, Position(9))]);
    assert_eq!(offsets.committed(&group, &all[..1]).await.unwrap(), found);
}

/// Kafka keeps commits by name: who still reads a topic that is deleted may commit for the one that was made since.
pub(crate) async fn a_commit_for_a_topic_that_was_deleted_is_none_for_its_successor(kafka: Kafka) {
    let topic = new_topic(&kafka, "successor", 1).await;
    let group = unique_name("group");
    let offsets = kafka.offsets();
    let part = partition(&kafka, &topic, 0).await;
    let other = PartitionId { topic: TopicId([7; 16]), number: 0 };
    let old = TopicPartition { id: other, ..part.clone() };
    offsets.commit(&group, &BTreeMap::from([(old.clone(), Position(5))])).await.unwrap();
    assert!(offsets.committed(&group, &[part]).await.unwrap().is_empty());
    let found = BTreeMap::from([(other, Position(5))]);
    assert_eq!(offsets.committed(&group, &[old]).await.unwrap(), found);
}

pub(crate) async fn bounds_follow_the_log(kafka: Kafka) {
    let (topic, log) = new_log(&kafka, "extent", 2).await;
    for _ in 0..6 {
        log.append(1, raw("x")).await.unwrap();
    }
    log.trim(1, 2).await.unwrap();
    let all =
        [(topic.clone(), 0), (topic.clone(), 1), (unique_name("none"), 0), (topic.clone(), 9)];
    let offsets = kafka.offsets();
    let latest = offsets.bounds(&all, Bound::Latest).await.unwrap();
    assert_eq!(latest, BTreeMap::from([((topic.clone(), 0), 0), ((topic.clone(), 1), 6)]));
    let earliest = offsets.bounds(&all, Bound::Earliest).await.unwrap();
    assert_eq!(earliest, BTreeMap::from([((topic.clone(), 0), 0), ((topic, 1), 2)]));
}

pub(crate) async fn a_time_is_the_first_record_that_is_not_older(kafka: Kafka) {
    let topic = new_topic(&kafka, "times", 3).await;
    let producer = kafka.producer(ProducerOptions::default()).unwrap();
    let name = Arc::from(topic.as_str());
    for at_ms in [1000, 2000, 3000] {
        let record = record(&name, 1, Bytes::from_static(b"x"));
        let record = OutgoingRecord { timestamp_ms: Some(at_ms), ..record };
        producer.enqueue(record).await.unwrap().await.unwrap();
    }
    let all = [(topic.clone(), 0), (topic.clone(), 1), (topic.clone(), 9)];
    let offsets = kafka.offsets();
    for (ms, expected) in [(0, 0), (1000, 0), (1001, 1), (3000, 2), (3001, 3), (u64::MAX, 3)] {
        let found = offsets.bounds(&all, Bound::Timestamp(ms)).await.unwrap();
        let expected = BTreeMap::from([((topic.clone(), 0), 0), ((topic.clone(), 1), expected)]);
        assert_eq!(found, expected, "{ms} ms");
    }
}
