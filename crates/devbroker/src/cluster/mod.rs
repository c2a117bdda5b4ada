//! The state all nodes share: nodes, topics with their logs, committed offsets.
//!
//! Pure: no socket, no clock, no randomness. A change that a waiting fetch should hear of is noted
//! in `woken`; the shell collects it after each step and wakes those connections.
//! Invariants: `names` and `topics` hold the same topics; a partition's leader is up and one of its replicas.

mod groups;
mod nodes;
#[cfg(test)]
mod tests;
mod topic;

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::ResponseError;
use uuid::Uuid;

pub(crate) use self::groups::{Committed, Groups};
pub use self::nodes::NodeId;
pub(crate) use self::nodes::Nodes;
pub(crate) use self::topic::{Partition, Topic, WaiterId};
use crate::config::TopicConfig;

/// The longest topic name Apache Kafka allows.
const MAX_TOPIC_NAME: usize = 249;

/// The most partitions of a topic: half of what Apache Kafka recommends for a whole cluster. A number beyond it is a slip, and
/// would be memory at once.
const MAX_PARTITIONS: usize = 100_000;

/// A refused change: the code, and words for the client.
pub(crate) type Refusal = (ResponseError, String);

/// What a topic is created with.
#[derive(Debug, Clone, Default)]
pub(crate) struct NewTopic {
    /// Number of partitions, -1 for the broker's default; ignored with an assignment.
    pub(crate) partitions: i32,
    /// Replicas of each, -1 for the broker's default; ignored with an assignment.
    pub(crate) replication: i16,
    /// Replicas by partition, if the client chose them.
    pub(crate) assignment: Vec<Vec<NodeId>>,
    /// The topic's own settings.
    pub(crate) settings: BTreeMap<String, String>,
}

/// What the broker was started with, as far as it concerns topics.
#[derive(Debug, Clone, Default)]
pub(crate) struct Policy {
    /// Partitions of a topic whose creator leaves it to the broker.
    pub(crate) default_partitions: i32,
    /// Whether asking for a topic that does not exist creates it.
    pub(crate) auto_create: bool,
    /// Settings of topics that do not set them.
    pub(crate) topic_defaults: BTreeMap<String, String>,
}

/// Everything the nodes share.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The nodes.
    pub(crate) nodes: Nodes,
    /// Committed offsets.
    pub(crate) groups: Groups,
    policy: Policy,
    /// Tells this run's ids from those of another run.
    run: u64,
    topics: BTreeMap<String, Topic>,
    names: BTreeMap<Uuid, String>,
    created_topics: u64,
    next_producer: i64,
    woken: BTreeSet<WaiterId>,
}

// === impl Cluster: topics ===

impl Cluster {
    /// A cluster without nodes and topics. `run` becomes part of every id.
    pub(crate) fn new(policy: Policy, run: u64) -> Self {
        Self {
            nodes: Nodes::default(),
            groups: Groups::default(),
            policy,
            run,
            topics: BTreeMap::new(),
            names: BTreeMap::new(),
            created_topics: 0,
            next_producer: 1,
            woken: BTreeSet::new(),
        }
    }

    /// The cluster's id.
    pub(crate) fn id(&self) -> String {
        format!("devbroker-{:x}", self.run)
    }

    /// What the broker was started with.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// A producer id that was never given before.
    pub(crate) fn next_producer_id(&mut self) -> i64 {
        self.next_producer += 1;
        self.next_producer - 1
    }

    /// All topics by name.
    pub(crate) fn topics(&self) -> impl Iterator<Item = (&str, &Topic)> {
        self.topics.iter().map(|(name, topic)| (name.as_str(), topic))
    }

    /// The topic of this name.
    pub(crate) fn topic(&self, name: &str) -> Result<&Topic, ResponseError> {
        let topic = self.topics.get(name);
        topic.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// The topic of this name, to change it.
    pub(crate) fn topic_mut(&mut self, name: &str) -> Result<&mut Topic, ResponseError> {
        let topic = self.topics.get_mut(name);
        topic.ok_or(ResponseError::UnknownTopicOrPartition)
    }

    /// The name of the topic with this id.
    pub(crate) fn name_of(&self, id: Uuid) -> Result<&str, ResponseError> {
        let name = self.names.get(&id).map(String::as_str);
        name.ok_or(ResponseError::UnknownTopicId)
    }

    /// The partition, if it exists.
    pub(crate) fn partition(&self, topic: &str, index: i32) -> Result<&Partition, ResponseError> {
        self.topic(topic)?.partition(index)
    }

    /// The partition, to change it.
    pub(crate) fn partition_mut(
        &mut self,
        topic: &str,
        index: i32,
    ) -> Result<&mut Partition, ResponseError> {
        self.topic_mut(topic)?.partition_mut(index)
    }

    /// Creates a topic, or only checks whether it could be with `dry_run`.
    pub(crate) fn create_topic(
        &mut self,
        name: &str,
        new: NewTopic,
        dry_run: bool,
    ) -> Result<(), Refusal> {
        check_name(name)?;
        if self.topics.contains_key(name) {
            return Err(refuse(
                ResponseError::TopicAlreadyExists,
                format!("topic '{name}' already exists"),
            ));
        }
        let config = TopicConfig::new(new.settings, &self.policy.topic_defaults)
            .map_err(|fault| refuse(ResponseError::InvalidConfig, fault))?;
        let first_node = usize::try_from(self.created_topics).unwrap_or_default();
        let placed = if new.assignment.is_empty() {
            let partitions = self.partition_count(new.partitions)?;
            let replication = self.replication(new.replication)?;
            self.placed(first_node, 0..partitions, replication)
        } else {
            self.check_assignment(new.assignment)?
        };
        if dry_run {
            return Ok(());
        }
        let id = Uuid::from_u64_pair(self.run, self.created_topics + 1);
        let topic = Topic {
            id,
            config,
            replication: placed.first().map_or(0, Vec::len),
            first_node,
            partitions: self.partitions_on(placed),
        };
        self.created_topics += 1;
        self.names.insert(id, name.to_owned());
        self.topics.insert(name.to_owned(), topic);
        Ok(())
    }

    /// Raises a topic's number of partitions to `count`, or only checks whether it could with `dry_run`.
    pub(crate) fn grow_topic(
        &mut self,
        name: &str,
        count: i32,
        assignment: Option<Vec<Vec<NodeId>>>,
        dry_run: bool,
    ) -> Result<(), Refusal> {
        let unknown = |code| refuse(code, format!("the topic '{name}' does not exist"));
        let topic = self.topic(name).map_err(unknown)?;
        let now = topic.partitions.len();
        let wanted = usize::try_from(count).unwrap_or_default();
        if wanted <= now {
            let text = format!("topic has {now} partitions, so that it cannot grow to {count}");
            return Err(refuse(ResponseError::InvalidPartitions, text));
        }
        check_partitions(wanted)?;
        let placed = match assignment {
            None => self.placed(topic.first_node, now..wanted, topic.replication),
            Some(chosen) if chosen.len() == wanted - now => self.check_assignment(chosen)?,
            Some(_) => {
                let text = "assignments do not match the number of new partitions".to_owned();
                return Err(refuse(ResponseError::InvalidReplicaAssignment, text));
            }
        };
        if !dry_run {
            let added = self.partitions_on(placed);
            let topic = self.topic_mut(name).map_err(unknown)?;
            topic.partitions.extend(added);
        }
        Ok(())
    }

    /// Deletes a topic, its records and what groups committed for it.
    pub(crate) fn delete_topic(&mut self, name: &str) -> Result<Uuid, ResponseError> {
        let removed = self.topics.remove(name);
        let mut topic = removed.ok_or(ResponseError::UnknownTopicOrPartition)?;
        self.names.remove(&topic.id);
        self.groups.forget_topic(name);
        for partition in &mut topic.partitions {
            self.woken.append(&mut partition.take_waiters());
        }
        Ok(topic.id)
    }

    /// Replaces a topic's own settings.
    pub(crate) fn configure(
        &mut self,
        name: &str,
        settings: BTreeMap<String, String>,
        dry_run: bool,
    ) -> Result<(), Refusal> {
        let config = TopicConfig::new(settings, &self.policy.topic_defaults)
            .map_err(|fault| refuse(ResponseError::InvalidConfig, fault))?;
        let topic = self.topics.get_mut(name).ok_or_else(|| {
            refuse(
                ResponseError::UnknownTopicOrPartition,
                format!("the topic '{name}' does not exist"),
            )
        })?;
        if !dry_run {
            topic.config = config;
        }
        Ok(())
    }

    fn partition_count(&self, asked: i32) -> Result<usize, Refusal> {
        let count = if asked == -1 { self.policy.default_partitions } else { asked };
        let count = usize::try_from(count).ok().filter(|count| *count > 0);
        let count = count.ok_or_else(|| {
            let text = "number of partitions must be larger than 0".to_owned();
            refuse(ResponseError::InvalidPartitions, text)
        })?;
        check_partitions(count).map(|()| count)
    }

    /// The default is 3 as on a careful cluster, or as many as there are nodes.
    fn replication(&self, asked: i16) -> Result<usize, Refusal> {
        let live = self.nodes.live_count();
        let count = if asked == -1 { Some(live.min(3)) } else { usize::try_from(asked).ok() };
        count.filter(|count| (1..=live).contains(count)).ok_or_else(|| {
            let text = format!("replication factor {asked} with {live} live brokers");
            refuse(ResponseError::InvalidReplicationFactor, text)
        })
    }

    /// Replicas in turn over the live nodes, so that leaders are spread.
    fn placed(
        &self,
        first_node: usize,
        partitions: std::ops::Range<usize>,
        replication: usize,
    ) -> Vec<Vec<NodeId>> {
        let live: Vec<NodeId> = self.nodes.live().map(|(id, _)| id).collect();
        let turn = |n: usize| live[n % live.len().max(1)];
        let replicas = |partition: usize| {
            let first = first_node + partition;
            (first..first + replication.min(live.len())).map(turn).collect()
        };
        partitions.map(replicas).collect()
    }

    fn check_assignment(&self, chosen: Vec<Vec<NodeId>>) -> Result<Vec<Vec<NodeId>>, Refusal> {
        let exist = |id: &NodeId| self.nodes.get(*id).is_some();
        let distinct = |ids: &[NodeId]| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
        let good = |ids: &Vec<NodeId>| !ids.is_empty() && ids.iter().all(exist) && distinct(ids);
        if chosen.iter().all(good) {
            Ok(chosen)
        } else {
            let text = "replicas must be distinct nodes that exist".to_owned();
            Err(refuse(ResponseError::InvalidReplicaAssignment, text))
        }
    }

    fn partitions_on(&self, placed: Vec<Vec<NodeId>>) -> Vec<Partition> {
        let new = |replicas| Partition::new(replicas, &self.nodes);
        placed.into_iter().map(new).collect()
    }
}

// === impl Cluster: leaders, waiters, retention ===

impl Cluster {
    /// Marks a node as up or down; partitions get other leaders where they must.
    pub(crate) fn set_node_up(&mut self, node: NodeId, up: bool) {
        if !self.nodes.set_up(node, up) {
            return;
        }
        for topic in self.topics.values_mut() {
            for partition in &mut topic.partitions {
                if partition.elect(&self.nodes) {
                    self.woken.append(&mut partition.take_waiters());
                }
            }
        }
    }

    /// Makes a live replica the leader.
    pub(crate) fn move_leader(
        &mut self,
        topic: &str,
        index: i32,
        to: NodeId,
    ) -> Result<(), ResponseError> {
        let up = self.nodes.is_up(to);
        let partition = self.partition_mut(topic, index)?;
        if !up || !partition.replicas().contains(&to) {
            return Err(ResponseError::ReplicaNotAvailable);
        }
        if partition.set_leader(Some(to)) {
            let mut waiters = partition.take_waiters();
            self.woken.append(&mut waiters);
        }
        Ok(())
    }

    /// Notes that those who wait for the partition should look again.
    pub(crate) fn wake(&mut self, topic: &str, index: i32) {
        if let Ok(partition) = self.partition_mut(topic, index) {
            let mut waiters = partition.take_waiters();
            self.woken.append(&mut waiters);
        }
    }

    /// Those to be woken since the last call.
    pub(crate) fn take_woken(&mut self) -> BTreeSet<WaiterId> {
        std::mem::take(&mut self.woken)
    }

    /// Forgets a connection that is gone.
    pub(crate) fn forget_waiter(&mut self, waiter: WaiterId) {
        let topics = self.topics.values_mut();
        topics
            .flat_map(|topic| &mut topic.partitions)
            .for_each(|partition| partition.forget(waiter));
    }

    /// Applies every topic's retention; answers the bytes freed.
    pub(crate) fn retain(&mut self, now_ms: i64) -> u64 {
        let retain_topic = |topic: &mut Topic| -> u64 {
            let limits = *topic.config.limits();
            let partitions = topic.partitions.iter_mut();
            partitions.map(|partition| partition.log.retain(now_ms, &limits)).sum()
        };
        self.topics.values_mut().map(retain_topic).sum()
    }
}

fn refuse(code: ResponseError, text: String) -> Refusal {
    (code, text)
}

fn check_partitions(count: usize) -> Result<(), Refusal> {
    if count <= MAX_PARTITIONS {
        return Ok(());
    }
    let text = format!("{count} partitions are more than {MAX_PARTITIONS}");
    Err(refuse(ResponseError::InvalidPartitions, text))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = !name.is_empty() && name.len() <= MAX_TOPIC_NAME && name != "." && name != "..";
    if fits && name.chars().all(legal) {
        Ok(())
    } else {
        let text = format!("topic name '{name}' is illegal");
        Err(refuse(ResponseError::InvalidTopicException, text))
    }
}
