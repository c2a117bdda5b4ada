//! Writes record batches that it encodes itself, so that it knows what each takes in the log: for measurements, which
//! compare what they have stored with what the monitor sees.
//!
//! No queue, no compression, no retry, one request for each leader at a time: whoever wants to produce takes
//! [`crate::Kafka::producer`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidegate_runtime::ports::{Bound, Class, Error};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Retry, topic_name};
use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors::{Right, refused};
use crate::list_offsets::{self, Isolation};
use crate::record_batch;

/// The last version that names topics by name.
const VERSION: i16 = 12;

/// All replicas in sync.
const ACKS_ALL: i16 = -1;

/// How long a partition may have no leader: it has none for a moment after its topic was made.
const ELECTION: Duration = Duration::from_secs(30);

/// Writes batches to one cluster.
#[derive(Clone, Debug)]
pub struct BatchWriter {
    cluster: Arc<Cluster>,
    /// Partitions whose leaders have answered.
    led: Arc<Mutex<BTreeSet<(String, u32)>>>,
}

impl BatchWriter {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster, led: Arc::default() }
    }

    /// Writes the values of each partition as one batch, and tells by how many bytes each log has grown once all in-sync
    /// replicas have them. After an error some may have been written: also a broker that says that it does not lead a
    /// partition may have written to it before it lost it.
    pub async fn write(
        &self,
        topic: &str,
        values: &BTreeMap<u32, Vec<Bytes>>,
        timestamp_ms: u64,
    ) -> Result<BTreeMap<u32, u64>, Error> {
        let mut sizes = BTreeMap::new();
        let mut by_leader: BTreeMap<i32, Vec<PartitionProduceData>> = BTreeMap::new();
        self.until_led(topic, values.keys()).await?;
        let meta = self.cluster.topic(topic).await?;
        for (number, values) in values {
            let batch = record_batch::encode(values, timestamp_ms).map_err(|cause| {
                Error::new(Class::Permanent, "failed to encode a batch").because(cause)
            })?;
            let leader = meta.partitions.get(number).and_then(|partition| partition.leader);
            let leader = leader.ok_or_else(|| not_led(topic, *number))?;
            sizes.insert(*number, batch.len() as u64);
            let index = i32::try_from(*number).unwrap_or(i32::MAX);
            let data = PartitionProduceData::default().with_index(index).with_records(Some(batch));
            by_leader.entry(leader).or_default().push(data);
        }
        let mut requests = JoinSet::new();
        for (leader, batches) in by_leader {
            let (cluster, topic) = (Arc::clone(&self.cluster), topic.to_owned());
            requests.spawn(async move {
                let connection = cluster.broker(leader).await?;
                send(&connection, &topic, batches).await
            });
        }
        let mut untold: BTreeSet<u32> = values.keys().copied().collect();
        while let Some(joined) = requests.join_next().await {
            let failed = |cause| Error::new(Class::Permanent, "a task failed").because(cause);
            let answers = joined.map_err(failed)?.inspect_err(|_| self.cluster.forget(topic))?;
            for (number, code) in answers {
                if let Some(code) = code {
                    self.cluster.forget(topic);
                    let doing = format!("failed to write to partition {topic}-{number}");
                    return Err(refused(doing, Right::topic("Write", topic), code, None));
                }
                untold.remove(&number);
            }
        }
        if let Some(number) = untold.first() {
            let text = format!("a broker did not tell what became of partition {topic}-{number}");
            return Err(Error::new(Class::Permanent, text));
        }
        Ok(sizes)
    }

    /// Waits until the leaders of partitions know that they are: for a moment after a topic was made they do not.
    async fn until_led(
        &self,
        topic: &str,
        numbers: impl Iterator<Item = &u32>,
    ) -> Result<(), Error> {
        let mut retry = Retry::within(ELECTION);
        let mut open: Vec<_> = numbers.map(|number| (topic.to_owned(), *number)).collect();
        open.retain(|partition| !self.lock().contains(partition));
        while !open.is_empty() {
            // Says it where there is no such topic.
            self.cluster.topic(topic).await?;
            let isolation = Isolation::ReadUncommitted;
            let ends =
                list_offsets::of_partitions(&self.cluster, &open, Bound::Latest, isolation).await?;
            open.retain(|partition| !ends.contains_key(partition));
            self.lock().extend(ends.into_keys());
            if let Some((_, number)) = open.first() {
                let error = not_led(topic, *number);
                if !retry.again(&error).await {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<(String, u32)>> {
        self.led.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_led(topic: &str, number: u32) -> Error {
    Error::new(Class::Transient, format!("partition {topic}-{number} has no leader at the moment"))
}

/// Sends one batch for each partition, and returns what the broker says of each.
async fn send(
    connection: &Connection,
    topic: &str,
    batches: Vec<PartitionProduceData>,
) -> Result<Vec<(u32, Option<ResponseError>)>, Error> {
    let data =
        TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(batches);
    let timeout = i32::try_from(REQUEST_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
    let request = ProduceRequest::default()
        .with_acks(ACKS_ALL)
        .with_timeout_ms(timeout)
        .with_topic_data(vec![data]);
    let version = connection.version::<ProduceRequest>(VERSION)?;
    let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
    let partitions = answer.responses.into_iter().flat_map(|topic| topic.partition_responses);
    let told = partitions.filter_map(|partition| {
        let number = u32::try_from(partition.index).ok()?;
        Some((number, ResponseError::try_from_code(partition.error_code)))
    });
    Ok(told.collect())
}
