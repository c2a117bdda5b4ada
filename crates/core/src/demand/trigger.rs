//! The reasons to decide, each read off the state: an event that was missed is still there at the next look.

use alloc::collections::BTreeMap;

use super::fleet::Fleet;
use super::settings::Settings;
use super::table::Weights;
use crate::ids::{ConsumerNumber, PartitionId};
use crate::pack::{LowerBound, permille_of};

/// Why a decision is due, most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// A consumer that has partitions is gone.
    ConsumerLost {
        /// Which.
        consumer: ConsumerNumber,
    },
    /// The spec, a pin or an evacuation asks for something else.
    SpecChanged,
    /// Nobody has a partition.
    UnassignedPartition {
        /// The first such partition.
        partition: PartitionId,
    },
    /// A consumer with several partitions is above its overload limit.
    Overload {
        /// The one that is most above.
        consumer: ConsumerNumber,
        /// Its load in bytes/s.
        load: u64,
        /// Its limit in bytes/s.
        limit: u64,
    },
    /// Fewer consumers have sufficed all through the hold: the chance to scale in.
    Sentinel,
}

impl Trigger {
    /// A fixed word for logs, labels and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConsumerLost { .. } => "consumer-lost",
            Self::SpecChanged => "spec-changed",
            Self::UnassignedPartition { .. } => "unassigned-partition",
            Self::Overload { .. } => "overload",
            Self::Sentinel => "sentinel",
        }
    }
}

/// The first consumer that is gone and still has something.
pub(super) fn lost(fleet: &Fleet) -> Option<ConsumerNumber> {
    let owners = fleet.assignment.values().copied();
    owners.filter(|owner| fleet.unavailable.contains(owner)).min()
}

/// Whether a partition is on a consumer to be evacuated, or not where it is pinned.
pub(super) fn must_leave(fleet: &Fleet) -> bool {
    let is_usable =
        |at: &ConsumerNumber| !fleet.evacuate.contains(at) && !fleet.unavailable.contains(at);
    let evacuated = fleet.assignment.values().any(|owner| fleet.evacuate.contains(owner));
    evacuated
        || fleet.pins.iter().any(|(partition, pin)| {
            let owner = fleet.assignment.get(partition);
            is_usable(pin) && owner.is_some_and(|owner| owner != pin)
        })
}

/// The first partition that has a weight and no consumer.
pub(super) fn unassigned(fleet: &Fleet, weights: &Weights) -> Option<PartitionId> {
    let mut known = weights.by_partition.keys();
    known.find(|partition| !fleet.assignment.contains_key(partition)).copied()
}

/// The consumer that is most above its overload limit, of those that another assignment can help.
pub(super) fn overloaded(fleet: &Fleet, weights: &Weights, settings: &Settings) -> Option<Trigger> {
    let mut loads: BTreeMap<ConsumerNumber, (u64, usize)> = BTreeMap::new();
    for (partition, owner) in &fleet.assignment {
        let weight = weights.by_partition.get(partition).copied().unwrap_or(0);
        let (load, count) = loads.entry(*owner).or_default();
        *load = load.saturating_add(weight);
        // Taking idle partitions away helps nobody.
        *count = count.saturating_add(usize::from(weight > 0));
    }
    let above = loads.into_iter().filter(|(_, (_, count))| *count > 1).filter_map(
        |(consumer, (load, _))| {
            let limit =
                permille_of(settings.capacity_of(consumer), settings.limits.overload_permille);
            let excess = load.checked_sub(limit).filter(|excess| *excess > 0)?;
            Some((excess, core::cmp::Reverse(consumer), load, limit))
        },
    );
    let (_, consumer, load, limit) = above.max()?;
    Some(Trigger::Overload { consumer: consumer.0, load, limit })
}

/// Whether fewer consumers than run could hold everything, packed anew.
pub(super) fn has_slack(fleet: &Fleet, weights: &Weights, settings: &Settings) -> bool {
    let owners = fleet.assignment.values();
    let mut consumers = fleet.running.clone();
    consumers.extend(owners);
    let consumers = u32::try_from(consumers.len()).unwrap_or(u32::MAX);
    let limit = permille_of(settings.largest_capacity(), settings.limits.packing_permille);
    let needed = LowerBound::of_weights(weights.by_partition.values().copied(), limit);
    consumers > needed.consumers().max(settings.min_consumers)
}
