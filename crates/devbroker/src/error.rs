//! What can go wrong in driving the broker. What goes wrong for its clients has Kafka's own codes.

use std::net::SocketAddr;

use kafka_protocol::ResponseError;

use crate::cluster::NodeId;

/// A start or a command to the broker that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A node's port is taken, or the address is not this machine's.
    #[error("failed to listen on {address}")]
    Listen {
        /// Where the node was to listen.
        address: SocketAddr,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// With so many nodes the last port would be above 65535.
    #[error("no ports for {nodes} nodes from {first} on")]
    Ports {
        /// The first port asked for.
        first: u16,
        /// The number of nodes asked for.
        nodes: u16,
    },
    /// A default topic setting that does not exist or has a wrong value.
    #[error("failed to accept the topic defaults: {0}")]
    TopicDefaults(String),
    /// There is no node of this number.
    #[error("no node {0}")]
    UnknownNode(NodeId),
    /// A partition could not be led by the node.
    #[error("failed to move the leader of {topic}-{partition} to node {node}")]
    MoveLeader {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The node that was to lead.
        node: NodeId,
        /// Why not.
        source: ResponseError,
    },
    /// A topic could not be created.
    #[error("failed to create topic {topic}: {reason}")]
    CreateTopic {
        /// The topic.
        topic: String,
        /// What was refused, in words.
        reason: String,
        /// The code a client would get.
        source: ResponseError,
    },
}
