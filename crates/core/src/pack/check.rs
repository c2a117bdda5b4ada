//! An independent check of an assignment: it knows the problem and none of the packer's ways.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::problem::{Assignment, Item, Problem};
use crate::ids::{ConsumerNumber, PartitionId};

/// What is wrong with an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A partition has no consumer.
    Unplaced(PartitionId),
    /// A partition is not part of the problem.
    Unknown(PartitionId),
    /// A partition is on a consumer that must not be used.
    Forbidden(PartitionId, ConsumerNumber),
    /// A partition is not where it is pinned.
    PinBroken(PartitionId),
    /// More load leaves consumers than may, even without what comes from overloaded ones and from those that are gone.
    MovesTooMuch,
    /// More consumers than the maximum, and pins do not explain it.
    TooManyConsumers,
    /// A consumer with several partitions is above its overload limit, though a further one could be opened.
    Overloaded(ConsumerNumber),
    /// A consumer with several partitions that have weight got one and is above its packing limit, though a further one could be opened.
    /// What is pinned there, and came when the limit on moved load had kept it waiting, does not count.
    ///
    /// Not a fault of a solution that was bound by the maximum on its way, and could give others up only then.
    Overfilled(ConsumerNumber),
    /// Scale-in is held, but a consumer that may be used has lost all its partitions though none had to leave.
    GivenUp(ConsumerNumber),
}

/// All faults of an assignment, in order; none when it is valid.
pub fn check(problem: &Problem, assignment: &Assignment) -> Vec<Fault> {
    let mut faults = Vec::new();
    let used: BTreeSet<_> = assignment.values().filter(|at| problem.is_usable(**at)).collect();
    let used = u32::try_from(used.len()).unwrap_or(u32::MAX);
    // What has no room may wait while a further consumer could be opened once those have gone that are being left.
    let may_wait = problem.most_open() <= used && used < problem.max_consumers;
    let moves = Moves::of(problem, assignment);
    // And what is wanted elsewhere, where not all may be moved at once.
    let stays = |item: &Item, at: Option<ConsumerNumber>| {
        moves.are_limited && at.is_some() && at == item.home
    };
    let waits = |item: &Item, at: Option<ConsumerNumber>| {
        let must_leave = item.home.is_none_or(|home| !problem.is_usable(home));
        let stays = item.home.filter(|home| problem.evacuate.contains(home));
        may_wait && must_leave && (at.is_none() || at == stays)
    };
    for (partition, item) in &problem.items {
        match assignment.get(partition) {
            at if waits(item, at.copied()) || stays(item, at.copied()) => {}
            None => faults.push(Fault::Unplaced(*partition)),
            Some(at) if !problem.is_usable(*at) => faults.push(Fault::Forbidden(*partition, *at)),
            Some(at) if problem.effective_pin(item).is_some_and(|pin| pin != *at) => {
                faults.push(Fault::PinBroken(*partition));
            }
            Some(_) => {}
        }
    }
    let unknown = assignment.keys().filter(|partition| !problem.items.contains_key(*partition));
    faults.extend(unknown.map(|partition| Fault::Unknown(*partition)));
    check_consumers(problem, assignment, &moves, &mut faults);
    faults.sort_unstable();
    faults
}

/// The load that leaves its consumer.
struct Moves {
    /// Without what an overload drives out, and what nobody had any more.
    avoidable: u128,
    may: u128,
    are_limited: bool,
}

impl Moves {
    fn of(problem: &Problem, assignment: &Assignment) -> Self {
        if problem.max_moved_load == u64::MAX {
            return Self { avoidable: 0, may: u128::MAX, are_limited: false };
        }
        let mut loads: BTreeMap<ConsumerNumber, u64> = BTreeMap::new();
        for item in problem.items.values() {
            // What is pinned to a consumer overloads it as well as what was there.
            let places = BTreeSet::from([item.home, problem.effective_pin(item)]);
            for at in places.into_iter().flatten() {
                let load = loads.entry(at).or_default();
                *load = load.saturating_add(item.weight);
            }
        }
        let is_forced = |loads: &BTreeMap<ConsumerNumber, u64>, home: ConsumerNumber| {
            let load = loads.get(&home).copied().unwrap_or(0);
            problem.unavailable.contains(&home) || load > problem.overload_limit_of(home)
        };
        // What had to leave, or had nobody, may overload the next one, and drive out what is there.
        let mut came = BTreeSet::new();
        loop {
            let comes = |(partition, item): &(&PartitionId, &Item)| {
                let to = assignment.get(*partition).copied();
                let is_new = to != item.home && to != problem.effective_pin(item);
                is_new
                    && !came.contains(*partition)
                    && item.home.is_none_or(|home| is_forced(&loads, home))
            };
            let Some((partition, item)) = problem.items.iter().find(comes) else { break };
            came.insert(*partition);
            if let Some(to) = assignment.get(partition) {
                let load = loads.entry(*to).or_default();
                *load = load.saturating_add(item.weight);
            }
        }
        let may = problem.max_moved_load.into();
        let mut moves = Self { avoidable: 0, may, are_limited: true };
        for (partition, item) in &problem.items {
            let to = assignment.get(partition).copied();
            let Some(home) = item.home.filter(|home| Some(*home) != to) else { continue };
            let avoidable = if is_forced(&loads, home) { 0 } else { item.weight };
            moves.avoidable = moves.avoidable.saturating_add(avoidable.into());
        }
        moves
    }
}

#[derive(Default)]
struct Contents {
    load: u128,
    count: usize,
    /// Those that have a weight.
    loaded: usize,
    pinned: usize,
    /// Those that have a weight and are not pinned.
    movable: usize,
    /// Something with weight has come that is not pinned.
    received: bool,
    /// The load of what has come and is pinned, while the limit on moved load keeps such waiting: they come in any case, and perhaps
    /// last.
    late_load: u128,
}

fn check_consumers(
    problem: &Problem,
    assignment: &Assignment,
    moves: &Moves,
    faults: &mut Vec<Fault>,
) {
    let mut consumers: BTreeMap<ConsumerNumber, Contents> = BTreeMap::new();
    for (partition, at) in assignment {
        let Some(item) = problem.items.get(partition) else {
            continue;
        };
        let pin = problem.effective_pin(item);
        let contents = consumers.entry(*at).or_default();
        contents.load = contents.load.saturating_add(u128::from(item.weight));
        contents.count = contents.count.saturating_add(1);
        contents.loaded = contents.loaded.saturating_add(usize::from(item.weight > 0));
        contents.pinned = contents.pinned.saturating_add(usize::from(pin.is_some()));
        let is_movable = pin.is_none() && item.weight > 0;
        contents.movable = contents.movable.saturating_add(usize::from(is_movable));
        if item.home != Some(*at) {
            contents.received |= is_movable;
            let may_be_late = pin.is_some() && item.home.is_some() && moves.are_limited;
            let late = if may_be_late { item.weight } else { 0 };
            contents.late_load = contents.late_load.saturating_add(late.into());
        }
    }
    consumers.retain(|consumer, _| problem.is_usable(*consumer));
    let used = u32::try_from(consumers.len()).unwrap_or(u32::MAX);
    let most_open = problem.most_open();
    let has_pins = consumers.values().any(|contents| contents.pinned > 0);
    // The lightest of those too many can be too heavy to be moved now.
    if used > problem.max_consumers && !has_pins && !moves.are_limited {
        faults.push(Fault::TooManyConsumers);
    }
    // At the maximum what had no consumer drives others out.
    if used < most_open && moves.avoidable > moves.may {
        faults.push(Fault::MovesTooMuch);
    }
    for (consumer, contents) in &consumers {
        // What is pinned may overload a consumer; only idle partitions may share that.
        let is_curable = contents.movable > 0 || contents.pinned == 0;
        if used >= most_open || contents.count < 2 || !is_curable {
            continue;
        }
        let chosen = contents.load.saturating_sub(contents.late_load);
        let is_overloaded = contents.load > u128::from(problem.overload_limit_of(*consumer));
        if is_overloaded && problem.relieve {
            faults.push(Fault::Overloaded(*consumer));
        } else if contents.received
            && contents.loaded > 1
            && chosen > u128::from(problem.packing_limit_of(*consumer))
        {
            faults.push(Fault::Overfilled(*consumer));
        }
    }
    check_scale_in(problem, &consumers.into_keys().collect(), faults);
}

fn check_scale_in(problem: &Problem, used: &BTreeSet<ConsumerNumber>, faults: &mut Vec<Fault>) {
    let items = problem.items.values();
    let homes: BTreeSet<_> = items.clone().filter_map(|item| item.home).collect();
    let within_maximum = u32::try_from(homes.len()).is_ok_and(|len| len <= problem.max_consumers);
    let has_pins = items.clone().any(|item| problem.effective_pin(item).is_some());
    if problem.scale_in || !within_maximum || has_pins {
        return;
    }
    let gone = homes.difference(used).filter(|home| problem.is_usable(**home));
    faults.extend(gone.map(|home| Fault::GivenUp(*home)));
}
