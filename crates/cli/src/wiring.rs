//! The three loops with their ports to a cluster, and the HTTP server of a process.
//!
//! The demo and the commands start the same loops through here; they differ in where the configuration comes from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use prometheus_client::registry::Registry;
use serde::Serialize;
use tidegate_kafka::{ControlOptions, Kafka, ReaderOptions};
use tidegate_runtime::consumer::Sinks;
use tidegate_runtime::errors::Code;
use tidegate_runtime::evacuation::Held;
use tidegate_runtime::follow::Followed;
use tidegate_runtime::manual::ManualWorkers;
use tidegate_runtime::ports::{Admin, BootClock, Clock, ControlLog, Overrides, Workers};
use tidegate_runtime::process::{ChildCommand, ProcessOptions, ProcessWorkers, new_process_id};
use tidegate_runtime::spec::{Config, DeadLetterTarget, GroupSpec, Mode, SinkTarget, WorkerKind};
use tidegate_runtime::state_file::StateDirectory;
use tidegate_runtime::task::{Task, TaskSet, spawn_named};
use tidegate_runtime::telemetry::http::{GroupPage, Health, Pages, Server};
use tidegate_runtime::telemetry::metrics::{ControllerMetrics, KubernetesMetrics};
use tidegate_runtime::topics::{self, Repair};
use tidegate_runtime::{consumer, controller, feeds, monitor};
use tokio::sync::watch;

use crate::failure::{Coded, InvalidSpec};
use crate::kubernetes;
use crate::setup;

/// The machine's clocks.
pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(BootClock)
}

/// A control topic of the group.
pub(crate) fn control_log(
    kafka: &Kafka,
    config: &Config,
    topic: &str,
) -> anyhow::Result<Arc<dyn ControlLog>> {
    let options = ControlOptions { append_timeout: config.ownership.write_timeout };
    Ok(kafka.control_log(topic, options)?)
}

/// The ledger and the command partitions: one topic, unless the specification separates them.
fn ledger_and_commands(
    kafka: &Kafka,
    config: &Config,
) -> anyhow::Result<(Arc<dyn ControlLog>, Arc<dyn ControlLog>)> {
    let commands = control_log(kafka, config, &config.control_topics.controller)?;
    let ledger = match &config.control_topics.ledger {
        Some(topic) => control_log(kafka, config, topic)?,
        None => Arc::clone(&commands),
    };
    Ok((ledger, commands))
}

/// Fails when a control topic is missing, or when the ledger could lose records and this process is to rely on it.
pub(crate) async fn check_topics(admin: &dyn Admin, config: &Config) -> anyhow::Result<()> {
    let found = topics::ensure(admin, config, Repair::Look).await?;
    if let Some(topic) = found.missing.first() {
        let text = format!("topic {topic} is missing: run `tidegate topics create` first");
        return Err(Coded::new(Code::TopicMissing, text).into());
    }
    let weak = found.drift.iter().find(|drift| drift.weakens_ledger);
    if let Some(drift) = weak {
        let text = format!(
            "the ledger's topic {} could lose records: {} is {} and should be {}; run `tidegate topics create --fix`",
            drift.topic,
            drift.setting,
            drift.actual.as_deref().unwrap_or("unknown"),
            drift.wanted
        );
        if config.mode == Mode::Own && !config.control_topics.allow_weak_ledger {
            return Err(Coded::new(Code::WeakLedger, text).into());
        }
        tracing::warn!("{text}");
    }
    Ok(())
}

// === monitor ===

/// The specification of a monitor, with what the service topic sets.
pub(crate) async fn followed(
    kafka: &Kafka,
    config: &Config,
    specs: watch::Receiver<GroupSpec>,
) -> anyhow::Result<Followed> {
    let overrides = overrides(kafka, config)?;
    let begun = Followed::begin(specs, overrides, setup::sink_faults).await;
    begun.map_err(|faults| InvalidSpec::new("the specification".to_owned(), &faults).into())
}

/// The same in a task of its own, for those who need to know what is in effect and no more.
pub(crate) async fn configs(
    kafka: &Kafka,
    config: &Arc<Config>,
    specs: watch::Receiver<GroupSpec>,
) -> anyhow::Result<(watch::Receiver<Arc<Config>>, Task<()>)> {
    let followed = followed(kafka, config, specs).await?;
    let (sender, configs) = watch::channel(Arc::clone(followed.live().config()));
    Ok((configs, spawn_named("specification", followed.tell(sender))))
}

fn overrides(kafka: &Kafka, config: &Config) -> anyhow::Result<Box<dyn Overrides>> {
    let log = control_log(kafka, config, &config.control_topics.service)?;
    Ok(Box::new(feeds::overrides(log, config.group.clone())))
}

/// The ports of a monitor.
pub(crate) fn monitor_ports(kafka: &Kafka, config: &Config) -> anyhow::Result<monitor::Ports> {
    Ok(monitor::Ports {
        clock: clock(),
        sizes: kafka.log_sizes(config.monitor.metadata_refresh),
        log: control_log(kafka, config, &config.control_topics.monitor)?,
        admin: kafka.admin(),
    })
}

// === controller ===

/// The ports of a controller with these workers.
pub(crate) fn controller_ports(
    kafka: &Kafka,
    config: &Config,
    workers: Box<dyn Workers>,
    metrics: ControllerMetrics,
) -> anyhow::Result<controller::Ports> {
    let (ledger, commands) = ledger_and_commands(kafka, config)?;
    let topics = &config.control_topics;
    Ok(controller::Ports {
        clock: clock(),
        ledger,
        commands,
        rates: Box::new(feeds::rates(control_log(kafka, config, &topics.monitor)?)),
        overrides: overrides(kafka, config)?,
        admin: kafka.admin(),
        offsets: kafka.offsets(),
        workers,
        metrics,
    })
}

/// Whether consumers may outlive the process that started them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parent {
    /// They may: the data plane needs no controller.
    Any,
    /// They are of no use without this process.
    This,
}

/// What runs the consumers, as the specification says.
pub(crate) async fn workers(
    config: &Config,
    metrics: KubernetesMetrics,
) -> anyhow::Result<Box<dyn Workers>> {
    Ok(match config.workers.kind {
        WorkerKind::Process => Box::new(process_workers(config, Parent::Any).await?),
        WorkerKind::Kubernetes => Box::new(kubernetes::workers(config, metrics).await?),
        WorkerKind::Manual => Box::new(ManualWorkers),
    })
}

/// Consumers as child processes: this program again.
pub(crate) async fn process_workers(
    config: &Config,
    parent: Parent,
) -> anyhow::Result<ProcessWorkers> {
    let mut arguments: Vec<String> = [
        "consumer",
        "--spec",
        "{spec}",
        "--as-told",
        "--id",
        "{consumer}",
        "--process-id",
        "{process}",
        "--data",
        "{directory}",
        // Each on a port of its own: the specification has one address for all.
        "--http",
        "127.0.0.1:0",
    ]
    .map(str::to_owned)
    .to_vec();
    if parent == Parent::This {
        arguments.extend(["--parent".to_owned(), std::process::id().to_string()]);
    }
    let program = std::env::current_exe().context("failed to find this program's file")?;
    let options = ProcessOptions {
        command: ChildCommand { program, arguments, environment: Vec::new() },
        directory: PathBuf::from(&config.workers.data_directory),
        stop_grace: config.workers.stop_grace,
        backoff: config.workers.restart_backoff,
    };
    ProcessWorkers::start(options, clock()).await.map_err(|error| {
        let in_use = Coded::new(Code::StateDirectoryInUse, "the workers' directory cannot be used");
        anyhow::Error::new(error).context(in_use)
    })
}

/// Who a controller is, in this run.
pub(crate) fn controller_start(
    config: &Config,
    end_workers: bool,
) -> anyhow::Result<controller::Start> {
    let process = new_process_id().context("failed to get random numbers")?;
    let jitter = Duration::from_millis(u64::try_from(process.0 % 1000).unwrap_or_default());
    // Child processes are this program again. Elsewhere the specification says what runs, and a controller of another version is
    // no reason to touch it.
    let program = match config.workers.kind {
        WorkerKind::Process => crate::args::VERSION.to_owned(),
        WorkerKind::Kubernetes | WorkerKind::Manual => String::new(),
    };
    let check = setup::sink_faults;
    let deposes = watch::channel(false).1;
    Ok(controller::Start { process, jitter, deposes, program, refused: None, check, end_workers })
}

// === consumer ===

/// The ports of a consumer with this state directory, and who it is.
pub(crate) fn consumer_ports(
    kafka: &Kafka,
    config: &Arc<Config>,
    state: StateDirectory,
    shown: consumer::Shown,
) -> anyhow::Result<consumer::Ports> {
    let (ledger, commands) = ledger_and_commands(kafka, config)?;
    let clock = clock();
    let sink_clock = Arc::clone(&clock);
    let open = Box::new(move |target: &SinkTarget| {
        Box::pin(setup::open_sink(target.clone(), Arc::clone(&sink_clock))) as BoxFuture<'_, _>
    });
    let (dead_kafka, dead_clock) = (kafka.clone(), Arc::clone(&clock));
    let open_dead_letters = move |target: &DeadLetterTarget| {
        let (kafka, clock) = (dead_kafka.clone(), Arc::clone(&dead_clock));
        Box::pin(setup::open_dead_letters(target.clone(), kafka, clock)) as BoxFuture<'_, _>
    };
    Ok(consumer::Ports {
        clock,
        ledger,
        commands,
        reader: kafka.partition_reader(reader_options(config)),
        sinks: Sinks::new(Arc::clone(config), kafka.admin(), open)
            .with_dead_letters(Box::new(open_dead_letters)),
        offsets: kafka.offsets(),
        state: Box::new(state),
        shown,
    })
}

/// What a consumer's reader may hold.
pub(crate) fn reader_options(config: &Config) -> ReaderOptions {
    let queue_kib = u32::try_from(config.consumer.queue_bytes >> 10).unwrap_or(u32::MAX);
    ReaderOptions { queue_kib: queue_kib.clamp(1 << 10, 1 << 20), ..ReaderOptions::default() }
}

// === HTTP ===

/// The pages of groups, by namespace and name.
pub(crate) type GroupPages = watch::Sender<BTreeMap<(String, String), GroupPage>>;

/// The pages of a process that is being served, to be kept up to date.
#[derive(Debug)]
pub(crate) struct Face {
    health: watch::Sender<Health>,
    status: watch::Sender<Bytes>,
    held: watch::Sender<Held>,
    groups: GroupPages,
    pub(crate) address: SocketAddr,
}

impl Face {
    /// Serves the pages of a process in the set of tasks.
    pub(crate) async fn serve(
        tasks: &mut TaskSet,
        listen: SocketAddr,
        metrics: Registry,
    ) -> anyhow::Result<Self> {
        let server = Server::bind(listen).await?;
        let address = server.address();
        let (health, health_seen) = watch::channel(Health::default());
        let (status, status_seen) = watch::channel(Bytes::new());
        let (held, held_seen) = watch::channel(Held::default());
        let (groups, groups_seen) = watch::channel(BTreeMap::new());
        let pages = Pages {
            metrics: Arc::new(metrics),
            health: health_seen,
            status: status_seen,
            held: held_seen,
            groups: groups_seen,
        };
        let stop = tasks.stop_token();
        tasks.spawn("http", async move { Ok(server.run(pages, stop).await?) });
        tracing::info!(%address, "serving /livez, /readyz, /metrics and /status");
        Ok(Self { health, status, held, groups, address })
    }

    /// Where a consumer says what it has.
    pub(crate) fn held(&self) -> watch::Sender<Held> {
        self.held.clone()
    }

    /// Where the pages of the groups stand that this process runs.
    pub(crate) fn groups(&self) -> GroupPages {
        self.groups.clone()
    }

    /// Shows each status on the page, for ever; the process is ready while its status says what it should.
    pub(crate) async fn follow<S: Serialize>(
        &self,
        mut statuses: watch::Receiver<S>,
        waiting: impl Fn(&S) -> Option<&'static str>,
    ) {
        while statuses.changed().await.is_ok() {
            let status = statuses.borrow_and_update();
            let waiting = waiting(&status).map(str::to_owned);
            self.health.send_replace(Health { dead: None, waiting });
            show(&self.status, &*status);
        }
        std::future::pending::<()>().await;
    }
}

/// Puts a status on its page.
pub(crate) fn show(page: &watch::Sender<Bytes>, status: &impl Serialize) {
    match serde_json::to_vec(status) {
        Ok(text) => drop(page.send_replace(text.into())),
        Err(error) => tracing::error!(%error, "a status cannot be written"),
    }
}
