//! Where a run keeps its files.
//!
//! ```text
//! logs/            standard error of every process, one file for each of its lives
//! controller-1/    data directory of a controller, and its specification; -2 likewise
//! group.yaml       specification of monitor and consumers
//! state/           state directories of the consumers: a small disk of their own, where that can be mounted
//! sink             a link to sink-data, or to itself while the sink cannot be reached
//! sink-data/       what the consumers have written
//! ```

use std::fs;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use tempfile::TempDir;

/// Size of the consumers' disk: room for eight directories, and soon filled up.
const DISK: &str = "size=1m";

/// The folder of a run. It goes with this value unless it is kept.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    temporary: Mutex<Option<TempDir>>,
    mounted: bool,
}

impl Folder {
    /// Makes the folder, and the disk in it if the system lets us.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let temporary = tempfile::Builder::new().prefix("tidegate-chaos-").tempdir();
        let temporary = temporary.context("failed to make a temporary folder")?;
        let path = temporary.path().canonicalize()?;
        for name in ["logs", "state", "sink-data"] {
            fs::create_dir(path.join(name))?;
        }
        symlink("sink-data", path.join("sink"))?;
        Ok(Self { path, temporary: Mutex::new(Some(temporary)), mounted: false })
    }

    /// Mounts a small disk for the consumers' state. The error is for people: most often that only root may.
    pub(crate) fn mount(&mut self) -> Result<(), String> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", DISK, "tidegate-chaos"]).arg(self.state());
        let output = mount.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(said.lines().next().unwrap_or_default().to_owned());
        }
        self.mounted = true;
        Ok(())
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Specification of monitor and consumers.
    pub(crate) fn spec(&self) -> PathBuf {
        self.path.join("group.yaml")
    }

    /// Data directory of a controller.
    pub(crate) fn controller(&self, number: u32) -> PathBuf {
        self.path.join(format!("controller-{number}"))
    }

    fn state(&self) -> PathBuf {
        self.path.join("state")
    }

    /// State directory of a consumer.
    pub(crate) fn consumer(&self, number: u32) -> PathBuf {
        self.state().join(format!("consumer-{number}"))
    }

    /// What was acknowledged to the load generator, for `tidegate audit`.
    pub(crate) fn acknowledged(&self) -> PathBuf {
        self.path.join("acknowledged.json")
    }

    /// The sink, as specifications name it.
    pub(crate) fn sink_url(&self) -> String {
        let path = self.path.join("sink").display().to_string();
        // A percent sign and a question mark mean something in it.
        format!("file://{}", path.replace('%', "%25").replace('?', "%3F"))
    }

    /// Makes the sink unreachable: every path through its name is a loop of links then. What it holds stays where it
    /// is, so that nothing can be lost but what the consumers lose.
    pub(crate) fn cut_sink(&self) -> io::Result<()> {
        self.link_sink("sink")
    }

    /// Makes the sink reachable again.
    pub(crate) fn mend_sink(&self) -> io::Result<()> {
        self.link_sink("sink-data")
    }

    /// Replaces the link in one step: at no moment is there none, which would be taken for a sink that is new.
    fn link_sink(&self, target: &str) -> io::Result<()> {
        let aside = self.path.join("sink.new");
        symlink(target, &aside)?;
        fs::rename(aside, self.path.join("sink"))
    }

    /// Fills the consumers' disk up to the last byte.
    pub(crate) fn fill_disk(&self) -> io::Result<()> {
        let mut file = fs::File::create(self.filler())?;
        for chunk in [4096, 1] {
            let full = loop {
                if let Err(error) = file.write_all(&vec![0; chunk]) {
                    break error;
                }
            };
            if full.kind() != ErrorKind::StorageFull {
                return Err(full);
            }
        }
        Ok(())
    }

    /// Gives the disk its room back.
    pub(crate) fn empty_disk(&self) -> io::Result<()> {
        match fs::remove_file(self.filler()) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn filler(&self) -> PathBuf {
        self.state().join("filler")
    }

    /// Leaves the folder where it is and says where.
    pub(crate) fn keep(&self) -> &Path {
        let mut temporary = self.temporary.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(temporary) = temporary.take() {
            drop(temporary.keep());
        }
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.mounted {
            let unmounted = Command::new("umount").arg(self.state()).status();
            if !unmounted.is_ok_and(|status| status.success()) {
                tracing::error!(folder = %self.state().display(), "a disk stays mounted");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_that_was_cut_has_everything_when_it_is_mended() {
        let folder = Folder::new().unwrap();
        let file = folder.path.join("sink/object");
        fs::write(&file, "records").unwrap();
        folder.cut_sink().unwrap();
        assert!(fs::read(&file).is_err());
        let made = fs::create_dir_all(folder.path.join("sink"));
        assert!(made.is_err(), "nobody can make an empty sink in its place");
        folder.mend_sink().unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"records");
    }

    #[test]
    fn a_folder_goes_with_its_value_unless_it_is_kept() {
        let folder = Folder::new().unwrap();
        let path = folder.keep().to_owned();
        drop(folder);
        assert!(path.exists());
        fs::remove_dir_all(&path).unwrap();
        let folder = Folder::new().unwrap();
        let path = folder.path.clone();
        drop(folder);
        assert!(!path.exists());
    }
}
