//! Calls to the ledger, the command partition and the sinks, each ending in an input for the state machine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tidegate_core::consumer::{AppendId, Extent, Failure, Input, Located, ReadFailure};
use tidegate_core::ids::{
    ConsumerNumber, Epoch, FencingToken, Generation, Offset, PartitionId, Position,
};
use tidegate_core::ledger::{Entry, Record};

use super::face::Face;
use super::gather::Done;
use super::mirror::Commit;
use super::reading::ReadingId;
use super::sinks::Sinks;
use crate::codec;
use crate::ports::{
    Bound, Class, Clock, ControlLog, ControlReader, Error, Offsets, Persisted, Sink, SinkError,
    StateFile, TopicPartition,
};
use crate::telemetry::metrics::ConsumerMetrics;

/// What a call came to.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Something for the state machine.
    Input(Input),
    /// The command partition is read; or the attempt failed and is to be repeated from this offset.
    Listening(Result<Box<dyn ControlReader>, Offset>),
    /// The sink was acquired.
    Acquired(TopicPartition, Arc<dyn Sink>, Epoch, Option<Position>),
    /// A write has ended.
    Written(PartitionId, Epoch, Result<Done, SinkError>),
    /// Where partitions end.
    Ends(BTreeMap<(String, u32), u64>),
    /// The group's offsets were committed, or not.
    Committed(Commit, Result<(), Error>),
    /// Where the log of a partition begins and ends that could not be read on under this number.
    Extent(PartitionId, ReadingId, ReadFailure),
    /// The state file was saved, or could not be.
    Saved(Box<dyn StateFile>),
    /// Nothing more to do.
    Nothing,
}

pub(super) type Call = BoxFuture<'static, Outcome>;

/// Longest time for one call to Kafka: well below the lease, so that one lost answer is not its end.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

async fn in_time<T, E>(call: impl Future<Output = Result<T, E>>, doing: &str) -> Option<T>
where
    E: std::error::Error + 'static,
{
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "{doing}");
            None
        }
        Err(_) => {
            tracing::warn!(timeout_ms = CALL_TIMEOUT.as_millis(), "{doing}");
            None
        }
    }
}

/// Where the logs end, and which generation the ledger is of.
pub(super) fn locate(
    ledger: Arc<dyn ControlLog>,
    commands: Arc<dyn ControlLog>,
    number: ConsumerNumber,
) -> Call {
    Box::pin(async move {
        let located = async {
            let ledger_end =
                in_time(ledger.end(0), "failed to fetch the end of the ledger").await?;
            let generation = generation(&ledger).await?;
            let doing = "failed to fetch the end of the command partition";
            let command_end = in_time(commands.end(number.get()), doing).await?;
            Some(Located {
                generation,
                ledger_end: Offset(ledger_end),
                command_end: Offset(command_end),
            })
        };
        Outcome::Input(Input::Located(located.await))
    })
}

/// Every record of the ledger tells its generation; the first that is left serves. It may be of an older one, by which the
/// consumer is told the right one.
async fn generation(ledger: &Arc<dyn ControlLog>) -> Option<Generation> {
    let doing = "no controller has begun the ledger yet";
    let start = in_time(ledger.start(0), doing).await?;
    let mut reader = in_time(ledger.read(0, start), doing).await?;
    let records = in_time(reader.next(), doing).await?;
    records.iter().find_map(|record| codec::entry(record).ok()).map(|entry| entry.generation)
}

/// Reads the command partition from an offset.
pub(super) fn listen(commands: Arc<dyn ControlLog>, number: ConsumerNumber, from: Offset) -> Call {
    Box::pin(async move {
        let reader =
            in_time(commands.read(number.get(), from.0), "failed to read the command partition")
                .await;
        Outcome::Listening(reader.ok_or(from))
    })
}

/// Fetches the end of the command partition.
pub(super) fn command_end(commands: Arc<dyn ControlLog>, number: ConsumerNumber, ask: u64) -> Call {
    Box::pin(async move {
        let end =
            in_time(commands.end(number.get()), "failed to fetch the end of the command partition")
                .await;
        Outcome::Input(Input::CommandEnd(ask, end.map(Offset)))
    })
}

/// Appends to the ledger.
pub(super) fn append(
    ledger: Arc<dyn ControlLog>,
    clock: Arc<dyn Clock>,
    id: AppendId,
    entry: &Entry,
    metrics: &ConsumerMetrics,
) -> Call {
    let beat = matches!(entry.record, Record::Heartbeat { .. }).then(|| metrics.clone());
    let progress = matches!(entry.record, Record::Progress { .. }).then(|| metrics.clone());
    let record = codec::of_entry(entry);
    Box::pin(async move {
        let began = clock.now();
        let appended = ledger.append(0, record).await;
        if let Some(metrics) = progress {
            Face::committing(&metrics, clock.now().since(began));
        }
        if let Some(metrics) = beat {
            Face::beaten(&metrics, appended.is_ok());
        }
        let input = match appended {
            Ok(offset) => Input::Appended(id, Offset(offset)),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "failed to append to the ledger"
                );
                Input::AppendFailed(id)
            }
        };
        Outcome::Input(input)
    })
}

/// Looks where the log of a partition begins and ends that has no record where it is to be read; what cannot be found out is a
/// failure that is met again.
pub(super) fn extent(
    offsets: Arc<dyn Offsets>,
    reading: ReadingId,
    partition: TopicPartition,
) -> Call {
    Box::pin(async move {
        let asked = [(partition.topic.clone(), partition.id.number)];
        let doing = "failed to find where a partition begins and ends";
        let start = in_time(offsets.bounds(&asked, Bound::Earliest), doing).await;
        let end = in_time(offsets.bounds(&asked, Bound::Latest), doing).await;
        let of = |found: Option<BTreeMap<_, u64>>| found?.values().next().copied().map(Position);
        let failure = match (of(start), of(end)) {
            (Some(start), Some(end)) => ReadFailure::OutOfRange(Extent { start, end }),
            _ => ReadFailure::Transient,
        };
        Outcome::Extent(partition.id, reading, failure)
    })
}

/// Finds the sink of a partition and acquires it.
pub(super) fn acquire(
    sinks: Arc<Sinks>,
    id: PartitionId,
    token: FencingToken,
    limit: Duration,
) -> Call {
    Box::pin(async move {
        let acquired = async {
            let (partition, sink) =
                sinks.find(id).await.map_err(|error| (failure_of(error.class()), error.into()))?;
            let stands = sink.acquire(&partition, token).await;
            stands
                .map(|stands| (partition, sink, stands))
                .map_err(|error| (sink_failure(&error), error.into()))
        };
        let answer: Result<_, (Failure, Box<dyn std::error::Error + Send + Sync>)> =
            match tokio::time::timeout(limit, acquired).await {
                Ok(answer) => answer,
                Err(late) => Err((Failure::Transient, late.into())),
            };
        match answer {
            Ok((partition, sink, stands)) => {
                Outcome::Acquired(partition, sink, token.epoch, stands)
            }
            Err((failure, error)) => {
                tracing::warn!(partition = %id, epoch = %token.epoch, error = &*error as &dyn std::error::Error, "failed to acquire the sink");
                Outcome::Input(Input::AcquireFailed(id, token.epoch, failure))
            }
        }
    })
}

/// Gives the sink back; what fails here costs nothing, as the next owner shuts this one out.
pub(super) fn release(sink: Arc<dyn Sink>, partition: TopicPartition, token: FencingToken) -> Call {
    Box::pin(async move {
        in_time(sink.release(&partition, token), "failed to release the sink").await;
        Outcome::Nothing
    })
}

/// Saves the state file and gives it back.
pub(super) fn save_now(mut state: Box<dyn StateFile>, persisted: &Persisted) -> Box<dyn StateFile> {
    if let Err(error) = state.save(persisted) {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "failed to save the state file; it is a hint only, and the work goes on"
        );
    }
    state
}

/// Saves the state file beside the loop.
pub(super) fn save(state: Box<dyn StateFile>, persisted: Persisted) -> Call {
    let saved = tokio::task::spawn_blocking(move || save_now(state, &persisted));
    Box::pin(async move { saved.await.map_or(Outcome::Nothing, Outcome::Saved) })
}

fn failure_of(class: Class) -> Failure {
    match class {
        Class::Transient => Failure::Transient,
        Class::Permanent => Failure::Permanent,
        Class::Fenced => Failure::Fenced,
    }
}

/// What a sink's error means to the state machine.
pub(super) fn sink_failure(error: &SinkError) -> Failure {
    match error {
        SinkError::Damaged { .. } => Failure::Damaged,
        _ => failure_of(error.class()),
    }
}
