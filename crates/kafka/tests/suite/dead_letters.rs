//! Rejected records in a topic.

use bytes::Bytes;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};
use tidegate_kafka::{Kafka, ReaderOptions};
use tidegate_runtime::ports::{Class, DeadLetter, ReadEvent, Record, TopicPartition};
use tidegate_testing::unique_name;

use super::{new_topic, partition, soon};

fn token() -> FencingToken {
    FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) }
}

fn source() -> TopicPartition {
    let id = PartitionId { topic: TopicId([7; 16]), number: 5 };
    TopicPartition { topic: "orders".to_owned(), id }
}

fn rejected(offset: u64) -> Record {
    let text = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    Record {
        offset,
        timestamp_ms: 1_700_000_000_000,
        key: text("key"),
        value: (offset > 10).then(|| Bytes::from(offset.to_string())),
        headers: vec![("trace".to_owned(), text("t")), ("none".to_owned(), None)],
    }
}

pub(crate) async fn dead_letters_are_whole_and_say_where_they_are_from(kafka: Kafka) {
    let topic = new_topic(&kafka, "dead", 2).await;
    let dead = kafka.dead_letters(&topic).unwrap();
    let records = [rejected(10), rejected(12)];
    let letters = records.each_ref().map(|record| DeadLetter { record, reason: "too odd" });
    soon("dead letters", dead.put(&source(), token(), &letters)).await.unwrap();

    let mut reader = kafka.partition_reader(ReaderOptions::default());
    reader.assign(&partition(&kafka, &topic, 1).await, Position(0)).await.unwrap();
    let mut found = Vec::new();
    while found.len() < 2 {
        let ReadEvent::Records(batches) = soon("a record", reader.next()).await else {
            panic!("records were expected");
        };
        found.extend(batches.into_iter().flat_map(|batch| batch.records));
    }
    for (found, record) in found.iter().zip(&records) {
        assert_eq!((&found.key, &found.value), (&record.key, &record.value));
        assert_eq!(found.timestamp_ms, record.timestamp_ms);
        let (kept, added) = found.headers.split_at(2);
        assert_eq!(kept, record.headers);
        let text = |(name, value): &(String, Option<Bytes>)| {
            format!("{name}={}", String::from_utf8_lossy(value.as_deref().unwrap()))
        };
        let added: Vec<_> = added.iter().map(text).collect();
        let offset = format!("tidegate.offset={}", record.offset);
        let id = format!("tidegate.topic-id={}", source().id.topic);
        assert_eq!(
            added,
            [
                "tidegate.topic=orders",
                &id,
                "tidegate.partition=5",
                &offset,
                "tidegate.reason=too odd"
            ]
        );
    }
}

pub(crate) async fn dead_letters_for_a_missing_topic_fail_and_make_none(kafka: Kafka) {
    let topic = unique_name("no-dead");
    let dead = kafka.dead_letters(&topic).unwrap();
    let record = rejected(1);
    let letters = [DeadLetter { record: &record, reason: "odd" }];
    let error = soon("an error", dead.put(&source(), token(), &letters)).await.unwrap_err();
    assert_eq!(error.class(), Class::Permanent, "{error}");
    assert!(error.to_string().contains(&topic), "{error}");
    let listed = kafka.admin().list().await.unwrap();
    assert!(!listed.values().any(|name| *name == topic));
}
