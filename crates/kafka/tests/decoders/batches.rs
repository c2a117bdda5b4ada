//! Record batches.

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{
    self, Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID,
    RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use tidegate_runtime::ports::Record;

use crate::damage::damage;
use crate::decompress::{MAX_PLAIN, decompress};
use crate::measured;
use crate::record_batch::{self, Garbled};

const CODECS: [Compression; 5] = [
    Compression::None,
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

/// Bytes of memory for a byte of a batch, at most: an empty record has 7 bytes and some 130 in memory, and a list that
/// grows has its old and its new room for a moment.
const BYTES_PER_BYTE: usize = 100;

/// What a codec needs for itself, and what damage may make a codec repeat.
const BESIDES: usize = 8 << 20;

fn field() -> impl Strategy<Value = Option<Bytes>> {
    option::of(vec(any::<u8>(), 0..60).prop_map(Bytes::from))
}

fn record() -> impl Strategy<Value = Record> {
    let headers = vec(("[a-z-]{0,12}", field()), 0..4);
    (0..1_i64 << 41, field(), field(), headers).prop_map(|(timestamp_ms, key, value, headers)| {
        // The library that writes them keeps one header of each name.
        let headers: IndexMap<_, _> = headers.into_iter().collect();
        Record { offset: 0, timestamp_ms, key, headers: headers.into_iter().collect(), value }
    })
}

/// A record of nothing.
fn bare() -> Record {
    Record { offset: 0, timestamp_ms: 0, key: None, value: None, headers: Vec::new() }
}

/// All records of a batch.
fn decode(batch: &Bytes) -> Result<Vec<Record>, Garbled> {
    let mut records = Vec::new();
    if !record_batch::check(batch)?.is_control {
        record_batch::read(batch, 0, MAX_PLAIN, &mut records)?;
    }
    Ok(records)
}

/// Neighbours from an offset on.
fn records() -> impl Strategy<Value = Vec<Record>> {
    (0..1_u64 << 50, vec(record(), 1..12)).prop_map(|(first, mut records)| {
        (first..).zip(&mut records).for_each(|(offset, record)| record.offset = offset);
        records
    })
}

fn encoded(records: &[Record], compression: Compression) -> Vec<u8> {
    let record = |(sequence, record): (i32, &Record)| records::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: i64::try_from(record.offset).unwrap(),
        sequence,
        timestamp: record.timestamp_ms,
        key: record.key.clone(),
        value: record.value.clone(),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (StrBytes::from_string(name.clone()), value.clone()))
            .collect(),
    };
    let records: Vec<records::Record> = (0..).zip(records).map(record).collect();
    let mut bytes = BytesMut::new();
    let options = RecordEncodeOptions { version: 2, compression };
    RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
    bytes.to_vec()
}

/// Makes the checksum true, so that the damage behind it is looked at.
fn sealed(mut batch: Vec<u8>) -> Vec<u8> {
    if batch.len() >= 21 {
        let checksum = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    batch
}

fn is_decoded_within_bounds(batch: Vec<u8>) -> bool {
    let most = BESIDES + BYTES_PER_BYTE * batch.len();
    let (decoded, peak) = measured(|| decode(&Bytes::from(batch)).is_ok());
    assert!(peak <= most, "{peak} bytes were allocated");
    decoded
}

fn refusal(batch: Vec<u8>) -> String {
    let Garbled(reason) = decode(&Bytes::from(sealed(batch))).unwrap_err();
    reason
}

/// A batch with these bytes for its records.
fn with_records(count: i32, codec: u8, records: &[u8]) -> Vec<u8> {
    let mut batch = encoded(&[bare()], Compression::None);
    batch[22] = codec;
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    batch.truncate(61);
    batch.extend_from_slice(records);
    sealed(batch)
}

#[test]
fn a_claim_of_two_billion_records_or_headers_takes_no_memory() {
    let records = with_records(i32::MAX, 0, &[12, 0, 0, 0, 1, 1, 0]);
    // Ten bytes: no attributes, deltas, key or value; then 2^31 - 1 headers.
    let headers = with_records(1, 0, &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]);
    for batch in [records, headers] {
        let (outcome, peak) = measured(|| decode(&Bytes::from(batch)).map(|_| ()));
        assert!(outcome.is_err());
        assert!(peak < 4096, "{peak}");
    }
}

#[test]
fn a_claim_of_snappy_is_not_believed() {
    // 0xffff_ffff bytes in eight.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0, 0];
    let framed = [&b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01\x00\x00\x00\x08"[..], &claim];
    for bytes in [claim.to_vec(), framed.concat()] {
        let (outcome, peak) = measured(|| decompress(2, Bytes::from(bytes), MAX_PLAIN).is_ok());
        assert!(!outcome && peak < 4096, "{peak}");
    }
}

#[test]
fn what_decompresses_to_too_much_is_refused_in_time() {
    let zeros = vec![0; MAX_PLAIN + 1];
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &zeros).unwrap();
    let bombs = [
        (1, gzip.finish().unwrap()),
        (2, snap::raw::Encoder::new().compress_vec(&zeros).unwrap()),
        (4, zstd::stream::encode_all(&*zeros, 1).unwrap()),
    ];
    drop(zeros);
    for (codec, bytes) in bombs {
        let (outcome, peak) = measured(|| decompress(codec, Bytes::from(bytes), MAX_PLAIN));
        assert!(outcome.unwrap_err().to_string().contains("more than"), "codec {codec}");
        assert!(peak <= 4 * MAX_PLAIN, "codec {codec} had {peak} bytes");
    }
}

/// The library's decoder adds them as they are, and an overflow is a panic.
#[test]
fn deltas_beyond_all_numbers_are_no_panic() {
    let mut batch = encoded(&[bare()], Compression::None);
    batch[27..35].copy_from_slice(&i64::MAX.to_be_bytes());
    batch.truncate(61);
    batch.extend_from_slice(&[12, 0, 2, 0, 1, 1, 0]);
    let late = decode(&Bytes::from(sealed(batch.clone()))).unwrap();
    assert_eq!(late[0].timestamp_ms, i64::MIN, "it wraps, as in Kafka's client");
    batch[..8].copy_from_slice(&i64::MAX.to_be_bytes());
    batch[61 + 3] = 2;
    assert!(refusal(batch).contains("offset delta 1"));
}

#[test]
fn records_are_read_as_the_library_wrote_them() {
    proptest!(ProptestConfig::with_cases(400), |(
        records in records(),
        compression in prop::sample::select(CODECS.to_vec()),
    )| {
        let batch = Bytes::from(encoded(&records, compression));
        prop_assert_eq!(decode(&batch).unwrap(), records);
    });
}

#[test]
fn a_damaged_batch_never_gets_past_its_checksum() {
    proptest!(ProptestConfig::with_cases(400), |(
        records in records(),
        compression in prop::sample::select(CODECS.to_vec()),
        damage in damage(),
    )| {
        let mut batch = encoded(&records, compression);
        let sound = batch[17..].to_vec();
        for damage in damage {
            damage.apply(&mut batch);
        }
        let is_changed = batch.get(17..) != Some(&sound[..]);
        prop_assert!(!is_decoded_within_bounds(batch) || !is_changed);
    });
}

#[test]
fn a_damaged_batch_with_a_true_checksum_is_read_or_refused_within_bounds() {
    proptest!(ProptestConfig::with_cases(400), |(
        records in records(),
        compression in prop::sample::select(CODECS.to_vec()),
        damage in damage(),
    )| {
        let mut batch = encoded(&records, compression);
        for damage in damage {
            damage.apply(&mut batch);
        }
        is_decoded_within_bounds(sealed(batch));
    });
}

#[test]
fn any_records_with_a_true_checksum_are_read_or_refused_within_bounds() {
    proptest!(ProptestConfig::with_cases(400), |(
        count in prop_oneof![0..5_i32, any::<i32>()],
        codec in 0..8_u8,
        records in vec(any::<u8>(), 0..120),
    )| {
        is_decoded_within_bounds(with_records(count, codec, &records));
    });
}
