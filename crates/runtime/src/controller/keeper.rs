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
    let keeper = Keeper { workers, wanted: BTreeMap::new(), news: news_out, was_reachable: true };
    (KeeperHandle { wishes, news }, keeper.run(wishes_in, end_workers, stop))
}

struct Keeper {
    workers: Box<dyn Workers>,
    /// What was wished and is not done yet: to run by this, or to end.
    wanted: BTreeMap<ConsumerNumber, Wanted>,
    news: mpsc::Sender<News>,
    /// What runs workers could be reached at the last look.
    was_reachable: bool,
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
        let is_reachable = self.workers.is_reachable().await;
        if is_reachable && !self.was_reachable {
            let now = Instant::now();
            for wanted in self.wanted.values_mut() {
                (wanted.due, wanted.pause) = (now, RETRY);
            }
        }
        self.was_reachable = is_reachable;
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::ports::{Class, Error};

    /// Something that runs workers and can be away.
    #[derive(Clone, Debug, Default)]
    struct Away {
        is_away: Arc<AtomicBool>,
        asked: Arc<AtomicUsize>,
    }

    #[async_trait]
    impl Workers for Away {
        async fn is_reachable(&mut self) -> bool {
            !self.is_away.load(Ordering::SeqCst)
        }

        async fn ensure(&mut self, _: ConsumerNumber, _: &WorkerSpec) -> Result<(), Error> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let away = Error::new(Class::Transient, "no answer");
            if self.is_reachable().await { Ok(()) } else { Err(away) }
        }

        async fn remove(&mut self, _: ConsumerNumber) -> Result<(), Error> {
            Ok(())
        }

        async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error> {
            Ok(BTreeMap::new())
        }

        async fn changed(&mut self) -> WorkerChange {
            std::future::pending().await
        }

        async fn shut_down(&mut self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_after_growing_pauses_and_at_once_when_it_can_be_done_again() {
        let workers = Away::default();
        workers.is_away.store(true, Ordering::SeqCst);
        let stop = CancellationToken::new();
        let (mut handle, task) = keeper(Box::new(workers.clone()), false, stop.clone());
        let task = crate::task::spawn_named("workers", task);
        let listening = crate::task::spawn_named("listening", async move {
            while handle.news.recv().await.is_some() {}
        });
        let run = Wish::Run(ConsumerNumber::FIRST, WorkerSpec::default());
        handle.wishes.send(run).await.unwrap();
        tokio::time::sleep(Duration::from_secs(300)).await;
        let asked = workers.asked.load(Ordering::SeqCst);
        assert!((8..=11).contains(&asked), "{asked} times in five minutes");
        workers.is_away.store(false, Ordering::SeqCst);
        tokio::time::sleep(RETRY * 2).await;
        assert_eq!(workers.asked.load(Ordering::SeqCst), asked + 1);
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(workers.asked.load(Ordering::SeqCst), asked + 1, "it is done");
        stop.cancel();
        task.await.unwrap().unwrap();
        listening.await.unwrap();
    }
}
