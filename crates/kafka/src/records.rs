//! Record batches as a fetch returns them: cut apart, decoded, and stripped of what the caller did not ask for.
//!
//! A broker returns whole batches, so the first may begin below the position asked for and the last may be cut off by
//! the size limit. Batches that compaction has emptied hold no record and still move the position.

use bytes::{Buf as _, Bytes};
use tidegate_runtime::ports::RawRecord;

use crate::record_batch;
pub(crate) use crate::record_batch::Garbled;

/// Bytes of a batch before the counted part: base offset and length.
const PREFIX: usize = 12;

/// Bytes up to and including the last offset's delta.
const HEAD: usize = 27;

/// What the bytes of a fetch held.
#[derive(Debug)]
pub(crate) struct Decoded {
    /// Data records at or above the position.
    pub(crate) records: Vec<RawRecord>,
    /// The position after the last whole batch.
    pub(crate) next: u64,
    /// Leader epoch of that batch.
    pub(crate) last_epoch: Option<i32>,
    /// Set when a batch could not be decoded: `next` is at it.
    pub(crate) trouble: Option<Garbled>,
}

/// The head of a batch.
#[derive(Clone, Copy, Debug)]
struct Head {
    size: usize,
    last_offset: u64,
    leader_epoch: i32,
}

/// Decodes all whole batches of a fetch from a position on.
pub(crate) fn decode(mut bytes: Bytes, from: u64) -> Result<Decoded, Garbled> {
    let mut decoded = Decoded { records: Vec::new(), next: from, last_epoch: None, trouble: None };
    while let Some(head) = head(&bytes)? {
        if bytes.len() < head.size {
            break;
        }
        match record_batch::decode(&bytes.split_to(head.size)) {
            Ok(records) => {
                decoded.records.extend(records.into_iter().filter(|record| record.offset >= from));
            }
            Err(garbled) => {
                decoded.trouble = Some(garbled);
                break;
            }
        }
        decoded.next = decoded.next.max(head.last_offset.saturating_add(1));
        decoded.last_epoch = Some(head.leader_epoch);
    }
    Ok(decoded)
}

/// Reads the head of the batch in front; `None` when not even that is whole.
fn head(bytes: &Bytes) -> Result<Option<Head>, Garbled> {
    if bytes.len() < HEAD {
        return Ok(None);
    }
    let mut front = &bytes[..HEAD];
    let base = front.get_i64();
    let length = front.get_i32();
    let leader_epoch = front.get_i32();
    front.advance(1 + 4 + 2);
    let delta = front.get_i32();
    let size = usize::try_from(length).ok().filter(|length| length + PREFIX >= HEAD);
    let last_offset = base.checked_add(i64::from(delta)).and_then(|last| u64::try_from(last).ok());
    match (size, last_offset) {
        (Some(length), Some(last_offset)) => {
            Ok(Some(Head { size: length + PREFIX, last_offset, leader_epoch }))
        }
        _ => {
            Err(Garbled(format!("length {length}, base offset {base}, last offset delta {delta}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::records::{
        Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, Record,
        RecordBatchEncoder, RecordEncodeOptions, TimestampType,
    };

    use super::*;

    fn batch(offsets: std::ops::Range<i64>, compression: Compression) -> BytesMut {
        let first = offsets.start;
        let record = |offset: i64| Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: NO_PRODUCER_ID,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: i32::try_from(offset - first).unwrap(),
            timestamp: 7,
            key: None,
            value: Some(Bytes::from(format!("value {offset}"))),
            headers: [("kind".into(), Some(Bytes::from_static(b"test")))]
                .map(|(name, value): (String, _)| (name.into(), value))
                .into_iter()
                .collect(),
        };
        let records: Vec<Record> = offsets.map(record).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        bytes
    }

    #[test]
    fn records_below_the_position_and_cut_batches_are_left_out() {
        for compression in [
            Compression::None,
            Compression::Gzip,
            Compression::Snappy,
            Compression::Lz4,
            Compression::Zstd,
        ] {
            let mut bytes = batch(10..15, compression);
            bytes.extend_from_slice(&batch(15..17, compression));
            let cut = batch(17..30, compression);
            bytes.extend_from_slice(&cut[..cut.len() - 1]);
            let decoded = decode(bytes.freeze(), 12).unwrap();
            let offsets: Vec<u64> = decoded.records.iter().map(|record| record.offset).collect();
            assert_eq!(offsets, [12, 13, 14, 15, 16]);
            assert_eq!(decoded.next, 17);
            assert_eq!(decoded.records[0].headers[0].0, "kind");
        }
    }

    #[test]
    fn a_garbled_batch_ends_the_good_part() {
        let mut bytes = batch(0..3, Compression::None);
        let mut bad = batch(3..6, Compression::None);
        let last = bad.len() - 1;
        bad[last] ^= 1;
        bytes.extend_from_slice(&bad);
        let decoded = decode(bytes.freeze(), 0).unwrap();
        assert_eq!((decoded.next, decoded.records.len()), (3, 3));
        assert!(decoded.trouble.is_some());
        assert!(decode(Bytes::from_static(&[0xff; 64]), 0).is_err());
    }
}
