//! The task that owns the workers, so that no slow API holds up the ledger.
//!
//! It does what is wished side by side, repeats what failed until it works or is no longer wanted, and tells the loop meanwhile what
//! changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::pin::Pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tidegate_core::ids::ConsumerNumber;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ports::{Class, Error, WorkerChange, WorkerSpec, WorkerState, Workers};
use crate::task::Failure;

/// What the keeper is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// This process decides from now on, or another one does: then whatever was wished and is not done is forgotten.
    Lead(bool),
    /// A worker for this consumer is to run, by this.
    Run(ConsumerNumber, WorkerSpec),
    /// It is to end.
    End(ConsumerNumber),
}

/// What the keeper tells.
#[derive(Debug)]
pub(super) enum News {
    /// All workers, at the beginning and whenever they were listed again.
    List(BTreeMap<ConsumerNumber, WorkerState>),
    /// One has changed.
    Change(WorkerChange),
    /// What runs workers is away, and nobody can be made or removed, or it is back.
    Reachable(bool),
}

/// Between two lists, and the first pause before a wish that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The longest such pause: a hundred workers for which there is no room must not busy an API server.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The same for what may work by itself again at any time: who runs workers may be away, and nobody tells that it is back.
const LONGEST_AWAY: Duration = Duration::from_secs(8);

/// What runs workers is away when it has not answered for so long: a restart, or one answer that got lost, is not worth a plan.
const AWAY: Duration = Duration::from_secs(15);

/// How long the end of all workers waits for what is being done.
const LAST: Duration = Duration::from_secs(15);

/// Wishes and news that may wait.
const QUEUE: usize = 1024;

/// The loop's ends of the channels.
#[derive(Debug)]
pub(super) struct KeeperHandle {
    pub(super) wishes: mpsc::Sender<Wish>,
    pub(super) news: mpsc::Receiver<News>,
}

/// Makes the channels and the task's future. When `end_workers` is set they are ended with the task; otherwise the data
/// plane goes on without its controller.
pub(super) fn keeper(
    workers: Box<dyn Workers>,
    end_workers: bool,
    stop: CancellationToken,
) -> (KeeperHandle, impl Future<Output = Result<(), Failure>>) {
    let (wishes, wishes_in) = mpsc::channel(QUEUE);
    let (news_out, news) = mpsc::channel(QUEUE);
    let keeper = Keeper {
        workers,
        wanted: BTreeMap::new(),
        doing: FuturesUnordered::new(),
        news: news_out,
        unreached: None,
    };
    (KeeperHandle { wishes, news }, keeper.run(wishes_in, end_workers, stop))
}

struct Keeper {
    workers: Box<dyn Workers>,
    /// What was wished and is not done yet: to run by this, or to end.
    wanted: BTreeMap<ConsumerNumber, Wanted>,
    /// What of it is being done, one thing at a time for each consumer.
    doing: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    news: mpsc::Sender<News>,
    /// Since when what runs workers has not been reached, and whether that was told.
    unreached: Option<(Instant, bool)>,
}

#[derive(Debug)]
struct Wanted {
    spec: Option<WorkerSpec>,
    due: Instant,
    pause: Duration,
    is_being_done: bool,
}

/// What was done for a consumer, by which wish.
struct Done {
    consumer: ConsumerNumber,
    spec: Option<WorkerSpec>,
    result: Result<(), Error>,
}

impl Keeper {
    async fn run(
        mut self,
        mut wishes: mpsc::Receiver<Wish>,
        end_workers: bool,
        stop: CancellationToken,
    ) -> Result<(), Failure> {
        let mut retry = tokio::time::interval(RETRY);
        let mut taken = Vec::new();
        loop {
            // Cancel-safe: every branch returns what it took in the same poll.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                count = wishes.recv_many(&mut taken, QUEUE) => {
                    if count == 0 {
                        break;
                    }
                    for wish in taken.drain(..) {
                        self.take(wish).await;
                    }
                    self.begin();
                }
                Some(done) = self.doing.next() => self.note(done),
                change = self.workers.changed() => {
                    self.tell(News::Change(change)).await;
                    retry.reset_immediately();
                }
                _ = retry.tick() => tokio::select! {
                    () = self.again() => {}
                    () = stop.cancelled() => break,
                },
            }
        }
        if end_workers {
            // What is begun is done first: it would be done behind the back of the end otherwise.
            let done = async { while self.doing.next().await.is_some() {} };
            drop(tokio::time::timeout(LAST, done).await);
            self.doing.clear();
            self.workers.shut_down().await;
        }
        Ok(())
    }

    async fn take(&mut self, wish: Wish) {
        match wish {
            Wish::Lead(leads) => {
                self.wanted.clear();
                self.doing.clear();
                self.workers.lead(leads).await;
            }
            Wish::Run(consumer, spec) => self.want(consumer, Some(spec)),
            Wish::End(consumer) => self.want(consumer, None),
        }
    }

    /// The same again does not make it any sooner.
    fn want(&mut self, consumer: ConsumerNumber, spec: Option<WorkerSpec>) {
        let due = Instant::now();
        match self.wanted.entry(consumer) {
            Entry::Vacant(new) => {
                new.insert(Wanted { spec, due, pause: RETRY, is_being_done: false });
            }
            Entry::Occupied(mut old) if old.get().spec != spec => {
                let is_being_done = old.get().is_being_done;
                old.insert(Wanted { spec, due, pause: RETRY, is_being_done });
            }
            Entry::Occupied(_) => {}
        }
    }

    async fn again(&mut self) {
        self.reach().await;
        self.begin();
        match self.workers.list().await {
            Ok(list) => self.tell(News::List(list)).await,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to list the workers"
            ),
        }
    }

    /// Looks whether what runs workers is away. Once it is back, what failed is tried again at once.
    async fn reach(&mut self) {
        let now = Instant::now();
        if self.workers.is_reachable().await {
            let Some((_, is_told)) = self.unreached.take() else { return };
            for wanted in self.wanted.values_mut() {
                (wanted.due, wanted.pause) = (now, RETRY);
            }
            if is_told {
                self.tell(News::Reachable(true)).await;
            }
            return;
        }
        let (since, is_told) = *self.unreached.get_or_insert((now, false));
        if !is_told && now.duration_since(since) >= AWAY {
            self.unreached = Some((since, true));
            self.tell(News::Reachable(false)).await;
        }
    }

    /// Begins with all that is due, side by side.
    fn begin(&mut self) {
        let now = Instant::now();
        for (&consumer, wanted) in &mut self.wanted {
            if wanted.is_being_done || wanted.due > now {
                continue;
            }
            wanted.is_being_done = true;
            let spec = wanted.spec.clone();
            let doing = match &spec {
                Some(spec) => self.workers.ensure(consumer, spec),
                None => self.workers.remove(consumer),
            };
            let done = async move { Done { consumer, spec, result: doing.await } };
            self.doing.push(Box::pin(done));
        }
    }

    fn note(&mut self, Done { consumer, spec, result }: Done) {
        let Some(wanted) = self.wanted.get_mut(&consumer) else { return };
        wanted.is_being_done = false;
        let is_wanted_still = wanted.spec == spec;
        if let Err(error) = result {
            let is_transient = error.class() == Class::Transient;
            let longest = if is_transient { LONGEST_AWAY } else { LONGEST_PAUSE };
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%consumer, error, "failed to change a worker; it is tried again");
            if is_wanted_still {
                wanted.due = Instant::now() + wanted.pause;
                wanted.pause = (wanted.pause * 2).min(longest);
            }
        } else if is_wanted_still {
            self.wanted.remove(&consumer);
        }
        if !is_wanted_still {
            self.begin();
        }
    }

    async fn tell(&mut self, news: News) {
        // The loop has gone: it will stop this task next.
        let _gone = self.news.send(news).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use async_trait::async_trait;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::ports::{Doing, Phase};
    use crate::task::Task;

    const ONE: ConsumerNumber = ConsumerNumber::FIRST;

    /// Something that runs workers, and can be away or slow.
    #[derive(Clone, Debug)]
    struct Doubtful {
        is_away: Arc<AtomicBool>,
        /// What may be done yet.
        turns: Arc<Semaphore>,
        asked: Arc<Mutex<Vec<&'static str>>>,
        changes: Arc<tokio::sync::Mutex<mpsc::Receiver<WorkerChange>>>,
    }

    impl Doubtful {
        fn new(turns: usize) -> (Self, mpsc::Sender<WorkerChange>) {
            let (sender, changes) = mpsc::channel(1);
            let workers = Self {
                is_away: Arc::default(),
                turns: Arc::new(Semaphore::new(turns)),
                asked: Arc::default(),
                changes: Arc::new(tokio::sync::Mutex::new(changes)),
            };
            (workers, sender)
        }

        fn ask(&self, what: &'static str) -> Doing {
            self.asked.lock().unwrap().push(what);
            let (turns, is_away) = (Arc::clone(&self.turns), self.is_away.load(Ordering::SeqCst));
            Box::pin(async move {
                turns.acquire().await.unwrap().forget();
                if is_away { Err(Error::new(Class::Transient, "no answer")) } else { Ok(()) }
            })
        }

        fn asked(&self) -> Vec<&'static str> {
            self.asked.lock().unwrap().clone()
        }

        fn kept(&self) -> (KeeperHandle, Task<Result<(), Failure>>) {
            let stop = CancellationToken::new();
            let (handle, task) = keeper(Box::new(self.clone()), false, stop);
            (handle, crate::task::spawn_named("workers", task))
        }
    }

    #[async_trait]
    impl Workers for Doubtful {
        async fn is_reachable(&mut self) -> bool {
            !self.is_away.load(Ordering::SeqCst)
        }

        fn ensure(&mut self, _: ConsumerNumber, _: &WorkerSpec) -> Doing {
            self.ask("run")
        }

        fn remove(&mut self, _: ConsumerNumber) -> Doing {
            self.ask("end")
        }

        async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error> {
            Ok(BTreeMap::new())
        }

        async fn changed(&mut self) -> WorkerChange {
            match self.changes.lock().await.recv().await {
                Some(change) => change,
                None => std::future::pending().await,
            }
        }

        async fn shut_down(&mut self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_after_growing_pauses_and_at_once_when_it_can_be_done_again() {
        let (workers, _changes) = Doubtful::new(usize::MAX >> 3);
        workers.is_away.store(true, Ordering::SeqCst);
        let (mut handle, _task) = workers.kept();
        let _listening = crate::task::spawn_named("listening", async move {
            while handle.news.recv().await.is_some() {}
        });
        handle.wishes.send(Wish::Run(ONE, WorkerSpec::default())).await.unwrap();
        tokio::time::sleep(Duration::from_secs(300)).await;
        let asked = workers.asked().len();
        assert!((36..=42).contains(&asked), "{asked} times in five minutes");
        workers.is_away.store(false, Ordering::SeqCst);
        tokio::time::sleep(RETRY * 2).await;
        assert_eq!(workers.asked().len(), asked + 1);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(workers.asked().len(), asked + 1, "it is done");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_holds_up_nothing_but_other_wishes_for_the_same_consumer() {
        let (workers, changes) = Doubtful::new(0);
        let (mut handle, _task) = workers.kept();
        let run = |consumer| Wish::Run(consumer, WorkerSpec::default());
        for wish in [run(ONE), Wish::End(ONE), run(ConsumerNumber::new(2).unwrap())] {
            handle.wishes.send(wish).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let detail = "its pod runs".to_owned();
        let change = WorkerChange { consumer: ONE, phase: Phase::Running, died: None, detail };
        changes.send(change.clone()).await.unwrap();
        let told = async {
            loop {
                if let News::Change(told) = handle.news.recv().await.unwrap() {
                    return told;
                }
            }
        };
        assert_eq!(told.await, change);
        assert_eq!(workers.asked(), ["run", "run"], "the end of the first waits for its begin");
        workers.turns.add_permits(3);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(workers.asked(), ["run", "run", "end"]);
        assert_eq!(workers.turns.available_permits(), 0, "all is done");
    }
}
