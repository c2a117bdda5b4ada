//! The watch: tells the sight of workers what happens, and the upkeep what has to be put right.
//!
//! A watch that breaks is begun again, also one that is forbidden: an API server that has just started forbids much that it allows a
//! moment later.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::core::DynamicObject;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use serde_json::Value;
use tidegate_core::ids::ConsumerNumber;
use tidegate_runtime::ports::{WorkerChange, WorkerSpec};
use tidegate_runtime::telemetry::metrics::ResourceLabels;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::errors;
use crate::events::Inquiry;
use crate::names::consumer_of;
use crate::objects::{CONTAINER, GROUP_SPEC, REVISION};
use crate::sight::Workload;
use crate::unbound::Claim;
use crate::workers::{Broken, Shared};

/// The longest pause before a watch that broke is tried again. With the library's default, a minute, an API server that was
/// away for seconds is missed for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// All watches of a group.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    /// What was there before a watch began again, and was not seen since.
    workloads: BTreeSet<ConsumerNumber>,
    claims: BTreeSet<ConsumerNumber>,
    pods: BTreeSet<String>,
}

type Seen<K> = Result<Event<K>, watcher::Error>;

impl Watch {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let (workloads, claims) = (BTreeSet::new(), BTreeSet::new());
        Self { shared, workloads, claims, pods: BTreeSet::new() }
    }

    /// Watches until nobody listens.
    pub(crate) async fn run(mut self, changes: mpsc::Sender<WorkerChange>) {
        let kinds = &Arc::clone(&self.shared).kinds;
        let config = || watcher::Config::default().labels(&self.shared.names.selector());
        let (of_workloads, of_claims, of_pods) = (config(), config(), config());
        let mut workloads =
            pin!(watcher(kinds.workloads.api.clone(), of_workloads).backoff(Pauses::default()));
        let mut claims =
            pin!(watcher(kinds.claims.api.clone(), of_claims).backoff(Pauses::default()));
        let mut pods = pin!(watcher(kinds.pods.clone(), of_pods).backoff(Pauses::default()));
        let mut inquiry = Inquiry::new(Arc::clone(&self.shared));
        loop {
            let told = tokio::select! {
                Some(seen) = workloads.next() => self.workload(seen),
                Some(seen) = claims.next() => {
                    self.claim(seen);
                    Vec::new()
                }
                Some(seen) = pods.next() => self.pod(seen, &mut inquiry),
                news = inquiry.news() => vec![news],
            };
            // A claim may be idle now.
            self.shared.owes.notify_one();
            for change in told {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        }
    }

    fn workload(&mut self, seen: Seen<DynamicObject>) -> Vec<WorkerChange> {
        match seen {
            Ok(Event::Init) => {
                let state = self.shared.lock();
                self.workloads = state.sight.workloads().map(|(consumer, _)| consumer).collect();
                Vec::new()
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                let Some(consumer) = consumer_of(&object) else {
                    return Vec::new();
                };
                self.workloads.remove(&consumer);
                self.workload_is(consumer, &object)
            }
            Ok(Event::Delete(object)) => match consumer_of(&object) {
                Some(consumer) => self.workload_is_gone(consumer),
                None => Vec::new(),
            },
            Ok(Event::InitDone) => {
                let mut told = Vec::new();
                for consumer in std::mem::take(&mut self.workloads) {
                    told.extend(self.workload_is_gone(consumer));
                }
                self.whole(self.shared.kinds.workloads.resource);
                self.shared.seen.send_modify(|seen| seen.workloads = true);
                told
            }
            Err(error) => {
                self.broken(self.shared.kinds.workloads.resource, &error);
                Vec::new()
            }
        }
    }

    fn workload_is(&self, consumer: ConsumerNumber, object: &DynamicObject) -> Vec<WorkerChange> {
        let workload = workload(object);
        let generation = workload.generation;
        let stays = object.metadata.deletion_timestamp.is_none();
        let mut state = self.shared.lock();
        let change = state.sight.note_workload(consumer, Some(workload.clone()));
        if stays {
            state.adopt(consumer, workload);
            let applied = state.applied.get(&consumer).copied();
            // Whoever made it may have lost its claim to who led before.
            let is_bare = self.shared.seen.borrow().all() && state.sight.lacks_claim(consumer);
            if is_bare || applied.is_some_and(|applied| generation > applied) {
                state.owed.workload(consumer, Some(generation));
            }
        }
        change.into_iter().collect()
    }

    fn workload_is_gone(&self, consumer: ConsumerNumber) -> Vec<WorkerChange> {
        let mut state = self.shared.lock();
        state.forget(consumer);
        state.owed.workload(consumer, None);
        state.sight.note_workload(consumer, None).into_iter().collect()
    }

    fn claim(&mut self, seen: Seen<DynamicObject>) {
        match seen {
            Ok(Event::Init) => self.claims = self.shared.lock().sight.claims(),
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                if let Some(consumer) = consumer_of(&object) {
                    self.claims.remove(&consumer);
                    let stays = object.metadata.deletion_timestamp.is_none();
                    let unbound = Claim::unbound(consumer, &object).filter(|_| stays);
                    let mut state = self.shared.lock();
                    state.sight.note_claim(consumer, stays);
                    state.sight.note_unbound(consumer, unbound, Instant::now());
                }
            }
            Ok(Event::Delete(object)) => {
                if let Some(consumer) = consumer_of(&object) {
                    self.claim_is_gone(consumer);
                }
            }
            Ok(Event::InitDone) => {
                for consumer in std::mem::take(&mut self.claims) {
                    self.claim_is_gone(consumer);
                }
                self.whole(self.shared.kinds.claims.resource);
                self.shared.seen.send_modify(|seen| seen.claims = true);
            }
            Err(error) => self.broken(self.shared.kinds.claims.resource, &error),
        }
    }

    /// A pod that lacks its claim stays Pending for ever.
    fn claim_is_gone(&self, consumer: ConsumerNumber) {
        let mut state = self.shared.lock();
        state.sight.note_claim(consumer, false);
        state.sight.note_unbound(consumer, None, Instant::now());
        if state.sight.lacks_claim(consumer) {
            state.owed.workload(consumer, None);
        }
    }

    fn pod(&mut self, seen: Seen<Pod>, inquiry: &mut Inquiry) -> Vec<WorkerChange> {
        match seen {
            Ok(Event::Init) => {
                self.pods = self.shared.lock().sight.pods();
                Vec::new()
            }
            Ok(Event::InitApply(pod) | Event::Apply(pod)) => {
                self.pods.remove(&pod.uid().unwrap_or_default());
                inquiry.note_pod(&pod);
                self.shared.lock().sight.note_pod(&pod).into_iter().collect()
            }
            Ok(Event::Delete(pod)) => {
                inquiry.forget_pod(&pod.uid().unwrap_or_default());
                // Its last state comes with the news that it is gone.
                let mut state = self.shared.lock();
                let last = state.sight.note_pod(&pod);
                let gone = state.sight.forget_pod(&pod.uid().unwrap_or_default());
                last.into_iter().chain(gone).collect()
            }
            Ok(Event::InitDone) => {
                let gone = std::mem::take(&mut self.pods);
                let forget = |uid: &String| {
                    inquiry.forget_pod(uid);
                    self.shared.lock().sight.forget_pod(uid)
                };
                let told = gone.iter().filter_map(forget).collect();
                self.whole("pods");
                self.shared.seen.send_modify(|seen| seen.pods = true);
                told
            }
            Err(error) => {
                self.broken("pods", &error);
                Vec::new()
            }
        }
    }

    fn whole(&self, resource: &'static str) {
        self.shared.lock().broken.remove(resource);
    }

    fn broken(&self, resource: &'static str, error: &watcher::Error) {
        let (why, is_forbidden) = errors::of_watch(resource, error);
        tracing::warn!(error = error as &dyn std::error::Error, "a watch is begun again: {why}");
        let broken = Broken { at: Instant::now(), why, is_forbidden };
        self.shared.lock().broken.insert(resource, broken);
        let failures = &self.shared.options.metrics.watch_failures;
        failures.get_or_create(&ResourceLabels { resource }).inc();
    }
}

/// What an object says of itself in the part that Kubernetes works by: whatever is changed of that has another generation.
fn workload(object: &DynamicObject) -> Workload {
    let spec = &object.data["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let annotations = &spec["template"]["metadata"]["annotations"];
    let containers = spec["template"]["spec"]["containers"].as_array().into_iter().flatten();
    let mut consumers = containers.filter(|container| container["name"] == CONTAINER);
    Workload {
        spec: WorkerSpec {
            revision: text(&annotations[REVISION]),
            group: text(&annotations[GROUP_SPEC]).into(),
        },
        generation: object.metadata.generation.unwrap_or_default(),
        replicas: spec["replicas"].as_i64().unwrap_or_default(),
        image: consumers.next().map(|container| text(&container["image"])).unwrap_or_default(),
    }
}

/// Pauses that double up to [`LONGEST_PAUSE`].
#[derive(Debug, Default)]
pub(crate) struct Pauses {
    count: u32,
}

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = Duration::from_millis(100 << self.count).min(LONGEST_PAUSE);
        self.count = (self.count + 1).min(5);
        Some(pause)
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.count = 0;
    }
}
