//! Reads one partition of a control topic with a long poll, from the leader, up to the high watermark.
//!
//! ```text
//!  connect to the leader ──► fetch ──records──► bounded channel ──► next
//!        ▲                     │
//!        └── pause ◄─ moved leader, lost broker, time-out
//!                              └─ below the start: Trimmed; beyond the end, or another topic: Lost
//! ```
//!
//! The reader has a connection of its own, because a broker holds a long poll back and with it whatever was sent after.
//! A position is never changed but by records that were returned: when the log cannot continue there, the reader ends
//! with an error and stays ended.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse};
use tidegate_core::ids::TopicId;
use tidegate_runtime::ports::{Bound, Class, ControlReader, Error, RawRecord, ReadError, Record};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::sync::mpsc;

use crate::backoff::Backoff;
use crate::cluster::{Cluster, topic_name};
use crate::connection::Connection;
use crate::decompress::MAX_PLAIN;
use crate::errors::{self, Right, refused};
use crate::metadata::{FETCH_BY_ID, FETCH_WITH_EPOCH, by_id};
use crate::records::{Aborted, Batches, Garbled};

/// How long a broker may hold a fetch back when there is nothing new. It is no delay: records end the wait.
const LONG_POLL: Duration = Duration::from_millis(500);

/// How long an answer may take beyond that before the connection is given up. A stopped leader is left after this.
const OVERDUE: Duration = Duration::from_secs(3);

/// Most bytes per fetch; one larger record is still returned.
const MAX_BYTES: i32 = 4 << 20;

/// Lists of records that may wait for the caller.
const QUEUE: usize = 4;

/// How often the same batch may fail to decode: a transfer can be garbled once, a log that is garbled stays so.
const MAX_GARBLED: u32 = 5;

/// The port's reader.
#[derive(Debug)]
pub(crate) struct KafkaControlReader {
    records: mpsc::Receiver<Result<Vec<RawRecord>, ReadError>>,
    place: String,
    _fetcher: Task<()>,
}

/// The loop behind a reader.
#[derive(Debug)]
struct Fetcher {
    cluster: Arc<Cluster>,
    topic: String,
    partition: u32,
    next: u64,
    /// Leader epoch of the last record, by which the leader notices a log that was cut and has grown again.
    last_epoch: i32,
    id: Option<TopicId>,
    garbled: u32,
    backoff: Backoff,
    records: mpsc::Sender<Result<Vec<RawRecord>, ReadError>>,
}

/// Why a round of fetching ended.
#[derive(Debug)]
enum End {
    /// Try again after a pause.
    Again(Error),
    /// Go on at once, on another connection.
    Renew,
    /// The position cannot be continued.
    Over(ReadError),
    /// Nobody reads any more.
    Unread,
}

// === impl KafkaControlReader ===

impl KafkaControlReader {
    pub(crate) fn start(cluster: Arc<Cluster>, topic: &str, partition: u32, from: u64) -> Self {
        let (sender, records) = mpsc::channel(QUEUE);
        let fetcher = Fetcher {
            cluster,
            topic: topic.to_owned(),
            partition,
            next: from,
            last_epoch: -1,
            id: None,
            garbled: 0,
            backoff: Backoff::default(),
            records: sender,
        };
        let place = format!("{topic}-{partition}");
        let task = spawn_named(format!("reader {place}"), fetcher.run());
        Self { records, place, _fetcher: task }
    }
}

#[async_trait]
impl ControlReader for KafkaControlReader {
    async fn next(&mut self) -> Result<Vec<RawRecord>, ReadError> {
        // Cancel-safe because the position is the fetcher's and the channel keeps what was not taken.
        self.records.recv().await.unwrap_or_else(|| {
            let text = format!("the reader of partition {} has ended", self.place);
            Err(ReadError::Failed(Error::new(Class::Permanent, text)))
        })
    }
}

// === impl Fetcher ===

impl Fetcher {
    async fn run(mut self) {
        loop {
            match self.follow_leader().await {
                End::Unread => return,
                End::Renew => {}
                End::Over(error) => {
                    // Whether anybody still listens makes no difference.
                    let _unread = self.records.send(Err(error)).await;
                    return;
                }
                End::Again(error) => {
                    tracing::debug!(
                        topic = self.topic,
                        partition = self.partition,
                        offset = self.next,
                        error = %error,
                        "reading goes on after a pause"
                    );
                    tokio::time::sleep(self.backoff.failed()).await;
                }
            }
        }
    }

    /// Fetches from the present leader until something is in the way.
    async fn follow_leader(&mut self) -> End {
        let (connection, epoch) = match self.connect().await {
            Ok(connected) => connected,
            Err(error) => return self.classify(error),
        };
        let topic = match self.fetch_topic(&connection).await {
            Ok(topic) => topic,
            Err(end) => return end,
        };
        loop {
            let fetched = match self.fetch(&connection, epoch, topic.clone()).await {
                Ok(fetched) => fetched,
                Err(error) => return self.classify(error),
            };
            if let Err(end) = self.take(&fetched).await {
                return end;
            }
            if connection.is_spent() {
                return End::Renew;
            }
        }
    }

    async fn connect(&self) -> Result<(Connection, i32), Error> {
        let leader = self.cluster.leader(&self.topic, self.partition).await?;
        Ok((self.cluster.dedicated(leader.broker).await?, leader.epoch))
    }

    /// What every fetch of this round says of the topic. The first round notes the topic's id; a later one that finds
    /// another id ends the reader.
    async fn fetch_topic(&mut self, connection: &Connection) -> Result<(FetchTopic, i16), End> {
        let meta = self.cluster.topic(&self.topic).await.map_err(|error| self.classify(error))?;
        let id = *self.id.get_or_insert(meta.id);
        if id != meta.id {
            let text = format!("topic {} was deleted and created again", self.topic);
            return Err(End::Over(ReadError::Lost(Error::new(Class::Permanent, text))));
        }
        let version = connection
            .version::<FetchRequest>(FETCH_BY_ID)
            .map_err(|error| self.classify(error))?;
        let topic = if version >= FETCH_BY_ID {
            by_id(meta.id)
        } else {
            FetchTopic::default().with_topic(topic_name(&self.topic))
        };
        Ok((topic, version))
    }

    async fn fetch(
        &self,
        connection: &Connection,
        leader_epoch: i32,
        (topic, version): (FetchTopic, i16),
    ) -> Result<FetchResponse, Error> {
        let partition = FetchPartition::default()
            .with_partition(i32::try_from(self.partition).unwrap_or(i32::MAX))
            .with_fetch_offset(i64::try_from(self.next).unwrap_or(i64::MAX))
            .with_current_leader_epoch(if version >= FETCH_WITH_EPOCH { leader_epoch } else { -1 })
            .with_last_fetched_epoch(if version >= 12 { self.last_epoch } else { -1 })
            .with_log_start_offset(-1)
            .with_partition_max_bytes(MAX_BYTES);
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(i32::try_from(LONG_POLL.as_millis()).unwrap_or(i32::MAX))
            .with_min_bytes(1)
            .with_max_bytes(MAX_BYTES)
            .with_session_epoch(-1)
            .with_topics(vec![topic.with_partitions(vec![partition])]);
        connection.call(&request, version, LONG_POLL + OVERDUE).await
    }

    /// Passes the records of an answer on.
    async fn take(&mut self, answer: &FetchResponse) -> Result<(), End> {
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            return Err(self.refused(code));
        }
        let topic = answer.responses.first();
        let Some(partition) = topic.and_then(|topic| topic.partitions.first()) else {
            return Ok(());
        };
        match ResponseError::try_from_code(partition.error_code) {
            None => {}
            Some(ResponseError::OffsetOutOfRange) => return Err(self.out_of_range().await),
            Some(code) => return Err(self.refused(code)),
        }
        if partition.diverging_epoch.epoch >= 0 || partition.diverging_epoch.end_offset >= 0 {
            return Err(End::Over(ReadError::Lost(self.truncated())));
        }
        let records = self.decode(partition)?;
        self.backoff.succeeded();
        if records.is_empty() {
            return Ok(());
        }
        self.records.send(Ok(records)).await.map_err(|_| End::Unread)
    }

    fn decode(&mut self, partition: &PartitionData) -> Result<Vec<RawRecord>, End> {
        let Some(bytes) = &partition.records else { return Ok(Vec::new()) };
        let mut batches = Batches::new(bytes.clone(), self.next, Aborted::default(), MAX_PLAIN);
        let mut records = Vec::new();
        loop {
            match batches.read(&mut records) {
                Ok(Some(_)) => {}
                Err(error) if batches.position() == self.next => return Err(self.garbled(error)),
                // What came before the trouble is good; the next fetch starts at it.
                Ok(None) | Err(_) => break,
            }
        }
        self.garbled = 0;
        self.next = batches.position();
        self.last_epoch = batches.last_epoch().unwrap_or(self.last_epoch);
        Ok(records.into_iter().map(raw).collect())
    }

    fn garbled(&mut self, cause: Garbled) -> End {
        self.garbled += 1;
        let over = self.garbled >= MAX_GARBLED;
        let class = if over { Class::Permanent } else { Class::Transient };
        let text = format!(
            "failed to decode the records of partition {}-{} at offset {}",
            self.topic, self.partition, self.next
        );
        let error = Error::new(class, text).because(cause);
        if over { End::Over(ReadError::Failed(error)) } else { End::Again(error) }
    }

    /// The leader says that the position is not in its log: finds out on which side it is.
    async fn out_of_range(&mut self) -> End {
        let start = self.cluster.bound(&self.topic, self.partition, Bound::Earliest).await;
        let end = self.cluster.bound(&self.topic, self.partition, Bound::Latest).await;
        match (start, end) {
            (Ok(start), _) if self.next < start => {
                let text = format!(
                    "offset {} of partition {}-{} is below the log's start {start}",
                    self.next, self.topic, self.partition
                );
                End::Over(ReadError::Trimmed(Error::new(Class::Permanent, text)))
            }
            (Ok(_), Ok(end)) if self.next > end => End::Over(ReadError::Lost(self.truncated())),
            (Ok(_), Ok(_)) => {
                // In range after all: a leader that had not caught up, or one that no longer knows the epoch.
                self.last_epoch = -1;
                End::Again(Error::new(Class::Transient, "the leader did not know the offset"))
            }
            (Err(error), _) | (_, Err(error)) => self.classify(error),
        }
    }

    fn truncated(&self) -> Error {
        let text = format!(
            "partition {}-{} has lost its end: offset {} was read before and is not there any more",
            self.topic, self.partition, self.next
        );
        Error::new(Class::Permanent, text)
    }

    fn refused(&self, code: ResponseError) -> End {
        let doing = format!("failed to read partition {}-{}", self.topic, self.partition);
        if errors::is_stale_metadata(code) {
            self.cluster.forget(&self.topic);
            return End::Again(Error::new(Class::Transient, doing).because(code));
        }
        self.classify(refused(doing, Right::topic("Read", &self.topic), code, None))
    }

    /// Transient errors are this reader's to live with, the others its caller's.
    fn classify(&self, error: Error) -> End {
        if error.class() == Class::Transient {
            self.cluster.forget(&self.topic);
            End::Again(error)
        } else if errors::is_missing(&error) {
            End::Over(ReadError::Lost(error))
        } else {
            End::Over(ReadError::Failed(error))
        }
    }
}

/// As control topics have records: their times are never before 1970, and a header without a value has an empty one.
fn raw(record: Record) -> RawRecord {
    let headers = record.headers.into_iter();
    RawRecord {
        offset: record.offset,
        timestamp_ms: u64::try_from(record.timestamp_ms).unwrap_or(0),
        key: record.key,
        headers: headers.map(|(name, value)| (name, value.unwrap_or_default())).collect(),
        value: record.value,
    }
}
