//! A pod's status as the API server gets it: phase, conditions, and what is known of each container.

use k8s_openapi::api::core::v1::{Container, ContainerStatus};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::warn;

use super::Worker;
use crate::container::Report;

/// The containers of one kind and what is known of each.
pub(super) struct Board {
    pub(super) specs: Vec<Container>,
    pub(super) reports: watch::Sender<Vec<Report>>,
}

// === impl Board ===

impl Board {
    /// Starts from the status the API server has: after a crash of the node restarts go on counting.
    pub(super) fn new(specs: Vec<Container>, known: &[ContainerStatus]) -> Self {
        let restarts = |spec: &Container| {
            let old = known.iter().find(|status| status.name == spec.name)?;
            let state = old.state.as_ref();
            let ran = state.is_some_and(|it| it.running.is_some() || it.terminated.is_some());
            Some(old.restart_count + i32::from(ran))
        };
        let report = |spec: &Container| Report::new(restarts(spec).unwrap_or_default());
        let (reports, _) = watch::channel(specs.iter().map(report).collect());
        Self { specs, reports }
    }

    /// Takes note that an init container has ended; false when it failed for good.
    pub(super) fn complete(&self, index: usize) -> bool {
        let succeeded = self.reports.borrow()[index].finished == Some(0);
        self.reports.send_modify(|reports| reports[index].ready = succeeded);
        succeeded
    }

    pub(super) fn all_succeeded(&self) -> bool {
        self.reports.borrow().iter().all(|report| report.finished == Some(0))
    }

    fn all_ready(&self) -> bool {
        self.reports.borrow().iter().all(|report| report.ready)
    }

    fn statuses(&self, uid: &str) -> Vec<Value> {
        let status = |(spec, report): (&Container, &Report)| {
            json!({"name": spec.name, "image": spec.image, "imageID": report.image_id,
                "ready": report.ready, "started": report.started,
                "restartCount": report.restarts, "state": report.state,
                "lastState": report.last_state,
                "containerID": format!("process://{uid}/{}/{}", spec.name, report.restarts)})
        };
        self.specs.iter().zip(self.reports.borrow().iter()).map(status).collect()
    }
}

// === impl Worker ===

impl Worker {
    /// Writes the status; false when it must be tried again.
    pub(super) async fn publish(&mut self) -> bool {
        let patch = Patch::Strategic(self.status());
        let name = self.pod.name_any();
        match self.api.patch_status(&name, &PatchParams::default(), &patch).await {
            Ok(_) => true,
            Err(error) => over(&error, &name),
        }
    }

    /// Whether somebody else changed the pod's readiness: the controller manager does when it loses sight of the node,
    /// and only the kubelet takes that back.
    pub(super) fn is_contradicted(&self) -> bool {
        let seen = self.seen.borrow();
        let status = seen.as_ref().and_then(|pod| pod.status.as_ref());
        let mut conditions =
            status.into_iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.find(|condition| condition.type_ == "Ready");
        let theirs = ready.map(|condition| condition.status == "True");
        theirs.zip(self.conditions.get("Ready")).is_some_and(|(theirs, ours)| theirs != ours.0)
    }

    fn status(&mut self) -> Value {
        let uid = self.pod.uid().unwrap_or_default();
        let conditions = self.current_conditions();
        let seen = self.seen.borrow().as_ref().and_then(|pod| pod.metadata.generation);
        let node_ip = self.node.address();
        json!({"metadata": {"uid": uid}, "status": {
            "phase": self.phase, "message": self.message, "conditions": conditions,
            "observedGeneration": seen.or(self.pod.metadata.generation),
            "startTime": self.started_at, "hostIP": node_ip, "hostIPs": [{"ip": node_ip}],
            "podIP": self.ip, "podIPs": [{"ip": self.ip}],
            "initContainerStatuses": self.init.statuses(&uid),
            "containerStatuses": self.main.statuses(&uid)}})
    }

    fn current_conditions(&mut self) -> Vec<Value> {
        let is_ready = self.phase == "Running" && self.main.all_ready();
        let is_initialized =
            matches!(self.phase, "Running" | "Succeeded") || self.init.specs.is_empty();
        let current = [
            ("PodReadyToStartContainers", self.message.is_none()),
            ("Initialized", is_initialized),
            ("ContainersReady", is_ready),
            ("Ready", is_ready),
        ];
        let condition = |(kind, holds): (&'static str, bool)| {
            let entry = self.conditions.entry(kind).or_insert((holds, Timestamp::now()));
            if entry.0 != holds {
                *entry = (holds, Timestamp::now());
            }
            let status = if holds { "True" } else { "False" };
            json!({"type": kind, "status": status, "lastTransitionTime": entry.1})
        };
        current.map(condition).into()
    }
}

/// Whether the error means that the pod is gone or replaced, so that there is nothing left to say.
pub(super) fn over(error: &kube::Error, name: &str) -> bool {
    let is_gone = matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409));
    if !is_gone {
        warn!("{name}: {error}");
    }
    is_gone
}
