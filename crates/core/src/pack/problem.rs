//! What the packer is asked: partitions with weights and homes, capacities, limits, and who may be used at all.
//!
//! A `Problem` is validated once, in [`Problem::validate`]; behind it no sum of weights can overflow and no limit is zero.

use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::time::Duration;

use crate::ids::{ConsumerNumber, PartitionId};

/// Which consumer has which partition.
pub type Assignment = BTreeMap<PartitionId, ConsumerNumber>;

/// One partition to be placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Item {
    /// The load it puts on a consumer, in bytes/s.
    pub weight: u64,
    /// The consumer that has it now; staying there costs nothing.
    pub home: Option<ConsumerNumber>,
    /// The consumer that it must be on. Ignored, and reported, when that consumer must be left or must not be opened.
    pub pinned: Option<ConsumerNumber>,
}

/// How full a consumer may be, in permille of its capacity.
///
/// The band between the two is what keeps a group calm: a consumer is filled up to `packing_permille` and left alone until it
/// is above `overload_permille`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Partitions are added up to here.
    pub packing_permille: u32,
    /// Partitions are taken away only above here.
    pub overload_permille: u32,
}

impl Default for Limits {
    /// 750 leaves a third of the load as room to grow before anything must move; 950 leaves room for the error of a filtered rate.
    fn default() -> Self {
        Self { packing_permille: 750, overload_permille: 950 }
    }
}

impl Limits {
    /// Whether `0 < packing <= overload <= 1000`: above its capacity nobody may be filled on purpose.
    pub const fn is_valid(self) -> bool {
        0 < self.packing_permille
            && self.packing_permille <= self.overload_permille
            && self.overload_permille <= 1000
    }
}

/// How hard the packer tries beyond its first find.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Effort {
    /// Looks at one place for one partition; 0 for none. Most decisions end with fewer; whoever seeks the fewest consumers, and finds
    /// fewer again and again, ends with twice as many at the latest.
    pub steps: u64,
    /// What chance depends on: the same seed gives the same answer.
    pub seed: u64,
    /// Whether the fewest consumers are sought: by ejection chains, and from packings made anew.
    pub fewest: bool,
}

impl Effort {
    /// The steps that one core of a small machine makes in a time, as measured: the search has no clock to stop by.
    pub fn steps_in(time: Duration) -> u64 {
        const PER_MILLI: u64 = 60_000;
        u64::try_from(time.as_millis()).unwrap_or(u64::MAX).saturating_mul(PER_MILLI)
    }
}

/// Everything that a decision of the packer depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The partitions; a map, so that none is there twice and their order cannot matter.
    pub items: BTreeMap<PartitionId, Item>,
    /// What a consumer can do, in bytes/s.
    pub capacity_bytes_per_sec: u64,
    /// The same for consumers that differ.
    pub capacity_overrides: BTreeMap<ConsumerNumber, u64>,
    /// How full a consumer may be.
    pub limits: Limits,
    /// The price of one consumer, in permille of "one consumer's capacity moved once". At 1000 and above, a consumer is given up
    /// whenever its partitions fit elsewhere.
    pub alpha_permille: u32,
    /// How hard something better than the first find is looked for.
    pub effort: Effort,
    /// So many consumers run even without load.
    pub min_consumers: u32,
    /// So many consumers run at most; above it load is squeezed in, and the report says so.
    pub max_consumers: u32,
    /// So many more may run while others are being left; what finds no room in them waits until somebody has gone.
    pub max_surge: u32,
    /// Everything must leave these consumers.
    pub evacuate: BTreeSet<ConsumerNumber>,
    /// These consumers are gone: nothing is left there, and they must not be opened.
    pub unavailable: BTreeSet<ConsumerNumber>,
    /// Consumers that run already, with partitions or without: cheaper to use than others.
    pub running: BTreeSet<ConsumerNumber>,
    /// Whether consumers may be given up.
    pub scale_in: bool,
    /// Whether overloaded consumers are relieved; not where weights are of different times, and did not add up at any.
    pub relieve: bool,
    /// So much load, in bytes/s, may leave its consumer in one decision. Only what an overload drives out, or has lost its
    /// consumer, may exceed it; what is heavier than all of it stays until then, a partition as
    /// well as a consumer.
    pub max_moved_load: u64,
}

/// Why a problem has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A capacity is so small that its packing limit is zero.
    NoCapacity {
        /// The consumer whose own capacity it is; none for the default.
        consumer: Option<ConsumerNumber>,
    },
    /// The limits are not `0 < packing <= overload <= 1000`.
    Limits(Limits),
    /// The numbers of consumers are not `min <= max`, `0 < max`.
    Consumers {
        /// As given.
        min: u32,
        /// As given.
        max: u32,
    },
    /// The weights add up to more than a `u64` holds.
    TotalTooLarge,
}

impl Problem {
    /// Partitions on consumers of this capacity, with default limits, nothing forbidden and scale-in allowed.
    pub fn new(items: BTreeMap<PartitionId, Item>, capacity_bytes_per_sec: u64) -> Self {
        Self {
            items,
            capacity_bytes_per_sec,
            capacity_overrides: BTreeMap::new(),
            limits: Limits::default(),
            alpha_permille: 1500,
            effort: Effort::default(),
            min_consumers: 0,
            max_consumers: u32::MAX,
            max_surge: 1,
            evacuate: BTreeSet::new(),
            unavailable: BTreeSet::new(),
            running: BTreeSet::new(),
            scale_in: true,
            relieve: true,
            max_moved_load: u64::MAX,
        }
    }

    /// Checks what [`super::solve`] relies on.
    pub fn validate(&self) -> Result<(), Error> {
        if !self.limits.is_valid() {
            return Err(Error::Limits(self.limits));
        }
        let defaults = core::iter::once((None, self.capacity_bytes_per_sec));
        let overrides = self.capacity_overrides.iter().map(|(at, capacity)| (Some(*at), *capacity));
        for (consumer, capacity) in defaults.chain(overrides) {
            if permille_of(capacity, self.limits.packing_permille) == 0 {
                return Err(Error::NoCapacity { consumer });
            }
        }
        let (min, max) = (self.min_consumers, self.max_consumers);
        if max == 0 || min > max {
            return Err(Error::Consumers { min, max });
        }
        let total =
            self.items.values().try_fold(0_u64, |total, item| total.checked_add(item.weight));
        total.map(drop).ok_or(Error::TotalTooLarge)
    }

    /// The capacity of a consumer.
    pub fn capacity_of(&self, consumer: ConsumerNumber) -> u64 {
        self.capacity_overrides.get(&consumer).copied().unwrap_or(self.capacity_bytes_per_sec)
    }

    /// Up to here partitions are added to a consumer.
    pub fn packing_limit_of(&self, consumer: ConsumerNumber) -> u64 {
        permille_of(self.capacity_of(consumer), self.limits.packing_permille)
    }

    /// Above here partitions are taken from a consumer.
    pub fn overload_limit_of(&self, consumer: ConsumerNumber) -> u64 {
        permille_of(self.capacity_of(consumer), self.limits.overload_permille)
    }

    /// Whether a consumer may have partitions at all.
    pub fn is_usable(&self, consumer: ConsumerNumber) -> bool {
        !self.evacuate.contains(&consumer) && !self.unavailable.contains(&consumer)
    }

    /// So many usable consumers may have partitions: those that are being left run on meanwhile, and all together may exceed
    /// the maximum by the surge.
    pub fn most_open(&self) -> u32 {
        let homes: BTreeSet<_> = self.items.values().filter_map(|item| item.home).collect();
        let runs = |at: &&ConsumerNumber| homes.contains(*at) || self.running.contains(*at);
        let left = self.evacuate.difference(&self.unavailable).filter(runs).count();
        let all = self.max_consumers.saturating_add(self.max_surge);
        self.max_consumers.min(all.saturating_sub(u32::try_from(left).unwrap_or(u32::MAX)))
    }

    /// The pin of an item that can be obeyed.
    pub fn effective_pin(&self, item: &Item) -> Option<ConsumerNumber> {
        item.pinned.filter(|consumer| self.is_usable(*consumer))
    }

    /// The same problem with partitions at home where `assignment` has them.
    #[must_use]
    pub fn with_homes(&self, assignment: &Assignment) -> Self {
        let mut next = self.clone();
        for (partition, item) in &mut next.items {
            item.home = assignment.get(partition).copied();
        }
        next
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCapacity { consumer: Some(consumer) } => {
                write!(f, "consumer {consumer} has no capacity to pack into")
            }
            Self::NoCapacity { consumer: None } => {
                f.write_str("a consumer has no capacity to pack into")
            }
            Self::Limits(limits) => write!(
                f,
                "limits must satisfy 0 < packing <= overload <= 1000 permille, got packing {} and overload {}",
                limits.packing_permille, limits.overload_permille
            ),
            Self::Consumers { min, max } => write!(
                f,
                "numbers of consumers must satisfy min <= max and 0 < max, got min {min} and max {max}"
            ),
            Self::TotalTooLarge => {
                write!(f, "the loads of all partitions add up to more than {} bytes/s", u64::MAX)
            }
        }
    }
}

impl core::error::Error for Error {}

/// A share of an amount, rounded down.
pub(crate) fn permille_of(amount: u64, permille: u32) -> u64 {
    let scaled = u128::from(amount).saturating_mul(u128::from(permille));
    u64::try_from(scaled.checked_div(1000).unwrap_or(0)).unwrap_or(u64::MAX)
}

/// How much `part` is of `whole`, in permille, rounded down; the most there is when `whole` is zero and `part` is not.
pub(crate) fn permille_in(part: u64, whole: u64) -> u64 {
    if part == 0 {
        return 0;
    }
    let scaled = u128::from(part).saturating_mul(1000);
    scaled
        .checked_div(u128::from(whole))
        .map_or(u64::MAX, |share| u64::try_from(share).unwrap_or(u64::MAX))
}
