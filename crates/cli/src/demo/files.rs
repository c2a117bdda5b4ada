//! Where a run keeps its files: a folder that goes with it, or one that stays.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use tempfile::TempDir;

/// The folder of a run.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Removes the folder when it is dropped; absent when it is to stay.
    temporary: Option<TempDir>,
}

impl Folder {
    /// A folder to keep, which must be empty or absent; else a temporary one.
    pub(super) fn new(keep: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = keep else {
            let temporary = tempfile::Builder::new().prefix("tidegate-demo-").tempdir();
            let temporary = temporary.context("failed to make a temporary folder")?;
            return Ok(Self { path: temporary.path().canonicalize()?, temporary: Some(temporary) });
        };
        let named = || format!("failed to use folder {}", path.display());
        std::fs::create_dir_all(path).with_context(named)?;
        if std::fs::read_dir(path).with_context(named)?.next().is_some() {
            bail!("folder {} is not empty: name another one", path.display());
        }
        Ok(Self { path: path.canonicalize().with_context(named)?, temporary: None })
    }

    /// The file with the specification.
    pub(super) fn spec(&self) -> PathBuf {
        self.path.join("group.yaml")
    }

    /// State and logs of the consumers.
    pub(super) fn consumers(&self) -> PathBuf {
        self.path.join("consumers")
    }

    /// The sink, as specifications name it.
    pub(super) fn sink_url(&self) -> String {
        let path = self.path.join("sink").display().to_string();
        // A percent sign and a question mark mean something in it.
        format!("file://{}", path.replace('%', "%25").replace('?', "%3F"))
    }

    /// The folder, if it stays.
    pub(super) fn kept(&self) -> Option<&Path> {
        self.temporary.is_none().then_some(self.path.as_path())
    }

    /// What to tell somebody whose demo has failed.
    pub(super) fn epilogue(&self) -> String {
        match self.kept() {
            Some(path) => format!("the demo failed; its logs are in {}", path.display()),
            None => "the demo failed; with --keep DIR its logs stay".to_owned(),
        }
    }
}
