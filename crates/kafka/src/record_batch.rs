//! One record batch (magic 2): its checksum, its codec, its records.
//!
//! ```text
//!  0 base offset   8 length   12 leader epoch   16 magic   17 crc   21 attributes   23 last delta
//! 27 base time    35 max time 43 producer id    51 epoch   53 base sequence   57 count   61 records
//! ```
//!
//! Besides the protocol library's decoder, because that one makes room for as many records and headers as a batch claims
//! to have, and adds what it finds to offset and time without looking whether there is such a number. Here nothing is
//! allocated for a claim. Which records the caller wants is not decided here.

use bytes::{Buf as _, Bytes, BytesMut, TryGetError};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use tidegate_runtime::ports::RawRecord;

use crate::decompress::decompress;

/// Where the checksum stands, and where what it covers begins.
const CHECKSUM_AT: usize = 17;
const CHECKSUMMED_FROM: usize = 21;

/// Bytes in front of the first record.
const HEADER: usize = 61;

/// A batch's length counts what stands behind it.
const LENGTH_ENDS_AT: u64 = 12;

const MAGIC_AT: usize = 16;
const CODEC: i16 = 0x07;
const CONTROL: i16 = 0x20;

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
    /// It holds a marker of a transaction.
    pub(crate) is_control: bool,
}

/// The header of a batch, of which only the beginning needs to be there.
pub(crate) fn header(batch: &Bytes) -> Result<Header, Garbled> {
    if batch.len() < HEADER || batch[MAGIC_AT] != 2 {
        return Err(Garbled("it does not begin with the header of a batch".to_owned()));
    }
    let mut header = batch.slice(..HEADER);
    let base_offset = header.get_i64();
    let length = header.get_i32();
    header.advance(4 + 1 + 4);
    let attributes = header.get_i16();
    let last_delta = header.get_i32();
    let not_negative = |number: i64| {
        u64::try_from(number).map_err(|_| Garbled(format!("its header has {number}")))
    };
    Ok(Header {
        base_offset: not_negative(base_offset)?,
        bytes: not_negative(length.into())? + LENGTH_ENDS_AT,
        offsets: not_negative(last_delta.into())? + 1,
        is_control: attributes & CONTROL != 0,
    })
}

/// Decodes one whole batch. A batch of markers of transactions has no records.
pub(crate) fn decode(batch: &Bytes) -> Result<Vec<RawRecord>, Garbled> {
    if batch.len() < HEADER {
        return Err(Garbled(format!("it has {} bytes", batch.len())));
    }
    if batch[MAGIC_AT] != 2 {
        return Err(Garbled(format!("its format is {}", batch[MAGIC_AT])));
    }
    let stated = batch.slice(CHECKSUM_AT..CHECKSUMMED_FROM).get_u32();
    if stated != crc32c::crc32c(&batch[CHECKSUMMED_FROM..]) {
        return Err(Garbled("its checksum is wrong".to_owned()));
    }
    let base_offset = batch.slice(..8).get_i64();
    let mut header = batch.slice(CHECKSUMMED_FROM..HEADER);
    let attributes = header.get_i16();
    let _last_delta = header.get_i32();
    let base_time = header.get_i64();
    header.advance(8 + 8 + 2 + 4);
    let count = header.get_i32();
    if attributes & CONTROL != 0 {
        return Ok(Vec::new());
    }
    let mut plain = decompress(attributes & CODEC, batch.slice(HEADER..))
        .map_err(|cause| Garbled(format!("failed to decompress it: {cause}")))?;
    let base = Base { offset: base_offset, time: base_time };
    (0..count).map(|_| record(&mut plain, base)).collect()
}

/// Encodes values as one batch, neither compressed nor idempotent: a broker keeps it as it is, so that its bytes are those
/// by which the log grows.
pub(crate) fn encode(values: &[Bytes], timestamp_ms: u64) -> Result<Bytes, Garbled> {
    let timestamp = i64::try_from(timestamp_ms).unwrap_or(i64::MAX);
    // The encoder begins another batch where sequences and offsets part.
    let record = |(offset, value): (i32, &Bytes)| Record {
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
    let records: Vec<Record> = (0..).zip(values).map(record).collect();
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
}

fn record(records: &mut Bytes, base: Base) -> Result<RawRecord, Garbled> {
    let mut bytes = sized(records)?.ok_or_else(|| Garbled("a record has no length".to_owned()))?;
    let _attributes = bytes.try_get_i8().map_err(cut_off)?;
    // As Kafka's own client does: what time a producer gives is its own business.
    let time = base.time.wrapping_add(varint(&mut bytes)?);
    let delta = varint(&mut bytes)?;
    let offset = base.offset.checked_add(delta).and_then(|offset| u64::try_from(offset).ok());
    let offset = offset.ok_or_else(|| {
        Garbled(format!("a record has offset delta {delta} above {}", base.offset))
    })?;
    let (key, value) = (sized(&mut bytes)?, sized(&mut bytes)?);
    let headers = varint(&mut bytes)?;
    let headers = (0..headers).map(|_| named(&mut bytes)).collect::<Result<_, _>>()?;
    let timestamp_ms = u64::try_from(time).unwrap_or(0);
    Ok(RawRecord { offset, timestamp_ms, key, headers, value })
}

/// A header: its name and its value, empty if it has none.
fn named(bytes: &mut Bytes) -> Result<(String, Bytes), Garbled> {
    let name = sized(bytes)?.ok_or_else(|| Garbled("a header has no name".to_owned()))?;
    let name = std::str::from_utf8(&name)
        .map_err(|cause| Garbled(format!("the name of a header is no text: {cause}")))?;
    Ok((name.to_owned(), sized(bytes)?.unwrap_or_default()))
}

/// Bytes with their length in front; -1 stands for none.
fn sized(bytes: &mut Bytes) -> Result<Option<Bytes>, Garbled> {
    let length = varint(bytes)?;
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len());
    length
        .map(|length| Some(bytes.split_to(length)))
        .ok_or_else(|| Garbled("a length is below zero or beyond the end".to_owned()))
}

/// A zigzag-coded variable-length integer.
fn varint(bytes: &mut Bytes) -> Result<i64, Garbled> {
    let mut raw: u64 = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let byte = bytes.try_get_u8().map_err(cut_off)?;
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed());
        }
    }
    Err(Garbled("a number is too long".to_owned()))
}

fn cut_off(_: TryGetError) -> Garbled {
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
        assert_eq!((header.base_offset, header.offsets, header.is_control), (0, 300, false));
        assert!(super::header(&batch.slice(..60)).is_err());
        let records = decode(&batch).unwrap();
        let told: Vec<_> = records.iter().map(|record| record.value.clone().unwrap()).collect();
        assert_eq!(told, values);
        assert!(records.iter().zip(0..).all(|(record, n)| record.offset == n));
        assert!(records.iter().all(|record| record.timestamp_ms == 7));
    }
}
