//! `tidegate monitor`, `controller` and `consumer`: the processes of a group.
//!
//! A cluster that does not answer yet is waited for. The first signal begins a controlled stop, the second one cuts it
//! short. Consumers that a controller has started go on without it, unless `--end-workers` says otherwise: the data
//! plane needs no controller, and the next one finds its workers by what they left in their directories.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use prometheus_client::registry::Registry;
use tidegate_kafka::Kafka;
use tidegate_runtime::errors::Code;
use tidegate_runtime::process::new_process_id;
use tidegate_runtime::spec::Config;
use tidegate_runtime::state_file::StateDirectory;
use tidegate_runtime::task::TaskSet;
use tidegate_runtime::telemetry::metrics::{ConsumerMetrics, ControllerMetrics, MonitorMetrics};
use tidegate_runtime::{consumer, controller, monitor};
use tidegate_wire::status::LeaseState;
use tidegate_wire::{ConsumerStatus, MonitorStatus, Status};
use tokio::sync::watch;

use super::operator;
use crate::args::{ConsumerArgs, ControllerArgs, ServiceArgs, Source};
use crate::failure::{Coded, Exit};
use crate::kubernetes;
use crate::setup::{self, Patience};
use crate::signals::Signals;
use crate::wiring::{self, Face};

/// Where a controller notes its address for `tidegate status`, in the workers' data directory.
pub(super) const ADDRESS_FILE: &str = "controller.address";

/// How long the tasks beside a loop may take to end after it: answers of the HTTP server that are under way.
const TASKS_END: Duration = Duration::from_secs(2);

/// Time between two looks whether the parent still lives.
const PARENT_LOOK: Duration = Duration::from_secs(1);

// === monitor ===

pub(super) async fn monitor(args: ServiceArgs, signals: Signals) -> anyhow::Result<Exit> {
    let stop = signals.into_stop();
    let (spec, config) = setup::load_group(&args.spec)?;
    let (mut tasks, mut registry) = (TaskSet::new(), Registry::default());
    let metrics = MonitorMetrics::register(&mut registry);
    let (status, statuses) = watch::channel(MonitorStatus::default());
    let listen = args.http.unwrap_or(config.http.listen);
    let face = Face::serve(&mut tasks, listen, registry).await?;
    let kafka = tokio::select! {
        joined = join(&config, "tidegate-monitor") => joined?,
        () = stop.orderly.cancelled() => return Ok(Exit::Done),
    };
    let specs = watch::channel(spec).1;
    let (configs, _followed) = tokio::select! {
        configs = wiring::configs(&kafka, &config, specs) => configs?,
        () = stop.orderly.cancelled() => return Ok(Exit::Done),
    };
    let ports = wiring::monitor_ports(&kafka, &config)?;
    let shown = monitor::Shown { metrics, status };
    let waiting = |status: &MonitorStatus| {
        status.sampled_unix_ms.is_none().then_some("no round of samples is complete yet")
    };
    tokio::select! {
        () = monitor::run(configs, ports, shown, stop.orderly.clone()) => {}
        () = stop.at_once.cancelled() => bail!("the stop was cut short"),
        () = face.follow(statuses, waiting) => {}
    }
    end(tasks).await
}

// === controller ===

pub(super) async fn controller(args: ControllerArgs, signals: Signals) -> anyhow::Result<Exit> {
    let ControllerArgs { groups, end_workers } = args;
    let service = match groups.source() {
        Source::File(service) => service,
        Source::Kubernetes(kubernetes) => return operator::controller(kubernetes, signals).await,
    };
    let stop = signals.into_stop();
    let (spec, config) = setup::load_group(&service.spec)?;
    let (mut tasks, mut registry) = (TaskSet::new(), Registry::default());
    let metrics = ControllerMetrics::register(&mut registry);
    let of_pods = kubernetes::metrics(&config, &mut registry);
    let listen = service.http.unwrap_or(config.http.listen);
    let face = Face::serve(&mut tasks, listen, registry).await?;
    let kafka = tokio::select! {
        joined = join(&config, "tidegate-controller") => joined?,
        () = stop.orderly.cancelled() => return Ok(Exit::Done),
    };
    let workers = wiring::workers(&config, of_pods).await?;
    note_address(&config, &face);
    let ports = wiring::controller_ports(&kafka, &config, workers, metrics)?;
    let start = wiring::controller_start(&config, end_workers)?;
    let specs = watch::channel(spec).1;
    let (status, statuses) = watch::channel(Status::default());
    let waiting =
        |status: &Status| status.generation.is_none().then_some("the ledger has not begun yet");
    let running = controller::run(specs, start, ports, status, stop.orderly.clone());
    tokio::select! {
        ran = running => ran.map_err(with_code)?,
        () = stop.at_once.cancelled() => bail!("the stop was cut short"),
        () = face.follow(statuses, waiting) => {}
    }
    end(tasks).await
}

/// Where `tidegate status` on this machine finds the controller; without it that command needs an address.
fn note_address(config: &Config, face: &Face) {
    let file = Path::new(&config.workers.data_directory).join(ADDRESS_FILE);
    if let Err(error) = std::fs::create_dir_all(&config.workers.data_directory)
        .and_then(|()| std::fs::write(&file, format!("http://{}\n", face.address)))
    {
        tracing::warn!(%error, file = %file.display(), "the address was not noted");
    }
}

pub(super) fn with_code(error: controller::Error) -> anyhow::Error {
    let text = error.to_string();
    match &error {
        controller::Error::ForeignLedger { .. } => Coded::new(Code::ForeignLedger, text).into(),
        _ => error.into(),
    }
}

// === consumer ===

pub(super) async fn consumer(args: ConsumerArgs, signals: Signals) -> anyhow::Result<Exit> {
    let (mut stops, _signals) = signals.into_messages();
    let ConsumerArgs { service, id, process_id, pod_uid, data, as_told, parent } = args;
    let config = if as_told {
        setup::load_told(&service.spec.spec)?
    } else {
        setup::load_config(&service.spec)?
    };
    let directory = data.unwrap_or_else(|| {
        Path::new(&config.workers.data_directory).join(format!("consumer-{id}"))
    });
    let state = StateDirectory::open(directory)?;
    let (mut tasks, mut registry) = (TaskSet::new(), Registry::default());
    let metrics = ConsumerMetrics::register(&mut registry);
    let (status, statuses) = watch::channel(ConsumerStatus::default());
    let listen = service.http.unwrap_or(config.http.listen);
    let face = Face::serve(&mut tasks, listen, registry).await?;
    let client = format!("tidegate-consumer-{id}");
    let kafka = tokio::select! {
        joined = join(&config, &client) => joined?,
        _ = stops.recv() => return Ok(Exit::Done),
    };
    let process = match (process_id, pod_uid) {
        (Some(process), _) => process,
        (None, pod) => {
            let random = new_process_id().context("failed to get random numbers")?;
            pod.map_or(random, |pod| random.in_family(pod))
        }
    };
    let start = consumer::Start { consumer: id, process, boot: state.boot() };
    let shown = consumer::Shown { metrics, status, held: face.held() };
    let ports = wiring::consumer_ports(&kafka, &config, state, shown)?;
    let waiting = |status: &ConsumerStatus| {
        (status.lease != LeaseState::Live).then_some("it has no lease from the ledger")
    };
    let clean = tokio::select! {
        ran = consumer::run(config, start, ports, stops) => ran?,
        () = face.follow(statuses, waiting) => return Ok(Exit::Failed),
        () = orphaned(parent) => bail!("the process that consumer {id} belongs to has ended"),
    };
    if !clean {
        bail!("consumer {id} ended without having given everything back");
    }
    end(tasks).await
}

/// Waits until the process has another parent than the one it belongs to; for ever when it belongs to none.
pub(super) async fn orphaned(parent: Option<u32>) {
    let Some(parent) = parent else { return std::future::pending().await };
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(PARENT_LOOK).await;
    }
}

// === all ===

/// Waits for the cluster and looks whether the control topics are as they must be.
async fn join(config: &Arc<Config>, client: &str) -> anyhow::Result<Kafka> {
    let kafka = setup::connect(&config.cluster, client, Patience::Service).await?;
    let admin = kafka.admin();
    setup::patiently(Patience::Service, || wiring::check_topics(&*admin, config)).await?;
    Ok(kafka)
}

pub(super) async fn end(tasks: TaskSet) -> anyhow::Result<Exit> {
    for error in tasks.shut_down(TASKS_END).await {
        tracing::warn!(error = &error as &dyn std::error::Error, "a task did not end well");
    }
    Ok(Exit::Done)
}
