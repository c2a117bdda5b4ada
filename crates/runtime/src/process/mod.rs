//! Consumers as child processes of the controller, on one machine.
//!
//! ```text
//! ensure, remove ─► ProcessWorkers ──wanted──► one supervising task for each consumer ──► child process
//!        changed ◄──────────────────changes───────────┘
//! ```
//!
//! A child must outlive a controller that dies, because the data plane does not need one. So children are in process
//! groups of their own, nothing kills them when their parent goes, and each has a record beside its data by which the
//! next controller finds it: it adopts those that live and reports those that are dead.

use std::collections::{BTreeMap, VecDeque};
use std::future::ready;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Signal, pidfd_send_signal};
use tidegate_core::ids::{ConsumerNumber, ProcessId};
use tokio::sync::{mpsc, watch};

use crate::ports::{
    Class, Clock, Doing, Error, Evidence, Phase, WorkerChange, WorkerSpec, WorkerState, Workers,
};
use crate::spec::Backoff;
use crate::state_file::DirectoryLock;
use crate::task::TaskSet;

mod child;
mod record;
mod supervise;

use child::{Adoption, Child};
use record::Record;
use supervise::Supervisor;

/// Changes that may wait to be read before the supervising tasks wait too. A controller reads all the time; this is
/// a bound for one that hangs.
const QUEUED_CHANGES: usize = 256;

/// What `shut_down` waits beyond the grace that children get: for the kernel to reap what was killed.
const REAP_TIME: Duration = Duration::from_secs(5);

/// How children are run.
#[derive(Clone, Debug)]
pub struct ProcessOptions {
    /// What to run.
    pub command: ChildCommand,
    /// Holds one directory `consumer-N` for each consumer, and the lock of the controller.
    pub directory: PathBuf,
    /// Time from SIGTERM to SIGKILL.
    pub stop_grace: Duration,
    /// Pauses before a child that ended is started again.
    pub backoff: Backoff,
}

/// A command line. In arguments and values of variables `{consumer}` stands for the consumer's number, `{directory}`
/// for its data directory, `{process}` for the id of the new process and `{spec}` for the file with its specification. The id is
/// also in the variable `TIDEGATE_PROCESS_ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildCommand {
    /// Path of the program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Variables on top of the controller's own.
    pub environment: Vec<(String, String)>,
}

/// Runs consumers as child processes. Dropping it leaves them running; [`Workers::shut_down`] ends them.
#[derive(Debug)]
pub struct ProcessWorkers {
    options: Arc<ProcessOptions>,
    clock: Arc<dyn Clock>,
    table: Arc<Table>,
    tasks: TaskSet,
    found_dead: VecDeque<WorkerChange>,
    sender: mpsc::Sender<WorkerChange>,
    receiver: mpsc::Receiver<WorkerChange>,
    _lock: DirectoryLock,
}

/// The workers by number, shared with the supervising tasks; never locked across an await.
#[derive(Debug, Default)]
struct Table(Mutex<BTreeMap<ConsumerNumber, Entry>>);

#[derive(Debug)]
struct Entry {
    /// What the worker is to be run with; `None` when it is to end.
    wanted: watch::Sender<Option<WorkerSpec>>,
    state: WorkerState,
    /// A handle of the living process; unlike a pid it never means another one.
    handle: Option<Arc<OwnedFd>>,
}

/// A new random process id, for children and for processes that have no parent to give them one.
pub fn new_process_id() -> std::io::Result<ProcessId> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)?;
    Ok(ProcessId(u128::from_be_bytes(id)))
}

impl ProcessWorkers {
    /// Takes the directory and adopts the children that an earlier controller left there. Fails with class `Permanent` when another controller uses the directory.
    pub async fn start(options: ProcessOptions, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let doing =
            format!("failed to take the workers' directory {}", options.directory.display());
        let failed = |cause| Error::new(Class::Permanent, doing).because(cause);
        let lock = DirectoryLock::take(&options.directory).map_err(failed)?;
        let (sender, receiver) = mpsc::channel(QUEUED_CHANGES);
        let mut workers = Self {
            options: Arc::new(options),
            clock,
            table: Arc::default(),
            tasks: TaskSet::new(),
            found_dead: VecDeque::new(),
            sender,
            receiver,
            _lock: lock,
        };
        workers.adopt_all().await;
        Ok(workers)
    }

    /// Kills the child of a consumer with SIGKILL, as a fault to recover from: it is started again. Returns false when
    /// there is none.
    pub fn kill(&self, consumer: ConsumerNumber) -> bool {
        let table = self.table.lock();
        let handle = table.get(&consumer).and_then(|entry| entry.handle.as_ref());
        handle.is_some_and(|handle| pidfd_send_signal(handle, Signal::KILL).is_ok())
    }

    async fn adopt_all(&mut self) {
        for (consumer, record) in record::all(&self.options.directory) {
            let directory = record::directory(&self.options.directory, consumer);
            match Child::adopt(&record, &directory).await {
                Adoption::Alive(child) => {
                    tracing::info!(%consumer, process = %record.process, "worker adopted");
                    self.supervise(consumer, child.spec.clone(), Some(*child));
                }
                Adoption::Dead => {
                    Record::remove(&directory);
                    self.found_dead.push_back(found_dead(consumer, record.process));
                }
                Adoption::Unknown => {
                    tracing::warn!(%consumer, "nothing is known about an earlier worker");
                }
            }
        }
    }

    fn supervise(&mut self, consumer: ConsumerNumber, spec: WorkerSpec, child: Option<Child>) {
        let (wanted, receiver) = watch::channel(Some(spec.clone()));
        let state = WorkerState::new(Phase::Pending, spec);
        self.table.lock().insert(consumer, Entry { wanted, state, handle: None });
        let supervisor = Supervisor {
            consumer,
            directory: record::directory(&self.options.directory, consumer),
            options: Arc::clone(&self.options),
            clock: Arc::clone(&self.clock),
            table: Arc::clone(&self.table),
            wanted: receiver,
            changes: self.sender.clone(),
        };
        self.tasks.spawn(format!("worker-{consumer}"), async move {
            supervisor.run(child).await;
            Ok(())
        });
    }
}

#[async_trait]
impl Workers for ProcessWorkers {
    fn ensure(&mut self, consumer: ConsumerNumber, spec: &WorkerSpec) -> Doing {
        let is_known = self.table.want(consumer, Some(spec));
        if !is_known {
            self.supervise(consumer, spec.clone(), None);
        }
        Box::pin(ready(Ok(())))
    }

    /// The consumer's directory stays, for people and for the consumer of this number that comes next.
    fn remove(&mut self, consumer: ConsumerNumber) -> Doing {
        self.table.want(consumer, None);
        Box::pin(ready(Ok(())))
    }

    async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error> {
        // What it was told to run, as with any other kind of worker; nothing when it is to end.
        let state = |entry: &Entry| {
            let spec = entry.wanted.borrow().clone().unwrap_or_default();
            WorkerState { spec, ..entry.state.clone() }
        };
        let table = self.table.lock();
        Ok(table.iter().map(|(consumer, entry)| (*consumer, state(entry))).collect())
    }

    async fn changed(&mut self) -> WorkerChange {
        if let Some(change) = self.found_dead.pop_front() {
            return change;
        }
        // Cancel-safe because `recv` and `joined` are. `self` has a sender, so that the channel never closes.
        loop {
            tokio::select! {
                Some(change) = self.receiver.recv() => return change,
                Some(Err(error)) = self.tasks.joined() => {
                    tracing::error!(error = &error as &dyn std::error::Error, "worker unsupervised");
                }
                else => std::future::pending().await,
            }
        }
    }

    async fn shut_down(&mut self) {
        let consumers: Vec<ConsumerNumber> = self.table.lock().keys().copied().collect();
        for consumer in consumers {
            self.table.want(consumer, None);
        }
        let all_gone = async {
            while !self.tasks.is_empty() {
                tokio::select! {
                    _ = self.tasks.joined() => {}
                    // Read on, or the tasks would wait for room in the queue.
                    _ = self.receiver.recv() => {}
                }
            }
        };
        if tokio::time::timeout(self.options.stop_grace + REAP_TIME, all_gone).await.is_err() {
            tracing::error!("some workers did not end");
        }
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<ConsumerNumber, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says what a worker is to be run with; false when there is no such worker.
    fn want(&self, consumer: ConsumerNumber, spec: Option<&WorkerSpec>) -> bool {
        let table = self.lock();
        let Some(entry) = table.get(&consumer) else { return false };
        entry.wanted.send_if_modified(|wanted| {
            let differs = wanted.as_ref() != spec;
            *wanted = spec.cloned();
            differs
        });
        true
    }

    fn update(&self, consumer: ConsumerNumber, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.lock().get_mut(&consumer) {
            change(entry);
        }
    }

    /// Forgets a worker unless it is wanted again.
    fn forget(&self, consumer: ConsumerNumber) -> bool {
        let mut table = self.lock();
        let is_wanted = table.get(&consumer).is_some_and(|entry| entry.wanted.borrow().is_some());
        if !is_wanted {
            table.remove(&consumer);
        }
        !is_wanted
    }
}

fn found_dead(consumer: ConsumerNumber, process: ProcessId) -> WorkerChange {
    WorkerChange {
        consumer,
        phase: Phase::Gone,
        died: Some((process, Evidence::Reaped)),
        detail: "it had ended when this controller started".to_owned(),
    }
}

#[cfg(test)]
mod tests;
