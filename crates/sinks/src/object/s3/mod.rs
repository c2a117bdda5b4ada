//! Objects in a bucket of S3, or of a server that speaks like it.
//!
//! An object is one put with the condition that there is none of this name (`If-None-Match: *`): of two writers the
//! server lets one succeed, and nobody sees half an object. Nothing else is needed: no leftovers, no locks. Buckets of
//! S3 Express cannot list from a name on, and are not supported.
//!
//! A put is sent again, within four seconds, when no connection came about or the server said that it failed (5xx,
//! 429). What the first try did is then unknown, and the answer to the second may be that the name is taken; the sink
//! looks at whose object it is. A put whose connection broke or that got no answer in time is not sent again: its outcome
//! is unknown, and the caller acquires anew. It runs in a task of its own, so that a caller who gives up still waits for
//! its end, and not for a stray put, at the next `acquire`.

mod bucket;
mod tail;
mod transport;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::{
    BackoffConfig, GetOptions, GetRange, GetResult, ObjectStore as _, ObjectStoreExt as _, PutMode,
    PutPayload, RetryConfig,
};
use tidegate_core::ids::{FencingToken, Position};
use tidegate_runtime::ports::Class;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use self::tail::{Page, Search, Step};
use self::transport::{Connector, Refusal};
use super::layout;
use super::store::{Created, Creation, Head, Store, StoreError, Stored};

pub use self::bucket::Bucket;
use self::bucket::Lifetime;

/// No retry of a request begins later than this: below the five seconds of `ownership.writeTimeout`.
const RETRY_FOR: Duration = Duration::from_secs(4);

/// Retries of a request: three double the pause from 100 ms on, and stay below the limit above.
const RETRIES: usize = 3;

/// Names in one answer: the most that S3 gives.
const PAGE: usize = 1000;

/// A prefix of a bucket that keeps objects.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: AmazonS3,
    bucket: Arc<Bucket>,
    lifetime: Lifetime,
    /// Bounds the connections that writes take, and with them the memory that waits for the network.
    writes: Arc<Semaphore>,
    /// The puts under way; those that have ended are joined by the next one.
    puts: Arc<Mutex<JoinSet<()>>>,
}

/// Variables whose names begin with `AWS_`: credentials, where to get them, a region.
#[derive(Clone)]
pub struct Environment(Vec<(String, String)>);

/// No credentials were found.
#[derive(Debug, thiserror::Error)]
#[error(
    "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN, in \
     the environment, or give this machine a role"
)]
struct NoCredentials(#[source] object_store::Error);

// === impl Environment ===

impl Environment {
    /// That of this process.
    pub fn of_process() -> Self {
        let variables = std::env::vars_os();
        Self::new(variables.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    /// One of these variables.
    pub fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self(variables.into_iter().filter(|(name, _)| name.starts_with("AWS_")).collect())
    }

    /// Keys in the environment come before everything that could renew them.
    fn lifetime(&self) -> Lifetime {
        let has = |wanted| self.0.iter().any(|(name, _)| name == wanted);
        let keys = has("AWS_ACCESS_KEY_ID") && has("AWS_SECRET_ACCESS_KEY");
        if keys { Lifetime::OfProcess } else { Lifetime::Renewed }
    }
}

impl fmt::Debug for Environment {
    /// The names only: values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

// === impl S3Store ===

impl S3Store {
    /// Opens a bucket with the credentials that an environment names, and sees that there are some. At most
    /// `parallel_writes` objects are written at a time.
    pub async fn open(
        bucket: &Bucket,
        environment: &Environment,
        parallel_writes: usize,
    ) -> Result<Self, StoreError> {
        let connector = Connector::new(bucket.request_timeout).map_err(|error| {
            failed("prepare TLS for", bucket.to_string(), Class::Permanent, error)
        })?;
        let client = builder(bucket, environment).with_http_connector(connector).build();
        let client =
            client.map_err(|error| failed("open", bucket.to_string(), Class::Permanent, error))?;
        // Credentials may come from a service of the platform that is not up yet.
        client.credentials().get_credential().await.map_err(|error| {
            failed("open", bucket.to_string(), Class::Transient, NoCredentials(error))
        })?;
        Ok(Self {
            client,
            bucket: Arc::new(bucket.clone()),
            lifetime: environment.lifetime(),
            writes: Arc::new(Semaphore::new(parallel_writes)),
            puts: Arc::default(),
        })
    }

    /// The key of what is in a folder, or of a folder.
    fn key(&self, folder: &str, name: &str) -> String {
        let parts = [self.bucket.prefix.as_str(), folder, name];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        parts.join("/")
    }

    fn path(&self, folder: &str, name: &str) -> Result<Path, StoreError> {
        let key = self.key(folder, name);
        Path::parse(&key).map_err(|error| failed("name", key, Class::Permanent, error))
    }

    fn failed(
        &self,
        doing: &'static str,
        object: String,
        error: &object_store::Error,
    ) -> StoreError {
        let (class, advice) = self.bucket.judge(error, self.lifetime);
        failed(doing, object, class, advice)
    }

    async fn put(
        &self,
        folder: &str,
        name: &str,
        parts: Vec<Bytes>,
    ) -> Result<Created, StoreError> {
        let path = self.path(folder, name)?;
        let payload: PutPayload = parts.into_iter().collect();
        match self.client.put_opts(&path, payload, PutMode::Create.into()).await {
            Ok(_) => Ok(Created::Done),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(Created::Taken),
            Err(error) => Err(self.failed("create", path.to_string(), &error)),
        }
    }

    /// One page of what is in a folder behind a name: object names, folder names, and where the next page begins.
    async fn page(
        &self,
        folder: &str,
        after: Option<&str>,
        page_token: Option<String>,
    ) -> Result<Listed, StoreError> {
        let prefix = self.key(folder, "");
        let prefix = if prefix.is_empty() { prefix } else { format!("{prefix}/") };
        let options = PaginatedListOptions {
            offset: after.map(|after| format!("{prefix}{after}")),
            delimiter: Some("/".into()),
            max_keys: Some(PAGE),
            page_token,
            ..PaginatedListOptions::default()
        };
        let listed = self.client.list_paginated(Some(&prefix), options).await;
        let listed = listed.map_err(|error| self.failed("list", prefix, &error))?;
        let name = |path: &Path| path.filename().map(ToOwned::to_owned);
        Ok(Listed {
            names: listed.result.objects.iter().filter_map(|meta| name(&meta.location)).collect(),
            folders: listed.result.common_prefixes.iter().filter_map(name).collect(),
            next: listed.page_token,
        })
    }

    /// The positions behind one: all that a page has, and pages until they are `count`.
    async fn positions(
        &self,
        folder: &str,
        after: Option<Position>,
        up_to: Option<Position>,
        count: usize,
    ) -> Result<Page, StoreError> {
        let limit = layout::name(up_to.unwrap_or(Position(u64::MAX)));
        let after = after.map(layout::name);
        let (mut positions, mut next) = (Vec::new(), None);
        loop {
            let listed = self.page(folder, after.as_deref(), next).await?;
            let is_end = listed.names.iter().any(|name| *name > limit);
            let within = listed.names.iter().filter(|name| **name <= limit);
            positions.extend(within.filter_map(|name| layout::position(name)));
            next = listed.next.filter(|_| !is_end);
            if next.is_none() || positions.len() >= count {
                return Ok(Page { positions, more: next.is_some() });
            }
        }
    }

    /// The first `bytes` of an object, and all that the answer tells; `None` when there is none.
    async fn front(
        &self,
        folder: &str,
        name: &str,
        bytes: u64,
    ) -> Result<Option<GetResult>, StoreError> {
        let path = self.path(folder, name)?;
        let options =
            GetOptions { range: Some(GetRange::Bounded(0..bytes)), ..GetOptions::default() };
        match self.client.get_opts(&path, options).await {
            Ok(found) => Ok(Some(found)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", path.to_string(), &error)),
        }
    }
}

/// What one request listed.
#[derive(Debug)]
struct Listed {
    names: Vec<String>,
    folders: Vec<String>,
    next: Option<String>,
}

#[async_trait]
impl Store for S3Store {
    async fn create(&self, creation: Creation) -> Result<Created, StoreError> {
        let object = self.key(&creation.folder, &creation.name);
        let permit = Arc::clone(&self.writes).acquire_owned().await;
        let (sender, receiver) = oneshot::channel();
        let store = self.clone();
        {
            let mut puts = self.puts.lock().unwrap_or_else(PoisonError::into_inner);
            while puts.try_join_next().is_some() {}
            puts.spawn(async move {
                let Creation { folder, name, parts, hold, .. } = creation;
                let outcome = store.put(&folder, &name, parts).await;
                drop((hold, permit));
                drop(sender.send(outcome));
            });
        }
        receiver
            .await
            .unwrap_or_else(|error| Err(failed("create", object, Class::Transient, error)))
    }

    async fn settle(&self, _folder: &str, _token: FencingToken) -> Result<(), StoreError> {
        Ok(())
    }

    async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut next = None;
        loop {
            let listed = self.page(folder, after, next).await?;
            let mut names = listed.names;
            names.retain(|name| !name.starts_with('.'));
            next = listed.next;
            if next.is_none() || !names.is_empty() {
                names.truncate(limit);
                return Ok(names);
            }
        }
    }

    async fn last(
        &self,
        folder: &str,
        up_to: Option<Position>,
        count: usize,
    ) -> Result<Vec<Position>, StoreError> {
        let mut search = Search::new(count, up_to);
        loop {
            match search.step() {
                Step::Found(found) => return Ok(found),
                Step::List(after) => {
                    search.learn(self.positions(folder, after, up_to, count).await?);
                }
            }
        }
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let (mut folders, mut next) = (Vec::new(), None);
        loop {
            let listed = self.page(folder, None, next).await?;
            folders.extend(listed.folders.into_iter().filter(|name| !name.starts_with('.')));
            next = listed.next;
            if next.is_none() {
                return Ok(folders);
            }
        }
    }

    async fn head(&self, folder: &str, name: &str, bytes: u64) -> Result<Option<Head>, StoreError> {
        let found = match self.front(folder, name, bytes).await {
            // There is no first byte.
            Err(error) if is_empty(&error) => {
                return Ok(Some(Head { content: Bytes::new(), object_bytes: 0 }));
            }
            found => found?,
        };
        let Some(found) = found else { return Ok(None) };
        let object_bytes = found.meta.size;
        let content = found.bytes().await;
        let content =
            content.map_err(|error| self.failed("read", self.key(folder, name), &error))?;
        Ok(Some(Head { content, object_bytes }))
    }

    async fn read(
        &self,
        folder: &str,
        name: &str,
        max_bytes: u64,
    ) -> Result<Option<Stored>, StoreError> {
        let found = match self.front(folder, name, max_bytes).await {
            Err(error) if is_empty(&error) => {
                return Ok(Some(Stored { content: Bytes::new(), durable_ms: None }));
            }
            found => found?,
        };
        let Some(found) = found else { return Ok(None) };
        if found.meta.size > max_bytes {
            let text =
                format!("it has {} bytes, more than the {max_bytes} allowed", found.meta.size);
            let source = std::io::Error::new(std::io::ErrorKind::FileTooLarge, text);
            return Err(failed("read", self.key(folder, name), Class::Permanent, source));
        }
        let durable_ms = u64::try_from(found.meta.last_modified.timestamp_millis()).ok();
        let content = found.bytes().await;
        let content =
            content.map_err(|error| self.failed("read", self.key(folder, name), &error))?;
        Ok(Some(Stored { content, durable_ms }))
    }

    async fn remove(&self, folder: &str, name: &str) -> Result<(), StoreError> {
        let path = self.path(folder, name)?;
        let removed = self.client.delete(&path).await;
        removed.map_err(|error| self.failed("remove", path.to_string(), &error))
    }
}

fn builder(bucket: &Bucket, environment: &Environment) -> AmazonS3Builder {
    let known = environment.0.iter().filter_map(|(name, value)| {
        Some((name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>().ok()?, value))
    });
    let builder =
        known.fold(AmazonS3Builder::new(), |builder, (key, value)| builder.with_config(key, value));
    let mut builder = builder
        .with_bucket_name(&bucket.name)
        .with_allow_http(bucket.is_plain())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_bulk_delete(true)
        .with_retry(RetryConfig {
            backoff: BackoffConfig {
                init_backoff: Duration::from_millis(100),
                max_backoff: Duration::from_secs(1),
                base: 2.0,
            },
            max_retries: RETRIES,
            retry_timeout: RETRY_FOR,
        });
    if let Some(region) = &bucket.region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = &bucket.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder
}

fn failed(
    doing: &'static str,
    object: String,
    class: Class,
    source: impl std::error::Error + Send + Sync + 'static,
) -> StoreError {
    StoreError { doing, object, class, source: source.into() }
}

/// True when a range was asked of an object without bytes.
fn is_empty(error: &StoreError) -> bool {
    Refusal::among(&*error.source).is_some_and(|refusal| refusal.status == 416)
}
