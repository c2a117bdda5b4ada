//! Samples the partitions of the monitor's topics: high watermark, log start and the size of the leader's log.
//!
//! ```text
//!  sample ─► metadata, when it is old or was wrong
//!        ─► per leader, all at once: ListOffsets latest ┐
//!                                    ListOffsets earliest ├─► one round
//!                                    DescribeLogDirs      ┘
//! ```
//!
//! A broker that fails costs its own partitions, and only for this round. A partition without both of its offsets is
//! absent, never zero. `DescribeLogDirs` needs a right on the cluster that many users lack: the refusal is said once,
//! and asked about again now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::{DescribeLogDirsRequest, TopicName};
use tidegate_runtime::ports::{
    BatchAt, BatchSize, Bound, BrokerFailure, Class, Error, LogSizes, MeasuredTopic,
    PartitionSample, Round,
};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::batch_sizes;
use crate::cluster::{Cluster, topic_name};
use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors::{self, Right, refused};
use crate::list_offsets::{self, Isolation, MOST_PARTITIONS, Offsets, Targets};
use crate::metadata::TopicMeta;
use crate::numbered::Numbered;

/// After how long a refused `DescribeLogDirs` is tried again: rights are given by people, and a request per broker and
/// second in the brokers' authorizer logs would be noise.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// The broker id of failures that are no broker's.
const NO_BROKER: i32 = -1;

/// Samples one cluster.
#[derive(Debug)]
pub(crate) struct KafkaLogSizes {
    cluster: Arc<Cluster>,
    refresh: Duration,
    view: Option<View>,
    /// Set while log sizes are refused: when to ask again.
    refused_until: Option<Instant>,
}

/// The topics of interest as the last metadata had them.
#[derive(Debug)]
struct View {
    patterns: Vec<String>,
    taken: Instant,
    topics: BTreeMap<String, TopicMeta>,
    denied: Vec<(String, ResponseError)>,
    /// In parts, each for requests of its own.
    by_leader: BTreeMap<i32, Vec<Arc<Targets>>>,
    leaderless: bool,
    wrong: bool,
}

/// What one broker told.
#[derive(Debug)]
struct Told {
    latest: Result<Offsets, Error>,
    earliest: Result<Offsets, Error>,
    sizes: Result<Sizes, Error>,
}

/// What was sampled, by topic.
type Samples = BTreeMap<String, Vec<(u32, PartitionSample)>>;

/// Answers about log sizes.
#[derive(Debug)]
enum Sizes {
    NotAsked,
    Refused,
    Known(BTreeMap<TopicName, Numbered<u64>>),
}

// === impl KafkaLogSizes ===

impl KafkaLogSizes {
    pub(crate) fn new(cluster: Arc<Cluster>, refresh: Duration) -> Self {
        Self { cluster, refresh, view: None, refused_until: None }
    }

    /// Makes the view new where it must be. An old one serves while the metadata cannot be had.
    async fn refresh(&mut self, patterns: &[String]) -> Result<Option<Error>, Error> {
        let fresh = self.view.as_ref().is_some_and(|view| {
            !view.wrong && view.patterns == patterns && view.taken.elapsed() < self.refresh
        });
        if fresh {
            return Ok(None);
        }
        match self.look(patterns).await {
            Ok(view) => {
                self.view = Some(view);
                Ok(None)
            }
            Err(error) if self.view.as_ref().is_some_and(|view| view.patterns == patterns) => {
                Ok(Some(error))
            }
            Err(error) => Err(error),
        }
    }

    async fn look(&self, patterns: &[String]) -> Result<View, Error> {
        let taken = Instant::now();
        let all = patterns.iter().any(|pattern| pattern.ends_with('*'));
        let metadata = self.cluster.metadata(if all { None } else { Some(patterns) }).await?;
        let mut topics = BTreeMap::new();
        let mut denied = Vec::new();
        for (name, topic) in metadata.topics {
            match topic {
                Ok(topic) if wanted(patterns, &name, topic.internal) => {
                    topics.insert(name, topic);
                }
                Ok(_) | Err(ResponseError::UnknownTopicOrPartition) => {}
                Err(code) if wanted(patterns, &name, false) => denied.push((name, code)),
                Err(_) => {}
            }
        }
        Ok(View::new(patterns.to_vec(), taken, topics, denied))
    }

    /// Asks every leader at once, for all parts.
    async fn ask(&mut self) -> Vec<(i32, Told)> {
        let with_sizes = self.refused_until.is_none_or(|until| Instant::now() >= until);
        let mut asked = JoinSet::new();
        let leaders = self.view.iter().flat_map(|view| &view.by_leader);
        let parts =
            leaders.flat_map(|(broker, parts)| parts.iter().map(move |part| (broker, part)));
        for (broker, targets) in parts {
            let (broker, targets) = (*broker, Arc::clone(targets));
            let cluster = Arc::clone(&self.cluster);
            asked.spawn(async move {
                let told = match cluster.broker(broker).await {
                    Ok(connection) => ask_broker(&connection, &targets, with_sizes).await,
                    Err(error) => Told::nothing(error),
                };
                (broker, told)
            });
        }
        let mut told = Vec::new();
        while let Some(joined) = asked.join_next().await {
            // A task that panicked has told nothing.
            told.extend(joined.ok());
        }
        told
    }

    /// Notes whether log sizes may be read; says so when that changes.
    fn note_permission(&mut self, told: &[(i32, Told)]) {
        let refused = told.iter().any(|(_, told)| matches!(told.sizes, Ok(Sizes::Refused)));
        let known = told.iter().any(|(_, told)| matches!(told.sizes, Ok(Sizes::Known(_))));
        if refused {
            if self.refused_until.is_none() {
                tracing::warn!(
                    "missing Describe on cluster kafka-cluster: log sizes are not told, so that rates can be \
                     measured from offsets only"
                );
            }
            self.refused_until = Some(Instant::now() + ASK_AGAIN);
        } else if known && self.refused_until.take().is_some() {
            tracing::info!("log sizes may be read");
        }
    }
}

#[async_trait]
impl LogSizes for KafkaLogSizes {
    async fn sample(&mut self, topics: &[String]) -> Result<Round, Error> {
        let stale = self.refresh(topics).await?;
        let told = self.ask().await;
        self.note_permission(&told);
        let mut round =
            Round { log_sizes_permitted: self.refused_until.is_none(), ..Round::default() };
        let failure = |error| BrokerFailure { broker: NO_BROKER, error };
        round.failures.extend(stale.map(failure));
        let Some(view) = self.view.as_mut() else { return Ok(round) };
        round.metadata_age = view.taken.elapsed();
        view.report(&mut round);
        view.merge(told, &mut round);
        Ok(round)
    }

    async fn batch_sizes(
        &mut self,
        records: Vec<BatchAt>,
    ) -> Vec<Option<Result<BatchSize, Error>>> {
        let none = BTreeMap::new();
        let topics = self.view.as_ref().map_or(&none, |view| &view.topics);
        batch_sizes::look(&self.cluster, topics, records).await
    }
}

// === impl View ===

impl View {
    fn new(
        patterns: Vec<String>,
        taken: Instant,
        topics: BTreeMap<String, TopicMeta>,
        denied: Vec<(String, ResponseError)>,
    ) -> Self {
        let mut by_leader: BTreeMap<i32, Targets> = BTreeMap::new();
        let mut leaderless = false;
        for (name, topic) in &topics {
            leaderless |= !list_offsets::file(&mut by_leader, &topic_name(name), topic.numbered());
        }
        let in_parts = |targets| {
            let parts = list_offsets::parts(targets, MOST_PARTITIONS).into_iter();
            parts.map(Arc::new).collect()
        };
        let by_leader = by_leader.into_iter().map(|(id, targets)| (id, in_parts(targets)));
        Self {
            by_leader: by_leader.collect(),
            wrong: leaderless,
            patterns,
            taken,
            topics,
            denied,
            leaderless,
        }
    }

    /// What the metadata itself has to complain about.
    fn report(&self, round: &mut Round) {
        for (topic, code) in &self.denied {
            let doing = format!("failed to look up topic {topic}");
            let error = refused(doing, Right::topic("Describe", topic), *code, None);
            round.failures.push(BrokerFailure { broker: NO_BROKER, error });
        }
        if self.leaderless {
            let error = Error::new(Class::Transient, "some partitions have no leader");
            round.failures.push(BrokerFailure { broker: NO_BROKER, error });
        }
    }

    fn merge(&mut self, told: Vec<(i32, Told)>, round: &mut Round) {
        let mut samples = Samples::new();
        for (broker, told) in told {
            let sizes = match told.sizes {
                Ok(Sizes::Known(sizes)) => sizes,
                Ok(Sizes::NotAsked | Sizes::Refused) => BTreeMap::new(),
                Err(error) => {
                    round.failures.push(BrokerFailure { broker, error });
                    BTreeMap::new()
                }
            };
            match (told.latest, told.earliest) {
                (Ok(latest), Ok(earliest)) => {
                    self.merge_offsets(broker, latest, &earliest, &sizes, &mut samples);
                }
                (Err(error), _) | (_, Err(error)) => {
                    self.wrong = true;
                    round.failures.push(BrokerFailure { broker, error });
                }
            }
        }
        round.topics = self
            .topics
            .iter()
            .map(|(name, topic)| MeasuredTopic {
                // Each broker's are in order, so that the tree is made of few long runs.
                samples: samples.remove(name).unwrap_or_default().into_iter().collect(),
                name: name.clone(),
                id: topic.id,
                partitions: topic.count(),
            })
            .collect();
    }

    fn merge_offsets(
        &mut self,
        leader: i32,
        latest: Offsets,
        earliest: &Offsets,
        sizes: &BTreeMap<TopicName, Numbered<u64>>,
        samples: &mut Samples,
    ) {
        let (no_starts, no_sizes) = (Numbered::default(), Numbered::default());
        for (topic, latest) in latest {
            let mut starts = earliest.get(&topic).unwrap_or(&no_starts).cursor();
            let mut sizes = sizes.get(&topic).unwrap_or(&no_sizes).cursor();
            let samples = samples.entry(topic.to_string()).or_default();
            for (number, latest) in latest {
                match (latest, starts.find(number).copied()) {
                    (Ok(high_watermark), Some(Ok(log_start))) => {
                        let size = sizes.find(number).copied();
                        let sample = PartitionSample { high_watermark, log_start, size, leader };
                        samples.push((number, sample));
                    }
                    (Err(code), _) | (_, Some(Err(code))) => {
                        self.wrong |= errors::is_stale_metadata(code);
                    }
                    (Ok(_), None) => {}
                }
            }
        }
    }
}

/// True when a topic is named, or matched by a pattern; the cluster's own topics must be named.
fn wanted(patterns: &[String], name: &str, internal: bool) -> bool {
    patterns.iter().any(|pattern| match pattern.strip_suffix('*') {
        Some(prefix) => !internal && name.starts_with(prefix),
        None => pattern == name,
    })
}

// === asking a broker ===

impl Told {
    fn nothing(error: Error) -> Self {
        let text = error.to_string();
        let (class, code) = (error.class(), error.code());
        Self {
            latest: Err(error),
            earliest: Err(Error::new(class, text).coded(code)),
            sizes: Ok(Sizes::NotAsked),
        }
    }
}

async fn ask_broker(connection: &Connection, targets: &Targets, with_sizes: bool) -> Told {
    let isolation = Isolation::ReadUncommitted;
    let latest = list_offsets::of_broker(connection, targets, Bound::Latest, isolation);
    let earliest = list_offsets::of_broker(connection, targets, Bound::Earliest, isolation);
    let sizes = async {
        if with_sizes { ask_sizes(connection, targets).await } else { Ok(Sizes::NotAsked) }
    };
    let (latest, earliest, sizes) = tokio::join!(latest, earliest, sizes);
    Told { latest, earliest, sizes }
}

async fn ask_sizes(connection: &Connection, targets: &Targets) -> Result<Sizes, Error> {
    let topic = |(name, partitions): (&TopicName, &Numbered<i32>)| {
        let numbers =
            partitions.iter().map(|(number, _)| i32::try_from(*number).unwrap_or(i32::MAX));
        DescribableLogDirTopic::default()
            .with_topic(name.clone())
            .with_partitions(numbers.collect())
    };
    let request =
        DescribeLogDirsRequest::default().with_topics(Some(targets.iter().map(topic).collect()));
    let version = connection.version::<DescribeLogDirsRequest>(4)?;
    let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
    match ResponseError::try_from_code(answer.error_code) {
        None => {}
        Some(ResponseError::ClusterAuthorizationFailed) => return Ok(Sizes::Refused),
        Some(code) => {
            let doing = "failed to read log sizes";
            return Err(refused(doing, Right::cluster("Describe"), code, None));
        }
    }
    // Before version 3 a refusal is an answer without directories.
    if answer.results.is_empty() && version < 3 {
        return Ok(Sizes::Refused);
    }
    Ok(Sizes::Known(sum(answer.results)))
}

/// Puts the directories together. A replica that is being moved between two directories counts where it is read from.
fn sum(directories: Vec<DescribeLogDirsResult>) -> BTreeMap<TopicName, Numbered<u64>> {
    let mut sizes: BTreeMap<TopicName, Vec<(u32, u64)>> = BTreeMap::new();
    let topics = directories.into_iter().flat_map(|directory| directory.topics);
    for topic in topics {
        let told = topic.partitions.iter().filter(|partition| !partition.is_future_key);
        sizes.entry(topic.name).or_default().extend(told.filter_map(|partition| {
            let number = u32::try_from(partition.partition_index).ok()?;
            Some((number, u64::try_from(partition.partition_size).ok()?))
        }));
    }
    sizes.into_iter().map(|(topic, sizes)| (topic, sizes.into_iter().collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_by_prefix_and_leaves_internal_topics_alone() {
        let patterns = ["orders".to_owned(), "log-*".to_owned(), "*".to_owned()];
        assert!(wanted(&patterns[..1], "orders", false));
        assert!(!wanted(&patterns[..2], "orders-eu", false));
        assert!(wanted(&patterns[..2], "log-eu", false));
        assert!(!wanted(&patterns, "__consumer_offsets", true));
    }
}
