//! Streams: how fast every partition is written, measurement by measurement. They are made from a recipe and a seed, or read from a
//! file, and are the input of every simulation of planners.

mod csv;
mod recipe;

use std::collections::BTreeMap;
use std::fmt;

use tidegate_core::ids::{PartitionId, TopicId};

pub use csv::{CsvError, CsvFault};
pub use recipe::{REALISTIC_CAPACITY, Realistic, Walk};

/// A partition by the name of its topic, as files have it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionName {
    /// The topic's name.
    pub topic: String,
    /// The partition's number in it.
    pub number: u32,
}

/// The rates of all partitions over time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    partitions: Vec<PartitionName>,
    /// One row for each measurement, each with one rate for each partition.
    rows: Vec<Vec<u64>>,
}

// === impl PartitionName ===

impl fmt::Display for PartitionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.topic, self.number)
    }
}

impl PartitionName {
    /// Reads `topic:partition`.
    pub fn parse(text: &str) -> Option<Self> {
        let (topic, number) = text.rsplit_once(':')?;
        let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
        let is_name = !topic.is_empty() && topic.chars().all(is_letter);
        (is_name && is_number)
            .then(|| number.parse().ok())
            .flatten()
            .map(|number| Self { topic: topic.to_owned(), number })
    }
}

// === impl Stream ===

impl Stream {
    /// The partitions, in the order of the rates.
    pub fn partitions(&self) -> &[PartitionName] {
        &self.partitions
    }

    /// The measurements: each partition's rate, in the order of the partitions.
    pub fn rows(&self) -> &[Vec<u64>] {
        &self.rows
    }
}

/// Ids for names: topics are numbered as they appear.
pub fn ids<'a>(partitions: impl Iterator<Item = &'a PartitionName>) -> Vec<PartitionId> {
    let mut topics: BTreeMap<&str, TopicId> = BTreeMap::new();
    let id = |partition: &'a PartitionName| {
        let next = TopicId((topics.len() as u128 + 1).to_be_bytes());
        let topic = *topics.entry(&partition.topic).or_insert(next);
        PartitionId { topic, number: partition.number }
    };
    partitions.map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_named_by_topic_and_number() {
        let named = PartitionName { topic: "orders.eu".to_owned(), number: 12 };
        assert_eq!(PartitionName::parse("orders.eu:12"), Some(named.clone()));
        assert_eq!(named.to_string(), "orders.eu:12");
        for wrong in ["orders", "orders:", ":1", "orders:+1", "orders:-1", "a b:1", "a:4294967296"]
        {
            assert_eq!(PartitionName::parse(wrong), None, "{wrong}");
        }
    }
}
