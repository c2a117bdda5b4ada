//! What the processes of a run find when they start: a cluster with the topics, and the specification in its file.

use std::num::NonZeroU16;
use std::sync::Arc;

use anyhow::Context as _;
use tidegate_core::ids::TopicId;
use tidegate_devbroker::{DevBroker, Options};
use tidegate_kafka::Kafka;
use tidegate_runtime::ports::TopicPartition;
use tidegate_runtime::spec::{Config, GroupSpec};
use tidegate_runtime::topics::{self, Repair};

use super::files::Folder;
use super::setting::Setting;
use crate::commands::load;
use crate::failure::InvalidSpec;
use crate::setup::{self, Patience};

/// Nodes of the embedded broker: leaders are on several ports, as they are on a cluster.
const NODES: NonZeroU16 = NonZeroU16::new(3).unwrap();

/// A stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) config: Arc<Config>,
    pub(super) kafka: Kafka,
    pub(super) spec: GroupSpec,
    /// All partitions that are written to, in the order of the profile's rates.
    pub(super) partitions: Vec<TopicPartition>,
    embedded: Option<DevBroker>,
}

impl Stage {
    pub(super) async fn build(setting: &Setting, folder: &Folder) -> anyhow::Result<Self> {
        let embedded = match &setting.args.bootstrap {
            Some(_) => None,
            None => Some(DevBroker::start(Options { nodes: NODES, ..Options::default() }).await?),
        };
        let own = embedded.as_ref().map(DevBroker::bootstrap);
        let bootstrap = own.or_else(|| setting.args.bootstrap.clone()).unwrap_or_default();
        let spec = setting.spec(&bootstrap);
        let spec_file = folder.spec();
        std::fs::write(&spec_file, spec.print())
            .with_context(|| format!("failed to write {}", spec_file.display()))?;
        std::fs::create_dir_all(folder.consumers())?;
        let named = "the specification of the demo".to_owned();
        let config = spec.validate().map_err(|faults| InvalidSpec::new(named, &faults))?;
        let kafka = setup::connect(&config.cluster, "tidegate-demo", Patience::Command).await?;
        let admin = kafka.admin();
        topics::ensure(&*admin, &config, Repair::Create).await?;
        load::create_topics(&*admin, &setting.data_topics(), &setting.args.load).await?;
        let partitions = partitions(&kafka, setting).await?;
        Ok(Self { config: Arc::new(config), kafka, spec, partitions, embedded })
    }

    /// What the summary calls the broker.
    pub(super) fn broker_name(&self) -> String {
        match self.embedded {
            Some(_) => "embedded".to_owned(),
            None => self.config.cluster.bootstrap_servers.clone(),
        }
    }

    /// Takes away what a run has made on a cluster that goes on.
    pub(super) async fn strike(&self, setting: &Setting) {
        if let Some(broker) = &self.embedded {
            broker.stop().await;
            return;
        }
        let admin = self.kafka.admin();
        let control = self.config.control_topics.names().map(str::to_owned);
        for topic in setting.data_topics().into_iter().chain(control) {
            if let Err(error) = admin.delete(&topic).await {
                tracing::warn!(
                    topic,
                    error = &error as &dyn std::error::Error,
                    "failed to delete a topic"
                );
            }
        }
    }
}

async fn partitions(kafka: &Kafka, setting: &Setting) -> anyhow::Result<Vec<TopicPartition>> {
    let names = setting.data_topics();
    let found = kafka.admin().describe(&names).await?;
    let id_of = |name: &str| -> anyhow::Result<TopicId> {
        let topic = found.iter().find(|topic| topic.name == name);
        Ok(topic.with_context(|| format!("topic {name} was created and is not there"))?.id)
    };
    let mut partitions = Vec::new();
    for (topic, number) in load::partitions(&names, setting.args.load.partitions) {
        let topic = topic.to_string();
        let id = tidegate_core::ids::PartitionId { topic: id_of(&topic)?, number };
        partitions.push(TopicPartition { topic, id });
    }
    Ok(partitions)
}
