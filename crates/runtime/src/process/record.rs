//! What a controller writes down about a child, so that the next controller can find it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_core::ids::{BootId, ConsumerNumber, ProcessId};

use crate::state_file::{boot_id, replace};

const FILE: &str = "worker.json";

/// One child. It is written before the child is started and again with its pid, so that no crash in between leaves
/// a child that nobody knows of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// The id that the child was given.
    pub process: ProcessId,
    /// What it was started with.
    pub revision: String,
    /// Its pid, and its start in clock ticks after boot, which tells it from a later process with that pid.
    pub pid: Option<(i32, u64)>,
    /// The boot in which the pid means something.
    pub boot: Option<BootId>,
    /// The pid namespace in which the pid means something.
    pub namespace: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    process: String,
    revision: String,
    pid: Option<(i32, u64)>,
    boot: Option<String>,
    namespace: String,
}

impl Record {
    /// The record of a child that is about to be started here and now.
    pub(super) fn new(process: ProcessId, revision: &str) -> Self {
        Self {
            process,
            revision: revision.to_owned(),
            pid: None,
            boot: boot_id(),
            namespace: pid_namespace(),
        }
    }

    /// Writes the record into a consumer's directory.
    pub(super) fn save(&self, directory: &Path) -> io::Result<()> {
        let text = Text {
            process: self.process.to_string(),
            revision: self.revision.clone(),
            pid: self.pid,
            boot: self.boot.map(|boot| format!("{:032x}", boot.0)),
            namespace: self.namespace.clone(),
        };
        let bytes = serde_json::to_vec(&text)?;
        replace(directory, FILE, |_| bytes)
    }

    /// Removes the record from a consumer's directory, once its child is dead.
    pub(super) fn remove(directory: &Path) {
        if let Err(error) = std::fs::remove_file(directory.join(FILE)) {
            tracing::debug!(%error, directory = %directory.display(), "no worker record removed");
        }
    }

    fn load(directory: &Path) -> Option<Self> {
        let text: Text = serde_json::from_slice(&std::fs::read(directory.join(FILE)).ok()?).ok()?;
        let boot = text.boot.as_deref().map(|boot| u128::from_str_radix(boot, 16));
        Some(Self {
            process: ProcessId::parse(&text.process)?,
            revision: text.revision,
            pid: text.pid,
            boot: boot.transpose().ok()?.map(BootId),
            namespace: text.namespace,
        })
    }
}

/// A consumer's directory.
pub(super) fn directory(root: &Path, consumer: ConsumerNumber) -> PathBuf {
    root.join(format!("consumer-{consumer}"))
}

/// The records of all consumers below a directory.
pub(super) fn all(root: &Path) -> BTreeMap<ConsumerNumber, Record> {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    let records = entries.filter_map(|entry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix("consumer-")?.parse().ok()?;
        Some((ConsumerNumber::new(number)?, Record::load(&entry.path())?))
    });
    records.collect()
}

/// Names the pid namespace of this process; empty where the kernel does not say.
pub(super) fn pid_namespace() -> String {
    let link = std::fs::read_link("/proc/self/ns/pid");
    link.map(|link| link.display().to_string()).unwrap_or_default()
}
