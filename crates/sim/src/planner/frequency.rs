//! How often to decide: the same loads under the fluid model with decisions at the end of each period, and with those of the production
//! [`Demand`], which decides at once when something is wrong and gives consumers up when fewer have sufficed for a period.
//!
//! The default period and the triggers of the controller are chosen from what comes of this.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use serde::Serialize;
use tidegate_core::demand::{self, Demand, Fleet, Lag};
use tidegate_core::ids::{ConsumerNumber, Instant, PartitionId};
use tidegate_core::pack;
use tidegate_core::rates::LowPass;

use super::decider::Decider;
use super::latency::fluid::{FINE, Flow, Fluid, Meter, periodic};
use super::latency::{Handoff, LatencyFigures, PolicyFigures};
use super::policy::Policy;
use super::rates::reports;
use super::sizing::{Sizing, Tuning};
use super::stream::{Stream, ids};
use crate::number::{float, rounded};

/// What is run, and how.
#[derive(Clone, Debug)]
pub struct Frequencies<'a> {
    /// Who decides; only the production packer can do so on events.
    pub policies: &'a [Policy],
    /// The periods of decisions.
    pub periods: &'a [Duration],
    /// The size of a consumer.
    pub sizing: Sizing,
    /// The time between two measurements of the stream.
    pub interval: Duration,
    /// What a change of consumers costs.
    pub handoff: Handoff,
    /// For random orders; each stream has its own.
    pub seed: u64,
}

/// What came of it, in the order of policies and periods.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrequencyTable {
    /// Each policy with each period, without events and with them.
    pub rows: Vec<FrequencyRow>,
    /// How many streams.
    pub streams: usize,
}

/// One way to decide.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FrequencyRow {
    /// Who decides.
    pub policy: String,
    /// The period in seconds; with events the time for which fewer consumers must have sufficed.
    pub period_s: f64,
    /// Whether an overload or a partition without a consumer is a reason to decide at once.
    pub events: bool,
    /// What came of it.
    #[serde(flatten)]
    pub figures: PolicyFigures,
}

/// The monitor looks so often, as is its default.
const SAMPLE_MS: u64 = 3000;

/// The controller asks so often whether something is due, as is its default.
const TICK_MS: u64 = 1000;

/// The filter's time constant, as is its default.
const TIME_CONSTANT: Duration = Duration::from_secs(10);

// === impl Frequencies ===

impl Frequencies<'_> {
    /// Runs every policy with every period over every stream. `progress` is told how many of how many rows are done.
    pub fn run(
        &self,
        streams: &[Stream],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<FrequencyTable, pack::Error> {
        let ways = |policy: &Policy| -> &[bool] {
            if matches!(policy, Policy::Packer(_)) { &[false, true] } else { &[false] }
        };
        let total: usize = self.policies.iter().map(|policy| ways(policy).len()).sum();
        let total = total * self.periods.len();
        let mut rows = Vec::new();
        for policy in self.policies {
            for events in ways(policy) {
                for period in self.periods {
                    rows.push(self.row(*policy, *events, *period, streams)?);
                    progress(rows.len(), total);
                }
            }
        }
        Ok(FrequencyTable { rows, streams: streams.len() })
    }

    fn row(
        &self,
        policy: Policy,
        events: bool,
        period: Duration,
        streams: &[Stream],
    ) -> Result<FrequencyRow, pack::Error> {
        let mut runs = Vec::new();
        for (seed, stream) in (self.seed..).zip(streams) {
            let flow = Flow::new(stream, self.interval);
            runs.push(match policy {
                Policy::Packer(tuning) if events => {
                    Group::new(stream, self.settings(tuning, period)).run(flow, self)?
                }
                _ => {
                    let sizing = self.sizing.scaled(FINE);
                    let decider = Decider::new(policy, sizing, stream.partitions(), seed);
                    periodic(decider, flow, self.sizing, (period, self.handoff))?
                }
            });
        }
        let figures = PolicyFigures::over(&runs);
        Ok(FrequencyRow {
            policy: policy.to_string(),
            period_s: period.as_secs_f64(),
            events,
            figures,
        })
    }

    fn settings(&self, tuning: Tuning, period: Duration) -> demand::Settings {
        let sizing = self.sizing.scaled(FINE);
        let usual = demand::Settings::default();
        demand::Settings {
            capacity_bytes_per_sec: NonZeroU64::new(sizing.capacity).unwrap_or(NonZeroU64::MIN),
            limits: sizing.limits(),
            alpha_permille: tuning.price_permille(),
            effort: tuning.effort(),
            // No stream is to be bound by the maximum.
            max_consumers: u32::MAX,
            hold: period,
            ..usual
        }
    }
}

/// The production code for decisions, and what it has been told.
struct Group {
    demand: Demand,
    ids: Vec<PartitionId>,
    filters: Vec<LowPass>,
    meter: Meter,
}

// === impl Group ===

impl Group {
    fn new(stream: &Stream, settings: demand::Settings) -> Self {
        let ids = ids(stream.partitions().iter());
        let filters = ids.iter().map(|_| LowPass::new(TIME_CONSTANT)).collect();
        Self { demand: Demand::new(settings), ids, filters, meter: Meter::default() }
    }

    fn run(
        mut self,
        flow: Flow<'_>,
        setting: &Frequencies<'_>,
    ) -> Result<LatencyFigures, pack::Error> {
        self.sample(0, &flow.first());
        let (first, _) = self.decide(0, &Fleet::default())?.unwrap_or_default();
        let mut fluid = Fluid::new(setting.sizing, setting.handoff, &first);
        self.demand.settled(at(0));
        let (mut moved, mut was_busy) = (0.0, false);
        while fluid.now_ms() < flow.end_ms() {
            let now_ms = fluid.now_ms();
            if now_ms > 0 && now_ms.is_multiple_of(SAMPLE_MS) {
                let means = self.meter.take();
                self.sample(now_ms, &means);
            }
            if now_ms.is_multiple_of(TICK_MS) {
                if was_busy && !fluid.is_busy() {
                    self.demand.settled(at(now_ms));
                }
                self.hear(now_ms, &fluid);
                if let Some((next, load)) = self.decide(now_ms, &self.fleet(&fluid))? {
                    moved += load;
                    fluid.hand_over(&next);
                }
                was_busy = fluid.is_busy();
            }
            let rates = flow.rates(now_ms);
            self.meter.add(&rates);
            fluid.step(rates.into_iter());
        }
        let r_score = flow.r_score(moved, setting.sizing);
        Ok(LatencyFigures { r_score, ..fluid.finish() })
    }

    /// What the monitor reports: every partition's rate through its filter.
    fn sample(&mut self, now_ms: u64, rates: &[u64]) {
        let elapsed = Duration::from_millis(SAMPLE_MS);
        for (filter, rate) in self.filters.iter_mut().zip(rates) {
            filter.push(rate.saturating_mul(SAMPLE_MS) / 1000, elapsed);
        }
        let filtered = self.filters.iter().map(|filter| filter.rate().unwrap_or(0));
        let reports = reports(self.ids.iter().copied().zip(filtered));
        for (topic, report) in &reports {
            self.demand.report(at(now_ms), *topic, report);
        }
    }

    /// What heartbeats say of backlogs.
    fn hear(&mut self, now_ms: u64, fluid: &Fluid) {
        for (id, backlog) in self.ids.iter().zip(fluid.backlogs()) {
            let records = rounded(backlog * float(FINE));
            self.demand.lag(at(now_ms), *id, Lag { records, bytes_per_record: 1 });
        }
    }

    fn fleet(&self, fluid: &Fluid) -> Fleet {
        let assignment = self.ids.iter().copied().zip(fluid.targets().filter_map(number));
        Fleet {
            assignment: assignment.collect(),
            running: fluid.running().filter_map(number).collect(),
            returning: 0,
            evacuate: BTreeSet::new(),
            unavailable: BTreeSet::new(),
            pins: BTreeMap::new(),
            busy: fluid.is_busy(),
        }
    }

    /// Where every partition is to be, and the load that moves for it, if something is due and moves anything.
    fn decide(
        &mut self,
        now_ms: u64,
        fleet: &Fleet,
    ) -> Result<Option<(Vec<u32>, f64)>, pack::Error> {
        let now = at(now_ms);
        let Some(trigger) = self.demand.due(now, fleet) else { return Ok(None) };
        let solution = pack::solve(&self.demand.problem(now, fleet, trigger))?;
        self.demand.decided(now, !solution.moves.is_empty());
        if solution.moves.is_empty() {
            return Ok(None);
        }
        let place =
            |id: &PartitionId| solution.assignment.get(id).map(|consumer| consumer.get() - 1);
        let next = self.ids.iter().map(|id| place(id).expect("nothing waits without a maximum"));
        Ok(Some((next.collect(), float(solution.report.moved_load))))
    }
}

/// The model counts consumers from 0, the group from 1.
fn number(consumer: u32) -> Option<ConsumerNumber> {
    ConsumerNumber::new(consumer.saturating_add(1))
}

fn at(now_ms: u64) -> Instant {
    Instant::since_boot(Duration::from_millis(now_ms))
}

#[cfg(test)]
mod tests {
    use super::super::stream::Walk;
    use super::*;

    fn table(policies: &str, periods: &[u64], stream: Stream) -> FrequencyTable {
        let periods: Vec<_> = periods.iter().map(|period| Duration::from_secs(*period)).collect();
        let frequencies = Frequencies {
            policies: &Policy::parse_list(policies).unwrap(),
            periods: &periods,
            sizing: Sizing { packing: 100, overload: 120, capacity: 133 },
            interval: Duration::from_secs(30),
            handoff: Handoff::default(),
            seed: 1,
        };
        frequencies.run(&[stream], &mut |_, _| {}).unwrap()
    }

    #[test]
    fn rates_that_stand_still_move_nothing_however_often_one_decides() {
        let table =
            table("balanced", &[1, 30], Walk { partitions: 8, delta: 0, iterations: 6 }.stream(1));
        assert_eq!(table.rows.len(), 4);
        for row in &table.rows {
            assert!(row.figures.mean.r_score < 1e-9, "{row:?}");
            assert!(row.figures.mean.latency_s.p999 < 1e-9, "{row:?}");
        }
    }

    #[test]
    fn events_only_come_with_the_production_packer() {
        let table =
            table("mwf,calm", &[30], Walk { partitions: 8, delta: 5, iterations: 3 }.stream(1));
        let ways: Vec<_> = table.rows.iter().map(|row| (row.policy.as_str(), row.events)).collect();
        assert_eq!(ways, [("mwf", false), ("calm", false), ("calm", true)]);
    }

    #[test]
    fn an_overload_is_cured_at_once_and_not_at_the_end_of_a_long_period() {
        // Two partitions that share a consumer rise together above its capacity, and stay there.
        let rows = "40,40\n".to_owned() + &"90,90\n".repeat(9);
        let stream = Stream::from_csv(&format!("a:0,a:1\n{rows}")).unwrap();
        let table = table("balanced", &[120], stream);
        let late: Vec<_> = table.rows.iter().map(|row| row.figures.mean.late_share).collect();
        let [on_time, on_event] = late[..] else { panic!("{late:?}") };
        assert!(on_event < on_time / 2.0 && on_event > 0.0, "{late:?}");
    }

    #[test]
    fn consumers_are_given_up_once_the_load_has_fallen_for_the_period() {
        let rows = "90,90\n".to_owned() + &"20,20\n".repeat(12);
        let stream = Stream::from_csv(&format!("a:0,a:1\n{rows}")).unwrap();
        let table = table("balanced", &[30, 120], stream);
        let events: Vec<_> = table.rows.iter().filter(|row| row.events).collect();
        let consumers: Vec<_> = events.iter().map(|row| row.figures.mean.consumers).collect();
        assert!(
            1.0 < consumers[0] && consumers[0] < consumers[1] && consumers[1] < 2.0,
            "{consumers:?}"
        );
    }
}
