//! One pod: volumes, init containers, containers, and the last step of its deletion.

mod status;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, Preconditions};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::{info, warn};

use crate::container::{Container, Sandbox, Stop, stopped};
use crate::node::Node;
use crate::retry::RETRY;
use crate::volumes;
use status::{Board, over};

/// How often volumes follow their sources; a real kubelet takes about a minute too.
const REFRESH: Duration = Duration::from_secs(30);

/// Runs the pod until it is gone from the API server. `seen` is its latest version, `None` once gone.
pub(crate) async fn run(node: Arc<Node>, pod: Pod, ip: String, seen: watch::Receiver<Option<Pod>>) {
    // One that was being deleted when its node crashed is not started again.
    let is_over = pod.metadata.deletion_timestamp.is_some();
    let (order, stop) = watch::channel(is_over.then(Instant::now));
    let mut worker = Worker::new(node, pod, ip, (seen.clone(), stop));
    tokio::select! {
        () = worker.live() => {}
        () = pass_on_deletion(seen, order) => {}
    }
}

/// Turns a deletion into a deadline. The grace period counts from when it is first seen; a second deletion can shorten
/// it. A pod that vanished was deleted by force and gets one second.
async fn pass_on_deletion(
    mut seen: watch::Receiver<Option<Pod>>,
    order: watch::Sender<Option<Instant>>,
) {
    loop {
        let grace = match &*seen.borrow_and_update() {
            None => Some(1),
            Some(pod) if pod.metadata.deletion_timestamp.is_some() => {
                let seconds = pod.metadata.deletion_grace_period_seconds.unwrap_or(30);
                Some(seconds.max(1).unsigned_abs())
            }
            Some(_) => None,
        };
        if let Some(grace) = grace {
            let deadline = Instant::now() + Duration::from_secs(grace);
            order.send_if_modified(|old| {
                let is_earlier = old.is_none_or(|old| deadline < old);
                if is_earlier {
                    *old = Some(deadline);
                }
                is_earlier
            });
        }
        if seen.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

struct Worker {
    node: Arc<Node>,
    pod: Pod,
    spec: PodSpec,
    api: Api<Pod>,
    dir: PathBuf,
    ip: String,
    seen: watch::Receiver<Option<Pod>>,
    stop: Stop,
    init: Board,
    main: Board,
    conditions: BTreeMap<&'static str, (bool, Timestamp)>,
    started_at: Timestamp,
    phase: &'static str,
    /// Why the containers cannot be created yet.
    message: Option<String>,
}

/// Also when the worker is aborted because its node crashed.
impl Drop for Worker {
    fn drop(&mut self) {
        self.node.release(self.pod.uid().as_deref().unwrap_or_default(), &self.ip);
        // What is left lies below the root, which its user deletes.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

// === impl Worker ===

impl Worker {
    fn new(
        node: Arc<Node>,
        pod: Pod,
        ip: String,
        (seen, stop): (watch::Receiver<Option<Pod>>, Stop),
    ) -> Self {
        let spec = pod.spec.clone().unwrap_or_default();
        let status = pod.status.clone().unwrap_or_default();
        let init = spec.init_containers.clone().unwrap_or_default();
        Self {
            api: Api::namespaced(node.client.clone(), &pod.namespace().unwrap_or_default()),
            dir: node.host.root.join("pods").join(pod.uid().unwrap_or_default()),
            init: Board::new(init, &status.init_container_statuses.unwrap_or_default()),
            main: Board::new(
                spec.containers.clone(),
                &status.container_statuses.unwrap_or_default(),
            ),
            conditions: BTreeMap::new(),
            started_at: status.start_time.map_or_else(Timestamp::now, |at| at.0),
            phase: "Pending",
            message: None,
            node,
            pod,
            spec,
            ip,
            seen,
            stop,
        }
    }

    async fn live(&mut self) {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        if !matches!(phase, Some("Succeeded" | "Failed")) {
            self.run_containers().await;
            while !self.publish().await {
                sleep(RETRY).await;
            }
        }
        stopped(&mut self.stop.clone()).await;
        while !self.finalise().await {
            sleep(RETRY).await;
        }
    }

    /// Everything up to the terminal phase.
    async fn run_containers(&mut self) {
        let Some(sandbox) = self.prepare().await else {
            self.phase = "Failed";
            return;
        };
        let sandbox = Arc::new(sandbox);
        let policy = self.spec.restart_policy.clone().unwrap_or_else(|| "Always".to_owned());
        let init_policy = if policy == "Never" { "Never" } else { "OnFailure" };
        for index in 0..self.init.specs.len() {
            let reports = self.init.reports.clone();
            self.drive(&sandbox, &self.init.specs.clone(), reports, index..index + 1, init_policy)
                .await;
            if !self.init.complete(index) {
                self.phase = "Failed";
                return;
            }
        }
        self.phase = "Running";
        let (specs, reports) = (self.main.specs.clone(), self.main.reports.clone());
        self.drive(&sandbox, &specs, reports, 0..specs.len(), &policy).await;
        self.phase = if self.main.all_succeeded() { "Succeeded" } else { "Failed" };
    }

    /// Waits for the volumes; `None` when the pod is deleted before they are there.
    async fn prepare(&mut self) -> Option<Sandbox> {
        self.publish().await;
        self.delay().await?;
        loop {
            let found = volumes::sync(&self.node, &self.pod, &self.ip, &self.dir).await;
            let message = found.as_ref().err().map(|error| format!("{error:#}"));
            if let Some(message) = message.clone().filter(|_| message != self.message) {
                warn!("{}: {message}", self.pod.name_any());
                self.node.tell(&self.pod, "FailedMount", message).await;
            }
            self.message = message;
            self.publish().await;
            if let Ok(volumes) = found {
                let (node, pod) = (Arc::clone(&self.node), self.pod.clone());
                return Some(Sandbox { node, pod, ip: self.ip.clone(), volumes });
            }
            if timeout(RETRY, stopped(&mut self.stop.clone())).await.is_ok() {
                return None;
            }
        }
    }

    /// Waits as long as a fault says that the pod's start takes; `None` when the pod is deleted meanwhile.
    async fn delay(&self) -> Option<()> {
        let name = format!("{}/{}", self.pod.namespace().unwrap_or_default(), self.pod.name_any());
        let began = Instant::now();
        while began.elapsed() < self.node.host.faults.start(&name) {
            // Shorter than any delay that a test would notice.
            let tick = Duration::from_millis(50);
            if timeout(tick, stopped(&mut self.stop.clone())).await.is_ok() {
                return None;
            }
        }
        Some(())
    }

    /// Runs some containers to their end, publishes each change and keeps the volumes fresh.
    async fn drive(
        &mut self,
        sandbox: &Arc<Sandbox>,
        specs: &[k8s_openapi::api::core::v1::Container],
        reports: watch::Sender<Vec<crate::container::Report>>,
        which: Range<usize>,
        policy: &str,
    ) {
        let mut changes = reports.subscribe();
        let mut tasks = JoinSet::new();
        for index in which {
            let container = Container {
                sandbox: Arc::clone(sandbox),
                spec: specs[index].clone(),
                policy: policy.to_owned(),
                stop: self.stop.clone(),
                reports: reports.clone(),
                index,
            };
            tasks.spawn(container.run());
        }
        let (mut refresh, mut dirty, mut seen) = (interval(REFRESH), false, self.seen.clone());
        refresh.tick().await;
        while !tasks.is_empty() {
            tokio::select! {
                Ok(()) = changes.changed() => dirty = !self.publish().await,
                Ok(()) = seen.changed() => dirty |= self.is_contradicted(),
                () = sleep(RETRY), if dirty => dirty = !self.publish().await,
                _ = refresh.tick() => self.refresh_volumes().await,
                _ = tasks.join_next() => {}
            }
        }
    }

    async fn refresh_volumes(&self) {
        let latest = self.seen.borrow().clone();
        if let Some(pod) = latest
            && let Err(error) = volumes::sync(&self.node, &pod, &self.ip, &self.dir).await
        {
            warn!("{}: {error:#}", pod.name_any());
        }
    }

    /// Tells the API server that nothing of the pod is left; only then does the object go away.
    async fn finalise(&self) -> bool {
        let name = self.pod.name_any();
        let preconditions = Preconditions { uid: self.pod.uid(), resource_version: None };
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match self.api.delete(&name, &now).await {
            Ok(_) => {
                info!("finalised {name}");
                true
            }
            Err(error) => over(&error, &name),
        }
    }
}
