//! What will happen, in order of time; at one moment in the order in which it was scheduled.

use std::collections::BTreeMap;
use std::time::Duration;

/// A moment of the world: microseconds since it began. No process sees it, each has a clock of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment this much later.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is before.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

#[derive(Debug)]
pub(super) struct Queue<E> {
    events: BTreeMap<(Moment, u64), E>,
    scheduled: u64,
}

impl<E> Queue<E> {
    pub(super) const fn new() -> Self {
        Self { events: BTreeMap::new(), scheduled: 0 }
    }

    pub(super) fn schedule(&mut self, at: Moment, event: E) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), event);
    }

    pub(super) fn pop(&mut self) -> Option<(Moment, E)> {
        self.events.pop_first().map(|((at, _), event)| (at, event))
    }
}
