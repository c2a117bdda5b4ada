//! What arrives in the table: every byte of a record, or nothing of a batch with a record that no column takes.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::ids::Position;
use tidegate_runtime::ports::{Batch, Record, Rejection, Sink, SinkError};
use tidegate_sinks::postgres::{BareCopy, PostgresConfig};

use crate::world::{World, acquire, partition, token, valued, write};

fn odd_records() -> Vec<Record> {
    let all: Vec<u8> = (0..=255).collect();
    let record = |offset, key: Option<&[u8]>, value: Option<&[u8]>| Record {
        offset,
        timestamp_ms: 1_700_000_000_123,
        key: key.map(Bytes::copy_from_slice),
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
    };
    let mut records = vec![
        record(3, None, None),
        record(4, Some(b""), Some(b"")),
        record(9, Some(&all), Some(&all.repeat(5000))),
        record(10, Some("schl\u{fc}ssel".as_bytes()), Some(b"{\"a\": \"\\u0000\"}")),
    ];
    records[0].timestamp_ms = -1;
    records[1].timestamp_ms = 0;
    records[3].headers = vec![
        ("trace".to_owned(), Some(Bytes::from_static(b"a\"b"))),
        ("trace".to_owned(), Some(Bytes::from_static(b"\xff\0"))),
        ("none".to_owned(), None),
    ];
    records
}

async fn put(
    sink: &Arc<dyn Sink>,
    records: &[Record],
    expected: u64,
    end: u64,
) -> Result<(), SinkError> {
    let batch = Batch { expected: Position(expected), records, end: Position(end) };
    sink.write(&partition(0), token(1), batch).await
}

async fn rejected(sink: &Arc<dyn Sink>, records: &[Record]) -> Vec<Rejection> {
    match put(sink, records, 0, 10).await {
        Err(SinkError::Rejected { records, .. }) => records,
        other => panic!("expected a rejection, found {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_byte_arrives() {
    let world = World::new().await;
    let sink = world.open("").await;
    acquire(&sink, 1).await.unwrap();
    let records = odd_records();
    put(&sink, &records, 2, 11).await.unwrap();
    let rows = world.admin.query(
        "SELECT topic, partition, \"offset\", \
         (extract(epoch FROM timestamp) * 1000)::bigint, key, value, headers::text \
         FROM records ORDER BY \"offset\"",
        &[],
    );
    let rows = rows.await.unwrap();
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), ("orders", 0));
        assert_eq!(row.get::<_, i64>(2).unsigned_abs(), record.offset);
        let timestamp = Some(record.timestamp_ms).filter(|ms| *ms != -1);
        assert_eq!(row.get::<_, Option<i64>>(3), timestamp);
        assert_eq!(row.get::<_, Option<&[u8]>>(4), record.key.as_deref());
        assert_eq!(row.get::<_, Option<&[u8]>>(5), record.value.as_deref());
    }
    assert_eq!(rows[0].get::<_, Option<&str>>(6), None);
    assert_eq!(
        rows[3].get::<_, Option<&str>>(6),
        Some(
            "[{\"name\": \"trace\", \"value\": \"a\\\"b\"}, {\"name\": \"trace\", \"valueBase64\": \"/wA=\"}, \
             {\"name\": \"none\", \"value\": null}]"
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_to_the_columns_that_are_named_and_as_their_types_want() {
    let world = World::new().await;
    world
        .run("CREATE TABLE orders (id serial, at bigint, who text, \"Was\" jsonb, more text)")
        .await;
    let sink = world.open("table=orders&columns=offset:at,key:who,value:Was").await;
    acquire(&sink, 1).await.unwrap();
    let mut record = valued(7, "{\"a\":[1, \"\\ud83d\\ude00\"]}");
    record.key = Some(Bytes::from_static(b"me"));
    put(&sink, &[record], 7, 8).await.unwrap();
    let row =
        world.admin.query_one("SELECT at, who, \"Was\"::text FROM orders", &[]).await.unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (7, "me"));
    assert_eq!(row.get::<_, &str>(2), "{\"a\": [1, \"\u{1f600}\"]}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_with_records_that_no_column_takes_is_rejected_and_can_be_written_without_them() {
    let world = World::new().await;
    world.run("CREATE TABLE records (\"offset\" bigint, value jsonb)").await;
    let sink = world.open("columns=offset,value").await;
    acquire(&sink, 1).await.unwrap();
    let records = [valued(0, "1"), valued(1, "{"), valued(2, "\"\\u0000\""), valued(3, "[]")];
    let found = rejected(&sink, &records).await;
    assert_eq!(found.iter().map(|record| record.offset).collect::<Vec<_>>(), [1, 2]);
    assert!(found[0].reason.contains("is not JSON"), "{found:?}");
    assert!(world.offsets().await.is_empty());
    put(&sink, &[valued(0, "1"), valued(3, "[]")], 0, 10).await.unwrap();
    assert_eq!(world.offsets().await, [0, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_only_the_server_can_judge_is_rejected_by_its_offset() {
    let world = World::new().await;
    world
        .run(
            "CREATE TABLE records (\"offset\" bigint, value jsonb NOT NULL, \
             CHECK (value <> '13'))",
        )
        .await;
    let sink = world.open("columns=offset,value").await;
    acquire(&sink, 1).await.unwrap();
    for (value, reason) in [
        (Some("13".to_owned()), "CHECK constraint is violated (SQLSTATE 23514), constraint"),
        (None, "NOT NULL constraint is violated (SQLSTATE 23502), table \"records\", column"),
        (Some("1e400000".to_owned()), "a number is out of range (SQLSTATE 22003)"),
        (Some("[".repeat(50_000) + &"]".repeat(50_000)), "nested too deeply"),
    ] {
        let mut bad = valued(6, "");
        bad.value = value.map(Bytes::from);
        let found = rejected(&sink, &[valued(2, "1"), bad, valued(7, "2")]).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].offset, 6, "{found:?}");
        assert!(found[0].reason.contains(reason), "{found:?}");
    }
    put(&sink, &[valued(2, "1")], 0, 10).await.unwrap();
    assert_eq!(world.offsets().await, [2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_by_a_constraint_of_the_user_is_refused_and_not_rejected() {
    let world = World::new().await;
    world.run("CREATE TABLE records (\"offset\" bigint PRIMARY KEY)").await;
    world.run("INSERT INTO records VALUES (1)").await;
    let sink = world.open("columns=offset").await;
    acquire(&sink, 1).await.unwrap();
    let error = write(&sink, 1, 0..3).await.unwrap_err();
    assert!(matches!(error, SinkError::Refused { .. }), "{error:?}");
    let source = std::error::Error::source(&error).and_then(|source| source.source());
    let text = source.unwrap().to_string();
    assert!(text.contains("a unique constraint is violated (SQLSTATE 23505)"), "{text}");
    assert!(!format!("{error:?}{text}").contains("Key ("), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bare_copy_writes_the_same_rows() {
    let world = World::new().await;
    let records = odd_records();
    let sink = world.open("table=one").await;
    acquire(&sink, 1).await.unwrap();
    put(&sink, &records, 2, 11).await.unwrap();
    let url = world.url("table=other");
    let config = PostgresConfig::parse(url.strip_prefix("postgres:").unwrap()).unwrap();
    let bare = BareCopy::open(config).await.unwrap();
    let batch = Batch { expected: Position(2), records: &records, end: Position(11) };
    assert_eq!(bare.copy(&partition(0), batch).await.unwrap(), 4);
    assert_eq!(world.count("SELECT count(*) FROM (TABLE one EXCEPT TABLE other)").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM other").await, 4);
}
