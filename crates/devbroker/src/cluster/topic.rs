//! Topics and partitions: a log, who leads it, and who waits for it.

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;
use uuid::Uuid;

use super::nodes::{NodeId, Nodes};
use crate::config::TopicConfig;
use crate::log::PartitionLog;

/// A connection whose fetch waits for data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct WaiterId(pub(crate) u64);

/// A topic. Its id dies with it: a topic created again under the same name has another.
#[derive(Debug)]
pub(crate) struct Topic {
    /// The id of this creation.
    pub(crate) id: Uuid,
    /// Its settings.
    pub(crate) config: TopicConfig,
    /// Replicas of each partition.
    pub(crate) replication: usize,
    /// Node the first partition starts on, so that topics of one partition spread as well.
    pub(crate) first_node: usize,
    /// Its partitions; the index is the partition's number.
    pub(crate) partitions: Vec<Partition>,
}

/// A partition.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// The records; every node sees the same.
    pub(crate) log: PartitionLog,
    leader: Option<NodeId>,
    leader_epoch: i32,
    replicas: Vec<NodeId>,
    /// (epoch, first offset) of each epoch that a leader was in.
    epochs: Vec<(i32, i64)>,
    waiters: BTreeSet<WaiterId>,
}

// === impl Topic ===

impl Topic {
    /// The partition of this number.
    pub(crate) fn partition(&self, index: i32) -> Result<&Partition, ResponseError> {
        let index = usize::try_from(index).ok();
        index
            .and_then(|index| self.partitions.get(index))
            .ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// The partition of this number, to change it.
    pub(crate) fn partition_mut(&mut self, index: i32) -> Result<&mut Partition, ResponseError> {
        let index = usize::try_from(index).ok();
        index
            .and_then(|index| self.partitions.get_mut(index))
            .ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// The partitions with their numbers.
    pub(crate) fn numbered(&self) -> impl Iterator<Item = (i32, &Partition)> {
        (0..).zip(&self.partitions)
    }
}

// === impl Partition ===

impl Partition {
    /// A partition on `replicas`, led by the first of them that is up.
    pub(crate) fn new(replicas: Vec<NodeId>, nodes: &Nodes) -> Self {
        let leader = replicas.iter().copied().find(|id| nodes.is_up(*id));
        Self { leader, replicas, epochs: vec![(0, 0)], ..Self::default() }
    }

    /// Who leads; `None` while every replica is down.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Grows with every change of the leader.
    pub(crate) fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Its replicas, the preferred leader first.
    pub(crate) fn replicas(&self) -> &[NodeId] {
        &self.replicas
    }

    /// The replicas that are up. They all have all records: the nodes share one log.
    pub(crate) fn in_sync(&self, nodes: &Nodes) -> Vec<NodeId> {
        let live = self.replicas.iter().filter(|id| nodes.is_up(**id));
        live.copied().collect()
    }

    /// Whether `node` may answer for this partition to a client that believes in `epoch` (-1: in none).
    pub(crate) fn check_leader(&self, node: NodeId, epoch: i32) -> Result<(), ResponseError> {
        if self.leader != Some(node) {
            Err(ResponseError::NotLeaderOrFollower)
        } else if epoch >= 0 && epoch < self.leader_epoch {
            Err(ResponseError::FencedLeaderEpoch)
        } else if epoch > self.leader_epoch {
            Err(ResponseError::UnknownLeaderEpoch)
        } else {
            Ok(())
        }
    }

    /// Gives the partition a live leader, or none; a leader that is up stays.
    pub(crate) fn elect(&mut self, nodes: &Nodes) -> bool {
        if self.leader.is_some_and(|leader| nodes.is_up(leader)) {
            return false;
        }
        let next = self.in_sync(nodes).first().copied();
        self.set_leader(next)
    }

    /// Makes `leader` lead; answers whether that is a change.
    pub(crate) fn set_leader(&mut self, leader: Option<NodeId>) -> bool {
        if self.leader == leader {
            return false;
        }
        self.leader = leader;
        if leader.is_some() {
            self.leader_epoch += 1;
            self.epochs.push((self.leader_epoch, self.log.end()));
        }
        true
    }

    /// Where the records of the largest epoch up to `epoch` end: (that epoch, its end offset).
    pub(crate) fn epoch_end(&self, epoch: i32) -> Option<(i32, i64)> {
        if epoch < 0 || epoch > self.leader_epoch {
            return None;
        }
        let after = self.epochs.partition_point(|(known, _)| *known <= epoch);
        let (found, _) = self.epochs[..after].last()?;
        let end = self.epochs.get(after).map_or(self.log.end(), |next| next.1);
        Some((*found, end))
    }

    /// Remembers a connection that wants to hear of the next change.
    pub(crate) fn wait(&mut self, waiter: WaiterId) {
        self.waiters.insert(waiter);
    }

    /// Forgets a connection.
    pub(crate) fn forget(&mut self, waiter: WaiterId) {
        self.waiters.remove(&waiter);
    }

    /// The connections that waited; they wait no more.
    pub(crate) fn take_waiters(&mut self) -> BTreeSet<WaiterId> {
        std::mem::take(&mut self.waiters)
    }
}
