//! One write to a sink: the batch, and what becomes of the records that the sink rejects.
//!
//! Rejected records are durable as dead letters before the rest of their batch is written, so progress never passes a
//! record that is nowhere. All of it happens within the one write time-out that the lease counts with; whatever fails or
//! takes too long leaves an outcome that is looked up by acquiring again, and then dead letters may be repeated.
//!
//! A batch of which nothing is left moves the sink's position as a gap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidegate_core::ids::FencingToken;

use super::calls::Outcome;
use super::gather::{Cut, Done};
use super::sinks::Sinks;
use crate::ports::{
    Batch, Class, Clock, DeadLetter, Error, Record, Rejection, Sink, SinkError, TopicPartition,
};
use crate::telemetry::metrics::{ConsumerMetrics, TopicLabels};

/// Rejected records of a write that are logged one by one.
const LOGGED: usize = 20;

/// What a write needs besides its batch.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) sink: Arc<dyn Sink>,
    pub(super) sinks: Arc<Sinks>,
    pub(super) metrics: ConsumerMetrics,
    pub(super) token: FencingToken,
    /// The write time-out.
    pub(super) limit: Duration,
}

/// Why a record that was rejected stops its partition.
#[derive(Debug, thiserror::Error)]
#[error(
    "offset {offset} is rejected ({reason}) and has nowhere to go: set deadLetters of topic {topic}"
)]
struct NoTarget {
    topic: String,
    offset: u64,
    reason: String,
}

/// A sink that does not keep to its trait.
#[derive(Debug, thiserror::Error)]
#[error("the sink rejects records that are not in the batch")]
struct NotInBatch;

/// Writes a batch within the write time-out.
pub(super) async fn write(writer: Writer, mut cut: Cut) -> Outcome {
    let began = writer.clock.now();
    let written = match tokio::time::timeout(writer.limit, writer.all(&mut cut)).await {
        Ok(written) => written,
        Err(late) => {
            let partition = cut.partition.clone();
            Err(SinkError::Unavailable { partition, source: late.into() })
        }
    };
    let done = Done {
        records: u64::try_from(cut.records.len()).unwrap_or(u64::MAX),
        bytes: u64::try_from(cut.bytes).unwrap_or(u64::MAX),
        end: cut.end,
        fetched: cut.fetched,
        took: writer.clock.now().since(began),
        first_unix_ms: cut.records.first().map(|first| first.timestamp_ms).filter(|at| *at >= 0),
    };
    let (partition, epoch) = (&cut.partition, writer.token.epoch);
    if let Err(error) = &written {
        tracing::warn!(%partition, %epoch, error = error as &dyn std::error::Error, "a write to the sink failed");
    }
    Outcome::Written(partition.id, epoch, written.map(|()| done))
}

impl Writer {
    /// Each turn but the last takes records out of the batch, so there is an end. Drops out anywhere without harm.
    async fn all(&self, cut: &mut Cut) -> Result<(), SinkError> {
        loop {
            let batch = Batch { expected: cut.expected, records: &cut.records, end: cut.end };
            match self.sink.write(&cut.partition, self.token, batch).await {
                Err(SinkError::Rejected { records, .. }) => {
                    self.put_aside(&cut.partition, &cut.records, &records).await?;
                    let rejected: BTreeSet<u64> = records.iter().map(|it| it.offset).collect();
                    let gone =
                        cut.records.extract_if(.., |record| rejected.contains(&record.offset));
                    let gone: usize = gone.map(|record| record.size()).sum();
                    cut.bytes = cut.bytes.saturating_sub(gone);
                }
                written => return written,
            }
        }
    }

    /// Makes rejected records durable elsewhere.
    async fn put_aside(
        &self,
        partition: &TopicPartition,
        records: &[Record],
        rejections: &[Rejection],
    ) -> Result<(), SinkError> {
        let reasons: BTreeMap<u64, &str> =
            rejections.iter().map(|it| (it.offset, it.reason.as_str())).collect();
        let letters: Vec<_> = records
            .iter()
            .filter_map(|record| {
                reasons.get(&record.offset).map(|reason| DeadLetter { record, reason })
            })
            .collect();
        let refused = |source| SinkError::Refused { partition: partition.clone(), source };
        let Some(first) = letters.first() else { return Err(refused(NotInBatch.into())) };
        let failed = |error: Error| match error.class() {
            Class::Transient => {
                SinkError::Unavailable { partition: partition.clone(), source: error.into() }
            }
            Class::Permanent | Class::Fenced => refused(error.into()),
        };
        let Some(target) = self.sinks.dead_letters(&partition.topic).await.map_err(failed)? else {
            let no_target = NoTarget {
                topic: partition.topic.clone(),
                offset: first.record.offset,
                reason: first.reason.to_owned(),
            };
            return Err(refused(no_target.into()));
        };
        target.put(partition, self.token, &letters).await.map_err(failed)?;
        self.tell(partition, &letters);
        Ok(())
    }

    fn tell(&self, partition: &TopicPartition, letters: &[DeadLetter<'_>]) {
        for DeadLetter { record, reason } in letters.iter().take(LOGGED) {
            tracing::warn!(%partition, offset = record.offset, reason, "a rejected record is a dead letter now");
        }
        if letters.len() > LOGGED {
            let more = letters.len() - LOGGED;
            tracing::warn!(%partition, more, "more rejected records of this batch are dead letters now");
        }
        let labels = TopicLabels { topic: partition.topic.as_str().into() };
        let count = u64::try_from(letters.len()).unwrap_or(u64::MAX);
        self.metrics.dead_letters.get_or_create(&labels).inc_by(count);
    }
}

#[cfg(test)]
mod tests;
