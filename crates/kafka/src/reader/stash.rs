//! What had been fetched of partitions when they were paused: it waits here until they go on. Beyond a limit it is dropped, and
//! fetched again.

use std::collections::VecDeque;

use tidegate_core::ids::PartitionId;

use super::parcel::Tagged;

/// Records of paused partitions.
#[derive(Debug)]
pub(super) struct Stash {
    limit: usize,
    bytes: usize,
    batches: VecDeque<Tagged>,
    /// A partition may go on.
    is_due: bool,
}

impl Stash {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, bytes: 0, batches: VecDeque::new(), is_due: false }
    }

    /// Keeps a batch of a partition that is paused; gives it back if there is no room.
    pub(super) fn put(&mut self, tagged: Tagged) -> Result<(), Tagged> {
        if self.bytes + tagged.bytes > self.limit {
            return Err(tagged);
        }
        self.bytes += tagged.bytes;
        self.batches.push_back(tagged);
        Ok(())
    }

    /// A partition goes on: what is kept of it comes before what is fetched.
    pub(super) fn resume(&mut self) {
        self.is_due = true;
    }

    /// What comes next of a partition that goes on.
    pub(super) fn take(&mut self, is_paused: impl Fn(PartitionId) -> bool) -> Option<Tagged> {
        if !self.is_due {
            return None;
        }
        let goes_on = |tagged: &Tagged| !is_paused(tagged.batch.partition.id);
        let found = self.batches.iter().position(goes_on).and_then(|at| self.batches.remove(at));
        match &found {
            Some(tagged) => self.bytes -= tagged.bytes,
            None => self.is_due = false,
        }
        found
    }

    /// A partition is given up, or begun anew.
    pub(super) fn drop_of(&mut self, id: PartitionId) {
        self.batches.retain(|tagged| tagged.batch.partition.id != id);
        self.bytes = self.batches.iter().map(|tagged| tagged.bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::{Position, TopicId};
    use tidegate_runtime::ports::{RecordBatch, TopicPartition};

    use super::super::entry::Generation;
    use super::*;

    fn id(number: u32) -> PartitionId {
        PartitionId { topic: TopicId([1; 16]), number }
    }

    fn tagged(number: u32, from: u64) -> Tagged {
        let partition = TopicPartition { topic: "orders".to_owned(), id: id(number) };
        let batch = RecordBatch { partition, records: Vec::new(), next: Position(from + 1) };
        Tagged { generation: Generation::FIRST, from, batch, bytes: 40 }
    }

    #[test]
    fn batches_come_back_in_order_once_their_partition_goes_on() {
        let mut stash = Stash::new(160);
        for (number, from) in [(0, 5), (1, 7), (0, 6)] {
            stash.put(tagged(number, from)).unwrap();
        }
        assert!(stash.take(|_| false).is_none(), "nobody has gone on");
        stash.resume();
        let come = |stash: &mut Stash| stash.take(|of| of == id(1)).map(|tagged| tagged.from);
        assert_eq!(
            [come(&mut stash), come(&mut stash), come(&mut stash)],
            [Some(5), Some(6), None]
        );
        assert_eq!(stash.bytes, 40);
        stash.drop_of(id(1));
        assert_eq!((stash.bytes, stash.batches.len()), (0, 0));
    }

    #[test]
    fn what_there_is_no_room_for_is_given_back() {
        let mut stash = Stash::new(100);
        stash.put(tagged(0, 0)).unwrap();
        stash.put(tagged(0, 1)).unwrap();
        assert_eq!(stash.put(tagged(0, 2)).unwrap_err().from, 2);
    }
}
