//! The sinks of a consumer, one per target, opened when first needed; and the names of topics, looked up when unknown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tidegate_core::ids::{PartitionId, TopicId};
use tokio::sync::OnceCell;

use crate::ports::{Admin, Class, DeadLetters, Error, Sink, TopicPartition};
use crate::spec::{Config, DeadLetterTarget, SinkTarget};

/// Opens the sink that a target names.
pub type SinkFactory =
    dyn Fn(&SinkTarget) -> BoxFuture<'static, Result<Arc<dyn Sink>, Error>> + Send + Sync;

/// Opens the place that a target of dead letters names.
pub type DeadLetterFactory = dyn Fn(&DeadLetterTarget) -> BoxFuture<'static, Result<Arc<dyn DeadLetters>, Error>>
    + Send
    + Sync;

/// Places that are opened once, each by whoever needs it first; a failure is tried again by the next.
type Opened<K, T> = Mutex<BTreeMap<K, Arc<OnceCell<Arc<T>>>>>;

/// Finds the sink of a partition.
pub struct Sinks {
    config: Arc<Config>,
    admin: Arc<dyn Admin>,
    open: Box<SinkFactory>,
    opened: Opened<SinkTarget, dyn Sink>,
    open_dead_letters: Option<Box<DeadLetterFactory>>,
    dead_letters: Opened<DeadLetterTarget, dyn DeadLetters>,
    /// Locked while the cluster is asked for them.
    names: tokio::sync::Mutex<BTreeMap<TopicId, String>>,
    /// How often it has answered, or failed to.
    answers: AtomicU64,
}

impl fmt::Debug for Sinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sinks")
            .field("opened", &self.opened)
            .field("dead_letters", &self.dead_letters)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Sinks {
    /// Sinks by the spec's targets.
    pub fn new(config: Arc<Config>, admin: Arc<dyn Admin>, open: Box<SinkFactory>) -> Self {
        Self {
            config,
            admin,
            open,
            opened: Mutex::default(),
            open_dead_letters: None,
            dead_letters: Mutex::default(),
            names: tokio::sync::Mutex::default(),
            answers: AtomicU64::new(0),
        }
    }

    /// The same with places for the records that sinks reject.
    #[must_use]
    pub fn with_dead_letters(mut self, open: Box<DeadLetterFactory>) -> Self {
        self.open_dead_letters = Some(open);
        self
    }

    /// The partition with its topic's name, and its sink.
    pub(super) async fn find(
        &self,
        id: PartitionId,
    ) -> Result<(TopicPartition, Arc<dyn Sink>), Error> {
        let topic = self.name(id.topic).await?;
        let target = self.config.topic(&topic).map(|topic| &topic.sink).ok_or_else(|| {
            Error::new(
                Class::Permanent,
                format!("topic {topic} is not among the spec's topics: add it with its sink"),
            )
        })?;
        let sink = self.sink(target).await?;
        Ok((TopicPartition { topic, id }, sink))
    }

    async fn sink(&self, target: &SinkTarget) -> Result<Arc<dyn Sink>, Error> {
        let opening = opening(&self.opened, target);
        opening.get_or_try_init(|| (self.open)(target)).await.cloned()
    }

    /// Where the records of a topic go that its sink rejects; `None` when the spec does not say.
    pub(super) async fn dead_letters(
        &self,
        topic: &str,
    ) -> Result<Option<Arc<dyn DeadLetters>>, Error> {
        let target = self.config.topic(topic).and_then(|topic| topic.dead_letters.as_ref());
        let Some(target) = target else { return Ok(None) };
        let open = self.open_dead_letters.as_ref().ok_or_else(|| {
            let text =
                format!("this program has no dead letters, and topic {topic} wants {target}");
            Error::new(Class::Permanent, text)
        })?;
        let opening = opening(&self.dead_letters, target);
        opening.get_or_try_init(|| open(target)).await.cloned().map(Some)
    }

    /// Thousands of partitions that come at once ask together: who waits for an answer takes it, whatever it is.
    async fn name(&self, id: TopicId) -> Result<String, Error> {
        let before = self.answers.load(Ordering::Relaxed);
        let mut names = self.names.lock().await;
        if !names.contains_key(&id) && self.answers.load(Ordering::Relaxed) == before {
            let listed = self.admin.list().await;
            self.answers.fetch_add(1, Ordering::Relaxed);
            names.extend(listed?);
        }
        names.get(&id).cloned().ok_or_else(|| {
            Error::new(Class::Transient, format!("topic id {id} was not found in the cluster"))
        })
    }
}

fn opening<K: Ord + Clone, T: ?Sized>(opened: &Opened<K, T>, target: &K) -> Arc<OnceCell<Arc<T>>> {
    let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(opened.entry(target.clone()).or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use futures_util::future::join_all;
    use tidegate_core::ids::TopicId;

    use super::*;
    use crate::ports::{TopicSpec, TopicState};
    use crate::spec::GroupSpec;

    /// A cluster with one topic, which takes its time to say so.
    #[derive(Debug, Default)]
    struct Cluster {
        asked: AtomicU64,
    }

    #[async_trait]
    impl Admin for Cluster {
        async fn brokers(&self) -> Result<u32, Error> {
            unreachable!("only names are asked for")
        }

        async fn list(&self) -> Result<BTreeMap<TopicId, String>, Error> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(BTreeMap::from([(TopicId([1; 16]), "orders".to_owned())]))
        }

        async fn describe(&self, _: &[String]) -> Result<Vec<TopicState>, Error> {
            unreachable!("only names are asked for")
        }

        async fn create(&self, _: &TopicSpec) -> Result<bool, Error> {
            unreachable!("only names are asked for")
        }

        async fn grow(&self, _: &str, _: u32) -> Result<(), Error> {
            unreachable!("only names are asked for")
        }

        async fn configure(&self, _: &str, _: &BTreeMap<String, String>) -> Result<(), Error> {
            unreachable!("only names are asked for")
        }

        async fn delete(&self, _: &str) -> Result<(), Error> {
            unreachable!("only names are asked for")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_need_a_name_at_once_ask_for_it_once() {
        let yaml = "{group: g, cluster: {bootstrapServers: 'b:1'}, \
                     topics: [{name: orders, sink: 'blackhole:'}]}";
        let config = GroupSpec::parse(yaml, &BTreeMap::new()).unwrap().validate().unwrap();
        let cluster = Arc::new(Cluster::default());
        let admin = Arc::clone(&cluster) as Arc<dyn Admin>;
        let none = Box::new(|_: &_| -> BoxFuture<'static, _> { unreachable!("no sink is needed") });
        let sinks = Sinks::new(Arc::new(config), admin, none);
        let asked = || cluster.asked.load(Ordering::Relaxed);
        let names = join_all((0..100).map(|_| sinks.name(TopicId([1; 16])))).await;
        assert!(names.iter().all(|name| name.as_ref().is_ok_and(|name| name == "orders")));
        assert_eq!(asked(), 1);
        let names = join_all((0..100).map(|_| sinks.name(TopicId([2; 16])))).await;
        assert!(
            names
                .iter()
                .all(|name| name.as_ref().is_err_and(|error| error.class() == Class::Transient))
        );
        assert_eq!(asked(), 2, "that it is not there is an answer, too");
        sinks.name(TopicId([2; 16])).await.unwrap_err();
        assert_eq!(asked(), 3, "it may have been made meanwhile");
    }
}
