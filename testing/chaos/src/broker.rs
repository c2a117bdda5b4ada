//! The three nodes that the group runs on, embedded or of Apache Kafka, and how to kill one.

use std::net::SocketAddr;
use std::num::{NonZeroU8, NonZeroU16};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use tidegate_devbroker::{DevBroker, NodeId, Options};
use tidegate_testing::{KafkaOptions, KafkaVersion, RealKafka};

use crate::args::BrokerKind;

/// One can be killed, and two others keep what is written.
pub(crate) const NODES: u8 = 3;

/// A cluster of our own.
#[derive(Clone, Debug)]
pub(crate) enum Broker {
    /// Nodes of this process over one log: killing one loses nothing.
    Embedded(Arc<DevBroker>),
    /// Processes of their own. Wiped with the last copy of this.
    Kafka(Arc<RealKafka>),
}

impl Broker {
    pub(crate) async fn start(kind: BrokerKind) -> anyhow::Result<Self> {
        match kind {
            BrokerKind::Embedded => {
                let nodes = NonZeroU16::from(NonZeroU8::new(NODES).context("nodes")?);
                let options = Options { nodes, ..Options::default() };
                Ok(Self::Embedded(Arc::new(DevBroker::start(options).await?)))
            }
            BrokerKind::Kafka => {
                let mut options = KafkaOptions::new(KafkaVersion::V4, NODES);
                // A killed node is missed after 3 s instead of 9: more of the run is left for other faults.
                options.settings.push("broker.session.timeout.ms=3000".to_owned());
                let started =
                    blocking("start Apache Kafka", move || RealKafka::start_own(&options));
                Ok(Self::Kafka(Arc::new(started.await?)))
            }
        }
    }

    /// Where all nodes listen.
    pub(crate) fn bootstrap(&self) -> String {
        match self {
            Self::Embedded(broker) => broker.bootstrap(),
            Self::Kafka(kafka) => kafka.bootstrap().to_owned(),
        }
    }

    /// The same, one by one.
    pub(crate) fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let bootstrap = self.bootstrap();
        let parse = |text: &str| text.parse().with_context(|| format!("{text} is no address"));
        bootstrap.split(',').map(parse).collect()
    }

    /// Crashes a node; they are numbered from 1.
    pub(crate) async fn kill(&self, node: u8) -> anyhow::Result<()> {
        match self {
            Self::Embedded(broker) => Ok(broker.stop_node(NodeId::new(node.into())).await?),
            Self::Kafka(kafka) => {
                let kafka = Arc::clone(kafka);
                blocking("kill a node", move || kafka.kill(node)).await
            }
        }
    }

    /// Starts the nodes that are down and waits until they answer.
    pub(crate) async fn restore(&self) -> anyhow::Result<()> {
        match self {
            Self::Embedded(broker) => {
                for node in broker.nodes() {
                    broker.start_node(node).await?;
                }
                Ok(())
            }
            Self::Kafka(kafka) => {
                let kafka = Arc::clone(kafka);
                blocking("start a node", move || kafka.restart()).await
            }
        }
    }

    /// Copies the logs of the nodes that have some.
    pub(crate) fn save_logs(&self, directory: &Path) -> anyhow::Result<()> {
        let Self::Kafka(kafka) = self else { return Ok(()) };
        for node in 1..=NODES {
            let copied = std::fs::copy(kafka.log(node), directory.join(format!("node-{node}.log")));
            copied.with_context(|| format!("failed to save the log of node {node}"))?;
        }
        Ok(())
    }

    /// Ends all nodes.
    pub(crate) async fn stop(self) -> anyhow::Result<()> {
        match self {
            Self::Embedded(broker) => {
                broker.stop().await;
                Ok(())
            }
            Self::Kafka(kafka) => blocking("end Apache Kafka", move || drop(kafka)).await,
        }
    }
}

/// The test bench blocks, and panics with the reason when it fails.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> anyhow::Result<T> {
    tokio::task::spawn_blocking(work).await.with_context(|| format!("failed to {doing}"))
}
