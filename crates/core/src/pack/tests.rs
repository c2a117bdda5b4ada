//! The packer's properties, and the cases that a picture is clearest for.
#![expect(
    clippy::arithmetic_side_effects,
    reason = "an overflow in a test is a panic, and that is what it should be"
)]

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::reference::{Algorithm, Load};
use super::*;
use crate::ids::{ConsumerNumber, PartitionId, TopicId};

fn partition(number: u32) -> PartitionId {
    PartitionId { topic: TopicId::default(), number }
}

fn consumer(number: u32) -> ConsumerNumber {
    ConsumerNumber::new(number).expect("test consumers count from 1")
}

/// Partitions 0, 1, ... with these weights and homes (0 for none), on consumers of 100.
pub(super) fn world(items: &[(u64, u32)]) -> Problem {
    let item = |(number, (weight, home)): (u32, &(u64, u32))| {
        let home = ConsumerNumber::new(*home);
        (partition(number), Item { weight: *weight, home, pinned: None })
    };
    let mut problem = Problem::new((0..).zip(items).map(item).collect(), 100);
    problem.limits = Limits { packing_permille: 750, overload_permille: 950 };
    problem
}

/// What is wrong with a solution. One that was squeezed at the maximum of consumers may have given some up afterwards.
fn faults(problem: &Problem, solution: &Solution) -> Vec<Fault> {
    let squeezes = [Binding::MaxConsumers, Binding::MaxSurge];
    let squeezed = squeezes.iter().any(|bound| solution.report.bound_by.contains(bound));
    let mut faults = check(problem, &solution.assignment);
    faults.retain(|fault| !(squeezed && matches!(fault, Fault::Overfilled(_))));
    faults
}

/// The consumers of partitions 0, 1, ... after solving.
fn solved(problem: &Problem) -> Vec<u32> {
    let solution = solve(problem).expect("the problem is valid");
    assert_eq!(faults(problem, &solution), []);
    solution.assignment.values().map(|consumer| consumer.get()).collect()
}

/// The problem as it is once it was solved and acted upon.
fn after(problem: &Problem) -> Problem {
    problem.with_homes(&solve(problem).expect("the problem is valid").assignment)
}

/// Whether a partition waits for room.
fn waits(solution: &Solution) -> bool {
    solution.report.bound_by.contains(&Binding::MaxSurge)
}

fn report(problem: &Problem) -> Report {
    solve(problem).expect("the problem is valid").report
}

#[test]
fn what_is_within_its_limits_stays() {
    let mut problem = world(&[(50, 1), (44, 1), (60, 2)]);
    problem.scale_in = false;
    assert_eq!(solved(&problem), [1, 1, 2]);
    assert_eq!(report(&problem).moved_load, 0);
}

#[test]
fn an_overloaded_consumer_loses_the_least_that_cures_it() {
    let problem = world(&[(50, 1), (36, 1), (10, 1), (65, 2)]);
    assert_eq!(solved(&problem), [1, 1, 2, 2]);
    let solution = solve(&problem).expect("the problem is valid");
    assert_eq!(solution.moves[0].reason, MoveReason::Overload);
    assert_eq!(solution.report.r_score_permille, 100);
}

#[test]
fn a_new_consumer_takes_the_home_number_if_it_is_free() {
    let mut problem = world(&[(70, 5)]);
    assert_eq!(solved(&problem), [5]);
    problem.unavailable.insert(consumer(5));
    assert_eq!(solved(&problem), [1]);
    problem.running.insert(consumer(3));
    assert_eq!(solved(&problem), [3], "a running one without partitions is cheaper");
}

#[test]
fn a_small_partition_makes_room_for_a_large_one_before_a_consumer_is_opened() {
    // Neither has room for 45, but 25 fits beside 50, and then 45 fits beside 25.
    let problem = world(&[(25, 1), (25, 1), (50, 2), (45, 0)]);
    let solution = solve(&problem).expect("the problem is valid");
    assert_eq!(solution.consumers.len(), 2);
    assert_eq!(solution.report.moved_load, 25);
    assert_eq!(solution.moves[0].reason, MoveReason::MadeRoom);
}

#[test]
fn a_consumer_is_given_up_when_its_partitions_fit_elsewhere() {
    let mut problem = world(&[(30, 1), (10, 2), (10, 2), (40, 3)]);
    assert_eq!(solved(&problem), [1, 3, 3, 3]);
    problem.scale_in = false;
    assert_eq!(solved(&problem), [1, 2, 2, 3]);
    assert!(report(&problem).bound_by.contains(&Binding::ScaleInHeld));
}

#[test]
fn a_consumer_stays_when_moving_its_load_costs_more_than_it() {
    let mut problem = world(&[(30, 1), (30, 2)]);
    problem.alpha_permille = 300;
    assert_eq!(solved(&problem), [1, 2]);
    assert!(report(&problem).bound_by.contains(&Binding::Alpha));
    problem.alpha_permille = 310;
    assert_eq!(solved(&problem), [2, 2]);
}

#[test]
fn a_hot_partition_stands_alone_and_is_named() {
    let problem = world(&[(150, 1), (10, 1), (0, 1), (40, 2)]);
    assert_eq!(solved(&problem), [1, 2, 2, 2]);
    assert_eq!(report(&problem).hot, BTreeSet::from([partition(0)]));
}

#[test]
fn a_hot_partition_leaves_a_consumer_that_something_is_pinned_to() {
    let mut problem = world(&[(150, 1), (10, 1)]);
    let item = problem.items.get_mut(&partition(1)).expect("partition 1 is there");
    item.pinned = Some(consumer(1));
    assert_eq!(solved(&problem), [2, 1]);
}

#[test]
fn idle_partitions_are_spread_and_cost_nothing() {
    let mut problem = world(&[(60, 1), (60, 2), (0, 0), (0, 0), (0, 0), (0, 0)]);
    assert_eq!(solved(&problem), [1, 2, 1, 2, 1, 2]);
    assert_eq!(report(&problem).moved_load, 0);
    problem.items.retain(|at, _| at.number > 1);
    problem.min_consumers = 2;
    assert_eq!(solved(&problem), [1, 2, 1, 2]);
}

#[test]
fn at_the_maximum_consumers_are_filled_up_to_the_overload_limit() {
    let mut problem = world(&[(70, 1), (70, 2), (20, 0)]);
    problem.max_consumers = 2;
    assert_eq!(solved(&problem), [1, 2, 1]);
    assert!(report(&problem).bound_by.contains(&Binding::MaxConsumers));
}

#[test]
fn an_overload_that_no_move_can_cure_moves_nothing() {
    let mut problem = world(&[(50, 1), (50, 1), (60, 2), (40, 2)]);
    problem.max_consumers = 2;
    assert_eq!(solved(&problem), [1, 1, 2, 2]);
}

#[test]
fn above_the_maximum_the_lightest_consumer_is_given_up() {
    let mut problem = world(&[(70, 1), (20, 2), (60, 3)]);
    problem.scale_in = false;
    problem.max_consumers = 2;
    assert_eq!(solved(&problem), [1, 1, 3]);
    let solution = solve(&problem).expect("the problem is valid");
    assert_eq!(solution.moves[0].reason, MoveReason::AboveMaximum);
}

#[test]
fn an_evacuated_consumer_is_left_and_not_opened_again() {
    let mut problem = world(&[(40, 1), (30, 1), (60, 2)]);
    problem.evacuate.insert(consumer(1));
    assert_eq!(solved(&problem), [3, 3, 2]);
    let solution = solve(&problem).expect("the problem is valid");
    assert!(solution.moves.iter().all(|moved| moved.reason == MoveReason::Evacuated));
}

#[test]
fn an_evacuation_at_the_maximum_goes_through_the_surge() {
    let mut problem = world(&[(60, 1), (60, 2), (60, 3)]);
    problem.scale_in = false;
    problem.max_consumers = 3;
    problem.evacuate.insert(consumer(3));
    assert_eq!(solved(&problem), [1, 2, 4], "three and one that is being left");
    assert!(!report(&problem).bound_by.contains(&Binding::MaxSurge));
}

#[test]
fn without_surge_an_evacuation_fills_the_living_and_the_rest_waits() {
    let mut problem = world(&[(40, 1), (50, 2), (60, 3), (50, 3), (20, 3)]);
    problem.scale_in = false;
    problem.max_consumers = 3;
    problem.max_surge = 0;
    problem.evacuate.insert(consumer(3));
    assert_eq!(solved(&problem), [1, 2, 3, 1, 2], "up to the overload limit, and not beyond");
    assert!(report(&problem).bound_by.contains(&Binding::MaxSurge));
    // Once the consumer that is left has nothing and does not run any more, another takes its place.
    let mut next = after(&problem);
    next.items.get_mut(&partition(2)).expect("partition 2 is there").home = None;
    assert_eq!(solved(&next), [1, 2, 4, 1, 2]);
}

#[test]
fn evacuations_of_several_consumers_go_by_turns() {
    let mut problem = world(&[(70, 1), (70, 2), (70, 3)]);
    problem.scale_in = false;
    problem.max_consumers = 3;
    problem.evacuate.extend([1, 2, 3].map(consumer));
    assert_eq!(solved(&problem), [4, 2, 3], "one at a time");
    let next = after(&problem);
    assert_eq!(solved(&next), [4, 5, 3]);
    assert_eq!(solved(&after(&next)), [4, 5, 6]);
}

#[test]
fn a_pin_is_obeyed_unless_its_consumer_must_not_be_used() {
    let mut problem = world(&[(40, 1), (30, 1), (20, 1)]);
    let item = problem.items.get_mut(&partition(2)).expect("partition 2 is there");
    item.pinned = Some(consumer(4));
    assert_eq!(solved(&problem).len(), 3);
    assert_eq!(solved(&problem)[2], 4);
    problem.unavailable.insert(consumer(4));
    assert_eq!(solved(&problem), [1, 1, 1]);
    assert!(report(&problem).bound_by.contains(&Binding::PinIgnored));
}

#[test]
fn no_more_load_leaves_than_may_unless_an_overload_drives_it_out() {
    let mut problem = world(&[(30, 1), (10, 2), (10, 2), (40, 3)]);
    problem.max_moved_load = 20;
    assert_eq!(solved(&problem), [1, 3, 3, 3]);
    problem.max_moved_load = 19;
    assert_eq!(solved(&problem), [1, 2, 2, 3]);
    assert!(report(&problem).bound_by.contains(&Binding::MaxMovedLoad));
    let mut problem = world(&[(50, 1), (36, 1), (10, 1), (65, 2)]);
    problem.max_moved_load = 0;
    assert_eq!(solved(&problem), [1, 1, 2, 2], "an overload is relieved all the same");
}

#[test]
fn an_evacuation_goes_on_decision_after_decision_as_much_may_be_moved_in_one() {
    let mut problem = world(&[(30, 1), (20, 1), (20, 1), (10, 2)]);
    problem.evacuate.insert(consumer(1));
    problem.max_moved_load = 40;
    let first = solve(&problem).expect("the problem is valid");
    assert_eq!(faults(&problem, &first), []);
    assert!(first.report.bound_by.contains(&Binding::MaxMovedLoad));
    assert_eq!(first.assignment.values().filter(|at| **at == consumer(1)).count(), 1);
    let second = after(&after(&problem));
    assert!(second.items.values().all(|item| item.home != Some(consumer(1))), "{second:?}");
}

#[test]
fn a_pin_waits_until_its_partition_may_be_moved() {
    let mut problem = world(&[(40, 1), (30, 1)]);
    let item = problem.items.get_mut(&partition(1)).expect("partition 1 is there");
    item.pinned = Some(consumer(4));
    problem.max_moved_load = 29;
    assert_eq!(solved(&problem), [1, 1]);
    problem.max_moved_load = 30;
    assert_eq!(solved(&problem), [1, 4]);
}

#[test]
fn what_finds_no_room_keeps_nothing_lighter_from_leaving() {
    let mut problem = world(&[(50, 1), (10, 2), (60, 3), (60, 4)]);
    problem.scale_in = false;
    problem.max_consumers = 3;
    problem.evacuate.extend([1, 2].map(consumer));
    problem.max_moved_load = 50;
    let next = after(&problem);
    assert_eq!(next.items[&partition(1)].home, Some(consumer(3)));
    let next = after(&next);
    assert_eq!(next.items[&partition(0)].home, Some(consumer(5)), "then there is room for another");
}

#[test]
fn an_overload_drives_out_what_is_pinned_elsewhere_whatever_may_be_moved() {
    let mut problem = world(&[(50, 1), (60, 1), (10, 2)]);
    problem.items.get_mut(&partition(0)).expect("partition 0 is there").pinned = Some(consumer(2));
    problem.items.get_mut(&partition(1)).expect("partition 1 is there").pinned = Some(consumer(1));
    problem.max_moved_load = 20;
    assert_eq!(solved(&problem), [2, 1, 2]);
}

#[test]
fn consumers_without_load_run_up_to_the_minimum() {
    let mut problem = world(&[(40, 2)]);
    problem.min_consumers = 3;
    let solution = solve(&problem).expect("the problem is valid");
    assert_eq!(solution.consumers, [1, 2, 3].map(consumer).into());
}

#[test]
fn a_larger_consumer_is_opened_for_what_others_cannot_hold() {
    let mut problem = world(&[(120, 0), (60, 0)]);
    problem.capacity_overrides.insert(consumer(7), 200);
    assert_eq!(solved(&problem)[0], 7);
    assert_eq!(report(&problem).hot, BTreeSet::new());
}

#[test]
fn nothing_to_place_needs_nobody() {
    let solution = solve(&world(&[])).expect("the problem is valid");
    assert_eq!(solution, Solution { report: solution.report.clone(), ..Solution::default() });
}

#[test]
fn loads_beyond_the_largest_number_are_an_error_and_do_not_wrap() {
    assert_eq!(solve(&world(&[(u64::MAX, 0), (1, 0)])), Err(Error::TotalTooLarge));
    assert_eq!(solved(&world(&[(u64::MAX, 0)])), [1]);
    let mut problem = world(&[(u64::MAX / 2, 1), (u64::MAX / 2, 1)]);
    problem.capacity_bytes_per_sec = u64::MAX;
    assert_eq!(solved(&problem).len(), 2);
}

#[test]
fn problems_without_meaning_are_refused() {
    let mut problem = world(&[(1, 0)]);
    problem.capacity_bytes_per_sec = 0;
    assert_eq!(solve(&problem), Err(Error::NoCapacity { consumer: None }));
    let mut problem = world(&[(1, 0)]);
    problem.capacity_overrides.insert(consumer(2), 1);
    assert_eq!(solve(&problem), Err(Error::NoCapacity { consumer: Some(consumer(2)) }));
    let mut problem = world(&[(1, 0)]);
    problem.limits = Limits { packing_permille: 900, overload_permille: 800 };
    assert_eq!(solve(&problem), Err(Error::Limits(problem.limits)));
    let mut problem = world(&[(1, 0)]);
    problem.min_consumers = 3;
    problem.max_consumers = 2;
    assert_eq!(solve(&problem), Err(Error::Consumers { min: 3, max: 2 }));
}

prop_compose! {
    fn weight()(kind in 0_u8..10, small in 0_u64..40, large in 0_u64..160) -> u64 {
        match kind {
            0 => 0,
            1 => large,
            _ => small,
        }
    }
}

prop_compose! {
    fn item()(weight in weight(), home in 0_u32..8, pin in 0_u32..60) -> Item {
        Item { weight, home: ConsumerNumber::new(home), pinned: ConsumerNumber::new(pin).filter(|pin| pin.get() < 6) }
    }
}

prop_compose! {
    fn problem()(
        items in prop::collection::vec(item(), 0..40),
        pins in any::<bool>(),
        limits in (500_u32..=1000, 500_u32..=1000),
        alpha_permille in 0_u32..2500,
        (min, max, surge) in (0_u32..4, prop_oneof![Just(u32::MAX), 4_u32..9], 0_u32..3),
        evacuate in prop::collection::btree_set(1_u32..9, 0..3),
        unavailable in prop::collection::btree_set(1_u32..9, 0..3),
        running in prop::collection::btree_set(1_u32..12, 0..4),
        overrides in prop::collection::btree_map(1_u32..9, 50_u64..250, 0..3),
        scale_in in any::<bool>(),
        effort in (prop_oneof![Just(0), 1_u64..20_000], any::<u64>(), any::<bool>()),
        may_move in prop::option::weighted(0.3, 0_u64..300),
    ) -> Problem {
        let items = (0..).zip(items).map(|(number, item)| {
            (partition(number), if pins { item } else { Item { pinned: None, ..item } })
        });
        let mut problem = Problem::new(items.collect(), 100);
        problem.limits = Limits {
            packing_permille: limits.0.min(limits.1),
            overload_permille: limits.0.max(limits.1),
        };
        problem.alpha_permille = alpha_permille;
        (problem.min_consumers, problem.max_consumers) = (min, max);
        problem.max_surge = surge;
        problem.evacuate = evacuate.into_iter().map(consumer).collect();
        problem.unavailable = unavailable.into_iter().map(consumer).collect();
        problem.running = running.into_iter().map(consumer).collect();
        problem.capacity_overrides =
            overrides.into_iter().map(|(at, capacity)| (consumer(at), capacity)).collect();
        problem.scale_in = scale_in;
        problem.max_moved_load = may_move.unwrap_or(u64::MAX);
        let (steps, seed, fewest) = effort;
        problem.effort = Effort { steps, seed, fewest };
        problem
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn every_solution_is_valid(problem in problem()) {
        let solution = solve(&problem).expect("the problem is valid");
        prop_assert_eq!(faults(&problem, &solution), []);
    }

    #[test]
    fn solving_a_solution_changes_nothing_for_ever(problem in problem()) {
        // What may not be moved now may be next time.
        let problem = Problem { max_moved_load: u64::MAX, ..problem };
        let first = solve(&problem).expect("the problem is valid");
        // What waits gets its turn as others go.
        prop_assume!(!waits(&first));
        let mut next = problem.with_homes(&first.assignment);
        for _ in 0..3 {
            let again = solve(&next).expect("the problem is valid");
            prop_assert_eq!(&again.assignment, &first.assignment);
            prop_assert_eq!(&again.moves, &[]);
            prop_assert_eq!(again.report.moved_load, 0);
            next = next.with_homes(&again.assignment);
        }
    }

    #[test]
    fn the_order_of_input_changes_nothing(problem in problem(), seed in any::<u64>()) {
        let mut shuffled: Vec<_> = problem.items.clone().into_iter().collect();
        shuffled.sort_by_key(|(at, _)| (u64::from(at.number) ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let again = Problem { items: shuffled.into_iter().collect(), ..problem.clone() };
        prop_assert_eq!(solve(&problem), solve(&again));
    }

    #[test]
    fn moves_are_the_difference_and_carry_the_load_that_is_reported(problem in problem()) {
        let solution = solve(&problem).expect("the problem is valid");
        let mut assignment: Assignment =
            problem.items.iter().filter_map(|(at, item)| Some((*at, item.home?))).collect();
        for moved in &solution.moves {
            prop_assert_eq!(assignment.insert(moved.partition, moved.to), moved.from);
        }
        // What waits on a consumer that is gone is on none.
        assignment.retain(|partition, _| solution.assignment.contains_key(partition));
        prop_assert_eq!(&assignment, &solution.assignment);
        prop_assert!(waits(&solution) || assignment.len() == problem.items.len());
        let loads = solution.report.loads.values();
        let placed = |(partition, _): &(&PartitionId, _)| assignment.contains_key(partition);
        let total: u64 = problem.items.iter().filter(placed).map(|(_, item)| item.weight).sum();
        prop_assert_eq!(loads.map(|load| load.after).sum::<u64>(), total);
    }

    #[test]
    fn no_solution_is_below_the_lower_bound(problem in problem()) {
        let solution = solve(&problem).expect("the problem is valid");
        let used = solution.report.consumers_after;
        // Above the maximum, and around pins, consumers may be overloaded: then the bound does not apply.
        let has_pins = problem.items.values().any(|item| item.pinned.is_some());
        let is_bound = solution.report.bound_by.contains(&Binding::MaxMovedLoad);
        if used < problem.max_consumers && !has_pins && !waits(&solution) && !is_bound {
            prop_assert!(used >= solution.report.lower_bound.consumers());
        }
    }

    #[test]
    fn the_search_never_costs_more_than_it_found(problem in problem()) {
        let with = solve(&problem).expect("the problem is valid");
        let without = Problem { effort: Effort::default(), ..problem.clone() };
        let without = solve(&without).expect("the problem is valid");
        let unsqueezed = [Binding::MaxConsumers, Binding::MaxSurge]
            .iter()
            .all(|bound| !without.report.bound_by.contains(bound));
        // More moves are paid for by fewer consumers, and more consumers by fewer moves; or all of it by smaller ones.
        let are_alike = problem.capacity_overrides.is_empty();
        if unsqueezed && are_alike && with.report.moved_load > without.report.moved_load {
            prop_assert!(with.report.consumers_after <= without.report.consumers_after);
        }
    }

    #[test]
    fn the_l2_bound_holds_for_a_packing_by_first_fit_decreasing(weights in prop::collection::vec(0_u64..=100, 0..60)) {
        let mut sorted = weights.clone();
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let mut bins: Vec<u64> = Vec::new();
        for weight in sorted {
            match bins.iter_mut().find(|load| **load + weight <= 100) {
                Some(load) => *load += weight,
                None => bins.push(weight),
            }
        }
        let bound = LowerBound::of_weights(weights.into_iter(), 100);
        prop_assert!(usize::try_from(bound.consumers()).is_ok_and(|bound| bound <= bins.len()));
        prop_assert!(bound.volume <= bound.l2);
    }

    #[test]
    fn a_first_packing_needs_no_more_than_the_bound_of_the_decreasing_fits(
        weights in prop::collection::vec(1_u64..=100, 1..10),
        homes in prop::collection::vec(0_u32..6, 10),
    ) {
        let unplaced: Vec<_> = weights.iter().map(|weight| (*weight, None)).collect();
        let best = exact::optimum(&unplaced, 100).consumers;
        let bound = (11 * best + 6) / 9;
        let at = |(size, home): (&u64, &u32)| Load { size: *size, current: home.checked_sub(1) };
        let loads: Vec<Load> = weights.iter().zip(&homes).map(at).collect();
        for algorithm in [Algorithm::Ffd, Algorithm::Bfd] {
            let next = algorithm.run(100, &loads, &[]);
            let used: BTreeSet<_> = next.into_iter().flatten().collect();
            prop_assert!(used.len() <= bound, "{algorithm:?}: {} where {best} do", used.len());
        }
        let items: Vec<_> = weights.iter().map(|weight| (*weight, 0)).collect();
        let mut problem = world(&items);
        problem.limits = Limits { packing_permille: 1000, overload_permille: 1000 };
        let solution = solve(&problem).expect("the problem is valid");
        prop_assert!(solution.consumers.len() <= bound, "{} where {best} do", solution.consumers.len());
    }

    #[test]
    fn slowly_changing_loads_keep_every_decision_valid(
        problem in problem(),
        steps in prop::collection::vec(prop::collection::vec(0_u64..20, 40), 1..12),
    ) {
        let mut problem = problem;
        for step in steps {
            let solution = solve(&problem).expect("the problem is valid");
            prop_assert_eq!(faults(&problem, &solution), []);
            problem = problem.with_homes(&solution.assignment);
            for (item, delta) in problem.items.values_mut().zip(step) {
                item.weight = (item.weight + delta).saturating_sub(9);
            }
        }
    }
}

#[test]
fn what_is_pinned_comes_first_so_that_it_drives_nobody_out() {
    let mut problem = world(&[(43, 1), (34, 1), (34, 1), (14, 1), (27, 2)]);
    problem.limits = Limits { packing_permille: 700, overload_permille: 750 };
    // It waits for its turn, until the overload drives it out together with 43.
    problem.max_moved_load = 0;
    let pinned = Some(consumer(2));
    problem.items.entry(partition(3)).and_modify(|item| item.pinned = pinned);
    // By weight, 43 would fill consumer 2, and 14 would then drive out 27.
    assert_eq!(solved(&problem), [3, 1, 1, 2, 2]);
}

/// Three consumers are full to the last byte when 38, 22 and 15 are together twice, and 31 with 44: no greedy step finds that.
#[test]
fn the_search_finds_what_no_single_step_would() {
    let mut problem =
        world(&[(38, 1), (38, 1), (22, 2), (22, 2), (15, 3), (15, 3), (31, 4), (44, 4)]);
    problem.limits = Limits { packing_permille: 750, overload_permille: 750 };
    let greedy = solve(&problem).expect("the problem is valid").report;
    Preset::Tight.apply(&mut problem, 200_000, 1);
    let solution = solve(&problem).expect("the problem is valid");
    assert_eq!(faults(&problem, &solution), []);
    assert_eq!((greedy.consumers_after, solution.report.consumers_after), (4, 3));
}

#[test]
fn presets_have_names_and_order_consumers_by_their_price() {
    assert!(Preset::ALL.iter().all(|preset| Preset::parse(preset.name()) == Some(*preset)));
    assert_eq!(Preset::parse("loose"), None);
    assert!(Preset::Calm.alpha_permille() < Preset::Balanced.alpha_permille());
    assert!(Preset::Balanced.alpha_permille() < Preset::Tight.alpha_permille());
}

#[test]
fn a_group_whose_load_halves_and_stays_scales_in() {
    let items: Vec<(u64, u32)> = (0..40).map(|_| (25, 0)).collect();
    let problem = world(&items);
    let full = solve(&problem).expect("the problem is valid");
    let mut halved = problem.with_homes(&full.assignment);
    for item in halved.items.values_mut() {
        item.weight = 12;
    }
    let half = solve(&halved).expect("the problem is valid");
    assert_eq!((full.consumers.len(), half.consumers.len()), (14, 7));
    let again = solve(&halved.with_homes(&half.assignment)).expect("the problem is valid");
    assert_eq!(again.moves, []);
}
