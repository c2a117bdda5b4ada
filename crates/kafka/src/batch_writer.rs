//! Writes record batches that it encodes itself, so that it knows what each takes in the log: for measurements, which
//! compare what they have stored with what the monitor sees.
//!
//! No queue, no compression, one request for each leader at a time, and no retry but of what a broker has not taken because it
//! does not lead the partition: whoever wants to produce takes [`crate::Kafka::producer`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError::{self, LeaderNotAvailable, NotLeaderOrFollower};
use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use tidegate_runtime::ports::{Class, Error};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, Retry, topic_name};
use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors::{Right, refused};
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
        let encode = |(number, values): (&u32, &Vec<Bytes>)| {
            let batch = record_batch::encode(values, timestamp_ms).map_err(|cause| {
                Error::new(Class::Permanent, "failed to encode a batch").because(cause)
            })?;
            Ok((*number, batch))
        };
        let mut left = values.iter().map(encode).collect::<Result<BTreeMap<_, _>, Error>>()?;
        let stored = left.iter().map(|(number, batch)| (*number, batch.len() as u64)).collect();
        let mut retry = Retry::within(ELECTION);
        while let Some(error) = self.attempt(topic, &mut left).await? {
            self.cluster.forget(topic);
            if !retry.again(&error).await {
                return Err(error);
            }
        }
        Ok(stored)
    }

    /// Writes what is left, and leaves what no leader takes at the moment, with the reason: it is in no log.
    async fn attempt(
        &self,
        topic: &str,
        left: &mut BTreeMap<u32, Bytes>,
    ) -> Result<Option<Error>, Error> {
        let meta = self.cluster.topic(topic).await?;
        let mut by_leader: BTreeMap<i32, Vec<PartitionProduceData>> = BTreeMap::new();
        let mut refusal = None;
        for (number, batch) in &*left {
            let leader = meta.partitions.get(number).and_then(|partition| partition.leader);
            let Some(leader) = leader else {
                let text = format!("partition {topic}-{number} has no leader at the moment");
                refusal = Some(Error::new(Class::Transient, text));
                continue;
            };
            let index = i32::try_from(*number).unwrap_or(i32::MAX);
            let data =
                PartitionProduceData::default().with_index(index).with_records(Some(batch.clone()));
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
            let answers = joined.map_err(failed)?.inspect_err(|_| self.cluster.forget(topic))?;
            for (number, code) in answers {
                let error = code.map(|code| {
                    let doing = format!("failed to write to partition {topic}-{number}");
                    refused(doing, Right::topic("Write", topic), code, None)
                });
                match (code, error) {
                    (Some(NotLeaderOrFollower | LeaderNotAvailable), error) => refusal = error,
                    (_, Some(error)) => return Err(error),
                    (_, None) => drop(left.remove(&number)),
                }
            }
        }
        Ok(refusal)
    }
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
