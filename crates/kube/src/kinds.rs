//! The kinds of objects that consumers are made of: applied, listed and deleted, with the right that is missing in the error.
//!
//! An API server that does not answer is an error after some seconds.

use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, Client};
use serde_json::Value;
use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::spec::Keeping;
use tidegate_runtime::telemetry::metrics::{KubernetesMetrics, ResourceLabels};

use crate::errors::{Right, in_time, is_missing};

/// Whose fields the applied ones are.
const MANAGER: &str = "tidegate";

/// The kinds of objects of which a group's consumers are made.
#[derive(Debug)]
pub(crate) struct Kinds {
    pub(crate) workloads: Kind,
    pub(crate) claims: Kind,
    pub(crate) budgets: Kind,
    pub(crate) pods: Api<Pod>,
    pub(crate) events: Api<Event>,
}

/// Objects of one kind in the group's namespace.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    pub(crate) api: Api<DynamicObject>,
    pub(crate) resource: &'static str,
    metrics: KubernetesMetrics,
}

// === impl Kinds ===

impl Kinds {
    pub(crate) fn new(
        client: &Client,
        namespace: &str,
        keeping: Keeping,
        metrics: &KubernetesMetrics,
    ) -> Self {
        let kind = |resource: ApiResource, plural| Kind {
            api: Api::namespaced_with(client.clone(), namespace, &resource),
            resource: plural,
            metrics: metrics.clone(),
        };
        let workloads = match keeping {
            Keeping::Claim => kind(ApiResource::erase::<Deployment>(&()), "deployments"),
            Keeping::StatefulSet => kind(ApiResource::erase::<StatefulSet>(&()), "statefulsets"),
        };
        Self {
            workloads,
            claims: kind(
                ApiResource::erase::<PersistentVolumeClaim>(&()),
                "persistentvolumeclaims",
            ),
            budgets: kind(ApiResource::erase::<PodDisruptionBudget>(&()), "poddisruptionbudgets"),
            pods: Api::namespaced(client.clone(), namespace),
            events: Api::namespaced(client.clone(), namespace),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// Makes an object be as it should; one that is being deleted cannot be, and is made again once it is gone.
    pub(crate) async fn apply(&self, name: &str, object: &Value) -> Result<DynamicObject, Error> {
        let right = Right { verb: "patch", resource: self.resource };
        let parameters = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(object);
        let applied = in_time(right, name, self.api.patch(name, &parameters, &patch)).await;
        let applied = self.counted(applied)?;
        if applied.metadata.deletion_timestamp.is_some() {
            let text = format!("{name} of {} is still being deleted", self.resource);
            return Err(Error::new(Class::Transient, text));
        }
        Ok(applied)
    }

    /// Those with these labels.
    pub(crate) async fn list(&self, selector: &str) -> Result<Vec<DynamicObject>, Error> {
        let right = Right { verb: "list", resource: self.resource };
        let parameters = ListParams::default().labels(selector);
        Ok(in_time(right, selector, self.api.list(&parameters)).await?.items)
    }

    /// Deletes an object, and what belongs to it afterwards; that it is gone is as well.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Error> {
        let right = Right { verb: "delete", resource: self.resource };
        let parameters = DeleteParams::background();
        let deleted = async {
            match self.api.delete(name, &parameters).await {
                Ok(_) => Ok(()),
                Err(error) if is_missing(&error) => Ok(()),
                Err(error) => Err(error),
            }
        };
        self.counted(in_time(right, name, deleted).await)
    }

    fn counted<T>(&self, done: Result<T, Error>) -> Result<T, Error> {
        done.inspect_err(|_| {
            let labels = ResourceLabels { resource: self.resource };
            self.metrics.apply_failures.get_or_create(&labels).inc();
        })
    }
}
