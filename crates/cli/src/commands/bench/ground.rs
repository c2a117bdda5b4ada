//! Where a monitor is tried: brokers, topics with names of their own, and a monitor's configuration for them.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use tidegate_kafka::Kafka;
use tidegate_runtime::monitor::{self, Monitor};
use tidegate_runtime::ports::TopicSpec;
use tidegate_runtime::spec::{self, Config, ControlTopics, GroupSpec, TopicOfInterest};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::commands::load;
use crate::failure::InvalidSpec;
use crate::setup::{self, Patience};
use crate::wiring;

/// What a ground is to be like.
pub(super) struct Plan {
    /// Brokers that are there, or nodes of an embedded one to start.
    pub(super) brokers: Result<String, NonZeroU16>,
    pub(super) topics: u32,
    /// Of each topic.
    pub(super) partitions: u32,
    /// Of each topic that is measured.
    pub(super) settings: [(&'static str, &'static str); 2],
    pub(super) monitor: spec::Monitor,
}

/// A ground.
pub(super) struct Ground {
    pub(super) config: Arc<Config>,
    pub(super) kafka: Kafka,
    /// Names of the topics that are measured.
    pub(super) topics: Vec<String>,
    broker: Option<Child>,
}

impl Ground {
    pub(super) async fn build(plan: Plan) -> anyhow::Result<Self> {
        let (run, _) = load::numbers(None)?;
        let name = format!("tidegate-bench-{:08x}", run & 0xffff_ffff);
        let (bootstrap, broker) = match plan.brokers {
            Ok(given) => (given, None),
            Err(nodes) => start_broker(nodes).await.map(|(child, at)| (at, Some(child)))?,
        };
        let config = Arc::new(configuration(&name, bootstrap, plan.monitor)?);
        let kafka = setup::connect(&config.cluster, "tidegate-bench", Patience::Command).await?;
        let topics = (0..plan.topics).map(|number| format!("{name}.data-{number}")).collect();
        let ground = Self { config, kafka, topics, broker };
        let settings = plan.settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let created = ground.create_topics(plan.partitions, &settings.into()).await;
        if let Err(error) = created {
            ground.clear().await;
            return Err(error);
        }
        Ok(ground)
    }

    async fn create_topics(
        &self,
        partitions: u32,
        settings: &BTreeMap<String, String>,
    ) -> anyhow::Result<()> {
        let admin = self.kafka.admin();
        let replication = u16::try_from(admin.brokers().await?.clamp(1, 3)).unwrap_or(1);
        let topic = |name: &str, partitions, config| TopicSpec {
            name: name.to_owned(),
            partitions,
            replication: Some(replication),
            config,
        };
        let control = topic(&self.config.control_topics.monitor, 1, BTreeMap::new());
        let data = self.topics.iter().map(|name| topic(name, partitions, settings.clone()));
        for topic in std::iter::once(control).chain(data) {
            admin.create(&topic).await?;
        }
        Ok(())
    }

    /// A monitor as `tidegate monitor` runs it.
    pub(super) fn monitor(&self, ports: monitor::Ports) -> Monitor {
        Monitor::new(Arc::clone(&self.config), ports, monitor::Shown::to_nobody())
    }

    /// The ports of such a monitor.
    pub(super) fn ports(&self) -> anyhow::Result<monitor::Ports> {
        wiring::monitor_ports(&self.kafka, &self.config)
    }

    /// What the report calls the brokers.
    pub(super) fn broker_name(&self) -> &str {
        match self.broker {
            Some(_) => "embedded",
            None => &self.config.cluster.bootstrap_servers,
        }
    }

    /// Takes away what was made: the embedded broker with all it holds, or the topics on a given cluster.
    pub(super) async fn clear(self) {
        if let Some(mut broker) = self.broker {
            if let Err(error) = broker.kill().await {
                tracing::warn!(%error, "the embedded broker was not ended");
            }
            return;
        }
        let admin = self.kafka.admin();
        let control = std::iter::once(self.config.control_topics.monitor.clone());
        for topic in self.topics.into_iter().chain(control) {
            if let Err(error) = admin.delete(&topic).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(topic, error, "failed to delete a topic");
            }
        }
    }
}

/// The embedded broker in a process of its own, so that what this one uses is the monitor's.
async fn start_broker(nodes: NonZeroU16) -> anyhow::Result<(Child, String)> {
    let program = std::env::current_exe().context("failed to find this program's file")?;
    let mut command = Command::new(program);
    command
        .args(["dev-broker", "--port", "0", "--output", "json", "--log", "error"])
        .args(["--nodes", &nodes.to_string(), "--parent", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().context("failed to start the embedded broker")?;
    let Some(stdout) = child.stdout.take() else { bail!("the embedded broker says nothing") };
    let line = BufReader::new(stdout).lines().next_line().await?;
    let started: serde_json::Value = serde_json::from_str(&line.unwrap_or_default())
        .context("the embedded broker did not say where it listens")?;
    let bootstrap = started["bootstrap"].as_str().context("the embedded broker has no address")?;
    Ok((child, bootstrap.to_owned()))
}

fn configuration(name: &str, bootstrap: String, monitor: spec::Monitor) -> anyhow::Result<Config> {
    let mut spec = GroupSpec {
        group: name.to_owned(),
        topics: vec![TopicOfInterest {
            name: format!("{name}.data-*"),
            sink: "blackhole:".to_owned(),
            ..TopicOfInterest::default()
        }],
        control_topics: ControlTopics::prefixed(name),
        monitor,
        ..GroupSpec::default()
    };
    spec.cluster.bootstrap_servers = bootstrap;
    let named = "the configuration of the bench".to_owned();
    Ok(spec.validate().map_err(|faults| InvalidSpec::new(named, &faults))?)
}
