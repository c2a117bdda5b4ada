//! A place for one process at a time: whether it should run, and when the next may start.

use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::Instant;

use super::Deed;
use crate::process::Process;

/// Pause before a process that ended is started again.
const RESTART: Duration = Duration::from_millis(500);

/// A consumer counts as unwanted only after so long: between the loss of an owner and the next plan a controller wants
/// nobody in its place for a moment.
const UNWANTED: Duration = Duration::from_secs(5);

/// Time from SIGTERM to SIGKILL; above the stop budget of consumers.
const GRACE: Duration = Duration::from_secs(15);

/// A place for a process.
#[derive(Debug)]
pub(super) struct Post {
    process: Option<Process>,
    permanent: bool,
    /// Since when nobody wants it.
    unwanted_since: Option<Instant>,
    /// No process before this moment.
    rest_until: Option<Instant>,
    /// A process that was told to end is killed at this moment.
    kill_at: Option<Instant>,
}

impl Post {
    /// A place that is never empty for long.
    pub(super) fn permanent() -> Self {
        let (unwanted_since, rest_until, kill_at) = (None, None, None);
        Self { process: None, permanent: true, unwanted_since, rest_until, kill_at }
    }

    /// A place that is filled as long as somebody wants it.
    pub(super) fn temporary() -> Self {
        Self { permanent: false, ..Self::permanent() }
    }

    pub(super) fn has_process(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn is_running(&self) -> bool {
        let runs = |process: &Process| !process.is_stopped() && !process.is_ended_by_us();
        self.process.as_ref().is_some_and(runs)
    }

    /// Does something to the process; false when there is none.
    pub(super) fn perform(&mut self, now: Instant, deed: Deed) -> bool {
        let Some(process) = &mut self.process else { return false };
        match deed {
            Deed::Kill { restart_after } => {
                process.kill();
                self.rest_until = Some(now + restart_after);
            }
            Deed::Terminate => {
                process.terminate();
                self.kill_at = Some(now + GRACE);
            }
            Deed::Stop => process.stop(),
            Deed::Resume => process.resume(),
        }
        true
    }

    /// Notes whether it is wanted; one that has not been for long is told to end.
    pub(super) fn want(&mut self, now: Instant, wanted: bool) {
        if wanted {
            self.unwanted_since = None;
            return;
        }
        let since = *self.unwanted_since.get_or_insert(now);
        let told = self.process.as_ref().is_none_or(Process::is_ended_by_us);
        if now.duration_since(since) >= UNWANTED && !told {
            self.perform(now, Deed::Terminate);
        }
    }

    /// Takes note of a process that has ended; says how if nobody had brought it about.
    pub(super) fn reap(&mut self, now: Instant) -> Option<String> {
        let process = self.process.as_mut()?;
        let status = process.reap()?;
        let surprise = (!process.is_ended_by_us()).then(|| status.to_string());
        self.process = None;
        self.kill_at = None;
        let rest = now + RESTART;
        self.rest_until = Some(self.rest_until.map_or(rest, |until| until.max(rest)));
        surprise
    }

    /// Kills a process that takes too long to end.
    pub(super) fn end_overdue(&mut self, now: Instant) {
        if self.kill_at.is_some_and(|at| at <= now)
            && let Some(process) = &mut self.process
        {
            process.kill();
        }
    }

    /// Whether a process is to be started.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        let wanted = self.permanent || self.unwanted_since.is_none();
        wanted && self.process.is_none() && self.rest_until.is_none_or(|until| until <= now)
    }

    pub(super) fn start(&mut self, command: Command, log: &Path, now: Instant) {
        match Process::start(command, log) {
            Ok(process) => {
                self.process = Some(process);
                self.rest_until = None;
            }
            Err(error) => {
                tracing::error!("{error:#}");
                self.rest_until = Some(now + RESTART);
            }
        }
    }

    /// Ends the process for good: in order, or at once.
    pub(super) fn dismiss(&mut self, orderly: bool) {
        let Some(process) = &mut self.process else { return };
        if orderly {
            process.terminate();
            process.resume();
        } else {
            process.kill();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("600");
        command
    }

    async fn reaped(post: &mut Post, now: Instant) -> Option<String> {
        while post.has_process() {
            if let Some(surprise) = post.reap(now) {
                return Some(surprise);
            }
            tokio::task::yield_now().await;
        }
        None
    }

    #[tokio::test]
    async fn the_dead_come_back_no_sooner_than_they_may() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let (mut post, now) = (Post::permanent(), Instant::now());
        assert!(post.is_due(now));
        post.start(sleeper(), log.path(), now);
        assert!(post.is_running() && !post.is_due(now));
        let death = Duration::from_secs(26);
        assert!(post.perform(now, Deed::Kill { restart_after: death }));
        assert_eq!(reaped(&mut post, now).await, None, "no surprise");
        assert!(!post.is_due(now + death - Duration::from_millis(1)));
        assert!(post.is_due(now + death));
        assert!(!post.perform(now, Deed::Stop), "nobody is there");
    }

    #[tokio::test]
    async fn an_end_that_nobody_brought_about_is_a_surprise() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let (mut post, now) = (Post::permanent(), Instant::now());
        post.start(Command::new("false"), log.path(), now);
        assert_eq!(reaped(&mut post, now).await.as_deref(), Some("exit status: 1"));
    }

    #[tokio::test]
    async fn the_unwanted_are_told_to_end_after_a_while_and_killed_after_another() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let (mut post, now) = (Post::temporary(), Instant::now());
        post.start(sleeper(), log.path(), now);
        post.perform(now, Deed::Stop);
        post.want(now, false);
        post.want(now + UNWANTED / 2, true);
        post.want(now + UNWANTED, false);
        post.end_overdue(now + UNWANTED + GRACE);
        assert!(post.has_process() && post.kill_at.is_none(), "it was wanted in between");
        post.want(now + UNWANTED * 2, false);
        post.end_overdue(now + UNWANTED * 2 + GRACE);
        assert_eq!(reaped(&mut post, now).await, None);
        assert!(!post.is_due(now + Duration::from_secs(100)));
    }
}
