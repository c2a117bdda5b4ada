//! Records as the rows of `COPY … BINARY`, and the check that the server will take them.
//!
//! A batch is encoded as a whole before its transaction begins: what does not fit is known while nothing has been
//! written, and a slow encoder holds nothing in the database.

use bytes::{BufMut as _, Bytes, BytesMut};
use serde::de::IgnoredAny;
use tidegate_runtime::ports::{Batch, Record, Rejection, TopicPartition};

use super::config::Field;
use crate::ndjson::base64;

/// What `COPY … BINARY` begins with: its signature, no flags, no extension.
const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Bytes that are encoded between two points at which other tasks of the thread may run, and sent in one message.
const SLICE: usize = 256 * 1024;

/// Milliseconds from 1970 to 2000, where PostgreSQL's time begins.
const EPOCH_MS: i64 = 946_684_800_000;

/// The timestamps of PostgreSQL, in milliseconds from 2000: 4713 BC to AD 294276.
const TIMES_MS: std::ops::Range<i64> = -211_813_488_000_000..9_223_371_331_200_000;

/// The types of columns that the sink writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    Integer,
    Bigint,
    Timestamptz,
    Bytea,
    Jsonb,
}

/// Which column gets what: checked against the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) field: Field,
    pub(super) name: String,
    pub(super) kind: Kind,
}

/// A batch that cannot be written.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// A mistake of the caller.
    Batch(String),
    /// Records that no column takes.
    Records(Vec<Rejection>),
}

// === impl Kind ===

impl Kind {
    /// The type's name as `format_type` prints it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Integer => "integer",
            Self::Bigint => "bigint",
            Self::Timestamptz => "timestamp with time zone",
            Self::Bytea => "bytea",
            Self::Jsonb => "jsonb",
        }
    }

    /// What a column for a field may be; the first one is what a new table gets.
    pub(super) const fn of(field: Field) -> &'static [Self] {
        match field {
            Field::Topic => &[Self::Text],
            Field::Partition => &[Self::Integer],
            Field::Offset => &[Self::Bigint],
            Field::Timestamp => &[Self::Timestamptz],
            Field::Key | Field::Value => &[Self::Bytea, Self::Text, Self::Jsonb],
            Field::Headers => &[Self::Jsonb],
        }
    }
}

/// The messages of a `COPY … BINARY` of the batch: none when it has no records.
pub(super) async fn encode(
    columns: &[Column],
    partition: &TopicPartition,
    batch: Batch<'_>,
) -> Result<Vec<Bytes>, Unfit> {
    let number = i32::try_from(partition.id.number);
    let number = number.map_err(|_| Unfit::Batch("the partition's number is too high".into()))?;
    if batch.end <= batch.expected || i64::try_from(batch.end.0).is_err() {
        return Err(Unfit::Batch("the batch covers no offsets".into()));
    }
    if batch.records.is_empty() {
        return Ok(Vec::new());
    }
    let row = Row { columns, topic: &partition.topic, partition: number };
    let (mut least, mut unfit) = (batch.expected.0, Vec::new());
    let (mut slices, mut slice) = (Vec::new(), BytesMut::with_capacity(SLICE * 2));
    slice.put_slice(HEAD);
    for record in batch.records {
        if record.offset < least || record.offset >= batch.end.0 {
            let offset = record.offset;
            let reason = format!("the record at offset {offset} is out of range or out of order");
            return Err(Unfit::Batch(reason));
        }
        least = record.offset + 1;
        if let Err(reason) = row.put(record, &mut slice) {
            unfit.push(Rejection { offset: record.offset, reason });
        }
        if slice.len() >= SLICE {
            let full = std::mem::replace(&mut slice, BytesMut::with_capacity(SLICE * 2));
            slices.push(full.freeze());
            tokio::task::yield_now().await;
        }
    }
    slice.put_i16(-1);
    slices.push(slice.freeze());
    if unfit.is_empty() { Ok(slices) } else { Err(Unfit::Records(unfit)) }
}

/// What the rows of a batch have in common.
struct Row<'a> {
    columns: &'a [Column],
    topic: &'a str,
    partition: i32,
}

impl Row<'_> {
    fn put(&self, record: &Record, out: &mut BytesMut) -> Result<(), String> {
        out.put_i16(i16::try_from(self.columns.len()).unwrap_or(i16::MAX));
        for column in self.columns {
            match column.field {
                Field::Topic => put_bytes(self.topic.as_bytes(), out)?,
                Field::Partition => {
                    out.put_i32(4);
                    out.put_i32(self.partition);
                }
                Field::Offset => {
                    out.put_i32(8);
                    out.put_u64(record.offset);
                }
                Field::Timestamp => put_time(record.timestamp_ms, out)?,
                Field::Key => put_payload(column, record.key.as_ref(), out)?,
                Field::Value => put_payload(column, record.value.as_ref(), out)?,
                Field::Headers => put_headers(&record.headers, out)?,
            }
        }
        Ok(())
    }
}

fn put_null(out: &mut BytesMut) {
    out.put_i32(-1);
}

fn put_bytes(bytes: &[u8], out: &mut BytesMut) -> Result<(), String> {
    let length = i32::try_from(bytes.len());
    out.put_i32(length.map_err(|_| format!("it has {} bytes, too many", bytes.len()))?);
    out.put_slice(bytes);
    Ok(())
}

/// A JSON text, behind the version of its form.
fn put_json(text: &[u8], out: &mut BytesMut) -> Result<(), String> {
    let length = i32::try_from(text.len() + 1);
    out.put_i32(length.map_err(|_| format!("it has {} bytes, too many", text.len()))?);
    out.put_u8(1);
    out.put_slice(text);
    Ok(())
}

fn put_time(unix_ms: i64, out: &mut BytesMut) -> Result<(), String> {
    if unix_ms == -1 {
        put_null(out);
        return Ok(());
    }
    let ms = unix_ms.checked_sub(EPOCH_MS).filter(|ms| TIMES_MS.contains(ms));
    let ms = ms.ok_or_else(|| format!("timestamp {unix_ms} ms is out of PostgreSQL's range"))?;
    out.put_i32(8);
    out.put_i64(ms * 1000);
    Ok(())
}

fn put_payload(column: &Column, bytes: Option<&Bytes>, out: &mut BytesMut) -> Result<(), String> {
    let Some(bytes) = bytes else {
        put_null(out);
        return Ok(());
    };
    let (what, name, kind) = (column.field.name(), &column.name, column.kind.name());
    let unfit = |fault: &str| format!("its {what} {fault}, and column {name} is of type {kind}");
    if column.kind == Kind::Bytea {
        return put_bytes(bytes, out);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| unfit("is not UTF-8"))?;
    if column.kind == Kind::Jsonb {
        json_fault(text).map_or(Ok(()), |fault| Err(unfit(&fault)))?;
        return put_json(bytes, out);
    }
    if text.contains('\0') {
        return Err(unfit("holds a NUL character"));
    }
    put_bytes(bytes, out)
}

/// What keeps a text from being a `jsonb`; `None` when nothing does, but for numbers and depths beyond the server's bounds.
fn json_fault(text: &str) -> Option<String> {
    if let Err(error) = serde_json::from_str::<IgnoredAny>(text) {
        return Some(format!("is not JSON ({error})"));
    }
    // In valid JSON a backslash is in a string, and begins an escape.
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (escape, after) = rest.get(at + 1..)?.split_at_checked(1)?;
        rest = after;
        if escape != "u" {
            continue;
        }
        let unit = hex(rest)?;
        rest = rest.get(4..)?;
        let is_pair = (0xd800..0xdc00).contains(&unit)
            && rest.strip_prefix("\\u").and_then(hex).is_some_and(|low| low >> 10 == 0x37);
        if is_pair {
            rest = rest.get(6..)?;
        } else if unit == 0 || (0xd800..0xe000).contains(&unit) {
            return Some(format!("holds the escape \\u{unit:04x}"));
        }
    }
    None
}

fn hex(text: &str) -> Option<u32> {
    u32::from_str_radix(text.get(..4)?, 16).ok()
}

/// The headers in order, as `[{"name":"n","value":"v"}]`; null when there are none. A value that is no text, or that
/// holds a NUL, is in `valueBase64`.
fn put_headers(headers: &[(String, Option<Bytes>)], out: &mut BytesMut) -> Result<(), String> {
    if headers.is_empty() {
        put_null(out);
        return Ok(());
    }
    let mut json = Vec::new();
    for (name, value) in headers {
        if name.contains('\0') {
            return Err("the name of a header holds a NUL character".to_owned());
        }
        json.extend_from_slice(if json.is_empty() { b"[{\"name\":" } else { b",{\"name\":" });
        put_string(name, &mut json)?;
        let text = value.as_deref().map(std::str::from_utf8);
        match (text, value) {
            (Some(Ok(text)), _) if !text.contains('\0') => {
                json.extend_from_slice(b",\"value\":");
                put_string(text, &mut json)?;
            }
            (_, Some(bytes)) => {
                json.extend_from_slice(b",\"valueBase64\":\"");
                base64::encode(bytes, &mut json);
                json.push(b'"');
            }
            (_, None) => json.extend_from_slice(b",\"value\":null"),
        }
        json.push(b'}');
    }
    json.push(b']');
    put_json(&json, out)
}

fn put_string(text: &str, out: &mut Vec<u8>) -> Result<(), String> {
    serde_json::to_writer(out, text).map_err(|error| format!("a header is no JSON ({error})"))
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::{PartitionId, Position, TopicId};

    use super::*;

    fn column(field: Field, kind: Kind) -> Column {
        Column { field, name: field.name().to_owned(), kind }
    }

    fn record(offset: u64, value: &[u8]) -> Record {
        Record {
            offset,
            timestamp_ms: 0,
            key: None,
            value: Some(Bytes::copy_from_slice(value)),
            headers: Vec::new(),
        }
    }

    async fn encoded(columns: &[Column], records: &[Record]) -> Result<Vec<u8>, Unfit> {
        let id = PartitionId { topic: TopicId([1; 16]), number: 2 };
        let partition = TopicPartition { topic: "t".to_owned(), id };
        let batch = Batch { expected: Position(5), records, end: Position(9) };
        Ok(encode(columns, &partition, batch).await?.concat())
    }

    async fn reasons(kind: Kind, values: &[&[u8]]) -> Vec<String> {
        let records: Vec<_> = (5..).zip(values).map(|(at, value)| record(at, value)).collect();
        match encoded(&[column(Field::Value, kind)], &records).await {
            Err(Unfit::Records(unfit)) => unfit.into_iter().map(|unfit| unfit.reason).collect(),
            other => panic!("expected rejections, found {other:?}"),
        }
    }

    #[tokio::test]
    async fn rows_are_those_of_copy_binary() {
        let columns = [
            column(Field::Topic, Kind::Text),
            column(Field::Partition, Kind::Integer),
            column(Field::Offset, Kind::Bigint),
            column(Field::Timestamp, Kind::Timestamptz),
            column(Field::Key, Kind::Bytea),
            column(Field::Value, Kind::Jsonb),
            column(Field::Headers, Kind::Jsonb),
        ];
        let mut record = record(7, b"{}");
        record.timestamp_ms = EPOCH_MS + 1;
        let mut wanted = HEAD.to_vec();
        wanted.extend_from_slice(
            b"\0\x07\0\0\0\x01t\0\0\0\x04\0\0\0\x02\0\0\0\x08\0\0\0\0\0\0\0\x07",
        );
        wanted.extend_from_slice(b"\0\0\0\x08\0\0\0\0\0\0\x03\xe8\xff\xff\xff\xff");
        wanted.extend_from_slice(b"\0\0\0\x03\x01{}\xff\xff\xff\xff\xff\xff");
        assert_eq!(encoded(&columns, &[record]).await.unwrap(), wanted);
    }

    #[tokio::test]
    async fn bytes_that_are_no_text_are_rejected_with_the_column_that_wants_text() {
        assert_eq!(
            reasons(Kind::Text, &[b"fine", b"\xff", b"a\0b"]).await,
            [
                "its value is not UTF-8, and column value is of type text",
                "its value holds a NUL character, and column value is of type text"
            ]
        );
    }

    #[tokio::test]
    async fn what_a_jsonb_column_does_not_take_is_rejected() {
        let values: [&[u8]; 4] = [b"{\"a\":", br#""\u0000""#, br#"["\ud800x"]"#, b"\xff"];
        let reasons = reasons(Kind::Jsonb, &values).await;
        assert!(reasons[0].starts_with("its value is not JSON"), "{reasons:?}");
        assert!(reasons[1].contains("\\u0000"), "{reasons:?}");
        assert!(reasons[2].contains("\\ud800"), "{reasons:?}");
        assert!(reasons[3].contains("UTF-8"), "{reasons:?}");
    }

    #[test]
    fn escapes_that_jsonb_takes_are_no_fault() {
        for text in [r#""\ud83d\ude00""#, r#""\\u0000""#, r#"{"a\n":[1,-2.5e3,null]}"#] {
            assert_eq!(json_fault(text), None, "{text}");
        }
        for text in [r#""\ude00""#, r#""\ud83d\u0041""#, r#""\\\u0000""#] {
            assert!(json_fault(text).is_some(), "{text}");
        }
    }

    #[tokio::test]
    async fn headers_keep_their_order_and_bytes_that_are_no_text() {
        let mut with = record(5, b"");
        with.headers = vec![
            ("a".to_owned(), Some(Bytes::from("\"x\""))),
            ("a".to_owned(), Some(Bytes::from_static(b"\xff"))),
            ("b".to_owned(), Some(Bytes::from_static(b"\0"))),
            ("c".to_owned(), None),
        ];
        let bytes = encoded(&[column(Field::Headers, Kind::Jsonb)], &[with]).await.unwrap();
        let json = br#"[{"name":"a","value":"\"x\""},{"name":"a","valueBase64":"/w=="},{"name":"b","valueBase64":"AA=="},{"name":"c","value":null}]"#;
        assert!(bytes.windows(json.len()).any(|window| window == json));
    }

    #[tokio::test]
    async fn a_timestamp_beyond_the_servers_range_is_rejected() {
        let mut late = record(5, b"");
        late.timestamp_ms = i64::MAX;
        let unfit = encoded(&[column(Field::Timestamp, Kind::Timestamptz)], &[late]).await;
        assert!(matches!(unfit, Err(Unfit::Records(records)) if records[0].offset == 5));
    }

    #[tokio::test]
    async fn a_record_outside_of_the_batch_is_a_mistake_of_the_caller() {
        let columns = [column(Field::Value, Kind::Bytea)];
        for offsets in [[4, 5], [8, 9], [6, 6]] {
            let records = offsets.map(|offset| record(offset, b""));
            assert!(matches!(encoded(&columns, &records).await, Err(Unfit::Batch(_))));
        }
    }
}
