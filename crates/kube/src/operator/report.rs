//! Writes what happens to a group where people look: the status of its resource, and Events.
//!
//! What is written is decided by `view` and `told`; here is when: Events at once, the status only when it differs, and not too often.

use std::collections::VecDeque;
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as Source};
use kube::{Api, Client};
use serde_json::{Value, json};
use tidegate_core::ids::ConsumerNumber;
use tidegate_runtime::ports::Error;
use tidegate_runtime::telemetry::metrics::{OperatorMetrics, OutcomeLabels};
use tidegate_wire::Status;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::election::Role;
use super::told::{self, Happening};
use super::view::{self, Facts};
use crate::errors::{Right, in_time, is_missing};
use crate::resource::GroupStatus;

/// Between two writes of a status.
const PAUSE: Duration = Duration::from_secs(2);

/// Events that may wait for an API server that is away; the oldest are forgotten.
const UNTOLD: usize = 64;

/// The longest note of an Event, in bytes.
const NOTE: usize = 1000;

/// Reports of one group.
pub(super) struct Reporter {
    pub(super) api: Api<DynamicObject>,
    pub(super) client: Client,
    pub(super) source: Source,
    pub(super) about: ObjectReference,
    pub(super) name: String,
    /// The status that is stored.
    pub(super) stored: GroupStatus,
    pub(super) facts: watch::Receiver<Facts>,
    pub(super) told: watch::Receiver<Status>,
    pub(super) drift: mpsc::Receiver<ConsumerNumber>,
    pub(super) roles: watch::Receiver<Role>,
    pub(super) metrics: OperatorMetrics,
}

impl Reporter {
    /// Reports until nobody knows anything any more.
    pub(super) async fn run(mut self) {
        let mut before = Status::default();
        let mut untold = VecDeque::new();
        let (mut due, mut again) = (Instant::now(), Instant::now());
        loop {
            let facts = self.facts.borrow_and_update().clone();
            let told = self.told.borrow_and_update().clone();
            untold.extend(told::between(&before, &told));
            let surplus = untold.len().saturating_sub(UNTOLD);
            untold.drain(..surplus);
            if Instant::now() >= again && !self.publish(&mut untold).await {
                again = Instant::now() + PAUSE;
            }
            let now = Timestamp::now().as_second().max(0).unsigned_abs() * 1000;
            let wanted = view::of(&facts, &told, &self.stored, &view::time_of(now));
            let differs = wanted != self.stored;
            if view::speaks(&told) {
                before = told;
            }
            if differs && Instant::now() >= due {
                // Another process may write it by now.
                if *self.roles.borrow() != Role::CutOff {
                    self.write(wanted).await;
                }
                due = Instant::now() + PAUSE;
                continue;
            }
            // Cancel-safe: nothing is taken but drift, which is kept in the same poll.
            tokio::select! {
                changed = self.facts.changed() => if changed.is_err() { return },
                changed = self.told.changed() => if changed.is_err() { return },
                Some(consumer) = self.drift.recv() => untold.push_back(told::drifted(consumer.get())),
                () = tokio::time::sleep_until(due), if differs => {}
                () = tokio::time::sleep_until(again), if !untold.is_empty() => {}
            }
        }
    }

    async fn write(&mut self, status: GroupStatus) {
        let patch = Patch::Merge(json!({ "status": changes(&json!(self.stored), &json!(status)) }));
        let parameters = PatchParams::default();
        let right = Right { verb: "patch", resource: "consumergroups/status" };
        let request = async {
            match self.api.patch_status(&self.name, &parameters, &patch).await {
                // A resource that is gone needs none.
                Err(error) if !is_missing(&error) => Err(error),
                _ => Ok(()),
            }
        };
        let written = in_time(right, &self.name, request).await;
        self.metrics.status_writes.get_or_create(&outcome(&written)).inc();
        match written {
            Ok(()) => self.stored = status,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the status of a resource was not written; it is tried again"
                );
            }
        }
    }

    /// Writes Events, oldest first, until one fails. True when none is left.
    async fn publish(&self, untold: &mut VecDeque<Happening>) -> bool {
        while let Some(happening) = untold.front() {
            let published = self.publish_one(happening).await;
            self.metrics.events.get_or_create(&outcome(&published)).inc();
            if let Err(error) = published {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "an Event was not written; it is tried again");
                return false;
            }
            untold.pop_front();
        }
        true
    }

    async fn publish_one(&self, happening: &Happening) -> Result<(), Error> {
        let Happening { is_warning, reason, note } = happening.clone();
        let mut end = note.len().min(NOTE);
        while !note.is_char_boundary(end) {
            end -= 1;
        }
        let event = Event {
            type_: if is_warning { EventType::Warning } else { EventType::Normal },
            action: reason.clone(),
            reason,
            note: Some(note[..end].to_owned()),
            secondary: None,
        };
        // A recorder that has been used counts another Event of the same reason as a repetition, and drops its numbers.
        let recorder = Recorder::new(self.client.clone(), self.source.clone());
        let right = Right { verb: "create", resource: "events" };
        in_time(right, &self.name, recorder.publish(&event, &self.about)).await
    }
}

/// What a merge patch has to say: all that is there now, and nothing for what is not any more.
fn changes(before: &Value, now: &Value) -> Value {
    let (Value::Object(before), Value::Object(now)) = (before, now) else { return now.clone() };
    let gone = before.keys().filter(|key| !now.contains_key(*key));
    let gone = gone.map(|key| (key.clone(), Value::Null));
    let is = now.iter().map(|(key, value)| {
        (
            key.clone(),
            before.get(key).map_or_else(|| value.clone(), |before| changes(before, value)),
        )
    });
    gone.chain(is).collect()
}

fn outcome<T, E>(done: &Result<T, E>) -> OutcomeLabels {
    OutcomeLabels { outcome: if done.is_ok() { "done" } else { "failed" } }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_status_says_no_more_is_taken_out_of_it() {
        let before = json!({ "a": 1, "reasons": { "unassigned": 40 }, "list": [1, 2] });
        let now = json!({ "a": 1, "reasons": { "relieve": 3 }, "list": [2] });
        assert_eq!(
            changes(&before, &now),
            json!({ "a": 1, "reasons": { "unassigned": null, "relieve": 3 }, "list": [2] })
        );
    }
}
