//! The end of a group whose resource is deleted: its consumers, its claims and its budget go, and the finalizer last.
//!
//! Everything is found by labels, and each look begins anew: it does not matter who began it, nor whether the specification can be read.

use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tidegate_core::ids::GroupName;
use tidegate_runtime::ports::Error;

use super::accept::group_of;
use super::object::{FINALIZER, Resource, kind};
use crate::errors::{Right, is_missing, refused};
use crate::names::Names;
use crate::resource;

/// Between two looks, at first and at most: pods whose node is gone may take for ever.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));

/// How long one look may take: some requests for each consumer.
const LOOK: Duration = Duration::from_secs(60);

/// One group that ends.
#[derive(Debug)]
pub(super) struct Drain {
    workloads: Objects,
    pods: Objects,
    claims: Objects,
    budgets: Objects,
    groups: Api<DynamicObject>,
    names: Names,
    name: String,
    uid: String,
    retain: bool,
}

/// Objects of a kind in the namespace.
#[derive(Debug)]
struct Objects {
    api: Api<DynamicObject>,
    resource: &'static str,
}

impl Drain {
    pub(super) fn new(client: &Client, resource: &Resource) -> Self {
        let objects = |kind: ApiResource, plural| Objects {
            api: Api::namespaced_with(client.clone(), &resource.namespace, &kind),
            resource: plural,
        };
        // Read from what may be faulty otherwise.
        let storage = &resource.spec["workers"]["kubernetes"]["storage"];
        let workloads = match storage["keeping"].as_str() {
            Some("statefulSet") => objects(ApiResource::erase::<StatefulSet>(&()), "statefulsets"),
            _ => objects(ApiResource::erase::<Deployment>(&()), "deployments"),
        };
        Self {
            workloads,
            pods: objects(ApiResource::erase::<Pod>(&()), "pods"),
            claims: objects(
                ApiResource::erase::<PersistentVolumeClaim>(&()),
                "persistentvolumeclaims",
            ),
            budgets: objects(
                ApiResource::erase::<PodDisruptionBudget>(&()),
                "poddisruptionbudgets",
            ),
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
        let workloads = self.workloads.list(&selector).await?;
        if workloads.iter().any(|workload| self.is_of_another(workload)) {
            // A copy of another resource: nothing here was made for it.
            return self.release().await;
        }
        let workloads = self.workloads.delete_all(workloads).await?;
        let pods = self.pods.list(&selector).await?.len();
        if workloads + pods > 0 {
            return Ok(Some(format!("{workloads} workloads and {pods} pods have not ended yet")));
        }
        if !self.retain {
            let claims = self.claims.list(&selector).await?;
            let claims = self.claims.delete_all(claims).await?;
            if claims > 0 {
                return Ok(Some(format!("{claims} claims are still there")));
            }
        }
        self.budgets.delete(&self.names.budget()).await?;
        self.release().await
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

impl Objects {
    async fn list(&self, selector: &str) -> Result<Vec<DynamicObject>, Error> {
        let right = Right { verb: "list", resource: self.resource };
        let listed = self.api.list(&ListParams::default().labels(selector)).await;
        Ok(listed.map_err(|error| refused(right, selector, error))?.items)
    }

    /// Deletes those that are not being deleted. Returns how many there still are.
    async fn delete_all(&self, objects: Vec<DynamicObject>) -> Result<usize, Error> {
        for object in &objects {
            if object.metadata.deletion_timestamp.is_none() {
                self.delete(&object.name_any()).await?;
            }
        }
        Ok(objects.len())
    }

    async fn delete(&self, name: &str) -> Result<(), Error> {
        let right = Right { verb: "delete", resource: self.resource };
        match self.api.delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(refused(right, name, error)),
        }
    }
}
