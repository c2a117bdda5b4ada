//! At which rate each partition is written, over time.
//!
//! A profile is a pure function of its seed and the time that has passed, so that a run can be repeated. All arithmetic
//! is in integers.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::str::FromStr;
use std::time::Duration;

use tidegate_core::random::SplitMix64;

/// Highest level of a walk, in thousandths of the published hundred.
const TOP_LEVEL: i64 = 100_000;

/// Largest change of a level in one step of a walk: 10 of 100. The published experiments go from 0 to 25.
const DELTA: i64 = 10_000;

/// The totals of `steps` in turn, in thousandths of the wanted rate: consumers must come, all but a few must go, and
/// some must come again.
const TOTALS: [u64; 4] = [500, 1000, 250, 750];

/// The most that a hot partition takes of the wanted rate, in thousandths.
const HOT_SHARE: u128 = 400;

/// The most that a hot partition takes of what a consumer can read, in thousandths: below it the partition can still be
/// served, and no spreading of others can cure it above.
const HOT_LIMIT: u128 = 700;

/// How the rates change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each partition's level walks at random between 0 and 100, as s(i+1) = clip(s(i) + uniform(-delta, delta)), and
    /// takes that share of the wanted rate.
    Walk,
    /// The total changes in steps between a quarter of the wanted rate and all of it; the partitions' shares differ and
    /// stay as they are.
    Steps,
    /// All partitions are alike for one step; then one takes a large share, another one in each step.
    Hot,
}

/// A shape that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected one of walk, steps, hot, found {0:?}")]
pub struct UnknownShape(pub String);

/// The rates of a number of partitions.
///
/// ```
/// use std::num::{NonZeroU32, NonZeroU64};
/// use std::time::Duration;
/// use tidegate_load::profile::{Profile, Shape};
///
/// let rate = NonZeroU64::new(20_000_000).unwrap();
/// let profile = Profile::new(Shape::Hot, 7, NonZeroU32::new(4).unwrap(), rate, rate);
/// assert_eq!(profile.rates(Duration::ZERO), [5_000_000; 4]);
/// assert_eq!(profile.rates(Duration::from_secs(20)).iter().max(), Some(&8_000_000));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    shape: Shape,
    seed: u64,
    partitions: NonZeroU32,
    bytes_per_sec: NonZeroU64,
    consumer_bytes_per_sec: NonZeroU64,
    step: Duration,
}

/// A profile followed through time: the same rates, without beginning a walk anew for each.
#[derive(Clone, Debug)]
pub struct Course {
    profile: Profile,
    step: u64,
    levels: Vec<i64>,
    rates: Vec<u64>,
}

// === impl Shape ===

impl FromStr for Shape {
    type Err = UnknownShape;

    fn from_str(text: &str) -> Result<Self, UnknownShape> {
        match text {
            "walk" => Ok(Self::Walk),
            "steps" => Ok(Self::Steps),
            "hot" => Ok(Self::Hot),
            _ => Err(UnknownShape(text.to_owned())),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Walk => "walk",
            Self::Steps => "steps",
            Self::Hot => "hot",
        })
    }
}

// === impl Profile ===

impl Profile {
    /// A profile that writes `bytes_per_sec` to all partitions together, for consumers that read
    /// `consumer_bytes_per_sec` each. A walk steps each second, the others every 15 s.
    pub fn new(
        shape: Shape,
        seed: u64,
        partitions: NonZeroU32,
        bytes_per_sec: NonZeroU64,
        consumer_bytes_per_sec: NonZeroU64,
    ) -> Self {
        let step = Duration::from_secs(if shape == Shape::Walk { 1 } else { 15 });
        Self { shape, seed, partitions, bytes_per_sec, consumer_bytes_per_sec, step }
    }

    /// The same with steps of another length, of at least a millisecond.
    #[must_use]
    pub fn with_step(mut self, step: Duration) -> Self {
        self.step = step.max(Duration::from_millis(1));
        self
    }

    /// Number of partitions.
    pub fn partitions(&self) -> u32 {
        self.partitions.get()
    }

    /// The rate of each partition after so much time, in bytes per second.
    pub fn rates(&self, elapsed: Duration) -> Vec<u64> {
        self.course().at(elapsed).to_vec()
    }

    /// Follows the profile from its beginning.
    pub fn course(&self) -> Course {
        let start = |partition| i64::try_from(mix(self.seed, partition, 0) % 100_001).unwrap_or(0);
        let levels: Vec<_> = (0..u64::from(self.partitions.get())).map(start).collect();
        let rates = self.rates_in(0, &levels);
        Course { profile: self.clone(), step: 0, levels, rates }
    }

    fn step_at(&self, elapsed: Duration) -> u64 {
        u64::try_from(elapsed.as_nanos() / self.step.as_nanos()).unwrap_or(u64::MAX)
    }

    fn rates_in(&self, step: u64, levels: &[i64]) -> Vec<u64> {
        let total = self.bytes_per_sec.get();
        match self.shape {
            Shape::Walk => shared(total, levels.iter().map(|level| level.unsigned_abs()).collect()),
            Shape::Steps => {
                let at = usize::try_from(step % TOTALS.len() as u64).unwrap_or_default();
                let total = share(total, u128::from(TOTALS[at]), 1000);
                let weight = |partition| 500 + mix(self.seed, partition, 1) % 1001;
                shared(total, (0..u64::from(self.partitions.get())).map(weight).collect())
            }
            Shape::Hot => self.hot_rates(step),
        }
    }

    fn hot_rates(&self, step: u64) -> Vec<u64> {
        let partitions = u64::from(self.partitions.get());
        let total = self.bytes_per_sec.get();
        let even = shared(total, vec![1; even_count(partitions)]);
        let Some(others) = partitions.checked_sub(1).filter(|others| *others > 0) else {
            return even;
        };
        if step == 0 {
            return even;
        }
        let limit = share(self.consumer_bytes_per_sec.get(), HOT_LIMIT, 1000);
        let hot = share(total, HOT_SHARE, 1000).min(limit).max(total / partitions);
        let which = self.hot_partition(step);
        let rest = (total - hot) / others;
        (0..partitions).map(|partition| if partition == which { hot } else { rest }).collect()
    }

    /// Another partition in each step, in an order that the seed decides: a walk around the circle in strides that
    /// never come back at once.
    fn hot_partition(&self, step: u64) -> u64 {
        let partitions = u64::from(self.partitions.get());
        let stride = 1 + mix(self.seed, 0, 2) % (partitions - 1).max(1);
        let place = u128::from(mix(self.seed, 0, 3)) + u128::from(stride) * u128::from(step);
        u64::try_from(place % u128::from(partitions)).unwrap_or_default()
    }
}

// === impl Course ===

impl Course {
    /// The rate of each partition after so much time since the beginning, in bytes per second. Going back in time is
    /// possible, at the price of beginning anew.
    pub fn at(&mut self, elapsed: Duration) -> &[u64] {
        let step = self.profile.step_at(elapsed);
        if step < self.step {
            *self = self.profile.course();
        }
        if step > self.step {
            if self.profile.shape == Shape::Walk {
                (self.step..step).for_each(|step| self.walk(step));
            }
            self.step = step;
            self.rates = self.profile.rates_in(step, &self.levels);
        }
        &self.rates
    }

    fn walk(&mut self, step: u64) {
        let seed = self.profile.seed;
        for (partition, level) in (0..).zip(&mut self.levels) {
            let chance =
                mix(seed, partition, step.saturating_add(16)) % (2 * DELTA + 1).unsigned_abs();
            let change = i64::try_from(chance).unwrap_or(DELTA) - DELTA;
            *level = (*level + change).clamp(0, TOP_LEVEL);
        }
    }
}

/// Hashes three numbers to one whose bits all depend on all of theirs (the finish of `SplitMix64`, thrice).
pub(crate) fn mix(seed: u64, one: u64, other: u64) -> u64 {
    let finish = |bits| SplitMix64::new(bits).next();
    finish(finish(finish(seed) ^ one) ^ other)
}

/// Divides a total by weights; evenly when all of them are zero.
fn shared(total: u64, weights: Vec<u64>) -> Vec<u64> {
    let sum: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if sum == 0 {
        let count = weights.len().max(1) as u128;
        return weights.iter().map(|_| share(total, 1, count)).collect();
    }
    weights.into_iter().map(|weight| share(total, u128::from(weight), sum)).collect()
}

fn share(total: u64, weight: u128, sum: u128) -> u64 {
    u64::try_from(u128::from(total) * weight / sum).unwrap_or(u64::MAX)
}

fn even_count(partitions: u64) -> usize {
    usize::try_from(partitions).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOTAL: u64 = 20_000_000;

    fn profile(shape: Shape, seed: u64, partitions: u32) -> Profile {
        let total = NonZeroU64::new(TOTAL).unwrap();
        let consumer = NonZeroU64::new(5_000_000).unwrap();
        Profile::new(shape, seed, NonZeroU32::new(partitions).unwrap(), total, consumer)
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn shapes_have_names() {
        for shape in [Shape::Walk, Shape::Steps, Shape::Hot] {
            assert_eq!(shape.to_string().parse(), Ok(shape));
        }
        let error = "flat".parse::<Shape>().unwrap_err();
        assert_eq!(error.to_string(), "expected one of walk, steps, hot, found \"flat\"");
    }

    #[test]
    fn steps_go_up_and_down() {
        let profile = profile(Shape::Steps, 3, 64);
        let total = |seconds| profile.rates(at(seconds)).iter().sum::<u64>() / 1_000_000;
        assert_eq!([0, 14, 15, 30, 45, 60].map(total), [9, 9, 19, 4, 14, 9], "rounded down");
        let ratio = |seconds| {
            let rates = profile.rates(at(seconds));
            rates[5] * 1000 / rates[6]
        };
        assert!(ratio(0).abs_diff(ratio(15)) <= 1, "shares stay");
    }

    #[test]
    fn one_partition_is_hot_and_another_in_the_next_step() {
        let profile = profile(Shape::Hot, 3, 64);
        let hot = |seconds| {
            let rates = profile.rates(at(seconds));
            let hottest = (0..64).max_by_key(|partition| rates[*partition]).unwrap();
            (hottest, rates[hottest])
        };
        assert!(profile.rates(at(14)).iter().all(|rate| *rate == TOTAL / 64));
        assert_eq!(hot(15).1, 3_500_000, "0.7 of a consumer");
        assert_ne!(hot(15).0, hot(30).0);
        assert_ne!(hot(30).0, hot(45).0);
    }

    #[test]
    fn a_walk_moves_by_small_steps() {
        let profile = profile(Shape::Walk, 9, 64);
        let mut course = profile.course();
        for second in 0..100 {
            let before = course.levels.clone();
            course.at(at(second + 1));
            let steps = before.iter().zip(&course.levels).map(|(a, b)| (a - b).abs());
            assert!(steps.max().unwrap() <= DELTA);
        }
        assert!(course.levels.iter().all(|level| (0..=TOP_LEVEL).contains(level)));
    }

    fn shape() -> impl Strategy<Value = Shape> {
        prop_oneof![Just(Shape::Walk), Just(Shape::Steps), Just(Shape::Hot)]
    }

    proptest! {
        #[test]
        fn rates_depend_on_seed_and_time_only_and_stay_within_the_total(
            shape in shape(),
            seed: u64,
            partitions in 1_u32..100,
            times in proptest::collection::vec(0_u64..200, 1..6),
        ) {
            let profile = profile(shape, seed, partitions);
            let mut course = profile.course();
            for time in times {
                let rates = profile.rates(at(time));
                prop_assert_eq!(course.at(at(time)), &rates[..]);
                prop_assert_eq!(rates.len(), partitions as usize);
                let total: u64 = rates.iter().sum();
                prop_assert!(total <= TOTAL);
                if shape == Shape::Walk {
                    prop_assert!(total > TOTAL - u64::from(partitions));
                }
            }
        }
    }
}
