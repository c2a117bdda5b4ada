//! Consumers on Kubernetes: what their containers are started with, and where.

use anyhow::Context as _;
use prometheus_client::registry::Registry;
use tidegate_kube::operator::Assigned;
use tidegate_kube::{Client, KubeOptions, KubeWorkers};
use tidegate_runtime::spec::{Config, WorkerKind};
use tidegate_runtime::telemetry::metrics::KubernetesMetrics;

/// The port of each consumer's health and metrics.
const PORT: u16 = 8080;

/// Shown where the consumers of this group are pods, and nowhere else.
pub(crate) fn metrics(config: &Config, registry: &mut Registry) -> KubernetesMetrics {
    match config.workers.kind {
        WorkerKind::Kubernetes => KubernetesMetrics::register(registry),
        WorkerKind::Process | WorkerKind::Manual => KubernetesMetrics::default(),
    }
}

/// Consumers as Deployments, in the namespace that the specification names, or else in the one of this program's credentials.
pub(crate) async fn workers(
    config: &Config,
    metrics: KubernetesMetrics,
) -> anyhow::Result<KubeWorkers> {
    let client = connect().await?;
    let namespace = config.workers.kubernetes.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let options = KubeOptions { metrics, ..options(config, namespace) };
    Ok(KubeWorkers::start(&client, options))
}

/// Consumers of a resource.
pub(crate) fn workers_of(
    client: &Client,
    config: &Config,
    assigned: &Assigned,
    metrics: KubernetesMetrics,
) -> KubeWorkers {
    let options = KubeOptions {
        owner: Some(assigned.owner.clone()),
        drift: Some(assigned.drift.clone()),
        metrics,
        ..options(config, assigned.namespace.clone())
    };
    KubeWorkers::start(client, options)
}

fn options(config: &Config, namespace: String) -> KubeOptions {
    KubeOptions {
        arguments: arguments(),
        port: PORT,
        ..KubeOptions::new(namespace, config.group.clone(), &config.workers)
    }
}

/// A client of the API server.
pub(crate) async fn connect() -> anyhow::Result<Client> {
    tidegate_kube::connect().await.context("no Kubernetes can be reached")
}

/// What a consumer's container is started with.
fn arguments() -> Vec<String> {
    let http = format!("$(TIDEGATE_POD_IP):{PORT}");
    let arguments = [
        "consumer",
        "--spec",
        "/etc/podinfo/group.yaml",
        "--as-told",
        "--data",
        "/var/lib/tidegate",
        "--http",
        &http,
    ];
    arguments.map(str::to_owned).to_vec()
}
