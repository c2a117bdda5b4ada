//! Faults that a test arms: what to do to which requests, how often, after how many.
//!
//! Deterministic: a rule counts the requests it matches and nothing else, and the first armed rule
//! that matches a request decides alone. This module decides; the connection and the handlers act.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::ApiKey;

use crate::cluster::NodeId;

/// What happens to a request that a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultAction {
    /// The connection closes and the request has no effect.
    DropConnection,
    /// The request is handled this much later. Requests behind it on the connection wait too.
    Delay(Duration),
    /// The request has no effect where the rule matches, and answers with this code there.
    Error(ResponseError),
    /// A produced batch is kept twice, as by a broker that forgot its producer's sequence.
    DuplicateAppend,
    /// The request takes effect and the connection closes without an answer: an unknown outcome.
    ApplyThenDrop,
}

/// Which requests a fault is for, and how many of them.
#[derive(Debug, Clone)]
pub struct FaultRule {
    api: ApiKey,
    action: FaultAction,
    node: Option<NodeId>,
    client_id: Option<String>,
    partition: Option<(String, i32)>,
    skip: u64,
    times: Option<u64>,
}

/// Names an armed rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

/// The facts of a request that rules look at.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// What it asks for.
    pub(crate) api: ApiKey,
    /// The node it arrived at.
    pub(crate) node: NodeId,
    /// The client's name for itself.
    pub(crate) client_id: &'a str,
    /// The partitions it names; may be empty unless [`Faults::by_partition`].
    pub(crate) partitions: &'a BTreeSet<(String, i32)>,
}

/// A fault that strikes one request.
#[derive(Debug, Clone)]
pub(crate) struct Fault {
    /// What to do.
    pub(crate) action: FaultAction,
    partition: Option<(String, i32)>,
}

/// The armed rules.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: BTreeMap<FaultId, Armed>,
    next: u64,
}

#[derive(Debug)]
struct Armed {
    rule: FaultRule,
    seen: u64,
    hits: u64,
}

// === impl FaultRule ===

impl FaultRule {
    /// A rule for every request of this kind, on every node and for ever.
    pub fn new(api: ApiKey, action: FaultAction) -> Self {
        Self { api, action, node: None, client_id: None, partition: None, skip: 0, times: None }
    }

    /// Only requests that arrive at this node.
    #[must_use]
    pub fn on_node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }

    /// Only requests of the client that gives itself this name (`client.id`).
    #[must_use]
    pub fn from_client(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = Some(client_id.into());
        self
    }

    /// Only requests that name this partition. An error or a duplicate then strikes only it; the other actions strike the whole request.
    ///
    /// Known for Produce, Fetch, `ListOffsets`, `OffsetCommit`, `OffsetFetch` and `DeleteRecords`;
    /// other requests name no partitions and are not matched.
    #[must_use]
    pub fn on_partition(mut self, topic: impl Into<String>, partition: i32) -> Self {
        self.partition = Some((topic.into(), partition));
        self
    }

    /// Lets the first `count` matching requests pass.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        self.skip = count;
        self
    }

    /// Strikes at most `count` times.
    #[must_use]
    pub fn times(mut self, count: u64) -> Self {
        self.times = Some(count);
        self
    }

    fn matches(&self, call: &Call<'_>) -> bool {
        let here = self.node.is_none_or(|node| node == call.node);
        let whose = self.client_id.as_deref();
        let theirs = whose.is_none_or(|client| client == call.client_id);
        let named = self.partition.as_ref();
        let names = named.is_none_or(|named| call.partitions.contains(named));
        self.api == call.api && here && theirs && names
    }
}

// === impl Faults ===

impl Faults {
    /// Arms a rule behind those that are armed.
    pub(crate) fn arm(&mut self, rule: FaultRule) -> FaultId {
        let id = FaultId(self.next);
        self.next += 1;
        let armed = Armed { rule, seen: 0, hits: 0 };
        self.rules.insert(id, armed);
        id
    }

    /// Disarms a rule; answers how often it struck.
    pub(crate) fn disarm(&mut self, id: FaultId) -> Option<u64> {
        self.rules.remove(&id).map(|armed| armed.hits)
    }

    /// Disarms every rule.
    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// How often a rule struck, `None` once it is disarmed.
    pub(crate) fn hits(&self, id: FaultId) -> Option<u64> {
        self.rules.get(&id).map(|armed| armed.hits)
    }

    /// Whether a rule for `api` looks at partitions.
    pub(crate) fn by_partition(&self, api: ApiKey) -> bool {
        let mut rules = self.rules.values().map(|armed| &armed.rule);
        rules.any(|rule| rule.api == api && rule.partition.is_some())
    }

    /// The fault that strikes this request, if any. Counts it.
    pub(crate) fn strike(&mut self, call: &Call<'_>) -> Option<Fault> {
        self.rules.values_mut().find_map(|armed| armed.strike(call))
    }
}

impl Armed {
    fn strike(&mut self, call: &Call<'_>) -> Option<Fault> {
        let spent = self.rule.times.is_some_and(|times| self.hits >= times);
        if spent || !self.rule.matches(call) {
            return None;
        }
        self.seen += 1;
        if self.seen <= self.rule.skip {
            return None;
        }
        self.hits += 1;
        Some(Fault { action: self.rule.action, partition: self.rule.partition.clone() })
    }
}

// === impl Fault ===

impl Fault {
    /// The error to answer with for this partition.
    pub(crate) fn error_for(&self, topic: &str, partition: i32) -> Option<ResponseError> {
        match self.action {
            FaultAction::Error(code) if self.strikes(topic, partition) => Some(code),
            _ => None,
        }
    }

    /// The error to answer with for the whole request.
    pub(crate) fn error(&self) -> Option<ResponseError> {
        match self.action {
            FaultAction::Error(code) if self.partition.is_none() => Some(code),
            _ => None,
        }
    }

    /// Whether this partition's batch is to be kept twice.
    pub(crate) fn duplicates(&self, topic: &str, partition: i32) -> bool {
        self.action == FaultAction::DuplicateAppend && self.strikes(topic, partition)
    }

    fn strikes(&self, topic: &str, partition: i32) -> bool {
        let named = self.partition.as_ref();
        named.is_none_or(|(name, index)| name == topic && *index == partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(faults: &mut Faults, count: usize, partitions: &[(&str, i32)]) -> Vec<bool> {
        let partitions = partitions.iter().map(|(t, p)| ((*t).to_owned(), *p)).collect();
        let call = Call {
            api: ApiKey::Produce,
            node: NodeId::new(1),
            client_id: "c",
            partitions: &partitions,
        };
        (0..count).map(|_| faults.strike(&call).is_some()).collect()
    }

    fn rule() -> FaultRule {
        FaultRule::new(ApiKey::Produce, FaultAction::DropConnection)
    }

    #[test]
    fn a_rule_strikes_after_those_it_skips_and_as_often_as_it_says() {
        let mut faults = Faults::default();
        let id = faults.arm(rule().after(1).times(2));
        let struck = hits(&mut faults, 5, &[]);
        assert_eq!(struck, [false, true, true, false, false]);
        assert_eq!(faults.hits(id), Some(2));
        assert_eq!(faults.disarm(id), Some(2));
    }

    #[test]
    fn a_rule_for_a_partition_leaves_the_others_alone() {
        let mut faults = Faults::default();
        faults.arm(rule().on_partition("t", 1));
        assert!(faults.by_partition(ApiKey::Produce) && !faults.by_partition(ApiKey::Fetch));
        assert_eq!(hits(&mut faults, 1, &[("t", 0), ("u", 1)]), [false]);
        assert_eq!(hits(&mut faults, 1, &[("t", 0), ("t", 1)]), [true]);
    }

    #[test]
    fn node_and_client_narrow_a_rule() {
        let mut faults = Faults::default();
        faults.arm(rule().on_node(NodeId::new(2)));
        faults.arm(rule().from_client("other"));
        assert_eq!(hits(&mut faults, 1, &[]), [false]);
        faults.arm(rule().on_node(NodeId::new(1)).from_client("c"));
        assert_eq!(hits(&mut faults, 1, &[]), [true]);
    }

    #[test]
    fn an_error_for_a_partition_strikes_only_it() {
        let action = FaultAction::Error(ResponseError::NotEnoughReplicas);
        let fault = Fault { action, partition: Some(("t".to_owned(), 0)) };
        assert!(fault.error_for("t", 0).is_some());
        assert!(fault.error_for("t", 1).is_none() && fault.error().is_none());
    }
}
