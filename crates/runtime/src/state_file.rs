//! The state directory of a consumer: its lock, its id, and the file that tells a clean stop from an unclean one.
//!
//! ```text
//! directory/lock          held for life: whoever has it is alone in the directory
//! directory/directory-id  random, made with the directory; the number of its inode exposes a copy
//! directory/state.json    replaced as a whole: write aside, sync, rename, sync the directory
//! ```
//!
//! Nothing here is authority: a file that is missing, corrupt or from elsewhere costs stickiness and nothing else. The
//! lock and the id are more than a hint, though: together with the boot id they are proof that an earlier process
//! on this directory is dead. So a copied directory must not keep the id of its original.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use tidegate_core::ids::{BootId, DirectoryId};
use tidegate_wire::state_file::{decode, encode};

use crate::ports::{Persisted, StateError, StateFile};

const LOCK: &str = "lock";
const ID: &str = "directory-id";
const STATE: &str = "state.json";

/// A locked state directory.
#[derive(Debug)]
pub struct StateDirectory {
    path: PathBuf,
    id: DirectoryId,
    boot: Option<BootId>,
    unusable: Option<String>,
    _lock: DirectoryLock,
}

impl StateDirectory {
    /// Makes the directory when there is none, takes its lock, and reads or makes its id. Fails with
    /// [`StateError::Locked`] when another living process holds it.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        let path = path.into();
        let lock = DirectoryLock::take(&path)?;
        let id = match read_id(&path) {
            Some(id) => id,
            None => make_id(&path).map_err(|source| io_error(&path, source))?,
        };
        Ok(Self { path, id, boot: boot_id(), unusable: None, _lock: lock })
    }

    /// The directory's random id.
    pub fn id(&self) -> DirectoryId {
        self.id
    }

    /// The boot of this machine; `None` when its kernel does not say.
    pub fn boot(&self) -> Option<BootId> {
        self.boot
    }

    /// Why the last [`StateFile::load`] had nothing to give; `None` when it had.
    pub fn unusable(&self) -> Option<&str> {
        self.unusable.as_deref()
    }

    fn read(&self) -> Result<Result<Persisted, String>, StateError> {
        let bytes = match std::fs::read(self.path.join(STATE)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Ok(Err("there is no state file".to_owned()));
            }
            Err(source) => return Err(io_error(&self.path, source)),
        };
        Ok(match decode(&bytes) {
            Ok(state) if state.directory == self.id => Ok(state),
            Ok(_) => Err("the state file belongs to another directory".to_owned()),
            Err(error) => Err(error.to_string()),
        })
    }
}

impl StateFile for StateDirectory {
    fn load(&mut self) -> Result<Persisted, StateError> {
        let (state, unusable) = match self.read()? {
            Ok(state) => (state, None),
            Err(reason) => (nothing(self.id), Some(reason)),
        };
        let directory = self.path.display();
        if let Some(reason) = &unusable {
            tracing::warn!(%directory, reason, "last stop counts as unclean");
        }
        self.unusable = unusable;
        Ok(state)
    }

    fn save(&mut self, state: &Persisted) -> Result<(), StateError> {
        replace(&self.path, STATE, |_| encode(state)).map_err(|source| io_error(&self.path, source))
    }
}

/// The exclusive lock of a directory; given back when dropped or when the process ends, in whatever way.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
}

impl Drop for DirectoryLock {
    /// Closing the file is not enough: a child that another thread is just starting has a copy of it until it runs.
    fn drop(&mut self) {
        if let Err(error) = flock(&self.file, FlockOperation::Unlock) {
            tracing::debug!(%error, "directory lock not given back");
        }
    }
}

impl DirectoryLock {
    /// Makes the directory when there is none and takes its lock without waiting.
    pub(crate) fn take(directory: &Path) -> Result<Self, StateError> {
        let open = || {
            std::fs::create_dir_all(directory)?;
            File::options().create(true).truncate(false).write(true).open(directory.join(LOCK))
        };
        let file = open().map_err(|source| io_error(directory, source))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(StateError::Locked { path: directory.display().to_string() })
            }
            Err(error) => Err(io_error(directory, error.into())),
        }
    }
}

/// The boot of this machine, as its kernel reports it.
pub(crate) fn boot_id() -> Option<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok().map(BootId)
}

/// Replaces a file as a whole: after a crash or on a full disk there is the old content or the new one. The content
/// is made when the file exists, so that it may name the file's inode.
pub(crate) fn replace(
    directory: &Path,
    name: &str,
    content: impl FnOnce(&File) -> Vec<u8>,
) -> io::Result<()> {
    let aside = directory.join(format!("{name}.tmp"));
    let mut file = File::create(&aside)?;
    let bytes = content(&file);
    file.write_all(&bytes)?;
    file.sync_all()?;
    std::fs::rename(&aside, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// The id that is kept in a directory; `None` when there is none, it is malformed, or it came here in a copy.
fn read_id(directory: &Path) -> Option<DirectoryId> {
    let path = directory.join(ID);
    let text = std::fs::read_to_string(&path).ok()?;
    let (id, inode) = text.trim().split_once(' ')?;
    let is_original = std::fs::metadata(&path).ok()?.ino() == inode.parse::<u64>().ok()?;
    let id = u128::from_str_radix(id, 16).ok()?;
    is_original.then_some(DirectoryId(id))
}

fn make_id(directory: &Path) -> io::Result<DirectoryId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    let id = u128::from_be_bytes(id);
    replace(directory, ID, |file| {
        let inode = file.metadata().map_or(0, |metadata| metadata.ino());
        format!("{id:032x} {inode}\n").into_bytes()
    })?;
    Ok(DirectoryId(id))
}

fn nothing(directory: DirectoryId) -> Persisted {
    Persisted { directory, boot: None, clean: false, partitions: BTreeMap::new() }
}

fn io_error(path: &Path, source: io::Error) -> StateError {
    StateError::Io { path: path.display().to_string(), source }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::{PartitionId, Position, TopicId};

    use super::*;

    fn clean_state(directory: &StateDirectory) -> Persisted {
        let partition = PartitionId { topic: TopicId([7; 16]), number: 3 };
        Persisted {
            directory: directory.id(),
            boot: directory.boot(),
            clean: true,
            partitions: [(partition, Position(99))].into(),
        }
    }

    #[test]
    fn what_was_saved_is_loaded_by_the_next_life() {
        let root = tempfile::tempdir().unwrap();
        let mut first = StateDirectory::open(root.path()).unwrap();
        let state = clean_state(&first);
        first.save(&state).unwrap();
        drop(first);
        let mut second = StateDirectory::open(root.path()).unwrap();
        assert_eq!(second.load().unwrap(), state);
        assert_eq!(second.unusable(), None);
        assert!(second.boot().is_some());
    }

    #[test]
    fn a_second_process_is_refused_while_the_first_lives() {
        let root = tempfile::tempdir().unwrap();
        let first = StateDirectory::open(root.path()).unwrap();
        let error = StateDirectory::open(root.path()).unwrap_err();
        assert!(matches!(error, StateError::Locked { .. }), "{error}");
        drop(first);
        assert!(StateDirectory::open(root.path()).is_ok());
    }

    #[test]
    fn a_file_that_cannot_be_used_counts_as_an_unclean_stop_and_says_why() {
        let root = tempfile::tempdir().unwrap();
        let mut directory = StateDirectory::open(root.path()).unwrap();
        let file = root.path().join(STATE);
        let mut reason = || {
            let state = directory.load().unwrap();
            assert_eq!(state, nothing(directory.id()));
            directory.unusable().unwrap().to_owned()
        };
        assert_eq!(reason(), "there is no state file");
        std::fs::write(&file, b"").unwrap();
        assert_eq!(reason(), "the state file is not readable");
        std::fs::write(&file, br#"{"version":9,"checksum":"","state":{}}"#).unwrap();
        assert!(reason().contains("version 9"));
        std::fs::write(&file, encode(&nothing(DirectoryId(1)))).unwrap();
        assert_eq!(reason(), "the state file belongs to another directory");
    }

    #[test]
    fn a_full_disk_is_an_error_and_leaves_the_old_file() {
        let root = tempfile::tempdir().unwrap();
        let mut directory = StateDirectory::open(root.path()).unwrap();
        let state = clean_state(&directory);
        directory.save(&state).unwrap();
        std::os::unix::fs::symlink("/dev/full", root.path().join("state.json.tmp")).unwrap();
        let error = directory.save(&nothing(directory.id())).unwrap_err();
        assert!(matches!(error, StateError::Io { .. }));
        assert_eq!(directory.load().unwrap(), state);
    }

    #[test]
    fn the_id_stays_with_its_directory_and_a_copy_gets_its_own() {
        let root = tempfile::tempdir().unwrap();
        let copy = tempfile::tempdir().unwrap();
        let id = StateDirectory::open(root.path()).unwrap().id();
        assert_eq!(StateDirectory::open(root.path()).unwrap().id(), id);
        std::fs::copy(root.path().join(ID), copy.path().join(ID)).unwrap();
        assert_ne!(StateDirectory::open(copy.path()).unwrap().id(), id);
        std::fs::write(root.path().join(ID), "garbage").unwrap();
        assert_ne!(StateDirectory::open(root.path()).unwrap().id(), id);
    }
}
