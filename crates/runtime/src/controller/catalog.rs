//! What the controller learned about topics from the monitor: their names and how many partitions they have.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_core::ids::{PartitionId, TopicId};

use crate::ports::TopicPartition;

/// Names of topics by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Catalog {
    names: BTreeMap<TopicId, String>,
}

impl Catalog {
    /// Notes a topic.
    pub(super) fn learn(&mut self, id: TopicId, name: &str) {
        if self.names.get(&id).is_none_or(|known| known != name) {
            self.names.insert(id, name.to_owned());
        }
    }

    /// The partition with its topic's name, or with the id's text for one that no message has named.
    pub(super) fn partition(&self, id: PartitionId) -> TopicPartition {
        TopicPartition { topic: self.name(id.topic), id }
    }

    /// The topic's name.
    pub(super) fn name(&self, id: TopicId) -> String {
        self.names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Those of these topics whose names are known.
    pub(super) fn named(&self, ids: &BTreeSet<TopicId>) -> BTreeMap<TopicId, String> {
        ids.iter().filter_map(|id| Some((*id, self.names.get(id)?.clone()))).collect()
    }

    /// Those partitions whose topic is known, with its name.
    pub(super) fn known(&self, partitions: &[PartitionId]) -> Vec<TopicPartition> {
        let named = |id: &PartitionId| {
            Some(TopicPartition { topic: self.names.get(&id.topic)?.clone(), id: *id })
        };
        partitions.iter().filter_map(named).collect()
    }
}
