//! Names that the tests of the ledger and of the controller share.

use crate::ids::{ConsumerNumber, Generation, GroupName, PartitionId, TopicId};

pub(crate) const GENERATION: Generation = Generation(1);

pub(crate) fn group() -> GroupName {
    GroupName("orders".into())
}

pub(crate) fn consumer(number: u32) -> ConsumerNumber {
    ConsumerNumber::new(number).expect("test consumers count from 1")
}

pub(crate) fn partition(number: u32) -> PartitionId {
    PartitionId { topic: TopicId::default(), number }
}
