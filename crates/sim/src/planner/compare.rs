//! Policies side by side in a closed loop over the same streams: consumers, migration cost, and the excess over the best of the twelve.
//! The twelve always run, also when nobody asks for them, as the excess is counted against the best of them in each iteration.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidegate_core::pack::reference::Algorithm;
use tidegate_core::pack::{self, LowerBound};

use super::decider::Decider;
use super::policy::Policy;
use super::sizing::Sizing;
use super::statistics::{deviation, mean, percentile};
use super::stream::Stream;
use crate::number::{float, length};

/// What is compared, and how.
pub struct Comparison<'a> {
    /// Those that are shown.
    pub policies: &'a [Policy],
    /// The size of a consumer.
    pub sizing: Sizing,
    /// For random orders; each stream has its own.
    pub seed: u64,
    /// Tells the time, so that decisions can be timed.
    pub clock: &'a dyn Fn() -> Duration,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// By name.
    pub policies: BTreeMap<String, PolicyScores>,
    /// Measurements of a stream, of the longest one where they differ.
    pub iterations: usize,
    /// How many streams.
    pub streams: usize,
    /// A proven least number of consumers, in the mean over all measurements.
    pub lower_bound: f64,
}

/// One policy's figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PolicyScores {
    /// The mean over all iterations, and over all streams.
    #[serde(flatten)]
    pub mean: Scores,
    /// How long a decision took.
    pub solve_ms: SolveMs,
    /// The standard deviation between streams, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sd: Option<Scores>,
}

/// The figures of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Scores {
    /// Consumers.
    pub consumers: f64,
    /// The relative excess of consumers over the best of the twelve.
    pub cbs: f64,
    /// The load that moved, in loads of a full consumer.
    pub r_score: f64,
}

/// Milliseconds of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SolveMs {
    /// The median.
    pub p50: f64,
    /// The longest.
    pub max: f64,
}

/// One policy over one stream.
struct Runner {
    decider: Decider,
    consumers: Vec<f64>,
    excess: Vec<f64>,
    moved: Vec<f64>,
    took_ms: Vec<f64>,
}

/// What is known of a policy after some streams.
#[derive(Default)]
struct Record {
    scores: Vec<Scores>,
    took_ms: Vec<f64>,
}

impl std::fmt::Debug for Comparison<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { policies, sizing, seed, .. } = self;
        write!(f, "Comparison({policies:?}, {sizing:?}, {seed})")
    }
}

// === impl Comparison ===

impl Comparison<'_> {
    /// Runs every policy over every stream. `progress` is told how many of how many measurements are done.
    pub fn run(
        &self,
        streams: &[Stream],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Compared, pack::Error> {
        let total = streams.iter().map(|stream| stream.rows().len()).sum();
        let mut done = 0;
        let mut records: Vec<Record> = self.policies.iter().map(|_| Record::default()).collect();
        for (seed, stream) in (self.seed..).zip(streams) {
            let shown = self.run_stream(stream, seed, &mut |rows| progress(done + rows, total))?;
            for (record, runner) in records.iter_mut().zip(shown) {
                record.scores.push(runner.scores());
                record.took_ms.extend(runner.took_ms);
            }
            done += stream.rows().len();
        }
        let bounds = streams.iter().flat_map(Stream::rows).map(|row| self.bound(row));
        let lower_bound = mean(&bounds.collect::<Vec<_>>());
        let names = self.policies.iter().map(ToString::to_string);
        Ok(Compared {
            policies: names.zip(records.iter().map(Record::scores)).collect(),
            iterations: streams.iter().map(|stream| stream.rows().len()).max().unwrap_or(0),
            streams: streams.len(),
            lower_bound,
        })
    }

    fn bound(&self, row: &[u64]) -> f64 {
        let bound = LowerBound::of_weights(row.iter().copied(), self.sizing.packing);
        f64::from(bound.consumers())
    }

    /// Those that are shown, after a stream.
    fn run_stream(
        &self,
        stream: &Stream,
        seed: u64,
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Runner>, pack::Error> {
        let start =
            |policy| Runner::new(Decider::new(policy, self.sizing, stream.partitions(), seed));
        let mut twelve: Vec<_> = Algorithm::ALL
            .into_iter()
            .map(|known| (known, start(Policy::Reference(known))))
            .collect();
        // Whoever is one of the twelve runs once.
        let is_other = |policy: &&Policy| !matches!(policy, Policy::Reference(_));
        let others = self.policies.iter().filter(is_other);
        let mut others: Vec<_> = others.map(|policy| (*policy, start(*policy))).collect();
        for (index, row) in stream.rows().iter().enumerate() {
            let mut fewest = f64::INFINITY;
            for (_, runner) in &mut twelve {
                fewest = fewest.min(runner.step(row, self.sizing, self.clock)?);
            }
            for (_, runner) in &mut others {
                runner.step(row, self.sizing, self.clock)?;
            }
            let all = twelve.iter_mut().map(|(_, runner)| runner);
            for runner in all.chain(others.iter_mut().map(|(_, runner)| runner)) {
                runner.compare(fewest);
            }
            progress(index + 1);
        }
        let mut found: Vec<(Policy, Runner)> =
            twelve.into_iter().map(|(known, runner)| (Policy::Reference(known), runner)).collect();
        found.extend(others);
        let place = |policy: &Policy| self.policies.iter().position(|shown| shown == policy);
        found.retain(|(policy, _)| place(policy).is_some());
        found.sort_by_key(|(policy, _)| place(policy));
        Ok(found.into_iter().map(|(_, runner)| runner).collect())
    }
}

// === impl Runner ===

impl Runner {
    const fn new(decider: Decider) -> Self {
        Self {
            decider,
            consumers: Vec::new(),
            excess: Vec::new(),
            moved: Vec::new(),
            took_ms: Vec::new(),
        }
    }

    /// Decides once; gives the number of consumers.
    fn step(
        &mut self,
        row: &[u64],
        sizing: Sizing,
        clock: &dyn Fn() -> Duration,
    ) -> Result<f64, pack::Error> {
        let began = clock();
        let decision = self.decider.decide(row)?;
        self.took_ms.push(clock().saturating_sub(began).as_secs_f64() * 1000.0);
        let consumers = length(decision.consumers);
        self.consumers.push(consumers);
        self.moved.push(float(decision.moved_load) / float(sizing.packing));
        Ok(consumers)
    }

    /// Notes the excess of the last step over the best of the twelve.
    fn compare(&mut self, fewest: f64) {
        let own = self.consumers.last().copied().unwrap_or(fewest);
        self.excess.push(if fewest > 0.0 { (own - fewest) / fewest } else { 0.0 });
    }

    fn scores(&self) -> Scores {
        Scores {
            consumers: mean(&self.consumers),
            cbs: mean(&self.excess),
            r_score: mean(&self.moved),
        }
    }
}

// === impl Record ===

impl Record {
    fn scores(&self) -> PolicyScores {
        PolicyScores {
            mean: self.each(mean),
            solve_ms: SolveMs {
                p50: percentile(&self.took_ms, 0.5),
                max: percentile(&self.took_ms, 1.0),
            },
            sd: (self.scores.len() > 1).then(|| self.each(deviation)),
        }
    }

    fn each(&self, of: fn(&[f64]) -> f64) -> Scores {
        let over = |part: fn(&Scores) -> f64| of(&self.scores.iter().map(part).collect::<Vec<_>>());
        Scores {
            consumers: over(|scores| scores.consumers),
            cbs: over(|scores| scores.cbs),
            r_score: over(|scores| scores.r_score),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::stream::Walk;
    use super::*;

    fn compare(policies: &str, streams: &[Stream]) -> Compared {
        let policies = Policy::parse_list(policies).unwrap();
        let ticks = Cell::new(0);
        let clock = || {
            ticks.set(ticks.get() + 1);
            Duration::from_millis(ticks.get())
        };
        Comparison { policies: &policies, sizing: Sizing::full(100), seed: 1, clock: &clock }
            .run(streams, &mut |_, _| {})
            .unwrap()
    }

    fn walk(delta: u32, seed: u64) -> Stream {
        Walk { partitions: 40, delta, iterations: 50 }.stream(seed)
    }

    #[test]
    fn sorted_fits_do_not_move_anything_while_loads_stand_still() {
        let compared = compare("bfd,ffd,calm,tight,nf", &[walk(0, 1)]);
        for name in ["bfd", "ffd", "calm", "tight"] {
            assert!(compared.policies[name].mean.r_score < 1e-9, "{name}");
        }
        assert!(compared.policies["nf"].mean.r_score > 5.0, "its order is shuffled each time");
        assert!(compared.policies["nf"].mean.cbs > 0.1);
    }

    #[test]
    fn the_excess_is_counted_against_the_twelve_whoever_is_shown() {
        let streams = [walk(10, 1)];
        let alone = compare("mwf", &streams).policies["mwf"].mean;
        let among = compare("bfd,tight,mwf", &streams).policies["mwf"].mean;
        assert_eq!(alone, among);
        assert!(alone.cbs > 0.0);
    }

    #[test]
    fn several_streams_give_mean_and_deviation() {
        let (one, two) = (walk(10, 1), walk(10, 2));
        let both = compare("bfd", &[one.clone(), two.clone()]);
        let first = compare("bfd", &[one]).policies["bfd"];
        let second = Comparison {
            policies: &Policy::parse_list("bfd").unwrap(),
            sizing: Sizing::full(100),
            seed: 2,
            clock: &|| Duration::ZERO,
        };
        let second = second.run(&[two], &mut |_, _| {}).unwrap().policies["bfd"];
        assert!(first.sd.is_none() && both.streams == 2 && both.iterations == 50);
        let mean = f64::midpoint(first.mean.r_score, second.mean.r_score);
        assert!((both.policies["bfd"].mean.r_score - mean).abs() < 1e-9);
        assert!(both.policies["bfd"].sd.is_some_and(|sd| sd.r_score > 0.0));
    }

    #[test]
    fn decisions_are_timed_and_progress_is_told() {
        let scores = compare("bfd", &[walk(5, 1)]).policies["bfd"];
        assert!(
            (scores.solve_ms.p50 - 1.0).abs() < 1e-9 && (scores.solve_ms.max - 1.0).abs() < 1e-9
        );
        let mut told = Vec::new();
        let comparison = Comparison {
            policies: &Policy::parse_list("bfd").unwrap(),
            sizing: Sizing::full(100),
            seed: 1,
            clock: &|| Duration::ZERO,
        };
        let streams = [walk(5, 1), walk(5, 2)];
        comparison.run(&streams, &mut |done, total| told.push((done, total))).unwrap();
        assert_eq!((told[0], told[99], told.len()), ((1, 100), (100, 100), 100));
    }

    #[test]
    fn figures_have_the_form_that_programs_read() {
        let json = serde_json::to_value(compare("kafka-range-3", &[walk(5, 1)])).unwrap();
        let scores = &json["policies"]["kafka-range-3"];
        assert_eq!(json["iterations"], 50);
        assert!((scores["consumers"].as_f64().unwrap() - 3.0).abs() < 1e-9);
        for key in ["cbs", "r_score"] {
            assert!(scores[key].is_number(), "{json}");
        }
        assert!(scores["solve_ms"]["p50"].is_number() && scores["solve_ms"]["max"].is_number());
        assert!(scores.get("sd").is_none());
    }
}
