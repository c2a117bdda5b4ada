//! Random numbers that depend on the seed and on nothing else.

use std::time::Duration;

use tidegate_core::random::SplitMix64;

use crate::number;

/// The kinds of random numbers that simulations need.
#[derive(Clone, Debug)]
pub(crate) struct Rng(SplitMix64);

impl Rng {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// A number below `limit`; 0 when that is 0. The bias of the remainder is far below what a simulation could show.
    pub(crate) const fn below(&mut self, limit: u64) -> u64 {
        let number = self.next();
        if limit == 0 { 0 } else { number % limit }
    }

    /// True so many times in a thousand.
    pub(crate) const fn chance(&mut self, permille: u32) -> bool {
        self.below(1000) < permille as u64
    }

    /// A time of at least `low` and less than `high`, to the microsecond.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = u64::try_from(high.saturating_sub(low).as_micros()).unwrap_or(u64::MAX);
        low + Duration::from_micros(self.below(span))
    }

    /// One of these, if there is any.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let index = usize::try_from(self.below(choices.len() as u64)).ok()?;
        choices.get(index)
    }

    /// A number of at least 0 and less than 1.
    pub(crate) fn unit(&mut self) -> f64 {
        number::float(self.next() >> 11) / number::float(1 << 53)
    }

    /// A number of the standard normal distribution, by Box and Muller; the second one that they offer is not used.
    pub(crate) fn normal(&mut self) -> f64 {
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - self.unit()));
        radius * libm::cos(std::f64::consts::TAU * self.unit())
    }

    /// Brings a list into a random order, each as likely as any other.
    pub(crate) fn shuffle<T>(&mut self, list: &mut [T]) {
        for end in (1..list.len()).rev() {
            let chosen = self.below(end as u64 + 1);
            list.swap(end, usize::try_from(chosen).unwrap_or(end));
        }
    }

    /// 128 random bits, for ids.
    pub(crate) fn wide(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        let mut rng = Rng::new(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| rng.next()).collect();
        let published =
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert_eq!(numbers, published);
    }

    #[test]
    fn normal_numbers_have_the_mean_and_the_spread_that_they_should() {
        let mut rng = Rng::new(1);
        let numbers: Vec<f64> = (0..10_000).map(|_| rng.normal()).collect();
        let mean = numbers.iter().sum::<f64>() / 10_000.0;
        let variance = numbers.iter().map(|number| number * number).sum::<f64>() / 10_000.0;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn a_shuffled_list_keeps_what_is_in_it() {
        let mut list: Vec<u32> = (0..100).collect();
        Rng::new(3).shuffle(&mut list);
        assert_ne!(list, (0..100).collect::<Vec<_>>());
        list.sort_unstable();
        assert_eq!(list, (0..100).collect::<Vec<_>>());
    }
}
