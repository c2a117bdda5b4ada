//! A consumer that partitions must leave: make before break, through the surge, and break before make where nothing else is left.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use super::tests::{Desk, EPOCH, FIRST, SECOND, hello, settings, starts, stopped, stops};
use super::*;
use crate::ids::ConsumerNumber;
use crate::ledger::{CommandBody, Ownership, Record, StopReason};
use crate::pack::Binding;
use crate::samples::{consumer, partition};

/// A group of at most so many consumers, and of so many more while one is left.
fn bounded(max: u32, surge: u32) -> Settings {
    let mut settings = settings();
    settings.demand.max_consumers = max;
    settings.demand.max_surge = surge;
    settings
}

/// Consumers 1 and 2 run; partition 0 is read by consumer 1, which is to be left.
fn evacuating(settings: Settings, rate: u64) -> (Desk, Vec<Effect>) {
    let mut desk = Desk::heir_of_plan(1);
    desk.step(Input::Settings(settings.into()));
    desk.report(&[rate]);
    desk.calm();
    let evacuated = desk.evacuate(&[1]);
    (desk, evacuated)
}

/// Consumer 1 runs alone and reads partition 0.
fn alone(settings: Settings) -> Desk {
    let mut desk = Desk::heir_of_plan(1);
    desk.say(Record::Goodbye { incarnation: SECOND, clean: true });
    desk.step(Input::Settings(settings.into()));
    desk.report(&[50]);
    desk.calm();
    desk
}

fn workers(effects: &[Effect], wanted: bool) -> Vec<u32> {
    let named = |effect: &Effect| match effect {
        Effect::EnsureWorker(consumer) if wanted => Some(consumer.get()),
        Effect::RemoveWorker(consumer) if !wanted => Some(consumer.get()),
        _ => None,
    };
    effects.iter().filter_map(named).collect()
}

fn owner(desk: &Desk) -> Option<ConsumerNumber> {
    desk.controller.fold().consumer_of(partition(0))
}

impl Desk {
    fn evacuate(&mut self, consumers: &[u32]) -> Vec<Effect> {
        let consumers: BTreeSet<_> = consumers.iter().map(|number| consumer(*number)).collect();
        self.steering.leave = consumers;
        let effects = self.step(Input::Steering(self.steering.clone()));
        self.follow(effects)
    }

    fn hear(&mut self, record: Record) -> Vec<Effect> {
        let effects = self.say(record);
        self.follow(effects)
    }

    /// Lets everything happen that follows.
    fn follow(&mut self, mut effects: Vec<Effect>) -> Vec<Effect> {
        effects.extend(self.perform(&effects));
        effects.extend(self.pass(1, &[FIRST, SECOND]));
        effects
    }
}

#[test]
fn a_consumer_that_is_to_be_left_keeps_its_partitions_until_another_is_ready_and_ends_then() {
    let (mut desk, effects) = evacuating(bounded(3, 1), 50);
    assert_eq!(stops(&effects), [1], "consumer 2 is ready");
    let effects = desk.hear(stopped(FIRST, EPOCH, StopReason::Command));
    assert_eq!(owner(&desk), Some(consumer(2)));
    assert!(workers(&effects, false).is_empty(), "not before the move is done");
    let Ownership::Granted { epoch, .. } = desk.controller.fold().ownership(partition(0)) else {
        panic!("granted")
    };
    let partitions = [(partition(0), epoch)].into();
    let effects = desk.hear(Record::Started { incarnation: SECOND, partitions });
    assert_eq!(workers(&effects, false), [1]);
    assert!(workers(&desk.pass(15, &[SECOND]), true).is_empty(), "and it is not started again");
}

#[test]
fn while_no_worker_can_be_made_partitions_move_between_those_who_live() {
    let mut settings = bounded(3, 1);
    settings.demand.min_consumers = 2;
    let mut desk = Desk::heir_of_plan(1);
    desk.step(Input::Settings(settings.into()));
    desk.report(&[50]);
    desk.calm();
    desk.steering.frozen = true;
    assert_eq!(stops(&desk.evacuate(&[1])), [1]);
    let mut effects = desk.hear(stopped(FIRST, EPOCH, StopReason::Command));
    assert_eq!(owner(&desk), Some(consumer(2)));
    for _ in 0..20 {
        desk.report(&[50]);
        effects.extend(desk.pass(10, &[FIRST, SECOND]));
    }
    assert_eq!((workers(&effects, true), workers(&effects, false)), Default::default());
    desk.steering.frozen = false;
    assert_eq!(workers(&desk.evacuate(&[1]), true), [3], "as soon as it can be");
}

#[test]
fn a_consumer_that_comes_back_counts_for_the_minimum_while_it_is_away() {
    let moved = |held: &[u32]| {
        let mut settings = bounded(3, 1);
        settings.demand.min_consumers = 2;
        let mut desk = Desk::heir_of_plan(1);
        desk.step(Input::Settings(settings.into()));
        desk.report(&[50]);
        desk.calm();
        desk.steering.hold = held.iter().map(|number| consumer(*number)).collect();
        assert_eq!(stops(&desk.evacuate(&[1])), [1]);
        let mut effects = desk.hear(stopped(FIRST, EPOCH, StopReason::Command));
        assert_eq!(owner(&desk), Some(consumer(2)));
        effects.extend(desk.pass(5, &[FIRST, SECOND]));
        workers(&effects, true)
    };
    assert_eq!(moved(&[]), [3], "it is to go");
    assert!(moved(&[1]).is_empty(), "it is held");
}

#[test]
fn who_is_to_be_left_and_has_something_hears_of_it_each_time_that_it_is_said() {
    let mut desk = alone(bounded(1, 1));
    let hears = |effects: &[Effect]| {
        effects.iter().any(|effect| match effect {
            Effect::Command(to, command) => {
                *to == consumer(1) && matches!(command.body, CommandBody::StateQuery { .. })
            }
            _ => false,
        })
    };
    assert!(hears(&desk.evacuate(&[1])));
    assert!(hears(&desk.evacuate(&[1])), "a pod may begin to wait later");
    assert!(!hears(&desk.evacuate(&[])));
    assert!(!hears(&desk.evacuate(&[2])), "it has nothing");
}

#[test]
fn at_the_maximum_another_is_started_beside_the_one_that_is_to_be_left_if_the_surge_allows_it() {
    let mut desk = alone(bounded(1, 1));
    let effects = desk.evacuate(&[1]);
    assert_eq!(workers(&effects, true), [2]);
    assert!(stops(&desk.pass(12, &[FIRST])).is_empty(), "it has not said Hello");
    assert!(stops(&desk.hear(hello(2, 9))).contains(&1));
}

#[test]
fn at_the_maximum_without_surge_partitions_are_given_up_after_the_deadline_and_go_to_the_next_consumer()
 {
    let mut desk = alone(bounded(1, 0));
    let mut effects = desk.evacuate(&[1]);
    effects.extend(desk.pass(8, &[FIRST]));
    assert!(stops(&effects).is_empty() && workers(&effects, true).is_empty(), "it waits");
    let last = desk.controller.last_decision().expect("a decision");
    assert!(last.solution.report.bound_by.contains(&Binding::MaxSurge), "and says why");
    let effects = desk.pass(3, &[FIRST]);
    assert!(stops(&effects).contains(&1));
    assert!(workers(&effects, true).is_empty(), "the one has to go before the other comes");
    let effects = desk.hear(stopped(FIRST, EPOCH, StopReason::Command));
    assert_eq!((workers(&effects, false), workers(&effects, true)), ([1].into(), [2].into()));
    assert!(starts(&desk.hear(hello(2, 9))).contains(&2));
}

#[test]
fn an_evacuation_that_is_called_off_leaves_everything_where_it_is() {
    let mut desk = alone(bounded(1, 0));
    desk.evacuate(&[1]);
    let mut effects = desk.evacuate(&[]);
    effects.extend(desk.pass(15, &[FIRST]));
    assert!(stops(&effects).is_empty() && workers(&effects, false).is_empty());
    assert_eq!(owner(&desk), Some(consumer(1)));
}
