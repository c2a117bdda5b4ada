//! How large consumers are in a simulation, and the one place where the packer's problem is made from it. Every simulation of the
//! production packer goes through here, so that what is added to a problem is added for all of them.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::ids::PartitionId;
use tidegate_core::pack::{Effort, Item, Limits, Preset, Problem};

/// Time of the packer's search for one decision: what a controller has by default.
const BUDGET: Duration = Duration::from_millis(50);

/// A consumer's size, in the unit of the rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizing {
    /// Partitions are added up to here.
    pub packing: u64,
    /// The production packer takes partitions away only above here.
    pub overload: u64,
    /// What a consumer can really do.
    pub capacity: u64,
}

/// Sizes that contradict each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "sizes of a consumer must satisfy 0 < packing <= overload <= capacity, got packing {}, overload {} and capacity {}",
    .0.packing, .0.overload, .0.capacity
)]
pub struct SizingError(pub Sizing);

/// What the production packer weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// The preset.
    pub preset: Preset,
    /// The price of a consumer instead of the preset's.
    pub alpha_permille: Option<u32>,
}

// === impl Sizing ===

impl Sizing {
    /// A consumer that is packed as full as it can be.
    pub const fn full(capacity: u64) -> Self {
        Self { packing: capacity, overload: capacity, capacity }
    }

    /// Checks that the sizes do not contradict each other.
    pub const fn validate(self) -> Result<Self, SizingError> {
        let Self { packing, overload, capacity } = self;
        let is_valid = 0 < packing && packing <= overload && overload <= capacity;
        if is_valid { Ok(self) } else { Err(SizingError(self)) }
    }

    /// The same sizes in a finer unit.
    #[must_use]
    pub const fn scaled(self, by: u64) -> Self {
        Self {
            packing: self.packing.saturating_mul(by),
            overload: self.overload.saturating_mul(by),
            capacity: self.capacity.saturating_mul(by),
        }
    }

    /// The limits as shares of the capacity: the lowest that allow all of the load, unless that allows more.
    pub fn limits(self) -> Limits {
        let share = |limit: u64| {
            let (limit, capacity) = (u128::from(limit), u128::from(self.capacity.max(1)));
            let above = (limit * 1000).div_ceil(capacity);
            let is_exact = above * capacity / 1000 == limit;
            let share = if is_exact { above } else { limit * 1000 / capacity };
            u32::try_from(share).unwrap_or(u32::MAX)
        };
        Limits { packing_permille: share(self.packing), overload_permille: share(self.overload) }
    }

    /// What the production packer is asked for these partitions.
    pub fn problem(self, items: BTreeMap<PartitionId, Item>, tuning: Tuning) -> Problem {
        let mut problem = Problem::new(items, self.capacity);
        problem.limits = self.limits();
        tuning.apply(&mut problem);
        problem
    }
}

// === impl Tuning ===

impl Tuning {
    /// A preset as it is.
    pub const fn of(preset: Preset) -> Self {
        Self { preset, alpha_permille: None }
    }

    /// The price of one consumer, in permille of its capacity moved once.
    pub fn price_permille(self) -> u32 {
        self.alpha_permille.unwrap_or_else(|| self.preset.alpha_permille())
    }

    /// How hard the packer looks for something better.
    pub fn effort(self) -> Effort {
        self.preset.effort(Effort::steps_in(BUDGET), 0)
    }

    /// Sets what a problem does not get from its partitions and consumers.
    pub fn apply(self, problem: &mut Problem) {
        problem.alpha_permille = self.price_permille();
        problem.effort = self.effort();
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::ConsumerNumber;

    use super::*;

    #[test]
    fn limits_are_exact_where_permille_can_tell_them_apart() {
        let sizing = Sizing { packing: 100, overload: 120, capacity: 133 };
        let problem = sizing.problem(BTreeMap::new(), Tuning::of(Preset::Balanced));
        assert_eq!(problem.packing_limit_of(ConsumerNumber::FIRST), 100);
        assert_eq!(problem.overload_limit_of(ConsumerNumber::FIRST), 120);
        assert_eq!(
            sizing.scaled(1000).limits(),
            Limits { packing_permille: 751, overload_permille: 902 }
        );
        assert_eq!(
            Sizing::full(77).limits(),
            Limits { packing_permille: 1000, overload_permille: 1000 }
        );
    }

    #[test]
    fn sizes_that_contradict_each_other_are_refused() {
        let sizing = Sizing { packing: 100, overload: 120, capacity: 133 };
        assert_eq!(sizing.validate(), Ok(sizing));
        let wrong = [
            Sizing { packing: 0, ..sizing },
            Sizing { overload: 99, ..sizing },
            Sizing { capacity: 119, ..sizing },
        ];
        assert!(wrong.iter().all(|sizing| sizing.validate().is_err()));
    }
}
