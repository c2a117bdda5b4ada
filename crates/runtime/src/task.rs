//! Tasks that have a name and are joined: the only place that starts one.
//!
//! A detached task is where a shutdown loses work and where a panic goes unseen. So a task either belongs to a
//! [`TaskSet`], whose end waits for it, or to a [`Task`], which ends it when it is dropped.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{Id, JoinError, JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

/// What a task of a set may fail with.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A task that did not end as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It returned an error.
    #[error("task {name} failed")]
    Failed {
        /// Its name.
        name: String,
        /// What it returned.
        #[source]
        source: Failure,
    },
    /// It panicked: a bug.
    #[error("task {name} panicked: {message}")]
    Panicked {
        /// Its name.
        name: String,
        /// What the panic said.
        message: String,
    },
    /// It was cut off: it did not end within the time it was given, or the runtime is shutting down.
    #[error("task {name} was cut off")]
    CutOff {
        /// Its name.
        name: String,
    },
}

/// Starts a task with a name, which every event logged in it carries.
#[must_use = "a task ends when its handle is dropped"]
pub fn spawn_named<F>(name: impl Into<String>, future: F) -> Task<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    let name = name.into();
    let span = tracing::info_span!("task", name);
    #[expect(clippy::disallowed_methods, reason = "the one place that starts a lone task")]
    let handle = tokio::task::spawn(future.instrument(span));
    Task { name, handle }
}

/// A running task; awaiting it gives its result, dropping it ends it at its next await.
#[derive(Debug)]
pub struct Task<T> {
    name: String,
    handle: JoinHandle<T>,
}

impl<T> Task<T> {
    /// The name it was started with.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// True once it has ended, in whatever way.
    pub fn is_finished(&self) -> bool {
        self.handle.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, TaskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let ended = std::task::ready!(Pin::new(&mut self.handle).poll(context));
        Poll::Ready(ended.map_err(|error| join_error(self.name.clone(), error)))
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// The tasks of one process: started with a name, told to stop together, joined together.
///
/// ```
/// # use std::time::Duration;
/// # use tidegate_runtime::task::TaskSet;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let mut tasks = TaskSet::new();
/// let stop = tasks.stop_token();
/// tasks.spawn("ticker", async move {
///     stop.cancelled().await;
///     Ok(())
/// });
/// assert!(tasks.shut_down(Duration::from_secs(1)).await.is_empty());
/// # });
/// ```
#[derive(Debug, Default)]
pub struct TaskSet {
    stop: CancellationToken,
    names: BTreeMap<Id, String>,
    tasks: JoinSet<Result<(), Failure>>,
}

impl TaskSet {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancelled when the set shuts down: every task selects on it first.
    pub fn stop_token(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Starts a task in the set.
    pub fn spawn<F>(&mut self, name: impl Into<String>, future: F)
    where
        F: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let name = name.into();
        let span = tracing::info_span!("task", name);
        let handle = self.tasks.spawn(future.instrument(span));
        self.names.insert(handle.id(), name);
    }

    /// Number of tasks that have not been joined.
    pub fn len(&self) -> usize {
        self.tasks.len()
    }

    /// True when every task has been joined.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Waits for the next task to end: its name, or what it failed with; `None` when none is left. Cancel-safe: a task
    /// is joined in the same poll that returns it.
    pub async fn joined(&mut self) -> Option<Result<String, TaskError>> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let name = self.names.remove(&id).unwrap_or_default();
        Some(match ended {
            Ok((_, Ok(()))) => Ok(name),
            Ok((_, Err(source))) => Err(TaskError::Failed { name, source }),
            Err(error) => Err(join_error(name, error)),
        })
    }

    /// Tells all tasks to stop and waits for them; those that are not done after `deadline` are cut off. Returns what
    /// went wrong; empty when every task ended well.
    pub async fn shut_down(mut self, deadline: Duration) -> Vec<TaskError> {
        self.stop.cancel();
        let mut errors = Vec::new();
        if tokio::time::timeout(deadline, self.drain(&mut errors)).await.is_err() {
            self.tasks.abort_all();
            self.drain(&mut errors).await;
        }
        errors
    }

    async fn drain(&mut self, errors: &mut Vec<TaskError>) {
        while let Some(ended) = self.joined().await {
            errors.extend(ended.err());
        }
    }
}

fn join_error(name: String, error: JoinError) -> TaskError {
    match error.try_into_panic() {
        Ok(payload) => TaskError::Panicked { name, message: panic_message(payload.as_ref()) },
        Err(_) => TaskError::CutOff { name },
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    payload
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn shutdown_stops_waits_and_cuts_off_the_stubborn() {
        let mut tasks = TaskSet::new();
        let stop = tasks.stop_token();
        tasks.spawn("polite", async move {
            stop.cancelled().await;
            Ok(())
        });
        tasks.spawn("stubborn", std::future::pending());
        let errors = tasks.shut_down(Duration::from_secs(5)).await;
        assert_eq!(errors.len(), 1);
        assert!(matches!(&errors[0], TaskError::CutOff { name } if name == "stubborn"));
    }

    #[tokio::test]
    async fn a_panic_and_a_failure_are_errors_that_name_their_task() {
        let mut tasks = TaskSet::new();
        tasks.spawn("bug", async { panic!("index {} is out of range", 7) });
        let Some(Err(error)) = tasks.joined().await else { panic!("expected an error") };
        assert_eq!(error.to_string(), "task bug panicked: index 7 is out of range");
        tasks.spawn("io", async { Err("disk is full".into()) });
        let Some(Err(error)) = tasks.joined().await else { panic!("expected an error") };
        assert_eq!(error.to_string(), "task io failed");
        assert!(tasks.joined().await.is_none());
    }

    #[tokio::test]
    async fn a_lone_task_gives_its_result_and_ends_with_its_handle() {
        assert_eq!(spawn_named("sum", async { 2 + 2 }).await.unwrap(), 4);
        let guard = std::sync::Arc::new(());
        let held = std::sync::Arc::clone(&guard);
        drop(spawn_named("forever", async move {
            std::future::pending::<()>().await;
            drop(held);
        }));
        while std::sync::Arc::strong_count(&guard) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
