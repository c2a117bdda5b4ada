//! What an object holds: one header line, then one line for each record.
//!
//! ```json
//! {"tidegate":{"version":1,"topic":"orders","topicId":"shwAf4D_AQIDBAUGBwgJ_g","partition":7,"position":1200,"start":1200,"end":1300,"records":98,"generation":1700000000,"epoch":42,"writtenMs":1700000123456,"bodyBytes":20480,"bodyCrc32c":"0a1b2c3d"},"crc32c":"4e5f6071"}
//! {"topic":"orders","partition":7,"offset":1200,…}
//! ```
//!
//! The header tells its records' range, who wrote them and when, and how many bytes follow with which checksum. Its own
//! checksum covers the bytes before `,"crc32c":`, so that the header can be trusted without the body. An object without
//! records is a gap: the offsets of its range hold none. A reader that wants records only skips lines with a
//! `tidegate` field.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, Position, TopicId};
use tidegate_runtime::ports::TopicPartition;

/// Version of the format that is written, and the highest that is read.
const VERSION: u32 = 1;

/// Longest header line that is read: a topic's name has at most 249 characters, the rest takes below 600.
pub const MAX_HEADER: usize = 4096;

/// What follows the checksummed part of a header line before its eight hexadecimal digits, and after them.
const CHECKSUM: (&[u8], &[u8]) = (b",\"crc32c\":\"", b"\"}");

/// Hexadecimal digits of a checksum.
const CHECKSUM_DIGITS: usize = 8;

/// An object whose bytes are not what a writer made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// The first line is missing, cut short, or not a header.
    #[error("the header line is damaged: {0}")]
    Header(String),
    /// A later version wrote it.
    #[error("version {0} of the object format is not known")]
    Version(u32),
    /// The body is shorter or longer than the header says.
    #[error("the body has {found} bytes instead of {expected}")]
    Length {
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// The bytes of the body are not those that were written.
    #[error("the checksum of the body is wrong")]
    Checksum,
}

/// What the header line of an object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Which partition's records.
    pub partition: TopicPartition,
    /// Chain position: the end of the object before, 0 for the first; the same as in the object's name.
    pub position: Position,
    /// Where the range begins that the writer was given; differs from `position` only in the first object of a chain,
    /// which covers no offsets below.
    pub start: Position,
    /// Chain position of the object after this one.
    pub end: Position,
    /// Number of record lines.
    pub records: u64,
    /// The writer's token.
    pub token: FencingToken,
    /// When the writer began to store it, in milliseconds since the Unix epoch.
    pub written_ms: u64,
}

#[derive(Serialize, Deserialize)]
struct HeaderLine {
    tidegate: Fields,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    version: u32,
    topic: String,
    topic_id: String,
    partition: u32,
    position: u64,
    start: u64,
    end: u64,
    records: u64,
    generation: u64,
    epoch: u64,
    written_ms: u64,
    body_bytes: u64,
    body_crc32c: String,
}

/// An object that was taken apart: its header, and its body with the checksum verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What the header says.
    pub header: Header,
    /// The record lines.
    pub body: Bytes,
}

/// The header line, line feed included, of an object with this body.
#[expect(clippy::missing_panics_doc, reason = "strings and numbers always have a JSON form")]
pub fn seal(header: &Header, body: &[u8]) -> Vec<u8> {
    let fields = Fields {
        version: VERSION,
        topic: header.partition.topic.clone(),
        topic_id: header.partition.id.topic.to_string(),
        partition: header.partition.id.number,
        position: header.position.0,
        start: header.start.0,
        end: header.end.0,
        records: header.records,
        generation: header.token.generation.0,
        epoch: header.token.epoch.0.0,
        written_ms: header.written_ms,
        body_bytes: body.len() as u64,
        body_crc32c: checksum(body),
    };
    let mut line = serde_json::to_vec(&HeaderLine { tidegate: fields })
        .expect("strings and numbers always have a JSON form");
    line.pop(); // the outer brace: the checksum goes before it
    let checksum = checksum(&line);
    for part in [CHECKSUM.0, checksum.as_bytes(), CHECKSUM.1, b"\n"] {
        line.extend_from_slice(part);
    }
    line
}

/// Takes an object apart and verifies all of it but the record lines.
pub fn open(object: &Bytes) -> Result<Opened, FormatError> {
    let (fields, header_bytes) = parse(object)?;
    check_length(&fields, header_bytes, object.len() as u64)?;
    let body = object.slice(header_bytes..);
    if checksum(&body) != fields.body_crc32c {
        return Err(FormatError::Checksum);
    }
    Ok(Opened { header: header(fields)?, body })
}

/// Reads the header from an object's first [`MAX_HEADER`] bytes, and verifies it and the object's length.
pub fn open_head(head: &[u8], object_bytes: u64) -> Result<Header, FormatError> {
    let (fields, header_bytes) = parse(head)?;
    check_length(&fields, header_bytes, object_bytes)?;
    header(fields)
}

fn check_length(fields: &Fields, header: usize, object: u64) -> Result<(), FormatError> {
    let (expected, found) = (fields.body_bytes, object.saturating_sub(header as u64));
    if expected == found { Ok(()) } else { Err(FormatError::Length { expected, found }) }
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:0CHECKSUM_DIGITS$x}", crc32c::crc32c(bytes))
}

/// The header line's fields, and its length with the line feed.
fn parse(object: &[u8]) -> Result<(Fields, usize), FormatError> {
    let damaged = |what: &str| FormatError::Header(what.to_owned());
    let front = object.get(..object.len().min(MAX_HEADER)).unwrap_or_default();
    let end = front.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("no end"))?;
    let line = object.get(..end).unwrap_or_default();
    let (covered, digits) = line
        .strip_suffix(CHECKSUM.1)
        .and_then(|line| line.split_at_checked(line.len().checked_sub(CHECKSUM_DIGITS)?))
        .and_then(|(line, digits)| Some((line.strip_suffix(CHECKSUM.0)?, digits)))
        .ok_or_else(|| damaged("no checksum"))?;
    if checksum(covered).as_bytes() != digits {
        return Err(damaged("its checksum is wrong"));
    }
    let line: HeaderLine =
        serde_json::from_slice(line).map_err(|error| FormatError::Header(error.to_string()))?;
    if line.tidegate.version > VERSION {
        return Err(FormatError::Version(line.tidegate.version));
    }
    Ok((line.tidegate, end + 1))
}

fn header(fields: Fields) -> Result<Header, FormatError> {
    let damaged = |what: &str| FormatError::Header(what.to_owned());
    let topic = TopicId::parse(&fields.topic_id).ok_or_else(|| damaged("no topic id"))?;
    let id = tidegate_core::ids::PartitionId { topic, number: fields.partition };
    let first = fields.position == 0;
    if fields.start >= fields.end || !(first || fields.position == fields.start) {
        return Err(damaged("its range is empty or does not begin at its position"));
    }
    Ok(Header {
        partition: TopicPartition { topic: fields.topic, id },
        position: Position(fields.position),
        start: Position(fields.start),
        end: Position(fields.end),
        records: fields.records,
        token: FencingToken {
            generation: Generation(fields.generation),
            epoch: Epoch(Offset(fields.epoch)),
        },
        written_ms: fields.written_ms,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidegate_core::ids::PartitionId;

    use super::*;

    fn sample() -> Header {
        Header {
            partition: TopicPartition {
                topic: "orders".to_owned(),
                id: PartitionId { topic: TopicId([0xb2; 16]), number: 7 },
            },
            position: Position(1200),
            start: Position(1200),
            end: Position(1300),
            records: 98,
            token: FencingToken { generation: Generation(1_700_000_000), epoch: Epoch(Offset(42)) },
            written_ms: 1_700_000_123_456,
        }
    }

    fn object(header: &Header, body: &[u8]) -> Bytes {
        let mut object = seal(header, body);
        object.extend_from_slice(body);
        object.into()
    }

    #[test]
    fn an_object_is_read_back_and_looks_as_documented() {
        let object = object(&sample(), b"{}\n");
        let opened = open(&object).unwrap();
        assert_eq!(opened, Opened { header: sample(), body: Bytes::from_static(b"{}\n") });
        let line = std::str::from_utf8(&object).unwrap().lines().next().unwrap();
        assert_eq!(
            line,
            "{\"tidegate\":{\"version\":1,\"topic\":\"orders\",\"topicId\":\"srKysrKysrKysrKysrKysg\",\
             \"partition\":7,\"position\":1200,\"start\":1200,\"end\":1300,\"records\":98,\
             \"generation\":1700000000,\"epoch\":42,\"writtenMs\":1700000123456,\"bodyBytes\":3,\
             \"bodyCrc32c\":\"f01f9d27\"},\"crc32c\":\"84811804\"}"
        );
    }

    #[test]
    fn faults_are_named() {
        let whole = object(&sample(), b"{}\n");
        let short = whole.slice(..whole.len() - 1);
        assert_eq!(open(&short), Err(FormatError::Length { expected: 3, found: 2 }));
        let mut flipped = whole.to_vec();
        *flipped.last_mut().unwrap() = b' ';
        assert_eq!(open(&flipped.into()), Err(FormatError::Checksum));
        assert!(matches!(open(&Bytes::new()), Err(FormatError::Header(_))));
        let turned = Header { end: Position(1100), ..sample() };
        assert!(matches!(open(&object(&turned, b"")), Err(FormatError::Header(_))));
    }

    proptest! {
        #[test]
        fn no_damage_goes_unseen_and_none_panics(
            body: Vec<u8>,
            at: prop::sample::Index,
            flip in 1_u8..,
        ) {
            let mut bytes = object(&sample(), &body).to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            prop_assert!(open(&bytes.into()).is_err());
        }

        #[test]
        fn noise_never_panics(bytes: Vec<u8>) {
            prop_assert!(open(&bytes.into()).is_err());
        }
    }
}
