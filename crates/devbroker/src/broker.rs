//! The broker as its owner sees it: start, stop, nodes, leaders, retention, faults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::clock;
use crate::cluster::{Cluster, NewTopic, NodeId, Partition};
use crate::config;
use crate::error::Error;
use crate::faults::{FaultId, FaultRule};
use crate::node::{RunningNode, listen};
use crate::options::Options;
use crate::shared::Shared;

/// A running broker. Stop it with [`stop`](Self::stop); dropping it ends its tasks without waiting for them.
#[derive(Debug)]
pub struct DevBroker {
    shared: Arc<Shared>,
    addresses: BTreeMap<NodeId, SocketAddr>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    nodes: BTreeMap<NodeId, RunningNode>,
    retention: JoinSet<()>,
}

// === impl DevBroker: life ===

impl DevBroker {
    /// Starts all nodes. They answer when this returns.
    pub async fn start(options: Options) -> Result<Self, Error> {
        config::check(&options.topic_defaults).map_err(Error::TopicDefaults)?;
        let listeners = listen_all(&options).await?;
        let run = u64::try_from(clock::now_ms()).unwrap_or_default();
        let mut cluster = Cluster::new(options.policy(), run);
        let mut addresses = BTreeMap::new();
        for (id, (_, address)) in &listeners {
            cluster.nodes.add(*id, *address);
            addresses.insert(*id, *address);
        }
        let shared = Arc::new(Shared::new(cluster));
        let mut running = Running::default();
        for (id, (listener, _)) in listeners {
            let node = RunningNode::start(listener, Arc::clone(&shared), id);
            running.nodes.insert(id, node);
        }
        let retention = retain_forever(Arc::clone(&shared), options.retention_interval);
        running.retention.spawn(retention);
        let broker = Self { shared, addresses, running: Mutex::new(running) };
        let bootstrap = broker.bootstrap();
        warn!(bootstrap, "development broker keeps nothing: all records end with this process");
        Ok(broker)
    }

    /// The value for `bootstrap.servers`: all nodes, also those that are stopped.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = self.addresses.values().map(ToString::to_string).collect();
        addresses.join(",")
    }

    /// Stops every node and waits until all tasks have ended. A second call does nothing.
    pub async fn stop(&self) {
        let mut running = self.running.lock().await;
        running.retention.shutdown().await;
        for (id, node) in std::mem::take(&mut running.nodes) {
            self.shared.step(|state| state.cluster.set_node_up(id, false));
            node.stop().await;
        }
    }
}

/// One listener per node; all or none.
async fn listen_all(
    options: &Options,
) -> Result<BTreeMap<NodeId, (TcpListener, SocketAddr)>, Error> {
    let nodes = options.nodes.get();
    let ports = Error::Ports { first: options.port, nodes };
    if options.port.checked_add(nodes - 1).is_none() {
        return Err(ports);
    }
    let mut listeners = BTreeMap::new();
    for number in 0..nodes {
        let port = if options.port == 0 { 0 } else { options.port + number };
        let id = NodeId::new(i32::from(number) + 1);
        listeners.insert(id, listen(SocketAddr::new(options.host, port)).await?);
    }
    Ok(listeners)
}

/// Applies retention until the task is ended.
async fn retain_forever(shared: Arc<Shared>, every: Duration) {
    let every = every.max(Duration::from_millis(1));
    let mut ticks = tokio::time::interval_at(Instant::now() + every, every);
    loop {
        ticks.tick().await;
        let now_ms = clock::now_ms();
        shared.step(|state| state.cluster.retain(now_ms));
    }
}

// === impl DevBroker: nodes and leaders ===

impl DevBroker {
    /// The nodes, also those that are stopped.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.addresses.keys().copied().collect()
    }

    /// Where a node listens while it is up.
    pub fn address(&self, node: NodeId) -> Option<SocketAddr> {
        self.addresses.get(&node).copied()
    }

    /// Stops a node: its connections drop, and partitions it led go to the next live replica, or to nobody.
    ///
    /// Stopping a stopped node does nothing. Leave clients a second live node: librdkafka forgets a node that
    /// metadata does not list, and asks `bootstrap.servers` again only minutes after the last one it knows is gone.
    pub async fn stop_node(&self, node: NodeId) -> Result<(), Error> {
        self.known(node)?;
        let mut running = self.running.lock().await;
        if let Some(stopping) = running.nodes.remove(&node) {
            self.shared.step(|state| state.cluster.set_node_up(node, false));
            stopping.stop().await;
            info!(%node, "node stopped");
        }
        Ok(())
    }

    /// Starts a stopped node on its old port. It leads what nobody leads; other leaders stay.
    ///
    /// Starting a running node does nothing.
    pub async fn start_node(&self, node: NodeId) -> Result<(), Error> {
        let address = self.known(node)?;
        let mut running = self.running.lock().await;
        if running.nodes.contains_key(&node) {
            return Ok(());
        }
        let (listener, _) = listen(address).await?;
        let started = RunningNode::start(listener, Arc::clone(&self.shared), node);
        running.nodes.insert(node, started);
        self.shared.step(|state| state.cluster.set_node_up(node, true));
        info!(%node, "node started");
        Ok(())
    }

    /// The node that leads a partition; `None` if there is no such partition or nobody can lead it.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<NodeId> {
        self.look(topic, partition, Partition::leader).flatten()
    }

    /// Makes a live replica lead a partition, as an administrator's election would.
    pub fn move_leader(&self, topic: &str, partition: i32, node: NodeId) -> Result<(), Error> {
        let moved = self.shared.step(|state| state.cluster.move_leader(topic, partition, node));
        moved.map_err(|source| Error::MoveLeader {
            topic: topic.to_owned(),
            partition,
            node,
            source,
        })
    }

    fn known(&self, node: NodeId) -> Result<SocketAddr, Error> {
        self.address(node).ok_or(Error::UnknownNode(node))
    }
}

// === impl DevBroker: topics and logs ===

impl DevBroker {
    /// Creates a topic as an administrator's client would, with as many replicas as there are live nodes, at most 3.
    pub fn create_topic(
        &self,
        name: &str,
        partitions: u16,
        settings: &[(&str, &str)],
    ) -> Result<(), Error> {
        let settings = settings.iter();
        let settings = settings.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let new = NewTopic {
            partitions: partitions.into(),
            replication: -1,
            settings: settings.collect(),
            ..NewTopic::default()
        };
        let created = self.shared.step(|state| state.cluster.create_topic(name, new, false));
        created.map_err(|(source, reason)| Error::CreateTopic {
            topic: name.to_owned(),
            reason,
            source,
        })
    }

    /// First offset and end offset of a partition.
    pub fn offsets(&self, topic: &str, partition: i32) -> Option<(i64, i64)> {
        self.look(topic, partition, |found| (found.log.start(), found.log.end()))
    }

    /// Spoils the batch that holds an offset, as a bad disk would: its checksum is wrong from then on. Answers whether there is one.
    pub fn corrupt(&self, topic: &str, partition: i32, offset: i64) -> bool {
        self.shared.step(|state| {
            let found = state.cluster.partition_mut(topic, partition);
            found.is_ok_and(|found| found.log.corrupt(offset))
        })
    }

    /// Bytes a partition holds, as `DescribeLogDirs` tells them.
    pub fn log_size(&self, topic: &str, partition: i32) -> Option<u64> {
        self.look(topic, partition, |found| found.log.size())
    }

    /// Applies retention at once and answers the bytes freed.
    pub fn run_retention(&self) -> u64 {
        self.run_retention_at(clock::now_ms())
    }

    /// Applies retention as if it were this time, in ms since 1970, and answers the bytes freed.
    pub fn run_retention_at(&self, now_ms: i64) -> u64 {
        self.shared.step(|state| state.cluster.retain(now_ms))
    }

    fn look<T>(&self, topic: &str, index: i32, look: impl FnOnce(&Partition) -> T) -> Option<T> {
        self.shared.step(|state| state.cluster.partition(topic, index).ok().map(look))
    }
}

// === impl DevBroker: faults ===

impl DevBroker {
    /// Arms a fault behind those that are armed. The first that matches a request strikes.
    pub fn inject(&self, rule: FaultRule) -> FaultId {
        self.shared.step(|state| state.faults.arm(rule))
    }

    /// How often a fault struck; `None` once it is removed.
    pub fn fault_hits(&self, fault: FaultId) -> Option<u64> {
        self.shared.step(|state| state.faults.hits(fault))
    }

    /// Disarms a fault and answers how often it struck; `None` if it was removed before.
    pub fn remove_fault(&self, fault: FaultId) -> Option<u64> {
        self.shared.step(|state| state.faults.disarm(fault))
    }

    /// Disarms every fault.
    pub fn clear_faults(&self) {
        self.shared.step(|state| state.faults.clear());
    }
}
