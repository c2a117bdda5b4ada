//! What the packer answers: the assignment, and why it is as it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::bound::LowerBound;
use super::problem::{Assignment, Problem, permille_in};
use super::table::{Consumer, Placement, Slot, Table};
use crate::ids::{ConsumerNumber, PartitionId};

/// Why a partition moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MoveReason {
    /// No consumer had it.
    Unassigned,
    /// Its consumer is gone.
    ConsumerGone,
    /// Its consumer is being evacuated.
    Evacuated,
    /// It is pinned to the consumer that it moves to.
    Pinned,
    /// Its consumer was above the overload limit.
    Overload,
    /// It made room for a larger one.
    MadeRoom,
    /// Its consumer is given up, as everything fits on the others.
    ScaleIn,
    /// Its consumer is given up, as there are more than the maximum.
    AboveMaximum,
}

impl MoveReason {
    /// A fixed word for logs, labels and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unassigned => "unassigned",
            Self::ConsumerGone => "consumer-gone",
            Self::Evacuated => "evacuated",
            Self::Pinned => "pinned",
            Self::Overload => "overload",
            Self::MadeRoom => "made-room",
            Self::ScaleIn => "scale-in",
            Self::AboveMaximum => "above-maximum",
        }
    }
}

/// One partition that gets another consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// The partition.
    pub partition: PartitionId,
    /// Its home; none when it had none, and then the move costs nothing.
    pub from: Option<ConsumerNumber>,
    /// Its new consumer.
    pub to: ConsumerNumber,
    /// Why.
    pub reason: MoveReason,
}

/// What kept the packer from a smaller group or from moving less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Binding {
    /// No valid plan has fewer consumers.
    LowerBound,
    /// A further consumer was wanted, but the maximum is reached: consumers are filled above the packing limit.
    MaxConsumers,
    /// A further consumer was wanted, but has to wait until one that is being left has gone.
    MaxSurge,
    /// A consumer stays because the minimum is reached.
    MinConsumers,
    /// Consumers are not given up now.
    ScaleInHeld,
    /// A consumer stays because moving its load costs more than the consumer.
    Alpha,
    /// A consumer stays because its partitions do not fit on the others.
    Fragmentation,
    /// A consumer stays because a partition is pinned to it.
    Pin,
    /// A pin was ignored because its consumer must not be used.
    PinIgnored,
    /// Something stays because no more load may be moved in one decision.
    MaxMovedLoad,
}

impl Binding {
    /// A fixed word for logs, labels and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LowerBound => "lower-bound",
            Self::MaxConsumers => "max-consumers",
            Self::MaxSurge => "max-surge",
            Self::MinConsumers => "min-consumers",
            Self::ScaleInHeld => "scale-in-held",
            Self::Alpha => "alpha",
            Self::Fragmentation => "fragmentation",
            Self::Pin => "pin",
            Self::PinIgnored => "pin-ignored",
            Self::MaxMovedLoad => "max-moved-load",
        }
    }
}

/// A consumer's load before and after, in bytes/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct LoadChange {
    /// The weights of the partitions at home there.
    pub before: u64,
    /// The weights of the partitions assigned to it.
    pub after: u64,
    /// What it can do.
    pub capacity: u64,
}

/// What the decision costs and what bound it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct Report {
    /// The sum of the weights of partitions that had a home and leave it.
    pub moved_load: u64,
    /// The same in permille of one consumer's capacity: the R-score.
    pub r_score_permille: u64,
    /// How many consumers had partitions before.
    pub consumers_before: u32,
    /// How many have partitions after.
    pub consumers_after: u32,
    /// A proven least number of consumers for these weights, each filled up to the overload limit.
    pub lower_bound: LowerBound,
    /// The same for consumers filled up to the packing limit, as if all were packed anew.
    pub packing_bound: LowerBound,
    /// Every consumer that has or had partitions.
    pub loads: BTreeMap<ConsumerNumber, LoadChange>,
    /// Partitions that are larger than the capacity of the consumer they are on: no plan can help them.
    pub hot: BTreeSet<PartitionId>,
    /// What bound the decision.
    pub bound_by: BTreeSet<Binding>,
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq, Default, Hash)]
pub struct Solution {
    /// Every partition's consumer. One that waits for room stays on the consumer that it must leave, or is missing when it
    /// has none.
    pub assignment: Assignment,
    /// The partitions that leave their home or get a first one, in order of partitions.
    pub moves: Vec<Move>,
    /// The consumers to run: all that have partitions, and spare ones up to the minimum.
    pub consumers: BTreeSet<ConsumerNumber>,
    /// What it costs and why.
    pub report: Report,
}

/// Describes a placement that the phases have found.
pub(super) fn describe(
    table: &Table<'_>,
    placement: &Placement,
    reasons: &[Option<MoveReason>],
    bound_by: BTreeSet<Binding>,
) -> Solution {
    let problem = table.problem;
    let rising = table.rising_weights();
    let (before, after) = (loads(table, &table.homes), loads(table, placement));
    let moved_load = table.moved_load(placement);
    let mut report = Report {
        moved_load,
        r_score_permille: permille_in(moved_load, problem.capacity_bytes_per_sec),
        consumers_before: count(&before),
        consumers_after: count(&after),
        lower_bound: LowerBound::of(problem, problem.limits.overload_permille, &rising),
        packing_bound: LowerBound::of(problem, problem.limits.packing_permille, &rising),
        loads: load_changes(table, &before, &after),
        hot: hot(table, placement),
        bound_by,
    };
    if report.consumers_after <= report.lower_bound.consumers() {
        report.bound_by.insert(Binding::LowerBound);
    }
    let used = table.consumers.iter().zip(&after).filter(|(_, load)| load.is_some());
    Solution {
        assignment: table.assignment(placement),
        moves: moves(table, placement, reasons),
        consumers: with_spares(problem, used.map(|(consumer, _)| consumer.number).collect()),
        report,
    }
}

/// The load of every consumer that has partitions.
fn loads(table: &Table<'_>, placement: &Placement) -> Vec<Option<u64>> {
    let mut loads = vec![None; table.consumers.len()];
    for (weight, at) in table.weights.iter().zip(placement) {
        if let Some(load) = at.and_then(|at| loads.get_mut(at)) {
            *load = Some(load.unwrap_or(0_u64).saturating_add(*weight));
        }
    }
    loads
}

fn count(loads: &[Option<u64>]) -> u32 {
    u32::try_from(loads.iter().flatten().count()).unwrap_or(u32::MAX)
}

fn load_changes(
    table: &Table<'_>,
    before: &[Option<u64>],
    after: &[Option<u64>],
) -> BTreeMap<ConsumerNumber, LoadChange> {
    let consumers = table.consumers.iter().zip(before.iter().zip(after));
    let there = consumers.filter(|(_, (before, after))| before.is_some() || after.is_some());
    let change = |(consumer, (before, after)): (&Consumer, (&Option<u64>, &Option<u64>))| {
        let (before, after) = (before.unwrap_or(0), after.unwrap_or(0));
        (consumer.number, LoadChange { before, after, capacity: consumer.capacity })
    };
    there.map(change).collect()
}

fn hot(table: &Table<'_>, placement: &Placement) -> BTreeSet<PartitionId> {
    let pieces = table.partitions.iter().zip(table.weights.iter().zip(placement));
    let is_hot = |weight: u64, at: Option<Slot>| {
        at.and_then(|at| table.consumers.get(at)).is_some_and(|at| weight > at.capacity)
    };
    pieces.filter(|(_, (weight, at))| is_hot(**weight, **at)).map(|(at, _)| *at).collect()
}

fn moves(table: &Table<'_>, placement: &Placement, reasons: &[Option<MoveReason>]) -> Vec<Move> {
    let number = |slot: Slot| table.consumers.get(slot).map(|consumer| consumer.number);
    let places = table.homes.iter().zip(placement).zip(reasons);
    let all = table.partitions.iter().zip(places);
    let moved = all.filter_map(|(partition, ((home, to), reason))| {
        let to = to.filter(|to| *home != Some(*to)).and_then(number)?;
        let reason = reason.unwrap_or(MoveReason::Unassigned);
        Some(Move { partition: *partition, from: home.and_then(number), to, reason })
    });
    moved.collect()
}

/// Adds consumers without partitions until there are as many as the minimum, running ones first.
fn with_spares(
    problem: &Problem,
    mut consumers: BTreeSet<ConsumerNumber>,
) -> BTreeSet<ConsumerNumber> {
    let wanted = usize::try_from(problem.min_consumers).unwrap_or(usize::MAX);
    let all = problem.running.iter().copied().chain(ConsumerNumber::FIRST.and_above());
    for consumer in all {
        if consumers.len() >= wanted {
            break;
        }
        if problem.is_usable(consumer) {
            consumers.insert(consumer);
        }
    }
    consumers
}
