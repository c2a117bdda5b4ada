//! The operator: runs a group for each `ConsumerGroup`, in one process of several.
//!
//! ```text
//! Lease ──► election ──► who of the replicas tries
//! ConsumerGroups ──► fleet ──► verdicts ──► groups ──► running (one task for each) ──► report: status, Events
//!                                              └────► drain (the end of a deleted one)
//! ```
//!
//! What runs a group is given: this crate knows neither Kafka nor the command line. Decisions are pure and have no clock; the shells
//! around them talk to the API server.

mod accept;
mod drain;
mod election;
mod fleet;
mod groups;
mod lease;
mod object;
mod report;
mod running;
mod told;
mod view;

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use serde::Serialize;
use tidegate_core::ids::ConsumerNumber;
use tidegate_runtime::live::Check;
use tidegate_runtime::spec::GroupSpec;
use tidegate_runtime::task::{TaskError, spawn_named};
use tidegate_runtime::telemetry::metrics::OperatorMetrics;
use tidegate_wire::Status;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use self::election::Role;
use self::groups::Groups;
use self::lease::Candidate;

/// What an operator is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It runs controllers, and answers for the resources: finalizers, status, Events.
    Controller,
    /// It runs monitors for what controllers have taken up.
    Monitor,
}

/// How an operator runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it is for.
    pub part: Part,
    /// Where resources are looked for.
    pub namespaces: Vec<String>,
    /// Where the Lease is.
    pub lease_namespace: String,
    /// This process, for the Lease and for Events: no other has the same.
    pub identity: String,
    /// Has a directory for each namespace, with the files that specifications of that namespace may name.
    pub secrets: PathBuf,
    /// Finds what is wrong with a specification beyond itself.
    pub check: Check,
    /// Where it is counted what happens.
    pub metrics: OperatorMetrics,
}

/// A group that is to be run.
#[derive(Debug)]
pub struct Assigned {
    /// The namespace of its resource and of its consumers.
    pub namespace: String,
    /// The name of its resource.
    pub name: String,
    /// What its consumers go with.
    pub owner: OwnerReference,
    /// What it runs by; another one may come at any time.
    pub specs: watch::Receiver<GroupSpec>,
    /// Where its controller tells its status.
    pub status: watch::Sender<Status>,
    /// Where workloads are told that somebody else has changed.
    pub drift: mpsc::Sender<ConsumerNumber>,
    /// Whether the Lease sends this process, so that its controller waits for no silence of whoever leads.
    pub deposes: watch::Receiver<bool>,
    /// The revision that a process before this one has taken back, and why.
    pub refused: Option<(String, String)>,
    /// Cancelled when it is to end; its consumers go on.
    pub stop: CancellationToken,
}

/// Why a group ended.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs one group until it is told to stop.
pub type RunGroup = Arc<dyn Fn(Assigned) -> BoxFuture<'static, Result<(), Failure>> + Send + Sync>;

/// What an operator shows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overview {
    /// Whether this process runs the groups: `holder`, `cutOff` from the API server, `standby`, or `unknown`.
    pub role: &'static str,
    /// Who runs them, where it is known and another one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub holder: String,
    /// All resources have been seen once.
    pub synced: bool,
    /// The resources.
    pub groups: Vec<GroupRow>,
}

/// One resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupRow {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// It is run by this process.
    pub runs: bool,
    /// Why its specification is not taken up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Why its controller or monitor ended last, while it does not run again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// What its end waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining: Option<String>,
}

/// Runs an operator until it is told to stop. The consumers of its groups go on.
pub async fn run(
    client: Client,
    options: Options,
    run: RunGroup,
    shown: watch::Sender<Overview>,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    let (roles, role) = watch::channel(Role::Unknown);
    let name = options.part.name();
    let metrics = options.metrics.clone();
    let candidate = Candidate::new(&client, &options.lease_namespace, name, metrics);
    let lease_stop = CancellationToken::new();
    let lease = candidate.run(options.identity.clone(), roles, lease_stop.clone());
    let lease = spawn_named("lease", lease);
    Groups::new(client, options, run, role, shown).run(stop).await;
    // Only once nothing runs here any more.
    lease_stop.cancel();
    lease.await
}

impl Part {
    /// The name of its Lease, and of whoever reports its Events.
    pub fn name(self) -> &'static str {
        match self {
            Self::Controller => "tidegate-controller",
            Self::Monitor => "tidegate-monitor",
        }
    }
}
