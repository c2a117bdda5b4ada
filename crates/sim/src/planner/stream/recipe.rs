//! The recipes: the published random walk, and a load as real clusters have it. The same numbers and seed give the same stream on
//! every machine.

use std::f64::consts::TAU;

use super::{PartitionName, Stream};
use crate::number::{float, length, rounded};
use crate::rng::Rng;

/// The published recipe: every partition starts anywhere between nothing and a consumer's capacity, and walks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walk {
    /// Partitions, in two topics.
    pub partitions: u32,
    /// Each step is uniform between -delta and +delta.
    pub delta: u32,
    /// Measurements.
    pub iterations: u32,
}

/// Few large and many small partitions, slow noise, and a common rise and fall.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Realistic {
    /// Partitions, in two topics.
    pub partitions: u32,
    /// Measurements.
    pub iterations: u32,
    /// The spread of the base rates: the standard deviation of their logarithm.
    pub sigma: f64,
    /// So many partitions fill a consumer on average.
    pub per_consumer: u32,
}

/// Walks stay between 0 and this: the capacity that they are packed into.
const WALK_CEILING: u64 = 100;

/// The capacity that realistic rates are scaled to.
pub const REALISTIC_CAPACITY: u64 = 10_000;

/// No partition's base rate is above this share of a consumer.
const LARGEST_BASE: f64 = 0.9;

/// How much of the noise of one measurement is still there in the next.
const NOISE_KEPT: f64 = 0.97;

/// The standard deviation of what is added to the noise at each measurement.
const NOISE_ADDED: f64 = 0.08;

/// The common rise and fall: its height and its length in measurements.
const SWING: (f64, f64) = (0.4, 100.0);

// === impl Walk ===

impl Walk {
    /// The stream of this seed.
    pub fn stream(&self, seed: u64) -> Stream {
        let mut rng = Rng::new(seed);
        let delta = u64::from(self.delta);
        let mut rates: Vec<u64> =
            (0..self.partitions).map(|_| rng.below(WALK_CEILING + 1)).collect();
        let mut rows = Vec::new();
        for _ in 0..self.iterations {
            rows.push(rates.clone());
            for rate in &mut rates {
                let raised = *rate + rng.below(2 * delta + 1);
                *rate = raised.saturating_sub(delta).min(WALK_CEILING);
            }
        }
        Stream { partitions: names("walk", self.partitions), rows }
    }
}

// === impl Realistic ===

impl Realistic {
    /// The stream of this seed.
    pub fn stream(&self, seed: u64) -> Stream {
        let mut rng = Rng::new(seed);
        let base = self.base_rates(&mut rng);
        let mut noise = vec![0.0; base.len()];
        let mut rows = Vec::new();
        for iteration in 0..self.iterations {
            let (height, period) = SWING;
            let swing = 1.0 + height * libm::sin(TAU * f64::from(iteration) / period);
            let rate = |(base, noise): (&f64, &f64)| rounded(base * libm::exp(*noise) * swing);
            rows.push(base.iter().zip(&noise).map(rate).collect());
            for noise in &mut noise {
                *noise = NOISE_KEPT * *noise + NOISE_ADDED * rng.normal();
            }
        }
        Stream { partitions: names("load", self.partitions), rows }
    }

    /// Log-normal rates with a ceiling, scaled so that the wanted number of them fills a consumer.
    fn base_rates(&self, rng: &mut Rng) -> Vec<f64> {
        let capacity = float(REALISTIC_CAPACITY);
        let shapes: Vec<f64> =
            (0..self.partitions).map(|_| libm::exp(self.sigma * rng.normal())).collect();
        let wanted = length(shapes.len()) * capacity / f64::from(self.per_consumer.max(1));
        let capped =
            |scale: f64| shapes.iter().map(move |s| (s * scale).min(LARGEST_BASE * capacity));
        let mut scale = 1.0;
        // The ceiling takes from the sum what scaling gives; a few rounds bring it as close as it gets.
        for _ in 0..20 {
            let total: f64 = capped(scale).sum();
            scale *= wanted / total.max(f64::MIN_POSITIVE);
        }
        capped(scale).collect()
    }
}

/// Two topics with half of the partitions each.
fn names(topic: &str, partitions: u32) -> Vec<PartitionName> {
    let first = partitions.div_ceil(2);
    let name =
        |(half, number): (u32, u32)| PartitionName { topic: format!("{topic}-{half}"), number };
    let first_half = (0..first).map(|number| (1, number));
    let second_half = (0..partitions - first).map(|number| (2, number));
    first_half.chain(second_half).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_steps_by_delta_at_most_and_stays_within_its_bounds() {
        let stream = Walk { partitions: 20, delta: 25, iterations: 200 }.stream(7);
        assert_eq!((stream.partitions().len(), stream.rows().len()), (20, 200));
        for pair in stream.rows().windows(2) {
            for (before, after) in pair[0].iter().zip(&pair[1]) {
                assert!(before.abs_diff(*after) <= 25 && *after <= 100);
            }
        }
        let all = || stream.rows().iter().flatten();
        assert!(all().any(|rate| *rate == 0) && all().any(|rate| *rate == 100));
    }

    #[test]
    fn a_walk_without_delta_stands_still() {
        let stream = Walk { partitions: 5, delta: 0, iterations: 3 }.stream(1);
        assert!(stream.rows().iter().all(|row| *row == stream.rows()[0]));
    }

    #[test]
    fn the_same_seed_gives_the_same_stream_and_another_one_another() {
        let walk = Walk { partitions: 10, delta: 5, iterations: 10 };
        assert_eq!(walk.stream(3), walk.stream(3));
        assert_ne!(walk.stream(3), walk.stream(4));
        let load = Realistic { partitions: 10, iterations: 10, sigma: 1.0, per_consumer: 8 };
        assert_eq!(load.stream(3), load.stream(3));
        assert_ne!(load.stream(3), load.stream(4));
    }

    #[test]
    fn realistic_loads_are_scaled_to_what_was_asked_for() {
        let recipe = Realistic { partitions: 600, iterations: 2, sigma: 1.8, per_consumer: 20 };
        let first: u64 = recipe.stream(1).rows()[0].iter().sum();
        let wanted = 600 * REALISTIC_CAPACITY / 20;
        assert!(first.abs_diff(wanted) < wanted / 100, "{first}");
        assert!(recipe.stream(1).rows()[0].iter().all(|rate| *rate <= 9000));
    }

    #[test]
    fn partitions_are_in_two_topics() {
        let names = names("t", 3).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names, ["t-1:0", "t-1:1", "t-2:0"]);
    }
}
