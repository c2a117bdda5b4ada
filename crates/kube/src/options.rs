//! How consumers are to be run.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use tidegate_core::ids::{ConsumerNumber, GroupName};
use tidegate_runtime::spec::{Keeping, Workers};
use tidegate_runtime::telemetry::metrics::KubernetesMetrics;
use tokio::sync::mpsc;

/// What does not change while the group runs. Image, template and the rest come with the specification of each worker.
#[derive(Clone, Debug)]
pub struct KubeOptions {
    /// Where everything is made.
    pub namespace: String,
    /// Whose consumers they are.
    pub group: GroupName,
    /// What they go with when it is deleted.
    pub owner: Option<OwnerReference>,
    /// The container's arguments; `$(NAME)` stands for a variable of its environment. There are `TIDEGATE_CONSUMER_ID`,
    /// `TIDEGATE_POD_UID` and `TIDEGATE_POD_IP`; the state directory is `/var/lib/tidegate`, and the specification
    /// `/etc/podinfo/group.yaml`.
    pub arguments: Vec<String>,
    /// The port on which the consumer serves its health.
    pub port: u16,
    /// Who keeps others off a volume.
    pub keeping: Keeping,
    /// Whether claims stay when their consumer goes.
    pub retain: bool,
    /// Told of each workload that somebody else has changed or deleted.
    pub drift: Option<mpsc::Sender<ConsumerNumber>>,
    /// How long the end of all workers may take at least: from the deletion of a pod to SIGKILL.
    pub stop_grace: std::time::Duration,
    /// Where it is counted what happens; by default nobody sees them.
    pub metrics: KubernetesMetrics,
}

impl KubeOptions {
    /// Those that a specification says.
    pub fn new(namespace: String, group: GroupName, workers: &Workers) -> Self {
        Self {
            namespace,
            group,
            owner: None,
            arguments: Vec::new(),
            port: 8080,
            keeping: workers.kubernetes.storage.keeping,
            retain: workers.kubernetes.storage.retain,
            drift: None,
            stop_grace: workers.kubernetes.evacuation + workers.stop_grace,
            metrics: KubernetesMetrics::default(),
        }
    }
}
