//! One running process: a child of ours, or one that an earlier controller left.

use std::fs::File;
use std::io::{self, Read as _};
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
use crate::state_file::{boot_id, replace};

/// Carries the process id to the child, and lets a later controller find a child whose pid was not written down.
const PROCESS_ID: &str = "TIDEGATE_PROCESS_ID";

/// The specification that a child works by, in its directory.
const SPEC: &str = "group.yaml";

/// Time between two looks at an adopted process: short beside any deadline, and one system call.
const LOOK_PERIOD: Duration = Duration::from_millis(100);

/// Time between two searches for a process, and how many there are at most. A program is replaced within
/// milliseconds, and a process without any environment at all must not hold up a controller's start for long.
const SEARCH_PERIOD: Duration = Duration::from_millis(10);
const SEARCHES: u32 = 100;

/// As much of an environment is searched, in bytes: many times what programs are given.
const LONGEST_ENVIRONMENT: usize = 1 << 20;

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
        replace(directory, SPEC, |_| spec.group.as_bytes().to_vec())?;
        record.save(directory)?;
        let filled = |text: &str| {
            text.replace("{consumer}", &consumer.to_string())
                .replace("{directory}", &directory.display().to_string())
                .replace("{process}", &process.to_string())
                .replace("{spec}", &directory.join(SPEC).display().to_string())
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
    pub(super) async fn adopt(record: &Record, directory: &Path) -> Adoption {
        match (record.boot, boot_id()) {
            (Some(then), Some(now)) if then == now => {}
            (Some(_), Some(_)) => return Adoption::Dead,
            _ => return Adoption::Unknown,
        }
        if record.namespace != pid_namespace() {
            return Adoption::Unknown;
        }
        let known = match record.pid {
            Some((pid, ticks)) => Pid::from_raw(pid).map(|pid| (pid, ticks)),
            None => search(record.process).await,
        };
        let Some((pid, ticks)) = known else { return Adoption::Unknown };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => Arc::new(handle),
            Err(Errno::SRCH) => return Adoption::Dead,
            Err(_) => return Adoption::Unknown,
        };
        // It is there since before the child was.
        let group = std::fs::read_to_string(directory.join(SPEC)).unwrap_or_default();
        // After the handle was opened: what has this start now is what the handle means.
        match start_ticks(pid) {
            Some(now) if now == ticks => Adoption::Alive(Box::new(Self {
                process: record.process,
                spec: WorkerSpec { revision: record.revision.clone(), group: group.into() },
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

/// Searches all processes for the child with this id. One that is just replacing its program shows no environment
/// for a moment, so while there is such a process the search goes on.
async fn search(process: ProcessId) -> Option<(Pid, u64)> {
    for _ in 1..SEARCHES {
        match look_for(process)? {
            (None, true) => tokio::time::sleep(SEARCH_PERIOD).await,
            (found, _) => return found,
        }
    }
    look_for(process)?.0
}

/// The child with this id, the first of the processes that have it, as all others descend from it; and whether there
/// are processes that run a program, unlike the kernel's own, and show no environment.
fn look_for(process: ProcessId) -> Option<(Option<(Pid, u64)>, bool)> {
    let wanted = format!("{PROCESS_ID}={process}");
    let (mut found, mut hidden) = (Vec::new(), false);
    let mut buffer = vec![0; LONGEST_ENVIRONMENT];
    let processes = std::fs::read_dir("/proc").ok()?.flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()) {
        // One read: when the program is replaced between two, the second tells of an end that is none.
        let read = File::open(format!("/proc/{pid}/environ"))
            .and_then(|mut file| file.read(&mut buffer))
            .unwrap_or_default();
        hidden |= read == 0 && std::fs::read_link(format!("/proc/{pid}/exe")).is_ok();
        let environment = buffer.get(..read).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|entry| entry == wanted.as_bytes()) {
            found.extend(Pid::from_raw(pid).and_then(|pid| Some((pid, start_ticks(pid)?))));
        }
    }
    let first = found.into_iter().min_by_key(|(pid, ticks)| (*ticks, pid.as_raw_nonzero()));
    Some((first, hidden))
}
