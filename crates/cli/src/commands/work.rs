//! Long computations: on a thread of their own, so that a signal ends the command at once, with their progress on standard error.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_core::ids::Instant;
use tidegate_runtime::ports::Clock;
use tokio::sync::oneshot;

use crate::failure::Exit;
use crate::output;
use crate::signals::Signals;
use crate::wiring;

/// Who waits wants to know from time to time, and scripts not too often.
const TELL_EVERY: Duration = Duration::from_secs(3);

/// Tells how far a computation is.
pub(super) struct Progress {
    clock: Arc<dyn Clock>,
    what: &'static str,
    unit: &'static str,
    told: Instant,
}

// === impl Progress ===

impl Progress {
    /// What is done, and what it is counted in.
    pub(super) fn new(what: &'static str, unit: &'static str) -> Self {
        let clock = wiring::clock();
        Self { told: clock.now(), what, unit, clock }
    }

    /// So much of so much is done. What takes no longer than a pause between two words says nothing.
    pub(super) fn tell(&mut self, done: usize, total: usize) {
        let now = self.clock.now();
        if now.since(self.told) >= TELL_EVERY {
            self.told = now;
            output::complain(&format!("{}: {done} of {total} {}", self.what, self.unit));
        }
    }
}

/// Does the work; `None` when the process was told to end meanwhile. The thread is not joined then: it has nothing to put in order, and
/// ends with the process.
pub(super) async fn run<T: Send + 'static>(
    mut signals: Signals,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> anyhow::Result<Option<T>> {
    let (sender, receiver) = oneshot::channel();
    let thread = std::thread::Builder::new().name("work".to_owned()).spawn(move || {
        // Nobody waits any more for what comes after a signal.
        drop(sender.send(work()));
    });
    thread.context("failed to start a thread")?;
    tokio::select! {
        done = receiver => done.context("the simulation has failed")?.map(Some),
        () = signals.next() => Ok(None),
    }
}

/// What a command ends with that was told to end.
pub(super) fn interrupted() -> Exit {
    output::complain("interrupted: there is no result");
    Exit::Failed
}
