//! How long the packer takes, phase by phase, for groups of a given size: a first packing, and decisions as loads change.
//!
//! The clock is the caller's. With one that stands still this is a workload of fixed work, whose instructions can be counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidegate_core::pack::{self, Effort, Error, Item, Phase, Preset, Problem};

use super::statistics::percentile;
use super::stream::{REALISTIC_CAPACITY, Realistic, Stream, ids};

/// A group to decide for.
#[derive(Clone, Copy, Debug)]
pub struct GroupSize {
    /// Partitions.
    pub partitions: u32,
    /// So many of them fill a consumer on average.
    pub per_consumer: u32,
}

/// What is measured.
#[expect(missing_debug_implementations, reason = "it holds a clock")]
pub struct PlannerBench<'a> {
    /// Decisions after the first.
    pub decisions: u32,
    /// Of the loads and of the search.
    pub seed: u64,
    /// The time that the search may take, as it is turned into steps.
    pub budget: Duration,
    /// How the packer is tuned.
    pub preset: Preset,
    /// Time since any point.
    pub clock: &'a dyn Fn() -> Duration,
}

/// What was measured of one group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupTimes {
    /// Partitions.
    pub partitions: u32,
    /// So many of them fill a consumer on average.
    pub per_consumer: u32,
    /// Consumers in the end.
    pub consumers: usize,
    /// The share of its decisions' load that was moved, in permille, in the mean.
    pub moved_permille: u64,
    /// Each phase of the first packing, where no partition has a consumer, in milliseconds.
    pub first_ms: BTreeMap<&'static str, f64>,
    /// Each phase of one later decision, in milliseconds: the median of all.
    pub next_ms: BTreeMap<&'static str, f64>,
    /// Everything but the search.
    pub constructive_ms: Spread,
    /// The search.
    pub improve_ms: Spread,
}

/// A time over all decisions after the first.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The first packing.
    pub first: f64,
    /// The median of the later ones.
    pub p50: f64,
    /// The longest of the later ones.
    pub max: f64,
}

/// One decision's phases, in milliseconds.
type Times = BTreeMap<&'static str, f64>;

impl PlannerBench<'_> {
    /// Decides for a group as its loads change.
    pub fn run(&self, size: GroupSize) -> Result<GroupTimes, Error> {
        let GroupSize { partitions, per_consumer } = size;
        let iterations = self.decisions.saturating_add(1);
        let stream =
            Realistic { partitions, iterations, sigma: 1.0, per_consumer }.stream(self.seed);
        let mut problem = self.problem(&stream);
        let (mut times, mut consumers, mut moved) = (Vec::new(), 0, 0);
        for rates in stream.rows() {
            for (item, rate) in problem.items.values_mut().zip(rates) {
                item.weight = *rate;
            }
            let (solution, took) = self.decide(&problem)?;
            times.push(took);
            consumers = solution.consumers.len();
            let total = rates.iter().sum::<u64>().max(1);
            moved += solution.report.moved_load.saturating_mul(1000) / total;
            problem = problem.with_homes(&solution.assignment);
        }
        let first = times.remove(0);
        let phases = Phase::ALL.map(Phase::name);
        let median = |phase: &&'static str| percentile(&column(&times, |times| times[phase]), 0.5);
        Ok(GroupTimes {
            partitions,
            per_consumer,
            consumers,
            moved_permille: moved / u64::from(self.decisions.max(1)),
            next_ms: phases.iter().map(|phase| (*phase, median(phase))).collect(),
            constructive_ms: spread(&first, &times, constructive),
            improve_ms: spread(&first, &times, |times| times[Phase::Improve.name()]),
            first_ms: first,
        })
    }

    fn problem(&self, stream: &Stream) -> Problem {
        let ids = ids(stream.partitions().iter());
        let items = ids.into_iter().map(|id| (id, Item::default()));
        let mut problem = Problem::new(items.collect(), REALISTIC_CAPACITY);
        self.preset.apply(&mut problem, Effort::steps_in(self.budget), self.seed);
        problem
    }

    fn decide(&self, problem: &Problem) -> Result<(pack::Solution, Times), Error> {
        let mut times = Times::from(Phase::ALL.map(|phase| (phase.name(), 0.0)));
        let mut began = (self.clock)();
        let solution = pack::solve_observed(problem, &mut |phase| {
            let now = (self.clock)();
            let took = now.saturating_sub(began).as_secs_f64() * 1000.0;
            began = now;
            *times.entry(phase.name()).or_default() += took;
        })?;
        Ok((solution, times))
    }
}

fn constructive(times: &Times) -> f64 {
    times.values().sum::<f64>() - times[Phase::Improve.name()]
}

fn spread(first: &Times, next: &[Times], of: impl Fn(&Times) -> f64) -> Spread {
    let all = column(next, &of);
    Spread { first: of(first), p50: percentile(&all, 0.5), max: percentile(&all, 1.0) }
}

fn column(next: &[Times], of: impl Fn(&Times) -> f64) -> Vec<f64> {
    next.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn every_phase_is_timed_in_the_first_packing_and_in_later_ones() {
        let ticks = Cell::new(Duration::ZERO);
        let clock = || {
            ticks.set(ticks.get() + Duration::from_millis(1));
            ticks.get()
        };
        let bench = PlannerBench {
            decisions: 5,
            seed: 1,
            budget: Duration::from_millis(1),
            preset: Preset::Balanced,
            clock: &clock,
        };
        let times = bench.run(GroupSize { partitions: 100, per_consumer: 5 }).unwrap();
        assert!((20..40).contains(&times.consumers), "{times:?}");
        for phase in Phase::ALL {
            assert!(times.first_ms[phase.name()] >= 1.0, "{phase:?} {times:?}");
        }
        assert!(times.constructive_ms.first > times.improve_ms.first);
        assert!(times.constructive_ms.max >= times.constructive_ms.p50);
    }
}
