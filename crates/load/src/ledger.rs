//! What was acknowledged to the producer: the truth that an audit holds a sink against.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidegate_core::ids::TopicId;

use crate::ranges::RangeSet;

/// The records of one run of a generator, by topic and partition.
///
/// It can be written to JSON and read back, so that the audit may run in another process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acknowledged {
    /// The run that its records carry.
    pub run: u64,
    topics: BTreeMap<String, TopicLedger>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct TopicLedger {
    /// The topic's id as Kafka prints it, when known.
    id: Option<String>,
    partitions: BTreeMap<u32, PartitionLedger>,
}

/// The records of one partition: what is certainly there, with its offset, and what may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionLedger {
    /// By first offset: stretches of records whose offsets and sequence numbers both rise by one.
    stored: BTreeMap<u64, Stretch>,
    /// Sequence numbers of the records whose outcome is not known.
    maybe: RangeSet,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stretch {
    sequence: u64,
    count: u64,
}

// === impl Acknowledged ===

impl Acknowledged {
    /// An empty ledger of a run.
    pub fn new(run: u64) -> Self {
        Self { run, topics: BTreeMap::new() }
    }

    /// Tells the id of a topic: an audit passes over the records of others of the same name.
    pub fn set_topic_id(&mut self, topic: &str, id: TopicId) {
        self.topics.entry(topic.to_owned()).or_default().id = Some(id.to_string());
    }

    /// Notes that a record is stored at an offset.
    pub fn stored(&mut self, topic: &str, partition: u32, sequence: u64, offset: u64) {
        self.entry(topic, partition).stored(sequence, offset);
    }

    /// Notes that nobody knows whether a record is stored.
    pub fn maybe(&mut self, topic: &str, partition: u32, sequence: u64) {
        self.entry(topic, partition).maybe.insert(sequence);
    }

    /// Adds the ledger of one partition; it replaces what was known of it.
    pub fn insert(&mut self, topic: &str, partition: u32, ledger: PartitionLedger) {
        *self.entry(topic, partition) = ledger;
    }

    /// Whether records were sent to a topic of this name and, if it is known, of this id.
    pub fn has_topic(&self, topic: &str, id: TopicId) -> bool {
        let ledger = self.topics.get(topic);
        ledger.is_some_and(|ledger| ledger.id.as_ref().is_none_or(|known| *known == id.to_string()))
    }

    /// The ledger of a partition; `None` when nothing was sent to it.
    pub fn partition(&self, topic: &str, partition: u32) -> Option<&PartitionLedger> {
        self.topics.get(topic)?.partitions.get(&partition)
    }

    /// All partitions that something was sent to.
    pub fn partitions(&self) -> impl Iterator<Item = (&str, u32, &PartitionLedger)> {
        self.topics.iter().flat_map(|(topic, ledger)| {
            ledger.partitions.iter().map(|(number, ledger)| (topic.as_str(), *number, ledger))
        })
    }

    fn entry(&mut self, topic: &str, partition: u32) -> &mut PartitionLedger {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), TopicLedger::default());
        }
        let topic = self.topics.get_mut(topic).expect("it was inserted above");
        topic.partitions.entry(partition).or_default()
    }
}

// === impl PartitionLedger ===

impl PartitionLedger {
    /// Notes that a record is stored at an offset.
    pub fn stored(&mut self, sequence: u64, offset: u64) {
        if let Some((first, before)) = self.stored.range_mut(..=offset).next_back() {
            let next = first.saturating_add(before.count);
            if next == offset && before.sequence.saturating_add(before.count) == sequence {
                before.count += 1;
                return;
            }
            if offset < next {
                return; // acknowledged already
            }
        }
        self.stored.insert(offset, Stretch { sequence, count: 1 });
    }

    /// Notes that nobody knows whether a record is stored.
    pub fn maybe(&mut self, sequence: u64) {
        self.maybe.insert(sequence);
    }

    /// Number of records that are certainly stored.
    pub fn stored_count(&self) -> u64 {
        self.stored.values().map(|stretch| stretch.count).sum()
    }

    /// Number of records that may be stored.
    pub fn maybe_count(&self) -> u64 {
        self.maybe.len()
    }

    /// The sequence number of the record that was acknowledged at an offset.
    pub fn sequence_at(&self, offset: u64) -> Option<u64> {
        let (first, stretch) = self.stored.range(..=offset).next_back()?;
        let into = offset - first;
        (into < stretch.count).then(|| stretch.sequence + into)
    }

    /// Whether a record with this sequence number was acknowledged, at whatever offset.
    pub fn has(&self, sequence: u64) -> bool {
        let mut stretches = self.stored.values();
        stretches.any(|stretch| {
            sequence.checked_sub(stretch.sequence).is_some_and(|into| into < stretch.count)
        })
    }

    /// Whether the outcome of this record is unknown.
    pub fn may_have(&self, sequence: u64) -> bool {
        self.maybe.contains(sequence)
    }

    /// The ranges of offsets at which records are certainly stored.
    pub fn offsets(&self) -> impl Iterator<Item = std::ops::Range<u64>> {
        self.stored.iter().map(|(first, stretch)| *first..first.saturating_add(stretch.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_in_order_take_one_stretch() {
        let mut ledger = PartitionLedger::default();
        (0..1000).for_each(|sequence| ledger.stored(sequence, sequence + 50));
        assert_eq!(ledger.stored.len(), 1);
        assert_eq!(ledger.sequence_at(50), Some(0));
        assert_eq!(ledger.sequence_at(1049), Some(999));
        assert_eq!((ledger.sequence_at(49), ledger.sequence_at(1050)), (None, None));
        assert_eq!([0, 999, 1000].map(|sequence| ledger.has(sequence)), [true, true, false]);
    }

    #[test]
    fn unknown_outcomes_and_gaps_are_kept_apart() {
        let mut ledger = Acknowledged::new(1);
        ledger.set_topic_id("orders", TopicId([1; 16]));
        for (sequence, offset) in [(0, 0), (1, 1), (3, 2), (4, 7)] {
            ledger.stored("orders", 2, sequence, offset);
        }
        ledger.maybe("orders", 2, 2);
        let partition = ledger.partition("orders", 2).unwrap();
        assert_eq!((partition.stored_count(), partition.maybe_count()), (4, 1));
        let at = |offset| partition.sequence_at(offset);
        assert_eq!([0, 1, 2, 3, 7, 8].map(at), [Some(0), Some(1), Some(3), None, Some(4), None]);
        assert!(partition.may_have(2) && !partition.may_have(3));
        assert!(ledger.has_topic("orders", TopicId([1; 16])));
        assert!(!ledger.has_topic("orders", TopicId([2; 16])));
        let text = serde_json::to_string(&ledger).unwrap();
        assert_eq!(serde_json::from_str::<Acknowledged>(&text).unwrap(), ledger);
    }
}
