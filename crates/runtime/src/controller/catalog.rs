//! What the controller learned about topics from the monitor: their names and how many partitions they have.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use tidegate_core::ids::{ConsumerNumber, PartitionId, TopicId};

use crate::ports::TopicPartition;
use crate::spec::Pin;

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

    /// All topics whose names are known.
    pub(super) fn iter(&self) -> impl Iterator<Item = (TopicId, &str)> {
        self.names.iter().map(|(id, name)| (*id, name.as_str()))
    }

    /// The pinned partitions that are known; of a topic that was made anew those of both.
    pub(super) fn pins(
        &self,
        pins: &BTreeMap<String, NonZeroU32>,
    ) -> BTreeMap<PartitionId, ConsumerNumber> {
        let known = |(text, number): (&String, &NonZeroU32)| {
            let (pin, consumer) = (Pin::parse(text)?, ConsumerNumber::new(number.get())?);
            let ids = self.names.iter().filter(move |(_, name)| **name == pin.topic);
            let partition = pin.partition;
            Some(ids.map(move |(id, _)| (PartitionId { topic: *id, number: partition }, consumer)))
        };
        pins.iter().filter_map(known).flatten().collect()
    }

    /// Those partitions whose topic is known, with its name.
    pub(super) fn known(&self, partitions: &[PartitionId]) -> Vec<TopicPartition> {
        let named = |id: &PartitionId| {
            Some(TopicPartition { topic: self.names.get(&id.topic)?.clone(), id: *id })
        };
        partitions.iter().filter_map(named).collect()
    }
}
