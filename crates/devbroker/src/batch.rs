//! Record batches (magic 2) as a broker sees them: a fixed header in front of bytes it need not understand.
//!
//! A batch is checked once, when it is produced, and then kept as it came: compressed records are
//! never opened. Only two header fields are written by the broker, the base offset and the leader
//! epoch; both lie outside the checksum, so that the producer's checksum stays true to the end.
//!
//! ```text
//!  0 base offset   8 length   12 leader epoch   16 magic   17 crc   21 attributes   23 last delta
//! 27 base time    35 max time 43 producer id    51 epoch   53 base sequence   57 count   61 records
//! ```

use bytes::{Buf, Bytes};
use kafka_protocol::ResponseError;

/// Bytes in front of the first record.
pub(crate) const HEADER_BYTES: usize = 61;
/// Bytes in front of what the batch's length field counts.
const PREFIX_BYTES: usize = 12;
/// Where the checksummed part starts.
const CHECKSUMMED_FROM: usize = 21;
const MAGIC_AT: usize = 16;
const COMPRESSION_MASK: i16 = 0x07;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;

/// Who produced a batch, and as which of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// The idempotent producer's id.
    pub(crate) producer: i64,
    /// The producer's epoch: a higher one fences the lower ones.
    pub(crate) epoch: i16,
    /// The number of the first record, counted per partition.
    pub(crate) first: i32,
    /// The number of the last record; wraps to 0 after the largest `i32`.
    pub(crate) last: i32,
}

/// A batch that passed every check, with the header fields the broker acts on.
#[derive(Debug, Clone)]
pub(crate) struct Batch {
    /// The whole batch as it was produced.
    pub(crate) bytes: Bytes,
    /// Number of records, at least 1.
    pub(crate) records: i32,
    /// Timestamp of the newest record in ms, -1 if the producer gave none.
    pub(crate) max_timestamp: i64,
    /// Set for an idempotent producer.
    pub(crate) sequence: Option<Sequence>,
}

// === impl Batch ===

impl Batch {
    /// Checks what a produce request carries for one partition: exactly one whole, intact batch.
    pub(crate) fn parse(records: Option<Bytes>) -> Result<Self, ResponseError> {
        let bytes = records.filter(|bytes| !bytes.is_empty());
        let bytes = bytes.ok_or(ResponseError::InvalidRecord)?;
        check_frame(&bytes)?;
        let mut header = bytes.slice(CHECKSUMMED_FROM..HEADER_BYTES);
        let attributes = header.get_i16();
        let last_delta = header.get_i32();
        let _base_timestamp = header.get_i64();
        let max_timestamp = header.get_i64();
        let producer = header.get_i64();
        let epoch = header.get_i16();
        let first = header.get_i32();
        let records = header.get_i32();
        if records < 1 || last_delta != records - 1 || attributes & CONTROL != 0 {
            return Err(ResponseError::InvalidRecord);
        }
        if attributes & TRANSACTIONAL != 0 {
            return Err(ResponseError::InvalidTxnState);
        }
        let sequence = sequence(producer, epoch, first, last_delta)?;
        Ok(Self { bytes, records, max_timestamp, sequence })
    }

    /// The bytes to keep: those of the producer with the two fields that are the broker's.
    pub(crate) fn stamped(&self, base_offset: i64, leader_epoch: i32) -> Bytes {
        let mut kept = Vec::with_capacity(self.bytes.len());
        kept.extend_from_slice(&base_offset.to_be_bytes());
        kept.extend_from_slice(&self.bytes[8..PREFIX_BYTES]);
        kept.extend_from_slice(&leader_epoch.to_be_bytes());
        kept.extend_from_slice(&self.bytes[MAGIC_AT..]);
        Bytes::from(kept)
    }
}

/// Length, magic and checksum.
fn check_frame(bytes: &Bytes) -> Result<(), ResponseError> {
    if bytes.len() > MAGIC_AT && bytes[MAGIC_AT] < 2 {
        return Err(ResponseError::UnsupportedForMessageFormat);
    }
    if bytes.len() < HEADER_BYTES {
        return Err(ResponseError::CorruptMessage);
    }
    if bytes[MAGIC_AT] != 2 {
        return Err(ResponseError::UnsupportedForMessageFormat);
    }
    let length = bytes.slice(8..PREFIX_BYTES).get_i32();
    let whole = usize::try_from(length).map_or(0, |length| length + PREFIX_BYTES);
    if whole < HEADER_BYTES || whole > bytes.len() {
        return Err(ResponseError::CorruptMessage);
    }
    if whole < bytes.len() {
        // A second batch: the protocol allows one per partition and request.
        return Err(ResponseError::InvalidRecord);
    }
    let stated = bytes.slice(17..CHECKSUMMED_FROM).get_u32();
    if stated != crc32c::crc32c(&bytes[CHECKSUMMED_FROM..]) {
        return Err(ResponseError::CorruptMessage);
    }
    Ok(())
}

/// The idempotent producer's mark, `None` for a producer without an id.
fn sequence(
    producer: i64,
    epoch: i16,
    first: i32,
    last_delta: i32,
) -> Result<Option<Sequence>, ResponseError> {
    if producer < 0 {
        return Ok(None);
    }
    if epoch < 0 || first < 0 {
        return Err(ResponseError::InvalidRecord);
    }
    let last = (i64::from(first) + i64::from(last_delta)) % (i64::from(i32::MAX) + 1);
    let last = i32::try_from(last).expect("a remainder of 2^31 fits i32");
    Ok(Some(Sequence { producer, epoch, first, last }))
}

/// The first record of a kept batch whose timestamp is at least `timestamp`: (offset delta, timestamp).
///
/// A compressed batch is not opened: it answers with its first record. A reader that seeks by time
/// then starts a little early, which is the side that loses nothing.
pub(crate) fn first_record_since(batch: &Bytes, timestamp: i64) -> Option<(i32, i64)> {
    let mut body = batch.clone();
    body.advance(CHECKSUMMED_FROM);
    let attributes = body.get_i16();
    body.advance(4);
    let base_timestamp = body.get_i64();
    body.advance(8 + 8 + 2 + 4);
    let count = body.get_i32();
    if attributes & COMPRESSION_MASK != 0 {
        return Some((0, base_timestamp));
    }
    for _ in 0..count {
        let length = usize::try_from(varint(&mut body)?).ok()?;
        // A record has attributes at least; what is in a batch was not looked at when it was produced.
        let mut record = (1..=body.len()).contains(&length).then(|| body.split_to(length))?;
        record.advance(1);
        let at = base_timestamp.checked_add(varint(&mut record)?)?;
        let delta = i32::try_from(varint(&mut record)?).ok()?;
        if at >= timestamp {
            return Some((delta, at));
        }
    }
    None
}

/// A zigzag-coded variable-length integer; `None` if the bytes end first or it is too long.
fn varint(buf: &mut Bytes) -> Option<i64> {
    let mut raw: u64 = 0;
    for shift in (0..64).step_by(7) {
        if !buf.has_remaining() {
            return None;
        }
        let byte = buf.get_u8();
        raw |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let magnitude = i64::try_from(raw >> 1).ok()?;
            return Some(if raw & 1 == 0 { magnitude } else { !magnitude });
        }
    }
    None
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// An uncompressed batch of `values`, one ms apart from `base_timestamp` on.
    pub(crate) fn encoded(values: &[&[u8]], base_timestamp: i64, by: Option<Sequence>) -> Vec<u8> {
        let count = i32::try_from(values.len()).unwrap();
        let mut tail = Vec::new();
        tail.extend_from_slice(&0_i16.to_be_bytes());
        tail.extend_from_slice(&(count - 1).to_be_bytes());
        tail.extend_from_slice(&base_timestamp.to_be_bytes());
        tail.extend_from_slice(&(base_timestamp + i64::from(count - 1)).to_be_bytes());
        tail.extend_from_slice(&by.map_or(-1, |by| by.producer).to_be_bytes());
        tail.extend_from_slice(&by.map_or(-1, |by| by.epoch).to_be_bytes());
        tail.extend_from_slice(&by.map_or(-1, |by| by.first).to_be_bytes());
        tail.extend_from_slice(&count.to_be_bytes());
        for (delta, value) in values.iter().enumerate() {
            assert!(value.len() < 50 && delta < 60, "one-byte varints only");
            let zigzag = |n: usize| u8::try_from(n * 2).unwrap();
            let length = 1 + 1 + 1 + 1 + 1 + value.len() + 1;
            tail.extend_from_slice(&[zigzag(length), 0, zigzag(delta), zigzag(delta), 1]);
            tail.push(zigzag(value.len()));
            tail.extend_from_slice(value);
            tail.push(0);
        }
        let mut batch = Vec::new();
        batch.extend_from_slice(&0_i64.to_be_bytes());
        batch.extend_from_slice(&i32::try_from(tail.len() + 9).unwrap().to_be_bytes());
        batch.extend_from_slice(&(-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend_from_slice(&crc32c::crc32c(&tail).to_be_bytes());
        batch.extend_from_slice(&tail);
        batch
    }

    /// A parsed batch of `count` small records at `timestamp`.
    pub(crate) fn batch(count: usize, timestamp: i64) -> Batch {
        let values = vec![b"0123456789".as_slice(); count];
        Batch::parse(Some(encoded(&values, timestamp, None).into())).unwrap()
    }

    fn rejection(bytes: Vec<u8>) -> ResponseError {
        Batch::parse(Some(bytes.into())).unwrap_err()
    }

    #[test]
    fn an_intact_batch_is_accepted_with_its_fields() {
        let by = Sequence { producer: 7, epoch: 1, first: i32::MAX, last: 0 };
        let bytes = encoded(&[b"a", b"b"], 1000, Some(by));
        let batch = Batch::parse(Some(bytes.into())).unwrap();
        assert_eq!((batch.records, batch.max_timestamp, batch.sequence), (2, 1001, Some(by)));
    }

    #[test]
    fn a_changed_byte_is_found_by_the_checksum() {
        let mut bytes = encoded(&[b"abc"], 0, None);
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        assert_eq!(rejection(bytes), ResponseError::CorruptMessage);
    }

    #[test]
    fn a_cut_batch_is_corrupt() {
        let mut bytes = encoded(&[b"abc"], 0, None);
        bytes.pop();
        assert_eq!(rejection(bytes), ResponseError::CorruptMessage);
    }

    #[test]
    fn an_older_magic_is_refused_by_its_own_code() {
        let mut bytes = encoded(&[b"abc"], 0, None);
        bytes[MAGIC_AT] = 1;
        assert_eq!(rejection(bytes), ResponseError::UnsupportedForMessageFormat);
    }

    #[test]
    fn two_batches_for_one_partition_are_refused() {
        let mut bytes = encoded(&[b"abc"], 0, None);
        bytes.extend(encoded(&[b"def"], 0, None));
        assert_eq!(rejection(bytes), ResponseError::InvalidRecord);
    }

    #[test]
    fn stamping_leaves_the_checksum_true() {
        let kept = batch(3, 5).stamped(77, 4);
        assert_eq!(kept.slice(0..8).get_i64(), 77);
        assert_eq!(kept.slice(12..16).get_i32(), 4);
        assert!(Batch::parse(Some(kept)).is_ok());
    }

    /// Its length of nothing was taken for one with attributes, which was a panic in whoever asked for a time.
    #[test]
    fn an_empty_record_in_an_intact_batch_is_not_found() {
        let mut bytes = encoded(&[b"abc"], 1000, None);
        bytes[HEADER_BYTES] = 0;
        let batch = Batch::parse(Some(sealed(bytes).into())).unwrap();
        assert_eq!(first_record_since(&batch.bytes, 900), None);
    }

    /// Makes the checksum true again.
    fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
        if bytes.len() > CHECKSUMMED_FROM {
            let checksum = crc32c::crc32c(&bytes[CHECKSUMMED_FROM..]);
            bytes[17..CHECKSUMMED_FROM].copy_from_slice(&checksum.to_be_bytes());
        }
        bytes
    }

    /// A batch with bytes replaced, inserted and cut off.
    fn damaged() -> impl Strategy<Value = Vec<u8>> {
        let at = || any::<prop::sample::Index>();
        let byte = prop_oneof![prop::sample::select(vec![0, 1, 0x7f, 0x80, 0xff]), any::<u8>()];
        let change = (at(), 0..3_usize, vec(byte, 0..3));
        (vec(change, 0..4), any::<bool>()).prop_map(|(changes, is_sealed)| {
            let mut bytes = encoded(&[b"a", b"", b"abc"], 1000, None);
            for (at, removed, new) in changes {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..bytes.len().min(at + removed), new);
            }
            if is_sealed { sealed(bytes) } else { bytes }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn what_is_accepted_is_whole_and_can_be_kept_and_searched(
            bytes in damaged(),
            since in prop_oneof![998..1004_i64, any::<i64>()],
        ) {
            let Ok(batch) = Batch::parse(Some(bytes.clone().into())) else { return Ok(()) };
            prop_assert_eq!(&batch.bytes, &bytes);
            prop_assert!(batch.records >= 1);
            let kept = batch.stamped(77, 4);
            prop_assert!(Batch::parse(Some(kept.clone())).is_ok());
            if let Some((delta, at)) = first_record_since(&kept, since) {
                let is_compressed = bytes[22] & 7 != 0;
                prop_assert!(at >= since || is_compressed && delta == 0);
            }
        }

        #[test]
        fn any_bytes_are_refused(bytes in vec(any::<u8>(), 0..100)) {
            prop_assert!(Batch::parse(Some(bytes.into())).is_err());
        }
    }

    #[test]
    fn a_record_is_found_by_its_timestamp() {
        let bytes = batch(3, 1000).bytes;
        assert_eq!(first_record_since(&bytes, 900), Some((0, 1000)));
        assert_eq!(first_record_since(&bytes, 1001), Some((1, 1001)));
        assert_eq!(first_record_since(&bytes, 1003), None);
    }
}
