//! What is asked of the brokers about assigned partitions beside their records: their ends, for lag, and whether their
//! topics are still the same, as librdkafka reads by name.
//!
//! The last stable offsets come from the leaders, asked for all partitions together: cheaper than librdkafka's
//! statistics, and right for a partition that is paused or not fetched yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::ids::{PartitionId, TopicId};
use tidegate_runtime::ports::{Bound, Error, TopicPartition};

use crate::cluster::Cluster;
use crate::list_offsets::{self, Isolation};

/// How often the ends of assigned partitions are asked for. Lag is shown to people and decided on over seconds.
const END_PERIOD: Duration = Duration::from_secs(1);

/// How often the topics' ids are asked for: topics are seldom made again.
const IDENTITY_PERIOD: Duration = Duration::from_secs(5);

/// In how many rounds in a row another id must be told: one broker may be behind the others.
const STRANGE_ROUNDS: u32 = 2;

/// What the watcher knows of the watched partitions.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<BTreeMap<PartitionId, Watched>>);

#[derive(Debug)]
struct Watched {
    partition: TopicPartition,
    /// Once it was told.
    end: Option<u64>,
    /// Another topic has the name: in so many rounds in a row, and its id.
    strange: Option<(u32, TopicId)>,
}

// === impl Ends ===

impl Ends {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartitionId, Watched>> {
        // Each entry is replaced as a whole: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, partition: &TopicPartition) {
        let watched = Watched { partition: partition.clone(), end: None, strange: None };
        self.lock().insert(partition.id, watched);
    }

    pub(crate) fn remove(&self, id: PartitionId) {
        self.lock().remove(&id);
    }

    pub(crate) fn get(&self, id: PartitionId) -> Option<u64> {
        self.lock().get(&id).and_then(|watched| watched.end)
    }

    /// A partition whose name belongs to another topic now, with that topic's id.
    pub(crate) fn strange(&self) -> Option<(PartitionId, TopicId)> {
        self.lock().iter().find_map(|(id, watched)| match watched.strange {
            Some((rounds, topic)) if rounds >= STRANGE_ROUNDS => Some((*id, topic)),
            _ => None,
        })
    }

    fn keys(&self) -> Vec<(String, u32)> {
        self.lock()
            .iter()
            .map(|(id, watched)| (watched.partition.topic.clone(), id.number))
            .collect()
    }

    fn note_ends(&self, found: &BTreeMap<(String, u32), u64>) {
        for (id, watched) in self.lock().iter_mut() {
            let found = found.get(&(watched.partition.topic.clone(), id.number));
            watched.end = found.copied().or(watched.end);
        }
    }

    /// Returns true when another topic has the name of one: the next to be asked is another broker.
    fn note_topics(&self, topics: &BTreeMap<String, TopicId>) -> bool {
        let mut strange = false;
        for (id, watched) in self.lock().iter_mut() {
            let told = topics.get(&watched.partition.topic).filter(|told| **told != id.topic);
            let rounds = watched.strange.map_or(0, |(rounds, _)| rounds);
            watched.strange = told.map(|told| (rounds + 1, *told));
            strange |= told.is_some();
        }
        strange
    }
}

/// Asks about all assigned partitions, for ever.
pub(crate) async fn watch(cluster: Arc<Cluster>, ends: Arc<Ends>) {
    tokio::join!(watch_ends(&cluster, &ends), watch_topics(&cluster, &ends));
}

async fn watch_ends(cluster: &Arc<Cluster>, ends: &Ends) {
    loop {
        let keys = ends.keys();
        if !keys.is_empty() {
            let isolation = Isolation::ReadCommitted;
            match list_offsets::of_partitions(cluster, &keys, Bound::Latest, isolation).await {
                Ok(found) => ends.note_ends(&found),
                Err(error) => {
                    tracing::debug!(error = %error, "the ends of partitions are not known");
                }
            }
        }
        tokio::time::sleep(END_PERIOD).await;
    }
}

async fn watch_topics(cluster: &Cluster, ends: &Ends) {
    loop {
        tokio::time::sleep(IDENTITY_PERIOD).await;
        let names: BTreeSet<String> = ends.keys().into_iter().map(|(topic, _)| topic).collect();
        if names.is_empty() {
            continue;
        }
        match ids(cluster, names.into_iter().collect()).await {
            Ok(ids) if ends.note_topics(&ids) => cluster.ask_another(),
            Ok(_) => {}
            Err(error) => tracing::debug!(error = %error, "the topics' ids are not known"),
        }
    }
}

async fn ids(cluster: &Cluster, names: Vec<String>) -> Result<BTreeMap<String, TopicId>, Error> {
    let metadata = cluster.metadata(Some(&names)).await?;
    let known = metadata.topics.into_iter();
    Ok(known.filter_map(|(name, found)| Some((name, found.ok()?.id))).collect())
}
