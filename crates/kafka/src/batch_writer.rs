//! Writes record batches that it encodes itself, so that it knows what each takes in the log: for measurements, which
//! compare what they have stored with what the monitor sees.
//!
//! No queue, no retry, no compression, one request for each leader at a time: whoever wants to produce takes
//! [`crate::Kafka::producer`].

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidegate_runtime::ports::{Class, Error};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, topic_name};
use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors::{Right, refused};
use crate::record_batch;

/// The last version that names topics by name.
const VERSION: i16 = 12;

/// All replicas in sync.
const ACKS_ALL: i16 = -1;

/// Writes batches to one cluster.
#[derive(Clone, Debug)]
pub struct BatchWriter {
    cluster: Arc<Cluster>,
}

impl BatchWriter {
    pub(crate) fn new(cluster: Arc<Cluster>) -> Self {
        Self { cluster }
    }

    /// Writes the values of each partition as one batch, and tells by how many bytes each log has grown once all in-sync
    /// replicas have them. After an error some may have been written.
    pub async fn write(
        &self,
        topic: &str,
        values: &BTreeMap<u32, Vec<Bytes>>,
        timestamp_ms: u64,
    ) -> Result<BTreeMap<u32, u64>, Error> {
        let meta = self.cluster.topic(topic).await?;
        let mut by_leader: BTreeMap<i32, Vec<PartitionProduceData>> = BTreeMap::new();
        let mut stored = BTreeMap::new();
        for (number, values) in values {
            let leader = meta.partitions.get(number).and_then(|partition| partition.leader);
            let Some(leader) = leader else {
                self.cluster.forget(topic);
                let text = format!("partition {topic}-{number} has no leader at the moment");
                return Err(Error::new(Class::Transient, text));
            };
            let batch = record_batch::encode(values, timestamp_ms).map_err(|cause| {
                Error::new(Class::Permanent, "failed to encode a batch").because(cause)
            })?;
            stored.insert(*number, batch.len() as u64);
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
        while let Some(joined) = requests.join_next().await {
            let failed = |cause| Error::new(Class::Permanent, "a task failed").because(cause);
            joined.map_err(failed)?.inspect_err(|_| self.cluster.forget(topic))?;
        }
        Ok(stored)
    }
}

async fn send(
    connection: &Connection,
    topic: &str,
    batches: Vec<PartitionProduceData>,
) -> Result<(), Error> {
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
    for partition in partitions {
        if let Some(code) = ResponseError::try_from_code(partition.error_code) {
            let doing = format!("failed to write to partition {topic}-{}", partition.index);
            return Err(refused(doing, Right::topic("Write", topic), code, None));
        }
    }
    Ok(())
}
