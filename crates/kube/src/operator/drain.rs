//! The end of a group whose resource is deleted: its consumers, its claims and its budget go, and the finalizer last.
//!
//! Everything is found by labels, and each look begins anew: it does not matter who began it, nor whether the specification can be read.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tidegate_core::ids::GroupName;
use tidegate_runtime::ports::Error;
use tidegate_runtime::telemetry::metrics::KubernetesMetrics;

use super::accept::group_of;
use super::object::{FINALIZER, Resource, kind};
use crate::errors::{Right, in_time, is_missing, refused};
use crate::kinds::{Kind, Kinds};
use crate::names::Names;
use crate::resource;

/// Between two looks, at first and at most: pods whose node is gone may take for ever.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long one look may take: some requests for each consumer.
const LOOK: Duration = Duration::from_secs(60);

/// One group that ends.
#[derive(Debug)]
pub(super) struct Drain {
    kinds: Kinds,
    groups: Api<DynamicObject>,
    names: Names,
    name: String,
    uid: String,
    retain: bool,
}

impl Drain {
    pub(super) fn new(client: &Client, resource: &Resource) -> Self {
        // Read from what may be faulty otherwise.
        let storage = &resource.spec["workers"]["kubernetes"]["storage"];
        let keeping = serde_json::from_value(storage["keeping"].clone()).unwrap_or_default();
        Self {
            kinds: Kinds::new(client, &resource.namespace, keeping, &KubernetesMetrics::default()),
            groups: Api::namespaced_with(client.clone(), &resource.namespace, &kind()),
            names: Names::new(&GroupName(group_of(resource))),
            name: resource.name.clone(),
            uid: resource.uid.clone(),
            retain: storage["retain"].as_bool().unwrap_or_default(),
        }
    }

    /// Looks until nothing is left and the finalizer is gone.
    pub(super) async fn run(self, progress: impl Fn(String)) {
        let (mut pause, longest) = LOOKS;
        let mut before = None;
        loop {
            let told = match tokio::time::timeout(LOOK, self.look()).await {
                Ok(Ok(None)) => return,
                Ok(Ok(Some(told))) => told,
                Err(_) => "the API server does not answer".to_owned(),
                Ok(Err(error)) => {
                    tracing::warn!(
                        name = self.name,
                        error = &error as &dyn std::error::Error,
                        "the end of a group is tried again"
                    );
                    format!("{error}; it is tried again")
                }
            };
            // Whatever moves is looked at again soon.
            pause = if before.as_ref() == Some(&told) { (pause * 2).min(longest) } else { LOOKS.0 };
            progress(told.clone());
            before = Some(told);
            tokio::time::sleep(pause).await;
        }
    }

    /// Deletes what is left. Returns what is waited for; nothing once the finalizer is gone.
    async fn look(&self) -> Result<Option<String>, Error> {
        let selector = self.names.selector();
        let workloads = self.kinds.workloads.list(&selector).await?;
        if workloads.iter().any(|workload| self.is_of_another(workload)) {
            // A copy of another resource: nothing here was made for it.
            return self.release().await;
        }
        let workloads = delete_all(&self.kinds.workloads, workloads).await?;
        let pods = self.pods(&selector).await?;
        if workloads + pods.len() > 0 {
            let named =
                if pods.is_empty() { String::new() } else { format!(": {}", pods.join(", ")) };
            let pods = pods.len();
            return Ok(Some(format!(
                "{workloads} workloads and {pods} pods have not ended yet{named}"
            )));
        }
        if !self.retain {
            let claims = self.kinds.claims.list(&selector).await?;
            let claims = delete_all(&self.kinds.claims, claims).await?;
            if claims > 0 {
                return Ok(Some(format!("{claims} claims are still there")));
            }
        }
        self.kinds.budgets.delete(&self.names.budget()).await?;
        self.release().await
    }

    /// The pods that are left, and their nodes: those of a node that is gone stay until somebody says that it is.
    async fn pods(&self, selector: &str) -> Result<Vec<String>, Error> {
        let right = Right { verb: "list", resource: "pods" };
        let parameters = ListParams::default().labels(selector);
        let pods = in_time(right, selector, self.kinds.pods.list(&parameters)).await?;
        let named = |pod: &Pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            format!("{} on {}", pod.name_any(), node.unwrap_or("no node"))
        };
        Ok(pods.iter().map(named).collect())
    }

    fn is_of_another(&self, workload: &DynamicObject) -> bool {
        let groups =
            workload.owner_references().iter().filter(|owner| owner.kind == resource::KIND);
        groups.clone().count() > 0 && groups.clone().all(|owner| owner.uid != self.uid)
    }

    async fn release(&self) -> Result<Option<String>, Error> {
        let right = |verb| Right { verb, resource: "consumergroups" };
        let found = self.groups.get_opt(&self.name).await;
        let found = found.map_err(|error| refused(right("get"), &self.name, error))?;
        let Some(group) = found.filter(|group| group.uid().as_ref() == Some(&self.uid)) else {
            return Ok(None);
        };
        let finalizers = group.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER);
        let patch = json!({ "metadata": {
            "finalizers": finalizers.collect::<Vec<_>>(),
            "resourceVersion": group.metadata.resource_version,
        } });
        let parameters = PatchParams::default();
        match self.groups.patch(&self.name, &parameters, &Patch::Merge(patch)).await {
            Ok(_) => Ok(None),
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(refused(right("patch"), &self.name, error)),
        }
    }
}

/// Deletes those that are not being deleted. Returns how many there still are.
async fn delete_all(kind: &Kind, objects: Vec<DynamicObject>) -> Result<usize, Error> {
    for object in &objects {
        if object.metadata.deletion_timestamp.is_none() {
            kind.delete(&object.name_any()).await?;
        }
    }
    Ok(objects.len())
}
