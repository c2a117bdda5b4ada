//! A dynamic provisioner: two storage classes whose volumes are directories below the root.
//!
//! `process-shared` (the default class) behaves like network storage, any node can use it; `process-local` binds to the
//! node of its first pod, as local disks do.

use std::collections::BTreeMap;
use std::fs;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::{CSIDriver, StorageClass};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::watcher::{self, Event as Change};
use kube::{Api, Client, Resource as _, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::{interval, sleep};
use tracing::{info, warn};

use crate::Host;
use crate::retry::{RETRY, WatchBackoff};

/// What the claims' volumes are driven by, for the controllers of Kubernetes.
pub(crate) const DRIVER: &str = "process-kubelet.test";
const LOCAL: &str = "process-local";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// Runs until a watch ends, which none does.
pub(crate) async fn run(client: Client, host: Arc<Host>) -> Result<()> {
    while let Err(error) = install(&client).await {
        warn!("failed to install the storage classes: {error:#}");
        sleep(Duration::from_secs(1)).await;
    }
    tokio::join!(provision(&client, &host), reclaim(&client, &host));
    Err(anyhow!("a watch ended"))
}

async fn install(client: &Client) -> Result<()> {
    let apply = PatchParams::apply("process-kubelet").force();
    // There is no attacher, and the attach controller would wait for one.
    let driver = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver",
        "metadata": {"name": DRIVER}, "spec": {"attachRequired": false}});
    Api::<CSIDriver>::all(client.clone()).patch(DRIVER, &apply, &Patch::Apply(driver)).await?;
    let classes =
        [("process-shared", "Immediate", "true"), (LOCAL, "WaitForFirstConsumer", "false")];
    for (name, binding, default) in classes {
        let class = json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
            "provisioner": DRIVER, "metadata": {"name": name, "annotations":
                {"storageclass.kubernetes.io/is-default-class": default}},
            "reclaimPolicy": "Delete", "volumeBindingMode": binding});
        let classes: Api<StorageClass> = Api::all(client.clone());
        classes.patch(name, &apply, &Patch::Apply(class)).await?;
    }
    Ok(())
}

/// Creates a volume for each claim that the controller manager hands to this driver. It says so by annotation; for
/// WaitForFirstConsumer the scheduler adds the node it chose.
async fn provision(client: &Client, host: &Host) {
    let claims: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let changes = watcher::watcher(claims, watcher::Config::default());
    let mut changes = pin!(changes.backoff(WatchBackoff::default()));
    let reporter = Reporter { controller: DRIVER.to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut waiting: BTreeMap<String, PersistentVolumeClaim> = BTreeMap::new();
    let mut retry = interval(RETRY);
    loop {
        tokio::select! {
            change = changes.next() => match change {
                None => return,
                Some(Ok(Change::Apply(claim) | Change::InitApply(claim))) => {
                    drop(waiting.insert(claim.uid().unwrap_or_default(), claim));
                }
                Some(Ok(Change::Delete(claim))) => {
                    drop(waiting.remove(&claim.uid().unwrap_or_default()));
                }
                Some(Ok(Change::Init | Change::InitDone)) => {}
                Some(Err(error)) => warn!("claim watch: {error}"),
            },
            _ = retry.tick() => {}
        }
        let mut failed = BTreeMap::new();
        while let Some((uid, claim)) = waiting.pop_first() {
            if let Err(error) = provide(client, host, &claim).await {
                tell(&recorder, &claim, format!("{error:#}")).await;
                failed.insert(uid, claim);
            }
        }
        waiting = failed;
    }
}

/// Creates the claim's volume, if it is to have one from here.
async fn provide(client: &Client, host: &Host, claim: &PersistentVolumeClaim) -> Result<()> {
    let Some(volume) = volume_for(claim, host) else { return Ok(()) };
    let name = format!("{}/{}", claim.namespace().unwrap_or_default(), claim.name_any());
    ensure!(!host.faults.provision(&name), "failed to provision a volume: no space left");
    let volume: PersistentVolume = serde_json::from_value(volume).context("a wrong volume")?;
    fs::create_dir_all(host.root.join("volumes").join(volume.name_any()))?;
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    match volumes.create(&PostParams::default(), &volume).await {
        Ok(_) => info!("provisioned {}", volume.name_any()),
        // The claim has changed before it was bound to what there is already.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn tell(recorder: &Recorder, claim: &PersistentVolumeClaim, note: String) {
    let about: ObjectReference = claim.object_ref(&());
    let event = Event {
        type_: EventType::Warning,
        reason: "ProvisioningFailed".to_owned(),
        note: Some(note),
        action: "Provision".to_owned(),
        secondary: None,
    };
    if let Err(error) = recorder.publish(&event, &about).await {
        warn!("event of the claim {}: {error}", claim.name_any());
    }
}

fn volume_for(claim: &PersistentVolumeClaim, host: &Host) -> Option<Value> {
    let spec = claim.spec.clone()?;
    let annotation = |name: &str| claim.annotations().get(name).map(String::as_str);
    let wanted = annotation("volume.kubernetes.io/storage-provisioner") == Some(DRIVER);
    let node = annotation("volume.kubernetes.io/selected-node");
    let local = spec.storage_class_name.as_deref() == Some(LOCAL);
    if spec.volume_name.is_some() || !wanted || (local && node.is_none()) {
        return None;
    }
    let name = format!("pvc-{}", claim.uid()?);
    let here = json!({"required": {"nodeSelectorTerms": [{"matchExpressions":
        [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}});
    Some(json!({"apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {PROVISIONED_BY: DRIVER}},
        "spec": {"capacity": spec.resources?.requests, "accessModes": spec.access_modes, "volumeMode": "Filesystem",
            "storageClassName": spec.storage_class_name, "persistentVolumeReclaimPolicy": "Delete",
            "csi": {"driver": DRIVER, "volumeHandle": host.root.join("volumes").join(&name)},
            "nodeAffinity": if local { here } else { Value::Null },
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": claim.namespace(),
                "name": claim.name_any(), "uid": claim.uid()}}}))
}

/// Deletes directory and object of volumes whose claim is gone.
async fn reclaim(client: &Client, host: &Host) {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let changes = watcher::watcher(volumes.clone(), watcher::Config::default());
    let mut changes = pin!(changes.backoff(WatchBackoff::default()).applied_objects());
    while let Some(change) = changes.next().await {
        let Ok(volume) = change else { continue };
        if !is_to_be_reclaimed(&volume) {
            continue;
        }
        let name = volume.name_any();
        let removed = fs::remove_dir_all(host.root.join("volumes").join(&name));
        let deleted = volumes.delete(&name, &DeleteParams::default()).await;
        info!("reclaimed {name}: {}", removed.is_ok() && deleted.is_ok());
    }
}

fn is_to_be_reclaimed(volume: &PersistentVolume) -> bool {
    let policy =
        volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let driver = volume.annotations().get(PROVISIONED_BY).map(String::as_str);
    driver == Some(DRIVER)
        && phase == Some("Released")
        && policy == Some("Delete")
        && volume.metadata.deletion_timestamp.is_none()
}
