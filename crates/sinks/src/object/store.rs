//! The seam between the chain and the place that keeps its objects.
//!
//! A store needs one ability that not all have: to create an object only where there is none, so that of two writers
//! exactly one succeeds. Everything else is listing and reading. Files implement it with a hard link, S3 with a
//! conditional put (`If-None-Match: *`).

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use tidegate_core::ids::{FencingToken, Position};
use tidegate_runtime::ports::Class;

/// A call to a store that failed; after one to [`Store::create`] the object may or may not be there, or come later.
#[derive(Debug, thiserror::Error)]
#[error("failed to {doing} {object}")]
pub struct StoreError {
    /// What was being done.
    pub doing: &'static str,
    /// With which object or folder.
    pub object: String,
    /// What the caller may do about it: never [`Class::Fenced`].
    pub class: Class,
    /// Why.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// An object to be made.
pub struct Creation {
    /// Folder, relative to the store's prefix; its names are separated by `/`.
    pub folder: String,
    /// Name in the folder.
    pub name: String,
    /// Content, in pieces that follow each other.
    pub parts: Vec<Bytes>,
    /// Who writes: lets a later owner tell the leftovers of this write from those of a living one.
    pub token: FencingToken,
    /// Kept by the store for as long as the object may still appear by this call, even when its future was dropped,
    /// as far as the store can know.
    pub hold: Hold,
}

/// Something that ends with a write, whatever it is.
pub type Hold = Box<dyn std::any::Any + Send>;

impl fmt::Debug for Creation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Creation({}/{})", self.folder, self.name)
    }
}

/// What became of an attempt to create an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there, whole and durable.
    Done,
    /// There was one already, which stays as it is.
    Taken,
}

/// An object as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its content.
    pub content: Bytes,
    /// When the store had it durable, in milliseconds since the Unix epoch; `None` when the store does not tell.
    pub durable_ms: Option<u64>,
}

/// The beginning of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its first bytes.
    pub content: Bytes,
    /// Length of the whole object.
    pub object_bytes: u64,
}

/// Keeps objects in folders. All names that it returns are in rising order, and none begins with a dot.
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug {
    /// Makes an object unless there is one of this name, and returns when it is durable. Nobody ever sees part of it.
    async fn create(&self, creation: Creation) -> Result<Created, StoreError>;

    /// Makes a folder ready for the owner with this token: it is there, and leftovers of owners with lower tokens are
    /// gone.
    async fn settle(&self, folder: &str, token: FencingToken) -> Result<(), StoreError>;

    /// Names of the objects of a folder above `after`: the first `limit` of them, or fewer, but some if there are any.
    async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError>;

    /// The highest positions of a folder's objects, at most `count`, none of them above `up_to`; when it returns these
    /// objects are durable, even if their writer died before it could tell.
    async fn last(
        &self,
        folder: &str,
        up_to: Option<Position>,
        count: usize,
    ) -> Result<Vec<Position>, StoreError>;

    /// Names of the folders in a folder; `""` is the prefix itself.
    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError>;

    /// The first bytes of an object, `bytes` of them or what it has; `None` when there is no such object.
    async fn head(&self, folder: &str, name: &str, bytes: u64) -> Result<Option<Head>, StoreError>;

    /// An object, whole; `None` when there is none. Refuses objects above `max_bytes`.
    async fn read(
        &self,
        folder: &str,
        name: &str,
        max_bytes: u64,
    ) -> Result<Option<Stored>, StoreError>;

    /// Removes what is no part of a chain.
    async fn remove(&self, folder: &str, name: &str) -> Result<(), StoreError>;
}
