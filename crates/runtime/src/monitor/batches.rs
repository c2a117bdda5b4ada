//! Looks at batches where the cluster does not tell log sizes: how many bytes and offsets they have, a few of them each round.
//!
//! It takes the right to read the topics. One that may not be read is told once, and left alone for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::ids::{Instant, PartitionId, Position, TopicId};
use tidegate_core::rates::{BatchLooks, BytesPerRecord, Most, Round};

use crate::errors::Code;
use crate::ports::{BatchAt, LogSizes};

/// Batches that are read in one round at most: 10,000 partitions are known after one and a half minutes. A batch has 16 KiB by
/// default, and seldom more than 1 MiB.
const MOST: Most = Most { unknown: 128, again: 16 };

/// After how long a topic is tried again that may not be read: rights are given by people.
const ASK_AGAIN: Duration = Duration::from_secs(600);

/// Who was looked at.
#[derive(Debug, Default)]
pub(super) struct Batches {
    looks: BatchLooks,
    /// Topics that may not be read, and when that was found last.
    denied: BTreeMap<TopicId, Instant>,
}

// === impl Batches ===

impl Batches {
    /// Looks at some partitions of a round.
    pub(super) async fn look(
        &mut self,
        sizes: &mut dyn LogSizes,
        name: impl Fn(TopicId) -> Option<String>,
        now: Instant,
        round: &Round,
    ) -> Vec<(PartitionId, BytesPerRecord)> {
        self.denied.retain(|topic, _| round.topics.contains_key(topic));
        let is_denied = |since: &Instant| now.since(*since) < ASK_AGAIN;
        let is_open = |topic: &TopicId| !self.denied.get(topic).is_some_and(is_denied);
        let record = |(partition, offset): (PartitionId, Position)| {
            let topic = name(partition.topic)?;
            Some((partition, BatchAt { topic, number: partition.number, offset: offset.0 }))
        };
        let looks = self.looks.next(round, MOST, is_open).into_iter();
        let (partitions, records): (Vec<_>, Vec<_>) = looks.filter_map(record).unzip();
        if records.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for (partition, size) in partitions.into_iter().zip(sizes.batch_sizes(records).await) {
            match size {
                None => self.looks.not_asked(partition),
                Some(Ok(size)) => {
                    self.denied.remove(&partition.topic);
                    let ratio = BytesPerRecord::new(size.bytes, size.offsets);
                    found.extend(ratio.map(|ratio| (partition, ratio)));
                }
                Some(Err(error)) => {
                    self.looks.again(partition);
                    let is_denied = error.code() == Some(Code::RightMissing);
                    let is_news = is_denied && self.denied.insert(partition.topic, now).is_none();
                    let error = &error as &dyn std::error::Error;
                    if is_news {
                        tracing::warn!(
                            error,
                            "how many bytes the records of a topic have is unknown"
                        );
                    } else {
                        tracing::debug!(error, "a batch was not looked at");
                    }
                }
            }
        }
        found
    }
}
