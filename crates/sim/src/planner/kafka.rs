//! Kafka's own assignors over a fixed number of consumers, for comparison. They count partitions and know no loads, so that as long
//! as nobody joins or leaves their first assignment is their last.

use std::collections::BTreeMap;

use super::stream::PartitionName;

/// One of Kafka's assignors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Each topic by itself, in runs of neighbours.
    Range,
    /// All partitions in their order, one for each consumer in turn.
    RoundRobin,
    /// As even by count as can be, and from then on as it was. A group that begins anew is filled in turn.
    Sticky,
}

impl Assignor {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Range, Self::RoundRobin, Self::Sticky];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Range => "range",
            Self::RoundRobin => "round-robin",
            Self::Sticky => "sticky",
        }
    }

    /// Each partition's consumer, from 0.
    pub fn assign(self, partitions: &[PartitionName], consumers: u32) -> Vec<u32> {
        let consumers = consumers.max(1);
        match self {
            Self::Range => by_range(partitions, consumers),
            Self::RoundRobin | Self::Sticky => {
                (0..consumers).cycle().take(partitions.len()).collect()
            }
        }
    }
}

/// The first consumers get one more partition of a topic when it cannot be divided evenly.
fn by_range(partitions: &[PartitionName], consumers: u32) -> Vec<u32> {
    let mut topics: BTreeMap<&str, Vec<(u32, usize)>> = BTreeMap::new();
    for (index, partition) in partitions.iter().enumerate() {
        topics.entry(&partition.topic).or_default().push((partition.number, index));
    }
    let mut assigned = vec![0; partitions.len()];
    for mut members in topics.into_values() {
        members.sort_unstable();
        let count = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let (each, more) = (count / consumers, count % consumers);
        let sizes = (0..consumers).map(|consumer| each + u32::from(consumer < more));
        let owners = (0..).zip(sizes).flat_map(|(consumer, size)| (0..size).map(move |_| consumer));
        for ((_, index), owner) in members.into_iter().zip(owners) {
            if let Some(slot) = assigned.get_mut(index) {
                *slot = owner;
            }
        }
    }
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_topics() -> Vec<PartitionName> {
        let names = ["a:0", "a:1", "a:2", "b:0", "b:1", "b:2"];
        names.iter().map(|name| PartitionName::parse(name).unwrap()).collect()
    }

    #[test]
    fn ranges_favour_the_first_consumers_in_every_topic() {
        assert_eq!(Assignor::Range.assign(&two_topics(), 2), [0, 0, 1, 0, 0, 1]);
    }

    #[test]
    fn round_robin_goes_over_all_topics() {
        assert_eq!(Assignor::RoundRobin.assign(&two_topics(), 4), [0, 1, 2, 3, 0, 1]);
    }

    #[test]
    fn more_consumers_than_partitions_leave_some_without_any() {
        assert_eq!(Assignor::Range.assign(&two_topics(), 9), [0, 1, 2, 0, 1, 2]);
        assert_eq!(Assignor::Sticky.assign(&two_topics(), 9), [0, 1, 2, 3, 4, 5]);
    }
}
