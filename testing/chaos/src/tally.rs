//! Which faults have struck whom, and when: for the count, and to tell what a hand-off is due to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fault::{Cause, Kind};

/// How long after the end of a fault a loss may still be due to it: a fence, a re-election before it, and a slow machine.
const AFTERMATH_MS: u64 = 60_000;

/// A fault that struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Struck {
    pub(crate) kind: Kind,
    /// The consumer it struck; `None` where it is not about one.
    pub(crate) consumer: Option<u32>,
    /// Milliseconds since the Unix epoch.
    pub(crate) from_ms: u64,
    pub(crate) to_ms: u64,
}

/// All faults up to now, shared between the lanes; never locked across an await.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    counts: BTreeMap<Kind, u64>,
    struck: Vec<Struck>,
    missed: Vec<Kind>,
}

impl Tally {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault has happened once, and is over.
    pub(crate) fn count(&self, kind: Kind) {
        *self.lock().counts.entry(kind).or_default() += 1;
    }

    /// Whether a fault of this kind has happened.
    pub(crate) fn has(&self, kind: Kind) -> bool {
        self.lock().counts.contains_key(&kind)
    }

    /// A fault was not done: it met nobody, or its time was over.
    pub(crate) fn missed(&self, kind: Kind) {
        self.lock().missed.push(kind);
    }

    /// Somebody was struck.
    pub(crate) fn struck(&self, struck: Struck) {
        self.lock().struck.push(struck);
    }

    /// How often each kind has happened, those of `kinds` that have not included.
    pub(crate) fn counts(&self, kinds: impl IntoIterator<Item = Kind>) -> BTreeMap<Kind, u64> {
        let inner = self.lock();
        let zero: BTreeMap<_, _> = kinds.into_iter().map(|kind| (kind, 0)).collect();
        zero.into_iter().chain(inner.counts.clone()).collect()
    }

    /// Faults of the schedule that were not done.
    pub(crate) fn missed_count(&self) -> usize {
        self.lock().missed.len()
    }

    /// When each fault of a kind began.
    pub(crate) fn begins(&self, kinds: &[Kind]) -> Vec<u64> {
        let inner = self.lock();
        let of_kinds = inner.struck.iter().filter(|struck| kinds.contains(&struck.kind));
        of_kinds.map(|struck| struck.from_ms).collect()
    }

    /// What a hand-off that became durable at a time is put down to, when it took so long and these consumers had lost
    /// the partition: the latest fault of one of them that can have been the reason.
    pub(crate) fn cause(&self, losers: &BTreeSet<u32>, at_ms: u64) -> Cause {
        let inner = self.lock();
        let may_be_due = |struck: &&Struck| {
            struck.consumer.is_some_and(|consumer| losers.contains(&consumer))
                && struck.from_ms <= at_ms
                && at_ms <= struck.to_ms.saturating_add(AFTERMATH_MS)
        };
        let latest = inner.struck.iter().filter(may_be_due).max_by_key(|struck| struck.from_ms);
        latest.map_or(Cause::Other, |struck| struck.kind.cause())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn struck(kind: Kind, consumer: u32, from_ms: u64) -> Struck {
        Struck { kind, consumer: Some(consumer), from_ms, to_ms: from_ms + 1000 }
    }

    #[test]
    fn a_loss_is_put_down_to_the_latest_fault_of_its_owner() {
        let tally = Tally::default();
        tally.struck(struck(Kind::Sigstop, 1, 10_000));
        tally.struck(struck(Kind::Sigkill, 2, 20_000));
        tally.struck(struck(Kind::Sigterm, 1, 90_000));
        let cause = |losers: &[u32], at| tally.cause(&losers.iter().copied().collect(), at);
        assert_eq!(cause(&[1], 25_000), Cause::Stall);
        assert_eq!(cause(&[2], 25_000), Cause::Kill);
        assert_eq!(cause(&[1, 2], 25_000), Cause::Kill);
        assert_eq!(cause(&[2], 19_000), Cause::Other, "before it");
        assert_eq!(cause(&[2], 82_000), Cause::Other, "long after it");
        assert_eq!(cause(&[1], 91_000), Cause::Ending);
    }

    #[test]
    fn kinds_that_have_not_happened_are_counted_as_zero() {
        let tally = Tally::default();
        tally.count(Kind::Death);
        let counts = tally.counts([Kind::Sigkill, Kind::Death]);
        assert_eq!(counts, [(Kind::Sigkill, 0), (Kind::Death, 1)].into());
    }
}
