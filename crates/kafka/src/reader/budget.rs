//! Memory of records that were fetched and not taken yet, over all partitions: a fetcher waits while it is used up.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// A fetch asks for no less: smaller ones cost more than they hold.
const SMALLEST_FETCH: usize = 64 << 10;

/// And for no more: larger ones are no faster.
const LARGEST_FETCH: usize = 4 << 20;

/// How much may wait, and does.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    freed: Notify,
}

/// A part of the budget that is used until this is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0), freed: Notify::new() }
    }

    /// What one of so many brokers is asked for at a time: each has an answer on the way and one that is decoded, and
    /// together they have half of the memory.
    pub(super) fn fetch_bytes(&self, brokers: usize) -> usize {
        (self.limit / (4 * brokers.max(1))).clamp(SMALLEST_FETCH, LARGEST_FETCH)
    }

    /// Records of so many bytes wait now, whether there is room for them or not.
    pub(super) fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::AcqRel);
        Charge { budget: Arc::clone(self), bytes }
    }

    /// True while less than the other half is used.
    pub(super) fn has_room(&self) -> bool {
        self.used.load(Ordering::Acquire) < self.limit / 2
    }

    /// Waits for room.
    pub(super) async fn room(&self) {
        loop {
            // Made before the look, so that what is freed after it is heard.
            let freed = self.freed.notified();
            if self.has_room() {
                return;
            }
            freed.await;
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_room_goes_on_when_records_are_taken() {
        let budget = Arc::new(Budget::new(1000));
        let (one, two) = (budget.charge(400), budget.charge(400));
        assert!(!budget.has_room());
        let waiter = { Arc::clone(&budget) };
        let waiting = async move { waiter.room().await };
        let freeing = async {
            tokio::task::yield_now().await;
            drop(one);
        };
        tokio::join!(waiting, freeing);
        assert!(budget.has_room());
        drop(two);
        assert_eq!(budget.used.load(Ordering::Acquire), 0);
    }

    #[test]
    fn all_brokers_together_are_asked_for_a_quarter_of_the_memory() {
        let budget = Budget::new(16 << 20);
        assert_eq!(budget.fetch_bytes(1), 4 << 20);
        assert_eq!(budget.fetch_bytes(8), 512 << 10);
        assert_eq!(budget.fetch_bytes(10_000), SMALLEST_FETCH);
    }
}
