//! A cluster as the thin layer sees it: its brokers, one connection to each, and who leads what.
//!
//! Connections are opened when they are needed and shared by all callers; one that broke is replaced by the next call,
//! and a broker that cannot be reached is left alone for a growing pause, so that a dead one costs a caller nothing but
//! the error. Leaders are kept until somebody finds one wrong and calls [`Cluster::forget`].
//!
//! The lock guards lookups only: nothing waits while it is held. Two callers may therefore open a connection to one
//! broker at the same time; the second to finish is kept for its own call alone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kafka_protocol::messages::{MetadataRequest, TopicName};
use kafka_protocol::protocol::StrBytes;
use tidegate_core::ids::TopicId;
use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::security;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::connection::{Access, Connection, QUICK_TIMEOUT, Traffic};
use crate::errors::{self, Right};
use crate::metadata::{Metadata, TopicMeta};
use crate::oauth::Tokens;
use crate::transport::Address;

/// Between two looks at metadata that may be behind.
const GLANCE: Duration = Duration::from_millis(50);

/// For how long a topic that the metadata does not list is looked for again: after a creation the brokers learn of it
/// one after the other, within some tens of milliseconds.
const PROPAGATION: Duration = Duration::from_secs(1);

/// For how long nothing but earlier leaders must be told before they are believed.
const LONGEST_BEHIND: Duration = Duration::from_secs(60);

/// The highest version of Metadata that is asked for; from 10 on it carries topic ids.
const METADATA_VERSION: i16 = 12;

/// The brokers of one cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    bootstrap: Vec<Address>,
    access: Arc<Access>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    brokers: BTreeMap<i32, Broker>,
    leaders: BTreeMap<String, TopicMeta>,
    /// The highest leader epoch that any broker has told of a partition, and since when only lower ones are told.
    epochs: BTreeMap<TopicId, BTreeMap<u32, (i32, Option<Instant>)>>,
    first_bootstrap: usize,
    /// The broker to ask for metadata, after another one was found to be behind.
    preferred: Option<i32>,
}

#[derive(Debug)]
struct Broker {
    address: Address,
    connection: Option<Arc<Connection>>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// The leader of a partition, with a connection to it.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    pub(crate) broker: i32,
    pub(crate) epoch: i32,
    pub(crate) connection: Arc<Connection>,
}

// === impl Cluster ===

impl Cluster {
    /// Knows the settings; connects to nobody yet.
    pub(crate) fn new(cluster: &security::Cluster, client_id: &str) -> Result<Self, Error> {
        let bootstrap = Address::parse_list(&cluster.bootstrap_servers);
        if bootstrap.is_empty() {
            let text = format!(
                "bootstrapServers is {:?}: give HOST:PORT of one or more brokers, separated by commas",
                cluster.bootstrap_servers
            );
            return Err(Error::new(Class::Permanent, text));
        }
        Ok(Self {
            bootstrap,
            access: Arc::new(Access::new(cluster.security.clone(), client_id)?),
            state: Mutex::default(),
        })
    }

    /// Where bearer tokens come from, if the settings have any.
    pub(crate) fn tokens(&self) -> Option<&Tokens> {
        self.access.tokens()
    }

    /// What was sent and received so far.
    pub(crate) fn traffic(&self) -> Traffic {
        self.access.traffic()
    }

    /// A connection to a broker of the last metadata, shared with other callers.
    pub(crate) async fn broker(&self, id: i32) -> Result<Arc<Connection>, Error> {
        let address = {
            let mut state = self.lock();
            let Some(broker) = state.brokers.get_mut(&id) else {
                let text = format!("broker {id} is not in the cluster's metadata");
                return Err(Error::new(Class::Transient, text));
            };
            match broker.live() {
                Some(connection) => return Ok(connection),
                None => broker.dial()?,
            }
        };
        let opened = self.open(address).await;
        let mut state = self.lock();
        let Some(broker) = state.brokers.get_mut(&id) else { return opened.map(Arc::new) };
        broker.note(opened)
    }

    /// A connection of its own to a broker, for requests that the broker may hold back: it answers the requests of one
    /// connection in order.
    pub(crate) async fn dedicated(&self, id: i32) -> Result<Connection, Error> {
        let address = self.lock().brokers.get(&id).map(|broker| broker.address.clone());
        let Some(address) = address else {
            let text = format!("broker {id} is not in the cluster's metadata");
            return Err(Error::new(Class::Transient, text));
        };
        self.open(address).await
    }

    /// A connection to any broker: a known one, else one of the bootstrap list.
    pub(crate) async fn any(&self) -> Result<Arc<Connection>, Error> {
        if let Some(connection) = self.preferred().await {
            return Ok(connection);
        }
        let live = self.lock().brokers.values_mut().find_map(Broker::live);
        if let Some(connection) = live {
            return Ok(connection);
        }
        let known: Vec<i32> = self.lock().brokers.keys().copied().collect();
        for id in known {
            if let Ok(connection) = self.broker(id).await {
                return Ok(connection);
            }
        }
        self.bootstrap().await
    }

    /// A connection to the broker whose turn it is, if it can be reached.
    async fn preferred(&self) -> Option<Arc<Connection>> {
        let id = {
            let mut state = self.lock();
            let id = state.preferred?;
            if let Some(connection) = state.brokers.get_mut(&id).and_then(Broker::live) {
                return Some(connection);
            }
            // To dial may take long, and be given up by the caller: whoever comes next tries the next one.
            state.ask_another();
            id
        };
        let connection = self.broker(id).await.ok()?;
        self.lock().preferred = Some(id);
        Some(connection)
    }

    /// The next request for metadata goes to another broker: this one seems to be behind.
    pub(crate) fn ask_another(&self) {
        self.lock().ask_another();
    }

    async fn bootstrap(&self) -> Result<Arc<Connection>, Error> {
        let count = self.bootstrap.len();
        let first = self.lock().first_bootstrap;
        let mut last = None;
        for at in (0..count).map(|step| (first + step) % count) {
            match self.open(self.bootstrap[at].clone()).await {
                Ok(connection) => {
                    self.lock().first_bootstrap = at;
                    return Ok(Arc::new(connection));
                }
                Err(error) if error.class() == Class::Permanent => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(Class::Permanent, "no bootstrap server is given")))
    }

    async fn open(&self, address: Address) -> Result<Connection, Error> {
        Connection::open(address, Arc::clone(&self.access)).await
    }

    /// Asks for the metadata of the named topics, or of all with `None`, and remembers brokers and leaders.
    pub(crate) async fn metadata(&self, topics: Option<&[String]>) -> Result<Metadata, Error> {
        let names = topics.map(|names| {
            let topic = |name: &String| {
                kafka_protocol::messages::metadata_request::MetadataRequestTopic::default()
                    .with_name(Some(topic_name(name)))
            };
            names.iter().map(topic).collect()
        });
        let request =
            MetadataRequest::default().with_topics(names).with_allow_auto_topic_creation(false);
        let connection = self.any().await?;
        let version = connection.version::<MetadataRequest>(METADATA_VERSION)?;
        if version < 10 {
            let text = "the brokers are older than Apache Kafka 2.8 and give topics no ids";
            return Err(Error::new(Class::Permanent, text));
        }
        let answer = connection.call(&request, version, QUICK_TIMEOUT).await;
        let mut metadata = Metadata::from_answer(answer.inspect_err(|_| self.ask_another())?);
        let mut state = self.lock();
        state.learn(&metadata);
        if topics.is_none() {
            state.forget_others(&metadata);
        }
        state.doubt(&mut metadata, Instant::now());
        if metadata.behind {
            state.ask_another();
        }
        Ok(metadata)
    }

    /// What the metadata says of one topic; asked anew unless it is known.
    pub(crate) async fn topic(&self, topic: &str) -> Result<TopicMeta, Error> {
        let known = self.lock().leaders.get(topic).cloned();
        match known {
            Some(known) => Ok(known),
            None => self.look_up(topic).await,
        }
    }

    /// What is known of topics, and of those that are not known what a broker says now, in one answer. With `anew` none counts
    /// as known.
    pub(crate) async fn topics(
        &self,
        names: &BTreeSet<String>,
        anew: bool,
    ) -> BTreeMap<String, Result<TopicMeta, Error>> {
        let known =
            |name: &String| Some((name.clone(), Ok(self.lock().leaders.get(name)?.clone())));
        let mut found: BTreeMap<_, _> =
            if anew { BTreeMap::new() } else { names.iter().filter_map(known).collect() };
        let unknown: Vec<String> =
            names.iter().filter(|name| !found.contains_key(*name)).cloned().collect();
        if unknown.is_empty() {
            return found;
        }
        let mut answer = self.metadata(Some(&unknown)).await;
        for name in unknown {
            let told = answer.as_mut().map(|metadata| metadata.topics.remove(&name));
            let outcome = match told {
                Ok(Some(Ok(meta))) => {
                    self.lock().leaders.insert(name.clone(), meta.clone());
                    Ok(meta)
                }
                // One that was just made, or is gone: that takes a second look.
                Ok(_) => self.look_up(&name).await,
                Err(error) => Err(errors::again(error)),
            };
            found.insert(name, outcome);
        }
        found
    }

    /// What the metadata says of one topic now.
    pub(crate) async fn look_up(&self, topic: &str) -> Result<TopicMeta, Error> {
        let deadline = Instant::now() + PROPAGATION;
        loop {
            let mut metadata = self.metadata(Some(&[topic.to_owned()])).await?;
            let code = match metadata.topics.remove(topic) {
                Some(Ok(found)) => {
                    if metadata.behind && Instant::now() < deadline {
                        tokio::time::sleep(GLANCE).await;
                        continue;
                    }
                    self.lock().leaders.insert(topic.to_owned(), found.clone());
                    return Ok(found);
                }
                Some(Err(code)) => code,
                None => kafka_protocol::ResponseError::UnknownTopicOrPartition,
            };
            if !errors::is_stale_metadata(code) || Instant::now() >= deadline {
                let doing = format!("failed to look up topic {topic}");
                return Err(errors::refused(doing, Right::topic("Describe", topic), code, None));
            }
            // It may have been made a moment ago, and this broker be the last to learn of it, or cut off.
            self.ask_another();
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// Makes sure that a partition exists, and costs nothing once it is known to.
    pub(crate) async fn check(&self, topic: &str, partition: u32) -> Result<(), Error> {
        let known = |state: &State| {
            state.leaders.get(topic).is_some_and(|meta| meta.partitions.contains_key(&partition))
        };
        if known(&self.lock()) {
            return Ok(());
        }
        self.new_partition(topic, partition).await.map(|_| ())
    }

    /// Forgets who leads a topic: somebody was answered by a broker that does not.
    pub(crate) fn forget(&self, topic: &str) {
        self.lock().leaders.remove(topic);
    }

    /// The leader of a partition.
    pub(crate) async fn leader(&self, topic: &str, partition: u32) -> Result<Leader, Error> {
        let meta = self.topic(topic).await?;
        let found = match meta.partitions.get(&partition) {
            Some(found) => found.clone(),
            None => self.new_partition(topic, partition).await?,
        };
        let Some(broker) = found.leader else {
            self.forget(topic);
            let text = format!("partition {topic}-{partition} has no leader at the moment");
            return Err(Error::new(Class::Transient, text));
        };
        match self.broker(broker).await {
            Ok(connection) => Ok(Leader { broker, epoch: found.leader_epoch, connection }),
            Err(error) => {
                self.forget(topic);
                Err(error)
            }
        }
    }

    /// Looks for a partition that the last metadata did not have.
    async fn new_partition(
        &self,
        topic: &str,
        partition: u32,
    ) -> Result<crate::metadata::PartitionMeta, Error> {
        let mut meta = self.look_up(topic).await?;
        meta.partitions.remove(&partition).ok_or_else(|| errors::topic_missing(topic))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is a cache: whatever a panic left in it is checked by its next use.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A topic's name as the protocol library wants it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

// === impl State ===

impl State {
    fn learn(&mut self, metadata: &Metadata) {
        self.brokers.retain(|id, _| metadata.brokers.contains_key(id));
        for (id, address) in &metadata.brokers {
            match self.brokers.get_mut(id) {
                Some(broker) if broker.address == *address => {}
                _ => {
                    self.brokers.insert(*id, Broker::new(address.clone()));
                }
            }
        }
    }

    /// Takes the leaders out of an answer that were replaced since, as another broker has told: one that is cut off from the
    /// cluster goes on answering with what it knew. What is told for long, and nothing else, is believed: a cluster may have been
    /// restored.
    fn doubt(&mut self, metadata: &mut Metadata, now: Instant) {
        for topic in metadata.topics.values_mut().flatten() {
            let epochs = self.epochs.entry(topic.id).or_default();
            if !epochs.keys().eq(topic.partitions.keys()) {
                let new =
                    topic.partitions.iter().filter(|(number, _)| !epochs.contains_key(number));
                let new = new.map(|(number, told)| (*number, (told.leader_epoch, None)));
                let mut new: BTreeMap<_, _> = new.collect();
                epochs.append(&mut new);
            }
            // All of them are known now, and both are in order.
            let mut epochs = epochs.iter_mut();
            for (number, told) in &mut topic.partitions {
                let known = epochs.find(|(known, _)| *known == number);
                let Some((_, (known, behind))) = known else { break };
                let since = *behind.get_or_insert(now);
                if told.leader_epoch < *known && now.duration_since(since) < LONGEST_BEHIND {
                    (told.leader, metadata.behind) = (None, true);
                } else {
                    (*known, *behind) = (told.leader_epoch, None);
                }
            }
        }
    }

    /// Forgets the partitions of topics that are not there any more.
    fn forget_others(&mut self, all: &Metadata) {
        let ids: BTreeSet<_> = all.topics.values().flatten().map(|topic| topic.id).collect();
        self.epochs.retain(|topic, _| ids.contains(topic));
    }

    /// The next request for metadata goes to the next broker.
    fn ask_another(&mut self) {
        let after = self.preferred.and_then(|id| self.brokers.range(id + 1..).next());
        self.preferred = after.or_else(|| self.brokers.iter().next()).map(|(id, _)| *id);
    }
}

// === impl Broker ===

impl Broker {
    fn new(address: Address) -> Self {
        Self { address, connection: None, backoff: Backoff::default(), not_before: None }
    }

    fn live(&mut self) -> Option<Arc<Connection>> {
        if self.connection.as_ref().is_some_and(|connection| connection.is_spent()) {
            tracing::debug!(broker = %self.address, "a connection is spent, another takes its place");
            self.connection = None;
        }
        self.connection.clone()
    }

    /// Where to connect, unless it was tried in vain a moment ago.
    fn dial(&self) -> Result<Address, Error> {
        if self.not_before.is_some_and(|not_before| Instant::now() < not_before) {
            let text = format!("broker {} could not be reached a moment ago", self.address);
            return Err(Error::new(Class::Transient, text));
        }
        Ok(self.address.clone())
    }

    /// Keeps a new connection, or the time before which not to try again.
    fn note(&mut self, opened: Result<Connection, Error>) -> Result<Arc<Connection>, Error> {
        match opened {
            Ok(connection) => {
                let connection = Arc::new(connection);
                self.backoff.succeeded();
                self.not_before = None;
                if self.live().is_none() {
                    self.connection = Some(Arc::clone(&connection));
                }
                Ok(connection)
            }
            Err(error) => {
                self.not_before = Some(Instant::now() + self.backoff.failed());
                Err(error)
            }
        }
    }
}

/// Tries again what failed with class Transient, with growing pauses, until a deadline.
#[derive(Debug)]
pub(crate) struct Retry {
    deadline: Instant,
    backoff: Backoff,
}

impl Retry {
    /// Tries until this much time has passed.
    pub(crate) fn within(time: Duration) -> Self {
        Self { deadline: Instant::now() + time, backoff: Backoff::default() }
    }

    /// Waits and returns true when another try is due after this error.
    pub(crate) async fn again(&mut self, error: &Error) -> bool {
        let pause = self.backoff.failed();
        if error.class() != Class::Transient || Instant::now() + pause >= self.deadline {
            return false;
        }
        tracing::debug!(error = %error, pause_ms = pause.as_millis(), "trying again");
        tokio::time::sleep(pause).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::metadata_response::{
        MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
    };
    use kafka_protocol::messages::{BrokerId, MetadataResponse};

    use super::*;

    /// What a broker tells of a topic with one partition.
    fn told(leader: i32, epoch: i32) -> Metadata {
        let broker = |id| MetadataResponseBroker::default().with_node_id(BrokerId(id)).with_port(9);
        let partition = MetadataResponsePartition::default()
            .with_leader_id(BrokerId(leader))
            .with_leader_epoch(epoch);
        let topic = MetadataResponseTopic::default()
            .with_name(Some(topic_name("orders")))
            .with_partitions(vec![partition]);
        let answer = MetadataResponse::default()
            .with_brokers([1, 2, 3].map(broker).into())
            .with_topics(vec![topic]);
        Metadata::from_answer(answer)
    }

    fn leader(state: &mut State, mut metadata: Metadata) -> (Option<i32>, bool) {
        leader_at(state, Instant::now(), &mut metadata)
    }

    fn leader_at(state: &mut State, now: Instant, metadata: &mut Metadata) -> (Option<i32>, bool) {
        state.learn(metadata);
        state.doubt(metadata, now);
        let topic = metadata.topics["orders"].as_ref().unwrap();
        (topic.partitions[&0].leader, metadata.behind)
    }

    #[test]
    fn a_leader_that_was_replaced_is_not_believed_again() {
        let mut state = State::default();
        assert_eq!(leader(&mut state, told(1, 4)), (Some(1), false));
        assert_eq!(leader(&mut state, told(2, 5)), (Some(2), false));
        assert_eq!(leader(&mut state, told(1, 4)), (None, true), "from a broker that is cut off");
        assert_eq!(leader(&mut state, told(2, 5)), (Some(2), false));
        let began = Instant::now();
        assert_eq!(leader_at(&mut state, began, &mut told(1, 4)), (None, true));
        let later = began + Duration::from_secs(60);
        let restored = leader_at(&mut state, later, &mut told(1, 4));
        assert_eq!(restored, (Some(1), false), "a cluster that was restored");
    }

    #[test]
    fn who_is_behind_is_not_asked_again_before_the_others() {
        let mut state = State::default();
        state.learn(&told(1, 4));
        let mut asked = Vec::new();
        for _ in 0..4 {
            state.ask_another();
            asked.extend(state.preferred);
        }
        assert_eq!(asked, [1, 2, 3, 1]);
    }
}
