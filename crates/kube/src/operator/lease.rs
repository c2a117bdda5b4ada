//! The loop of the Lease: reads and writes what the [state machine](super::election) asks for, and tells what this process is.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};
use tidegate_runtime::telemetry::metrics::OperatorMetrics;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::election::{DURATION, Election, Input, Next, Role, Stored, Wish};
use crate::errors::{Right, is_conflict, is_missing, refused};

/// Time between two looks at the state machine.
const TICK: Duration = Duration::from_millis(250);

/// How long the release at the end may take: the lease ends by itself.
const RELEASE: Duration = Duration::from_secs(2);

/// One lease, and who wants it.
#[derive(Debug)]
pub(super) struct Candidate {
    api: Api<Lease>,
    name: String,
    /// As it was seen last, to be written again: labels and the like are those of whoever made it. Helm deletes only what has its marks.
    metadata: ObjectMeta,
    /// When this process took the lease; others only show it.
    acquired: Option<Timestamp>,
    metrics: OperatorMetrics,
}

impl Candidate {
    pub(super) fn new(
        client: &Client,
        namespace: &str,
        name: &str,
        metrics: OperatorMetrics,
    ) -> Self {
        let api = Api::namespaced(client.clone(), namespace);
        Self {
            api,
            name: name.to_owned(),
            metadata: ObjectMeta::default(),
            acquired: None,
            metrics,
        }
    }

    /// Tries to hold the lease until told to stop, and releases it then.
    pub(super) async fn run(
        mut self,
        identity: String,
        roles: watch::Sender<Role>,
        stop: CancellationToken,
    ) {
        let mut election = Election::new(identity, Instant::now());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            let now = Instant::now();
            let next = election.next(now);
            self.tell(&roles, election.role(now));
            let answer = match next {
                Next::Wait => continue,
                Next::Look => self.within(election.patience(now), None).await,
                Next::Write(wish) => self.within(election.patience(now), Some(wish)).await,
            };
            let now = Instant::now();
            election.step(now, answer);
            self.tell(&roles, election.role(now));
        }
        if let Some(wish) = election.release(Instant::now()) {
            let _released = self.within(RELEASE, Some(wish)).await;
        }
        self.tell(&roles, election.role(Instant::now()));
    }

    async fn within(&mut self, patience: Duration, wish: Option<Wish>) -> Input {
        let request = async {
            match wish {
                None => self.look().await,
                Some(wish) => self.write(wish).await,
            }
        };
        tokio::time::timeout(patience, request).await.unwrap_or_else(|_| {
            tracing::warn!("the API server does not answer about the lease");
            self.metrics.lease_failures.inc();
            Input::Failed
        })
    }

    async fn look(&mut self) -> Input {
        match self.api.get_opt(&self.name).await {
            Ok(lease) => {
                self.metadata =
                    lease.as_ref().map(|lease| lease.metadata.clone()).unwrap_or_default();
                Input::Seen(lease.map(stored))
            }
            Err(error) => self.failed("get", error),
        }
    }

    async fn write(&mut self, wish: Wish) -> Input {
        let now = Timestamp::now();
        if wish.acquires {
            self.acquired = Some(now);
        }
        let is_new = wish.over.is_none();
        let lease = self.lease(wish, now);
        let parameters = PostParams::default();
        let written = if is_new {
            self.api.create(&parameters, &lease).await
        } else {
            self.api.replace(&self.name, &parameters, &lease).await
        };
        match written {
            Ok(lease) => Input::Written(stored(lease)),
            Err(error) if is_conflict(&error) || is_missing(&error) => Input::Conflict,
            Err(error) => self.failed(if is_new { "create" } else { "update" }, error),
        }
    }

    fn lease(&self, wish: Wish, now: Timestamp) -> Lease {
        let released = wish.holder.is_empty();
        let seconds = if released { 1 } else { DURATION.as_secs() };
        let mut lease = Lease { metadata: self.metadata.clone(), ..Lease::default() };
        lease.metadata.name = Some(self.name.clone());
        lease.metadata.resource_version = wish.over;
        lease.metadata.managed_fields = None;
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(wish.holder),
            lease_duration_seconds: i32::try_from(seconds).ok(),
            lease_transitions: Some(wish.transitions),
            acquire_time: self.acquired.map(MicroTime),
            renew_time: Some(MicroTime(now)),
            ..LeaseSpec::default()
        });
        lease
    }

    fn failed(&self, verb: &'static str, error: kube::Error) -> Input {
        let error = refused(Right { verb, resource: "leases" }, &self.name, error);
        tracing::warn!(error = &error as &dyn std::error::Error, "the lease is tried again");
        self.metrics.lease_failures.inc();
        Input::Failed
    }

    fn tell(&self, roles: &watch::Sender<Role>, role: Role) {
        self.metrics.holder.set((role == Role::Holder).into());
        roles.send_if_modified(|told| {
            let is_new = *told != role;
            if is_new {
                tracing::info!(?role, "the lease says who runs the groups");
                *told = role;
            }
            is_new
        });
    }
}

fn stored(lease: Lease) -> Stored {
    let spec = lease.spec.unwrap_or_default();
    Stored {
        holder: spec.holder_identity.unwrap_or_default(),
        transitions: spec.lease_transitions.unwrap_or_default(),
        version: lease.metadata.resource_version.unwrap_or_default(),
    }
}
