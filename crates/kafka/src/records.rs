//! Record batches as a fetch returns them: cut apart and decoded one by one, without what the caller did not ask for.
//!
//! A broker returns whole batches, so the first may begin below the position asked for and the last may be cut off by
//! the size limit. Batches that compaction has emptied hold no record and still move the position, as markers of
//! transactions do, and records of transactions that were aborted.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidegate_runtime::ports::Record;

pub(crate) use crate::record_batch::Garbled;
use crate::record_batch::{self, Header};

/// The batches of one partition in the answer to a fetch.
#[derive(Debug)]
pub(crate) struct Batches {
    bytes: Bytes,
    position: u64,
    last_epoch: Option<i32>,
    aborted: Aborted,
    most_plain: usize,
}

/// The transactions among the records that were aborted, as a broker lists them for who reads committed records only.
#[derive(Debug, Default)]
pub(crate) struct Aborted {
    /// Offset of the first record and the producer, the last ones in front.
    transactions: Vec<(u64, i64)>,
    /// Who has one at this point.
    producers: BTreeSet<i64>,
}

/// A batch that was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    /// All of it, as it came.
    pub(crate) bytes: usize,
    /// Its records stand in memory of their own.
    pub(crate) is_compressed: bool,
}

// === impl Batches ===

impl Batches {
    /// Batches of which records from a position on are wanted; one may hold so many bytes once it is decompressed.
    pub(crate) fn new(bytes: Bytes, from: u64, aborted: Aborted, most_plain: usize) -> Self {
        Self { bytes, position: from, last_epoch: None, aborted, most_plain }
    }

    /// The position behind the last batch that was read.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Leader epoch of that batch.
    pub(crate) fn last_epoch(&self) -> Option<i32> {
        self.last_epoch
    }

    /// Reads the next whole batch and adds its records; `None` when there is none. After an error the position is at the batch
    /// that could not be read.
    pub(crate) fn read(&mut self, records: &mut Vec<Record>) -> Result<Option<Passed>, Garbled> {
        let Some((header, bytes)) = front(&self.bytes)? else { return Ok(None) };
        let batch = self.bytes.slice(..bytes);
        record_batch::check(&batch)?;
        if !self.aborted.hides(&header, &batch)? && !header.is_control {
            record_batch::read(&batch, self.position, self.most_plain, records)?;
        }
        let _read = self.bytes.split_to(bytes);
        self.position = self.position.max(header.next());
        self.last_epoch = Some(header.leader_epoch);
        Ok(Some(Passed { bytes, is_compressed: header.is_compressed }))
    }
}

/// Where the next fetch begins, and the leader epoch of the last whole batch. Looks at headers only: nothing is checked, and a
/// batch that is no batch ends the look.
pub(crate) fn look(bytes: &Bytes, from: u64) -> (u64, Option<i32>) {
    let (mut rest, mut position, mut epoch) = (&bytes[..], from, None);
    while let Ok(Some((header, bytes))) = front(rest) {
        position = position.max(header.next());
        epoch = Some(header.leader_epoch);
        rest = &rest[bytes..];
    }
    (position, epoch)
}

/// The header of the batch in front, and its size; `None` when it is not whole.
fn front(bytes: &[u8]) -> Result<Option<(Header, usize)>, Garbled> {
    if bytes.len() < record_batch::HEADER {
        // A message of an old format may be as short as this, and whole.
        record_batch::check_format(bytes)?;
        return Ok(None);
    }
    let header = record_batch::header(bytes)?;
    let size = usize::try_from(header.bytes).unwrap_or(usize::MAX);
    if size < record_batch::HEADER {
        return Err(Garbled(format!("its length is {size}")));
    }
    Ok((size <= bytes.len()).then_some((header, size)))
}

// === impl Aborted ===

impl Aborted {
    /// By producer and the offset of the first record, in any order.
    pub(crate) fn new(transactions: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let first = |(producer, offset)| (u64::try_from(offset).unwrap_or(0), producer);
        let mut transactions: Vec<(u64, i64)> = transactions.into_iter().map(first).collect();
        transactions.sort_by(|one, other| other.cmp(one));
        Self { transactions, producers: BTreeSet::new() }
    }

    /// True for a batch whose records were aborted. To be asked of each batch in turn.
    fn hides(&mut self, header: &Header, batch: &Bytes) -> Result<bool, Garbled> {
        if self.transactions.is_empty() && self.producers.is_empty() {
            return Ok(false);
        }
        while let Some((_, producer)) =
            self.transactions.pop_if(|(first, _)| *first < header.next())
        {
            self.producers.insert(producer);
        }
        if header.is_control {
            if record_batch::is_abort(batch)? {
                self.producers.remove(&header.producer);
            }
            return Ok(false);
        }
        Ok(header.is_transactional && self.producers.contains(&header.producer))
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::records::{
        self, Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, RecordBatchEncoder,
        RecordEncodeOptions, TimestampType,
    };

    use super::*;
    use crate::decompress::MAX_PLAIN;

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    /// Who writes, and whether that is a transaction or the marker that ends it.
    #[derive(Clone, Copy)]
    struct Producer {
        id: i64,
        transactional: bool,
        /// Whether the transaction is committed.
        marker: Option<bool>,
    }

    const NOBODY: Producer = Producer { id: -1, transactional: false, marker: None };

    fn batch(offsets: std::ops::Range<i64>, compression: Compression, by: Producer) -> BytesMut {
        let first = offsets.start;
        let record = |offset: i64| records::Record {
            transactional: by.transactional,
            control: by.marker.is_some(),
            delete_horizon: false,
            partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
            producer_id: by.id,
            producer_epoch: NO_PRODUCER_EPOCH,
            timestamp_type: TimestampType::Creation,
            offset,
            sequence: i32::try_from(offset - first).unwrap(),
            timestamp: 7,
            key: by.marker.map(|commit| Bytes::from(vec![0, 0, 0, u8::from(commit)])),
            value: Some(Bytes::from(format!("value {offset}"))),
            headers: [("kind".into(), Some(Bytes::from_static(b"test")))]
                .map(|(name, value): (String, _)| (name.into(), value))
                .into_iter()
                .collect(),
        };
        let records: Vec<records::Record> = offsets.map(record).collect();
        let mut bytes = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression };
        RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        bytes
    }

    /// All that can be read, with the error that ended it.
    fn all(batches: &mut Batches) -> (Vec<Record>, Option<Garbled>) {
        let mut records = Vec::new();
        loop {
            match batches.read(&mut records) {
                Ok(Some(_)) => {}
                Ok(None) => return (records, None),
                Err(garbled) => return (records, Some(garbled)),
            }
        }
    }

    fn offsets(records: &[Record]) -> Vec<u64> {
        records.iter().map(|record| record.offset).collect()
    }

    #[test]
    fn records_below_the_position_and_cut_batches_are_left_out() {
        for compression in CODECS {
            let mut bytes = batch(10..15, compression, NOBODY);
            bytes.extend_from_slice(&batch(15..17, compression, NOBODY));
            let cut = batch(17..30, compression, NOBODY);
            bytes.extend_from_slice(&cut[..cut.len() - 1]);
            let bytes = bytes.freeze();
            assert_eq!(look(&bytes, 12).0, 17);
            let mut batches = Batches::new(bytes, 12, Aborted::default(), MAX_PLAIN);
            let (records, trouble) = all(&mut batches);
            assert_eq!((offsets(&records), trouble.is_none()), (vec![12, 13, 14, 15, 16], true));
            assert_eq!(batches.position(), 17);
            assert_eq!(records[0].headers[0].0, "kind");
        }
    }

    #[test]
    fn a_garbled_batch_ends_the_good_part() {
        let mut bytes = batch(0..3, Compression::None, NOBODY);
        let mut bad = batch(3..6, Compression::None, NOBODY);
        let last = bad.len() - 1;
        bad[last] ^= 1;
        bytes.extend_from_slice(&bad);
        let mut batches = Batches::new(bytes.freeze(), 0, Aborted::default(), MAX_PLAIN);
        let (records, trouble) = all(&mut batches);
        assert_eq!((batches.position(), records.len(), trouble.is_some()), (3, 3, true));
        let nonsense = Bytes::from_static(&[0xff; 64]);
        assert_eq!(look(&nonsense, 5), (5, None));
        let mut batches = Batches::new(nonsense, 5, Aborted::default(), MAX_PLAIN);
        assert!(batches.read(&mut Vec::new()).is_err());
    }

    #[test]
    fn a_batch_that_breaks_off_in_the_middle_gives_none_of_its_records() {
        let mut bytes = batch(0..3, Compression::None, NOBODY);
        let mut bad = batch(3..6, Compression::None, NOBODY);
        // The last record is said to be longer than it is, and the checksum is right.
        let last = bad.len() - (bad.len() - record_batch::HEADER) / 3;
        bad[last] = 0x7e;
        let sum = crc32c::crc32c(&bad[21..]);
        bad[17..21].copy_from_slice(&sum.to_be_bytes());
        bytes.extend_from_slice(&bad);
        let mut batches = Batches::new(bytes.freeze(), 0, Aborted::default(), MAX_PLAIN);
        let (records, trouble) = all(&mut batches);
        assert_eq!((offsets(&records), batches.position()), (vec![0, 1, 2], 3));
        assert!(trouble.unwrap().to_string().contains("beyond the end"));
    }

    #[test]
    fn formats_of_old_are_refused_however_short() {
        let mut old = [0; 40];
        old[16] = 1;
        let mut batches = Batches::new(Bytes::copy_from_slice(&old), 0, Aborted::default(), 9);
        let refused = batches.read(&mut Vec::new()).unwrap_err().to_string();
        assert!(refused.contains("format is 1"), "{refused}");
    }

    #[test]
    fn what_was_aborted_is_hidden_up_to_its_marker_and_only_of_its_producer() {
        let by = |id, marker| Producer { id, transactional: true, marker };
        let mut bytes = BytesMut::new();
        let mut add = |offsets, by| bytes.extend_from_slice(&batch(offsets, Compression::None, by));
        add(0..2, by(7, None)); // aborted at 4
        add(2..3, by(8, None)); // committed at 5
        add(3..4, Producer { id: 7, transactional: false, marker: None });
        add(4..5, by(7, Some(false)));
        add(5..6, by(8, Some(true)));
        add(6..8, by(7, None)); // committed at 8
        add(8..9, by(7, Some(true)));
        add(9..10, by(8, None)); // aborted, and its marker is not here
        add(10..11, by(7, None));
        let aborted = Aborted::new([(8, 9), (7, 0)]);
        let mut batches = Batches::new(bytes.freeze(), 0, aborted, MAX_PLAIN);
        let (records, trouble) = all(&mut batches);
        assert_eq!((offsets(&records), trouble.is_none()), (vec![2, 3, 6, 7, 10], true));
        assert_eq!(batches.position(), 11);
    }
}
