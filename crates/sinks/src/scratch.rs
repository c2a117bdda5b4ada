//! A place of its own beside what a URL names: a folder in its folder, a prefix below its prefix, a schema of its database.
//! What is written there is deleted with it, and nothing else is touched. For measurements.

use std::io::ErrorKind;
use std::sync::Arc;

use tidegate_runtime::ports::{Class, Clock, Sink};
use tidegate_runtime::spec::shown;

use crate::object::place::Place;
#[cfg(feature = "s3")]
use crate::object::store::{Store, StoreError};
use crate::spec::{Error, NotOpened, SinkSpec};

/// Names that are removed at a time.
#[cfg(feature = "s3")]
const PAGE: usize = 1000;

/// Such a place, and the sink that writes to it. Sinks that keep nothing of their own are as they are.
#[derive(Debug)]
pub struct Scratch {
    /// The sink.
    pub spec: SinkSpec,
    url: String,
}

impl Scratch {
    /// Makes a place of this name.
    pub async fn make(url: &str, name: &str) -> Result<Self, Error> {
        let spec = url.parse::<SinkSpec>()?.apart(name);
        let scratch = Self { spec, url: shown(url) };
        #[cfg(feature = "postgres")]
        if let SinkSpec::Postgres(config) = scratch.spec.innermost() {
            crate::postgres::scratch::make(config).await.map_err(|cause| scratch.failed(cause))?;
        }
        Ok(scratch)
    }

    /// Opens the sink.
    pub async fn open(&self, clock: Arc<dyn Clock>) -> Result<Arc<dyn Sink>, Error> {
        self.spec.open(clock).await.map_err(|cause| cause.of(&self.url))
    }

    /// Deletes it with all that is in it.
    #[cfg_attr(not(feature = "s3"), expect(unused_variables, reason = "only buckets need a clock"))]
    pub async fn discard(self, clock: Arc<dyn Clock>) -> Result<(), Error> {
        let emptied = match self.spec.innermost() {
            SinkSpec::Object { place: Place::Folder(root), .. } => {
                match tokio::fs::remove_dir_all(root).await {
                    Err(source) if source.kind() != ErrorKind::NotFound => {
                        Err(NotOpened { class: Class::Permanent, source: source.into() })
                    }
                    _ => Ok(()),
                }
            }
            #[cfg(feature = "s3")]
            SinkSpec::Object { place, config } => {
                let emptied = async {
                    let store = place.existing(config, clock).await?;
                    Box::pin(empty(&*store, String::new())).await
                };
                emptied.await.map_err(NotOpened::from)
            }
            #[cfg(feature = "postgres")]
            SinkSpec::Postgres(config) => {
                crate::postgres::scratch::discard(config).await.map_err(NotOpened::from)
            }
            _ => Ok(()),
        };
        emptied.map_err(|cause| self.failed(cause))
    }

    fn failed(&self, cause: impl Into<NotOpened>) -> Error {
        let NotOpened { class, source } = cause.into();
        Error::Scratch { url: self.url.clone(), class, source }
    }
}

impl SinkSpec {
    fn apart(self, name: &str) -> Self {
        match self {
            Self::Object { place, config } => Self::Object { place: place.below(name), config },
            #[cfg(feature = "postgres")]
            Self::Postgres(config) => {
                let schema = name.to_owned();
                Self::Postgres(Box::new(crate::postgres::PostgresConfig { schema, ..*config }))
            }
            Self::Delay { delays, inner } => {
                Self::Delay { delays, inner: Box::new(inner.apart(name)) }
            }
            other => other,
        }
    }

    /// The sink behind all delays.
    fn innermost(&self) -> &Self {
        match self {
            Self::Delay { inner, .. } => inner.innermost(),
            other => other,
        }
    }
}

/// Removes all objects below a folder.
#[cfg(feature = "s3")]
async fn empty(store: &dyn Store, folder: String) -> Result<(), StoreError> {
    for name in store.folders(&folder).await? {
        let inner = if folder.is_empty() { name } else { format!("{folder}/{name}") };
        Box::pin(empty(store, inner)).await?;
    }
    if folder.is_empty() {
        return Ok(());
    }
    loop {
        let names = store.list(&folder, None, PAGE).await?;
        if names.is_empty() {
            return Ok(());
        }
        for name in names {
            store.remove(&folder, &name).await?;
        }
    }
}
