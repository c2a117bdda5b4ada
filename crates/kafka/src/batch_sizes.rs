//! How many bytes records have, where log sizes may not be read: a fetch of so few bytes that it brings one batch, of which the
//! header is looked at.
//!
//! One batch at a time for each broker, so that no more than one batch of each is in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use tidegate_runtime::ports::{BatchAt, BatchSize, Class, Error};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::cluster::{Cluster, topic_name};
use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors::{Right, refused};
use crate::metadata::{FETCH_BY_ID, FETCH_WITH_EPOCH, TopicMeta, by_id};
use crate::record_batch::{self, Header};

/// A broker is not asked any further in a round once its batches had so many bytes, or took so long: the round waits for them.
const MOST_BYTES: u64 = 8 << 20;
const MOST_TIME: Duration = Duration::from_millis(200);

/// So many batches are looked at in search of one with records: behind each transaction stands one with its marker.
const MARKERS: u32 = 4;

/// A batch that is asked for, with its place among all that are.
#[derive(Debug)]
struct Wanted {
    place: usize,
    at: BatchAt,
    topic: FetchTopic,
    epoch: i32,
}

/// Why there is no answer.
#[derive(Debug)]
enum Trouble {
    /// Nor will there be another from this broker in this round.
    Broker(Error),
    Partition(Error),
}

/// Looks at the headers of batches; `topics` tells who leads. In the order of `wanted`; those that were not asked are `None`.
pub(crate) async fn look(
    cluster: &Arc<Cluster>,
    topics: &BTreeMap<String, TopicMeta>,
    wanted: Vec<BatchAt>,
) -> Vec<Option<Result<BatchSize, Error>>> {
    let mut answers: Vec<_> = wanted.iter().map(|_| None).collect();
    let mut by_leader: BTreeMap<i32, Vec<Wanted>> = BTreeMap::new();
    for (place, at) in wanted.into_iter().enumerate() {
        let Some(topic) = topics.get(&at.topic) else { continue };
        let Some(partition) = topic.partitions.get(&at.number) else { continue };
        let Some(leader) = partition.leader else { continue };
        let (topic, epoch) = (by_id(topic.id), partition.leader_epoch);
        by_leader.entry(leader).or_default().push(Wanted { place, at, topic, epoch });
    }
    let mut asked = JoinSet::new();
    for (leader, wanted) in by_leader {
        let cluster = Arc::clone(cluster);
        asked.spawn(async move { of_broker(&cluster, leader, wanted).await });
    }
    while let Some(joined) = asked.join_next().await {
        for (place, answer) in joined.into_iter().flatten() {
            if let Some(slot) = answers.get_mut(place) {
                *slot = Some(answer);
            }
        }
    }
    answers
}

/// Asks one broker, as long as it answers.
async fn of_broker(
    cluster: &Cluster,
    leader: i32,
    wanted: Vec<Wanted>,
) -> Vec<(usize, Result<BatchSize, Error>)> {
    let mut answers = Vec::with_capacity(wanted.len());
    let began = Instant::now();
    let mut bytes: u64 = 0;
    for wanted in wanted {
        if bytes > MOST_BYTES || began.elapsed() > MOST_TIME {
            break;
        }
        let answer = match cluster.broker(leader).await {
            Ok(connection) => of_partition(&connection, &wanted).await,
            Err(error) => Err(Trouble::Broker(error)),
        };
        match answer {
            Ok(size) => {
                bytes = bytes.saturating_add(size.bytes);
                answers.push((wanted.place, Ok(size)));
            }
            Err(Trouble::Partition(error)) => answers.push((wanted.place, Err(error))),
            Err(Trouble::Broker(error)) => {
                answers.push((wanted.place, Err(error)));
                break;
            }
        }
    }
    answers
}

/// The batch with this record, or the nearest one before that is no marker.
async fn of_partition(connection: &Connection, wanted: &Wanted) -> Result<BatchSize, Trouble> {
    let mut offset = wanted.at.offset;
    for _ in 0..MARKERS {
        let header = header_at(connection, wanted, offset).await?;
        if !header.is_control {
            return Ok(BatchSize { bytes: header.bytes, offsets: header.offsets });
        }
        let Some(before) = header.base_offset.checked_sub(1) else { break };
        offset = before;
    }
    Err(Trouble::Partition(failed(wanted, "there are only markers of transactions")))
}

async fn header_at(
    connection: &Connection,
    wanted: &Wanted,
    offset: u64,
) -> Result<Header, Trouble> {
    let version = connection.version::<FetchRequest>(FETCH_BY_ID).map_err(Trouble::Broker)?;
    let topic = if version >= FETCH_BY_ID {
        wanted.topic.clone()
    } else {
        FetchTopic::default().with_topic(topic_name(&wanted.at.topic))
    };
    let epoch = if version >= FETCH_WITH_EPOCH { wanted.epoch } else { -1 };
    // The first batch comes whole, whatever the limit.
    let partition = FetchPartition::default()
        .with_partition(i32::try_from(wanted.at.number).unwrap_or(i32::MAX))
        .with_fetch_offset(i64::try_from(offset).unwrap_or(i64::MAX))
        .with_current_leader_epoch(epoch)
        .with_last_fetched_epoch(-1)
        .with_log_start_offset(-1)
        .with_partition_max_bytes(1);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(0)
        .with_min_bytes(0)
        .with_max_bytes(1)
        .with_session_epoch(-1)
        .with_topics(vec![topic.with_partitions(vec![partition])]);
    let answer = connection.call(&request, version, REQUEST_TIMEOUT).await;
    let answer = answer.map_err(Trouble::Broker)?;
    let told = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
    let code = told.as_ref().map_or(answer.error_code, |told| told.error_code);
    if let Some(code) = ResponseError::try_from_code(code) {
        let doing = format!("failed to look at partition {}-{}", wanted.at.topic, wanted.at.number);
        let error = refused(doing, Right::topic("Read", &wanted.at.topic), code, None);
        return Err(Trouble::Partition(error));
    }
    let records = told.and_then(|told| told.records).unwrap_or_else(Bytes::new);
    if records.is_empty() {
        // A quota of the broker holds records back, or the log was cut.
        return Err(Trouble::Partition(failed(wanted, "no records came")));
    }
    let header = record_batch::header(&records);
    header.map_err(|error| Trouble::Partition(failed(wanted, "it is garbled").because(error)))
}

fn failed(wanted: &Wanted, why: &str) -> Error {
    let BatchAt { topic, number, offset } = &wanted.at;
    let text = format!("no batch of partition {topic}-{number} at offset {offset}: {why}");
    Error::new(Class::Transient, text)
}
