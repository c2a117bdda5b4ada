//! A monitor at work on a cluster, as `tidegate monitor` runs it, and all that it has published, read back from its topic.
//!
//! Every report is full: so each sample of each partition is in one of them, and a test can say from what it was measured.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::ids::TopicId;
use tidegate_core::rates::Measurement;
use tidegate_kafka::{ControlOptions, Kafka};
use tidegate_runtime::feeds::{self, Feed};
use tidegate_runtime::monitor;
use tidegate_runtime::ports::{BootClock, Rates as _, TopicSpec};
use tidegate_runtime::spec::{Config, ControlTopics, GroupSpec, TopicOfInterest};
use tidegate_runtime::task::{Task, spawn_named};
use tidegate_testing::unique_name;
use tidegate_wire::PartitionRates;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Some ten times what the slowest wait takes on a quiet machine.
const PATIENCE: Duration = Duration::from_secs(300);

/// One partition's samples, each with its time.
pub(crate) type Track = Vec<(u64, Measurement)>;

/// What has been published so far.
#[derive(Debug, Default)]
pub(crate) struct Published(Vec<PartitionRates>);

/// A running monitor, and a reader of its topic.
pub(crate) struct Watch {
    pub(crate) published: Published,
    feed: Feed<PartitionRates>,
    stop: CancellationToken,
    task: Task<()>,
}

impl Watch {
    /// Starts a monitor of the topics that a pattern matches. It reaches the cluster by one client, and is read by another that
    /// may do everything.
    pub(crate) fn start(monitor: &Kafka, admin: &Kafka, config: &Arc<Config>) -> Self {
        let log = |kafka: &Kafka| {
            let topic = &config.control_topics.monitor;
            kafka.control_log(topic, ControlOptions::default()).unwrap()
        };
        let ports = monitor::Ports {
            clock: Arc::new(BootClock),
            sizes: monitor.log_sizes(config.monitor.metadata_refresh),
            log: log(monitor),
            admin: monitor.admin(),
        };
        let stop = CancellationToken::new();
        let shown = monitor::Shown::to_nobody();
        let run = monitor::run(watch::channel(Arc::clone(config)).1, ports, shown, stop.clone());
        Self {
            published: Published::default(),
            feed: feeds::rates(log(admin)),
            stop,
            task: spawn_named("monitor", run),
        }
    }

    /// Waits until each of so many partitions has a rate: of zero, as long as nothing is written.
    pub(crate) async fn until_measured(&mut self, topic: TopicId, partitions: u32) {
        let is_measured = |seen: &Published, number| !seen.track(topic, number).is_empty();
        let all = |seen: &Published| (0..partitions).all(|number| is_measured(seen, number));
        self.until("rate of every partition", all).await;
    }

    /// Waits until what has been published is as it should be.
    pub(crate) async fn until(&mut self, what: &str, is_reached: impl Fn(&Published) -> bool) {
        let reached = async {
            while !is_reached(&self.published) {
                self.published.0.extend(self.feed.next().await);
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, reached).await;
        let last = self.published.0.last();
        assert!(outcome.is_ok(), "no {what} after {} reports: {last:?}", self.published.0.len());
    }

    /// Ends the monitor.
    pub(crate) async fn end(self) -> Published {
        self.stop.cancel();
        self.task.await.unwrap();
        self.published
    }
}

impl Published {
    /// Every report of a topic, in order.
    pub(crate) fn of(&self, topic: TopicId) -> impl Iterator<Item = &PartitionRates> {
        self.0.iter().filter(move |report| report.topic_id == topic)
    }

    /// The samples of one partition.
    pub(crate) fn track(&self, topic: TopicId, partition: u32) -> Track {
        let sample = |report: &PartitionRates| {
            Some((report.sampled_unix_ms, *report.rates.get(&partition)?))
        };
        self.of(topic).filter_map(sample).collect()
    }

    /// The window of a partition's last sample.
    pub(crate) fn window(&self, topic: TopicId, partition: u32) -> Duration {
        let last = self.track(topic, partition).pop();
        last.map_or(Duration::ZERO, |(_, measured)| measured.window)
    }
}

/// A group whose monitor looks at the topics that a pattern matches, and reports all partitions each time.
pub(crate) fn config(bootstrap: &str, pattern: &str) -> Arc<Config> {
    let group = unique_name("rates");
    let mut spec = GroupSpec {
        topics: vec![TopicOfInterest {
            name: pattern.to_owned(),
            sink: "blackhole:".to_owned(),
            ..TopicOfInterest::default()
        }],
        control_topics: ControlTopics::prefixed(&group),
        group,
        ..GroupSpec::default()
    };
    bootstrap.clone_into(&mut spec.cluster.bootstrap_servers);
    let mut config = spec.validate().unwrap();
    config.monitor.full_report = Duration::ZERO;
    Arc::new(config)
}

/// Makes a topic with as many replicas as there are brokers, and tells its id.
pub(crate) async fn create(
    admin: &Kafka,
    name: &str,
    partitions: u32,
    settings: &[(&str, &str)],
) -> TopicId {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let spec = TopicSpec {
        name: name.to_owned(),
        partitions,
        replication: None,
        config: settings.iter().map(owned).collect::<BTreeMap<_, _>>(),
    };
    assert!(admin.admin().create(&spec).await.unwrap());
    id(admin, name).await
}

async fn id(admin: &Kafka, name: &str) -> TopicId {
    let found = async {
        loop {
            let found = admin.admin().describe(&[name.to_owned()]).await.unwrap();
            if let Some(found) = found.first() {
                return found.id;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, found).await.expect("the topic is seen")
}
