//! Whom a plan may count on: consumers that live, that are expected, and that are passed over for a while.
//!
//! ```text
//!            planned, worker asked for                 time over
//! (unknown) ───────────────────────────► expected ───────────────────► late ──penalty over──► (unknown)
//!                ▲      process died with proof │ Hello                  │
//! living ────────┴──────────────────────────────┘◄───────────── Hello ───┘
//!     └──fenced for silence──► late
//! ```

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use crate::ids::{ConsumerNumber, Instant};

/// What is known of consumers that do not live at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Standings {
    /// Counted on until this moment.
    expected: BTreeMap<ConsumerNumber, Instant>,
    /// Passed over until this moment.
    late: BTreeMap<ConsumerNumber, Instant>,
}

impl Standings {
    /// A consumer is counted on until then, unless it is already, or is passed over.
    pub(super) fn expect(&mut self, consumer: ConsumerNumber, until: Instant) {
        if !self.late.contains_key(&consumer) {
            self.expected.entry(consumer).or_insert(until);
        }
    }

    /// A consumer is passed over until then.
    pub(super) fn pass_over(&mut self, consumer: ConsumerNumber, until: Instant) {
        self.expected.remove(&consumer);
        self.late.insert(consumer, until);
    }

    /// A consumer lives.
    pub(super) fn lives(&mut self, consumer: ConsumerNumber) {
        self.expected.remove(&consumer);
        self.late.remove(&consumer);
    }

    /// Those not to be planned with.
    pub(super) fn passed_over(&self) -> BTreeSet<ConsumerNumber> {
        self.late.keys().copied().collect()
    }

    /// Nobody needs the others: they are not waited for.
    pub(super) fn expect_only(&mut self, needed: &BTreeSet<ConsumerNumber>) {
        self.expected.retain(|consumer, _| needed.contains(consumer));
    }

    /// True for one not to be planned with.
    pub(super) fn is_passed_over(&self, consumer: ConsumerNumber) -> bool {
        self.late.contains_key(&consumer)
    }

    pub(super) fn len(&self) -> usize {
        self.expected.len().max(self.late.len())
    }

    /// Lets time pass: returns those who were counted on in vain, and now are passed over until `penalty`.
    pub(super) fn advance(&mut self, now: Instant, penalty: Instant) -> Vec<ConsumerNumber> {
        self.late.retain(|_, until| now < *until);
        let over =
            |(consumer, until): (&ConsumerNumber, &Instant)| (*until <= now).then_some(*consumer);
        let late: Vec<_> = self.expected.iter().filter_map(over).collect();
        for consumer in &late {
            self.pass_over(*consumer, penalty);
        }
        late
    }
}
