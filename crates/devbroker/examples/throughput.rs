//! How many bytes per second go through the broker: a bare producer, then a bare consumer, one connection each.
//!
//! `cargo run --release -p tidegate-devbroker --example throughput`. The client shares the machine,
//! so that the broker alone does better than what is printed.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    FetchRequest, ProduceRequest, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use tidegate_devbroker::{DevBroker, NodeId, Options};
use tokio::time::Instant;

const BATCHES: usize = 1_000;
const RECORDS: usize = 4_000;
const RECORD_BYTES: usize = 200;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let broker = DevBroker::start(Options::default()).await?;
    broker.create_topic("t", 1, &[("retention.ms", "-1")])?;
    let address = broker.address(NodeId::new(1)).ok_or("no node")?;
    let run = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        measure(&mut stream)
    });
    let (into, out) = run.await??;
    report("in", into);
    report("out", out);
    broker.stop().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the figures are this program's result")]
fn report(direction: &str, bytes_per_sec: u128) {
    println!("{direction}: {} MB/s", bytes_per_sec / 1_000_000);
}

fn measure(stream: &mut TcpStream) -> Result<(u128, u128), Box<dyn Error + Send + Sync>> {
    let batch = batch()?;
    let name = TopicName(StrBytes::from_static_str("t"));
    let data = PartitionProduceData::default().with_records(Some(batch.clone()));
    let topic = TopicProduceData::default().with_name(name.clone()).with_partition_data(vec![data]);
    let produce = ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
    let started = Instant::now();
    for _ in 0..BATCHES {
        call(stream, &produce, 9)?;
    }
    let total = BATCHES * batch.len();
    let into = rate(total, started);

    let started = Instant::now();
    let (mut read, mut offset) = (0, 0);
    while read < total {
        let partition = FetchPartition::default()
            .with_current_leader_epoch(-1)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(8 << 20);
        let topic = FetchTopic::default().with_topic(name.clone()).with_partitions(vec![partition]);
        let fetch = FetchRequest::default()
            .with_max_wait_ms(1_000)
            .with_min_bytes(1)
            .with_max_bytes(8 << 20)
            .with_topics(vec![topic]);
        let response = call(stream, &fetch, 11)?;
        let records = response.responses[0].partitions[0].records.as_ref();
        let bytes = records.map_or(0, Bytes::len);
        read += bytes;
        offset += i64::try_from(bytes / batch.len() * RECORDS)?;
    }
    Ok((into, rate(total, started)))
}

fn rate(bytes: usize, since: Instant) -> u128 {
    bytes as u128 * 1_000_000 / since.elapsed().as_micros().max(1)
}

fn batch() -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let record = |n: usize| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: TimestampType::Creation,
        offset: i64::try_from(n).unwrap_or_default(),
        sequence: i32::try_from(n).unwrap_or_default() - 1,
        timestamp: 0,
        key: None,
        value: Some(Bytes::from(vec![b'x'; RECORD_BYTES])),
        headers: kafka_protocol::indexmap::IndexMap::new(),
    };
    let records: Vec<_> = (0..RECORDS).map(record).collect();
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut bytes = BytesMut::new();
    RecordBatchEncoder::encode(&mut bytes, &records, &options)?;
    Ok(bytes.freeze())
}

fn call<R: Request>(
    stream: &mut TcpStream,
    request: &R,
    version: i16,
) -> Result<R::Response, Box<dyn Error + Send + Sync>> {
    let header =
        RequestHeader::default().with_request_api_key(R::KEY).with_request_api_version(version);
    let mut frame = BytesMut::new();
    frame.put_u32(0);
    header.encode(&mut frame, R::header_version(version))?;
    request.encode(&mut frame, version)?;
    let length = u32::try_from(frame.len() - 4)?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    stream.write_all(&frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = vec![0; usize::try_from((&length[..]).get_u32())?];
    stream.read_exact(&mut answer)?;
    let mut answer = Bytes::from(answer);
    ResponseHeader::decode(&mut answer, <R::Response as HeaderVersion>::header_version(version))?;
    Ok(R::Response::decode(&mut answer, version)?)
}
