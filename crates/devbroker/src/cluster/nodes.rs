//! The nodes of the cluster: who they are and which of them are up.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

/// Number of a node, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeId(i32);

/// One node as its peers know it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Node {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Whether it is started.
    pub(crate) up: bool,
}

/// All nodes.
#[derive(Debug, Default)]
pub(crate) struct Nodes {
    all: BTreeMap<NodeId, Node>,
}

// === impl NodeId ===

impl NodeId {
    /// The node of this number.
    pub const fn new(number: i32) -> Self {
        Self(number)
    }

    /// The number, as clients see it in metadata.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

// === impl Nodes ===

impl Nodes {
    /// Adds a node, up.
    pub(crate) fn add(&mut self, id: NodeId, address: SocketAddr) {
        self.all.insert(id, Node { address, up: true });
    }

    /// Marks a node as up or down; answers whether that is a change.
    pub(crate) fn set_up(&mut self, id: NodeId, up: bool) -> bool {
        let Some(node) = self.all.get_mut(&id) else {
            return false;
        };
        let changed = node.up != up;
        node.up = up;
        changed
    }

    /// The node of this id.
    pub(crate) fn get(&self, id: NodeId) -> Option<&Node> {
        self.all.get(&id)
    }

    /// Whether the node exists and is up.
    pub(crate) fn is_up(&self, id: NodeId) -> bool {
        self.get(id).is_some_and(|node| node.up)
    }

    /// The nodes that are up, by id.
    pub(crate) fn live(&self) -> impl Iterator<Item = (NodeId, SocketAddr)> {
        let up = self.all.iter().filter(|(_, node)| node.up);
        up.map(|(id, node)| (*id, node.address))
    }

    /// Number of nodes that are up.
    pub(crate) fn live_count(&self) -> usize {
        self.live().count()
    }

    /// The ids of all nodes, also of those that are down.
    pub(crate) fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.all.keys().copied()
    }

    /// The live node that keeps the offsets of `group`: fixed as long as the same nodes are up.
    pub(crate) fn coordinator(&self, group: &str) -> Option<(NodeId, SocketAddr)> {
        let live = self.live_count();
        let sum: usize = group.bytes().map(usize::from).sum();
        (live > 0).then(|| self.live().nth(sum % live))?
    }
}
