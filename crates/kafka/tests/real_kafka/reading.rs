//! What the reader makes of that which only real brokers have: all codecs, and transactions.

use std::time::Duration;

use bytes::Bytes;
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use tidegate_core::ids::Position;
use tidegate_runtime::ports::ReadEvent;
use tidegate_testing::unique_name;
use tokio::time::Instant;

use crate::suite::reader::{read, reader};
use crate::suite::{PATIENCE, client, new_topic, partition, plaintext, soon};

pub(crate) async fn every_codec_is_read(bootstrap: String) {
    let kafka = client(&plaintext(&bootstrap));
    let codecs = ["none", "gzip", "snappy", "lz4", "zstd"];
    let topic = new_topic(&kafka, "codecs", 5).await;
    let mut reader = reader(&kafka);
    for (number, codec) in (0..).zip(codecs) {
        let part = partition(&kafka, &topic, number).await;
        write_with(&bootstrap, &topic, number, codec);
        reader.assign(&part, Position(0)).await.unwrap();
    }
    let records = read(&mut reader, 5 * 200).await;
    for (number, codec) in (0..).zip(codecs) {
        let read = &records[&number];
        assert!(read.iter().map(|record| record.offset).eq(0..200), "{codec}");
        for record in read {
            let expected = (Some(Bytes::from("k")), Some(value_of(record.offset)));
            assert_eq!((record.key.clone(), record.value.clone()), expected, "{codec}");
            let header = ("codec".to_owned(), Some(Bytes::from(codec)));
            assert_eq!(record.headers, [header, ("none".to_owned(), None)], "{codec}");
        }
    }
}

/// Something that a codec can make smaller, another for each offset.
fn value_of(offset: u64) -> Bytes {
    Bytes::from(format!("{offset} ").repeat(20))
}

/// Two hundred records in few batches.
fn write_with(bootstrap: &str, topic: &str, number: u32, codec: &str) {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", bootstrap).set("compression.codec", codec);
    settings.set("linger.ms", "100");
    let producer: BaseProducer = settings.create().unwrap();
    for offset in 0..200 {
        let value = value_of(offset);
        let headers = OwnedHeaders::new()
            .insert(Header { key: "codec", value: Some(codec) })
            .insert(Header { key: "none", value: None::<&str> });
        let record = BaseRecord::to(topic)
            .partition(i32::try_from(number).unwrap())
            .key("k")
            .payload(value.as_ref())
            .headers(headers);
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
}

/// A transactional producer: what it aborts is never seen, and the markers that end its transactions take offsets.
pub(crate) async fn markers_and_aborted_records_are_neither_data_nor_lag(bootstrap: String) {
    let kafka = client(&plaintext(&bootstrap));
    let topic = new_topic(&kafka, "transactions", 1).await;
    let part = partition(&kafka, &topic, 0).await;
    let mut reader = reader(&kafka);
    reader.assign(&part, Position(0)).await.unwrap();
    let (to, before) = (topic.clone(), Instant::now());
    let write = move || {
        let mut settings = ClientConfig::new();
        settings.set("bootstrap.servers", &bootstrap);
        settings.set("transactional.id", unique_name("reading"));
        let producer: BaseProducer = settings.create().unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        for (commit, value) in [(true, "one"), (false, "never"), (true, "two"), (false, "nor this")]
        {
            producer.begin_transaction().unwrap();
            let record = BaseRecord::<(), _>::to(&to).partition(0).payload(value);
            producer.send(record).map_err(|(error, _)| error).unwrap();
            producer.flush(PATIENCE).unwrap();
            if commit {
                producer.commit_transaction(PATIENCE).unwrap();
            } else {
                producer.abort_transaction(PATIENCE).unwrap();
            }
        }
    };
    tokio::task::spawn_blocking(write).await.unwrap();
    // Four records and four markers.
    let (mut read, mut next) = (Vec::new(), Position(0));
    while next < Position(8) {
        match soon("the end of the last transaction", reader.next()).await {
            ReadEvent::Records(batches) => {
                for batch in batches {
                    assert!(batch.next > next, "{batch:?} after {next:?}");
                    next = batch.next;
                    let values = batch.records.into_iter().filter_map(|record| record.value);
                    read.extend(values);
                }
            }
            other => panic!("{other:?} in place of records"),
        }
    }
    assert_eq!((read, next), (vec![Bytes::from("one"), Bytes::from("two")], Position(8)));
    let known = async {
        while reader.end(&part) != Some(Position(8)) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the end of the partition", known).await;
    println!("all is read {:?} after the first transaction began", before.elapsed());
    // Assigned again before the last marker, with nothing but that to come.
    reader.unassign(&part).await.unwrap();
    reader.assign(&part, Position(7)).await.unwrap();
    match soon("the marker", reader.next()).await {
        ReadEvent::Records(batches) => {
            assert_eq!((batches[0].records.len(), batches[0].next), (0, Position(8)));
        }
        other => panic!("{other:?} in place of a position"),
    }
}
