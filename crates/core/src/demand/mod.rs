//! What the group needs, and when to decide anew.
//!
//! ```text
//! monitor reports ─► RateTable ─► weights ─┬─► due? ─► Trigger ─► problem ─► pack::solve (the controller calls it)
//! heartbeats (lag) ─►                      └─► slack for the whole hold? ─► scale-in
//! decided, settled (from the controller) ─► one decision at a time, none before the last could have worked
//! ```
//!
//! Up at once and in one jump: an overload is a trigger as soon as it is seen. Down lazily: only when fewer consumers would have
//! sufficed all through the hold, and then only to what its peaks need. Missing or stale data holds the last value and stops the hold; it never shrinks anything.
//! A partition above a consumer's capacity is named as hot, and is no reason to act: no assignment can cure it.
//!
//! Invariant: nothing here acts or knows a message; every answer is a function of what was told and of `now`.

mod fleet;
mod peak;
mod settings;
mod table;
mod trigger;

use alloc::collections::BTreeMap;
use alloc::collections::BTreeSet;

pub use fleet::Fleet;
pub use settings::{Settings, SettingsError};
pub use table::{Lag, PartitionRate, RateTable, Weights};
pub use trigger::Trigger;

use crate::ids::{Instant, PartitionId, TopicId};
use crate::pack::{Item, Problem};
use crate::rates::TopicReport;

/// The state between measurements and decisions.
#[derive(Clone, Debug, Hash)]
pub struct Demand {
    settings: Settings,
    table: RateTable,
    /// The spec changed and no decision has seen it yet.
    spec_changed: bool,
    /// When the last decision that moved something was carried out.
    settled_at: Option<Instant>,
    /// When the last decision was taken that moved nothing: asking again at once would give the same.
    futile_at: Option<Instant>,
    /// Since when fewer consumers would suffice, without interruption.
    slack_since: Option<Instant>,
    /// When the load was looked at last and was no reason to act.
    looked_at: Option<Instant>,
    /// When it was last asked to move what must leave its consumer.
    leave_asked_at: Option<Instant>,
}

impl Demand {
    /// Knows nothing yet, and has never acted.
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            table: RateTable::new(),
            spec_changed: false,
            settled_at: None,
            futile_at: None,
            slack_since: None,
            looked_at: None,
            leave_asked_at: None,
        }
    }

    /// The settings in force.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What is known of every partition.
    pub const fn table(&self) -> &RateTable {
        &self.table
    }

    /// Puts new settings in force; a difference is a reason to decide.
    pub fn set_settings(&mut self, settings: Settings) {
        if self.settings != settings {
            self.settings = settings;
            self.spec_changed();
        }
    }

    /// Something else of the spec changed, such as pins: decide soon.
    pub const fn spec_changed(&mut self) {
        self.spec_changed = true;
    }

    /// Takes in the monitor's report about a topic.
    pub fn report(&mut self, now: Instant, topic: TopicId, report: &TopicReport) {
        self.table.report(now, topic, report);
    }

    /// Takes in how far a partition's consumer is behind.
    pub fn lag(&mut self, now: Instant, partition: PartitionId, lag: Lag) {
        self.table.lag(now, partition, lag);
    }

    /// A topic is no longer of interest.
    pub fn forget(&mut self, topic: TopicId) {
        self.table.forget(topic);
    }

    /// The weight of every partition.
    pub fn weights(&self, now: Instant) -> Weights {
        self.table.weights(now, &self.settings)
    }

    /// Partitions that are written faster than any consumer reads.
    pub fn hot(&self) -> BTreeSet<PartitionId> {
        self.table.above(self.settings.largest_capacity())
    }

    /// Whether to decide now, and why; of several reasons the most urgent. To be asked regularly, as the hold for scale-in
    /// counts from one time to the next. A consumer that is lost, another spec and a partition without consumer are reasons at
    /// once; how the load lies is looked at once a period.
    pub fn due(&mut self, now: Instant, fleet: &Fleet) -> Option<Trigger> {
        if let Some(consumer) = trigger::lost(fleet) {
            return Some(Trigger::ConsumerLost { consumer });
        }
        if fleet.busy {
            self.slack_since = None;
            return None;
        }
        if !self.settings.paused && self.is_otherwise_specified(now, fleet) {
            return Some(Trigger::SpecChanged);
        }
        let weights = self.weights(now);
        if !weights.allow_scale_in() {
            self.slack_since = None;
        }
        if let Some(partition) = trigger::unassigned(fleet, &weights) {
            return Some(Trigger::UnassignedPartition { partition });
        }
        let period = self.settings.decision_period;
        if self.settings.paused || self.looked_at.is_some_and(|at| now.since(at) < period) {
            return None;
        }
        let due = self.look(now, fleet, &weights);
        self.looked_at = if due.is_none() { Some(now) } else { None };
        due
    }

    /// Whether the spec, a pin or an evacuation asks for something else.
    fn is_otherwise_specified(&mut self, now: Instant, fleet: &Fleet) -> bool {
        if self.spec_changed {
            return true;
        }
        let retry = self.settings.retry;
        let asked = |at: Instant| at < now && now.since(at) < retry;
        let leaves = !self.leave_asked_at.is_some_and(asked) && trigger::must_leave(fleet);
        if leaves {
            self.leave_asked_at = Some(now);
        }
        leaves
    }

    /// Whether the way the load lies is a reason to decide.
    fn look(&mut self, now: Instant, fleet: &Fleet, weights: &Weights) -> Option<Trigger> {
        self.table.turn(now, self.settings.hold);
        self.watch_slack(now, fleet, weights);
        if self.is_resting(now) {
            return None;
        }
        let overloaded = trigger::overloaded(fleet, weights, &self.settings);
        overloaded.or_else(|| self.may_shrink(now, fleet).then_some(Trigger::Sentinel))
    }

    /// The problem that a decision for this reason has to solve. Only a sentinel's may give consumers up, and it weighs every
    /// partition by its peak of the hold, so that what comes back with the next swing still has its place.
    pub fn problem(&self, now: Instant, fleet: &Fleet, trigger: Trigger) -> Problem {
        let settings = &self.settings;
        let present = self.weights(now);
        // Peaks of different moments can add up to an overload that never was.
        let relieve = trigger != Trigger::Sentinel
            || trigger::overloaded(fleet, &present, settings).is_some();
        let weights = match trigger {
            Trigger::Sentinel => self.table.peaks(now, settings),
            _ => present,
        };
        let item = |(partition, weight): (&PartitionId, &u64)| {
            let home = fleet.assignment.get(partition).copied();
            let pinned = fleet.pins.get(partition).copied();
            (*partition, Item { weight: *weight, home, pinned })
        };
        let mut items: BTreeMap<_, _> = weights.by_partition.iter().map(item).collect();
        for (partition, home) in &fleet.assignment {
            let pinned = fleet.pins.get(partition).copied();
            items.entry(*partition).or_insert(Item { weight: 0, home: Some(*home), pinned });
        }
        let mut problem = Problem::new(items, settings.capacity_bytes_per_sec.get());
        problem.capacity_overrides.clone_from(&settings.capacity_overrides);
        problem.limits = settings.limits;
        problem.alpha_permille = settings.alpha_permille;
        problem.effort = settings.effort;
        problem.min_consumers = settings.min_consumers.saturating_sub(fleet.returning).max(1);
        problem.max_consumers = settings.max_consumers;
        problem.max_surge = settings.max_surge;
        problem.max_moved_load = settings.max_moved_load;
        problem.relieve = relieve;
        problem.evacuate.clone_from(&fleet.evacuate);
        problem.unavailable.clone_from(&fleet.unavailable);
        problem.running.clone_from(&fleet.running);
        problem.scale_in = trigger == Trigger::Sentinel && weights.allow_scale_in();
        problem
    }

    /// A decision was taken; `acts` when it changes anything.
    pub fn decided(&mut self, now: Instant, acts: bool) {
        self.spec_changed = false;
        if acts {
            self.settled(now);
        } else if self.leave_asked_at != Some(now) {
            // What must leave and cannot is asked for again by itself, and keeps nothing else from being decided.
            self.futile_at = Some(now);
        }
    }

    /// The last decision was carried out: its effect begins to show from now.
    pub const fn settled(&mut self, now: Instant) {
        self.settled_at = Some(now);
        self.futile_at = None;
        self.leave_asked_at = None;
        self.slack_since = None;
    }

    /// Whether it is too early to judge the last decision, or to repeat one that moved nothing.
    fn is_resting(&self, now: Instant) -> bool {
        let acted = self.settled_at.is_some_and(|at| now.since(at) < self.settings.cooldown);
        acted || self.futile_at.is_some_and(|at| now.since(at) < self.settings.retry)
    }

    /// Whether fewer consumers would have sufficed all through the hold, even for all its peaks together.
    fn may_shrink(&self, now: Instant, fleet: &Fleet) -> bool {
        let held = self.slack_since.is_some_and(|since| now.since(since) >= self.settings.hold);
        held && trigger::has_slack(fleet, &self.table.peaks(now, &self.settings), &self.settings)
    }

    fn watch_slack(&mut self, now: Instant, fleet: &Fleet, weights: &Weights) {
        let slack = weights.allow_scale_in() && trigger::has_slack(fleet, weights, &self.settings);
        if !slack {
            self.slack_since = None;
        } else if self.slack_since.is_none() {
            self.slack_since = Some(now);
        }
    }
}

#[cfg(test)]
mod loop_tests;
#[cfg(test)]
mod tests;
