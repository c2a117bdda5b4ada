//! Weights, and the reasons to decide.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a panic, and that is what it should be"
)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::time::Duration;

use super::*;
use crate::ids::{ConsumerNumber, Position};
use crate::pack::solve;
use crate::rates::{Measurement, Sample, Source};

fn at(seconds: u64) -> Instant {
    Instant::since_boot(Duration::from_secs(seconds))
}

fn topic() -> TopicId {
    TopicId([1; 16])
}

fn partition(number: u32) -> PartitionId {
    PartitionId { topic: topic(), number }
}

fn consumer(number: u32) -> ConsumerNumber {
    ConsumerNumber::new(number).expect("test consumers count from 1")
}

pub(super) fn measurement(rate: u64) -> Measurement {
    let zero = Position(0);
    Measurement {
        sample: Sample { high_watermark: zero, log_start: zero, size: None, leader: 0 },
        window: Duration::from_secs(30),
        write_rate: rate,
        filtered_rate: rate,
        records_per_sec: rate / 100,
        bytes_per_record: Some(100),
        staleness: Duration::ZERO,
        source: Source::LogSize,
    }
}

/// A demand on consumers of 100, and a fleet, both at one moment.
struct World {
    now: u64,
    demand: Demand,
    fleet: Fleet,
}

impl World {
    /// Partitions 0, 1, ... with these rates and owners (0 for none).
    fn new(partitions: &[(u64, u32)]) -> Self {
        let settings = Settings {
            capacity_bytes_per_sec: NonZeroU64::new(100).expect("100 is not zero"),
            ..Settings::default()
        };
        let mut fleet = Fleet::default();
        for (number, (_, owner)) in (0..).zip(partitions) {
            if let Some(owner) = ConsumerNumber::new(*owner) {
                fleet.assignment.insert(partition(number), owner);
                fleet.running.insert(owner);
            }
        }
        let mut world = Self { now: 1000, demand: Demand::new(settings), fleet };
        let rates: Vec<_> = partitions.iter().map(|(rate, _)| *rate).collect();
        world.rates(&rates);
        world
    }

    fn rates(&mut self, rates: &[u64]) {
        let rates = (0..).zip(rates).map(|(number, rate)| (number, measurement(*rate))).collect();
        let report = TopicReport { full: true, rates, missing: BTreeSet::new() };
        self.demand.report(at(self.now), topic(), &report);
    }

    fn missing(&mut self, numbers: &[u32]) {
        let missing = numbers.iter().copied().collect();
        let report = TopicReport { full: false, rates: BTreeMap::new(), missing };
        self.demand.report(at(self.now), topic(), &report);
    }

    fn lag(&mut self, number: u32, records: u64) {
        let lag = Lag { records, bytes_per_record: 100 };
        self.demand.lag(at(self.now), partition(number), lag);
    }

    /// Lets seconds pass in which nothing changes; stops when something is due.
    fn wait(&mut self, seconds: u64) -> Option<Trigger> {
        for _ in 0..seconds {
            self.now += 1;
            self.missing(&[]);
            let due = self.due();
            if due.is_some() {
                return due;
            }
        }
        None
    }

    fn due(&mut self) -> Option<Trigger> {
        self.demand.due(at(self.now), &self.fleet)
    }

    fn weights(&self) -> Weights {
        self.demand.weights(at(self.now))
    }

    /// Decides for the reason that is due, and carries it out at once.
    fn decide(&mut self) -> Trigger {
        let trigger = self.due().expect("something is due");
        let problem = self.demand.problem(at(self.now), &self.fleet, trigger);
        let solution = solve(&problem).expect("the problem is valid");
        self.demand.decided(at(self.now), !solution.moves.is_empty());
        self.fleet.assignment = solution.assignment;
        self.fleet.running = solution.consumers;
        trigger
    }
}

#[test]
fn the_load_is_looked_at_once_a_period_and_a_new_partition_at_once() {
    let mut world = World::new(&[(40, 1), (40, 1)]);
    let settings =
        Settings { decision_period: Duration::from_secs(60), ..world.demand.settings().clone() };
    world.demand = Demand::new(settings);
    world.rates(&[40, 40]);
    assert_eq!(world.due(), None, "the first look");
    world.now += 59;
    world.rates(&[60, 60]);
    assert_eq!(world.due(), None, "it is seen at the next look");
    world.rates(&[60, 60, 10]);
    let unassigned = Trigger::UnassignedPartition { partition: partition(2) };
    assert_eq!(world.due(), Some(unassigned), "that is seen at once");
    world.fleet.assignment.insert(partition(2), consumer(2));
    world.now += 1;
    let overload = Trigger::Overload { consumer: consumer(1), load: 120, limit: 95 };
    assert_eq!(world.due(), Some(overload));
    assert_eq!(world.due(), Some(overload), "as long as nothing was done about it");
}

#[test]
fn a_weight_is_the_filtered_rate_plus_the_backlog_over_the_drain_target() {
    let mut world = World::new(&[(60, 1), (60, 2), (0, 2)]);
    world.lag(0, 6);
    world.lag(1, 12);
    world.lag(2, 24);
    let weights = world.weights();
    assert_eq!(weights.by_partition[&partition(0)], 60, "600 bytes are no more than 10 s");
    assert_eq!(weights.by_partition[&partition(1)], 60 + 10);
    assert_eq!(weights.by_partition[&partition(2)], 20, "an idle partition can be behind too");
    assert_eq!((weights.behind, weights.allow_scale_in()), (true, false));
    assert_eq!(weights.total(), 150);
}

#[test]
fn a_missing_rate_is_held_and_freezes_scale_in() {
    let mut world = World::new(&[(60, 1), (10, 1)]);
    assert!(world.weights().allow_scale_in());
    world.missing(&[1]);
    assert_eq!(world.weights().by_partition[&partition(1)], 10);
    assert!(!world.weights().allow_scale_in());
    world.rates(&[60, 0]);
    assert_eq!(world.weights().by_partition[&partition(1)], 0);
    assert!(world.weights().allow_scale_in());
}

#[test]
fn rates_are_stale_when_the_monitor_is_silent() {
    let mut world = World::new(&[(60, 1)]);
    world.now += 10;
    assert!(!world.weights().stale);
    world.now += 1;
    assert!(world.weights().stale);
    assert_eq!(world.weights().by_partition[&partition(0)], 60);
}

#[test]
fn a_full_report_forgets_what_it_does_not_list() {
    let mut world = World::new(&[(60, 1), (10, 1)]);
    world.rates(&[60]);
    assert_eq!(world.demand.table().iter().count(), 1);
    world.demand.forget(topic());
    assert_eq!(world.weights(), Weights::default());
}

#[test]
fn a_new_partition_waits_for_its_first_measurement_but_not_for_ever() {
    let mut world = World::new(&[(60, 1)]);
    world.missing(&[1]);
    assert_eq!(world.due(), None);
    let due = world.wait(11);
    assert_eq!(due, Some(Trigger::UnassignedPartition { partition: partition(1) }));
    assert_eq!(world.now, 1010);
    assert_eq!(world.weights().by_partition[&partition(1)], 0);
}

#[test]
fn an_unassigned_partition_is_due_at_once() {
    let mut world = World::new(&[(60, 1), (10, 0)]);
    let unassigned = Trigger::UnassignedPartition { partition: partition(1) };
    assert_eq!(world.decide(), unassigned);
    assert_eq!(world.fleet.assignment[&partition(1)], consumer(1));
    assert_eq!(world.due(), None);
}

#[test]
fn an_overload_is_due_at_once_and_cured_in_one_jump() {
    let mut world = World::new(&[(60, 1), (60, 1), (60, 1), (60, 1)]);
    let overload = Trigger::Overload { consumer: consumer(1), load: 240, limit: 95 };
    assert_eq!(world.decide(), overload);
    assert_eq!(world.fleet.running.len(), 4);
    assert_eq!(world.wait(1000), None, "and then there is peace");
}

#[test]
fn after_an_action_the_next_overload_waits_until_the_action_could_have_worked() {
    let mut world = World::new(&[(60, 1), (60, 1)]);
    world.decide();
    world.now += 3;
    world.demand.settled(at(world.now));
    world.fleet.assignment.extend([0, 1].map(|number| (partition(number), consumer(1))));
    assert_eq!(world.due(), None);
    assert!(matches!(world.wait(20), Some(Trigger::Overload { .. })));
    assert_eq!(world.now, 1013);
}

#[test]
fn a_decision_that_could_move_nothing_is_not_repeated_at_once() {
    let mut world = World::new(&[(60, 1), (60, 1)]);
    let settings = Settings { max_consumers: 1, ..world.demand.settings().clone() };
    world.demand.set_settings(settings);
    assert_eq!(world.decide(), Trigger::SpecChanged);
    assert_eq!(world.due(), None);
    assert!(matches!(world.wait(20), Some(Trigger::Overload { .. })));
    assert_eq!(world.now, 1010);
}

#[test]
fn a_hot_partition_is_named_and_is_no_reason_to_act() {
    let mut world = World::new(&[(150, 1), (0, 1), (60, 2)]);
    assert_eq!(world.demand.hot(), BTreeSet::from([partition(0)]));
    assert_eq!(world.wait(1000), None);
}

#[test]
fn scale_in_waits_for_the_whole_hold() {
    let mut world = World::new(&[(30, 1), (30, 2)]);
    assert_eq!(world.due(), None);
    assert_eq!(world.wait(1000), Some(Trigger::Sentinel));
    assert_eq!(world.now, 1180);
    assert_eq!(world.decide(), Trigger::Sentinel);
    assert_eq!(world.fleet.running.len(), 1);
    assert_eq!(world.wait(1000), None);
}

#[test]
fn a_peak_missing_data_and_backlog_start_the_hold_anew() {
    let mut world = World::new(&[(30, 1), (30, 2)]);
    assert_eq!(world.wait(170), None);
    world.rates(&[60, 60]);
    assert_eq!(world.wait(1), None);
    world.rates(&[30, 30]);
    assert_eq!(world.wait(170), None);
    world.missing(&[1]);
    assert_eq!(world.wait(1), None);
    world.rates(&[30, 30]);
    assert_eq!(world.wait(170), None);
    world.lag(0, 100);
    assert_eq!(world.wait(500), None);
    world.lag(0, 0);
    assert_eq!(world.wait(1000), Some(Trigger::Sentinel));
}

#[test]
fn only_a_sentinel_may_give_consumers_up() {
    let mut world = World::new(&[(30, 1), (30, 2), (30, 0)]);
    let trigger = world.due().expect("a partition is unassigned");
    let problem = world.demand.problem(at(world.now), &world.fleet, trigger);
    assert!(!problem.scale_in);
    let problem = world.demand.problem(at(world.now), &world.fleet, Trigger::Sentinel);
    assert!(problem.scale_in);
    world.missing(&[0]);
    let problem = world.demand.problem(at(world.now), &world.fleet, Trigger::Sentinel);
    assert!(!problem.scale_in, "missing data freezes it");
}

#[test]
fn a_lost_consumer_is_the_only_reason_while_a_decision_is_carried_out() {
    let mut world = World::new(&[(60, 1), (60, 1), (10, 2)]);
    world.fleet.busy = true;
    world.demand.spec_changed();
    assert_eq!(world.due(), None);
    world.fleet.unavailable.insert(consumer(2));
    assert_eq!(world.decide(), Trigger::ConsumerLost { consumer: consumer(2) });
    assert_ne!(world.fleet.assignment[&partition(2)], consumer(2));
}

#[test]
fn an_evacuation_and_a_pin_are_due_until_they_are_obeyed() {
    let mut world = World::new(&[(30, 1), (30, 1)]);
    world.fleet.evacuate.insert(consumer(1));
    assert_eq!(world.decide(), Trigger::SpecChanged);
    assert_eq!(world.fleet.assignment[&partition(0)], consumer(2));
    assert_eq!(world.due(), None);
    world.fleet.pins.insert(partition(0), consumer(3));
    assert_eq!(world.decide(), Trigger::SpecChanged);
    assert_eq!(world.fleet.assignment[&partition(0)], consumer(3));
    assert_eq!(world.due(), None);
}

#[test]
fn what_must_leave_and_cannot_keeps_nothing_else_from_being_decided() {
    let mut world = World::new(&[(30, 1), (10, 2), (10, 3)]);
    let settings = Settings { max_moved_load: 20, ..world.demand.settings().clone() };
    world.demand = Demand::new(settings);
    world.rates(&[30, 10, 10]);
    world.fleet.evacuate.insert(consumer(1));
    let mut seen = BTreeSet::new();
    for _ in 0..250 {
        if world.wait(1).is_some() {
            seen.insert(world.decide().name());
        }
    }
    assert_eq!(seen, BTreeSet::from(["spec-changed", "sentinel"]));
    assert_eq!(world.fleet.assignment[&partition(0)], consumer(1), "it is too heavy to be moved");
    assert_eq!(world.fleet.assignment[&partition(1)], world.fleet.assignment[&partition(2)]);
}

#[test]
fn peaks_of_different_moments_are_no_overload() {
    let mut world = World::new(&[(60, 1), (20, 1), (10, 2), (10, 3)]);
    assert_eq!(world.due(), None);
    for second in 0..170 {
        world.now += 1;
        let high = if second % 20 < 10 { [60, 20, 10, 10] } else { [20, 60, 10, 10] };
        world.rates(&high);
        assert_eq!(world.due(), None);
    }
    world.rates(&[40, 40, 10, 10]);
    assert_eq!(world.wait(20), Some(Trigger::Sentinel));
    assert_eq!(world.decide(), Trigger::Sentinel);
    let at = |number| world.fleet.assignment[&partition(number)];
    assert_eq!((at(0), at(1)), (consumer(1), consumer(1)), "it was never overloaded");
    assert_eq!(at(2), at(3), "and one of the others is given up");
}

#[test]
fn a_partition_that_has_an_owner_but_no_rate_keeps_it() {
    let mut world = World::new(&[(60, 1)]);
    world.fleet.assignment.insert(partition(9), consumer(1));
    let problem = world.demand.problem(at(world.now), &world.fleet, Trigger::Sentinel);
    assert_eq!(problem.items[&partition(9)].home, Some(consumer(1)));
    assert_eq!(problem.items[&partition(9)].weight, 0);
}

#[test]
fn the_defaults_are_valid_and_settings_without_meaning_are_not() {
    assert_eq!(Settings::default().validate(), Ok(()));
    let none = Settings { max_consumers: 0, ..Settings::default() };
    assert_eq!(none.validate(), Err(SettingsError::Consumers));
    let never = Settings { drain_target: Duration::ZERO, ..Settings::default() };
    assert_eq!(never.validate(), Err(SettingsError::NoDrainTarget));
}
