//! What the processes of a run find when they start: topics, specifications, proxies, and how each is started.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_core::ids::PartitionId;
use tidegate_kafka::Kafka;
use tidegate_runtime::ports::{Admin, TopicPartition, TopicSpec};
use tidegate_runtime::spec::Config;
use tidegate_runtime::topics::{self, Repair};
use tokio::process::Command;

use crate::broker::Broker;
use crate::folder::Folder;
use crate::process::Who;
use crate::proxy::Proxy;
use crate::setting::{PARTITIONS_EACH, Setting};
use crate::staff::Recipe;

/// The controllers.
pub(crate) const CONTROLLERS: [u32; 2] = [1, 2];

/// Two of three consumers talk through a proxy, the others directly: there is nearly always somebody with one to be
/// struck, and somebody without.
const PROXIED: [u32; 6] = [1, 2, 4, 5, 7, 8];

/// How long a cluster that has just been started may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Pause before it is asked again.
const RETRY: Duration = Duration::from_millis(500);

/// A stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) config: Config,
    pub(crate) kafka: Kafka,
    /// All partitions that are written to.
    pub(crate) partitions: Vec<TopicPartition>,
    pub(crate) proxies: BTreeMap<u32, Proxy>,
}

impl Stage {
    pub(crate) async fn build(
        setting: &Setting,
        folder: &Folder,
        broker: &Broker,
    ) -> anyhow::Result<Self> {
        let bootstrap = broker.bootstrap();
        let write = |file: &Path, data: &Path| {
            let spec = setting.spec(&bootstrap, folder, data);
            let written = std::fs::write(file, spec.print());
            written.with_context(|| format!("failed to write {}", file.display()))?;
            spec.validate().context("the specification is not valid")
        };
        let config = write(&folder.spec(), &folder.controller(0))?;
        for number in CONTROLLERS {
            std::fs::create_dir_all(folder.controller(number))?;
            write(&controller_spec(folder, number), &folder.controller(number))?;
        }
        let kafka = tidegate_kafka::connect(&config.cluster, "tidegate-chaos")?;
        let admin = kafka.admin();
        answers(&*admin).await?;
        topics::ensure(&*admin, &config, Repair::Create).await?;
        create_topics(&*admin, &setting.data_topics()).await?;
        let partitions = partitions(&*admin, setting).await?;
        let proxies = proxies(broker).await?;
        Ok(Self { config, kafka, partitions, proxies })
    }

    /// How each process is started.
    pub(crate) fn recipe(&self, folder: &Arc<Folder>) -> anyhow::Result<Recipe> {
        let program = program()?;
        let behind = |(number, proxy): (&u32, &Proxy)| (*number, proxy.bootstrap().to_owned());
        let bootstraps: BTreeMap<u32, String> = self.proxies.iter().map(behind).collect();
        let folder = Arc::clone(folder);
        Ok(Box::new(move |who| {
            let mut command = Command::new(&program);
            match who {
                Who::Monitor => command.arg("monitor").arg("--spec").arg(folder.spec()),
                Who::Controller(number) => {
                    command.arg("controller").arg("--spec").arg(controller_spec(&folder, number))
                }
                Who::Consumer(number) => {
                    command.arg("consumer").arg("--spec").arg(folder.spec());
                    command.args(["--id", &number.to_string()]);
                    command.args(["--parent", &std::process::id().to_string()]);
                    command.arg("--data").arg(folder.consumer(number));
                    if let Some(bootstrap) = bootstraps.get(&number) {
                        command.args(["--bootstrap", bootstrap]);
                    }
                    &mut command
                }
            };
            command.args(["--http", "127.0.0.1:0"]);
            command
        }))
    }
}

fn controller_spec(folder: &Folder, number: u32) -> PathBuf {
    folder.controller(number).join("group.yaml")
}

/// The `tidegate` program, which is built beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("failed to find this program's file")?;
    let program = own.with_file_name("tidegate");
    let found = program.is_file();
    anyhow::ensure!(found, "{} is missing: run `cargo xtask chaos`", program.display());
    Ok(program)
}

async fn answers(admin: &dyn Admin) -> anyhow::Result<()> {
    let answered = async {
        while let Err(error) = admin.brokers().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "no answer yet");
            tokio::time::sleep(RETRY).await;
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.context("the brokers do not answer")
}

async fn create_topics(admin: &dyn Admin, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        // Longer than anybody is ever behind, short enough for the memory of the embedded broker. Few segments: a node of
        // Apache Kafka that was killed goes through all of them before it answers.
        let config = [("retention.ms", "600000"), ("segment.bytes", "16777216")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let replication = Some(crate::broker::NODES.into());
        let name = name.clone();
        admin.create(&TopicSpec { name, partitions: PARTITIONS_EACH, replication, config }).await?;
    }
    Ok(())
}

async fn partitions(admin: &dyn Admin, setting: &Setting) -> anyhow::Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for topic in admin.describe(&setting.data_topics()).await? {
        partitions.extend((0..PARTITIONS_EACH).map(|number| TopicPartition {
            topic: topic.name.clone(),
            id: PartitionId { topic: topic.id, number },
        }));
    }
    anyhow::ensure!(partitions.len() == Setting::partition_count(), "a topic is missing");
    Ok(partitions)
}

async fn proxies(broker: &Broker) -> anyhow::Result<BTreeMap<u32, Proxy>> {
    let nodes = broker.addresses()?;
    let mut proxies = BTreeMap::new();
    for number in PROXIED {
        proxies.insert(number, Proxy::start(&format!("proxy-{number}"), &nodes).await?);
    }
    Ok(proxies)
}
