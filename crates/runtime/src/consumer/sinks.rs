//! The sinks of a consumer, one per target, opened when first needed; and the names of topics, looked up when unknown.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;
use tidegate_core::ids::{PartitionId, TopicId};
use tokio::sync::OnceCell;

use crate::ports::{Admin, Class, Error, Sink, TopicPartition};
use crate::spec::{Config, SinkTarget};

/// Opens the sink that a target names.
pub type SinkFactory =
    dyn Fn(&SinkTarget) -> BoxFuture<'static, Result<Arc<dyn Sink>, Error>> + Send + Sync;

/// A sink that is opened once, by whoever needs it first; a failure is tried again by the next.
type Opening = Arc<OnceCell<Arc<dyn Sink>>>;

/// Finds the sink of a partition.
pub struct Sinks {
    config: Arc<Config>,
    admin: Arc<dyn Admin>,
    open: Box<SinkFactory>,
    opened: Mutex<BTreeMap<SinkTarget, Opening>>,
    names: Mutex<BTreeMap<TopicId, String>>,
}

impl fmt::Debug for Sinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sinks")
            .field("opened", &self.opened)
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Sinks {
    /// Sinks by the spec's targets.
    pub fn new(config: Arc<Config>, admin: Arc<dyn Admin>, open: Box<SinkFactory>) -> Self {
        Self { config, admin, open, opened: Mutex::default(), names: Mutex::default() }
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
        let opening = {
            let mut opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(opened.entry(target.clone()).or_default())
        };
        opening.get_or_try_init(|| (self.open)(target)).await.cloned()
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
