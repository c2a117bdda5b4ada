//! How the data path shares what it has: time, memory and turns among partitions.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tidegate_core::ids::Position;
use tidegate_kafka::{Kafka, ReaderOptions};
use tidegate_runtime::ports::{PartitionReader, ReadEvent, Record, RecordBatch};

use super::reader::read;
use super::{new_topic, partition, soon};

/// Records of a batch, and bytes of each.
const BATCH: usize = 500;
const VALUE: usize = 1000;

/// Writes batches of half a megabyte.
async fn fill(kafka: &Kafka, topic: &str, number: u32, batches: usize) {
    let values = vec![Bytes::from(vec![b'x'; VALUE]); BATCH];
    let writer = kafka.batch_writer();
    for _ in 0..batches {
        writer.write(topic, &BTreeMap::from([(number, values.clone())]), 1).await.unwrap();
    }
}

async fn batches(reader: &mut Box<dyn PartitionReader>) -> Vec<RecordBatch> {
    match soon("records", reader.next()).await {
        ReadEvent::Records(batches) => batches,
        other => panic!("{other:?} in place of records"),
    }
}

pub(crate) async fn a_partition_that_comes_does_not_wait_for_a_fetch_that_is_held_back(
    kafka: Kafka,
) {
    let topic = new_topic(&kafka, "comes", 2).await;
    let (idle, new) = (partition(&kafka, &topic, 0).await, partition(&kafka, &topic, 1).await);
    fill(&kafka, &topic, 0, 1).await;
    fill(&kafka, &topic, 1, 1).await;
    let options =
        ReaderOptions { fetch_wait: Duration::from_secs(3600), ..ReaderOptions::default() };
    let mut reader = kafka.partition_reader(options);
    reader.assign(&idle, Position(0)).await.unwrap();
    // Once they are here, the next fetch is on its way, and held back.
    read(&mut reader, BATCH).await;
    reader.assign(&new, Position(0)).await.unwrap();
    assert_eq!(read(&mut reader, BATCH).await[&1].len(), BATCH);
    reader.pause(&new, true).await.unwrap();
    fill(&kafka, &topic, 1, 1).await;
    reader.pause(&new, false).await.unwrap();
    assert_eq!(read(&mut reader, BATCH).await[&1][0].offset, BATCH as u64);
}

pub(crate) async fn a_hot_partition_does_not_keep_a_quiet_one_from_being_read(kafka: Kafka) {
    const HOT: usize = 80;
    let topic = new_topic(&kafka, "fair", 2).await;
    let (hot, quiet) = (partition(&kafka, &topic, 0).await, partition(&kafka, &topic, 1).await);
    fill(&kafka, &topic, 0, HOT).await;
    fill(&kafka, &topic, 1, 1).await;
    let options = ReaderOptions { queue_kib: 2 << 10, ..ReaderOptions::default() };
    let mut reader = kafka.partition_reader(options);
    reader.assign(&hot, Position(0)).await.unwrap();
    reader.assign(&quiet, Position(0)).await.unwrap();
    let (mut of_hot, mut of_quiet) = (0, 0);
    while of_quiet < BATCH {
        for batch in batches(&mut reader).await {
            let count = batch.records.len();
            if batch.partition == hot { of_hot += count } else { of_quiet += count }
        }
    }
    assert!(of_hot < HOT * BATCH / 2, "{of_hot} records came before the last of the quiet one");
}

pub(crate) async fn what_nobody_takes_is_not_fetched(kafka: Kafka) {
    const BATCHES: usize = 60;
    const QUEUE: u32 = 4 << 10;
    let topic = new_topic(&kafka, "bounded", 1).await;
    let part = partition(&kafka, &topic, 0).await;
    fill(&kafka, &topic, 0, BATCHES).await;
    let options = ReaderOptions { queue_kib: QUEUE, ..ReaderOptions::default() };
    let before = kafka.traffic().received;
    let mut reader = kafka.partition_reader(options);
    reader.assign(&part, Position(0)).await.unwrap();
    let quiet = async {
        let mut last = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let received = kafka.traffic().received - before;
            if received > 1 << 20 && received == last {
                return received;
            }
            last = received;
        }
    };
    let received = soon("an end of fetching", quiet).await;
    assert!(received < 2 * (u64::from(QUEUE) << 10), "{received} bytes were fetched");
    let mut offsets = 0..;
    let all = read(&mut reader, BATCHES * BATCH).await;
    let in_order = |record: &Record| offsets.next() == Some(record.offset);
    assert!(all[&0].iter().all(in_order));
}
