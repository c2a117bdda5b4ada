//! What the status of a resource says, from what the group's controller tells and what the operator knows. No IO.
//!
//! Nothing in it changes with the rates: it is written when something has happened, and not each second.

use k8s_openapi::jiff::Timestamp;
use tidegate_wire::Status;
use tidegate_wire::status::{Decision, Mode, RaisedAlarm, Role, Severity};

use super::fleet::Refusal;
use crate::resource::{Condition, GroupStatus, LastDecision, Numbers, Refused};

/// The longest message of a condition.
const MESSAGE: usize = 1024;

/// What the operator knows of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The generation that was judged.
    pub(super) generation: i64,
    /// Why it is not taken up.
    pub(super) refusal: Option<Refusal>,
    /// Its controller is run here.
    pub(super) runs: bool,
    /// Why its controller ended last, while it does not run again.
    pub(super) trouble: Option<String>,
    /// What its end waits for.
    pub(super) draining: Option<String>,
    /// Finds the consumers' pods.
    pub(super) selector: String,
}

/// True if what a controller tells is what the group does: it leads, or it observes and nobody leads.
pub(super) fn speaks(told: &Status) -> bool {
    told.role == Role::Leader || told.mode == Mode::Observe && told.at_unix_ms > 0
}

/// A condition before it has a time.
struct Said {
    kind: &'static str,
    is_true: bool,
    reason: String,
    message: String,
}

/// The status now; `before` is the one that is stored.
pub(super) fn of(facts: &Facts, told: &Status, before: &GroupStatus, now: &str) -> GroupStatus {
    let is_known = speaks(told);
    let mut said = vec![accepted(facts), ready(facts, told), rolling(told)];
    if is_known {
        said.push(overridden(told));
    }
    said.extend(
        facts
            .draining
            .as_ref()
            .map(|progress| Said::new("Draining", true, "ConsumersEnd", progress.clone())),
    );
    let mut conditions: Vec<Condition> =
        said.into_iter().map(|said| said.since(before, now)).collect();
    if !is_known {
        // The last word of the controller before.
        let kept = before.conditions.iter().filter(|kept| kept.kind == "Overridden");
        conditions.extend(kept.cloned());
    }
    let numbers = Numbers { wanted: told.wanted_consumers, ready: told.ready_consumers };
    let decision = told.decisions.first().filter(|_| is_known).map(last_decision);
    GroupStatus {
        observed_generation: facts.generation,
        conditions,
        consumers: if is_known { numbers } else { before.consumers },
        partitions: if is_known { count(told.partitions.len()) } else { before.partitions },
        selector: facts.selector.clone(),
        last_decision: decision.or_else(|| before.last_decision.clone()),
        refused: refused(told, before.refused.as_ref()),
    }
}

/// What is known to have been taken back, after this was told.
pub(super) fn refused(told: &Status, before: Option<&Refused>) -> Option<Refused> {
    if told.role != Role::Leader {
        return before.cloned();
    }
    let rollout = told.rollout.as_ref()?;
    let reason = rollout.refused.clone()?;
    Some(Refused { revision: rollout.revision.clone(), reason })
}

fn accepted(facts: &Facts) -> Said {
    match &facts.refusal {
        None => Said::new("Accepted", true, "Valid", "the specification is taken up".to_owned()),
        Some(Refusal { reason, message }) => {
            let goes_on = if facts.runs { "; the group goes on by the one before" } else { "" };
            Said::new("Accepted", false, reason, format!("{message}{goes_on}"))
        }
    }
}

fn ready(facts: &Facts, told: &Status) -> Said {
    let not = |reason: &str, message: String| Said::new("Ready", false, reason, message);
    if facts.draining.is_some() {
        return not("Draining", "the group ends".to_owned());
    }
    // Of one that speaks the end is over.
    if let Some(trouble) = facts.trouble.as_ref().filter(|_| !speaks(told)) {
        return not("ControllerFailed", format!("{trouble}; it is tried again"));
    }
    if !facts.runs {
        return not("NotAccepted", "see the condition Accepted".to_owned());
    }
    if !speaks(told) {
        return not("Starting", "its controller reads the ledger, or waits to lead".to_owned());
    }
    let (critical, others): (Vec<_>, Vec<_>) =
        told.alarms.iter().partition(|alarm| alarm.severity == Severity::Critical);
    if let Some(worst) = critical.first() {
        return not(&camel(&worst.code), sentences(&told.alarms));
    }
    if told.mode == Mode::Observe {
        return not("Observing", "mode observe: what is decided is shown, and not done".to_owned());
    }
    let (ready, wanted) = (told.ready_consumers, told.wanted_consumers);
    if ready < wanted {
        let troubles = told.consumers.iter().filter_map(|row| {
            row.trouble.as_ref().map(|trouble| format!("; consumer {}: {trouble}", row.number))
        });
        let message = format!("{ready} of {wanted} consumers are ready");
        return not("ConsumersNotReady", troubles.fold(message, |all, one| all + &one));
    }
    match others.first() {
        Some(worst) => Said::new("Ready", true, &camel(&worst.code), sentences(&told.alarms)),
        None => Said::new("Ready", true, "Ready", format!("{ready} consumers are ready")),
    }
}

fn rolling(told: &Status) -> Said {
    let rollout = told.rollout.as_ref().filter(|_| told.role == Role::Leader);
    let Some(rollout) = rollout else {
        let message = "all consumers run what is wanted".to_owned();
        return Said::new("Progressing", false, "UpToDate", message);
    };
    let phase = rollout.phase.as_deref().unwrap_or("updating");
    let one = rollout.consumer.map(|consumer| format!(", consumer {consumer} {phase}"));
    let one = one.unwrap_or_default();
    let message = format!("{} of {} updated{one}", rollout.updated, rollout.consumers);
    match &rollout.refused {
        Some(why) => {
            Said::new("Progressing", false, "TakenBack", format!("{message}; taken back: {why}"))
        }
        None => Said::new("Progressing", true, "RollingOut", message),
    }
}

fn overridden(told: &Status) -> Said {
    let fields: Vec<String> = told
        .overrides
        .iter()
        .map(|row| match &row.refused {
            None => row.field.clone(),
            Some(why) => format!("{} (not in effect: {why})", row.field),
        })
        .collect();
    if fields.is_empty() {
        let message = "the service topic sets nothing".to_owned();
        return Said::new("Overridden", false, "NoOverrides", message);
    }
    let message = format!("the service topic sets over the resource: {}", fields.join(", "));
    Said::new("Overridden", true, "ServiceTopic", message)
}

fn last_decision(decision: &Decision) -> LastDecision {
    LastDecision {
        time: time_of(decision.at_unix_ms),
        trigger: decision.trigger.clone(),
        lower_bound: decision.lower_bound,
        consumers_before: decision.consumers_before,
        consumers_after: decision.consumers_after,
        raw_consumers: decision.raw_consumers,
        bound_by: decision.bound_by.clone(),
        moves: decision.moves,
        reasons: decision.reasons.clone(),
    }
}

/// As Kubernetes writes times.
pub(super) fn time_of(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or_default();
    Timestamp::from_second(seconds).map(|time| time.to_string()).unwrap_or_default()
}

/// What stays the same while an alarm lasts: how hot a partition is changes each second.
fn sentences(alarms: &[RaisedAlarm]) -> String {
    let sentence = |alarm: &RaisedAlarm| match alarm.code.as_str() {
        "hot-partition" => format!("{} is written faster than a consumer reads", alarm.object),
        _ => alarm.summary.clone(),
    };
    alarms.iter().map(sentence).collect::<Vec<_>>().join("; ")
}

/// `worker-late` is `WorkerLate`.
pub(super) fn camel(code: &str) -> String {
    let word = |word: &str| {
        let mut letters = word.chars();
        let first = letters.next().map(|first| first.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
    };
    code.split('-').map(word).collect()
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

// === impl Said ===

impl Said {
    fn new(kind: &'static str, is_true: bool, reason: &str, message: String) -> Self {
        Self { kind, is_true, reason: reason.to_owned(), message }
    }

    /// The condition, with the time since when its status is what it is.
    fn since(self, before: &GroupStatus, now: &str) -> Condition {
        let Self { kind, is_true, reason, message } = self;
        let status = if is_true { "True" } else { "False" };
        let mut same =
            before.conditions.iter().filter(|old| old.kind == kind && old.status == status);
        let since = same.next().map(|old| old.last_transition_time.clone());
        Condition {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason,
            message: message.chars().take(MESSAGE).collect(),
            last_transition_time: since.unwrap_or_else(|| now.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::status::{OverrideRow, RolloutStatus};

    use super::*;

    fn facts() -> Facts {
        Facts { generation: 3, runs: true, selector: "a=b".to_owned(), ..Facts::default() }
    }

    fn leader() -> Status {
        Status {
            role: Role::Leader,
            mode: Mode::Own,
            wanted_consumers: 2,
            ready_consumers: 2,
            decisions: vec![Decision {
                at_unix_ms: 1_700_000_000_900,
                consumers_after: 2,
                raw_consumers: 7,
                ..Decision::default()
            }],
            ..Status::default()
        }
    }

    fn condition<'a>(status: &'a GroupStatus, kind: &str) -> (&'a str, &'a str, &'a str) {
        let found = status.conditions.iter().find(|found| found.kind == kind).unwrap();
        (&found.status, &found.reason, &found.message)
    }

    fn shown(facts: &Facts, told: &Status) -> GroupStatus {
        of(facts, told, &GroupStatus::default(), "now")
    }

    #[test]
    fn a_group_that_is_well_is_ready_with_its_numbers() {
        let status = shown(&facts(), &leader());
        assert_eq!(condition(&status, "Accepted").0, "True");
        assert_eq!(condition(&status, "Ready"), ("True", "Ready", "2 consumers are ready"));
        assert_eq!(condition(&status, "Progressing").0, "False");
        assert_eq!(condition(&status, "Overridden").0, "False");
        assert_eq!(
            (status.consumers, status.observed_generation),
            (Numbers { wanted: 2, ready: 2 }, 3)
        );
        let decision = status.last_decision.unwrap();
        assert_eq!((decision.time.as_str(), decision.raw_consumers), ("2023-11-14T22:13:20Z", 7));
    }

    #[test]
    fn a_group_that_is_observed_tells_its_decisions_and_is_not_ready() {
        let told = Status { role: Role::Follower, mode: Mode::Observe, at_unix_ms: 1, ..leader() };
        let troubled = Facts { trouble: Some("no broker".to_owned()), ..facts() };
        let status = shown(&troubled, &told);
        assert_eq!(condition(&status, "Ready").1, "Observing");
        assert!(status.last_decision.is_some());
        let silent = shown(&troubled, &Status::default());
        assert_eq!(condition(&silent, "Ready").1, "ControllerFailed");
    }

    #[test]
    fn a_refusal_is_told_and_what_runs_goes_on() {
        let refusal = Refusal { reason: "Invalid", message: "consumers.min: too many".to_owned() };
        let facts = Facts { refusal: Some(refusal), ..facts() };
        let status = shown(&facts, &leader());
        let (is_accepted, reason, message) = condition(&status, "Accepted");
        assert_eq!((is_accepted, reason), ("False", "Invalid"));
        assert_eq!(message, "consumers.min: too many; the group goes on by the one before");
        assert_eq!(condition(&status, "Ready").0, "True");
        let idle = shown(&Facts { runs: false, ..facts }, &Status::default());
        assert_eq!(condition(&idle, "Ready").1, "NotAccepted");
    }

    #[test]
    fn the_time_of_a_condition_changes_only_with_its_status() {
        let first = shown(&facts(), &leader());
        let mut told = leader();
        told.alarms = vec![RaisedAlarm {
            code: "worker-late".to_owned(),
            summary: "late".to_owned(),
            ..RaisedAlarm::default()
        }];
        let second = of(&facts(), &told, &first, "later");
        assert_eq!(condition(&second, "Ready"), ("True", "WorkerLate", "late"));
        assert!(second.conditions.iter().all(|found| found.last_transition_time == "now"));
        told.ready_consumers = 1;
        let third = of(&facts(), &told, &second, "later");
        let changed = third.conditions.iter().filter(|found| found.last_transition_time == "later");
        assert_eq!(changed.map(|found| found.kind.as_str()).collect::<Vec<_>>(), ["Ready"]);
        assert_eq!(condition(&third, "Ready").2, "1 of 2 consumers are ready");
    }

    #[test]
    fn nothing_changes_with_the_rates() {
        let hot = |rate: u64| RaisedAlarm {
            code: "hot-partition".to_owned(),
            object: "partition orders-3".to_owned(),
            summary: format!("partition orders-3 is written at {rate}"),
            ..RaisedAlarm::default()
        };
        let told = |rate| Status { alarms: vec![hot(rate)], at_unix_ms: rate, ..leader() };
        assert_eq!(shown(&facts(), &told(1)), shown(&facts(), &told(2)));
    }

    #[test]
    fn a_critical_alarm_and_a_controller_that_ends_are_not_ready() {
        let mut told = leader();
        told.alarms = vec![RaisedAlarm {
            severity: Severity::Critical,
            code: "sink-failing".to_owned(),
            summary: "no sink".to_owned(),
            ..RaisedAlarm::default()
        }];
        assert_eq!(
            condition(&shown(&facts(), &told), "Ready"),
            ("False", "SinkFailing", "no sink")
        );
        let failed = Facts { trouble: Some("no broker".to_owned()), ..facts() };
        let silent = Status::default();
        assert_eq!(condition(&shown(&failed, &silent), "Ready").1, "ControllerFailed");
    }

    #[test]
    fn what_a_controller_that_does_not_lead_yet_cannot_know_stays_as_it_was() {
        let before = shown(&facts(), &leader());
        let status = of(&facts(), &Status::default(), &before, "later");
        assert_eq!(condition(&status, "Ready").1, "Starting");
        assert_eq!(status.consumers, before.consumers);
        assert_eq!(status.last_decision, before.last_decision);
    }

    #[test]
    fn a_rollout_and_overrides_are_told() {
        let mut told = leader();
        told.rollout = Some(RolloutStatus {
            updated: 3,
            consumers: 10,
            consumer: Some(4),
            phase: Some("updating".to_owned()),
            ..RolloutStatus::default()
        });
        told.overrides =
            vec![OverrideRow { field: "consumers.max".to_owned(), ..OverrideRow::default() }];
        let status = shown(&facts(), &told);
        let message = "3 of 10 updated, consumer 4 updating";
        assert_eq!(condition(&status, "Progressing"), ("True", "RollingOut", message));
        assert!(condition(&status, "Overridden").2.ends_with("consumers.max"));
        if let Some(rollout) = &mut told.rollout {
            rollout.refused = Some("it crashed".to_owned());
        }
        let taken_back = shown(&facts(), &told);
        assert_eq!(condition(&taken_back, "Progressing").1, "TakenBack");
        let refused = taken_back.refused.as_ref().map(|refused| &*refused.reason);
        assert_eq!(refused, Some("it crashed"));
        let starting = of(&facts(), &Status::default(), &taken_back, "later");
        assert_eq!(starting.refused, taken_back.refused, "who begins anew does not try it again");
        assert_eq!(of(&facts(), &leader(), &taken_back, "later").refused, None);
    }
}
