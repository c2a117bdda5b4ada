//! Where partitions begin that nobody has read: at what the group has committed, else by the spec's policy.
//!
//! `latest` leaves out what was written before the group. It must not leave out what is written to a partition that is made
//! while the group runs, before that is found and granted: such a partition starts at its beginning. So this process looks
//! once, when it begins, which partitions there are; what is not among them was made since. A controller that takes the
//! office over finds in the ledger which topics were started by then: of those every partition that the ledger does not know
//! was made since, or its start was not settled. In doubt nothing is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::controller::Input;
use tidegate_core::ids::{PartitionId, Position, TopicId};
use tokio::sync::OnceCell;

use super::calls::{Call, Outcome};
use crate::ports::{Admin, Bound, Error, Offsets, TopicPartition, TopicState};
use crate::spec::{Config, Start};

/// Pause before topics that could not be listed are listed again.
const LIST_AGAIN: Duration = Duration::from_secs(1);

/// What finds starts, and what it has to know for that.
#[derive(Debug)]
pub(super) struct Starts {
    config: Arc<Config>,
    admin: Arc<dyn Admin>,
    offsets: Arc<dyn Offsets>,
    /// How many partitions each topic had when this process began, or when it was told to read it.
    before: OnceCell<BTreeMap<TopicId, u32>>,
    /// What found starts before the specification was changed.
    earlier: Option<Arc<Self>>,
}

/// The topics of interest that exist.
pub(super) async fn existing(admin: &dyn Admin, config: &Config) -> Result<Vec<TopicState>, Error> {
    let names = admin.list().await?.into_values();
    let of_interest = names.filter(|name| config.topic(name).is_some());
    admin.describe(&of_interest.collect::<Vec<_>>()).await
}

// === impl Starts ===

impl Starts {
    pub(super) fn new(
        config: Arc<Config>,
        admin: Arc<dyn Admin>,
        offsets: Arc<dyn Offsets>,
    ) -> Self {
        Self { config, admin, offsets, before: OnceCell::new(), earlier: None }
    }

    /// The same by another specification. Topics that were of interest before keep what is known of them.
    pub(super) fn respecified(self: &Arc<Self>, config: Arc<Config>) -> Arc<Self> {
        if self.config.topics == config.topics {
            return Arc::clone(self);
        }
        Arc::new(Self {
            config,
            admin: Arc::clone(&self.admin),
            offsets: Arc::clone(&self.offsets),
            before: OnceCell::new(),
            earlier: Some(Arc::clone(self)),
        })
    }

    /// Looks which partitions there are, as soon as that is possible; nothing to do where no topic starts at its end.
    pub(super) fn look(self: Arc<Self>) -> Call {
        Box::pin(async move {
            let needed = self.config.topics.iter().any(|topic| topic.start == Start::Latest);
            while needed && let Err(error) = self.before().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to list the topics; it is tried again"
                );
                tokio::time::sleep(LIST_AGAIN).await;
            }
            Outcome::Nothing
        })
    }

    /// Finds where partitions begin. `started` are the topics of which a controller before this one has granted partitions.
    pub(super) fn resolve(
        self: Arc<Self>,
        partitions: Vec<TopicPartition>,
        started: BTreeSet<TopicId>,
    ) -> Call {
        Box::pin(async move {
            let starts = self.find(&partitions, &started).await.unwrap_or_else(|error| {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to find where partitions begin; it is tried again"
                );
                BTreeMap::new()
            });
            Outcome::Input(Input::Starts(starts))
        })
    }

    async fn before(&self) -> Result<&BTreeMap<TopicId, u32>, Error> {
        let look = || async {
            let topics = existing(&*self.admin, &self.config).await?;
            let Some(earlier) = &self.earlier else {
                return Ok(topics.into_iter().map(|topic| (topic.id, topic.partitions)).collect());
            };
            let mut before = Box::pin(earlier.before()).await?.clone();
            let added = topics.iter().filter(|topic| earlier.config.topic(&topic.name).is_none());
            before.extend(added.map(|topic| (topic.id, topic.partitions)));
            Ok(before)
        };
        self.before.get_or_try_init(look).await
    }

    async fn find(
        &self,
        partitions: &[TopicPartition],
        started: &BTreeSet<TopicId>,
    ) -> Result<BTreeMap<PartitionId, Position>, Error> {
        let mut starts = self.offsets.committed(&self.config.group.0, partitions).await?;
        let mut asked: BTreeMap<Bound, BTreeMap<(String, u32), PartitionId>> = BTreeMap::new();
        for partition in partitions.iter().filter(|partition| !starts.contains_key(&partition.id)) {
            let Some(topic) = self.config.topic(&partition.topic) else { continue };
            let bound = match topic.start {
                Start::Earliest => Bound::Earliest,
                Start::Timestamp(ms) => Bound::Timestamp(ms),
                Start::Latest if is_new(partition.id, self.before().await?, started) => {
                    Bound::Earliest
                }
                Start::Latest => Bound::Latest,
            };
            let name = (partition.topic.clone(), partition.id.number);
            asked.entry(bound).or_default().insert(name, partition.id);
        }
        for (bound, by_name) in asked {
            let names: Vec<_> = by_name.keys().cloned().collect();
            let found = self.offsets.bounds(&names, bound).await?;
            let by_id = |(name, offset)| Some((*by_name.get(&name)?, Position(offset)));
            starts.extend(found.into_iter().filter_map(by_id));
        }
        Ok(starts)
    }
}

/// Whether a partition that nobody has read was made since the group began, as far as it can be told.
fn is_new(
    partition: PartitionId,
    before: &BTreeMap<TopicId, u32>,
    started: &BTreeSet<TopicId>,
) -> bool {
    let was_there = before.get(&partition.topic).is_some_and(|count| partition.number < *count);
    !was_there || started.contains(&partition.topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_new_if_it_was_not_there_or_its_topic_was_started_by_another_controller() {
        let topic = |byte| TopicId([byte; 16]);
        let before = BTreeMap::from([(topic(1), 4), (topic(2), 4)]);
        let started = BTreeSet::from([topic(2)]);
        let is_new =
            |byte, number| is_new(PartitionId { topic: topic(byte), number }, &before, &started);
        assert!(!is_new(1, 3), "it was there, and nothing of its topic was read");
        assert!(is_new(1, 4), "its topic has grown");
        assert!(is_new(2, 3), "its topic has grown before this controller took the office");
        assert!(is_new(3, 0), "its topic is new");
    }
}
