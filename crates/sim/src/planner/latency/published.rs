//! The published model: within an interval, each consumer's data that stayed and that arrived from others are two fluid queues, of which the
//! one that stayed is served first. It knows no backlog in amounts, only the latency that each consumer ended its last interval with.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::pack;

use super::{Decider, LatencyFigures, Ramps, Sizing, Stream, decided};
use crate::number::{float, floored};

/// What is served when nothing is left for those that arrived.
const LEAST_RATE: f64 = 1e-9;

/// One consumer in one interval.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    /// The rates of partitions that were here before.
    stayed: u64,
    /// The rates of those that came.
    came: u64,
    /// Whether any came, also one with a rate of zero.
    has_arrivals: bool,
}

/// The model's constants, in seconds and units per second.
#[derive(Clone, Copy, Debug)]
struct Queues {
    capacity: f64,
    interval: f64,
    migration: f64,
}

/// Decides at each measurement with its rates, which then hold for an interval.
pub(super) fn run(
    mut decider: Decider,
    stream: &Stream,
    sizing: Sizing,
    (interval, migration): (Duration, Duration),
) -> Result<LatencyFigures, pack::Error> {
    let queues = Queues {
        capacity: float(sizing.capacity),
        interval: interval.as_secs_f64(),
        migration: migration.as_secs_f64(),
    };
    let mut ramps = Ramps::default();
    let mut last: BTreeMap<u32, f64> = BTreeMap::new();
    let (mut consumers, mut moved) = (Vec::new(), Vec::new());
    // In the first interval all have just come, and nothing is emitted.
    let mut before: Option<Vec<u32>> = None;
    for row in stream.rows() {
        let decision = decider.decide(row)?;
        consumers.push(decision.consumers);
        moved.push(decision.moved_load);
        if let Some(before) = &before {
            for (consumer, share) in shares(row, before, &decision.next) {
                queues.serve(share, last.entry(consumer).or_default(), &mut ramps);
            }
        }
        before = Some(decision.next);
    }
    let (consumers, r_score) = decided(&consumers, &moved, sizing.packing);
    Ok(LatencyFigures {
        consumers,
        r_score,
        latency_s: ramps.seconds(),
        late_share: ramps.late_share(),
    })
}

fn shares(row: &[u64], before: &[u32], next: &[u32]) -> BTreeMap<u32, Share> {
    let mut shares: BTreeMap<u32, Share> = BTreeMap::new();
    for ((rate, before), next) in row.iter().zip(before).zip(next) {
        let share = shares.entry(*next).or_default();
        if before == next {
            share.stayed += rate;
        } else {
            share.came += rate;
            share.has_arrivals = true;
        }
    }
    shares
}

impl Queues {
    /// One consumer's interval; `last` is the latency of its last unit so far.
    fn serve(self, share: Share, last: &mut f64, ramps: &mut Ramps) {
        let begin = *last;
        let stayed = float(share.stayed);
        if !share.has_arrivals {
            let ended = ramps.add(begin, slope(self.capacity, stayed), self.units(stayed));
            *last = ended.unwrap_or(begin);
            return;
        }
        let came = float(share.came);
        let served = self.capacity.min(stayed);
        let ended = ramps.add(begin, slope(served, stayed), self.units(stayed));
        let left = self.capacity - served;
        let left = if left > 0.0 { left } else { LEAST_RATE };
        let arrived = ramps.add(self.migration, slope(left, came), self.units(came));
        *last = arrived.or(ended).unwrap_or(begin);
    }

    /// How many units are written in an interval.
    fn units(self, written: f64) -> u64 {
        floored(self.interval * written)
    }
}

/// How much later each unit is than the one before: served at one rate, written at another.
fn slope(served: f64, written: f64) -> f64 {
    1.0 / served - 1.0 / written
}

#[cfg(test)]
mod tests {
    use super::super::super::policy::Policy;
    use super::super::super::statistics::{mean, percentile};
    use super::super::super::stream::Walk;
    use super::*;

    const SIZING: Sizing = Sizing { packing: 100, overload: 120, capacity: 133 };

    /// The model as it is described, with every unit for itself.
    fn naive(mut decider: Decider, stream: &Stream) -> Vec<f64> {
        let mut latencies = Vec::new();
        let mut ends: BTreeMap<u32, f64> = BTreeMap::new();
        let mut before: Vec<u32> = Vec::new();
        for row in stream.rows() {
            let next = decider.decide(row).unwrap().next;
            let consumers: std::collections::BTreeSet<u32> = next.iter().copied().collect();
            for consumer in consumers.into_iter().filter(|_| !before.is_empty()) {
                let here = || (0..row.len()).filter(|index| next[*index] == consumer);
                let came: Vec<_> = here().filter(|index| before[*index] != consumer).collect();
                let old: u64 =
                    here().filter(|index| before[*index] == consumer).map(|index| row[index]).sum();
                let new: u64 = came.iter().map(|index| row[*index]).sum();
                let (w_old, w_new) = (float(old), float(new));
                let begin = ends.get(&consumer).copied().unwrap_or(0.0);
                let g = if came.is_empty() { 133.0 } else { f64::min(133.0, w_old) };
                let unit = |from: f64, j: u64, served: f64, written: f64| {
                    f64::max(0.0, from + float(j) * (1.0 / served - 1.0 / written))
                };
                let olds: Vec<_> = (0..30 * old).map(|j| unit(begin, j, g, w_old)).collect();
                let rest = if 133.0 - g > 0.0 { 133.0 - g } else { 1e-9 };
                let news: Vec<_> = (0..30 * new).map(|j| unit(5.0, j, rest, w_new)).collect();
                if let Some(end) = news.last().or(olds.last()) {
                    ends.insert(consumer, *end);
                }
                latencies.extend(olds);
                latencies.extend(news);
            }
            before = next;
        }
        latencies
    }

    #[test]
    fn the_figures_are_those_of_every_unit_one_by_one() {
        let stream = Walk { partitions: 12, delta: 25, iterations: 15 }.stream(2);
        for name in ["mwf", "bfd", "nf", "balanced", "kafka-round-robin-4", "kafka-round-robin-6"] {
            let decider =
                Decider::new(Policy::parse(name).unwrap(), SIZING, stream.partitions(), 1);
            let all = naive(decider.clone(), &stream);
            let times = (Duration::from_secs(30), Duration::from_secs(5));
            let figures = run(decider, &stream, SIZING, times).unwrap();
            let latency = figures.latency_s;
            let found = [latency.p50, latency.p90, latency.p99, latency.p999].map(f64::to_bits);
            let wanted = [0.5, 0.9, 0.99, 0.999].map(|share| percentile(&all, share).to_bits());
            assert_eq!(found, wanted, "{name}");
            let wanted = mean(&all);
            assert!((latency.mean - wanted).abs() <= 1e-9 * wanted.max(1.0), "{name}");
        }
    }

    #[test]
    fn what_arrives_begins_with_the_migration_and_what_stays_where_it_was() {
        let queues = Queues { capacity: 133.0, interval: 30.0, migration: 5.0 };
        let mut ramps = Ramps::default();
        let mut last = 0.0;
        // 33 are left for 66 that came: each unit is later than the one before.
        queues.serve(Share { stayed: 100, came: 66, has_arrivals: true }, &mut last, &mut ramps);
        assert!((last - (5.0 + 1979.0 * (1.0 / 33.0 - 1.0 / 66.0))).abs() < 1e-9, "{last}");
        // An idle partition comes: there is no unit of it, and those that stayed are as late as the last one was.
        let before = last;
        queues.serve(Share { stayed: 50, came: 0, has_arrivals: true }, &mut last, &mut ramps);
        assert!((last - before).abs() < 1e-12);
        queues.serve(Share::default(), &mut last, &mut ramps);
        assert!((last - before).abs() < 1e-12, "an interval without units changes nothing");
        queues.serve(Share { stayed: 50, ..Share::default() }, &mut last, &mut ramps);
        assert!(last < before - 15.0, "it catches up");
    }
}
