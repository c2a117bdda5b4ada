//! Answers of brokers.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiVersionsResponse, BrokerId, DescribeLogDirsResponse, FetchResponse, ListOffsetsResponse,
    MetadataResponse, ResponseHeader, SaslHandshakeResponse, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, Message, StrBytes};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::bounded;
use crate::damage::damage;
use crate::measured;

/// Bytes of memory for a byte of a frame, at most: the largest element has some 200 bytes, of which its array may have
/// been given as many as there are bytes, and three arrays are in each other.
const BYTES_PER_BYTE: usize = 1000;

/// What an error, an empty map and arrays with lengths of one byte take.
const BESIDES: usize = 256 << 10;

/// An answer in one version, and how to read it.
#[derive(Clone, Debug)]
struct Sample {
    bytes: Vec<u8>,
    version: i16,
    read: fn(&mut Bytes, i16) -> bool,
}

fn encoded<T: Encodable>(answer: &T, version: i16) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).unwrap();
    bytes.to_vec()
}

fn is_read<T: Decodable>(frame: &mut Bytes, version: i16) -> bool {
    bounded::decode::<T>(frame, version).is_ok()
}

/// In each of the versions that are asked for.
fn versions<T>(answer: &T, highest: i16) -> Vec<Sample>
where
    T: Encodable + Decodable + Message + PartialEq + Debug,
{
    let sample = |version| Sample { bytes: encoded(answer, version), version, read: is_read::<T> };
    (T::VERSIONS.min..=highest.min(T::VERSIONS.max)).map(sample).collect()
}

fn name(name: &'static str) -> TopicName {
    TopicName(StrBytes::from_static_str(name))
}

/// Numbers of brokers that look like lengths, as some clouds have them.
const HUGE: i32 = 1_182_374_719;

fn metadata() -> MetadataResponse {
    let broker = |id| {
        let host = StrBytes::from_static_str("broker");
        MetadataResponseBroker::default().with_node_id(BrokerId(id)).with_host(host).with_port(9092)
    };
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(BrokerId(HUGE))
            .with_replica_nodes(vec![BrokerId(1), BrokerId(HUGE)])
            .with_isr_nodes(vec![BrokerId(HUGE)])
    };
    let topic = MetadataResponseTopic::default()
        .with_name(Some(name("orders")))
        .with_partitions((0..3).map(partition).collect());
    MetadataResponse::default()
        .with_brokers(vec![broker(1), broker(HUGE)])
        .with_controller_id(BrokerId(HUGE))
        .with_topics(vec![topic])
}

fn list_offsets() -> ListOffsetsResponse {
    let partition = |index| {
        ListOffsetsPartitionResponse::default().with_partition_index(index).with_offset(1 << 40)
    };
    let topic = ListOffsetsTopicResponse::default()
        .with_name(name("orders"))
        .with_partitions((0..3).map(partition).collect());
    ListOffsetsResponse::default().with_topics(vec![topic])
}

fn log_dirs() -> DescribeLogDirsResponse {
    let partition = DescribeLogDirsPartition::default().with_partition_size(1 << 40);
    let topic = DescribeLogDirsTopic::default()
        .with_name(name("orders"))
        .with_partitions(vec![partition; 3]);
    let result = DescribeLogDirsResult::default()
        .with_log_dir(StrBytes::from_static_str("/data"))
        .with_topics(vec![topic]);
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn fetched() -> FetchResponse {
    let partition = PartitionData::default().with_records(Some(Bytes::from_static(&[7; 90])));
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition; 2]);
    FetchResponse::default().with_responses(vec![topic])
}

fn samples() -> Vec<Sample> {
    let keys = (0..9).map(|key| ApiVersion::default().with_api_key(key).with_max_version(9));
    let api_versions = ApiVersionsResponse::default().with_api_keys(keys.collect());
    let mechanisms = vec![StrBytes::from_static_str("PLAIN"), StrBytes::from_static_str("SCRAM")];
    let handshake = SaslHandshakeResponse::default().with_mechanisms(mechanisms);
    // The oldest versions lack fields that these have, and refuse to be encoded with them.
    let fetched =
        Sample { bytes: encoded(&fetched(), 13), version: 13, read: is_read::<FetchResponse> };
    let mut all = vec![fetched];
    all.extend(versions(&metadata(), 12).into_iter().filter(|sample| sample.version >= 1));
    all.extend(versions(&list_offsets(), 7));
    all.extend(versions(&log_dirs(), 4));
    all.extend(versions(&api_versions, 3));
    all.extend(versions(&handshake, 1));
    all
}

/// Reads a frame, and makes sure that it took no more memory than its size allows.
fn reads_within_bounds(sample: &Sample, bytes: Vec<u8>) -> bool {
    let most = BESIDES + BYTES_PER_BYTE * bytes.len();
    let (is_read, peak) = measured(|| (sample.read)(&mut Bytes::from(bytes), sample.version));
    assert!(peak <= most, "{peak} bytes were allocated");
    is_read
}

#[test]
fn a_sound_answer_is_read_to_its_end_in_every_version() {
    for sample in samples() {
        let mut frame = Bytes::from(sample.bytes.clone());
        assert!((sample.read)(&mut frame, sample.version), "{sample:?}");
        assert!(frame.is_empty(), "{sample:?}");
    }
}

#[test]
fn an_answer_is_read_as_the_library_reads_it() {
    for version in 1..=12 {
        let bytes = Bytes::from(encoded(&metadata(), version));
        let expected = MetadataResponse::decode(&mut bytes.clone(), version).unwrap();
        let read: MetadataResponse = bounded::decode(&mut bytes.clone(), version).unwrap();
        assert_eq!(read, expected);
        assert_eq!(read.brokers[1].node_id, BrokerId(HUGE));
    }
}

/// At every place where a length may stand, the largest there are: of an `i32`, and of a varint.
#[test]
fn a_length_of_gigabytes_anywhere_takes_no_more_memory_than_the_frame() {
    for sample in samples() {
        for at in 0..sample.bytes.len() {
            for claim in [&[0x7f, 0xff, 0xff, 0xff][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
                let mut bytes = sample.bytes.clone();
                let end = bytes.len().min(at + claim.len());
                bytes.splice(at..end, claim.iter().copied());
                reads_within_bounds(&sample, bytes);
                let mut longer = sample.bytes.clone();
                longer.splice(at..=at, claim.iter().copied());
                reads_within_bounds(&sample, longer);
            }
        }
    }
}

#[test]
fn a_cut_answer_is_an_error() {
    for sample in samples() {
        for end in 0..sample.bytes.len() {
            let cut = sample.bytes[..end].to_vec();
            assert!(!reads_within_bounds(&sample, cut), "{sample:?} cut at {end}");
        }
    }
}

#[test]
fn a_damaged_answer_is_read_or_refused_within_bounds() {
    proptest!(ProptestConfig::with_cases(2000), |(
        sample in prop::sample::select(samples()),
        damage in damage(),
    )| {
        let mut bytes = sample.bytes.clone();
        for damage in damage {
            damage.apply(&mut bytes);
        }
        reads_within_bounds(&sample, bytes);
    });
}

#[test]
fn any_bytes_are_read_or_refused_within_bounds() {
    proptest!(ProptestConfig::with_cases(2000), |(
        sample in prop::sample::select(samples()),
        bytes in vec(any::<u8>(), 0..200),
        header in 0..2_i16,
    )| {
        let header = Sample { version: header, read: is_read::<ResponseHeader>, ..sample.clone() };
        reads_within_bounds(&header, bytes.clone());
        reads_within_bounds(&sample, bytes);
    });
}
