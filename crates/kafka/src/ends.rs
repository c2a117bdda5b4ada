//! The ends of assigned partitions, for lag.
//!
//! The last stable offsets come from the leaders, asked for all partitions together: cheaper than librdkafka's
//! statistics, and right for a partition that is paused or not fetched yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidegate_core::ids::PartitionId;
use tidegate_runtime::ports::{Bound, TopicPartition};

use crate::cluster::Cluster;
use crate::list_offsets::{self, Isolation};

/// How often the ends of assigned partitions are asked for. Lag is shown to people and decided on over seconds.
const END_PERIOD: Duration = Duration::from_secs(1);

/// What the watcher knows: the watched partitions, and their ends once they have been told.
#[derive(Debug, Default)]
pub(crate) struct Ends(Mutex<BTreeMap<PartitionId, (TopicPartition, Option<u64>)>>);

// === impl Ends ===

impl Ends {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartitionId, (TopicPartition, Option<u64>)>> {
        // Each entry is replaced as a whole: a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, partition: &TopicPartition) {
        self.lock().insert(partition.id, (partition.clone(), None));
    }

    pub(crate) fn remove(&self, id: PartitionId) {
        self.lock().remove(&id);
    }

    pub(crate) fn get(&self, id: PartitionId) -> Option<u64> {
        self.lock().get(&id).and_then(|(_, end)| *end)
    }
}

/// Asks for the last stable offsets of all assigned partitions, for ever.
pub(crate) async fn watch_ends(cluster: Arc<Cluster>, ends: Arc<Ends>) {
    loop {
        let keys: Vec<(String, u32)> = ends
            .lock()
            .iter()
            .map(|(id, (partition, _))| (partition.topic.clone(), id.number))
            .collect();
        if !keys.is_empty() {
            let isolation = Isolation::ReadCommitted;
            match list_offsets::of_partitions(&cluster, &keys, Bound::Latest, isolation).await {
                Ok(found) => {
                    for (id, (partition, end)) in ends.lock().iter_mut() {
                        let found = found.get(&(partition.topic.clone(), id.number));
                        *end = found.copied().or(*end);
                    }
                }
                Err(error) => {
                    tracing::debug!(error = %error, "the ends of partitions are not known");
                }
            }
        }
        tokio::time::sleep(END_PERIOD).await;
    }
}
