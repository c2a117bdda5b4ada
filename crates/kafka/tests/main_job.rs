//! The main job in one process: load, monitor, controller and consumers on one broker, then an audit of the sink.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use prometheus_client::registry::Registry;
use tidegate_core::ids::{ConsumerNumber, ProcessId};
use tidegate_devbroker::{DevBroker, Options};
use tidegate_kafka::{ControlOptions, Kafka, ProducerOptions, ReaderOptions};
use tidegate_load::audit::{AuditReport, audit};
use tidegate_load::generator::{Generator, GeneratorConfig, Outcome};
use tidegate_load::profile::{Profile, Shape};
use tidegate_runtime::ports::{
    BootClock, Clock, Error, Phase, TopicSpec, WorkerChange, WorkerSpec, WorkerState, Workers,
};
use tidegate_runtime::spec::{
    Config, GroupSpec, Mode, Permille, Start as StartAt, TopicOfInterest,
};
use tidegate_runtime::state_file::StateDirectory;
use tidegate_runtime::task::{Task, spawn_named};
use tidegate_runtime::telemetry::metrics::{ConsumerMetrics, ControllerMetrics, MonitorMetrics};
use tidegate_runtime::{consumer, controller, monitor, topics};
use tidegate_testing::{KafkaVersion, RealKafka, TempDir, unique_name};
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
            tidegate_sinks::open(&target.to_string(), clock()).map_err(|error| {
                Error::new(error.class(), "failed to open the sink").because(error)
            })
        };
        let ports = consumer::Ports {
            clock: clock(),
            ledger: Arc::clone(&ledger),
            commands: ledger,
            reader: self.kafka.partition_reader(ReaderOptions::default()).unwrap(),
            sinks: consumer::Sinks::new(Arc::clone(&config), self.kafka.admin(), Box::new(open)),
            offsets: self.kafka.offsets(),
            state: Box::new(
                StateDirectory::open(self.directory.join(consumer.to_string())).unwrap(),
            ),
            shown: consumer::Shown {
                metrics: ConsumerMetrics::register(&mut Registry::default()),
                status: watch::Sender::default(),
            },
        };
        let run = consumer::run(config, start, ports, stops);
        let task = spawn_named(format!("consumer-{consumer}"), async move { run.await.unwrap() });
        self.running.insert(consumer, (stop, task));
    }
}

#[async_trait]
impl Workers for TaskWorkers {
    async fn ensure(&mut self, consumer: ConsumerNumber, _spec: &WorkerSpec) -> Result<(), Error> {
        if !self.running.contains_key(&consumer) {
            self.start(consumer);
        }
        Ok(())
    }

    async fn remove(&mut self, consumer: ConsumerNumber) -> Result<(), Error> {
        if let Some((stop, task)) = self.running.remove(&consumer) {
            stop.send(()).await.unwrap();
            assert!(task.await.unwrap(), "a consumer that owns nothing stops clean");
        }
        Ok(())
    }

    async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error> {
        let running = WorkerState {
            phase: Phase::Running,
            spec: WorkerSpec::default(),
            starts: 1,
            trouble: None,
        };
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

fn config(bootstrap: &str, topic: &str, sink: &Path) -> Arc<Config> {
    let mut spec =
        GroupSpec { group: unique_name("group"), mode: Mode::Own, ..GroupSpec::default() };
    bootstrap.clone_into(&mut spec.cluster.bootstrap_servers);
    spec.topics = vec![TopicOfInterest {
        name: topic.to_owned(),
        sink: format!("file://{}", sink.display()),
        start: StartAt::Earliest,
    }];
    spec.control_topics.monitor = unique_name("monitor");
    spec.control_topics.controller = unique_name("controller");
    spec.control_topics.service = unique_name("service");
    spec.capacity.bytes_per_second = NonZeroU64::new(1_000_000).unwrap();
    spec.capacity.overload = Permille(900);
    spec.consumers.max = NonZeroU32::new(6).unwrap();
    spec.monitor.filter_time_constant = Duration::from_secs(2);
    spec.controller.hold_scale_in = Duration::from_secs(5);
    Arc::new(spec.validate().unwrap())
}

/// Runs the group under a load until its plans have moved partitions that were owned, and returns the audit.
async fn main_job(bootstrap: &str) -> (AuditReport, Status) {
    let directory = TempDir::new().unwrap();
    let (sink, state) = (directory.path().join("sink"), directory.path().join("state"));
    std::fs::create_dir_all(&sink).unwrap();
    let topic = unique_name("orders");
    let config = config(bootstrap, &topic, &sink);
    let kafka = tidegate_kafka::connect(&config.cluster, "main-job").unwrap();
    let admin = kafka.admin();
    let data = TopicSpec {
        name: topic.clone(),
        partitions: 8,
        replication: Some(1),
        config: BTreeMap::new(),
    };
    admin.create(&data).await.unwrap();
    topics::ensure(&*admin, &config, topics::Repair::Create).await.unwrap();

    let stop = CancellationToken::new();
    let control = |topic: &str| kafka.control_log(topic, ControlOptions::default()).unwrap();
    let monitor = monitor::Ports {
        clock: clock(),
        sizes: kafka.log_sizes(config.monitor.metadata_refresh),
        log: control(&config.control_topics.monitor),
    };
    let shown = monitor::Shown {
        metrics: MonitorMetrics::register(&mut Registry::default()),
        status: watch::Sender::default(),
    };
    let monitor =
        spawn_named("monitor", monitor::run(Arc::clone(&config), monitor, shown, stop.clone()));
    let (status, mut seen) = watch::channel(Status::default());
    let controller = spawn_named(
        "controller",
        controller::run(
            Arc::clone(&config),
            controller::Start {
                process: ProcessId(7),
                jitter: Duration::ZERO,
                worker: WorkerSpec::default(),
                end_workers: true,
            },
            controller_ports(&config, &kafka, state),
            status,
            stop.clone(),
        ),
    );

    let outcome = load_until_moved(&kafka, &topic, &mut seen).await;
    drained(&config, &sink, &outcome.acknowledged).await;
    let last = seen.borrow().clone();
    stop.cancel();
    controller.await.unwrap().unwrap();
    monitor.await.unwrap();
    let reader =
        tidegate_sinks::open_reader(&format!("file://{}", sink.display()), clock()).unwrap();
    (audit(&reader, &outcome.acknowledged).await.unwrap(), last)
}

/// Writes at changing rates until a plan has moved partitions that were owned.
async fn load_until_moved(
    kafka: &Kafka,
    topic: &str,
    seen: &mut watch::Receiver<Status>,
) -> Outcome {
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
    let moved = seen.wait_for(|status| {
        let ready = status.ready_consumers >= 2;
        let owned = status.partitions.len() == 8
            && status.partitions.iter().all(|partition| partition.owner.is_some());
        ready && owned && status.decisions.iter().filter(|decision| decision.moves > 0).count() >= 2
    });
    generator
        .run(async move {
            tokio::time::timeout(PATIENCE, moved).await.expect("a second plan").unwrap();
        })
        .await
}

fn controller_ports(config: &Arc<Config>, kafka: &Kafka, state: PathBuf) -> controller::Ports {
    let control = |topic: &str| kafka.control_log(topic, ControlOptions::default()).unwrap();
    let ledger = control(&config.control_topics.controller);
    controller::Ports {
        clock: clock(),
        ledger: Arc::clone(&ledger),
        commands: ledger,
        rates: control(&config.control_topics.monitor),
        admin: kafka.admin(),
        offsets: kafka.offsets(),
        workers: Box::new(TaskWorkers {
            config: Arc::clone(config),
            kafka: kafka.clone(),
            directory: state,
            running: BTreeMap::new(),
            started: 100,
        }),
        metrics: ControllerMetrics::register(&mut Registry::default()),
    }
}

/// Waits until everything that was acknowledged is in the sink.
async fn drained(config: &Config, sink: &Path, acknowledged: &tidegate_load::ledger::Acknowledged) {
    let done = async {
        loop {
            let reader =
                tidegate_sinks::open_reader(&format!("file://{}", sink.display()), clock())
                    .unwrap();
            if audit(&reader, acknowledged).await.unwrap().lost == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(PATIENCE, done)
        .await
        .unwrap_or_else(|_| panic!("the sink of {} has not everything", config.group));
}

fn assert_clean(report: &AuditReport, status: &Status) {
    assert!(report.is_clean(), "{report:?}\n{status:?}");
    assert!(report.delivered > 0, "{report:?}");
    assert!(!report.handoffs.is_empty(), "no hand-off: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_delivered_once_while_partitions_move_on_the_embedded_broker() {
    let _logged = tidegate_runtime::telemetry::logging::init(
        None,
        tidegate_runtime::telemetry::logging::Format::Text,
    );
    let broker = DevBroker::start(Options::default()).await.unwrap();
    let (report, status) = main_job(&broker.bootstrap()).await;
    assert_clean(&report, &status);
    broker.stop().await;
}

fn on_real_kafka(version: KafkaVersion) {
    let kafka = RealKafka::start(version, 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (report, status) = runtime.block_on(main_job(kafka.bootstrap()));
    assert_clean(&report, &status);
}

#[test]
fn everything_is_delivered_once_while_partitions_move_on_kafka_4() {
    on_real_kafka(KafkaVersion::V4);
}

#[test]
fn everything_is_delivered_once_while_partitions_move_on_kafka_3() {
    on_real_kafka(KafkaVersion::V3);
}
