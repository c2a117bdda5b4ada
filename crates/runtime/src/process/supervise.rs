//! The task that keeps one consumer's child running, or ends it.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use tidegate_core::ids::{ConsumerNumber, ProcessId};
use tokio::sync::{mpsc, watch};

use super::child::Child;
use super::record::Record;
use super::{ProcessOptions, Table};
use crate::ports::{Clock, Evidence, Phase, WorkerChange, WorkerSpec};
use crate::spec::Backoff;

/// A run this long was healthy: the pause before the next start is the first one again.
const HEALTHY_RUN: Duration = Duration::from_secs(60);

/// How much of a log's end is searched for its last line, in bytes.
const LOG_TAIL: u64 = 4096;

pub(super) struct Supervisor {
    pub consumer: ConsumerNumber,
    pub directory: PathBuf,
    pub options: Arc<ProcessOptions>,
    pub clock: Arc<dyn Clock>,
    pub table: Arc<Table>,
    pub wanted: watch::Receiver<Option<WorkerSpec>>,
    pub changes: mpsc::Sender<WorkerChange>,
}

impl Supervisor {
    /// Runs until the worker is not wanted and gone; `child` is one that was adopted.
    pub(super) async fn run(mut self, mut child: Option<Child>) {
        let mut pause = Pause::new(self.options.backoff);
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let started = match (child.take(), wanted) {
                (Some(child), _) => Ok(child),
                (None, Some(spec)) => self.start(&spec),
                (None, None) => {
                    self.report(Phase::Gone, None, "not wanted any more").await;
                    if self.table.forget(self.consumer) {
                        return;
                    }
                    continue;
                }
            };
            let ran = match started {
                Ok(child) => self.watch_over(child).await,
                Err(trouble) => {
                    self.trouble(Phase::BackingOff, None, trouble).await;
                    Some(Duration::ZERO)
                }
            };
            if let Some(ran) = ran {
                self.rest(pause.after_run(ran)).await;
            }
        }
    }

    fn start(&self, spec: &WorkerSpec) -> Result<Child, String> {
        Child::start(&self.options.command, self.consumer, spec, &self.directory).map_err(|error| {
            format!("failed to start {}: {error}", self.options.command.program.display())
        })
    }

    /// Waits for the child's end, which it brings about when the child is not wanted any more. Returns how long it
    /// ran when it ended by itself.
    async fn watch_over(&mut self, mut child: Child) -> Option<Duration> {
        let since = self.clock.now();
        self.table.update(self.consumer, |entry| {
            entry.handle = Some(child.handle());
            entry.state.starts += 1;
        });
        self.report(Phase::Running, None, &format!("process {}", child.process)).await;
        let spec = child.spec.clone();
        let unwanted = self.wanted.wait_for(|wanted| wanted.as_ref() != Some(&spec));
        let by_itself = tokio::select! {
            ended = child.ended() => Some(ended),
            // An error means that the workers were dropped, which ends this task too: nothing is to be stopped.
            Ok(_) = unwanted => None,
        };
        let asked = by_itself.is_none();
        let ended = match by_itself {
            Some(ended) => ended,
            None => self.stop(&mut child).await,
        };
        self.table.update(self.consumer, |entry| entry.handle = None);
        let (died, detail) = match ended {
            Ok(detail) => (Some(child.process), detail),
            Err(error) => (None, format!("lost sight of process {}: {error}", child.process)),
        };
        Record::remove(&self.directory);
        if asked {
            self.report(Phase::Stopping, died, &detail).await;
            return None;
        }
        let last_words = last_line(&self.directory.join("log"));
        let trouble = last_words.map_or(detail.clone(), |line| format!("{detail}: {line}"));
        self.trouble(Phase::BackingOff, died, trouble).await;
        Some(self.clock.now().since(since))
    }

    /// Asks the child to end and kills it when its grace is over.
    async fn stop(&mut self, child: &mut Child) -> io::Result<String> {
        self.report(Phase::Stopping, None, "asked to end").await;
        child.signal(Signal::TERM);
        if let Ok(ended) = tokio::time::timeout(self.options.stop_grace, child.ended()).await {
            return ended;
        }
        tracing::warn!(consumer = %self.consumer, "worker killed: it did not end in time");
        child.signal(Signal::KILL);
        child.ended().await
    }

    /// Waits out a pause, which a change of what is wanted cuts short.
    async fn rest(&mut self, pause: Duration) {
        drop(tokio::time::timeout(pause, self.wanted.changed()).await);
    }

    async fn trouble(&self, phase: Phase, died: Option<ProcessId>, detail: String) {
        tracing::warn!(consumer = %self.consumer, detail, "worker ended");
        self.table.update(self.consumer, |entry| entry.state.trouble = Some(detail.clone()));
        self.report(phase, died, &detail).await;
    }

    async fn report(&self, phase: Phase, died: Option<ProcessId>, detail: &str) {
        self.table.update(self.consumer, |entry| entry.state.phase = phase);
        let change = WorkerChange {
            consumer: self.consumer,
            phase,
            died: died.map(|process| (process, Evidence::Reaped)),
            detail: detail.to_owned(),
        };
        // Nobody reads any more only when the workers were dropped.
        drop(self.changes.send(change).await);
    }
}

/// The pauses between starts: doubled up to a limit, short again after a healthy run.
#[derive(Debug)]
struct Pause {
    limits: Backoff,
    next: Duration,
}

impl Pause {
    fn new(limits: Backoff) -> Self {
        Self { limits, next: limits.initial }
    }

    fn after_run(&mut self, ran: Duration) -> Duration {
        if HEALTHY_RUN <= ran {
            self.next = self.limits.initial;
        }
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.limits.max);
        pause
    }
}

/// The last line of a log that says something: mostly why its process ended.
fn last_line(log: &Path) -> Option<String> {
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL))).ok()?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail).ok()?;
    let tail = String::from_utf8_lossy(&tail);
    tail.lines().rev().map(str::trim).find(|line| !line.is_empty()).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_shrink_after_a_healthy_run() {
        let seconds = Duration::from_secs;
        let mut pause = Pause::new(Backoff { initial: seconds(1), max: seconds(5) });
        let pauses: Vec<_> = (0..4).map(|_| pause.after_run(seconds(59)).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5]);
        assert_eq!(pause.after_run(HEALTHY_RUN), seconds(1));
    }
}
