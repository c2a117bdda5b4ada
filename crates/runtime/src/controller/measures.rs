//! The controller's metrics: counted from its notes, and set from its status once a second.

use std::collections::BTreeSet;

use tidegate_core::controller::{Effect, Note};
use tidegate_core::ledger::{Evidence, Ignored};
use tidegate_wire::status::{Ownership, Role, WorkerPhase};
use tidegate_wire::{Alarm, Status};

use crate::telemetry::metrics::{
    AlarmLabels, ControllerMetrics, ReasonLabels, StateLabels, TriggerLabels,
};

/// Whether an effect tells that a plan was made, or that none could be.
pub(super) fn is_decision(effect: &Effect) -> bool {
    matches!(effect, Effect::Note(Note::Decided(_) | Note::PlanInfeasible(_)))
}

/// Counts a note.
pub(super) fn count(metrics: &ControllerMetrics, note: &Note) {
    match note {
        Note::Ignored(_, reason) => {
            let labels = ReasonLabels { reason: ignored_word(*reason) };
            metrics.messages_ignored.get_or_create(&labels).inc();
        }
        Note::Undecodable(_) => {
            metrics.messages_undecodable.inc();
        }
        Note::Fencing(_, _, evidence) => {
            let reason = match evidence {
                Evidence::Silence => "silence",
                Evidence::Death => "death",
            };
            metrics.fenced.get_or_create(&ReasonLabels { reason }).inc();
        }
        Note::Decided(decision) => {
            let labels = TriggerLabels { trigger: decision.trigger.name() };
            metrics.plans.get_or_create(&labels).inc();
            let moved = decision.solution.report.moved_load;
            metrics.plan_migrated_bytes_per_second.set(signed(moved));
        }
        Note::Moved { planned, pause: Some(pause), .. } => {
            let histogram = if *planned {
                &metrics.handoff_duration_seconds
            } else {
                &metrics.recovery_duration_seconds
            };
            histogram.observe(pause.as_secs_f64());
        }
        Note::Moved { .. }
        | Note::Leading(_)
        | Note::Joined(..)
        | Note::Waiting(..)
        | Note::PlanDone(..)
        | Note::Late(_)
        | Note::PlanInfeasible(_)
        | Note::Genesis(_)
        | Note::TopicsGone(_)
        | Note::Snapshot(_)
        | Note::SnapshotDiffers(_) => {}
    }
}

/// Sets the gauges.
pub(super) fn gauges(metrics: &ControllerMetrics, status: &Status) {
    let set = |family: &prometheus_client::metrics::family::Family<StateLabels, _>,
               state,
               value: usize| {
        let gauge: prometheus_client::metrics::gauge::Gauge =
            family.get_or_create_owned(&StateLabels { state });
        gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    };
    for (state, role) in
        [("follower", Role::Follower), ("candidate", Role::Candidate), ("leader", Role::Leader)]
    {
        set(&metrics.role, state, usize::from(status.role == role));
    }
    let wide = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    set(&metrics.consumers, "wanted", wide(status.wanted_consumers));
    set(&metrics.consumers, "ready", wide(status.ready_consumers));
    let states =
        [("free", Ownership::Free), ("granted", Ownership::Granted), ("active", Ownership::Active)];
    for (word, state) in states {
        let count = status.partitions.iter().filter(|partition| partition.state == state).count();
        set(&metrics.partitions, word, count);
    }
    let phases = [
        ("pending", WorkerPhase::Pending),
        ("running", WorkerPhase::Running),
        ("backing-off", WorkerPhase::BackingOff),
        ("stopping", WorkerPhase::Stopping),
    ];
    for (word, phase) in phases {
        set(
            &metrics.workers,
            word,
            status.consumers.iter().filter(|consumer| consumer.worker == phase).count(),
        );
    }
    let demand: u64 =
        status.partitions.iter().filter_map(|partition| partition.weight_bytes_per_sec).sum();
    metrics.demand_bytes_per_second.set(signed(demand));
    metrics.ledger_offset.set(signed(status.ledger_position));
    let plan = status.plan.as_ref();
    let in_flight = plan.map_or(0, |plan| plan.moves.saturating_sub(plan.done));
    metrics.handoffs_in_flight.set(i64::from(in_flight));
    let raised: BTreeSet<&str> = status.alarms.iter().map(|alarm| alarm.code.as_str()).collect();
    for alarm in Alarm::CODES {
        metrics.alarms.get_or_create(&AlarmLabels { alarm }).set(i64::from(raised.contains(alarm)));
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

const fn ignored_word(reason: Ignored) -> &'static str {
    match reason {
        Ignored::Replayed => "replayed",
        Ignored::NoGenesis => "no-genesis",
        Ignored::AlreadyBegun => "already-begun",
        Ignored::ForeignGroup => "foreign-group",
        Ignored::OtherGeneration => "other-generation",
        Ignored::StaleAttempt => "stale-attempt",
        Ignored::LateHello => "late-hello",
        Ignored::StaleTerm => "stale-term",
        Ignored::StaleSeq => "stale-seq",
        Ignored::NotLiving => "not-living",
        Ignored::NotCurrent => "not-current",
        Ignored::NothingApplied => "nothing-applied",
        Ignored::HasBeaten => "has-beaten",
        Ignored::NoEffect => "no-effect",
        Ignored::UnknownKind => "unknown-kind",
    }
}
