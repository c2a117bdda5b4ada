//! `tidegate controller --kubernetes` and `tidegate monitor --kubernetes`: the groups that are resources, each run as one of a file.
//!
//! Which of them run, and in which process, is decided in `tidegate_kube::operator`; here is how one is run.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use prometheus_client::registry::Registry;
use tidegate_kafka::Kafka;
use tidegate_kube::Client;
use tidegate_kube::operator::{self, Assigned, Options, Overview, Part, RunGroup};
use tidegate_runtime::process::new_process_id;
use tidegate_runtime::spec::Config;
use tidegate_runtime::task::TaskSet;
use tidegate_runtime::telemetry::http::GroupPage;
use tidegate_runtime::telemetry::metrics::{ControllerMetrics, MonitorMetrics, OperatorMetrics};
use tidegate_runtime::topics::{self, Repair};
use tidegate_runtime::{controller, monitor};
use tidegate_wire::MonitorStatus;
use tokio::sync::watch;

use super::processes;
use crate::args::KubernetesArgs;
use crate::failure::Exit;
use crate::kubernetes;
use crate::setup::{self, Patience};
use crate::signals::Signals;
use crate::wiring::{self, Face, GroupPages};

pub(super) async fn controller(args: KubernetesArgs, signals: Signals) -> anyhow::Result<Exit> {
    let client = kubernetes::connect().await?;
    let for_groups = client.clone();
    run(args, signals, client, Part::Controller, move |pages| {
        Arc::new(move |assigned| {
            let (client, pages) = (for_groups.clone(), pages.clone());
            Box::pin(async move { Ok(Box::pin(run_controller(&client, &pages, assigned)).await?) })
        })
    })
    .await
}

pub(super) async fn monitor(args: KubernetesArgs, signals: Signals) -> anyhow::Result<Exit> {
    let client = kubernetes::connect().await?;
    run(args, signals, client, Part::Monitor, |pages| {
        Arc::new(move |assigned| {
            let pages = pages.clone();
            Box::pin(async move { Ok(run_monitor(&pages, assigned).await?) })
        })
    })
    .await
}

async fn run(
    args: KubernetesArgs,
    signals: Signals,
    client: Client,
    part: Part,
    groups: impl FnOnce(GroupPages) -> RunGroup,
) -> anyhow::Result<Exit> {
    let stop = signals.into_stop();
    let KubernetesArgs { mut namespaces, lease_namespace, secrets, http } = args;
    let own = client.default_namespace().to_owned();
    if namespaces.is_empty() {
        namespaces.push(own.clone());
    }
    namespaces.sort();
    namespaces.dedup();
    let lease_namespace = lease_namespace.unwrap_or(own);
    let check = setup::sink_faults;
    let identity = identity()?;
    let (mut tasks, mut registry) = (TaskSet::new(), Registry::default());
    let metrics = OperatorMetrics::register(&mut registry);
    let options = Options { part, namespaces, lease_namespace, identity, secrets, check, metrics };
    let face = Face::serve(&mut tasks, http, registry).await?;
    let (shown, overviews) = watch::channel(Overview::default());
    let running =
        operator::run(client, options, groups(face.groups()), shown, stop.orderly.clone());
    tokio::select! {
        ran = running => ran?,
        () = stop.at_once.cancelled() => bail!("the stop was cut short"),
        () = face.follow(overviews, waiting) => {}
    }
    processes::end(tasks).await
}

fn waiting(overview: &Overview) -> Option<&'static str> {
    if overview.role == "unknown" {
        return Some("nothing is known of the lease yet: see the log for a missing right");
    }
    (!overview.synced)
        .then_some("the resources have not been listed yet: see the log for a missing right")
}

/// This process: the name of its pod, and what tells it from an earlier container of that pod.
fn identity() -> anyhow::Result<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let random = new_process_id().context("failed to get random numbers")?;
    Ok(format!("{}_{random}", host.trim()))
}

// === one group ===

async fn run_controller(
    client: &Client,
    pages: &GroupPages,
    assigned: Assigned,
) -> anyhow::Result<()> {
    let config = config(&assigned)?;
    let kafka = tokio::select! {
        joined = join(&config, "tidegate-controller", Repair::Create) => joined?,
        () = assigned.stop.cancelled() => return Ok(()),
    };
    let page = Page::new(pages, &assigned);
    let mut registry = page.registry();
    let metrics = ControllerMetrics::register(&mut registry);
    let of_pods = kubernetes::metrics(&config, &mut registry);
    let workers = kubernetes::workers_of(client, &config, &assigned, of_pods);
    let ports = wiring::controller_ports(&kafka, &config, Box::new(workers), metrics)?;
    let told = assigned.status.subscribe();
    let Assigned { specs, status, deposes, refused, stop, .. } = assigned;
    let start = controller::Start { deposes, refused, ..wiring::controller_start(&config, false)? };
    tokio::select! {
        ran = controller::run(specs, start, ports, status, stop) => ran.map_err(processes::with_code),
        () = page.show(registry, told) => Ok(()),
    }
}

async fn run_monitor(pages: &GroupPages, assigned: Assigned) -> anyhow::Result<()> {
    let config = config(&assigned)?;
    let page = Page::new(pages, &assigned);
    let stop = assigned.stop.clone();
    let begun = async {
        let kafka = join(&config, "tidegate-monitor", Repair::Look).await?;
        let configs = wiring::configs(&kafka, &config, assigned.specs.clone()).await?;
        Ok::<_, anyhow::Error>((kafka, configs))
    };
    let (kafka, (configs, _followed)) = tokio::select! {
        begun = begun => begun?,
        () = stop.cancelled() => return Ok(()),
    };
    let mut registry = page.registry();
    let metrics = MonitorMetrics::register(&mut registry);
    let (status, told) = watch::channel(MonitorStatus::default());
    let ports = wiring::monitor_ports(&kafka, &config)?;
    tokio::select! {
        () = monitor::run(configs, ports, monitor::Shown { metrics, status }, stop) => Ok(()),
        () = page.show(registry, told) => Ok(()),
    }
}

/// What a group is begun with.
fn config(assigned: &Assigned) -> anyhow::Result<Arc<Config>> {
    let Assigned { namespace, name, specs, .. } = assigned;
    setup::checked(&specs.borrow(), format!("{namespace}/{name}"))
}

/// A cluster that answers, with control topics as they must be. What fails is told in the resource, and tried again by who runs this.
async fn join(config: &Arc<Config>, client: &str, repair: Repair) -> anyhow::Result<Kafka> {
    let kafka = setup::connect(&config.cluster, client, Patience::Command).await?;
    let admin = kafka.admin();
    if repair != Repair::Look {
        let made = topics::ensure(&*admin, config, repair).await?;
        for topic in made.created {
            tracing::info!(group = config.group.0, topic, "a control topic was created");
        }
    }
    wiring::check_topics(&*admin, config).await?;
    Ok(kafka)
}

/// The pages of one group, while it runs.
struct Page<'a> {
    pages: &'a GroupPages,
    key: (String, String),
}

impl<'a> Page<'a> {
    fn new(pages: &'a GroupPages, assigned: &Assigned) -> Self {
        Self { pages, key: (assigned.namespace.clone(), assigned.name.clone()) }
    }

    /// For metrics with the labels of the group.
    fn registry(&self) -> Registry {
        let (namespace, name) = self.key.clone();
        let labels = [("namespace".into(), namespace.into()), ("group".into(), name.into())];
        Registry::with_labels(labels.into_iter())
    }

    /// Shows metrics and each status, for ever.
    async fn show<S: serde::Serialize>(&self, registry: Registry, mut told: watch::Receiver<S>) {
        let (status, shown) = watch::channel(Bytes::new());
        let page = GroupPage { metrics: Arc::new(registry), status: shown };
        self.pages.send_modify(|pages| drop(pages.insert(self.key.clone(), page)));
        while told.changed().await.is_ok() {
            wiring::show(&status, &*told.borrow_and_update());
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for Page<'_> {
    fn drop(&mut self) {
        self.pages.send_modify(|pages| drop(pages.remove(&self.key)));
    }
}
