//! The partitions of one control topic as logs.
//!
//! Appends go through librdkafka's idempotent producer; everything that must be true at the moment of the call (the
//! end of the log, its start) is asked of the leader on the thin layer, and reading is a long poll of our own
//! ([`crate::control_reader`]), because the ledger's readers need the offset of a truncation and not a silent reset.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::DeleteRecordsRequest;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use tidegate_runtime::ports::{
    AppendError, Bound, Class, ControlLog, ControlReader, Error, OutgoingRecord, RawRecord,
};
use tokio::sync::Mutex;

use crate::cluster::{Cluster, Retry, topic_name};
use crate::connection::REQUEST_TIMEOUT;
use crate::control_reader::KafkaControlReader;
use crate::errors::{self, Right, refused};
use crate::list_offsets::{self, Isolation, Targets};
use crate::outbox::Outbox;

/// How long a call goes on after transient errors: a leader that moves is found within it.
const PATIENCE: Duration = Duration::from_secs(5);

/// One control topic.
#[derive(Debug)]
pub(crate) struct KafkaControlLog {
    cluster: Arc<Cluster>,
    topic: Arc<str>,
    outbox: Outbox,
    /// Lets one append at a time go from its checks to librdkafka's queue, in the order of the calls; nobody holds it
    /// while waiting for an acknowledgement.
    turnstile: Mutex<()>,
}

// === impl KafkaControlLog ===

impl KafkaControlLog {
    pub(crate) fn new(cluster: Arc<Cluster>, topic: &str, outbox: Outbox) -> Self {
        Self { cluster, topic: Arc::from(topic), outbox, turnstile: Mutex::new(()) }
    }

    async fn bound(&self, partition: u32, bound: Bound) -> Result<u64, Error> {
        let mut retry = Retry::within(PATIENCE);
        loop {
            match self.cluster.bound(&self.topic, partition, bound).await {
                Err(error) if retry.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }

    async fn try_trim(&self, partition: u32, below: u64) -> Result<(), Error> {
        let leader = self.cluster.leader(&self.topic, partition).await?;
        let part = DeleteRecordsPartition::default()
            .with_partition_index(i32::try_from(partition).unwrap_or(i32::MAX))
            .with_offset(i64::try_from(below).unwrap_or(i64::MAX));
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name(&self.topic))
            .with_partitions(vec![part]);
        let request = DeleteRecordsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX));
        let version = leader.connection.version::<DeleteRecordsRequest>(2)?;
        let answer = leader.connection.call(&request, version, REQUEST_TIMEOUT).await?;
        let result = answer.topics.first().and_then(|topic| topic.partitions.first());
        let doing = format!("failed to trim partition {}-{partition} below {below}", self.topic);
        let Some(result) = result else {
            return Err(Error::new(Class::Transient, doing).because("the broker's answer is empty"));
        };
        match ResponseError::try_from_code(result.error_code) {
            None => Ok(()),
            Some(code) => Err(self.cluster.partition_error(doing, &self.topic, "Delete", code)),
        }
    }
}

#[async_trait]
impl ControlLog for KafkaControlLog {
    async fn append(&self, partition: u32, record: RawRecord) -> Result<u64, AppendError> {
        let record = OutgoingRecord {
            topic: Arc::clone(&self.topic),
            partition,
            key: record.key,
            value: record.value,
            headers: record.headers.into_iter().map(|(name, value)| (name, Some(value))).collect(),
            timestamp_ms: None,
        };
        let delivery = {
            let _turn = self.turnstile.lock().await;
            self.outbox.push(&record).await?
        };
        delivery.await
    }

    async fn end(&self, partition: u32) -> Result<u64, Error> {
        self.bound(partition, Bound::Latest).await
    }

    async fn start(&self, partition: u32) -> Result<u64, Error> {
        self.bound(partition, Bound::Earliest).await
    }

    async fn read(&self, partition: u32, from: u64) -> Result<Box<dyn ControlReader>, Error> {
        // A topic that does not exist is the caller's to know now; brokers that cannot be reached are the reader's.
        match self.cluster.check(&self.topic, partition).await {
            Err(error) if error.class() != Class::Transient => return Err(error),
            _ => {}
        }
        let cluster = Arc::clone(&self.cluster);
        Ok(Box::new(KafkaControlReader::start(cluster, &self.topic, partition, from)))
    }

    async fn trim(&self, partition: u32, below: u64) -> Result<(), Error> {
        let mut retry = Retry::within(PATIENCE);
        loop {
            match self.try_trim(partition, below).await {
                Err(error) if retry.again(&error).await => {}
                outcome => return outcome,
            }
        }
    }
}

impl Cluster {
    /// One bound of one partition, from its leader now.
    pub(crate) async fn bound(
        &self,
        topic: &str,
        partition: u32,
        bound: Bound,
    ) -> Result<u64, Error> {
        let leader = self.leader(topic, partition).await?;
        let name = topic_name(topic);
        let epochs = [(partition, leader.epoch)].into_iter().collect();
        let targets = Targets::from([(name.clone(), epochs)]);
        let isolation = Isolation::ReadUncommitted;
        let answer = list_offsets::of_broker(&leader.connection, &targets, bound, isolation).await;
        let offsets = answer.inspect_err(|_| self.forget(topic))?;
        let doing = format!("failed to find the bounds of partition {topic}-{partition}");
        match offsets.get(&name).and_then(|partitions| partitions.get(partition)) {
            Some(Ok(offset)) => Ok(*offset),
            Some(Err(code)) => Err(self.partition_error(doing, topic, "Describe", *code)),
            None => {
                Err(Error::new(Class::Transient, doing).because("the broker's answer is empty"))
            }
        }
    }

    /// The error for a partition's error code; a wrong leader is forgotten and worth another try.
    pub(crate) fn partition_error(
        &self,
        doing: String,
        topic: &str,
        operation: &'static str,
        code: ResponseError,
    ) -> Error {
        if errors::is_stale_metadata(code) {
            // Whether the topic is gone is for the metadata to say, at the next look-up.
            self.forget(topic);
            return Error::new(Class::Transient, doing).because(code);
        }
        refused(doing, Right::topic(operation, topic), code, None)
    }
}
