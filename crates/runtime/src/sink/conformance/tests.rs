//! Sinks that are broken on purpose: the suite must catch each by name, and every check must catch one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tidegate_core::ids::{FencingToken, PartitionId, Position};

use super::{Outcome, REJECTS, Report, Suite};
use crate::ports::{Batch, Guarantee, Record, Rejection, Sink, SinkError, TopicPartition};

/// What is wrong with a sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    Nothing,
    /// A partition that it does not know stands at 0.
    BeginsAtZero,
    /// The position is that of this process.
    LosesThePosition,
    /// It knows only one chain that begins at 0.
    WantsToBeginAtZero,
    /// A batch without records changes nothing.
    ForgetsGaps,
    /// It writes a thousand records and stands behind them.
    TakesAThousand,
    /// One position for everything that one process acquired.
    MixesPartitions,
    /// A write that is dropped leaves half of its records.
    TearsWrites,
    /// A write that is dropped leaves a lock that only its own process can open.
    LeavesLocks,
    /// It rejects records when it has already written the others.
    RejectsLate,
    /// A topic that was made again has the position of the old one.
    IgnoresTopicIds,
    /// It writes for whoever asks, if the position is right.
    IgnoresTokens,
    /// It writes behind its end whatever was expected.
    IgnoresPositions,
    /// It writes for whoever asks, behind its end.
    TakesAnything,
    /// It goes by positions alone: it looks, waits, and writes.
    ChecksEarly,
    /// Everything that it writes is there twice.
    Doubles,
}

use Defect::*;

/// Each defect with a check that must find it.
const CAUGHT: [(Defect, &str); 16] = [
    (BeginsAtZero, "a partition that was never written has no position"),
    (LosesThePosition, "what was written is found by the next owner"),
    (WantsToBeginAtZero, "the first batch may begin anywhere"),
    (ForgetsGaps, "a gap moves the position"),
    (TakesAThousand, "a large batch is one write"),
    (MixesPartitions, "partitions are written at the same time"),
    (TearsWrites, "a write that was given up happened or not"),
    (LeavesLocks, "a process that died in a write is followed"),
    (IgnoresTopicIds, "partitions and topic ids are apart"),
    (TakesAnything, "a stale owner is fenced at its old position"),
    (IgnoresTokens, "a stale owner does not acquire again"),
    (IgnoresPositions, "a batch that does not begin at the end is fenced"),
    (ChecksEarly, "of two owners at once one writes"),
    (IgnoresTokens, "an owner that has not acquired, or has released, does not write"),
    (RejectsLate, REJECTS),
    (Doubles, "what is durable is there, and in order"),
];

/// What outlives processes.
#[derive(Debug, Default)]
struct Place {
    partitions: BTreeMap<PartitionId, Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    owner: Option<FencingToken>,
    stands: Option<u64>,
    offsets: Vec<u64>,
    /// The process whose write is under way.
    locked: Option<u32>,
}

/// One process's door to the place.
#[derive(Debug)]
struct Model {
    place: Arc<Mutex<Place>>,
    defect: Defect,
    guarantee: Guarantee,
    process: u32,
    /// What it has acquired in this life.
    seen: Mutex<BTreeSet<PartitionId>>,
}

impl Model {
    /// The name under which it keeps a partition.
    fn id(&self, partition: &TopicPartition) -> PartitionId {
        let mut id = partition.id;
        if self.defect == IgnoresTopicIds {
            id.topic.0 = [0; 16];
        }
        if self.defect == MixesPartitions && self.seen.lock().unwrap().len() > 1 {
            id.number = 0;
        }
        id
    }

    fn kept<T>(&self, partition: &TopicPartition, with: impl FnOnce(&mut Kept) -> T) -> T {
        let id = self.id(partition);
        with(self.place.lock().unwrap().partitions.entry(id).or_default())
    }

    fn checked(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        if self.defect == TakesAnything {
            return Ok(());
        }
        let reason = self.kept(partition, |kept| {
            let blind = matches!(self.defect, IgnoresTokens | ChecksEarly);
            if !blind && kept.owner != Some(token) {
                return Some("another owner");
            }
            let moved = kept.stands.is_some_and(|at| at != batch.expected.0);
            (moved && self.defect != IgnoresPositions).then_some("another position")
        });
        let zero = self.kept(partition, |kept| kept.stands.is_none()) && batch.expected.0 != 0;
        let reason = reason.or((zero && self.defect == WantsToBeginAtZero).then_some("not at 0"));
        match reason.filter(|_| self.guarantee == Guarantee::ExactlyOnce || zero) {
            Some(reason) => {
                Err(SinkError::Fenced { partition: partition.clone(), reason: reason.to_owned() })
            }
            None => Ok(()),
        }
    }

    fn keep(&self, partition: &TopicPartition, batch: Batch<'_>, count: usize) {
        let times = if self.defect == Doubles { 2 } else { 1 };
        let records = batch.records.iter().take(count).map(|record| record.offset);
        let records = records.flat_map(|offset| (0..times).map(move |_| offset));
        let whole = count >= batch.records.len();
        self.kept(partition, |kept| {
            kept.offsets.extend(records);
            let torn = kept.offsets.last().map(|last| last + 1);
            if !(batch.records.is_empty() && self.defect == ForgetsGaps) {
                kept.stands = if whole { Some(batch.end.0) } else { torn };
            }
        });
    }
}

/// A record that the model rejects.
fn poison(offset: u64) -> Record {
    Record { offset, timestamp_ms: -7, key: None, value: None, headers: Vec::new() }
}

#[async_trait]
impl Sink for Model {
    fn guarantee(&self) -> Guarantee {
        self.guarantee
    }

    async fn acquire(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<Option<Position>, SinkError> {
        let known = {
            let mut seen = self.seen.lock().unwrap();
            !seen.insert(partition.id)
        };
        let stands = self.kept(partition, |kept| {
            let late = kept.owner.is_some_and(|owner| owner > token);
            if late && self.defect != IgnoresTokens && self.guarantee == Guarantee::ExactlyOnce {
                return Err("a later owner has acquired it");
            }
            if kept.locked.is_some_and(|by| by != self.process) {
                return Err("it is locked");
            }
            kept.locked = None;
            kept.owner = Some(token);
            Ok(kept.stands)
        });
        let fenced = |reason: &str| SinkError::Fenced {
            partition: partition.clone(),
            reason: reason.to_owned(),
        };
        let stands = stands.map_err(fenced)?;
        Ok(match self.defect {
            BeginsAtZero => stands.or(Some(0)),
            LosesThePosition if !known => None,
            _ => stands,
        }
        .map(Position))
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        self.checked(partition, token, batch)?;
        let rejected: Vec<_> = batch
            .records
            .iter()
            .filter(|record| record.timestamp_ms == -7)
            .map(|record| Rejection { offset: record.offset, reason: "poison".to_owned() })
            .collect();
        if !rejected.is_empty() {
            if self.defect == RejectsLate {
                self.keep(partition, batch, usize::MAX);
            }
            return Err(SinkError::Rejected { partition: partition.clone(), records: rejected });
        }
        match self.defect {
            TearsWrites => {
                self.keep(partition, batch, batch.records.len() / 2);
                tokio::task::yield_now().await;
                self.kept(partition, |kept| {
                    kept.offsets.retain(|offset| *offset < batch.expected.0);
                });
            }
            LeavesLocks => {
                self.kept(partition, |kept| kept.locked = Some(self.process));
                tokio::task::yield_now().await;
                self.kept(partition, |kept| kept.locked = None);
            }
            _ => tokio::task::yield_now().await,
        }
        if self.defect != ChecksEarly {
            self.checked(partition, token, batch)
                .or_else(|error| if self.defect == TearsWrites { Ok(()) } else { Err(error) })?;
        }
        self.keep(partition, batch, if self.defect == TakesAThousand { 1000 } else { usize::MAX });
        Ok(())
    }

    async fn release(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<(), SinkError> {
        self.kept(partition, |kept| kept.owner = kept.owner.filter(|owner| *owner != token));
        Ok(())
    }
}

async fn run(defect: Defect, guarantee: Guarantee) -> Report {
    let place = Arc::new(Mutex::new(Place::default()));
    let processes = Mutex::new(0);
    let open = async || {
        let process = {
            let mut processes = processes.lock().unwrap();
            *processes += 1;
            *processes
        };
        let (place, seen) = (Arc::clone(&place), Mutex::default());
        Arc::new(Model { place, defect, guarantee, process, seen }) as Arc<dyn Sink>
    };
    let read = |partition: TopicPartition| -> futures_util::future::BoxFuture<'_, _> {
        let place = place.lock().unwrap();
        let kept = place.partitions.get(&partition.id);
        let offsets = kept.map(|kept| kept.offsets.clone()).unwrap_or_default();
        Box::pin(async move { Ok(offsets) })
    };
    Suite::new(open).rejecting(poison).reading(read).run().await
}

#[tokio::test]
async fn a_sink_that_does_what_it_must_passes_every_check() {
    let report = run(Nothing, Guarantee::ExactlyOnce).await;
    let passed = |(_, outcome): &(_, Outcome)| *outcome == Outcome::Passed;
    assert!(report.checks.iter().all(passed), "{report}");
    let report = run(Nothing, Guarantee::AtLeastOnce).await;
    report.assert_passed();
    assert_eq!(report.checks.iter().filter(|check| !passed(check)).count(), 6, "{report}");
}

#[tokio::test]
async fn every_check_catches_a_broken_sink_by_name() {
    for (defect, check) in CAUGHT {
        let report = run(defect, Guarantee::ExactlyOnce).await;
        assert!(report.failures().any(|name| name == check), "{defect:?}, {check}:\n{report}");
    }
    let report = run(Nothing, Guarantee::ExactlyOnce).await;
    let names: BTreeSet<_> = report.checks.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, CAUGHT.iter().map(|(_, check)| *check).collect());
}

#[tokio::test]
async fn a_sink_that_is_at_least_once_may_double_and_must_not_lose() {
    run(Doubles, Guarantee::AtLeastOnce).await.assert_passed();
    for defect in [ForgetsGaps, TakesAThousand, TearsWrites, RejectsLate] {
        let report = run(defect, Guarantee::AtLeastOnce).await;
        assert!(!report.passed(), "{defect:?}:\n{report}");
    }
}

#[tokio::test]
async fn what_the_suite_was_not_told_is_not_judged() {
    let place = Arc::new(Mutex::new(Place::default()));
    let report = super::conformance(async || {
        let (place, seen) = (Arc::clone(&place), Mutex::default());
        let guarantee = Guarantee::ExactlyOnce;
        Arc::new(Model { place, defect: Nothing, guarantee, process: 1, seen }) as Arc<dyn Sink>
    })
    .await;
    report.assert_passed();
    let asked = |(_, outcome): &&(_, Outcome)| *outcome == Outcome::NotAsked;
    assert_eq!(report.checks.iter().filter(asked).count(), 2, "{report}");
}
