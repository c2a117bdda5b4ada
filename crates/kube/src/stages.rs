//! How long the stages of a pod's start took, as the pod itself tells it. No IO.
//!
//! A start is told once, when the pod is seen to be ready, and only of a pod that was seen before its container ran: a controller
//! that starts does not count what an earlier one has counted.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;

use crate::sight::container_of;

/// A pod that has become ready.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Start {
    pub(crate) uid: String,
    created: Timestamp,
    /// Each stage with the seconds from the pod's creation until then.
    pub(crate) stages: Vec<(&'static str, f64)>,
}

/// Pods whose containers have not run yet, or not become ready since.
#[derive(Debug, Default)]
pub(crate) struct Starts {
    waiting: BTreeSet<String>,
}

// === impl Starts ===

impl Starts {
    /// A pod is there as it is told. Returns its start if it is over.
    pub(crate) fn note(&mut self, pod: &Pod) -> Option<Start> {
        let uid = pod.uid()?;
        let Some(ready) = since(pod, "Ready") else {
            if !container_of(pod).is_some_and(has_run) {
                self.waiting.insert(uid);
            }
            return None;
        };
        let created = pod.metadata.creation_timestamp.as_ref()?.0;
        let state = container_of(pod).and_then(|container| container.state.as_ref());
        let running = state.and_then(|state| state.running.as_ref());
        let stages = [
            ("scheduled", since(pod, "PodScheduled")),
            ("started", running.and_then(|running| Some(running.started_at.as_ref()?.0))),
            ("ready", Some(ready)),
        ];
        let timed = |(stage, at): (_, Option<Timestamp>)| Some((stage, seconds(created, at?)));
        self.waiting.remove(&uid).then(|| Start {
            uid,
            created,
            stages: stages.into_iter().filter_map(timed).collect(),
        })
    }

    /// A pod is not there any more.
    pub(crate) fn forget(&mut self, uid: &str) {
        self.waiting.remove(uid);
    }
}

// === impl Start ===

impl Start {
    /// The seconds from the pod's creation until this.
    pub(crate) fn until(&self, at: Timestamp) -> f64 {
        seconds(self.created, at)
    }
}

/// Whole ones, as most of the times are; none where a node's clock is behind.
fn seconds(from: Timestamp, to: Timestamp) -> f64 {
    let seconds = to.as_second().saturating_sub(from.as_second());
    f64::from(u32::try_from(seconds).unwrap_or_default())
}

fn has_run(container: &ContainerStatus) -> bool {
    let state = container.state.as_ref();
    container.restart_count > 0
        || state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
}

/// Since when a condition holds.
fn since(pod: &Pod, condition: &str) -> Option<Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    let found = conditions.iter().find(|it| it.type_ == condition && it.status == "True")?;
    Some(found.last_transition_time.as_ref()?.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::objects::CONTAINER;

    fn at(second: u32) -> String {
        format!("2026-11-28T00:00:{second:02}Z")
    }

    /// A pod that was created at second 10, with these conditions and this state of its container.
    fn pod(conditions: &[(&str, u32)], state: &Value, restarts: u32) -> Pod {
        let conditions: Vec<_> = conditions
            .iter()
            .map(|(kind, second)| json!({ "type": kind, "status": "True", "lastTransitionTime": at(*second) }))
            .collect();
        serde_json::from_value(json!({
            "metadata": { "name": "p", "uid": "u", "creationTimestamp": at(10) },
            "status": { "conditions": conditions, "containerStatuses": [
                { "name": "sidecar", "image": "s", "imageID": "", "ready": true, "restartCount": 7,
                  "state": { "running": { "startedAt": at(59) } } },
                { "name": CONTAINER, "image": "i", "imageID": "", "ready": false, "restartCount": restarts, "state": state },
            ] },
        }))
        .unwrap()
    }

    fn creating() -> Pod {
        pod(&[], &json!({ "waiting": { "reason": "ContainerCreating" } }), 0)
    }

    fn running() -> Value {
        json!({ "running": { "startedAt": at(16) } })
    }

    fn ready() -> Pod {
        pod(&[("PodScheduled", 12), ("Ready", 18)], &running(), 0)
    }

    #[test]
    fn a_start_is_told_once_with_the_time_of_each_stage() {
        let mut starts = Starts::default();
        assert_eq!(starts.note(&creating()), None);
        assert_eq!(starts.note(&pod(&[("PodScheduled", 12)], &running(), 0)), None);
        let start = starts.note(&ready()).unwrap();
        assert_eq!(start.stages, [("scheduled", 2.0), ("started", 6.0), ("ready", 8.0)]);
        assert!((start.until(at(14).parse().unwrap()) - 4.0).abs() < f64::EPSILON);
        assert_eq!(starts.note(&ready()), None);
        assert_eq!(starts.note(&pod(&[], &running(), 0)), None, "it is not ready any more");
        assert_eq!(starts.note(&ready()), None, "nor does it start when it is again");
    }

    #[test]
    fn pods_that_ran_before_they_were_seen_are_not_counted() {
        let mut starts = Starts::default();
        assert_eq!(starts.note(&ready()), None);
        let waiting = json!({ "waiting": { "reason": "CrashLoopBackOff" } });
        assert_eq!(starts.note(&pod(&[], &waiting, 2)), None);
        assert_eq!(starts.note(&ready()), None);
        starts.note(&creating());
        starts.forget("u");
        assert_eq!(starts.note(&ready()), None, "it was gone in between");
    }

    #[test]
    fn a_clock_that_is_behind_makes_no_time_negative() {
        let mut starts = Starts::default();
        starts.note(&creating());
        let start = starts.note(&pod(&[("Ready", 8)], &running(), 0)).unwrap();
        assert_eq!(start.stages, [("started", 6.0), ("ready", 0.0)]);
    }
}
