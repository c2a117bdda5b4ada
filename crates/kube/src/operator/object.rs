//! A `ConsumerGroup` as it is stored, as far as the operator needs it. Its specification stays JSON: it may be faulty.

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

use crate::resource::{self, GroupStatus};

/// Keeps the resource until its consumers have ended.
pub(super) const FINALIZER: &str = "tidegate.dev/drain";

/// Namespace and name.
pub(super) type Key = (String, String);

/// One resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Resource {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) uid: String,
    /// Seconds since the Unix epoch.
    pub(super) created: i64,
    pub(super) generation: i64,
    pub(super) version: String,
    pub(super) is_deleted: bool,
    pub(super) finalizers: Vec<String>,
    pub(super) spec: Value,
    pub(super) status: GroupStatus,
}

/// The kind, for the API.
pub(super) fn kind() -> ApiResource {
    let kind = GroupVersionKind::gvk(resource::GROUP, resource::VERSION, resource::KIND);
    ApiResource::from_gvk_with_plural(&kind, resource::PLURAL)
}

// === impl Resource ===

impl Resource {
    pub(super) fn of(object: &DynamicObject) -> Self {
        let meta = &object.metadata;
        let status = object.data.get("status").cloned().unwrap_or_default();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
            created: meta.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second()),
            generation: meta.generation.unwrap_or_default(),
            version: meta.resource_version.clone().unwrap_or_default(),
            is_deleted: meta.deletion_timestamp.is_some(),
            finalizers: meta.finalizers.clone().unwrap_or_default(),
            spec: object.data.get("spec").cloned().unwrap_or_default(),
            // One of another version is written anew.
            status: serde_json::from_value(status).unwrap_or_default(),
        }
    }

    pub(super) fn key(&self) -> Key {
        (self.namespace.clone(), self.name.clone())
    }

    /// Something may have been made for it.
    pub(super) fn is_held(&self) -> bool {
        self.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
    }

    /// What its consumers go with. Nothing waits for them to be deleted: the finalizer does.
    pub(super) fn owner(&self) -> OwnerReference {
        OwnerReference {
            api_version: format!("{}/{}", resource::GROUP, resource::VERSION),
            kind: resource::KIND.to_owned(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(false),
        }
    }

    /// What events are about.
    pub(super) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(format!("{}/{}", resource::GROUP, resource::VERSION)),
            kind: Some(resource::KIND.to_owned()),
            name: Some(self.name.clone()),
            namespace: Some(self.namespace.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }
}
