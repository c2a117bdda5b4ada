//! The task that owns the workers, so that no slow API holds up the ledger.
//!
//! It repeats what failed until it works or is no longer wanted, and tells the loop what changed.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::ids::ConsumerNumber;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::ports::{WorkerChange, WorkerSpec, WorkerState, Workers};
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
}

/// Between two lists, and the first pause before a wish that failed is tried again.
const RETRY: Duration = Duration::from_secs(2);

/// The longest such pause: a hundred workers for which there is no room must not busy an API server.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

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
    let keeper = Keeper { workers, wanted: BTreeMap::new(), news: news_out };
    (KeeperHandle { wishes, news }, keeper.run(wishes_in, end_workers, stop))
}

struct Keeper {
    workers: Box<dyn Workers>,
    /// What was wished and is not done yet: to run by this, or to end.
    wanted: BTreeMap<ConsumerNumber, Wanted>,
    news: mpsc::Sender<News>,
}

#[derive(Clone, Debug)]
struct Wanted {
    spec: Option<WorkerSpec>,
    due: Instant,
    pause: Duration,
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
                // All that wait, so that workers are started side by side.
                count = wishes.recv_many(&mut taken, QUEUE) => {
                    if count == 0 {
                        break;
                    }
                    for wish in taken.drain(..) {
                        self.take(wish).await;
                    }
                    self.fulfil().await;
                }
                change = self.workers.changed() => {
                    self.tell(News::Change(change)).await;
                    retry.reset_immediately();
                }
                _ = retry.tick() => self.again().await,
            }
        }
        if end_workers {
            self.workers.shut_down().await;
        }
        Ok(())
    }

    async fn take(&mut self, wish: Wish) {
        match wish {
            Wish::Lead(leads) => {
                self.wanted.clear();
                self.workers.lead(leads).await;
            }
            Wish::Run(consumer, spec) => self.want(consumer, Some(spec)),
            Wish::End(consumer) => self.want(consumer, None),
        }
    }

    /// The same again does not make it any sooner.
    fn want(&mut self, consumer: ConsumerNumber, spec: Option<WorkerSpec>) {
        if self.wanted.get(&consumer).is_none_or(|wanted| wanted.spec != spec) {
            self.wanted.insert(consumer, Wanted { spec, due: Instant::now(), pause: RETRY });
        }
    }

    async fn again(&mut self) {
        self.fulfil().await;
        match self.workers.list().await {
            Ok(list) => self.tell(News::List(list)).await,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to list the workers"
            ),
        }
    }

    async fn fulfil(&mut self) {
        let now = Instant::now();
        let (mut run, mut failed) = (BTreeMap::new(), BTreeMap::new());
        let (due, later): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.wanted).into_iter().partition(|(_, wanted)| wanted.due <= now);
        self.wanted = later;
        for (consumer, wanted) in &due {
            if let Some(spec) = &wanted.spec {
                run.insert(*consumer, spec.clone());
            } else {
                let removed = self.workers.remove(*consumer).await;
                failed.extend(removed.err().map(|error| (*consumer, error)));
            }
        }
        if !run.is_empty() {
            failed.extend(self.workers.ensure_all(&run).await);
        }
        for (consumer, error) in failed {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(%consumer, error, "failed to change a worker; it is tried again");
            if let Some(Wanted { spec, pause, .. }) = due.get(&consumer).cloned() {
                let next = (pause * 2).min(LONGEST_PAUSE);
                self.wanted.insert(consumer, Wanted { spec, due: now + pause, pause: next });
            }
        }
    }

    async fn tell(&mut self, news: News) {
        // The loop has gone: it will stop this task next.
        let _gone = self.news.send(news).await;
    }
}
