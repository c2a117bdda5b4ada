//! One running process: a child of ours, or one that an earlier controller left.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tidegate_core::ids::{ConsumerNumber, ProcessId};

use super::ChildCommand;
use super::record::{Record, pid_namespace};
use crate::ports::WorkerSpec;
use crate::state_file::boot_id;

/// Carries the process id to the child, and lets a later controller find a child whose pid was not written down.
const PROCESS_ID: &str = "TIDEGATE_PROCESS_ID";

/// Time between two looks at an adopted process: short beside any deadline, and one system call.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// A process that runs, or that ended and was not waited for.
#[derive(Debug)]
pub(super) struct Child {
    /// The id that it was given.
    pub process: ProcessId,
    /// What it was started with.
    pub spec: WorkerSpec,
    handle: Arc<OwnedFd>,
    end: End,
}

/// How the end of a process is learned.
#[derive(Debug)]
enum End {
    /// It is our child, and is reaped.
    Ours(tokio::process::Child),
    /// It is not; its handle is looked at from time to time.
    Adopted,
}

/// What became of the child of a record.
#[derive(Debug)]
pub(super) enum Adoption {
    /// It lives.
    Alive(Box<Child>),
    /// It is dead for certain.
    Dead,
    /// Nothing can be said: it belongs to another container, was never started, or may not be looked at.
    Unknown,
}

impl Child {
    /// Starts a child and writes its record. Its directory exists afterwards even when it could not be started.
    pub(super) fn start(
        command: &ChildCommand,
        consumer: ConsumerNumber,
        spec: &WorkerSpec,
        directory: &Path,
    ) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let process = super::new_process_id()?;
        let mut record = Record::new(process, &spec.revision);
        record.save(directory)?;
        let filled = |text: &str| {
            text.replace("{consumer}", &consumer.to_string())
                .replace("{directory}", &directory.display().to_string())
                .replace("{process}", &process.to_string())
                .replace("{revision}", &spec.revision)
        };
        let log = File::options().create(true).append(true).open(directory.join("log"))?;
        let child = tokio::process::Command::new(&command.program)
            .args(command.arguments.iter().map(|text| filled(text)))
            .envs(command.environment.iter().map(|(name, value)| (name, filled(value))))
            .env(PROCESS_ID, process.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn()?;
        // A child that was not waited for keeps its pid, so that this cannot be another process.
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("the child has no pid"))?;
        let handle = Arc::new(pidfd_open(pid, PidfdFlags::empty())?);
        record.pid = start_ticks(pid).map(|ticks| (pid.as_raw_nonzero().get(), ticks));
        record.save(directory)?;
        Ok(Self { process, spec: spec.clone(), handle, end: End::Ours(child) })
    }

    /// Finds out what became of the child of a record, and takes it over when it lives.
    pub(super) fn adopt(record: &Record) -> Adoption {
        match (record.boot, boot_id()) {
            (Some(then), Some(now)) if then == now => {}
            (Some(_), Some(_)) => return Adoption::Dead,
            _ => return Adoption::Unknown,
        }
        if record.namespace != pid_namespace() {
            return Adoption::Unknown;
        }
        let known = record.pid.and_then(|(pid, ticks)| Some((Pid::from_raw(pid)?, ticks)));
        let Some((pid, ticks)) = known.or_else(|| search(record.process)) else {
            return Adoption::Unknown;
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Arc::new(handle),
            Err(Errno::SRCH) => return Adoption::Dead,
            Err(_) => return Adoption::Unknown,
        };
        // After the handle was opened: what has this start now is what the handle means.
        match start_ticks(pid) {
            Some(now) if now == ticks => Adoption::Alive(Box::new(Self {
                process: record.process,
                spec: WorkerSpec { revision: record.revision.clone() },
                handle,
                end: End::Adopted,
            })),
            Some(_) => Adoption::Dead,
            None => Adoption::Unknown,
        }
    }

    /// A handle for signals from elsewhere.
    pub(super) fn handle(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.handle)
    }

    /// Sends a signal; one to a process that has ended does nothing.
    pub(super) fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(&self.handle, signal) {
            tracing::debug!(%error, process = %self.process, "worker not signalled");
        }
    }

    /// Waits until the process is dead and says how it ended; an error is no proof of its death. Cancel-safe: asking
    /// again gives the answer again.
    pub(super) async fn ended(&mut self) -> io::Result<String> {
        match &mut self.end {
            End::Ours(child) => child.wait().await.map(|status| status.to_string()),
            End::Adopted => loop {
                if has_ended(&self.handle)? {
                    return Ok("ended".to_owned());
                }
                tokio::time::sleep(LOOK_PERIOD).await;
            },
        }
    }
}

/// The kernel makes the handle of a process readable at its end.
fn has_ended(handle: &OwnedFd) -> io::Result<bool> {
    let mut handles = [PollFd::new(handle, PollFlags::IN)];
    Ok(poll(&mut handles, Some(&Timespec::default()))? > 0)
}

/// When a process was started, in clock ticks after boot: field 22 of its `stat`, counted from behind the name, which
/// may hold anything.
fn start_ticks(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Searches all processes for the child with this id: the first, of which all others with the id descend.
fn search(process: ProcessId) -> Option<(Pid, u64)> {
    let wanted = format!("{PROCESS_ID}={process}");
    let has_id = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ")).is_ok_and(|bytes| {
            bytes.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes())
        })
    };
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(has_id)
        .filter_map(|pid| Pid::from_raw(pid).and_then(|pid| Some((pid, start_ticks(pid)?))))
        .min_by_key(|(pid, ticks)| (*ticks, pid.as_raw_nonzero()))
}
