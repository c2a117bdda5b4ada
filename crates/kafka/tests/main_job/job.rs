//! The main job in one process: load, monitor, controller and consumers on one cluster, then an audit of the sink. Each
//! of them has a connection to the cluster of its own, so that each can be another user.

use std::collections::BTreeMap;
use std::future::ready;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus_client::registry::Registry;
use tidegate_core::ids::{ConsumerNumber, ProcessId};
use tidegate_kafka::{ControlOptions, Kafka, ProducerOptions, ReaderOptions};
use tidegate_load::audit::{AuditReport, audit};
use tidegate_load::generator::{Generator, GeneratorConfig, Outcome};
use tidegate_load::ledger::Acknowledged;
use tidegate_load::profile::{Profile, Shape};
use tidegate_runtime::ports::{
    BootClock, Clock, Doing, Error, Phase, TopicSpec, WorkerChange, WorkerSpec, WorkerState,
    Workers,
};
use tidegate_runtime::security::Cluster;
use tidegate_runtime::spec::{
    Config, GroupSpec, Mode, Permille, Start as StartAt, TopicOfInterest,
};
use tidegate_runtime::state_file::StateDirectory;
use tidegate_runtime::task::{Task, spawn_named};
use tidegate_runtime::telemetry::metrics::{ConsumerMetrics, ControllerMetrics};
use tidegate_runtime::{consumer, controller, feeds, monitor, topics};
use tidegate_testing::{TempDir, unique_name};
use tidegate_wire::Status;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// Ten times what it takes on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn bytes(per_second: u64) -> NonZeroU64 {
    NonZeroU64::new(per_second).unwrap()
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(BootClock)
}

/// Consumers as tasks of this process: everything of a worker but the process.
#[derive(Debug)]
struct TaskWorkers {
    config: Arc<Config>,
    kafka: Kafka,
    directory: PathBuf,
    running: BTreeMap<ConsumerNumber, (mpsc::Sender<()>, Task<bool>)>,
    started: u128,
}

impl TaskWorkers {
    fn start(&mut self, consumer: ConsumerNumber) {
        self.started += 1;
        let (stop, stops) = mpsc::channel(2);
        let start = consumer::Start { consumer, process: ProcessId(self.started), boot: None };
        let config = Arc::clone(&self.config);
        let control =
            |topic: &str| self.kafka.control_log(topic, ControlOptions::default()).unwrap();
        let ledger = control(&config.control_topics.controller);
        let open = |target: &tidegate_runtime::spec::SinkTarget| {
            let url = target.url();
            let opened = async move {
                tidegate_sinks::open(&url, clock()).await.map_err(|error| {
                    Error::new(error.class(), "failed to open the sink").because(error)
                })
            };
            Box::pin(opened) as Pin<Box<dyn Future<Output = _> + Send>>
        };
        let ports = consumer::Ports {
            clock: clock(),
            ledger: Arc::clone(&ledger),
            commands: ledger,
            reader: self.kafka.partition_reader(ReaderOptions::default()),
            sinks: consumer::Sinks::new(Arc::clone(&config), self.kafka.admin(), Box::new(open)),
            offsets: self.kafka.offsets(),
            state: Box::new(
                StateDirectory::open(self.directory.join(consumer.to_string())).unwrap(),
            ),
            shown: consumer::Shown {
                metrics: ConsumerMetrics::register(&mut Registry::default()),
                status: watch::Sender::default(),
                held: watch::Sender::default(),
            },
        };
        let run = consumer::run(config, start, ports, stops);
        let task = spawn_named(format!("consumer-{consumer}"), async move { run.await.unwrap() });
        self.running.insert(consumer, (stop, task));
    }
}

#[async_trait]
impl Workers for TaskWorkers {
    fn ensure(&mut self, consumer: ConsumerNumber, _spec: &WorkerSpec) -> Doing {
        if !self.running.contains_key(&consumer) {
            self.start(consumer);
        }
        Box::pin(ready(Ok(())))
    }

    fn remove(&mut self, consumer: ConsumerNumber) -> Doing {
        let removed = self.running.remove(&consumer);
        Box::pin(async move {
            if let Some((stop, task)) = removed {
                stop.send(()).await.unwrap();
                assert!(task.await.unwrap(), "a consumer that owns nothing stops clean");
            }
            Ok(())
        })
    }

    async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error> {
        let running =
            WorkerState { starts: 1, ..WorkerState::new(Phase::Running, WorkerSpec::default()) };
        Ok(self.running.keys().map(|consumer| (*consumer, running.clone())).collect())
    }

    async fn changed(&mut self) -> WorkerChange {
        std::future::pending().await
    }

    async fn shut_down(&mut self) {
        for (_, (stop, task)) in std::mem::take(&mut self.running) {
            stop.send(()).await.unwrap();
            assert!(task.await.unwrap(), "a consumer is stopped clean");
        }
    }
}

/// A connection to the cluster for each of those that take part, as the commands of the program have it.
#[derive(Clone, Debug)]
pub(crate) struct Parts {
    /// `topics create`.
    pub(crate) operator: Kafka,
    pub(crate) monitor: Kafka,
    pub(crate) controller: Kafka,
    pub(crate) consumer: Kafka,
    pub(crate) load: Kafka,
}

/// A group with its topics and its sink.
#[derive(Debug)]
pub(crate) struct Job {
    directory: TempDir,
    pub(crate) topic: String,
    spec: GroupSpec,
    pub(crate) config: Arc<Config>,
}

impl Job {
    pub(crate) fn new(cluster: &Cluster) -> Self {
        let directory = TempDir::new().unwrap();
        let topic = unique_name("orders");
        let spec = spec(cluster, &topic, &directory.path().join("sink"));
        let config = Arc::new(spec.validate().unwrap());
        Self { directory, topic, spec, config }
    }

    fn sink(&self) -> PathBuf {
        self.directory.path().join("sink")
    }

    /// Runs the group under a load until a partition has gone from one owner to another, and returns the audit.
    pub(crate) async fn run(&self, parts: &Parts) -> (AuditReport, Status) {
        let (config, sink) = (&self.config, self.sink());
        std::fs::create_dir_all(&sink).unwrap();
        let data = TopicSpec {
            name: self.topic.clone(),
            partitions: 8,
            replication: Some(1),
            config: BTreeMap::new(),
        };
        parts.load.admin().create(&data).await.unwrap();
        let admin = parts.operator.admin();
        topics::ensure(&*admin, config, topics::Repair::Create).await.unwrap();

        let stop = CancellationToken::new();
        let monitor = spawn_named("monitor", monitor_loop(config, &parts.monitor, stop.clone()));
        let (status, seen) = watch::channel(Status::default());
        let start = controller::Start {
            process: ProcessId(7),
            jitter: Duration::ZERO,
            deposes: watch::channel(false).1,
            refused: None,
            program: String::new(),
            check: |_| Vec::new(),
            end_workers: true,
        };
        let ports = controller_ports(config, parts, self.directory.path().join("state"));
        let specs = watch::channel(self.spec.clone()).1;
        let run = controller::run(specs, start, ports, status, stop.clone());
        let controller = spawn_named("controller", run);

        let acknowledged = load_until_moved(&parts.load, &self.topic, &sink).await.acknowledged;
        let is_drained = sink_shows(&sink, &acknowledged, |report| report.lost == 0).await;
        assert!(is_drained, "the sink has not everything: {:?}", seen.borrow());
        let last = seen.borrow().clone();
        stop.cancel();
        controller.await.unwrap().unwrap();
        monitor.await.unwrap();
        (audited(&sink, &acknowledged).await, last)
    }
}

fn spec(cluster: &Cluster, topic: &str, sink: &Path) -> GroupSpec {
    let mut spec =
        GroupSpec { group: unique_name("group"), mode: Mode::Own, ..GroupSpec::default() };
    spec.cluster = cluster.clone();
    spec.topics = vec![TopicOfInterest {
        name: topic.to_owned(),
        sink: format!("file://{}", sink.display()),
        start: StartAt::Earliest,
        ..TopicOfInterest::default()
    }];
    spec.control_topics.monitor = unique_name("monitor");
    spec.control_topics.controller = unique_name("controller");
    spec.control_topics.service = unique_name("service");
    spec.capacity.bytes_per_second = NonZeroU64::new(1_000_000).unwrap();
    spec.capacity.overload = Permille(900);
    spec.consumers.max = NonZeroU32::new(6).unwrap();
    spec.monitor.filter_time_constant = Duration::from_secs(2);
    spec.controller.hold_scale_in = Duration::from_secs(5);
    spec
}

fn monitor_loop(
    config: &Arc<Config>,
    kafka: &Kafka,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let topic = &config.control_topics.monitor;
    let ports = monitor::Ports {
        clock: clock(),
        sizes: kafka.log_sizes(config.monitor.metadata_refresh),
        log: kafka.control_log(topic, ControlOptions::default()).unwrap(),
        admin: kafka.admin(),
    };
    let configs = watch::channel(Arc::clone(config)).1;
    monitor::run(configs, ports, monitor::Shown::to_nobody(), stop)
}

/// Writes at changing rates until the sink shows that a partition has gone from one owner to another.
async fn load_until_moved(kafka: &Kafka, topic: &str, sink: &Path) -> Outcome {
    let profile = Profile::new(
        Shape::Steps,
        1,
        NonZeroU32::new(8).unwrap(),
        bytes(3_000_000),
        bytes(1_000_000),
    );
    let partitions = (0..8).map(|number| (Arc::from(topic), number)).collect();
    let producer = kafka.producer(ProducerOptions::default()).unwrap();
    let generator =
        Generator::new(producer, clock(), &profile, partitions, GeneratorConfig::default());
    let found = kafka.admin().describe(&[topic.to_owned()]).await.unwrap();
    // No record is of this run: only the owners are looked at.
    let mut none = Acknowledged::new(0);
    none.set_topic_id(topic, found.first().expect("the topic was created").id);
    let moved = sink_shows(sink, &none, |report| !report.handoffs.is_empty());
    generator.run(async { assert!(moved.await, "no partition was handed over") }).await
}

fn controller_ports(config: &Arc<Config>, parts: &Parts, state: PathBuf) -> controller::Ports {
    let kafka = &parts.controller;
    let control = |topic: &str| kafka.control_log(topic, ControlOptions::default()).unwrap();
    let ledger = control(&config.control_topics.controller);
    controller::Ports {
        clock: clock(),
        ledger: Arc::clone(&ledger),
        commands: ledger,
        rates: Box::new(feeds::rates(control(&config.control_topics.monitor))),
        overrides: Box::new(feeds::overrides(
            control(&config.control_topics.service),
            config.group.clone(),
        )),
        admin: kafka.admin(),
        offsets: kafka.offsets(),
        workers: Box::new(TaskWorkers {
            config: Arc::clone(config),
            kafka: parts.consumer.clone(),
            directory: state,
            running: BTreeMap::new(),
            started: 100,
        }),
        metrics: ControllerMetrics::register(&mut Registry::default()),
    }
}

/// Waits until the sink is as it should be; false when it is not in time.
async fn sink_shows(
    sink: &Path,
    acknowledged: &Acknowledged,
    is_reached: impl Fn(&AuditReport) -> bool,
) -> bool {
    let reached = async {
        while !is_reached(&audited(sink, acknowledged).await) {
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.is_ok()
}

async fn audited(sink: &Path, acknowledged: &Acknowledged) -> AuditReport {
    let url = format!("file://{}", sink.display());
    let reader = tidegate_sinks::open_reader(&url, clock()).await.unwrap();
    audit(&reader, acknowledged).await.unwrap()
}

pub(crate) fn assert_clean(report: &AuditReport, status: &Status) {
    assert!(report.is_clean(), "{report:?}\n{status:?}");
    assert!(report.delivered > 0, "{report:?}");
    assert!(!report.handoffs.is_empty(), "no hand-off: {status:?}");
}
