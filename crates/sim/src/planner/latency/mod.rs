//! What readers feel: how late data is read while a policy moves partitions around. The published model is for comparison with the
//! published figures, the fluid one for decisions about Tidegate.

mod figures;
pub(crate) mod fluid;
mod published;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use tidegate_core::pack;

use self::figures::{Late, Ramps};
pub use self::figures::{LatencyFigures, LatencySeconds};
pub use self::fluid::{Handoff, HandoffOrder};
use super::decider::Decider;
use super::policy::Policy;
use super::sizing::Sizing;
use super::statistics::{deviation, mean};
use super::stream::Stream;
use crate::number::{float, length};

/// How time passes between measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// As published: rates hold for an interval, and decisions know the rates of the interval that they are for.
    Published {
        /// What was moved is read so much later.
        migration: Duration,
    },
    /// Rates change steadily, decisions know the interval before, and backlogs are worked off.
    Fluid(Handoff),
}

/// What is run, and how.
#[derive(Clone, Debug)]
pub struct Experiment<'a> {
    /// Who decides.
    pub policies: &'a [Policy],
    /// The size of a consumer.
    pub sizing: Sizing,
    /// The time between two measurements; each is followed by a decision.
    pub interval: Duration,
    /// How time passes.
    pub model: Model,
    /// For random orders; each stream has its own.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// By name.
    pub policies: BTreeMap<String, PolicyFigures>,
    /// How many streams.
    pub streams: usize,
}

/// One policy's figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PolicyFigures {
    /// The mean over all streams.
    #[serde(flatten)]
    pub mean: LatencyFigures,
    /// The standard deviation between streams, if there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sd: Option<LatencyFigures>,
}

// === impl Experiment ===

impl Experiment<'_> {
    /// Runs every policy over every stream. `progress` is told how many of how many such runs are done.
    pub fn run(
        &self,
        streams: &[Stream],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Measured, pack::Error> {
        let (mut done, total) = (0, streams.len() * self.policies.len());
        let mut policies = BTreeMap::new();
        for policy in self.policies {
            let mut runs = Vec::new();
            for (seed, stream) in (self.seed..).zip(streams) {
                runs.push(self.run_one(*policy, stream, seed)?);
                done += 1;
                progress(done, total);
            }
            policies.insert(policy.to_string(), PolicyFigures::over(&runs));
        }
        Ok(Measured { policies, streams: streams.len() })
    }

    fn run_one(
        &self,
        policy: Policy,
        stream: &Stream,
        seed: u64,
    ) -> Result<LatencyFigures, pack::Error> {
        match self.model {
            Model::Published { migration } => {
                let decider = Decider::new(policy, self.sizing, stream.partitions(), seed);
                published::run(decider, stream, self.sizing, (self.interval, migration))
            }
            Model::Fluid(handoff) => {
                fluid::by_measurements(policy, stream, self.sizing, (self.interval, handoff, seed))
            }
        }
    }
}

// === impl PolicyFigures ===

impl PolicyFigures {
    /// The mean and the deviation of several runs.
    pub(crate) fn over(runs: &[LatencyFigures]) -> Self {
        let each = |of: fn(&[f64]) -> f64| {
            LatencyFigures::from_parts(std::array::from_fn(|part| {
                of(&runs.iter().map(|run| run.parts()[part]).collect::<Vec<_>>())
            }))
        };
        Self { mean: each(mean), sd: (runs.len() > 1).then(|| each(deviation)) }
    }
}

/// The mean number of consumers and the mean R of some decisions.
fn decided(consumers: &[usize], moved: &[u64], packing: u64) -> (f64, f64) {
    let consumers: Vec<_> = consumers.iter().map(|count| length(*count)).collect();
    let moved: Vec<_> = moved.iter().map(|load| float(*load) / float(packing)).collect();
    (mean(&consumers), mean(&moved))
}

#[cfg(test)]
mod tests {
    use super::super::stream::Walk;
    use super::*;

    fn run(policies: &str, model: Model, streams: &[Stream]) -> Measured {
        let experiment = Experiment {
            policies: &Policy::parse_list(policies).unwrap(),
            sizing: Sizing { packing: 100, overload: 120, capacity: 133 },
            interval: Duration::from_secs(30),
            model,
            seed: 1,
        };
        experiment.run(streams, &mut |_, _| {}).unwrap()
    }

    fn walk(seed: u64) -> Stream {
        Walk { partitions: 16, delta: 5, iterations: 12 }.stream(seed)
    }

    const PUBLISHED: Model = Model::Published { migration: Duration::from_secs(5) };

    #[test]
    fn several_streams_give_mean_and_deviation() {
        let one = run("mwf", PUBLISHED, &[walk(1)]).policies["mwf"];
        let both = run("mwf", PUBLISHED, &[walk(1), walk(2)]);
        assert!(one.sd.is_none() && both.streams == 2);
        assert!(both.policies["mwf"].sd.is_some_and(|sd| sd.r_score > 0.0));
    }

    #[test]
    fn figures_have_the_form_that_programs_read() {
        let measured = run("kafka-round-robin-5,tight", PUBLISHED, &[walk(1)]);
        let json = serde_json::to_value(measured).unwrap();
        for name in ["kafka-round-robin-5", "tight"] {
            let figures = &json["policies"][name];
            for key in ["consumers", "r_score", "late_share"] {
                assert!(figures[key].is_number(), "{json}");
            }
            for key in ["mean", "p50", "p90", "p99", "p999"] {
                assert!(figures["latency_s"][key].is_number(), "{json}");
            }
        }
    }

    #[test]
    fn enough_consumers_that_nothing_moves_between_are_never_late_in_either_model() {
        let fluid = Model::Fluid(Handoff::default());
        for model in [PUBLISHED, fluid] {
            let figures =
                run("kafka-round-robin-16", model, &[walk(1)]).policies["kafka-round-robin-16"]
                    .mean;
            assert!(figures.latency_s.p999 < 1e-9 && figures.late_share < 1e-9, "{figures:?}");
            assert!(
                (figures.consumers - 16.0).abs() < 1e-9 && figures.r_score < 1e-9,
                "{figures:?}"
            );
        }
    }
}
