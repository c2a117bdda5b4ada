//! A server, sinks on it, and the owner of a partition.

use std::sync::Arc;

use bytes::Bytes;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Batch, BootClock, Record, Sink as _, SinkError, TopicPartition};
use tidegate_sinks::object::s3::{Bucket, Environment, S3Store};
use tidegate_sinks::object::store::StoreError;
use tidegate_sinks::object::{Link, ObjectConfig, ObjectReader, ObjectSink};
use tidegate_testing::RealS3;

/// A server of a test's own. It starts before the runtime does, for that blocks.
pub(crate) fn server() -> RealS3 {
    RealS3::start()
}

/// Runs a test on a server.
pub(crate) fn on_server(test: impl AsyncFnOnce(&RealS3)) {
    let server = server();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(test(&server));
}

pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

/// The test's prefix of the bucket at this endpoint.
pub(crate) fn bucket(endpoint: &str) -> Bucket {
    let mut bucket = Bucket::new(RealS3::BUCKET, "records/of a test").unwrap();
    bucket.endpoint = Some(endpoint.to_owned());
    bucket
}

pub(crate) async fn open(bucket: &Bucket) -> Result<S3Store, StoreError> {
    S3Store::open(bucket, &environment(&RealS3::environment()), 4).await
}

pub(crate) async fn store(endpoint: &str) -> S3Store {
    open(&bucket(endpoint)).await.unwrap()
}

pub(crate) fn sink_on(store: S3Store, config: ObjectConfig) -> ObjectSink {
    ObjectSink::new(Arc::new(store), config, Arc::new(BootClock))
}

pub(crate) async fn sink(endpoint: &str) -> ObjectSink {
    sink_on(store(endpoint).await, ObjectConfig::default())
}

pub(crate) async fn reader(endpoint: &str) -> ObjectReader {
    ObjectReader::new(Arc::new(store(endpoint).await), ObjectConfig::default())
}

pub(crate) fn partition() -> TopicPartition {
    let id = PartitionId { topic: TopicId([7; 16]), number: 3 };
    TopicPartition { topic: "orders".to_owned(), id }
}

pub(crate) fn token(epoch: u64) -> FencingToken {
    FencingToken { generation: Generation(1), epoch: Epoch(Offset(epoch)) }
}

pub(crate) async fn acquire(sink: &ObjectSink, epoch: u64) -> Result<Option<u64>, SinkError> {
    let found = sink.acquire(&partition(), token(epoch)).await?;
    Ok(found.map(|at| at.0))
}

/// Writes the offsets from `expected` to `end`.
pub(crate) async fn write(
    sink: &ObjectSink,
    epoch: u64,
    expected: u64,
    end: u64,
) -> Result<(), SinkError> {
    let record = |offset| Record {
        offset,
        timestamp_ms: 1,
        key: None,
        value: Some(Bytes::from(format!("value {offset}"))),
        headers: Vec::new(),
    };
    let records: Vec<_> = (expected..end).map(record).collect();
    let batch = Batch { expected: Position(expected), records: &records, end: Position(end) };
    sink.write(&partition(), token(epoch), batch).await
}

/// The offsets of a chain, which must be whole.
pub(crate) async fn offsets(endpoint: &str, partition: &TopicPartition) -> Vec<u64> {
    let reader = reader(endpoint).await;
    let report = reader.verify(partition).await.unwrap();
    assert!(report.is_whole(), "{report}: {:?}", report.faults);
    let mut chain = reader.chain(partition);
    let mut offsets = Vec::new();
    while let Some(link) = chain.next().await.unwrap() {
        let Link::Object(object) = link else { panic!("expected an object, found {link:?}") };
        offsets.extend(object.records().map(|record| record.unwrap().offset));
    }
    offsets
}

/// An error with all of its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
