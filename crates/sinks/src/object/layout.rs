//! Where the objects of a partition are: the key layout that readers and all later writers rely on.
//!
//! ```text
//! <prefix>/<topic name>/<topic id>/<partition>/<chain position, 20 digits>.ndjson
//!          orders      /shwAf4D_…/7          /00000000000000001200.ndjson
//! ```
//!
//! The chain position is the end of the object before, and 0 for the first object of a partition, whatever offset its
//! records begin at. So the next key of a chain is known from its last object, there is exactly one first key, and of
//! two owners that write after the same object one finds the key taken. A topic that was deleted and created again has
//! another id and so another chain. Keys sort by position. Names that begin with a dot belong to the store; others that
//! do not fit are not ours and are passed over.

use tidegate_core::ids::{PartitionId, Position, TopicId};
use tidegate_runtime::ports::TopicPartition;

/// Ends the name of every object.
const SUFFIX: &str = ".ndjson";

/// Digits of a position: those of the highest `u64`.
const DIGITS: usize = 20;

/// Characters that Kafka allows in a topic's name at most.
const MAX_TOPIC_NAME: usize = 249;

/// The folder of a partition's objects; `None` when the topic's name is not one that Kafka allows, and so might lead
/// out of the prefix.
pub fn folder(partition: &TopicPartition) -> Option<String> {
    let TopicPartition { topic, id } = partition;
    legal_topic(topic).then(|| format!("{topic}/{}/{}", id.topic, id.number))
}

/// The partition whose objects are in the folder with these three names.
pub fn partition(topic: &str, id: &str, number: &str) -> Option<TopicPartition> {
    let id = PartitionId { topic: TopicId::parse(id)?, number: number.parse().ok()? };
    let canonical = id.number.to_string() == number && legal_topic(topic);
    canonical.then(|| TopicPartition { topic: topic.to_owned(), id })
}

/// The name of the object at a chain position, in its partition's folder.
pub fn name(position: Position) -> String {
    format!("{:0DIGITS$}{SUFFIX}", position.0)
}

/// The chain position of the object with this name; `None` for names that are not ours.
pub fn position(name: &str) -> Option<Position> {
    let digits = name.strip_suffix(SUFFIX)?;
    let plain = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    if plain { digits.parse().ok().map(Position) } else { None }
}

fn legal_topic(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=MAX_TOPIC_NAME).contains(&name.len())
        && name.bytes().all(legal)
        && name != "."
        && name != ".."
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_sort_by_position_and_are_read_back() {
        assert_eq!(name(Position(1200)), "00000000000000001200.ndjson");
        assert_eq!(position(&name(Position(u64::MAX))), Some(Position(u64::MAX)));
        assert!(name(Position(99)) < name(Position(100)));
        for foreign in ["1200.ndjson", "00000000000000001200", "0000000000000000120x.ndjson"] {
            assert_eq!(position(foreign), None);
        }
        assert_eq!(position("99999999999999999999.ndjson"), None, "beyond 64 bits");
    }

    #[test]
    fn topics_that_kafka_would_refuse_have_no_folder() {
        let id = PartitionId { topic: TopicId([7; 16]), number: 3 };
        for topic in ["", ".", "..", "a/b", "a\\b", "ä", &"x".repeat(250)] {
            assert_eq!(folder(&TopicPartition { topic: topic.to_owned(), id }), None, "{topic:?}");
        }
    }

    proptest! {
        #[test]
        fn a_folder_is_read_back(topic in "[a-zA-Z0-9_-]{1,20}", id: [u8; 16], number: u32) {
            let wanted = TopicPartition { topic, id: PartitionId { topic: TopicId(id), number } };
            let folder = folder(&wanted).unwrap();
            let names: Vec<&str> = folder.split('/').collect();
            prop_assert_eq!(partition(names[0], names[1], names[2]), Some(wanted));
        }
    }
}
