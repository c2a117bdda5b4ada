//! The things that run consumers: child processes here, Deployments on Kubernetes.
//!
//! A worker is never proof of ownership: two live replicas with one number can exist for a moment, and the ledger
//! keeps them apart.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use tidegate_core::ids::{ConsumerNumber, ProcessId};

use super::Error;

/// How a worker is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct WorkerSpec {
    /// Names the rest: a worker with another one is updated.
    pub revision: String,
    /// What its consumer works by: the group's specification as YAML, as far as it is a consumer's business.
    pub group: Arc<str>,
}

impl WorkerSpec {
    /// A spec that is named by what is in it, and by the program that is to run it where that is not.
    pub fn new(group: &str, program: &str) -> Self {
        // FNV-1a: the same for ever, unlike the standard library's, because workers outlive controllers.
        let byte =
            |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        let hash =
            program.bytes().chain([0]).chain(group.bytes()).fold(0xcbf2_9ce4_8422_2325, byte);
        Self { revision: format!("{hash:016x}"), group: group.into() }
    }
}

/// Where a worker is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Asked for, not yet started.
    Pending,
    /// Its process runs.
    Running,
    /// It ended and will be started again after a pause.
    BackingOff,
    /// It was told to end.
    Stopping,
    /// It is gone.
    Gone,
}

/// Why the controller may believe that a process is dead, beside its silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// The parent has reaped it.
    Reaped,
    /// Its pod object is gone and the kubelet had confirmed the end.
    PodGone,
    /// Its pod has ended and its node is alive.
    PodEnded,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerState {
    /// Where it is in its life.
    pub phase: Phase,
    /// What it was started with.
    pub spec: WorkerSpec,
    /// How often it was started.
    pub starts: u32,
    /// What went wrong last, for status.
    pub trouble: Option<String>,
    /// The [family](ProcessId::family) of a process of it that somebody has told to end and that still runs.
    pub ending: Option<ProcessId>,
}

impl WorkerState {
    /// A worker of which nothing else is known.
    pub fn new(phase: Phase, spec: WorkerSpec) -> Self {
        Self { phase, spec, starts: 0, trouble: None, ending: None }
    }
}

/// A change of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerChange {
    /// Which consumer's worker.
    pub consumer: ConsumerNumber,
    /// Its phase now.
    pub phase: Phase,
    /// A process known to be dead, with the reason to believe so.
    pub died: Option<(ProcessId, Evidence)>,
    /// For people.
    pub detail: String,
}

/// What was asked for, to be awaited beside everything else that is asked of the port. It says in the end how it went; who drops it leaves
/// open whether it was done.
pub type Doing = Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>;

/// Runs workers. All calls are idempotent and end before the worker has reached the wanted state.
#[async_trait]
pub trait Workers: Send + std::fmt::Debug {
    /// This process decides which workers run, or another one does. Who does not decide changes nothing by itself, be it to put right
    /// what was changed or to clean up.
    async fn lead(&mut self, _leads: bool) {}

    /// False while whatever runs workers cannot be reached. What failed meanwhile is tried again at once when it can.
    async fn is_reachable(&mut self) -> bool {
        true
    }

    /// Makes sure that a worker for this consumer runs as specified.
    fn ensure(&mut self, consumer: ConsumerNumber, spec: &WorkerSpec) -> Doing;

    /// Ends the worker of this consumer; its volume follows the retention policy. Not to be asked for while the same consumer's `ensure`
    /// goes on, nor the other way round.
    fn remove(&mut self, consumer: ConsumerNumber) -> Doing;

    /// All workers of this group.
    async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error>;

    /// Waits for the next change. Cancel-safe.
    async fn changed(&mut self) -> WorkerChange;

    /// Ends every worker and waits until they are gone, within the adapter's deadline.
    async fn shut_down(&mut self);
}
