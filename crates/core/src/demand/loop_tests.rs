//! Demand and packer in a closed loop, second by second: what was decided is where the next decision begins.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a panic, and that is what it should be"
)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

use proptest::prelude::*;

use super::tests::measurement;
use super::*;
use crate::ids::ConsumerNumber;
use crate::pack::{LowerBound, Preset, check, solve};

const CAPACITY: u64 = 1000;
const HOLD_SECS: u64 = 30;

/// A group whose plans are carried out at once.
struct Group {
    now: u64,
    demand: Demand,
    fleet: Fleet,
    rates: Vec<u64>,
    /// Every partition that has moved, with the consumer that it left: decision after decision.
    left: Vec<BTreeMap<PartitionId, ConsumerNumber>>,
}

impl Group {
    fn new(preset: Preset, rates: Vec<u64>) -> Self {
        let settings = Settings {
            capacity_bytes_per_sec: NonZeroU64::new(CAPACITY).expect("it is not zero"),
            alpha_permille: preset.alpha_permille(),
            effort: preset.effort(20_000, 1),
            hold: Duration::from_secs(HOLD_SECS),
            ..Settings::default()
        };
        let mut group = Self {
            now: 1000,
            demand: Demand::new(settings),
            fleet: Fleet::default(),
            rates,
            left: Vec::new(),
        };
        group.live(3);
        group
    }

    /// Lets seconds pass in which the monitor reports these rates.
    fn live(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            let now = Instant::since_boot(Duration::from_secs(self.now));
            let rates = (0..).zip(&self.rates).map(|(number, rate)| (number, measurement(*rate)));
            let report =
                TopicReport { full: true, rates: rates.collect(), missing: BTreeSet::new() };
            self.demand.report(now, TopicId::default(), &report);
            if let Some(trigger) = self.demand.due(now, &self.fleet) {
                self.decide(now, trigger);
            }
        }
    }

    fn decide(&mut self, now: Instant, trigger: Trigger) {
        let problem = self.demand.problem(now, &self.fleet, trigger);
        let solution = solve(&problem).expect("the problem is valid");
        assert_eq!(check(&problem, &solution.assignment), []);
        self.demand.decided(now, !solution.moves.is_empty());
        if !solution.moves.is_empty() {
            let moves = solution.moves.iter();
            self.left
                .push(moves.filter_map(|moved| Some((moved.partition, moved.from?))).collect());
        }
        self.fleet.assignment = solution.assignment;
        self.fleet.running = solution.consumers;
    }

    /// Lets the load swing faster than the hold once it has settled, and nothing may come of it.
    fn swing_in_place(
        mut self,
        mut rates: impl FnMut(&Self, u64) -> Vec<u64>,
    ) -> Result<(), TestCaseError> {
        self.live(4 * HOLD_SECS);
        let before = self.consumers();
        self.left.clear();
        for swing in 0..10 {
            self.rates = rates(&self, swing);
            self.live(HOLD_SECS - 10);
        }
        prop_assert_eq!(self.consumers(), before);
        prop_assert_eq!(self.left.len(), 0);
        Ok(())
    }

    fn consumers(&self) -> u32 {
        u32::try_from(self.fleet.running.len()).expect("there are few")
    }

    /// So few consumers could hold everything.
    fn bound(&self) -> u32 {
        let limit = CAPACITY / 1000 * u64::from(self.demand.settings().limits.packing_permille);
        LowerBound::of_weights(self.rates.iter().copied(), limit).consumers()
    }
}

fn preset() -> impl Strategy<Value = Preset> {
    prop::sample::select(Preset::ALL.to_vec())
}

/// How partitions change from one minute to the next.
fn walk() -> impl Strategy<Value = Vec<Vec<i64>>> {
    prop::collection::vec(prop::collection::vec(-150_i64..=150, 30), 1..15)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn once_the_load_is_constant_nothing_comes_back_and_moves_end(
        preset in preset(),
        rates in prop::collection::vec(0_u64..600, 1..30),
        steps in walk(),
    ) {
        let mut group = Group::new(preset, rates);
        for step in steps {
            for (rate, change) in group.rates.iter_mut().zip(step) {
                *rate = rate.saturating_add_signed(change).min(900);
            }
            group.live(20);
        }
        group.left.clear();
        group.live(6 * HOLD_SECS);
        for (index, moves) in group.left.iter().enumerate() {
            for (partition, home) in moves {
                let later = group.left.iter().skip(index + 1);
                let comes_back = later.filter_map(|later| later.get(partition)).count() > 0
                    && group.fleet.assignment.get(partition) == Some(home);
                prop_assert!(!comes_back, "{partition:?} is back on {home:?}: {:?}", group.left);
            }
        }
        let settled = group.left.len();
        group.live(10 * HOLD_SECS);
        prop_assert_eq!(group.left.len(), settled, "constant load moves nothing");
    }

    #[test]
    fn a_load_that_falls_by_half_and_stays_needs_fewer_consumers(
        preset in preset(),
        rates in prop::collection::vec(50_u64..500, 20..60),
    ) {
        let mut group = Group::new(preset, rates);
        let before = group.consumers();
        for rate in &mut group.rates {
            *rate /= 2;
        }
        group.live(HOLD_SECS - 5);
        prop_assert_eq!(group.consumers(), before, "a dip is outlived");
        group.live(3 * HOLD_SECS);
        let (after, bound) = (group.consumers(), group.bound());
        prop_assert!(after < before, "{after} of {before}");
        // No packing in which no two fit together needs more.
        prop_assert!(after <= 2 * bound, "{after} where {bound} would do");
        prop_assert!(preset != Preset::Tight || after <= bound + 1, "{after} where {bound} would do");
    }

    #[test]
    fn swings_that_cancel_each_other_move_nothing(
        preset in preset(),
        rates in prop::collection::vec(100_u64..300, 4..20),
    ) {
        Group::new(preset, rates.clone()).swing_in_place(|group, swing| {
            // On every consumer some rise and some fall: their peaks add up to more than it ever has.
            let mut turns: BTreeMap<ConsumerNumber, u64> = BTreeMap::new();
            let low = |(number, rate): (u32, &u64)| {
                let at = PartitionId { topic: TopicId::default(), number };
                let turn = turns.entry(group.fleet.assignment[&at]).or_default();
                let is_high = (swing + *turn).is_multiple_of(2);
                *turn += 1;
                if is_high { *rate } else { *rate / 2 }
            };
            (0..).zip(&rates).map(low).collect()
        })?;
    }

    #[test]
    fn a_load_that_swings_faster_than_the_hold_never_scales_in(
        preset in preset(),
        rates in prop::collection::vec(50_u64..400, 20..40),
    ) {
        Group::new(preset, rates.clone()).swing_in_place(|_, swing| {
            let factor = if swing % 2 == 0 { 2 } else { 1 };
            rates.iter().map(|rate| rate / factor).collect()
        })?;
    }
}
