//! What runs the consumers, with defaults: the rest of the sections, and the longest of them.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::units::Span;

/// What runs the consumers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Workers {
    /// Which kind of worker. The default is `process`: it needs nothing but this machine.
    pub kind: WorkerKind,
    /// Where each consumer has a directory for its state and its log. The default is beside where you start it.
    pub data_directory: String,
    /// Time from SIGTERM to SIGKILL. The default is longer than `consumer.stopBudget`, so that only a hung consumer
    /// is killed.
    #[serde(with = "Span")]
    pub stop_grace: Duration,
    /// Pause before a consumer that ended is started again; on Kubernetes its nodes say that.
    pub restart_backoff: Backoff,
    /// Consumers on Kubernetes, for the kind `kubernetes`.
    pub kubernetes: Kubernetes,
}

/// Kinds of workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WorkerKind {
    /// Child processes of the controller.
    #[default]
    Process,
    /// On Kubernetes: a Deployment of one pod and a claim for each consumer, as `workers.kubernetes` says.
    Kubernetes,
    /// Consumers that you start yourself with `tidegate consumer`; the log says which are wanted.
    Manual,
}

/// A pause that doubles each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Backoff {
    /// The first pause. The default is short: most ends are one-time.
    #[serde(with = "Span")]
    pub initial: Duration,
    /// The longest pause. The default keeps a broken consumer quiet and still heals within half a minute.
    #[serde(with = "Span")]
    pub max: Duration,
}

/// How consumers run on Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Kubernetes {
    /// Image of the consumers, by tag or digest. Required for the kind `kubernetes`: a controller of another version is no
    /// reason to replace consumers, and so its own image is no default.
    pub image: String,
    /// Namespace in which everything is made. The default is that of the group's resource, or of this program's pod, or of the
    /// kubeconfig.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// What pods have beside what Tidegate gives them, as in the `template` of a Deployment: resources, tolerations, variables with
    /// secrets, volumes. A container `consumer` in it is completed. The default has nothing.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schemars(extend("type" = "object", "x-kubernetes-preserve-unknown-fields" = true))]
    pub template: Value,
    /// Time that a pod which somebody deletes or evicts keeps its partitions at most, while they go to others; its grace is so much
    /// longer. The default lets another consumer start for them.
    #[serde(with = "Span")]
    pub evacuation: Duration,
    /// The volume of each consumer.
    pub storage: Storage,
}

/// Volumes for the state of consumers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Storage {
    /// Storage class. The default is the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// How large, such as `1Gi`. The default is more than a consumer writes: a small file.
    pub size: String,
    /// Who makes sure that a volume has one reader and writer. The default is the claim's mode.
    pub keeping: Keeping,
    /// Whether claims stay when their consumer goes, for the next one of that number. The default is false: nothing in them is
    /// needed then.
    pub retain: bool,
}

/// Who makes sure that a volume has one reader and writer. A Deployment whose claim is plain `ReadWriteOnce` does not: it starts the
/// next pod while the last one ends, if somebody deletes that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Keeping {
    /// The claim, `ReadWriteOncePod`, of a Deployment. Needs storage that knows that mode, as all CSI drivers do.
    #[default]
    Claim,
    /// A StatefulSet of one, which waits for the end of the last pod; its claim is `ReadWriteOnce`.
    StatefulSet,
}

// === defaults ===

impl Default for Workers {
    fn default() -> Self {
        Self {
            kind: WorkerKind::Process,
            data_directory: "tidegate-data".to_owned(),
            stop_grace: Duration::from_secs(15),
            restart_backoff: Backoff::default(),
            kubernetes: Kubernetes::default(),
        }
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self { initial: Duration::from_millis(500), max: Duration::from_secs(30) }
    }
}

impl Default for Kubernetes {
    fn default() -> Self {
        Self {
            image: String::new(),
            namespace: None,
            template: Value::Null,
            evacuation: Duration::from_secs(60),
            storage: Storage::default(),
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { class: None, size: "1Gi".to_owned(), keeping: Keeping::Claim, retain: false }
    }
}
