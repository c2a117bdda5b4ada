//! The data path.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::ids::{PartitionId, Position, TopicId};
use tidegate_kafka::{ControlOptions, Kafka, ProducerOptions, ReaderOptions};
use tidegate_runtime::ports::{
    Class, PartitionReader, ReadEvent, Record, TopicPartition, TopicSpec,
};
use tokio::time::Instant;

use super::produce::record;
use super::{new_topic, partition, soon};

async fn fill(kafka: &Kafka, topic: &str, number: u32, count: u64) {
    let producer = kafka.producer(ProducerOptions::default()).unwrap();
    let topic: Arc<str> = topic.into();
    let mut deliveries = Vec::new();
    for at in 0..count {
        let value = Bytes::from(format!("{number}:{at}"));
        deliveries.push(producer.enqueue(record(&topic, number, value)).await.unwrap());
    }
    for delivery in deliveries {
        soon("an acknowledgement", delivery).await.unwrap();
    }
}

pub(crate) fn reader(kafka: &Kafka) -> Box<dyn PartitionReader> {
    kafka.partition_reader(ReaderOptions::default())
}

/// Reads a number of records, by partition.
pub(crate) async fn read(
    reader: &mut Box<dyn PartitionReader>,
    count: usize,
) -> BTreeMap<u32, Vec<Record>> {
    let mut records: BTreeMap<u32, Vec<Record>> = BTreeMap::new();
    let mut read = 0;
    while read < count {
        match soon("a record", reader.next()).await {
            ReadEvent::Records(batches) => {
                for batch in batches {
                    read += batch.records.len();
                    let last = batch.records.last().expect("a batch has records").offset;
                    assert_eq!(batch.next, Position(last + 1));
                    records.entry(batch.partition.id.number).or_default().extend(batch.records);
                }
            }
            other => panic!("{other:?} in place of records"),
        }
    }
    records
}

/// Sees to it that nothing comes for a while.
async fn silent(reader: &mut Box<dyn PartitionReader>) {
    let waited = tokio::time::timeout(Duration::from_millis(700), reader.next()).await;
    if let Ok(event) = waited {
        panic!("{event:?} in place of silence");
    }
}

pub(crate) async fn records_come_in_order_from_the_position_asked_for(kafka: Kafka) {
    let topic = new_topic(&kafka, "read", 2).await;
    fill(&kafka, &topic, 0, 5000).await;
    fill(&kafka, &topic, 1, 5000).await;
    let mut reader = reader(&kafka);
    let parts = [partition(&kafka, &topic, 0).await, partition(&kafka, &topic, 1).await];
    reader.assign(&parts[0], Position(0)).await.unwrap();
    reader.assign(&parts[1], Position(1234)).await.unwrap();
    let records = read(&mut reader, 5000 + 5000 - 1234).await;
    let offsets = |number: u32| records[&number].iter().map(|record| record.offset);
    assert!(offsets(0).eq(0..5000));
    assert!(offsets(1).eq(1234..5000));
    let last = records[&1].last().unwrap();
    assert_eq!(last.value.as_deref(), Some(b"1:4999".as_slice()));
    assert_eq!((last.timestamp_ms, last.key.is_none()), (1_700_000_000_000, true));
    let known = async {
        while reader.end(&parts[0]).is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the end of the partition", known).await;
    assert_eq!(reader.end(&parts[0]), Some(Position(5000)));
}

pub(crate) async fn an_unassigned_partition_gives_no_more_records(kafka: Kafka) {
    let topic = new_topic(&kafka, "unassign", 2).await;
    fill(&kafka, &topic, 0, 3000).await;
    let mut reader = reader(&kafka);
    let (gone, kept) = (partition(&kafka, &topic, 0).await, partition(&kafka, &topic, 1).await);
    reader.assign(&gone, Position(0)).await.unwrap();
    reader.assign(&kept, Position(0)).await.unwrap();
    assert!(read(&mut reader, 1).await.contains_key(&0));
    // More is queued in the client and in the channel.
    reader.unassign(&gone).await.unwrap();
    reader.unassign(&gone).await.unwrap();
    silent(&mut reader).await;
    let producer = kafka.producer(ProducerOptions::default()).unwrap();
    let topic: Arc<str> = topic.into();
    for _ in 0..3 {
        let started = Instant::now();
        producer.send(record(&topic, 1, Bytes::from_static(b"x"))).await.unwrap();
        let written = started.elapsed();
        assert!(read(&mut reader, 1).await.contains_key(&1));
        println!("a record is written after {written:?} and read after {:?}", started.elapsed());
    }
    assert_eq!(reader.end(&gone), None);
}

pub(crate) async fn a_partition_assigned_again_starts_where_it_is_told(kafka: Kafka) {
    let topic = new_topic(&kafka, "reassign", 1).await;
    fill(&kafka, &topic, 0, 2000).await;
    let mut reader = reader(&kafka);
    let part = partition(&kafka, &topic, 0).await;
    let mut times = Vec::new();
    for from in [0, 500, 100, 1999, 3] {
        let started = Instant::now();
        reader.assign(&part, Position(from)).await.unwrap();
        let records = read(&mut reader, 1).await;
        times.push(started.elapsed());
        assert_eq!(records[&0][0].offset, from);
        if from != 500 {
            // Every second time without giving the partition back first.
            reader.unassign(&part).await.unwrap();
        }
    }
    println!("assign to first record: {times:?}");
}

async fn out_of_range(reader: &mut Box<dyn PartitionReader>) -> TopicPartition {
    match soon("an event", reader.next()).await {
        ReadEvent::OutOfRange(partition) => partition,
        other => panic!("{other:?} in place of an event that says out of range"),
    }
}

pub(crate) async fn positions_outside_the_log_are_out_of_range(kafka: Kafka) {
    let topic = new_topic(&kafka, "range", 2).await;
    fill(&kafka, &topic, 0, 10).await;
    let log = kafka.control_log(&topic, ControlOptions::default()).unwrap();
    log.trim(0, 5).await.unwrap();
    let mut reader = reader(&kafka);
    let (part, other) = (partition(&kafka, &topic, 0).await, partition(&kafka, &topic, 1).await);
    reader.assign(&other, Position(0)).await.unwrap();
    for from in [2, 11] {
        reader.assign(&part, Position(from)).await.unwrap();
        assert_eq!(out_of_range(&mut reader).await, part);
        silent(&mut reader).await;
    }
    // It has stopped, and can be started again; the other partition is none the worse.
    reader.assign(&part, Position(5)).await.unwrap();
    assert_eq!(read(&mut reader, 5).await[&0][0].offset, 5);
    fill(&kafka, &topic, 1, 1).await;
    assert!(read(&mut reader, 1).await.contains_key(&1));
}

pub(crate) async fn a_log_cut_under_a_reader_is_out_of_range(kafka: Kafka) {
    let topic = new_topic(&kafka, "cut", 1).await;
    fill(&kafka, &topic, 0, 10).await;
    let mut reader = reader(&kafka);
    let part = partition(&kafka, &topic, 0).await;
    reader.assign(&part, Position(0)).await.unwrap();
    read(&mut reader, 10).await;
    reader.pause(&part, true).await.unwrap();
    fill(&kafka, &topic, 0, 10).await;
    let log = kafka.control_log(&topic, ControlOptions::default()).unwrap();
    log.trim(0, 15).await.unwrap();
    reader.pause(&part, false).await.unwrap();
    // Records that the client had fetched before the cut may come first.
    loop {
        match soon("the event", reader.next()).await {
            ReadEvent::OutOfRange(found) => {
                assert_eq!(found, part);
                return;
            }
            ReadEvent::Records(batches) => {
                let next = batches.last().expect("a batch").next;
                assert!(next.0 <= 20);
                if next.0 >= 15 {
                    println!("the client had fetched beyond the cut");
                    return;
                }
            }
            other @ ReadEvent::Failed(..) => panic!("{other:?}"),
        }
    }
}

pub(crate) async fn a_partition_of_another_topic_or_number_is_refused(kafka: Kafka) {
    let topic = new_topic(&kafka, "wrong", 1).await;
    let mut reader = reader(&kafka);
    let right = partition(&kafka, &topic, 0).await;
    let number = TopicPartition { id: PartitionId { number: 1, ..right.id }, ..right.clone() };
    let id = PartitionId { topic: TopicId([7; 16]), number: 0 };
    let identity = TopicPartition { id, ..right.clone() };
    let name = TopicPartition { topic: format!("{topic}-none"), ..right.clone() };
    for wrong in [number, identity, name] {
        let error = reader.assign(&wrong, Position(0)).await.unwrap_err();
        assert_eq!(error.class(), Class::Permanent, "{error}");
        assert!(error.to_string().contains(&topic), "{error}");
    }
    reader.assign(&right, Position(0)).await.unwrap();
    silent(&mut reader).await;
}

pub(crate) async fn a_paused_partition_keeps_its_place_and_its_end(kafka: Kafka) {
    let topic = new_topic(&kafka, "pause", 1).await;
    let mut reader = reader(&kafka);
    let part = partition(&kafka, &topic, 0).await;
    reader.assign(&part, Position(0)).await.unwrap();
    reader.pause(&part, true).await.unwrap();
    fill(&kafka, &topic, 0, 100).await;
    silent(&mut reader).await;
    let known = async {
        while reader.end(&part) != Some(Position(100)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the end of a paused partition", known).await;
    reader.pause(&part, false).await.unwrap();
    let records = read(&mut reader, 100).await;
    assert!(records[&0].iter().map(|record| record.offset).eq(0..100));
}

/// A pause is the assignment's: a partition that was paused when it was given up must not be silent when it is taken up
/// again.
pub(crate) async fn a_partition_that_was_paused_when_it_was_given_up_is_read_when_it_comes_back(
    kafka: Kafka,
) {
    let topic = new_topic(&kafka, "pause-again", 1).await;
    let mut reader = reader(&kafka);
    let part = partition(&kafka, &topic, 0).await;
    fill(&kafka, &topic, 0, 10).await;
    reader.assign(&part, Position(0)).await.unwrap();
    reader.pause(&part, true).await.unwrap();
    reader.unassign(&part).await.unwrap();
    reader.assign(&part, Position(5)).await.unwrap();
    let records = read(&mut reader, 5).await;
    assert!(records[&0].iter().map(|record| record.offset).eq(5..10));
}

async fn make_again(kafka: &Kafka, topic: &str) {
    let admin = kafka.admin();
    admin.delete(topic).await.unwrap();
    // What is written has timestamps of long ago.
    let config = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    let name = topic.to_owned();
    let spec = TopicSpec { name, partitions: 1, replication: Some(1), config };
    let created = async {
        // A deletion goes on for a while after its answer.
        while !admin.create(&spec).await.is_ok_and(|made| made) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the topic", created).await;
}

/// Else the records of the new topic would be delivered as the old one's, where its log is long enough.
pub(crate) async fn a_reader_ends_a_partition_whose_topic_was_made_again(kafka: Kafka) {
    let topic = new_topic(&kafka, "strange", 1).await;
    let mut reader = reader(&kafka);
    let old = partition(&kafka, &topic, 0).await;
    reader.assign(&old, Position(0)).await.unwrap();
    make_again(&kafka, &topic).await;
    let ended = async {
        loop {
            fill(&kafka, &topic, 0, 1).await;
            match reader.next().await {
                ReadEvent::Records(_) => {}
                ReadEvent::Failed(partition, error) => return (partition, error.class()),
                other @ ReadEvent::OutOfRange(_) => panic!("{other:?} in place of records"),
            }
        }
    };
    assert_eq!(soon("the end of the old partition", ended).await, (old, Class::Permanent));
}

/// Both have one name: giving the old one up must not take the new one away.
pub(crate) async fn a_topic_made_again_is_read_while_the_old_one_is_given_up(kafka: Kafka) {
    let topic = new_topic(&kafka, "again", 1).await;
    fill(&kafka, &topic, 0, 3).await;
    let mut reader = reader(&kafka);
    let (lasting, paused) = {
        let topic = new_topic(&kafka, "lasting", 2).await;
        (partition(&kafka, &topic, 0).await, partition(&kafka, &topic, 1).await)
    };
    fill(&kafka, &lasting.topic, 0, 4).await;
    reader.assign(&lasting, Position(0)).await.unwrap();
    assert_eq!(read(&mut reader, 4).await[&0].len(), 4);
    reader.assign(&paused, Position(0)).await.unwrap();
    reader.pause(&paused, true).await.unwrap();
    let old = partition(&kafka, &topic, 0).await;
    reader.assign(&old, Position(0)).await.unwrap();
    assert_eq!(read(&mut reader, 3).await[&0].len(), 3);
    make_again(&kafka, &topic).await;
    let new = partition(&kafka, &topic, 0).await;
    assert_ne!(old.id, new.id);
    reader.assign(&new, Position(0)).await.unwrap();
    reader.unassign(&old).await.unwrap();
    fill(&kafka, &topic, 0, 5).await;
    let mut records = Vec::new();
    let mut told = 0;
    while records.len() < 5 {
        match soon("a record of the new topic", reader.next()).await {
            ReadEvent::Records(batches) => {
                assert!(batches.iter().all(|batch| batch.partition == new));
                records.extend(batches.into_iter().flat_map(|batch| batch.records));
            }
            ReadEvent::Failed(partition, error) => {
                assert_eq!((partition, error.class()), (old.clone(), Class::Permanent));
                told += 1;
            }
            other @ ReadEvent::OutOfRange(_) => panic!("{other:?} in place of records"),
        }
    }
    assert!(records.iter().map(|record| record.offset).eq(0..5));
    assert!(told <= 1, "the end of the old partition is told once");
    // The others are none the worse.
    fill(&kafka, &lasting.topic, 1, 1).await;
    fill(&kafka, &lasting.topic, 0, 2).await;
    let records = read(&mut reader, 2).await;
    assert!(records[&0].iter().map(|record| record.offset).eq(4..6));
    silent(&mut reader).await;
    reader.pause(&paused, false).await.unwrap();
    assert_eq!(read(&mut reader, 1).await[&1].len(), 1);
}
