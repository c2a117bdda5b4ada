//! Objects as files of a local or mounted folder.
//!
//! An object is written to a file beside its place, synced, and linked to its name: `link` fails when the name is
//! taken, which is what makes it create-only, and no reader ever sees half an object. The folder is synced before the
//! object counts. A file that was never linked ends in `.tmp` and begins with a dot; it carries the token of its writer
//! and is removed by the next owner with a higher one. Were it still in use, its writer would only find its link failing.
//!
//! The file's modification time is set to the moment at which the object had become durable; whoever copies files and
//! wants to know it later has to copy their times.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, Position};
use tidegate_runtime::ports::{Class, Clock};
use tokio::sync::Semaphore;

use super::layout;
use super::store::{Created, Creation, Head, Store, StoreError, Stored};

/// A folder that keeps objects.
#[derive(Clone, Debug)]
pub struct FileStore {
    root: Arc<PathBuf>,
    clock: Arc<dyn Clock>,
    /// Bounds the threads that writes block, and with them the memory that waits for the disk.
    writes: Arc<Semaphore>,
    /// Makes the names of unfinished files unique in this process.
    serial: Arc<AtomicU64>,
}

/// A file system that cannot create a name only where there is none, or a process that must not.
#[derive(Debug, thiserror::Error)]
#[error(
    "its hard link was refused: the folder must be on a file system that has hard links, which some network and FUSE \
     mounts have not, and this process must be allowed to make them"
)]
struct NoLinks(#[source] io::Error);

// === impl FileStore ===

impl FileStore {
    /// Opens a folder to write to, which is made when it is absent. At most `parallel_writes` objects are written at a
    /// time.
    pub async fn open(
        root: &Path,
        parallel_writes: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let made = tokio::fs::create_dir_all(root).await;
        made.map_err(|error| failed("make folder", &root.display().to_string(), error))?;
        Self::existing(root, parallel_writes, clock).await
    }

    /// Opens a folder that must be there, such as one to read from.
    pub async fn existing(
        root: &Path,
        parallel_writes: usize,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StoreError> {
        let listed = tokio::fs::read_dir(root).await;
        drop(listed.map_err(|error| failed("open folder", &root.display().to_string(), error))?);
        Ok(Self {
            root: Arc::new(root.to_owned()),
            clock,
            writes: Arc::new(Semaphore::new(parallel_writes)),
            serial: Arc::default(),
        })
    }

    /// Runs blocking work on a thread of its own; it goes on to its end even when the caller gives up.
    async fn blocking<T: Send + 'static>(
        &self,
        doing: &'static str,
        object: String,
        work: impl FnOnce(&Self) -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&store)).await;
        let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
        done.map_err(|error| failed(doing, &object, error))
    }

    fn path(&self, folder: &str) -> PathBuf {
        if folder.is_empty() { self.root.to_path_buf() } else { self.root.join(folder) }
    }

    fn create_now(&self, creation: &Creation) -> io::Result<Created> {
        let folder = self.path(&creation.folder);
        let target = folder.join(&creation.name);
        let (unfinished, mut file) = self.unfinished(&folder, creation.token)?;
        let linked = write_parts(&mut file, creation).and_then(|()| link(&unfinished, &target));
        let removed = fs::remove_file(&unfinished);
        if linked? == Created::Taken {
            return Ok(Created::Taken);
        }
        removed.or_else(|error| ignore(error, ErrorKind::NotFound))?;
        sync_folder(&folder)?;
        // For people and audits; the object is durable without it.
        drop(file.set_modified(UNIX_EPOCH + Duration::from_millis(self.clock.unix_ms())));
        Ok(Created::Done)
    }

    /// A new file for the content of an object, with its path.
    fn unfinished(&self, folder: &Path, token: FencingToken) -> io::Result<(PathBuf, File)> {
        loop {
            let serial = self.serial.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(unfinished_name(token, std::process::id(), serial));
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok((path, file)),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn settle_now(&self, folder: &str, token: FencingToken) -> io::Result<()> {
        let mut path = self.root.to_path_buf();
        for name in folder.split('/') {
            let parent = path.clone();
            path.push(name);
            fs::create_dir(&path).or_else(|error| ignore(error, ErrorKind::AlreadyExists))?;
            sync_folder(&parent)?;
        }
        let superseded = |name: &str| unfinished_token(name).is_some_and(|writer| writer < token);
        for entry in fs::read_dir(&path)? {
            let name = entry?.file_name();
            if name.to_str().is_some_and(superseded) {
                fs::remove_file(path.join(name))
                    .or_else(|error| ignore(error, ErrorKind::NotFound))?;
            }
        }
        Ok(())
    }

    fn last_now(
        &self,
        folder: &str,
        up_to: Option<Position>,
        count: usize,
    ) -> io::Result<Vec<Position>> {
        let mut highest = BTreeSet::new();
        self.visit(folder, |_, found| {
            let Some(found) = layout::position(&found) else { return };
            if up_to.is_some_and(|up_to| found > up_to) {
                return;
            }
            if highest.len() < count || highest.first().is_some_and(|lowest| found > *lowest) {
                highest.insert(found);
            }
            if highest.len() > count {
                highest.pop_first();
            }
        })?;
        // Its writer may have died between the link and the sync.
        sync_folder(&self.path(folder)).or_else(|error| ignore(error, ErrorKind::NotFound))?;
        Ok(highest.into_iter().collect())
    }

    /// Visits the names in a folder that do not begin with a dot, in no order; none when there is no such folder.
    fn visit(&self, folder: &str, mut visit: impl FnMut(fs::DirEntry, String)) -> io::Result<()> {
        let entries = match fs::read_dir(self.path(folder)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_str().map(ToOwned::to_owned);
            if let Some(name) = name.filter(|name| !name.starts_with('.')) {
                visit(entry, name);
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Store for FileStore {
    async fn create(&self, creation: Creation) -> Result<Created, StoreError> {
        let object = format!("{}/{}", creation.folder, creation.name);
        let writes = Arc::clone(&self.writes);
        let permit = writes.acquire_owned().await;
        self.blocking("create", object, move |store| {
            let created = store.create_now(&creation);
            drop((creation, permit));
            created
        })
        .await
    }

    async fn settle(&self, folder: &str, token: FencingToken) -> Result<(), StoreError> {
        let name = folder.to_owned();
        self.blocking("prepare", name.clone(), move |store| store.settle_now(&name, token)).await
    }

    async fn list(
        &self,
        folder: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let (name, after) = (folder.to_owned(), after.map(ToOwned::to_owned));
        let listed = self.blocking("list", name.clone(), move |store| {
            let mut names = Vec::new();
            store.visit(&name, |_, found| {
                if after.as_ref().is_none_or(|after| found > *after) {
                    names.push(found);
                }
            })?;
            names.sort_unstable();
            names.truncate(limit);
            Ok(names)
        });
        listed.await
    }

    async fn last(
        &self,
        folder: &str,
        up_to: Option<Position>,
        count: usize,
    ) -> Result<Vec<Position>, StoreError> {
        let name = folder.to_owned();
        let listed =
            self.blocking("list", name.clone(), move |store| store.last_now(&name, up_to, count));
        listed.await
    }

    async fn folders(&self, folder: &str) -> Result<Vec<String>, StoreError> {
        let name = folder.to_owned();
        let listed = self.blocking("list", name.clone(), move |store| {
            let mut names = Vec::new();
            store.visit(&name, |entry, found| {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    names.push(found);
                }
            })?;
            names.sort_unstable();
            Ok(names)
        });
        listed.await
    }

    async fn head(&self, folder: &str, name: &str, bytes: u64) -> Result<Option<Head>, StoreError> {
        let path = self.path(folder).join(name);
        self.blocking("read", format!("{folder}/{name}"), move |_| match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            file => head_now(&file?, bytes).map(Some),
        })
        .await
    }

    async fn read(
        &self,
        folder: &str,
        name: &str,
        max_bytes: u64,
    ) -> Result<Option<Stored>, StoreError> {
        let path = self.path(folder).join(name);
        self.blocking("read", format!("{folder}/{name}"), move |_| match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            file => read_now(file?, max_bytes).map(Some),
        })
        .await
    }

    async fn remove(&self, folder: &str, name: &str) -> Result<(), StoreError> {
        let path = self.path(folder).join(name);
        self.blocking("remove", format!("{folder}/{name}"), move |_| fs::remove_file(path)).await
    }
}

fn write_parts(file: &mut File, creation: &Creation) -> io::Result<()> {
    creation.parts.iter().try_for_each(|part| file.write_all(part))?;
    file.sync_all()
}

fn link(from: &Path, to: &Path) -> io::Result<Created> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(Created::Done),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Created::Taken),
        Err(error)
            if matches!(error.kind(), ErrorKind::PermissionDenied | ErrorKind::Unsupported) =>
        {
            Err(io::Error::new(error.kind(), NoLinks(error)))
        }
        Err(error) => Err(error),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn ignore(error: io::Error, kind: ErrorKind) -> io::Result<()> {
    if error.kind() == kind { Ok(()) } else { Err(error) }
}

fn head_now(file: &File, bytes: u64) -> io::Result<Head> {
    let mut content = Vec::new();
    file.take(bytes).read_to_end(&mut content)?;
    Ok(Head { content: content.into(), object_bytes: file.metadata()?.len() })
}

fn read_now(file: File, max_bytes: u64) -> io::Result<Stored> {
    let about = file.metadata()?;
    if about.len() > max_bytes {
        let message = format!("it has {} bytes, more than the {max_bytes} allowed", about.len());
        return Err(io::Error::new(ErrorKind::FileTooLarge, message));
    }
    let mut content = Vec::with_capacity(usize::try_from(about.len()).unwrap_or_default());
    file.take(max_bytes).read_to_end(&mut content)?;
    let durable_ms = about.modified().ok().and_then(unix_ms);
    Ok(Stored { content: content.into(), durable_ms })
}

fn unix_ms(time: SystemTime) -> Option<u64> {
    u64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()
}

fn unfinished_name(token: FencingToken, process: u32, serial: u64) -> String {
    format!(".{}-{}-{process}-{serial}.tmp", token.generation.0, token.epoch.0.0)
}

fn unfinished_token(name: &str) -> Option<FencingToken> {
    let mut parts = name.strip_prefix('.')?.strip_suffix(".tmp")?.split('-');
    let mut number = || parts.next()?.parse().ok();
    Some(FencingToken { generation: Generation(number()?), epoch: Epoch(Offset(number()?)) })
}

fn failed(doing: &'static str, object: &str, error: io::Error) -> StoreError {
    StoreError { doing, object: object.to_owned(), class: class(&error), source: error.into() }
}

/// A full disk or a slow mount may heal; missing rights, a read-only disk and a file where a folder should be do not.
fn class(error: &io::Error) -> Class {
    match error.kind() {
        ErrorKind::AlreadyExists
        | ErrorKind::PermissionDenied
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::NotADirectory
        | ErrorKind::InvalidFilename
        | ErrorKind::FileTooLarge
        | ErrorKind::Unsupported => Class::Permanent,
        _ => Class::Transient,
    }
}
