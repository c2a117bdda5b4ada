//! Control topics as logs.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_kafka::{ControlOptions, Kafka};
use tidegate_runtime::ports::{AppendError, Class, ControlReader, RawRecord, ReadError, TopicSpec};
use tokio::time::Instant;

use super::{new_log, raw, soon};

async fn read(reader: &mut Box<dyn ControlReader>, count: usize) -> Vec<RawRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let more = soon("a record", reader.next()).await.expect("the reader reads on");
        assert!(!more.is_empty());
        records.extend(more);
    }
    records
}

pub(crate) async fn records_are_read_back_in_order(kafka: Kafka) {
    const COUNT: u64 = 50;
    let (_, log) = new_log(&kafka, "control", 2).await;
    let mut reader = log.read(1, 0).await.unwrap();
    let mut latencies = Vec::new();
    for number in 0..COUNT {
        let sent = Instant::now();
        assert_eq!(log.append(1, raw(format!("{number}"))).await.unwrap(), number);
        let acknowledged = sent.elapsed();
        let records = read(&mut reader, 1).await;
        latencies.push((sent.elapsed(), acknowledged));
        let expected = RawRecord {
            offset: number,
            timestamp_ms: records[0].timestamp_ms,
            ..raw(format!("{number}"))
        };
        assert_eq!(records, [expected]);
        assert!(records[0].timestamp_ms > 1_600_000_000_000);
    }
    latencies.sort();
    println!(
        "append to read: median {:?}, worst {:?}; append to acknowledgement: median {:?}",
        latencies[latencies.len() / 2].0,
        latencies[latencies.len() - 1].0,
        latencies[latencies.len() / 2].1,
    );
    assert_eq!(log.end(0).await.unwrap(), 0, "the other partition is empty");
}

pub(crate) async fn appends_that_overlap_keep_their_order(kafka: Kafka) {
    let (_, log) = new_log(&kafka, "overlap", 1).await;
    let (a, b, c) =
        tokio::join!(log.append(0, raw("a")), log.append(0, raw("b")), log.append(0, raw("c")));
    assert_eq!((a.unwrap(), b.unwrap(), c.unwrap()), (0, 1, 2));
    let mut reader = log.read(0, 0).await.unwrap();
    let values: Vec<_> =
        read(&mut reader, 3).await.into_iter().map(|record| record.value.unwrap()).collect();
    assert_eq!(values, ["a", "b", "c"]);
}

pub(crate) async fn end_and_start_follow_appends_and_trims(kafka: Kafka) {
    let (_, log) = new_log(&kafka, "bounds", 1).await;
    assert_eq!((log.start(0).await.unwrap(), log.end(0).await.unwrap()), (0, 0));
    for number in 0..10 {
        log.append(0, raw(format!("{number}"))).await.unwrap();
        assert_eq!(log.end(0).await.unwrap(), number + 1);
    }
    log.trim(0, 4).await.unwrap();
    log.trim(0, 4).await.unwrap();
    assert_eq!((log.start(0).await.unwrap(), log.end(0).await.unwrap()), (4, 10));
    let mut reader = log.read(0, 4).await.unwrap();
    assert_eq!(read(&mut reader, 6).await[0].offset, 4);
    let error = log.trim(0, 11).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent);
}

pub(crate) async fn a_position_below_the_start_is_trimmed(kafka: Kafka) {
    let (_, log) = new_log(&kafka, "below", 1).await;
    for _ in 0..5 {
        log.append(0, raw("x")).await.unwrap();
    }
    log.trim(0, 3).await.unwrap();
    let mut reader = log.read(0, 2).await.unwrap();
    let error = soon("the error", reader.next()).await.unwrap_err();
    let ReadError::Trimmed(error) = error else { panic!("{error:?}") };
    assert!(error.to_string().contains("start 3"), "{error}");
    assert!(soon("the end", reader.next()).await.is_err(), "an ended reader stays ended");
}

pub(crate) async fn a_position_beyond_the_end_is_lost(kafka: Kafka) {
    let (_, log) = new_log(&kafka, "beyond", 1).await;
    log.append(0, raw("x")).await.unwrap();
    let mut reader = log.read(0, 7).await.unwrap();
    let error = soon("the error", reader.next()).await.unwrap_err();
    assert!(matches!(error, ReadError::Lost(_)), "{error:?}");
}

pub(crate) async fn a_dropped_wait_loses_nothing(kafka: Kafka) {
    const COUNT: u64 = 200;
    let (_, log) = new_log(&kafka, "cancel", 1).await;
    let mut reader = log.read(0, 0).await.unwrap();
    let appends = async {
        for number in 0..COUNT {
            log.append(0, raw(format!("{number}"))).await.unwrap();
        }
    };
    let reads = async {
        let mut offsets = Vec::new();
        while offsets.len() < 200 {
            let waited = tokio::time::timeout(Duration::from_micros(300), reader.next()).await;
            if let Ok(records) = waited {
                offsets.extend(records.unwrap().into_iter().map(|record| record.offset));
            }
        }
        offsets
    };
    let ((), offsets) = soon("all records", async { tokio::join!(appends, reads) }).await;
    assert_eq!(offsets, (0..COUNT).collect::<Vec<_>>());
}

pub(crate) async fn a_partition_that_is_grown_can_be_used_at_once(kafka: Kafka) {
    let (topic, log) = new_log(&kafka, "grown", 1).await;
    log.append(0, raw("first")).await.unwrap();
    let Err(AppendError::Refused(error)) = log.append(3, raw("too early")).await else {
        panic!("an append to a partition that does not exist is refused");
    };
    assert_eq!(error.class(), Class::Permanent);
    assert_eq!(log.read(3, 0).await.unwrap_err().class(), Class::Permanent);
    kafka.admin().grow(&topic, 4).await.unwrap();
    let started = Instant::now();
    assert_eq!(log.append(3, raw("now")).await.unwrap(), 0);
    println!("append to a new partition: {:?}", started.elapsed());
    let mut reader = log.read(3, 0).await.unwrap();
    assert_eq!(read(&mut reader, 1).await.len(), 1);
}

pub(crate) async fn a_topic_made_again_ends_its_readers(kafka: Kafka) {
    let (topic, log) = new_log(&kafka, "remade", 1).await;
    for _ in 0..5 {
        log.append(0, raw("old")).await.unwrap();
    }
    let mut reader = log.read(0, 0).await.unwrap();
    read(&mut reader, 5).await;
    let admin = kafka.admin();
    admin.delete(&topic).await.unwrap();
    let spec = TopicSpec {
        name: topic.clone(),
        partitions: 1,
        replication: Some(1),
        config: BTreeMap::new(),
    };
    admin.create(&spec).await.unwrap();
    let again = kafka.control_log(&topic, ControlOptions::default()).unwrap();
    for _ in 0..9 {
        again.append(0, raw("new")).await.unwrap();
    }
    let error = soon("the error", reader.next()).await.unwrap_err();
    assert!(matches!(error, ReadError::Lost(_)), "{error:?}");
}
