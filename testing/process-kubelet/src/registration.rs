//! What a node says of itself: its object, its status, and a lease that it renews.

use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as ApiNode;
use k8s_openapi::api::storage::v1::CSINode;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::faults::NodeFault;
use crate::node::Node;
use crate::retry::RETRY;
use crate::storage;

/// An API server that hangs must not make the node seem dead once it answers again.
const LIMIT: Duration = Duration::from_secs(5);

/// Keeps the node registered and its lease fresh, for ever.
pub(crate) async fn keep(node: &Node) {
    loop {
        node.until(|fault| fault == NodeFault::None).await;
        if let Err(error) = register(node).await {
            warn!(node = node.name, "failed to register: {error:#}");
            sleep(RETRY).await;
            continue;
        }
        tokio::select! {
            () = renew_lease(node) => {}
            () = node.until(|fault| fault != NodeFault::None) => {}
        }
    }
}

fn apply() -> PatchParams {
    PatchParams::apply("process-kubelet").force()
}

/// The node, its status and its CSINode.
async fn register(node: &Node) -> Result<()> {
    let name = node.name.as_str();
    let nodes: Api<ApiNode> = Api::all(node.client.clone());
    let labels = json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux",
        "kubernetes.io/arch": architecture(),
        "topology.kubernetes.io/zone": format!("zone-{}", node.index % 3)});
    let object = json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": labels}});
    let registered = nodes.patch(name, &apply(), &Patch::Apply(object)).await?;
    let csi = json!({"apiVersion": "storage.k8s.io/v1", "kind": "CSINode",
        "metadata": {"name": name, "ownerReferences": [{"apiVersion": "v1", "kind": "Node",
            "name": name, "uid": registered.uid()}]},
        "spec": {"drivers": [{"name": storage::DRIVER, "nodeID": name}]}});
    let csi_nodes: Api<CSINode> = Api::all(node.client.clone());
    csi_nodes.patch(name, &apply(), &Patch::Apply(csi)).await?;
    let version = node.client.apiserver_version().await?.git_version;
    let status = Patch::Strategic(status(node, &version));
    nodes.patch_status(name, &PatchParams::default(), &status).await?;
    Ok(())
}

fn status(node: &Node, version: &str) -> Value {
    let (name, now) = (node.name.as_str(), Timestamp::now());
    let condition = |kind: &str, status: &str| {
        json!({"type": kind, "status": status, "reason": "ProcessKubelet", "message": "",
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let capacity =
        json!({"cpu": "64", "memory": "256Gi", "pods": "1000", "ephemeral-storage": "1Ti"});
    json!({"status": {
        "capacity": capacity, "allocatable": capacity,
        "addresses": [{"type": "InternalIP", "address": node.address()},
            {"type": "Hostname", "address": name}],
        "nodeInfo": {"kubeletVersion": version, "containerRuntimeVersion": "process://1",
            "operatingSystem": "linux", "architecture": architecture(), "osImage": "host",
            "kernelVersion": "host", "machineID": name, "systemUUID": name,
            "bootID": now.to_string(), "kubeProxyVersion": ""},
        "conditions": [condition("Ready", "True"), condition("MemoryPressure", "False"),
            condition("DiskPressure", "False"), condition("PIDPressure", "False")]}})
}

/// As Kubernetes, that is Go, calls it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Keeps the lease fresh until somebody calls the node unready: the controller manager does so when it missed some
/// renewals (also because of its own blindness), and only the kubelet takes that back.
async fn renew_lease(node: &Node) {
    loop {
        let pause = match timeout(LIMIT, renew_once(node)).await {
            Ok(Ok(object)) if !is_ready(&object) => return,
            Ok(Ok(_)) => node.host.lease_interval,
            Ok(Err(error)) => {
                warn!(node = node.name, "failed to renew the lease: {error:#}");
                RETRY
            }
            Err(_) => {
                warn!(node = node.name, "failed to renew the lease within {LIMIT:?}");
                RETRY
            }
        };
        sleep(pause).await;
    }
}

async fn renew_once(node: &Node) -> Result<ApiNode> {
    let leases: Api<Lease> = Api::namespaced(node.client.clone(), "kube-node-lease");
    let nodes: Api<ApiNode> = Api::all(node.client.clone());
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": node.name}, "spec": {"holderIdentity": node.name,
            "leaseDurationSeconds": 40, "renewTime": now}});
    leases.patch(&node.name, &apply(), &Patch::Apply(lease)).await.context("lease")?;
    nodes.get(&node.name).await.context("node")
}

fn is_ready(node: &ApiNode) -> bool {
    let mut conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
