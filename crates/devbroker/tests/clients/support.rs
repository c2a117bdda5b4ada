//! Brokers and librdkafka clients as the tests want them.

use std::num::NonZeroU16;
use std::time::Duration;

use rdkafka::Message;
use rdkafka::TopicPartitionList;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::Offset;
use tidegate_devbroker::{DevBroker, Options};
use tokio::time::Instant;

/// The longest any wait may take before its test fails. Generous: the machine may be busy.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// A record as a consumer saw it: partition, offset, value.
pub(crate) type Seen = (i32, i64, String);

/// A broker whose retention runs only when a test says so.
pub(crate) async fn broker(nodes: u16) -> DevBroker {
    let options = Options {
        nodes: NonZeroU16::new(nodes).expect("a broker has nodes"),
        retention_interval: Duration::from_secs(3600),
        ..Options::default()
    };
    DevBroker::start(options).await.expect("loopback has free ports")
}

fn config(broker: &DevBroker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap());
    // Reconnects and retries soon, as a test stops nodes and drops connections.
    config.set("reconnect.backoff.ms", "10");
    config.set("reconnect.backoff.max.ms", "100");
    config.set("retry.backoff.ms", "10");
    config
}

/// The producer that control topics want: idempotent, acknowledged by all.
pub(crate) fn producer(broker: &DevBroker) -> FutureProducer {
    let mut config = config(broker);
    config
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("compression.type", "zstd")
        .set("linger.ms", "1")
        .set("topic.metadata.refresh.fast.interval.ms", "20");
    config.create().expect("the configuration is good")
}

/// A consumer that assigns itself.
pub(crate) fn consumer(broker: &DevBroker) -> BaseConsumer {
    let mut config = config(broker);
    config
        .set("group.id", "tests")
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "error")
        .set("topic.metadata.refresh.fast.interval.ms", "20");
    config.create().expect("the configuration is good")
}

/// An administrator's client.
pub(crate) fn admin(broker: &DevBroker) -> AdminClient<DefaultClientContext> {
    config(broker).create().expect("the configuration is good")
}

/// Administrator's options with a time-out that a busy machine keeps.
pub(crate) fn patient() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(BOUND)).operation_timeout(Some(BOUND))
}

/// Sends one record and waits for its acknowledgement: (partition, offset).
pub(crate) async fn send(
    producer: &FutureProducer,
    topic: &str,
    partition: i32,
    value: &str,
) -> (i32, i64) {
    let record = FutureRecord::<(), _>::to(topic).partition(partition).payload(value);
    let sent = producer.send(record, BOUND).await;
    let delivery = sent.expect("the record is delivered within the bound");
    (delivery.partition, delivery.offset)
}

/// Partitions with explicit offsets.
pub(crate) fn list(topic: &str, offsets: &[(i32, i64)]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
            .expect("the offset is legal");
    }
    list
}

/// Assigns partitions at explicit offsets.
pub(crate) fn assign(consumer: &BaseConsumer, topic: &str, offsets: &[(i32, i64)]) {
    let list = list(topic, offsets);
    consumer.assign(&list).expect("the assignment is new");
}

/// Reads until there are `count` records.
///
/// Errors are librdkafka telling of nodes that went away, from which it recovers by itself; they are shown if it does not.
pub(crate) fn read(consumer: &BaseConsumer, count: usize) -> Vec<Seen> {
    let started = Instant::now();
    let (mut seen, mut errors) = (Vec::new(), Vec::new());
    while seen.len() < count {
        let left = BOUND.saturating_sub(started.elapsed());
        assert!(!left.is_zero(), "{} of {count} records read, {errors:?}", seen.len());
        match consumer.poll(left) {
            Some(Ok(message)) => {
                let value = String::from_utf8_lossy(message.payload().unwrap_or_default());
                seen.push((message.partition(), message.offset(), value.into_owned()));
            }
            Some(Err(error)) => errors.push(error),
            None => {}
        }
    }
    seen
}

/// Everything one partition holds, read by a new consumer.
pub(crate) fn read_all(broker: &DevBroker, topic: &str, partition: i32) -> Vec<Seen> {
    let (start, end) = broker.offsets(topic, partition).expect("the partition exists");
    let consumer = consumer(broker);
    assign(&consumer, topic, &[(partition, start)]);
    read(&consumer, usize::try_from(end - start).expect("a log has a start before its end"))
}
