//! First and next offsets of many partitions, and those of a time: one request per broker, or a few where they are very many.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::{BrokerId, ListOffsetsRequest, TopicName};
use tidegate_runtime::errors::Code as Page;
use tidegate_runtime::ports::{Bound, Error};
use tokio::task::JoinSet;

use crate::cluster::{Cluster, topic_name};
use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors;
use crate::metadata::PartitionMeta;
use crate::numbered::Numbered;

/// Kafka's sentinels for the two bounds.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;

/// Stands for an offset where no record is as new as was asked for: no log has it.
pub(crate) const NONE_SO_NEW: u64 = u64::MAX;

/// Enough for isolation levels; later versions add tiers that are not asked for.
pub(crate) const VERSION: i16 = 7;

/// From this version on a request names the leader's epoch.
const WITH_EPOCH: i16 = 4;

/// So many partitions are in one request at most: about 300 KB. Brokers take 100 MB by default, and less where somebody has lowered
/// `socket.request.max.bytes`; and while the first of several is on its way the next is made.
pub(crate) const MOST_PARTITIONS: usize = 16_384;

/// Which records count for the latest offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// All up to the high watermark.
    ReadUncommitted,
    /// Those below the first open transaction.
    ReadCommitted,
}

/// Partitions of one broker by topic, each with the epoch in which it leads it.
pub(crate) type Targets = BTreeMap<TopicName, Numbered<i32>>;

/// An answer for each partition that had one.
pub(crate) type Offsets = BTreeMap<TopicName, Numbered<Result<u64, ResponseError>>>;

/// Asks one broker.
pub(crate) async fn of_broker(
    connection: &Connection,
    targets: &Targets,
    bound: Bound,
    isolation: Isolation,
) -> Result<Offsets, Error> {
    let timestamp = match bound {
        Bound::Earliest => EARLIEST,
        Bound::Latest => LATEST,
        Bound::Timestamp(ms) => i64::try_from(ms).unwrap_or(i64::MAX),
    };
    let absent = if matches!(bound, Bound::Timestamp(_)) { NONE_SO_NEW } else { 0 };
    let version = connection.version::<ListOffsetsRequest>(VERSION)?;
    let partition = |(number, epoch): &(u32, i32)| {
        ListOffsetsPartition::default()
            .with_partition_index(i32::try_from(*number).unwrap_or(i32::MAX))
            .with_current_leader_epoch(if version >= WITH_EPOCH { *epoch } else { -1 })
            .with_timestamp(timestamp)
    };
    let topic = |(name, partitions): (&TopicName, &Numbered<i32>)| {
        ListOffsetsTopic::default()
            .with_name(name.clone())
            .with_partitions(partitions.iter().map(partition).collect())
    };
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_isolation_level(i8::from(isolation == Isolation::ReadCommitted))
        .with_topics(targets.iter().map(topic).collect());
    let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
    let topics = answer.topics.into_iter().map(|topic| {
        let offsets = topic.partitions.into_iter().filter_map(|partition| {
            let number = u32::try_from(partition.partition_index).ok()?;
            let offset = match ResponseError::try_from_code(partition.error_code) {
                Some(code) => Err(code),
                // -1: there is none.
                None => Ok(u64::try_from(partition.offset).unwrap_or(absent)),
            };
            Some((number, offset))
        });
        (topic.name, offsets.collect())
    });
    Ok(topics.collect())
}

/// Asks the leaders of partitions, all at once. Partitions without an answer are absent; topics whose leaders were
/// wrong are forgotten, so that the next call finds them.
pub(crate) async fn of_partitions(
    cluster: &Arc<Cluster>,
    partitions: &[(String, u32)],
    bound: Bound,
    isolation: Isolation,
) -> Result<BTreeMap<(String, u32), u64>, Error> {
    let by_leader = by_leader(cluster, partitions).await?;
    let mut rounds = JoinSet::new();
    let parts = by_leader.into_iter().flat_map(|(broker, targets)| {
        parts(targets, MOST_PARTITIONS).into_iter().map(move |targets| (broker, targets))
    });
    for (broker, targets) in parts {
        let cluster = Arc::clone(cluster);
        rounds.spawn(async move {
            let answer = match cluster.broker(broker).await {
                Ok(connection) => of_broker(&connection, &targets, bound, isolation).await,
                Err(error) => Err(error),
            };
            (targets, answer)
        });
    }
    let mut found = BTreeMap::new();
    while let Some(joined) = rounds.join_next().await {
        let Ok((targets, answer)) = joined else { continue };
        match answer {
            Ok(offsets) => collect(cluster, offsets, &mut found),
            Err(error) => {
                tracing::debug!(error = %error, "a broker did not tell its offsets");
                for topic in targets.keys() {
                    cluster.forget(topic);
                }
            }
        }
    }
    Ok(found)
}

fn collect(cluster: &Cluster, offsets: Offsets, found: &mut BTreeMap<(String, u32), u64>) {
    for (topic, partitions) in offsets {
        for (number, offset) in partitions {
            match offset {
                Ok(offset) => {
                    found.insert((topic.to_string(), number), offset);
                }
                Err(code) if errors::is_stale_metadata(code) => cluster.forget(&topic),
                Err(code) => {
                    tracing::debug!(
                        topic = topic.as_str(),
                        number,
                        ?code,
                        "a partition did not tell its offset"
                    );
                }
            }
        }
    }
}

/// Partitions of one broker in parts of at most so many, in order.
pub(crate) fn parts(targets: Targets, most: usize) -> Vec<Targets> {
    let mut parts = Vec::new();
    let (mut part, mut room) = (Targets::new(), most);
    for (topic, partitions) in targets {
        let mut partitions: Vec<(u32, i32)> = partitions.into_iter().collect();
        while !partitions.is_empty() {
            let rest = partitions.split_off(partitions.len().min(room));
            room -= partitions.len();
            part.insert(topic.clone(), partitions.into_iter().collect());
            partitions = rest;
            if room == 0 {
                parts.push(std::mem::take(&mut part));
                room = most;
            }
        }
    }
    parts.extend(Some(part).filter(|part| !part.is_empty()));
    parts
}

/// Puts partitions of a topic to those of their leaders; false when one has none.
pub(crate) fn file<'a>(
    by_leader: &mut BTreeMap<i32, Targets>,
    topic: &TopicName,
    partitions: impl IntoIterator<Item = (u32, &'a PartitionMeta)>,
) -> bool {
    let mut all_led = true;
    let mut led: BTreeMap<i32, Vec<(u32, i32)>> = BTreeMap::new();
    for (number, partition) in partitions {
        match partition.leader {
            Some(leader) => {
                led.entry(leader).or_default().push((number, partition.leader_epoch));
            }
            None => all_led = false,
        }
    }
    for (leader, partitions) in led {
        let targets = by_leader.entry(leader).or_default();
        targets.insert(topic.clone(), partitions.into_iter().collect());
    }
    all_led
}

async fn by_leader(
    cluster: &Cluster,
    partitions: &[(String, u32)],
) -> Result<BTreeMap<i32, Targets>, Error> {
    let mut by_topic: BTreeMap<&str, Vec<u32>> = BTreeMap::new();
    for (topic, number) in partitions {
        by_topic.entry(topic).or_default().push(*number);
    }
    let mut by_leader: BTreeMap<i32, Targets> = BTreeMap::new();
    for (topic, numbers) in by_topic {
        let meta = match cluster.topic(topic).await {
            Ok(meta) => meta,
            // A topic that is gone or forbidden has no answer; a cluster that is gone fails the call.
            Err(error)
                if errors::is_missing(&error) || error.code() == Some(Page::RightMissing) =>
            {
                continue;
            }
            Err(error) => return Err(error),
        };
        let known = |number: &u32| Some((*number, meta.partitions.get(number)?));
        let all_known = numbers.iter().all(|number| meta.partitions.contains_key(number));
        let all_led = file(&mut by_leader, &topic_name(topic), numbers.iter().filter_map(known));
        if !(all_known && all_led) {
            cluster.forget(topic);
        }
    }
    Ok(by_leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_partitions_are_asked_for_in_parts_that_are_full_but_for_the_last() {
        let of = |numbers: std::ops::Range<u32>| numbers.map(|number| (number, 7)).collect();
        let targets = || Targets::from([(topic_name("a"), of(0..7)), (topic_name("b"), of(0..4))]);
        let counts = |most| {
            let counted = |part: &Targets| part.values().flat_map(Numbered::iter).count();
            parts(targets(), most).iter().map(counted).collect::<Vec<_>>()
        };
        assert_eq!(counts(3), [3, 3, 3, 2]);
        assert_eq!(counts(11), [11]);
        assert_eq!(
            parts(targets(), 3)[2].len(),
            2,
            "the end of one topic and the start of another"
        );
        assert_eq!(parts(Targets::new(), 3).len(), 0);
        let mut whole: BTreeMap<TopicName, Vec<(u32, i32)>> = BTreeMap::new();
        for (topic, partitions) in parts(targets(), 3).into_iter().flatten() {
            whole.entry(topic).or_default().extend(partitions);
        }
        let whole: Targets =
            whole.into_iter().map(|(topic, all)| (topic, all.into_iter().collect())).collect();
        assert_eq!(whole, targets());
    }
}
