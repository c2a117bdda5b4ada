//! A client that sends one request and reads one answer: for what librdkafka lacks or hides.

use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    DescribeLogDirsRequest, FetchRequest, MetadataRequest, ProduceRequest, RequestHeader,
    ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use tidegate_devbroker::{DevBroker, NodeId};

use crate::support::BOUND;

/// One connection to one node.
#[derive(Debug)]
pub(crate) struct RawClient {
    stream: TcpStream,
}

impl RawClient {
    pub(crate) fn connect(broker: &DevBroker, node: NodeId) -> Self {
        let address = broker.address(node).expect("the node exists");
        let stream = TcpStream::connect(address).expect("the node listens");
        stream.set_read_timeout(Some(BOUND)).expect("the bound is not 0");
        Self { stream }
    }

    /// To the node that leads a partition.
    pub(crate) fn to_leader(broker: &DevBroker, topic: &str, partition: i32) -> Self {
        let leader = broker.leader(topic, partition);
        Self::connect(broker, leader.expect("the partition has a leader"))
    }

    pub(crate) fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.try_call(request, version).expect("the node answers")
    }

    /// An error if the node hangs up.
    pub(crate) fn try_call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> std::io::Result<R::Response> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_client_id(Some(StrBytes::from_static_str("raw")));
        let mut body = BytesMut::new();
        let encoded = header.encode(&mut body, R::header_version(version));
        encoded.expect("the header is good");
        let encoded = request.encode(&mut body, version);
        encoded.expect("the request fits its version");
        let mut frame = BytesMut::new();
        frame.put_u32(u32::try_from(body.len()).expect("a small request"));
        frame.put(body);
        self.stream.write_all(&frame)?;
        let mut answer = self.read_frame()?;
        let header_version = <R::Response as HeaderVersion>::header_version(version);
        ResponseHeader::decode(&mut answer, header_version).expect("a good header");
        Ok(R::Response::decode(&mut answer, version).expect("a good answer"))
    }

    fn read_frame(&mut self) -> std::io::Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let length = usize::try_from((&length[..]).get_u32()).expect("64 bits");
        let mut frame = vec![0; length];
        self.stream.read_exact(&mut frame)?;
        Ok(frame.into())
    }
}

pub(crate) fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

/// A produce request of one batch for one partition.
pub(crate) fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

/// A fetch of one partition that waits for one byte.
pub(crate) fn fetch_request(topic: &str, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_current_leader_epoch(-1)
        .with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_topics(vec![topic])
}

/// The bytes a partition holds as `DescribeLogDirs` of its leader tells them.
pub(crate) fn log_size(broker: &DevBroker, topic: &str, partition: i32) -> i64 {
    let mut client = RawClient::to_leader(broker, topic, partition);
    let request = DescribeLogDirsRequest::default().with_topics(None);
    let response = client.call(&request, 4);
    let topics = response.results.iter().flat_map(|dir| &dir.topics);
    let found = topics.filter(|found| found.name.as_str() == topic);
    let mut sizes = found.flat_map(|found| &found.partitions);
    let size = sizes.find(|size| size.partition_index == partition);
    size.expect("the leader has the partition").partition_size
}

/// The id of a topic, as 16 bytes.
pub(crate) fn topic_id(broker: &DevBroker, topic: &str) -> [u8; 16] {
    let mut client = RawClient::connect(broker, NodeId::new(1));
    let asked = MetadataRequestTopic::default().with_name(Some(name(topic)));
    let request = MetadataRequest::default().with_topics(Some(vec![asked]));
    let response = client.call(&request, 12);
    response.topics[0].topic_id.into_bytes()
}

/// An idempotent producer's batch of one record.
pub(crate) fn batch(producer: i64, sequence: i32, value: &[u8]) -> Bytes {
    use kafka_protocol::records::{
        Compression, NO_PARTITION_LEADER_EPOCH, Record, RecordBatchEncoder, RecordEncodeOptions,
        TimestampType,
    };
    let record = Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: producer,
        producer_epoch: 0,
        timestamp_type: TimestampType::Creation,
        offset: 0,
        sequence,
        timestamp: 1_000,
        key: None,
        value: Some(Bytes::copy_from_slice(value)),
        headers: kafka_protocol::indexmap::IndexMap::new(),
    };
    let options = RecordEncodeOptions { version: 2, compression: Compression::None };
    let mut bytes = BytesMut::new();
    let encoded = RecordBatchEncoder::encode(&mut bytes, [&record], &options);
    encoded.expect("the record is good");
    bytes.freeze()
}
