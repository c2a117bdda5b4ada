//! What the operator decides about sizing, with defaults that are safe to begin with.

use alloc::collections::BTreeMap;
use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

use crate::ids::ConsumerNumber;
use crate::pack::{Effort, Limits};

/// How the group is sized and how quickly it reacts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// What a consumer can process.
    pub capacity_bytes_per_sec: NonZeroU64,
    /// The same for consumers that differ.
    pub capacity_overrides: BTreeMap<ConsumerNumber, u64>,
    /// How full a consumer may be.
    pub limits: Limits,
    /// The price of a consumer, in permille of its capacity moved once.
    pub alpha_permille: u32,
    /// How hard the planner looks for something better than its first find.
    pub effort: Effort,
    /// Nothing is changed but what has no consumer, or has lost it.
    pub paused: bool,
    /// So many consumers always run.
    pub min_consumers: u32,
    /// Never more than so many, but for the surge.
    pub max_consumers: u32,
    /// So many more while consumers are being left.
    pub max_surge: u32,
    /// So much load, in bytes/s, may leave its consumer in one decision without being driven out.
    pub max_moved_load: u64,
    /// The time between two looks at the load.
    pub decision_period: Duration,
    /// A consumer that needs longer than this for its backlog of a partition is behind.
    pub lag_limit: Duration,
    /// In this time a backlog is to be worked off.
    pub drain_target: Duration,
    /// A rate is stale when nothing was heard for so long.
    pub stale_after: Duration,
    /// A new partition waits so long for its first measurement before it is placed as if it were idle.
    pub first_measurement: Duration,
    /// After a decision was carried out, its effect is awaited for so long.
    pub cooldown: Duration,
    /// After a decision that could move nothing, the same question waits so long.
    pub retry: Duration,
    /// Fewer consumers must have sufficed for so long before any is given up.
    pub hold: Duration,
}

/// A setting that has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingsError {
    /// The drain target is zero, so that every backlog would weigh infinitely.
    NoDrainTarget,
    /// The limits are not `0 < packing <= overload <= 1000`.
    Limits(Limits),
    /// The numbers of consumers are not `min <= max`, `0 < max`.
    Consumers,
}

/// 10 MiB/s: what one process reads, encodes and writes durably on a small machine with ease. Every installation should measure
/// its own; too low wastes consumers, too high makes lag.
const CAPACITY: NonZeroU64 = NonZeroU64::MIN.saturating_add(10 * 1024 * 1024 - 1);

impl Default for Settings {
    fn default() -> Self {
        Self {
            capacity_bytes_per_sec: CAPACITY,
            capacity_overrides: BTreeMap::new(),
            limits: Limits::default(),
            // A consumer that saves 180 s of another and costs at most one load moved once pays soon; with 1000 or more a group
            // whose load falls evenly can always scale in.
            alpha_permille: 1500,
            effort: Effort::default(),
            paused: false,
            min_consumers: 1,
            // A typing error in a rate or a capacity must not fill a cluster; who needs more says so.
            max_consumers: 100,
            // One at a time disturbs least; who is in a hurry allows more.
            max_surge: 1,
            // A moved partition waits for a fraction of a second; who has larger ones, or readers that mind, knows how much.
            max_moved_load: u64::MAX,
            // In between the monitor tells nothing new.
            decision_period: Duration::from_secs(1),
            // Shorter backlogs come and go with every batch and every hand-off.
            lag_limit: Duration::from_secs(10),
            // Two minutes of catching up cost 8 % of capacity per 10 s of lag: quick, and seldom worth a consumer of its own.
            drain_target: Duration::from_secs(120),
            // Ten sample periods: a broker that is elected or restarted answers again by then.
            stale_after: Duration::from_secs(10),
            // Two sample periods suffice for a rate; the rest is for a monitor that starts together with the controller.
            first_measurement: Duration::from_secs(10),
            // One time constant of the filter: by then rates show two thirds of what has changed, and a moved partition flows.
            cooldown: Duration::from_secs(10),
            // The answer changes only as rates change, and those take a time constant to do so.
            retry: Duration::from_secs(10),
            // Loads that swing within three minutes would otherwise pay for each swing with a hand-off in and one out.
            hold: Duration::from_secs(180),
        }
    }
}

impl Settings {
    /// Checks what sizing relies on.
    pub fn validate(&self) -> Result<(), SettingsError> {
        if !self.limits.is_valid() {
            return Err(SettingsError::Limits(self.limits));
        }
        if self.max_consumers == 0 || self.min_consumers > self.max_consumers {
            return Err(SettingsError::Consumers);
        }
        if self.drain_target.is_zero() {
            return Err(SettingsError::NoDrainTarget);
        }
        Ok(())
    }

    /// The capacity of a consumer.
    pub fn capacity_of(&self, consumer: ConsumerNumber) -> u64 {
        let special = self.capacity_overrides.get(&consumer).copied();
        special.unwrap_or(self.capacity_bytes_per_sec.get())
    }

    /// The capacity of the largest consumer.
    pub fn largest_capacity(&self) -> u64 {
        let overrides = self.capacity_overrides.values().copied();
        overrides.fold(self.capacity_bytes_per_sec.get(), u64::max)
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDrainTarget => f.write_str("the drain target must be longer than zero"),
            Self::Limits(limits) => write!(
                f,
                "limits must satisfy 0 < packing <= overload <= 1000 permille, got packing {} and overload {}",
                limits.packing_permille, limits.overload_permille
            ),
            Self::Consumers => {
                f.write_str("numbers of consumers must satisfy min <= max and 0 < max")
            }
        }
    }
}

impl core::error::Error for SettingsError {}
