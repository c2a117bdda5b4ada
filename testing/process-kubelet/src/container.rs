//! One container: pulls its image, starts its process, obeys its probes, restarts it and ends it in time.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{self as api, Pod};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::node::Node;
use crate::probe::{self, Verdict};
use crate::process::{Exit, Process};
use crate::retry::CrashBackoff;

/// What the containers of one pod share.
pub(crate) struct Sandbox {
    pub(crate) node: Arc<Node>,
    pub(crate) pod: Pod,
    pub(crate) ip: String,
    /// Name of the volume to its directory on the host.
    pub(crate) volumes: BTreeMap<String, PathBuf>,
}

/// What the pod's status says about the container.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) state: Value,
    pub(crate) last_state: Value,
    pub(crate) image_id: String,
    pub(crate) ready: bool,
    pub(crate) started: bool,
    pub(crate) restarts: i32,
    /// Exit code once the container will not run again.
    pub(crate) finished: Option<i32>,
}

// === impl Report ===

impl Report {
    pub(crate) fn new(restarts: i32) -> Self {
        Self {
            state: waiting("ContainerCreating", ""),
            last_state: Value::Null,
            image_id: String::new(),
            ready: false,
            started: false,
            restarts,
            finished: None,
        }
    }
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

/// By when the container must be gone; `None` while it may run. A later value can only be earlier.
pub(crate) type Stop = watch::Receiver<Option<Instant>>;

/// Waits until there is an order to stop.
pub(crate) async fn stopped(stop: &mut Stop) {
    if stop.wait_for(Option::is_some).await.is_err() {
        // The pod's worker is gone, and we are about to be aborted.
        std::future::pending::<()>().await;
    }
}

/// A container and where it reports to.
pub(crate) struct Container {
    pub(crate) sandbox: Arc<Sandbox>,
    pub(crate) spec: api::Container,
    pub(crate) policy: String,
    pub(crate) stop: Stop,
    pub(crate) reports: watch::Sender<Vec<Report>>,
    /// Its place in the reports.
    pub(crate) index: usize,
}

/// What a container that is stopped before it has run counts as.
const NEVER_RAN: i32 = 137;

// === impl Container ===

impl Container {
    /// Runs the container until it is finished and reports each change.
    pub(crate) async fn run(mut self) {
        let mut backoff = CrashBackoff::new(self.sandbox.node.host.crash_backoff);
        while self.run_once(&mut backoff).await.is_continue() {}
    }

    /// From the pull of the image until it is time to start again.
    async fn run_once(&mut self, backoff: &mut CrashBackoff) -> ControlFlow<()> {
        let program = self.image().await?;
        if self.stop.borrow().is_some() {
            return self.end_unstarted();
        }
        let began = Instant::now();
        let restarts = self.reports.borrow()[self.index].restarts;
        match Process::start(&self.sandbox, &self.spec, &program, restarts).await {
            Ok(process) => {
                self.tell("Started", format!("Container {} started", self.spec.name)).await;
                self.supervise(process).await?;
                self.crash_loop(backoff.after_run(began)).await
            }
            Err(error) => {
                let message = format!("{error:#}");
                let state = waiting("CreateContainerConfigError", &message);
                self.report(|report| report.state = state);
                self.tell("Failed", message).await;
                self.pause(backoff.after_failure()).await
            }
        }
    }

    /// The program of the image, once the node has it.
    async fn image(&mut self) -> ControlFlow<(), PathBuf> {
        let sandbox = Arc::clone(&self.sandbox);
        let (images, image) = (&sandbox.node.images, self.spec.image.clone().unwrap_or_default());
        let policy = self.spec.image_pull_policy.clone().unwrap_or_default();
        let mut backoff = CrashBackoff::new(sandbox.node.host.crash_backoff);
        loop {
            let present = images.present(&image, &policy);
            let told = if present.is_some() {
                format!("Container image {image:?} already present on machine")
            } else {
                format!("Successfully pulled image {image:?}")
            };
            let pulled = match present {
                Some(program) => Ok(program),
                None if policy == "Never" => {
                    self.report(|it| it.state = waiting("ErrImageNeverPull", &image));
                    self.pause(backoff.after_failure()).await?;
                    continue;
                }
                None => {
                    self.tell("Pulling", format!("Pulling image {image:?}")).await;
                    tokio::select! {
                        pulled = images.pull(&sandbox.node.host, &image) => pulled,
                        () = stopped(&mut self.stop) => return self.end_unstarted(),
                    }
                }
            };
            match pulled {
                Ok(program) => {
                    self.report(|it| it.image_id = format!("process://{}", program.display()));
                    self.tell("Pulled", told).await;
                    return ControlFlow::Continue(program);
                }
                Err(error) => {
                    let delay = backoff.after_failure();
                    self.report(|it| it.state = waiting("ErrImagePull", &format!("{error:#}")));
                    self.tell("Failed", format!("Failed to pull image {image:?}: {error:#}")).await;
                    self.pause(delay / 4).await?;
                    let message = format!("Back-off pulling image {image:?}: {error:#}");
                    self.report(|it| it.state = waiting("ImagePullBackOff", &message));
                    self.tell("BackOff", message).await;
                    self.pause(delay).await?;
                }
            }
        }
    }

    /// Sees the process to its end; breaks when that was the container's.
    async fn supervise(&mut self, mut process: Process) -> ControlFlow<()> {
        let exit = self.until_exit(&mut process).await;
        let terminated = json!({"terminated": {"exitCode": exit.code, "reason": exit.reason,
            "startedAt": process.started_at, "finishedAt": Timestamp::now(),
            "containerID": process.id}});
        let may_again = match self.policy.as_str() {
            "Always" => true,
            "OnFailure" => exit.code != 0,
            _ => false,
        };
        let is_last = self.stop.borrow().is_some() || !may_again;
        self.report(|report| {
            (report.ready, report.started) = (false, false);
            if is_last {
                report.state = terminated;
                report.finished = Some(exit.code);
            } else {
                report.last_state = terminated;
            }
        });
        if is_last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Waits for the exit, for an order to stop or for a failed probe.
    async fn until_exit(&mut self, process: &mut Process) -> Exit {
        let running = json!({"running": {"startedAt": process.started_at}});
        self.report(|report| report.state = running);
        let (sender, mut verdicts) = mpsc::channel(4);
        let mut probes = JoinSet::new(); // aborted on drop
        if let Some(target) = process.target().await {
            probes.spawn(probe::watch(target, sender));
        }
        loop {
            tokio::select! {
                status = process.wait() => return status,
                () = stopped(&mut self.stop) => {
                    self.tell("Killing", format!("Stopping container {}", self.spec.name)).await;
                    return process.terminate(self.stop.clone()).await;
                }
                Some(verdict) = verdicts.recv() => {
                    if let Some(why) = self.judge(verdict) {
                        self.tell("Unhealthy", why).await;
                        let deadline = Instant::now() + Duration::from_secs(process.grace_s);
                        let (_keep, stop) = watch::channel(Some(deadline));
                        return process.terminate(stop).await;
                    }
                }
            }
        }
    }

    /// Takes note of what a probe has found; why the container must end, if it must.
    fn judge(&self, verdict: Verdict) -> Option<String> {
        match verdict {
            Verdict::Started => self.report(|report| {
                report.started = true;
                report.ready = self.spec.readiness_probe.is_none();
            }),
            Verdict::Ready(ready) => self.report(|report| report.ready = ready),
            Verdict::Unhealthy(why) => return Some(why),
        }
        None
    }

    /// Waits for the restart and counts it.
    async fn crash_loop(&mut self, delay: Duration) -> ControlFlow<()> {
        let message = format!("back-off {delay:?} restarting failed container");
        self.report(|report| report.state = waiting("CrashLoopBackOff", &message));
        if !delay.is_zero() {
            self.tell("BackOff", message).await;
        }
        self.pause(delay).await?;
        self.report(|report| report.restarts += 1);
        ControlFlow::Continue(())
    }

    /// Waits; breaks, after the last report, when the container is stopped meanwhile.
    async fn pause(&mut self, delay: Duration) -> ControlFlow<()> {
        if timeout(delay, stopped(&mut self.stop)).await.is_ok() {
            return self.end_unstarted();
        }
        ControlFlow::Continue(())
    }

    fn end_unstarted<T>(&self) -> ControlFlow<(), T> {
        self.report(|report| report.finished = Some(NEVER_RAN));
        ControlFlow::Break(())
    }

    fn report(&self, change: impl FnOnce(&mut Report)) {
        self.reports.send_modify(|reports| change(&mut reports[self.index]));
    }

    async fn tell(&self, reason: &str, note: String) {
        self.sandbox.node.tell(&self.sandbox.pod, reason, note).await;
    }
}
