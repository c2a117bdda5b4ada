//! What happened between two statuses of a group, as Events with their numbers. No IO.

use std::collections::BTreeSet;

use tidegate_wire::Status;
use tidegate_wire::status::{ByteRate, Decision, Mode, RaisedAlarm, RolloutStatus};

use super::view::{camel, speaks};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Happening {
    pub(super) is_warning: bool,
    /// A word for programs.
    pub(super) reason: String,
    /// A sentence for people.
    pub(super) note: String,
}

/// What happened between two statuses; of a controller that waits to lead nothing is told.
pub(super) fn between(before: &Status, after: &Status) -> Vec<Happening> {
    if !speaks(after) {
        return Vec::new();
    }
    let mut all = Vec::new();
    let known = before.decisions.first().map_or(0, |decision| decision.at_unix_ms);
    let new = after.decisions.iter().filter(|decision| decision.at_unix_ms > known);
    let mut decisions: Vec<Happening> = new.map(|new| decided(new, after)).collect();
    decisions.reverse();
    all.append(&mut decisions);
    all.extend(wanted(before, after));
    all.extend(rollout(before.rollout.as_ref(), after.rollout.as_ref()));
    let is_about = |alarm: &RaisedAlarm| (alarm.code.clone(), alarm.object.clone());
    let raised: BTreeSet<_> = before.alarms.iter().map(is_about).collect();
    let raised = after.alarms.iter().filter(|alarm| !raised.contains(&is_about(alarm)));
    all.extend(raised.map(|alarm| Happening::warning(&camel(&alarm.code), alarm.summary.clone())));
    for row in &after.consumers {
        let Some(trouble) = &row.trouble else { continue };
        let mut old = before.consumers.iter().filter(|old| old.number == row.number);
        if old.next().and_then(|old| old.trouble.as_ref()) != Some(trouble) {
            let note = format!("consumer {}: {trouble}", row.number);
            all.push(Happening::warning("ConsumerTrouble", note));
        }
    }
    all
}

/// How many consumers are wanted changes with the specification, too, and with a drain.
fn wanted(before: &Status, after: &Status) -> Option<Happening> {
    let (was, now) = (before.wanted_consumers, after.wanted_consumers);
    // The first ones come with the first decision.
    let is_known = speaks(before) && was > 0 && !after.decisions.is_empty();
    let is_told = after.decisions.first().is_some_and(|decision| {
        (decision.consumers_before, decision.consumers_after) == (was, now)
    });
    let limits = (after.spec.min_consumers, after.spec.max_consumers);
    let note = format!(
        "{was} -> {now} consumers are wanted; the specification wants {} to {}",
        limits.0, limits.1
    );
    (is_known && was != now && !is_told).then(|| Happening::normal("Scaled", note))
}

/// A workload was changed or deleted by somebody else.
pub(super) fn drifted(consumer: u32) -> Happening {
    let note = format!(
        "the workload of consumer {consumer} was changed or deleted by somebody else, and is put right"
    );
    Happening::warning("Drift", note)
}

fn decided(decision: &Decision, status: &Status) -> Happening {
    let Decision { consumers_before, consumers_after, raw_consumers, moves, .. } = decision;
    let limits = if raw_consumers == consumers_after {
        String::new()
    } else {
        format!(" ({raw_consumers} without limits)")
    };
    let rate: u64 = status.topics.iter().map(|topic| topic.bytes_per_sec).sum();
    let because: Vec<String> = std::iter::once(decision.trigger.clone())
        .chain(decision.bound_by.iter().map(|bound| format!("bound by {bound}")))
        .chain(decision.reasons.iter().map(|(reason, count)| format!("{count} {reason}")))
        .collect();
    let would = if status.mode == Mode::Own { "" } else { "would be: " };
    let note = format!(
        "{would}{consumers_before} -> {consumers_after} consumers{limits}, {moves} partitions move, {}; because {}",
        ByteRate(rate),
        because.join(", ")
    );
    let reason = match (status.mode, consumers_before == consumers_after) {
        (Mode::Own, false) => "Scaled",
        (Mode::Own, true) => "Rebalanced",
        _ => "Planned",
    };
    Happening::normal(reason, note)
}

fn rollout(before: Option<&RolloutStatus>, after: Option<&RolloutStatus>) -> Option<Happening> {
    let far =
        |rollout: &RolloutStatus| format!("{} of {} updated", rollout.updated, rollout.consumers);
    let is_refused =
        |rollout: Option<&RolloutStatus>| rollout.is_some_and(|it| it.refused.is_some());
    match (before, after) {
        (before, Some(now)) if !is_refused(before) && is_refused(Some(now)) => {
            let why = now.refused.as_deref().unwrap_or_default();
            Some(Happening::warning("RolloutTakenBack", format!("{}: {why}", far(now))))
        }
        (Some(was), Some(now)) if was.revision != now.revision && now.refused.is_none() => {
            Some(Happening::normal("RolloutStarted", format!("to {}, {}", now.revision, far(now))))
        }
        (None, Some(now)) if now.refused.is_none() => {
            Some(Happening::normal("RolloutStarted", format!("to {}, {}", now.revision, far(now))))
        }
        (Some(was), Some(now)) if was.updated < now.updated => {
            Some(Happening::normal("RolloutProgressing", far(now)))
        }
        (Some(was), None) if was.refused.is_none() => {
            let note = format!("all {} consumers run {}", was.consumers, was.revision);
            Some(Happening::normal("RolloutDone", note))
        }
        _ => None,
    }
}

// === impl Happening ===

impl Happening {
    pub(super) fn normal(reason: &str, note: String) -> Self {
        Self { is_warning: false, reason: reason.to_owned(), note }
    }

    pub(super) fn warning(reason: &str, note: String) -> Self {
        Self { is_warning: true, reason: reason.to_owned(), note }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_wire::status::{ConsumerRow, Role, TopicRow};

    use super::*;

    fn leader() -> Status {
        let topic = TopicRow { bytes_per_sec: 2_300_000, ..TopicRow::default() };
        Status { role: Role::Leader, mode: Mode::Own, topics: vec![topic], ..Status::default() }
    }

    fn lines(before: &Status, after: &Status) -> Vec<String> {
        between(before, after).into_iter().map(|it| format!("{}: {}", it.reason, it.note)).collect()
    }

    fn decision(at_unix_ms: u64, consumers_before: u32, consumers_after: u32) -> Decision {
        Decision {
            at_unix_ms,
            consumers_before,
            consumers_after,
            raw_consumers: 6,
            moves: 7,
            trigger: "overload".to_owned(),
            reasons: [("relieve".to_owned(), 7)].into(),
            ..Decision::default()
        }
    }

    fn with_rollout(updated: u32, refused: Option<&str>) -> Status {
        let rollout = RolloutStatus {
            revision: "r2".to_owned(),
            updated,
            consumers: 3,
            refused: refused.map(str::to_owned),
            ..RolloutStatus::default()
        };
        Status { rollout: Some(rollout), ..leader() }
    }

    #[test]
    fn each_decision_is_told_once_with_its_numbers_in_their_order() {
        let mut after = leader();
        after.decisions = vec![decision(2, 5, 5), decision(1, 3, 5)];
        let told = lines(&leader(), &after);
        assert_eq!(
            told[0],
            "Scaled: 3 -> 5 consumers (6 without limits), 7 partitions move, 2.30 MB/s; because overload, 7 relieve"
        );
        assert!(told[1].starts_with("Rebalanced: 5 -> 5 consumers"), "{told:?}");
        assert!(between(&after, &after).is_empty());
    }

    #[test]
    fn more_consumers_by_the_specification_are_told_where_no_decision_says_it() {
        let before = Status { wanted_consumers: 2, decisions: vec![decision(1, 2, 2)], ..leader() };
        let after = Status { wanted_consumers: 3, ..before.clone() };
        assert!(lines(&before, &after)[0].starts_with("Scaled: 2 -> 3 consumers are wanted"));
        let decided = Status { decisions: vec![decision(2, 2, 3)], ..after.clone() };
        assert_eq!(lines(&before, &decided).len(), 1);
        assert!(lines(&leader(), &after).iter().all(|line| !line.contains("wanted")));
    }

    #[test]
    fn a_controller_that_only_observes_says_what_it_would_do() {
        let after = Status { mode: Mode::Observe, decisions: vec![decision(1, 0, 2)], ..leader() };
        assert!(lines(&leader(), &after)[0].starts_with("Planned: would be: 0 -> 2"));
        let follower = Status { role: Role::Follower, ..after };
        assert!(between(&leader(), &follower).is_empty());
    }

    #[test]
    fn a_rollout_is_told_from_its_begin_to_its_end() {
        let (none, first, second) = (leader(), with_rollout(0, None), with_rollout(1, None));
        assert_eq!(lines(&none, &first), ["RolloutStarted: to r2, 0 of 3 updated"]);
        assert_eq!(lines(&first, &second), ["RolloutProgressing: 1 of 3 updated"]);
        assert_eq!(lines(&second, &none), ["RolloutDone: all 3 consumers run r2"]);
        let refused = with_rollout(1, Some("it crashed"));
        assert_eq!(lines(&second, &refused), ["RolloutTakenBack: 1 of 3 updated: it crashed"]);
        assert!(lines(&refused, &none).is_empty());
    }

    #[test]
    fn an_alarm_is_told_once_while_it_lasts() {
        let alarm = |summary: &str| RaisedAlarm {
            code: "hot-partition".to_owned(),
            object: "partition a-1".to_owned(),
            summary: summary.to_owned(),
            ..RaisedAlarm::default()
        };
        let first = Status { alarms: vec![alarm("9 MB/s")], ..leader() };
        let second = Status { alarms: vec![alarm("10 MB/s")], ..leader() };
        assert_eq!(lines(&leader(), &first), ["HotPartition: 9 MB/s"]);
        assert!(between(&first, &second).is_empty());
    }

    #[test]
    fn a_consumer_that_does_not_run_is_told_with_the_reason() {
        let row = ConsumerRow {
            number: 2,
            trouble: Some("ImagePullBackOff".to_owned()),
            ..ConsumerRow::default()
        };
        let after = Status { consumers: vec![row], ..leader() };
        assert_eq!(lines(&leader(), &after), ["ConsumerTrouble: consumer 2: ImagePullBackOff"]);
        assert!(between(&after, &after).is_empty());
    }
}
