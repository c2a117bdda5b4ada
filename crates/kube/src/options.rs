//! How consumers are to be run.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::Value;
use tidegate_core::ids::GroupName;

/// What all consumers of a group have in common.
#[derive(Clone, Debug)]
pub struct KubeOptions {
    /// Where everything is made.
    pub namespace: String,
    /// Whose consumers they are.
    pub group: GroupName,
    /// What they go with when it is deleted.
    pub owner: Option<OwnerReference>,
    /// The container's image, by tag or digest.
    pub image: String,
    /// Its arguments; `$(NAME)` stands for a variable of its environment. There are `TIDEGATE_CONSUMER_ID`, `TIDEGATE_POD_UID` and
    /// `TIDEGATE_POD_IP`, and the state directory is `/var/lib/tidegate`.
    pub arguments: Vec<String>,
    /// The port on which the consumer serves its health.
    pub port: u16,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// What pods have beside that: a pod template, whose container `consumer`, if it has one, is completed.
    pub template: Value,
    /// Their volumes.
    pub storage: Storage,
}

/// Volumes for the state of consumers.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The storage class; the cluster's default when left out.
    pub class: Option<String>,
    /// How large, such as `1Gi`.
    pub size: String,
    /// Who makes sure that a volume has one reader and writer.
    pub keeping: Keeping,
    /// Whether claims stay when their consumer goes: for the one of that number that comes next.
    pub retain: bool,
}

/// Who makes sure that a volume has one reader and writer. A Deployment whose claim is plain `ReadWriteOnce` does not: it starts the
/// next pod while the last one ends, if somebody deletes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeping {
    /// The claim, `ReadWriteOncePod`, of a Deployment. Needs storage that knows that mode.
    Claim,
    /// A StatefulSet, which waits for the end of the last pod; its claim is `ReadWriteOnce`.
    StatefulSet,
}
