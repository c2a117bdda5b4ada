//! One record batch (magic 2): its checksum, its codec, its records.
//!
//! ```text
//!  0 base offset   8 length   12 leader epoch   16 magic   17 crc   21 attributes   23 last delta
//! 27 base time    35 max time 43 producer id    51 epoch   53 base sequence   57 count   61 records
//! ```
//!
//! Besides the protocol library's decoder, because that one makes room for as many records and headers as a batch claims
//! to have, and adds what it finds to offset and time without looking whether there is such a number. Here nothing is
//! allocated for a claim, and keys and values are slices of what came or, of a compressed batch, of what it held.

use bytes::{Buf as _, Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    self, Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use tidegate_runtime::ports::Record;

use crate::decompress::{MAX_PLAIN, decompress};

/// Where the checksum stands, and where what it covers begins.
const CHECKSUM_AT: usize = 17;
const CHECKSUMMED_FROM: usize = 21;

/// Bytes in front of the first record.
pub(crate) const HEADER: usize = 61;

/// A batch's length counts what stands behind it.
const LENGTH_ENDS_AT: u64 = 12;

const MAGIC_AT: usize = 16;
const CODEC: i16 = 0x07;
const APPEND_TIME: i16 = 0x08;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// A record without anything: a length, attributes, two deltas, and no key, value or headers.
const SMALLEST_RECORD: usize = 7;

/// Bytes that are no record batch.
#[derive(Debug, thiserror::Error)]
#[error("a record batch is garbled: {0}")]
pub(crate) struct Garbled(pub(crate) String);

/// What a batch tells of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) base_offset: u64,
    /// All of the batch, as it is stored.
    pub(crate) bytes: u64,
    /// Offsets that it takes: as many as it was written with records, however many compaction has left.
    pub(crate) offsets: u64,
    /// Counts the leaders: the one that took it.
    pub(crate) leader_epoch: i32,
    /// Who wrote it, where that was a producer with a number.
    pub(crate) producer: i64,
    /// It belongs to a transaction.
    pub(crate) is_transactional: bool,
    /// It holds a marker of a transaction.
    pub(crate) is_control: bool,
    /// Its records are compressed.
    pub(crate) is_compressed: bool,
}

impl Header {
    /// The offset behind it.
    pub(crate) fn next(&self) -> u64 {
        self.base_offset.saturating_add(self.offsets)
    }
}

/// The header of a batch, of which only the beginning needs to be there.
pub(crate) fn header(batch: &[u8]) -> Result<Header, Garbled> {
    if batch.len() < HEADER {
        return Err(Garbled(format!("it has {} bytes", batch.len())));
    }
    check_format(batch)?;
    let mut header = &batch[..HEADER];
    let base_offset = header.get_i64();
    let length = header.get_i32();
    let leader_epoch = header.get_i32();
    header.advance(1 + 4);
    let attributes = header.get_i16();
    let last_delta = header.get_i32();
    header.advance(8 + 8);
    let producer = header.get_i64();
    let not_negative = |number: i64| {
        u64::try_from(number).map_err(|_| Garbled(format!("its header has {number}")))
    };
    Ok(Header {
        base_offset: not_negative(base_offset)?,
        bytes: not_negative(length.into())? + LENGTH_ENDS_AT,
        offsets: not_negative(last_delta.into())? + 1,
        leader_epoch,
        producer,
        is_transactional: attributes & TRANSACTIONAL != 0,
        is_control: attributes & CONTROL != 0,
        is_compressed: attributes & CODEC != 0,
    })
}

/// Refuses formats that are not read, as soon as so much is there that it can be told.
pub(crate) fn check_format(batch: &[u8]) -> Result<(), Garbled> {
    match batch.get(MAGIC_AT) {
        None | Some(2) => Ok(()),
        Some(format) => {
            Err(Garbled(format!("its format is {format}, and only 2 (Kafka 0.11) is read")))
        }
    }
}

/// True for the batch of a marker by which a transaction is aborted.
pub(crate) fn is_abort(batch: &Bytes) -> Result<bool, Garbled> {
    let mut markers = Vec::new();
    read(batch, 0, MAX_PLAIN, &mut markers)?;
    let key = markers.first().and_then(|marker| marker.key.as_deref());
    // A version, and the kind.
    Ok(key.is_some_and(|key| key.get(2..4) == Some(&[0, 0])))
}

/// The header of a whole batch whose checksum is right.
pub(crate) fn check(batch: &[u8]) -> Result<Header, Garbled> {
    let header = header(batch)?;
    let stated = (&batch[CHECKSUM_AT..CHECKSUMMED_FROM]).get_u32();
    if stated != crc32c::crc32c(&batch[CHECKSUMMED_FROM..]) {
        return Err(Garbled("its checksum (CRC) is wrong".to_owned()));
    }
    Ok(header)
}

/// Adds the records of a batch that was checked to others, from an offset on; all of them or, with an error, none.
pub(crate) fn read(
    batch: &Bytes,
    from: u64,
    most_plain: usize,
    records: &mut Vec<Record>,
) -> Result<(), Garbled> {
    let base_offset = (&batch[..8]).get_i64();
    let mut header = &batch[CHECKSUMMED_FROM..HEADER];
    let attributes = header.get_i16();
    let _last_delta = header.get_i32();
    let (base_time, max_time) = (header.get_i64(), header.get_i64());
    header.advance(8 + 2 + 4);
    let count = header.get_i32();
    let plain = decompress(attributes & CODEC, batch.slice(HEADER..), most_plain)
        .map_err(|cause| Garbled(format!("failed to decompress it: {cause}")))?;
    let base = Base {
        offset: base_offset,
        time: base_time,
        appended: (attributes & APPEND_TIME != 0).then_some(max_time),
    };
    let most = plain.len() / SMALLEST_RECORD;
    let count = usize::try_from(count).ok().filter(|count| *count <= most);
    let count = count.ok_or_else(|| Garbled("it claims to hold more than it can".to_owned()))?;
    if count * size_of::<Record>() > 2 * most_plain {
        return Err(Garbled(format!("its {count} records would take too much memory")));
    }
    if records.is_empty() {
        // Most often that is all: records that trickle in do not take room for more.
        records.reserve_exact(count);
    } else {
        records.reserve(count);
    }
    let before = records.len();
    let outcome = read_all(&plain, count, base, from, records);
    if outcome.is_err() {
        records.truncate(before);
    }
    outcome
}

fn read_all(
    plain: &Bytes,
    count: usize,
    base: Base,
    from: u64,
    records: &mut Vec<Record>,
) -> Result<(), Garbled> {
    let mut fields = Fields { bytes: plain, rest: plain };
    for _ in 0..count {
        let record = record(&mut fields, base)?;
        if record.offset >= from {
            records.push(record);
        }
    }
    if !fields.rest.is_empty() {
        return Err(Garbled("something stands behind its last record".to_owned()));
    }
    Ok(())
}

/// Encodes values as one batch, neither compressed nor idempotent: a broker keeps it as it is, so that its bytes are those
/// by which the log grows.
pub(crate) fn encode(values: &[Bytes], timestamp_ms: u64) -> Result<Bytes, Garbled> {
    let timestamp = i64::try_from(timestamp_ms).unwrap_or(i64::MAX);
    // The encoder begins another batch where sequences and offsets part.
    let record = |(offset, value): (i32, &Bytes)| records::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: i64::from(offset),
        sequence: offset.wrapping_add(NO_SEQUENCE),
        timestamp,
        key: None,
        value: Some(value.clone()),
        headers: IndexMap::new(),
    };
    let records: Vec<records::Record> = (0..).zip(values).map(record).collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &options)
        .map_err(|cause| Garbled(format!("failed to encode it: {cause}")))?;
    Ok(bytes.freeze())
}

/// What the deltas of a batch's records are added to.
#[derive(Clone, Copy)]
struct Base {
    offset: i64,
    time: i64,
    /// When the broker took the batch, where the topic's records have that for their time.
    appended: Option<i64>,
}

/// What is left of a batch's records, or of one of them. Keys and values are slices of the same buffer.
struct Fields<'a> {
    bytes: &'a Bytes,
    rest: &'a [u8],
}

fn record(records: &mut Fields<'_>, base: Base) -> Result<Record, Garbled> {
    let record = records.sized()?.ok_or_else(|| Garbled("a record has no length".to_owned()))?;
    let mut fields = Fields { bytes: records.bytes, rest: record };
    let _attributes = fields.byte()?;
    // As Kafka's own client does: what time a producer gives is its own business.
    let time = base.time.wrapping_add(fields.varint()?);
    let delta = fields.varint()?;
    let offset = base.offset.checked_add(delta).and_then(|offset| u64::try_from(offset).ok());
    let offset = offset.ok_or_else(|| {
        Garbled(format!("a record has offset delta {delta} above {}", base.offset))
    })?;
    let (key, value) = (fields.shared()?, fields.shared()?);
    let headers = fields.varint()?;
    if headers < 0 {
        return Err(Garbled(format!("a record has {headers} headers")));
    }
    let headers = (0..headers).map(|_| named(&mut fields)).collect::<Result<_, _>>()?;
    Ok(Record { offset, timestamp_ms: base.appended.unwrap_or(time), key, value, headers })
}

/// A header: its name and its value, if it has one. Kafka's protocol has text for names; what is none is shown as near to it
/// as can be.
fn named(fields: &mut Fields<'_>) -> Result<(String, Option<Bytes>), Garbled> {
    let name = fields.sized()?.ok_or_else(|| Garbled("a header has no name".to_owned()))?;
    Ok((String::from_utf8_lossy(name).into_owned(), fields.shared()?))
}

impl<'a> Fields<'a> {
    #[inline]
    fn byte(&mut self) -> Result<u8, Garbled> {
        let (byte, rest) = self.rest.split_first().ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(*byte)
    }

    /// A zigzag-coded variable-length integer.
    #[inline]
    fn varint(&mut self) -> Result<i64, Garbled> {
        // Most are of one byte.
        match self.rest {
            [byte, rest @ ..] if byte & 0x80 == 0 => {
                self.rest = rest;
                let raw = u64::from(*byte);
                Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<i64, Garbled> {
        let mut raw: u64 = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            raw |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
            }
        }
        Err(Garbled("a number is too long".to_owned()))
    }

    /// Bytes with their length in front; -1 stands for none.
    #[inline]
    fn sized(&mut self) -> Result<Option<&'a [u8]>, Garbled> {
        let length = self.varint()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).ok();
        let parts = length.and_then(|length| self.rest.split_at_checked(length));
        let (bytes, rest) =
            parts.ok_or_else(|| Garbled("a length is below zero or beyond the end".to_owned()))?;
        self.rest = rest;
        Ok(Some(bytes))
    }

    /// The same as a part of the batch's memory.
    #[inline]
    fn shared(&mut self) -> Result<Option<Bytes>, Garbled> {
        Ok(self.sized()?.map(|bytes| self.bytes.slice_ref(bytes)))
    }
}

fn cut_off() -> Garbled {
    Garbled("a record is cut off".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_is_one_batch_and_is_decoded() {
        let values: Vec<Bytes> = (0..300_u32).map(|n| format!("value {n}").into()).collect();
        let batch = encode(&values, 7).unwrap();
        let header = header(&batch).unwrap();
        assert_eq!(usize::try_from(header.bytes).unwrap(), batch.len(), "one batch");
        assert_eq!((header.base_offset, header.offsets, header.next()), (0, 300, 300));
        assert!(!header.is_control && !header.is_transactional && !header.is_compressed);
        assert!(super::header(&batch[..60]).is_err());
        let mut records = Vec::new();
        check(&batch).unwrap();
        read(&batch, 0, MAX_PLAIN, &mut records).unwrap();
        let told: Vec<_> = records.iter().map(|record| record.value.clone().unwrap()).collect();
        assert_eq!(told, values);
        assert!(records.iter().zip(0..).all(|(record, n)| record.offset == n));
        assert!(records.iter().all(|record| record.timestamp_ms == 7));
    }
}
