//! Dead letters as records of a topic in the same cluster.
//!
//! A record keeps its key, value, timestamp and headers. Where it is from and why it is here is in headers that begin with
//! `tidegate.`. It goes to the partition of the same number, modulo how many there are, so that records of one partition
//! stay in order. Repetitions are possible, and have the same `tidegate.topic-id`, partition and offset.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_core::ids::FencingToken;
use tidegate_runtime::ports::{
    AppendError, Class, DeadLetter, DeadLetters, Error, OutgoingRecord, Producer, TopicPartition,
};

use crate::cluster::Cluster;

/// Puts dead letters into a topic.
#[derive(Debug)]
pub(crate) struct KafkaDeadLetters {
    cluster: Arc<Cluster>,
    producer: Arc<dyn Producer>,
    topic: Arc<str>,
}

impl KafkaDeadLetters {
    pub(crate) fn new(cluster: Arc<Cluster>, producer: Arc<dyn Producer>, topic: &str) -> Self {
        Self { cluster, producer, topic: topic.into() }
    }

    fn failed(&self, error: AppendError) -> Error {
        let (AppendError::Unknown(cause) | AppendError::Refused(cause)) = error;
        let class = cause.class();
        let text = format!("failed to put rejected records into topic {}", self.topic);
        Error::new(class, text).coded(cause.code()).because(cause)
    }
}

#[async_trait]
impl DeadLetters for KafkaDeadLetters {
    async fn put(
        &self,
        partition: &TopicPartition,
        _: FencingToken,
        letters: &[DeadLetter<'_>],
    ) -> Result<(), Error> {
        // Looked up before anything is sent: a client that produces to a missing topic may make it.
        let partitions = self.cluster.topic(&self.topic).await?.partitions;
        let count = u32::try_from(partitions.len()).unwrap_or(u32::MAX);
        let Some(number) = partition.id.number.checked_rem(count) else {
            let text = format!("topic {} has no partitions", self.topic);
            return Err(Error::new(Class::Transient, text));
        };
        let mut sent = Vec::with_capacity(letters.len());
        for letter in letters {
            let record = outgoing(Arc::clone(&self.topic), number, partition, *letter);
            let enqueued = self.producer.enqueue(record).await;
            sent.push(enqueued.map_err(|error| self.failed(error))?);
        }
        for delivery in sent {
            delivery.await.map_err(|error| self.failed(error))?;
        }
        Ok(())
    }
}

fn outgoing(
    topic: Arc<str>,
    number: u32,
    from: &TopicPartition,
    letter: DeadLetter<'_>,
) -> OutgoingRecord {
    let DeadLetter { record, reason } = letter;
    let mut headers = record.headers.clone();
    headers.extend(
        [
            ("tidegate.topic", from.topic.clone()),
            ("tidegate.topic-id", from.id.topic.to_string()),
            ("tidegate.partition", from.id.number.to_string()),
            ("tidegate.offset", record.offset.to_string()),
            ("tidegate.reason", reason.to_owned()),
        ]
        .map(|(name, text)| (name.to_owned(), Some(Bytes::from(text)))),
    );
    OutgoingRecord {
        topic,
        partition: number,
        key: record.key.clone(),
        value: record.value.clone(),
        headers,
        timestamp_ms: u64::try_from(record.timestamp_ms).ok(),
    }
}
