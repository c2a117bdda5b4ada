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
//!
//! A compressed object is two frames of zstd that follow each other: the header line, not compressed and so behind
//! twelve bytes that are always alike, and the record lines. Its header says `"version":2` and has two more fields behind
//! `bodyCrc32c`: `"encoding":"zstd"` and `"linesBytes"`, the length of the record lines; `bodyBytes` and `bodyCrc32c`
//! are of the second frame as it is. `zstd -dc` prints what the object would be without compression.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, Position, TopicId};
use tidegate_runtime::ports::TopicPartition;

use super::encoding::{self, Encoding};

/// Version of the format that is written.
const VERSION: u32 = 1;

/// Version of objects with an encoding, which readers of version 1 do not know, and the highest that is read.
const VERSION_ENCODED: u32 = 2;

/// Longest header line that is read: a topic's name has at most 249 characters, the rest takes below 600.
pub const MAX_HEADER: usize = 4096;

/// Begins a compressed object: a frame's magic number, a descriptor that announces a content size of four bytes and no
/// window, that size, and the head of one last, raw block. The header line follows.
const FRAME: ([u8; 5], usize) = ([0x28, 0xb5, 0x2f, 0xfd, 0xa0], 12);

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
    /// A later version encoded the body.
    #[error("the encoding {0:?} of the body is not known")]
    Encoding(String),
    /// The body is as it was written, and yet its record lines are not what the header says.
    #[error("the body cannot be decompressed: {0}")]
    Compression(String),
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
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines_bytes: Option<u64>,
}

/// The record lines of an object as they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// How.
    pub encoding: Encoding,
    /// The bytes.
    pub stored: Bytes,
    /// Length of the record lines themselves.
    pub lines_bytes: u64,
}

impl Body {
    /// Record lines that are kept as they are.
    pub fn plain(lines: Bytes) -> Self {
        let lines_bytes = lines.len() as u64;
        Self { encoding: Encoding::Plain, stored: lines, lines_bytes }
    }
}

/// How large an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// How its record lines are kept.
    pub encoding: Encoding,
    /// Length of the object.
    pub object_bytes: u64,
    /// Length of its record lines.
    pub lines_bytes: u64,
}

/// An object that was taken apart: its header, and its body with the checksum verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What the header says.
    pub header: Header,
    /// How large it is.
    pub extent: Extent,
    /// The record lines.
    pub body: Bytes,
}

/// What an object with this body begins with: the header line, line feed included, in a frame if need be.
#[expect(clippy::missing_panics_doc, reason = "strings and numbers always have a JSON form")]
pub fn seal(header: &Header, body: &Body) -> Vec<u8> {
    let encoding = body.encoding.name();
    let fields = Fields {
        version: if encoding.is_some() { VERSION_ENCODED } else { VERSION },
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
        body_bytes: body.stored.len() as u64,
        body_crc32c: checksum(&body.stored),
        lines_bytes: encoding.map(|_| body.lines_bytes),
        encoding: encoding.map(ToOwned::to_owned),
    };
    let mut line = serde_json::to_vec(&HeaderLine { tidegate: fields })
        .expect("strings and numbers always have a JSON form");
    line.pop(); // the outer brace: the checksum goes before it
    let checksum = checksum(&line);
    for part in [CHECKSUM.0, checksum.as_bytes(), CHECKSUM.1, b"\n"] {
        line.extend_from_slice(part);
    }
    if encoding.is_some() { framed(&line) } else { line }
}

/// A header line as a frame of zstd that holds it as it is.
fn framed(line: &[u8]) -> Vec<u8> {
    let length = u32::try_from(line.len()).unwrap_or(u32::MAX).to_le_bytes();
    // A block's head has three bytes: the length above three bits, 1 for a last block that is raw.
    let [low, middle, high, _] = ((u32::from_le_bytes(length) << 3) | 1).to_le_bytes();
    [FRAME.0.as_slice(), &length, &[low, middle, high], line].concat()
}

/// Takes an object apart and verifies all of it but the record lines.
pub fn open(object: &Bytes) -> Result<Opened, FormatError> {
    let (fields, header_bytes) = parse(object)?;
    check_length(&fields, header_bytes, object.len() as u64)?;
    let stored = object.slice(header_bytes..);
    if checksum(&stored) != fields.body_crc32c {
        return Err(FormatError::Checksum);
    }
    let extent = extent(&fields, object.len() as u64)?;
    let body = match extent.encoding {
        Encoding::Plain => stored,
        Encoding::Zstd => decompressed(&stored, extent.lines_bytes)?,
    };
    Ok(Opened { header: header(fields)?, extent, body })
}

/// Reads the header from an object's first [`MAX_HEADER`] bytes, and verifies it and the object's length.
pub fn open_head(head: &[u8], object_bytes: u64) -> Result<(Header, Extent), FormatError> {
    let (fields, header_bytes) = parse(head)?;
    check_length(&fields, header_bytes, object_bytes)?;
    let extent = extent(&fields, object_bytes)?;
    Ok((header(fields)?, extent))
}

fn extent(fields: &Fields, object_bytes: u64) -> Result<Extent, FormatError> {
    let name = fields.encoding.as_deref();
    let encoding = Encoding::parse(name)
        .ok_or_else(|| FormatError::Encoding(name.unwrap_or_default().to_owned()))?;
    let lines_bytes = fields.lines_bytes.unwrap_or(fields.body_bytes);
    Ok(Extent { encoding, object_bytes, lines_bytes })
}

fn decompressed(stored: &[u8], lines_bytes: u64) -> Result<Bytes, FormatError> {
    if lines_bytes > encoding::MAX_LINES {
        return Err(FormatError::Compression(format!("{lines_bytes} bytes are too many")));
    }
    let lines = encoding::decompress(stored, lines_bytes);
    let lines = lines.map_err(|error| FormatError::Compression(error.to_string()))?;
    if lines.len() as u64 == lines_bytes {
        return Ok(lines.into());
    }
    Err(FormatError::Compression(format!("it does not hold the {lines_bytes} bytes it should")))
}

fn check_length(fields: &Fields, header: usize, object: u64) -> Result<(), FormatError> {
    let (expected, found) = (fields.body_bytes, object.saturating_sub(header as u64));
    if expected == found { Ok(()) } else { Err(FormatError::Length { expected, found }) }
}

fn checksum(bytes: &[u8]) -> String {
    format!("{:0CHECKSUM_DIGITS$x}", crc32c::crc32c(bytes))
}

/// The header line's fields, and where the body begins.
fn parse(object: &[u8]) -> Result<(Fields, usize), FormatError> {
    let damaged = |what: &str| FormatError::Header(what.to_owned());
    let front = object.get(..object.len().min(MAX_HEADER)).unwrap_or_default();
    let begin = if object.starts_with(&FRAME.0) { FRAME.1 } else { 0 };
    let mut bytes = front.iter().enumerate().skip(begin);
    let (end, _) = bytes.find(|(_, byte)| **byte == b'\n').ok_or_else(|| damaged("no end"))?;
    let line = object.get(begin..end).unwrap_or_default();
    if begin > 0 && !front.starts_with(&framed(front.get(begin..=end).unwrap_or_default())) {
        return Err(damaged("its frame is not its own"));
    }
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
    if line.tidegate.version > VERSION_ENCODED {
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

    fn object(header: &Header, lines: &[u8]) -> Bytes {
        sealed(header, &Body::plain(Bytes::copy_from_slice(lines)))
    }

    fn compressed(header: &Header, lines: &[u8]) -> Bytes {
        let (encoding, stored) = (Encoding::Zstd, zstd::encode_all(lines, 3).unwrap().into());
        sealed(header, &Body { encoding, stored, lines_bytes: lines.len() as u64 })
    }

    fn sealed(header: &Header, body: &Body) -> Bytes {
        [seal(header, body), body.stored.to_vec()].concat().into()
    }

    #[test]
    fn an_object_is_read_back_and_looks_as_documented() {
        let object = object(&sample(), b"{}\n");
        let opened = open(&object).unwrap();
        assert_eq!((opened.header, opened.body), (sample(), Bytes::from_static(b"{}\n")));
        assert_eq!(opened.extent.object_bytes, object.len() as u64);
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
    fn a_compressed_object_is_what_zstd_makes_of_a_plain_one() {
        let lines = b"{\"offset\":1}\n".repeat(90);
        let object = compressed(&sample(), &lines);
        let (header, extent) =
            open_head(&object[..1000.min(object.len())], object.len() as u64).unwrap();
        assert_eq!(header, sample());
        assert_eq!((extent.encoding, extent.lines_bytes), (Encoding::Zstd, lines.len() as u64));
        assert_eq!(open(&object).unwrap().body, lines);
        let text = zstd::decode_all(object.as_ref()).unwrap();
        let (line, rest) = text.split_at(text.len() - lines.len());
        assert_eq!(rest, lines);
        let line = std::str::from_utf8(line).unwrap();
        assert!(line.starts_with("{\"tidegate\":{\"version\":2,") && line.ends_with("\"}\n"));
        assert!(line.contains("\"encoding\":\"zstd\",\"linesBytes\":1170}"), "{line}");
    }

    #[test]
    fn a_body_that_holds_other_lines_than_announced_is_damaged() {
        let stored = Bytes::from(zstd::encode_all(b"{}\n{}\n".as_slice(), 3).unwrap());
        for lines_bytes in [3, 7, u64::MAX] {
            let body = Body { encoding: Encoding::Zstd, stored: stored.clone(), lines_bytes };
            let opened = open(&sealed(&sample(), &body));
            assert!(matches!(opened, Err(FormatError::Compression(_))), "{opened:?}");
        }
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
            small: bool,
        ) {
            let make = if small { compressed } else { object };
            let mut bytes = make(&sample(), &body).to_vec();
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
