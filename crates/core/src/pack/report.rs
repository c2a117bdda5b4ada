//! What the packer answers: the assignment, and why it is as it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::bound::LowerBound;
use super::problem::{Assignment, Problem, permille_in};
use super::state::Reasons;
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

/// Describes an assignment that the phases have found.
pub(super) fn describe(
    problem: &Problem,
    assignment: Assignment,
    reasons: &Reasons,
    bound_by: BTreeSet<Binding>,
) -> Solution {
    let moves = moves(problem, &assignment, reasons);
    let mut report = Report { bound_by, ..Report::default() };
    for (partition, item) in &problem.items {
        if let Some(home) = item.home {
            let change = report.loads.entry(home).or_default();
            change.before = change.before.saturating_add(item.weight);
        }
        if let Some(to) = assignment.get(partition) {
            let change = report.loads.entry(*to).or_default();
            change.after = change.after.saturating_add(item.weight);
            if item.weight > problem.capacity_of(*to) {
                report.hot.insert(*partition);
            }
        }
    }
    for (consumer, change) in &mut report.loads {
        change.capacity = problem.capacity_of(*consumer);
    }
    for moved in moves.iter().filter(|moved| moved.from.is_some()) {
        let weight = problem.items.get(&moved.partition).map_or(0, |item| item.weight);
        report.moved_load = report.moved_load.saturating_add(weight);
    }
    report.r_score_permille = permille_in(report.moved_load, problem.capacity_bytes_per_sec);
    let homes: BTreeSet<_> = problem.items.values().filter_map(|item| item.home).collect();
    let used: BTreeSet<_> = assignment.values().copied().collect();
    report.consumers_before = u32::try_from(homes.len()).unwrap_or(u32::MAX);
    report.consumers_after = u32::try_from(used.len()).unwrap_or(u32::MAX);
    report.lower_bound = LowerBound::of(problem, problem.limits.overload_permille);
    report.packing_bound = LowerBound::of(problem, problem.limits.packing_permille);
    if report.consumers_after <= report.lower_bound.consumers() {
        report.bound_by.insert(Binding::LowerBound);
    }
    Solution { assignment, moves, consumers: with_spares(problem, used), report }
}

fn moves(problem: &Problem, assignment: &Assignment, reasons: &Reasons) -> Vec<Move> {
    let mut moves = Vec::new();
    for (partition, item) in &problem.items {
        let Some(to) = assignment.get(partition).copied() else {
            continue;
        };
        if item.home != Some(to) {
            let reason = reasons.get(partition).copied().unwrap_or(MoveReason::Unassigned);
            moves.push(Move { partition: *partition, from: item.home, to, reason });
        }
    }
    moves
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
