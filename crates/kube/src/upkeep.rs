//! Upkeep: workloads that somebody else has changed are put right, claims that nobody uses are deleted, and the budget is kept.
//!
//! The watch says what is owed, and this task does it. Each thing has a pause of its own that grows: neither a quarrel with another
//! controller nor a right that is missing becomes a storm, and no slow request holds up the watch.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::ids::ConsumerNumber;
use tidegate_runtime::ports::{Error, Phase, WorkerChange};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::workers::Shared;

/// Time between two looks at what is due.
const LOOK: Duration = Duration::from_secs(2);

/// Time between two applications of the budget, which is not watched.
const BUDGET: Duration = Duration::from_secs(300);

/// The first pause before the same is done again, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// What was quiet for so long begins with the first pause again.
const QUIET: Duration = Duration::from_secs(600);

/// What is owed, and when it may be done.
#[derive(Debug, Default)]
pub(crate) struct Owed {
    /// Workloads to be looked at, with the generation that they were seen in; `None` for one that is not there.
    workloads: BTreeMap<ConsumerNumber, Option<i64>>,
    pauses: BTreeMap<(Chore, ConsumerNumber), Pause>,
}

/// What is done for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Chore {
    Repair,
    Collect,
}

#[derive(Clone, Copy, Debug)]
struct Pause {
    until: Instant,
    next: Duration,
}

/// Does what is owed until nobody listens.
pub(crate) async fn run(shared: Arc<Shared>, changes: mpsc::Sender<WorkerChange>) {
    let mut looks = tokio::time::interval(LOOK);
    let mut budgets = tokio::time::interval(BUDGET);
    budgets.reset();
    loop {
        // Cancel-safe: what is owed stays so until it is done.
        tokio::select! {
            () = shared.owes.notified() => {}
            _ = looks.tick() => {}
            _ = budgets.tick() => shared.keep_budget().await,
        }
        shared.repair_due().await;
        for change in shared.collect().await {
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

// === impl Owed ===

impl Owed {
    /// A workload is not as it should be, or may not be.
    pub(crate) fn workload(&mut self, consumer: ConsumerNumber, generation: Option<i64>) {
        self.workloads.insert(consumer, generation);
    }

    /// Another process sees to it.
    pub(crate) fn clear(&mut self) {
        self.workloads.clear();
        self.pauses.clear();
    }

    fn take_due(&mut self, now: Instant) -> BTreeMap<ConsumerNumber, Option<i64>> {
        let all = std::mem::take(&mut self.workloads).into_iter();
        let (due, later) = all.partition(|(it, _)| self.is_due(now, Chore::Repair, *it));
        self.workloads = later;
        due
    }

    fn is_due(&self, now: Instant, chore: Chore, consumer: ConsumerNumber) -> bool {
        self.pauses.get(&(chore, consumer)).is_none_or(|pause| pause.until <= now)
    }

    /// The same is not done again for a while. True for the first time in a long one.
    fn pause(&mut self, now: Instant, chore: Chore, consumer: ConsumerNumber) -> bool {
        self.pauses.retain(|_, pause| now < pause.until + QUIET);
        let before = self.pauses.get(&(chore, consumer)).copied();
        let length = before.map_or(PAUSES.0, |pause| pause.next);
        let pause = Pause { until: now + length, next: (length * 2).min(PAUSES.1) };
        self.pauses.insert((chore, consumer), pause);
        before.is_none()
    }
}

// === impl Shared ===

impl Shared {
    async fn keep_budget(&self) {
        if !self.lock().leads() {
            return;
        }
        if let Err(error) = self.apply_budget().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the disruption budget was not applied; it is tried again"
            );
        }
    }

    async fn repair_due(&self) {
        let due = self.lock().owed.take_due(Instant::now());
        for (consumer, generation) in due {
            self.repair(consumer, generation).await;
        }
    }

    /// Puts right a workload that somebody else has changed or deleted.
    async fn repair(&self, consumer: ConsumerNumber, generation: Option<i64>) {
        let spec = {
            let state = self.lock();
            let Some(spec) = state.to_run(consumer) else { return };
            let differs = generation.is_none()
                || generation > state.applied.get(&consumer).copied()
                || state.sight.lacks_claim(consumer);
            if !differs {
                return;
            }
            spec
        };
        let now = Instant::now();
        match self.apply_consumer(consumer, &spec).await {
            // Nothing of it was ours.
            Ok(now) if generation == Some(now) => {}
            Ok(_) => {
                tracing::warn!(%consumer, "a workload that somebody has changed or deleted is as it should be again");
                self.lock().owed.pause(now, Chore::Repair, consumer);
                self.options.metrics.repairs.inc();
                self.tell_drift(consumer);
            }
            Err(error) => {
                tracing::warn!(%consumer, error = &error as &dyn std::error::Error, "a workload that somebody has changed was not put right; it is tried again");
                let mut state = self.lock();
                state.owed.pause(now, Chore::Repair, consumer);
                state.owed.workloads.entry(consumer).or_insert(None);
            }
        }
    }

    /// Somebody else has changed or deleted a workload.
    fn tell_drift(&self, consumer: ConsumerNumber) {
        if let Some(drift) = &self.options.drift {
            // Who does not keep up with them has been told of enough.
            let _full = drift.try_send(consumer);
        }
    }

    /// Deletes claims that nobody uses any more. Returns what is to be told of those that could not be deleted.
    async fn collect(&self) -> Vec<WorkerChange> {
        let mut told = Vec::new();
        let now = Instant::now();
        for consumer in self.idle_claims() {
            // It may be wanted again since the last one was deleted.
            if !self.idle_claims().contains(&consumer)
                || !self.lock().owed.is_due(now, Chore::Collect, consumer)
            {
                continue;
            }
            match self.kinds.claims.delete(&self.names.consumer(consumer)).await {
                Ok(()) => self.lock().sight.note_claim(consumer, false),
                Err(error) => {
                    if self.lock().owed.pause(now, Chore::Collect, consumer) {
                        told.push(kept(consumer, &error));
                    }
                }
            }
        }
        told
    }

    /// Consumers whose claims are to go.
    pub(crate) fn idle_claims(&self) -> Vec<ConsumerNumber> {
        if self.options.retain || !self.seen.borrow().all() {
            return Vec::new();
        }
        let state = self.lock();
        if !state.leads() {
            return Vec::new();
        }
        let idle = state.sight.idle_claims().into_iter();
        idle.filter(|consumer| state.to_run(*consumer).is_none()).collect()
    }
}

fn kept(consumer: ConsumerNumber, error: &Error) -> WorkerChange {
    tracing::warn!(%consumer, error = error as &dyn std::error::Error, "a claim that nobody uses was not deleted; it is tried again");
    let detail = format!("its claim was not deleted: {error}");
    WorkerChange { consumer, phase: Phase::Gone, died: None, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ConsumerNumber = ConsumerNumber::FIRST;

    #[tokio::test(start_paused = true)]
    async fn who_changes_a_workload_again_and_again_is_followed_after_growing_pauses() {
        let mut owed = Owed::default();
        let (began, mut repairs) = (Instant::now(), Vec::new());
        while began.elapsed() < Duration::from_secs(1000) {
            owed.workload(ONE, Some(7));
            if !owed.take_due(Instant::now()).is_empty() {
                repairs.push(began.elapsed().as_secs());
                owed.pause(Instant::now(), Chore::Repair, ONE);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(repairs, [0, 2, 6, 14, 30, 62, 126, 254, 510, 810]);
        assert!(owed.take_due(Instant::now()).is_empty(), "it stays owed");
        tokio::time::advance(PAUSES.1).await;
        assert_eq!(owed.take_due(Instant::now()).len(), 1);
        tokio::time::advance(QUIET + PAUSES.1).await;
        assert!(owed.pause(Instant::now(), Chore::Repair, ONE), "it was quiet for long");
        assert!(!owed.pause(Instant::now(), Chore::Repair, ONE));
        assert!(owed.is_due(Instant::now(), Chore::Collect, ONE), "one chore holds up no other");
    }
}
