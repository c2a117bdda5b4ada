//! Process workers that can be told to kill one of their children, for `--kill`.

use std::collections::BTreeMap;

use async_trait::async_trait;
use tidegate_core::ids::ConsumerNumber;
use tidegate_runtime::ports::{Doing, Error, WorkerChange, WorkerSpec, WorkerState, Workers};
use tidegate_runtime::process::ProcessWorkers;
use tokio::sync::mpsc;

/// Kills that may wait.
const QUEUE: usize = 16;

/// Workers with a trapdoor.
#[derive(Debug)]
pub(super) struct Mortal {
    workers: ProcessWorkers,
    kills: mpsc::Receiver<ConsumerNumber>,
}

impl Mortal {
    /// The workers, and the way to kill one.
    pub(super) fn new(workers: ProcessWorkers) -> (Self, mpsc::Sender<ConsumerNumber>) {
        let (sender, kills) = mpsc::channel(QUEUE);
        (Self { workers, kills }, sender)
    }
}

#[async_trait]
impl Workers for Mortal {
    async fn lead(&mut self, leads: bool) {
        self.workers.lead(leads).await;
    }

    fn ensure(&mut self, consumer: ConsumerNumber, spec: &WorkerSpec) -> Doing {
        self.workers.ensure(consumer, spec)
    }

    fn remove(&mut self, consumer: ConsumerNumber) -> Doing {
        self.workers.remove(consumer)
    }

    async fn list(&mut self) -> Result<BTreeMap<ConsumerNumber, WorkerState>, Error> {
        self.workers.list().await
    }

    async fn changed(&mut self) -> WorkerChange {
        loop {
            // Cancel-safe because `changed` and `recv` are.
            tokio::select! {
                change = self.workers.changed() => return change,
                Some(consumer) = self.kills.recv() => {
                    let killed = self.workers.kill(consumer);
                    tracing::info!(%consumer, killed, "consumer killed");
                }
            }
        }
    }

    async fn shut_down(&mut self) {
        self.workers.shut_down().await;
    }
}
