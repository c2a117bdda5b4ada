//! One process of the group: started with its log in a file, signalled by its id, reaped by us.
//!
//! Its id means it and no other process as long as it is not reaped, and only [`Process::reap`] does that.

use std::fmt;
use std::fs::File;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

/// Whose process it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// A consumer, by its number.
    Consumer(u32),
    /// One of the controllers.
    Controller(u32),
    /// The monitor.
    Monitor,
}

/// A process. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    id: Pid,
    stopped: bool,
    ended_by_us: bool,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consumer(number) => write!(f, "consumer {number}"),
            Self::Controller(number) => write!(f, "controller {number}"),
            Self::Monitor => f.write_str("monitor"),
        }
    }
}

impl Process {
    /// Starts a process. It is in a process group of its own, so that Ctrl-C reaches us alone and we end it in order.
    pub(crate) fn start(mut command: Command, log: &Path) -> anyhow::Result<Self> {
        let failed = || format!("failed to write {}", log.display());
        let file = File::create(log).with_context(failed)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().with_context(failed)?)
            .stderr(file)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start a process")?;
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.context("a process has ended before it was known")?;
        Ok(Self { child, id, stopped: false, ended_by_us: false })
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.ended_by_us = true;
        self.signal(Signal::KILL);
    }

    /// Asks it to end.
    pub(crate) fn terminate(&mut self) {
        self.ended_by_us = true;
        self.signal(Signal::TERM);
    }

    /// Makes it stand still.
    pub(crate) fn stop(&mut self) {
        self.stopped = true;
        self.signal(Signal::STOP);
    }

    /// Makes it go on.
    pub(crate) fn resume(&mut self) {
        if self.stopped {
            self.stopped = false;
            self.signal(Signal::CONT);
        }
    }

    /// Whether it stands still.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Whether its end would surprise nobody.
    pub(crate) fn is_ended_by_us(&self) -> bool {
        self.ended_by_us
    }

    /// How it ended; `None` while it runs.
    pub(crate) fn reap(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn signal(&self, signal: Signal) {
        if let Err(error) = kill_process(self.id, signal) {
            tracing::warn!(process = ?self.id, ?signal, %error, "a signal was not sent");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;

    use super::*;

    fn sleeper(directory: &Path) -> Process {
        let mut command = Command::new("sleep");
        command.arg("600");
        Process::start(command, &directory.join("log")).unwrap()
    }

    async fn end_of(process: &mut Process) -> ExitStatus {
        loop {
            if let Some(status) = process.reap() {
                return status;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_process_that_stands_still_can_be_killed() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = sleeper(folder.path());
        process.stop();
        assert!(process.is_stopped() && process.reap().is_none());
        process.kill();
        assert_eq!(end_of(&mut process).await.signal(), Some(9));
        assert!(process.is_ended_by_us());
    }

    #[tokio::test]
    async fn a_process_that_went_on_heeds_what_it_was_told_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = sleeper(folder.path());
        process.stop();
        process.terminate();
        process.resume();
        assert_eq!(end_of(&mut process).await.signal(), Some(15));
    }
}
