//! A window's samples as the steps between them, packed: there are some thirty for each of very many partitions.
//!
//! Times are whole microseconds since boot, so that nothing is lost by adding up steps. A step of an hour, or of more than four
//! billion records, counts as the longest that there is room for; a window never holds one.

use alloc::collections::VecDeque;
use core::time::Duration;

use crate::ids::Instant;

/// By how many steps a window grows: doubling would leave half of most windows empty.
const AT_ONCE: usize = 4;

/// The samples of a window, and what was written between them.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    /// When the last sample was taken; none without samples.
    last: Option<Micros>,
    between: VecDeque<Step>,
    /// All steps together.
    sum: Sum,
}

/// What was written between the first and the last sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    micros: u64,
    pub(super) bytes: u64,
    pub(super) records: u64,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    micros: u32,
    records: u32,
    bytes: u64,
}

/// Microseconds since boot.
#[derive(Clone, Copy, Debug)]
struct Micros(u64);

// === impl Steps ===

impl Steps {
    /// Without samples.
    pub(super) const fn new() -> Self {
        let sum = Sum { micros: 0, bytes: 0, records: 0 };
        Self { last: None, between: VecDeque::new(), sum }
    }

    pub(super) fn clear(&mut self) {
        self.last = None;
        self.between.clear();
        self.sum = Sum::default();
    }

    /// Only one sample, which says nothing of a rate.
    pub(super) fn begin(&mut self, at: Instant) {
        self.clear();
        self.last = Some(Micros::of(at));
    }

    /// A sample, and what was written since the one before. Without that it is the first.
    pub(super) fn push(&mut self, at: Instant, bytes: u64, records: u64) {
        let Some(last) = self.last else { return self.begin(at) };
        let at = Micros::of(at);
        let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
        let micros = narrow(at.0.saturating_sub(last.0));
        let step = Step { micros, records: narrow(records), bytes };
        if self.between.len() == self.between.capacity() {
            self.between.reserve_exact(AT_ONCE);
        }
        self.between.push_back(step);
        self.sum.add(step);
        self.last = Some(at);
    }

    /// Forgets samples that are older than a span.
    pub(super) fn forget(&mut self, now: Instant, span: Duration) {
        let span = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        while let Some(last) = self.last {
            let first = last.0.saturating_sub(self.sum.micros);
            if Micros::of(now).0.saturating_sub(first) <= span {
                return;
            }
            match self.between.pop_front() {
                Some(step) => self.sum.remove(step),
                None => self.clear(),
            }
        }
    }

    /// What lies between the first and the last sample; `None` if they are one.
    pub(super) fn sum(&self) -> Option<Sum> {
        (self.sum.micros > 0).then_some(self.sum)
    }
}

// === impl Sum ===

impl Sum {
    /// The time from the first sample to the last.
    pub(super) const fn time(self) -> Duration {
        Duration::from_micros(self.micros)
    }

    fn add(&mut self, step: Step) {
        self.micros = self.micros.saturating_add(step.micros.into());
        self.bytes = self.bytes.saturating_add(step.bytes);
        self.records = self.records.saturating_add(step.records.into());
    }

    fn remove(&mut self, step: Step) {
        self.micros = self.micros.saturating_sub(step.micros.into());
        self.bytes = self.bytes.saturating_sub(step.bytes);
        self.records = self.records.saturating_sub(step.records.into());
    }
}

// === impl Micros ===

impl Micros {
    fn of(at: Instant) -> Self {
        let since_boot = at.since(Instant::default());
        Self(u64::try_from(since_boot.as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::since_boot(Duration::from_micros(micros))
    }

    #[test]
    fn the_sum_is_what_lies_between_the_samples_that_are_left() {
        let mut steps = Steps::new();
        steps.push(at(1_000_000), 700, 7);
        assert_eq!(steps.sum(), None, "what was before the first sample is not known");
        steps.push(at(1_500_001), 50, 5);
        steps.push(at(3_000_000), 30, 3);
        let sum = steps.sum().expect("there are three samples");
        assert_eq!((sum.time(), sum.bytes, sum.records), (Duration::from_secs(2), 80, 8));
        steps.forget(at(3_000_001), Duration::from_secs(2));
        let sum = steps.sum().expect("two are left");
        assert_eq!((sum.time().as_micros(), sum.bytes, sum.records), (1_499_999, 30, 3));
        steps.forget(at(9_000_000), Duration::from_secs(2));
        assert_eq!(steps.sum(), None);
        steps.push(at(9_000_000), 10, 1);
        assert_eq!(steps.sum(), None, "it is the first one again");
    }

    #[test]
    fn a_step_takes_sixteen_bytes_and_time_does_not_drift() {
        assert_eq!(size_of::<Step>(), 16);
        let mut steps = Steps::new();
        // A period that is no whole number of microseconds.
        let at = |step: u64| Instant::since_boot(Duration::from_nanos(step * 1_000_000_999));
        for step in 0..100_000 {
            steps.push(at(step), 1, 1);
            steps.forget(at(step), Duration::from_secs(30));
        }
        let sum = steps.sum().expect("there are many samples");
        assert_eq!((sum.bytes, sum.records), (29, 29));
        assert_eq!(sum.time().as_millis(), 29_000);
    }
}
