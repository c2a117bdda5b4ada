//! How a broker is started.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU16;
use std::time::Duration;

use crate::cluster::Policy;

/// How a broker is started. The default is one node on a free loopback port.
#[derive(Debug, Clone)]
pub struct Options {
    /// Number of nodes.
    pub nodes: NonZeroU16,
    /// Address to listen on and to tell clients. Loopback by default: nobody is authenticated.
    pub host: IpAddr,
    /// Port of the first node; the others follow. 0 gives each node a free port.
    pub port: u16,
    /// Whether asking for a topic that does not exist creates it. Off by default: a misspelled name must not become a topic.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator leaves the number to the broker.
    pub default_partitions: NonZeroU16,
    /// Settings of topics that do not set them, by their names in Apache Kafka (`segment.bytes`, `retention.bytes`, ..).
    pub topic_defaults: BTreeMap<String, String>,
    /// How often retention is applied. Apache Kafka's five minutes would let a demo fill the memory.
    pub retention_interval: Duration,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            nodes: NonZeroU16::MIN,
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            auto_create_topics: false,
            default_partitions: NonZeroU16::MIN,
            topic_defaults: BTreeMap::new(),
            retention_interval: Duration::from_secs(1),
        }
    }
}

impl Options {
    pub(crate) fn policy(&self) -> Policy {
        Policy {
            default_partitions: self.default_partitions.get().into(),
            auto_create: self.auto_create_topics,
            topic_defaults: self.topic_defaults.clone(),
        }
    }
}
