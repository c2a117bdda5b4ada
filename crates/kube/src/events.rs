//! Asks Kubernetes' Events for what no object says: when the image of a pod was pulled, and why a claim is not bound.
//!
//! Whoever may not read them does without: these two things are not told then, and nothing else fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::{Event, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;
use tidegate_runtime::ports::WorkerChange;
use tidegate_runtime::telemetry::metrics::StageLabels;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::errors::{Right, in_time};
use crate::objects::CONTAINER;
use crate::stages::{Start, Starts};
use crate::unbound::{Claim, Why};
use crate::workers::Shared;

/// Requests at the same time: many pods may start at once, and nobody waits for this.
const AT_ONCE: usize = 4;

/// Between two looks whether a claim is to be asked about.
const LOOK: Duration = Duration::from_secs(1);

/// What is asked about a group, and what waits to be asked.
#[derive(Debug)]
pub(crate) struct Inquiry {
    shared: Arc<Shared>,
    starts: Starts,
    waiting: VecDeque<Question>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
    looks: Interval,
}

#[derive(Debug)]
enum Question {
    Pull(Start),
    Claim(Claim),
}

enum Answer {
    Pull(Option<f64>),
    Claim(Claim, Why),
}

// === impl Inquiry ===

impl Inquiry {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (waiting, asked) = (VecDeque::new(), FuturesUnordered::new());
        Self { shared, starts: Starts::default(), waiting, asked, looks }
    }

    /// A pod is there as it is told: once it is ready, how long each stage of its start took is measured.
    pub(crate) fn note_pod(&mut self, pod: &Pod) {
        if let Some(start) = self.starts.note(pod) {
            for (stage, seconds) in &start.stages {
                self.observe(stage, *seconds);
            }
            self.waiting.push_back(Question::Pull(start));
        }
    }

    /// A pod is not there any more.
    pub(crate) fn forget_pod(&mut self, uid: &str) {
        self.starts.forget(uid);
    }

    /// Asks until an answer is news. Cancel-safe because all that is asked is kept, and an answer is taken up in the same poll.
    pub(crate) async fn news(&mut self) -> WorkerChange {
        loop {
            while self.asked.len() < AT_ONCE
                && let Some(question) = self.waiting.pop_front()
            {
                self.asked.push(ask(self.shared.kinds.events.clone(), question).boxed());
            }
            let answer = tokio::select! {
                Some(answer) = self.asked.next() => answer,
                _ = self.looks.tick() => {
                    self.look();
                    continue;
                }
            };
            match answer {
                Answer::Pull(Some(seconds)) => self.observe("pulled", seconds),
                Answer::Pull(None) => {}
                Answer::Claim(claim, why) => {
                    if let Some(change) = self.shared.lock().sight.note_why(&claim, why) {
                        return change;
                    }
                }
            }
        }
    }

    /// Claims that are due wait until there is nothing else to ask.
    fn look(&mut self) {
        if self.waiting.is_empty() {
            let due = self.shared.lock().sight.unbound_claims(Instant::now());
            self.waiting.extend(due.into_iter().map(Question::Claim));
        }
    }

    fn observe(&self, stage: &'static str, seconds: f64) {
        let durations = &self.shared.options.metrics.pod_start_duration_seconds;
        durations.get_or_create(&StageLabels { stage }).observe(seconds);
    }
}

async fn ask(events: Api<Event>, question: Question) -> Answer {
    match question {
        Question::Pull(start) => {
            let fields = format!("involvedObject.uid={},reason=Pulled", start.uid);
            let told = list(&events, &fields).await.unwrap_or_default();
            Answer::Pull(pulled(&told).map(|at| start.until(at)))
        }
        Question::Claim(claim) => {
            let told = list(&events, &format!("involvedObject.uid={}", claim.uid)).await;
            let why = told.map_or(Why::Unknown, |told| why(&told));
            Answer::Claim(claim, why)
        }
    }
}

async fn list(events: &Api<Event>, fields: &str) -> Option<Vec<Event>> {
    let right = Right { verb: "list", resource: "events" };
    let parameters = ListParams::default().fields(fields);
    let told = in_time(right, fields, events.list(&parameters)).await;
    told.map(|list| list.items)
        .inspect_err(|error| {
            tracing::debug!(
                error = error as &dyn std::error::Error,
                "what Events say is not known"
            );
        })
        .ok()
}

/// When the consumer's image was there for the first time. A node that names no container speaks of all.
fn pulled(told: &[Event]) -> Option<Timestamp> {
    let consumer = format!("spec.containers{{{CONTAINER}}}");
    let is_ours = |event: &&Event| {
        event.involved_object.field_path.as_ref().is_none_or(|path| *path == consumer)
    };
    told.iter().filter(is_ours).filter_map(began).min()
}

/// What was wrong with a claim last.
fn why(told: &[Event]) -> Why {
    let is_wrong = |event: &&Event| {
        let reason = event.reason.as_deref();
        event.type_.as_deref() == Some("Warning") || reason == Some("FailedBinding")
    };
    match told.iter().filter(is_wrong).max_by_key(|event| lasted(event)) {
        None => Why::Silent,
        Some(event) => {
            let said = [&event.reason, &event.message].map(Option::as_deref);
            let said = said.into_iter().flatten().filter(|said| !said.is_empty());
            Why::Warned(said.collect::<Vec<_>>().join(": "))
        }
    }
}

/// Which of its times an Event has depends on who has written it.
fn began(event: &Event) -> Option<Timestamp> {
    let time = event.event_time.as_ref().map(|time| time.0);
    let older = [&event.first_timestamp, &event.last_timestamp];
    time.or_else(|| older.into_iter().flatten().map(|time| time.0).next())
}

fn lasted(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    series.map(|time| time.0).or(last).or_else(|| began(event))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn events(all: &[Value]) -> Vec<Event> {
        let event = |event: &Value| {
            let mut event = event.clone();
            event["metadata"] = json!({ "name": "e" });
            let about = event["involvedObject"].take();
            event["involvedObject"] = if about.is_null() { json!({}) } else { about };
            serde_json::from_value(event).unwrap()
        };
        all.iter().map(event).collect()
    }

    fn at(second: u32) -> String {
        format!("2026-11-28T00:00:{second:02}Z")
    }

    fn micro(second: u32) -> String {
        format!("2026-11-28T00:00:{second:02}.500000Z")
    }

    fn when(told: &[Value]) -> Option<String> {
        pulled(&events(told)).map(|at| at.to_string())
    }

    #[test]
    fn the_first_pull_of_the_consumer_s_image_counts() {
        let sidecar = json!({ "fieldPath": "spec.containers{sidecar}" });
        let consumer = json!({ "fieldPath": "spec.containers{consumer}" });
        let told = [
            json!({ "eventTime": micro(1), "involvedObject": sidecar }),
            json!({ "firstTimestamp": at(9), "lastTimestamp": at(20), "involvedObject": consumer }),
            json!({ "lastTimestamp": at(12), "involvedObject": consumer }),
        ];
        assert_eq!(when(&told).as_deref(), Some("2026-11-28T00:00:09Z"));
        let told = [json!({ "eventTime": micro(3), "lastTimestamp": at(5) })];
        assert_eq!(when(&told).as_deref(), Some("2026-11-28T00:00:03.5Z"));
        assert_eq!(when(&[]), None);
    }

    #[test]
    fn the_last_thing_that_was_wrong_with_a_claim_is_told() {
        let normal = json!({ "type": "Normal", "reason": "Provisioning", "lastTimestamp": at(50) });
        assert_eq!(why(&events(std::slice::from_ref(&normal))), Why::Silent);
        let older = json!({ "type": "Warning", "reason": "ProvisioningFailed", "message": "no disk",
                            "firstTimestamp": at(1), "lastTimestamp": at(9) });
        let newer = json!({ "type": "Warning", "reason": "ProvisioningFailed", "message": "no such mode",
                            "eventTime": micro(2),
                            "series": { "count": 5, "lastObservedTime": micro(30) } });
        let told = why(&events(&[newer, normal, older]));
        assert_eq!(told, Why::Warned("ProvisioningFailed: no such mode".to_owned()));
        let binding = json!({ "type": "Normal", "reason": "FailedBinding", "message": "no volumes",
                              "lastTimestamp": at(1) });
        assert_eq!(why(&events(&[binding])), Why::Warned("FailedBinding: no volumes".to_owned()));
    }
}
