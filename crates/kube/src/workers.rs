//! The port: applies and deletes what runs consumers, and tells what the watch sees of it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;
use kube::Client;
use kube::api::ListParams;
use tidegate_core::ids::ConsumerNumber;
use tidegate_runtime::ports::{
    Class, Doing, Error, WorkerChange, WorkerSpec, WorkerState, Workers,
};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::errors;
use crate::kinds::Kinds;
use crate::names::Names;
use crate::objects::{budget, claim, workers_of, workload};
use crate::options::KubeOptions;
use crate::sight::{Sight, Workload};
use crate::upkeep::{self, Owed};
use crate::watch::Watch;

/// Changes that may wait to be read before the watch waits too.
const QUEUED_CHANGES: usize = 256;

/// Consumers whose objects are applied at the same time.
const AT_ONCE: usize = 32;

/// How long a list waits for the first sight of everything.
const FIRST_SIGHT: Duration = Duration::from_secs(10);

/// What is broken is tried again, and says so, more often than this: a server that drops what it is sent takes ten seconds to be missed.
const STILL_BROKEN: Duration = Duration::from_secs(14);

/// Requests of this process, beside the watches, by resource.
const REQUESTS: &str = "requests";

/// How long the question may take whether the API server is there again.
const ANSWER: Duration = Duration::from_secs(2);

/// Time between two looks whether all have ended.
const END_LOOK: Duration = Duration::from_millis(200);

/// Before `shut_down` removes again what is still there.
const REMOVE_AGAIN: Duration = Duration::from_secs(5);

/// What `shut_down` waits beyond the grace that pods get.
const REMOVAL: Duration = Duration::from_secs(30);

/// Runs consumers on Kubernetes. Dropping it leaves them running.
#[derive(Debug)]
pub struct KubeWorkers {
    shared: Arc<Shared>,
    changes: mpsc::Receiver<WorkerChange>,
    /// Changes that came while a list was waited for.
    early: VecDeque<WorkerChange>,
    _tasks: [Task<()>; 2],
}

/// What the port and the watch have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: KubeOptions,
    pub(crate) names: Names,
    pub(crate) kinds: Kinds,
    state: Mutex<State>,
    /// Workloads, claims and pods that have all been seen once.
    pub(crate) seen: watch::Sender<Seen>,
    /// Something is owed that can be done at once.
    pub(crate) owes: Notify,
    /// For whom objects are applied.
    turns: Semaphore,
}

/// What was seen once as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) workloads: bool,
    pub(crate) claims: bool,
    pub(crate) pods: bool,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) sight: Sight,
    /// This process decides which workers run. While another one does, nothing is put right or deleted here.
    leads: bool,
    /// What should run, by whoever has this process's ear; `None` for what should end and is not seen to be gone.
    wanted: BTreeMap<ConsumerNumber, Option<WorkerSpec>>,
    /// The generation that each workload had after it was applied.
    pub(crate) applied: BTreeMap<ConsumerNumber, i64>,
    /// The budget was applied, or is being applied, since this process leads.
    has_budget: bool,
    /// What the upkeep has to do.
    pub(crate) owed: Owed,
    /// Watches that are broken, by resource, and requests that are not answered.
    pub(crate) broken: BTreeMap<&'static str, Broken>,
}

/// Why something is broken, as far as is known: of a watch nobody tells when it is not any more, only each time when it still is.
#[derive(Debug)]
pub(crate) struct Broken {
    pub(crate) at: Instant,
    pub(crate) why: String,
    /// By a missing right, and not by an API server that is away.
    pub(crate) is_forbidden: bool,
}

// === impl KubeWorkers ===

impl KubeWorkers {
    /// Begins to watch. Nothing is made before it is asked for.
    pub fn start(client: &Client, options: KubeOptions) -> Self {
        let names = Names::new(&options.group);
        let kinds = Kinds::new(client, &options.namespace, options.keeping, &options.metrics);
        let (state, seen) = (Mutex::default(), watch::Sender::new(Seen::default()));
        let (owes, turns) = (Notify::new(), Semaphore::new(AT_ONCE));
        let shared = Arc::new(Shared { options, names, kinds, state, seen, owes, turns });
        let (sender, changes) = mpsc::channel(QUEUED_CHANGES);
        let watching = Watch::new(Arc::clone(&shared)).run(sender.clone());
        let upkeep = upkeep::run(Arc::clone(&shared), sender);
        let tasks =
            [spawn_named("kubernetes watch", watching), spawn_named("kubernetes upkeep", upkeep)];
        Self { shared, changes, early: VecDeque::new(), _tasks: tasks }
    }

    /// Removes all that is there. True if something was.
    async fn remove_all(&mut self) -> bool {
        let consumers: Vec<_> = self.list().await.unwrap_or_default().into_keys().collect();
        let removals: Vec<_> = consumers.iter().map(|consumer| self.remove(*consumer)).collect();
        for removed in join_all(removals).await {
            if let Err(error) = removed {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a worker was not removed; it is tried again");
            }
        }
        !consumers.is_empty()
    }

    /// Waits until everything has been seen once. What changes meanwhile must not stop the watch.
    async fn first_sight(&mut self) {
        let mut seen = self.shared.seen.subscribe();
        loop {
            // Cancel-safe: a change is taken and kept in one poll.
            tokio::select! {
                biased;
                _ = seen.wait_for(|seen| seen.all()) => return,
                Some(change) = self.changes.recv() => self.early.push_back(change),
            }
        }
    }
}

#[async_trait]
impl Workers for KubeWorkers {
    async fn lead(&mut self, leads: bool) {
        self.shared.lock().lead(leads);
        self.shared.owes.notify_one();
    }

    async fn is_reachable(&mut self) -> bool {
        let is_broken = {
            let state = self.shared.lock();
            let is = |broken: &Broken| !broken.is_forbidden && broken.at.elapsed() < STILL_BROKEN;
            state.broken.values().any(is)
        };
        // A watch that goes on again says nothing of it until something happens.
        !is_broken || self.shared.answers().await
    }

    fn ensure(&mut self, consumer: ConsumerNumber, spec: &WorkerSpec) -> Doing {
        self.shared.lock().wanted.insert(consumer, Some(spec.clone()));
        let (shared, spec) = (Arc::clone(&self.shared), spec.clone());
        Box::pin(async move {
            let done = shared.ensure(consumer, &spec).await;
            shared.note_answer(&done);
            done
        })
    }

    fn remove(&mut self, consumer: ConsumerNumber) -> Doing {
        let is_there = {
            let mut state = self.shared.lock();
            state.wanted.insert(consumer, None);
            let was_applied = state.applied.remove(&consumer).is_some();
            was_applied || state.sight.has_workload(consumer) || !self.shared.seen.borrow().all()
        };
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // Its pod may be there for long yet.
            if !is_there {
                return Ok(());
            }
            // Never closed.
            let _turn = shared.turns.acquire().await;
            // The claim goes when the pod is gone: the watch sees to it.
            let done = shared.kinds.workloads.delete(&shared.names.consumer(consumer)).await;
            shared.note_answer(&done);
            done
        })
    }

    async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error> {
        let is_whole = tokio::time::timeout(FIRST_SIGHT, self.first_sight()).await.is_ok();
        let state = self.shared.lock();
        // An API server that is away has told what there was; one that forbids to watch will never tell what becomes of it.
        let forbids = |broken: &Broken| broken.is_forbidden && broken.at.elapsed() < STILL_BROKEN;
        if is_whole && !state.broken.values().any(forbids) {
            return Ok(state.sight.list());
        }
        let why: Vec<&str> = state.broken.values().map(|broken| &*broken.why).collect();
        let why = if why.is_empty() { "it does not answer".to_owned() } else { why.join("; ") };
        let text = format!("the API server does not tell which workers there are: {why}");
        Err(Error::new(Class::Transient, text))
    }

    async fn changed(&mut self) -> WorkerChange {
        if let Some(change) = self.early.pop_front() {
            return change;
        }
        // Cancel-safe because `recv` is. The watch ends with this value only.
        match self.changes.recv().await {
            Some(change) => change,
            None => std::future::pending().await,
        }
    }

    async fn shut_down(&mut self) {
        self.lead(true).await;
        let shared = Arc::clone(&self.shared);
        let is_left = || !shared.lock().sight.list().is_empty() || !shared.idle_claims().is_empty();
        let gone = async {
            while self.remove_all().await || is_left() {
                let again = Instant::now() + REMOVE_AGAIN;
                while is_left() && Instant::now() < again {
                    // That a claim is gone is no change of a worker.
                    let _late = tokio::time::timeout(END_LOOK, self.changed()).await;
                }
            }
        };
        if tokio::time::timeout(shared.options.stop_grace + REMOVAL, gone).await.is_err() {
            tracing::error!("some workers did not end");
        }
    }
}

// === impl Shared ===

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is answered is there, and what answers one request is not away for the watches either.
    fn note_answer(&self, done: &Result<(), Error>) {
        let mut state = self.lock();
        match done {
            Err(error) if errors::is_no_answer(error) => {
                let (at, why) = (Instant::now(), error.to_string());
                state.broken.insert(REQUESTS, Broken { at, why, is_forbidden: false });
            }
            Err(_) => drop(state.broken.remove(REQUESTS)),
            Ok(()) => state.broken.retain(|_, broken| broken.is_forbidden),
        }
    }

    /// Asks for something small.
    async fn answers(&self) -> bool {
        let parameters = ListParams::default().labels(&self.names.selector()).limit(1);
        let asked = tokio::time::timeout(ANSWER, self.kinds.pods.list(&parameters)).await;
        let answers = matches!(asked, Ok(Ok(_) | Err(kube::Error::Api(_))));
        if answers {
            self.lock().broken.retain(|_, broken| broken.is_forbidden);
        }
        answers
    }

    pub(crate) async fn apply_budget(&self) -> Result<(), Error> {
        let body = budget(&self.options, &self.names);
        self.kinds.budgets.apply(&self.names.budget(), &body).await.map(drop)
    }

    /// Applies claim and workload. Returns the generation that the workload has now.
    pub(crate) async fn apply_consumer(
        &self,
        consumer: ConsumerNumber,
        spec: &WorkerSpec,
    ) -> Result<i64, Error> {
        let (workers, name) = (workers_of(spec)?, self.names.consumer(consumer));
        let body = claim(&self.options, &self.names, consumer, &workers.kubernetes.storage);
        if let Err(error) = self.kinds.claims.apply(&name, &body).await {
            // A claim cannot get a smaller volume or one of another class: the one that is there serves on.
            let serves = self.lock().sight.has_claim(consumer);
            if error.class() != Class::Permanent || !serves {
                return Err(error);
            }
            tracing::warn!(%consumer, error = &error as &dyn std::error::Error, "a claim stays as it is: to change it, drain its consumer");
        }
        let body = workload(&self.options, &self.names, consumer, spec, &workers);
        let applied = self.kinds.workloads.apply(&name, &body).await?;
        let generation = applied.metadata.generation.unwrap_or_default();
        let mut state = self.lock();
        state.applied.insert(consumer, generation);
        // Something else may have been asked for, and have been applied before this.
        if state.to_run(consumer).is_some_and(|now| now != *spec) {
            state.owed.workload(consumer, None);
            self.owes.notify_one();
        }
        Ok(generation)
    }

    async fn ensure(&self, consumer: ConsumerNumber, spec: &WorkerSpec) -> Result<(), Error> {
        // Never closed.
        let _turn = self.turns.acquire().await;
        // One applies it, and nobody waits for that.
        if !std::mem::replace(&mut self.lock().has_budget, true) {
            let applied = self.apply_budget().await;
            self.lock().has_budget = applied.is_ok();
            applied?;
        }
        self.apply_consumer(consumer, spec).await.map(drop)
    }
}

impl State {
    fn lead(&mut self, leads: bool) {
        self.leads = leads;
        self.wanted.clear();
        self.applied.clear();
        self.owed.clear();
        self.has_budget = false;
        if leads {
            // What a controller before this one has made is as it should be until somebody says otherwise.
            let workloads: Vec<_> =
                self.sight.workloads().map(|(at, it)| (at, it.clone())).collect();
            for (consumer, workload) in workloads {
                self.adopt(consumer, workload);
            }
        }
    }

    /// A workload that this process has not made is kept as it is, unless it runs nothing, or another image than it was told to: then
    /// somebody has changed it while nobody looked.
    pub(crate) fn adopt(&mut self, consumer: ConsumerNumber, workload: Workload) {
        let Workload { spec, generation, replicas, image } = workload;
        if !self.leads || spec.revision.is_empty() || self.wanted.contains_key(&consumer) {
            return;
        }
        let is_other = workers_of(&spec).is_ok_and(|workers| workers.kubernetes.image != image);
        if replicas != 1 || is_other {
            self.owed.workload(consumer, None);
        } else {
            self.applied.insert(consumer, generation);
        }
        self.wanted.insert(consumer, Some(spec));
    }

    pub(crate) fn leads(&self) -> bool {
        self.leads
    }

    /// A workload is gone: what should have ended has.
    pub(crate) fn forget(&mut self, consumer: ConsumerNumber) {
        self.applied.remove(&consumer);
        if self.wanted.get(&consumer) == Some(&None) {
            self.wanted.remove(&consumer);
        }
    }

    /// What should run for this consumer.
    pub(crate) fn to_run(&self, consumer: ConsumerNumber) -> Option<WorkerSpec> {
        self.wanted.get(&consumer).cloned().flatten()
    }
}

impl Seen {
    pub(crate) fn all(self) -> bool {
        self.workloads && self.claims && self.pods
    }
}
