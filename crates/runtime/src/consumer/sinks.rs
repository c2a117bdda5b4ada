//! The sinks of a consumer, one per target, opened when first needed; and the names of topics, looked up when unknown.

use std::collections::BTreeMap;
use std::fmt;
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
    names: Mutex<BTreeMap<TopicId, String>>,
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
            names: Mutex::default(),
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

    async fn name(&self, id: TopicId) -> Result<String, Error> {
        if let Some(name) = self.known_name(id) {
            return Ok(name);
        }
        let listed = self.admin.list().await?;
        self.names.lock().unwrap_or_else(PoisonError::into_inner).extend(listed);
        self.known_name(id).ok_or_else(|| {
            Error::new(Class::Transient, format!("topic id {id} is not in the cluster"))
        })
    }

    fn known_name(&self, id: TopicId) -> Option<String> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }
}

fn opening<K: Ord + Clone, T: ?Sized>(opened: &Opened<K, T>, target: &K) -> Arc<OnceCell<Arc<T>>> {
    let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(opened.entry(target.clone()).or_default())
}
