//! How late data was read, over all units of data. The published model's latencies rise or fall evenly within an interval, so that its
//! millions of units are kept as some thousands of ramps, and every percentile is still exact; those of the fluid model are counted by the
//! millisecond.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::number::{float, floored, rounded};

/// The figures of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencyFigures {
    /// Consumers on average.
    pub consumers: f64,
    /// The load that moved for each measurement, in loads of a full consumer.
    pub r_score: f64,
    /// From written to read.
    pub latency_s: LatencySeconds,
    /// The share of data that is read more than a second after it was written.
    pub late_share: f64,
}

/// Latencies over all units of data, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct LatencySeconds {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 9 in 10 are below it.
    pub p90: f64,
    /// 99 in 100 are below it.
    pub p99: f64,
    /// 999 in 1000 are below it.
    pub p999: f64,
}

/// Data that is read later than this many seconds is late.
const LATE: f64 = 1.0;

/// Units whose latencies rise or fall evenly, but never below zero.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Ramp {
    first: f64,
    slope: f64,
    count: u64,
}

/// Any number of ramps.
#[derive(Clone, Debug, Default)]
pub(super) struct Ramps(Vec<Ramp>);

/// Amounts of data by latency.
#[derive(Clone, Debug, Default)]
pub(crate) struct Late {
    by_millis: BTreeMap<u64, f64>,
    total: f64,
    /// Amount times latency.
    weighted: f64,
    after_limit: f64,
}

// === impl LatencyFigures ===

impl LatencyFigures {
    pub(super) const fn parts(self) -> [f64; 8] {
        let LatencySeconds { mean, p50, p90, p99, p999 } = self.latency_s;
        [self.consumers, self.r_score, mean, p50, p90, p99, p999, self.late_share]
    }

    pub(super) const fn from_parts(parts: [f64; 8]) -> Self {
        let [consumers, r_score, mean, p50, p90, p99, p999, late_share] = parts;
        let latency_s = LatencySeconds { mean, p50, p90, p99, p999 };
        Self { consumers, r_score, latency_s, late_share }
    }
}

// === impl Ramp ===

impl Ramp {
    fn at(self, index: u64) -> f64 {
        (self.first + float(index) * self.slope).max(0.0)
    }

    /// How many of its units are at most so late. Rounding keeps order, so this is what a look at each of them would give.
    fn at_most(self, latency: f64) -> u64 {
        let is_rising = self.slope >= 0.0;
        let (mut low, mut high) = (0, self.count);
        // The first index from which on the answer is another.
        while low < high {
            let middle = low + (high - low) / 2;
            if (self.at(middle) <= latency) == is_rising {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if is_rising { low } else { self.count - low }
    }

    /// The sum of its latencies. Those above zero are in one run, at its beginning or at its end.
    fn sum(self) -> f64 {
        let positive = self.count - self.at_most(0.0);
        let Some(last) = positive.checked_sub(1) else { return 0.0 };
        let first = if self.slope >= 0.0 { self.count - positive } else { 0 };
        float(positive) * f64::midpoint(self.at(first), self.at(first + last))
    }
}

// === impl Ramps ===

impl Ramps {
    /// Adds units, and gives the latency of the last of them if there is one.
    pub(super) fn add(&mut self, first: f64, slope: f64, count: u64) -> Option<f64> {
        let ramp = Ramp { first, slope, count };
        let last = count.checked_sub(1)?;
        self.0.push(ramp);
        Some(ramp.at(last))
    }

    pub(super) fn seconds(&self) -> LatencySeconds {
        let sum: f64 = self.0.iter().map(|ramp| ramp.sum()).sum();
        let count = self.count();
        LatencySeconds {
            mean: if count == 0 { 0.0 } else { sum / float(count) },
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p999: self.percentile(0.999),
        }
    }

    pub(super) fn late_share(&self) -> f64 {
        let count = self.count();
        if count == 0 { 0.0 } else { float(count - self.at_most(LATE)) / float(count) }
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|ramp| ramp.count).sum()
    }

    fn at_most(&self, latency: f64) -> u64 {
        self.0.iter().map(|ramp| ramp.at_most(latency)).sum()
    }

    /// Interpolated between neighbours, as for any list of numbers.
    fn percentile(&self, share: f64) -> f64 {
        let Some(last) = self.count().checked_sub(1) else { return 0.0 };
        let rank = share * float(last);
        let below = floored(rank).min(last);
        let (low, high) = (self.ranked(below), self.ranked((below + 1).min(last)));
        low + (high - low) * (rank - float(below))
    }

    /// The latency at this place in the order of all, from 0. Floats that are not negative have the order of their bits, so that bisection
    /// over bits ends at the very float.
    fn ranked(&self, rank: u64) -> f64 {
        let (mut low, mut high) = (0, f64::MAX.to_bits());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.at_most(f64::from_bits(middle)) > rank {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        f64::from_bits(low)
    }
}

// === impl Late ===

impl Late {
    /// Adds an amount that was read so many seconds late.
    pub(super) fn add(&mut self, seconds: f64, amount: f64) {
        *self.by_millis.entry(rounded(seconds * 1000.0)).or_default() += amount;
        self.total += amount;
        self.weighted += seconds * amount;
        if seconds > LATE {
            self.after_limit += amount;
        }
    }

    pub(super) fn seconds(&self) -> LatencySeconds {
        LatencySeconds {
            mean: if self.total > 0.0 { self.weighted / self.total } else { 0.0 },
            p50: self.percentile(0.5),
            p90: self.percentile(0.9),
            p99: self.percentile(0.99),
            p999: self.percentile(0.999),
        }
    }

    pub(super) fn late_share(&self) -> f64 {
        if self.total > 0.0 { self.after_limit / self.total } else { 0.0 }
    }

    fn percentile(&self, share: f64) -> f64 {
        let mut seen = 0.0;
        for (millis, amount) in &self.by_millis {
            seen += amount;
            if seen >= share * self.total {
                return float(*millis) / 1000.0;
            }
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::statistics::{mean, percentile};
    use super::*;
    use crate::rng::Rng;

    fn random(rng: &mut Rng) -> Ramp {
        let first = rng.unit() * 10.0;
        let slope = (rng.unit() - 0.6) / 50.0;
        Ramp { first, slope: if rng.chance(200) { 0.0 } else { slope }, count: rng.below(400) }
    }

    #[test]
    fn ramps_give_the_very_figures_of_all_their_units_one_by_one() {
        let mut rng = Rng::new(4);
        for _ in 0..20 {
            let ramps = Ramps((0..30).map(|_| random(&mut rng)).collect());
            let each = |ramp: &Ramp| (0..ramp.count).map(|at| ramp.at(at)).collect::<Vec<_>>();
            let all: Vec<f64> = ramps.0.iter().flat_map(each).collect();
            let seconds = ramps.seconds();
            let found = [seconds.p50, seconds.p90, seconds.p99, seconds.p999].map(f64::to_bits);
            let wanted = [0.5, 0.9, 0.99, 0.999].map(|share| percentile(&all, share).to_bits());
            assert_eq!(found, wanted);
            assert!((seconds.mean - mean(&all)).abs() < 1e-9);
            let late = all.iter().filter(|latency| **latency > 1.0).count();
            assert!(
                (ramps.late_share() - float(late as u64) / float(all.len() as u64)).abs() < 1e-12
            );
        }
    }

    #[test]
    fn no_units_have_no_latency() {
        let mut ramps = Ramps::default();
        assert_eq!(ramps.add(3.0, 0.0, 0), None);
        assert_eq!((ramps.seconds(), Late::default().seconds()), Default::default());
    }

    #[test]
    fn amounts_are_counted_by_the_millisecond() {
        let mut late = Late::default();
        late.add(0.0, 98.5);
        late.add(2.0004, 1.0);
        late.add(9.0, 0.5);
        let seconds = late.seconds();
        assert!(
            seconds.p90 < 1e-9
                && (seconds.p99 - 2.0).abs() < 1e-9
                && (seconds.p999 - 9.0).abs() < 1e-9
        );
        assert!(
            (seconds.mean - 0.065_004).abs() < 1e-9 && (late.late_share() - 0.015).abs() < 1e-9
        );
    }
}
