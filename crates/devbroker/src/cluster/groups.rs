//! Committed offsets of consumer groups. Groups have no members here: their consumers assign themselves.

use std::collections::BTreeMap;

/// What a group committed for one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committed {
    /// The offset to go on from.
    pub(crate) offset: i64,
    /// The leader epoch of the last record read, -1 if the client gave none.
    pub(crate) leader_epoch: i32,
    /// Free text of the client.
    pub(crate) metadata: String,
}

/// A group's offsets by topic and partition.
pub(crate) type Offsets = BTreeMap<String, BTreeMap<i32, Committed>>;

/// The offsets of all groups.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    all: BTreeMap<String, Offsets>,
}

// === impl Groups ===

impl Groups {
    /// Replaces what the group committed for the partition.
    pub(crate) fn commit(&mut self, group: &str, topic: &str, partition: i32, to: Committed) {
        let topics = self.all.entry(group.to_owned()).or_default();
        let partitions = topics.entry(topic.to_owned()).or_default();
        partitions.insert(partition, to);
    }

    /// What the group committed for the partition.
    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<&Committed> {
        self.all.get(group)?.get(topic)?.get(&partition)
    }

    /// Everything the group committed.
    pub(crate) fn all_of(&self, group: &str) -> Option<&Offsets> {
        self.all.get(group)
    }

    /// Forgets what was committed for a topic that is deleted.
    pub(crate) fn forget_topic(&mut self, topic: &str) {
        for topics in self.all.values_mut() {
            topics.remove(topic);
        }
    }
}
