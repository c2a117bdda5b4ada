//! The monitor topic and the service topic as feeds: read, decoded, and opened again when they cannot be read on.
//!
//! A record that cannot be decoded is told and passed over. Each feed has a task of its own and a queue with a limit, so
//! that whoever waits for it may stop waiting at any time.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidegate_core::ids::GroupName;
use tidegate_wire::{Error, Override, PartitionRates};
use tokio::sync::mpsc;

use crate::codec;
use crate::ports::{ControlLog, Overridden, Overrides, Rates, RawRecord, ReadError};
use crate::task::{Task, spawn_named};

/// Records of the monitor topic that are read again at a start: enough for a full report of each of many topics.
const RATES_BEHIND: u64 = 2_000;

/// Pause before a topic that cannot be read on is opened again.
const REOPEN: Duration = Duration::from_secs(1);

/// The last offsets of a topic may hold nothing that can be read, such as the mark of a transaction's end. When nothing comes for so
/// long though the broker answers, that was all.
const NOTHING_MORE: Duration = Duration::from_secs(20);

/// Lists that may wait to be taken.
const QUEUE: usize = 16;

/// What is read of what a topic holds at first.
#[derive(Clone, Copy, Debug)]
enum Kept {
    /// All of it, and it is handed over as a whole.
    Whole,
    /// At most so many records.
    Last(u64),
}

/// What was read at once.
#[derive(Debug)]
struct Batch<T> {
    /// It is all that the topic holds.
    is_whole: bool,
    items: Vec<T>,
}

/// A topic that is read by a task.
#[derive(Debug)]
pub struct Feed<T> {
    batches: mpsc::Receiver<Batch<T>>,
    _task: Task<()>,
}

/// The rates of the monitor topic, from shortly before its end.
pub fn rates(log: Arc<dyn ControlLog>) -> Feed<PartitionRates> {
    start("rates", log, Kept::Last(RATES_BEHIND), |record| codec::rates(record).map(Some))
}

/// The overrides of one group, from the first that is kept.
pub fn overrides(log: Arc<dyn ControlLog>, group: GroupName) -> Feed<Override> {
    let own = move |change: Override| (change.group == group).then_some(change);
    start("overrides", log, Kept::Whole, move |record| codec::service(record).map(&own))
}

fn start<T, F>(name: &'static str, log: Arc<dyn ControlLog>, kept: Kept, decode: F) -> Feed<T>
where
    T: Send + 'static,
    F: Fn(&RawRecord) -> Result<Option<T>, Error> + Send + Sync + 'static,
{
    let (sender, batches) = mpsc::channel(QUEUE);
    let task = spawn_named(name, async move {
        while let Err(error) = read(&*log, kept, &decode, &sender).await {
            warn(name, &error);
            tokio::time::sleep(REOPEN).await;
        }
    });
    Feed { batches, _task: task }
}

/// Reads until nobody listens, or until it fails.
async fn read<T>(
    log: &dyn ControlLog,
    kept: Kept,
    decode: &(impl Fn(&RawRecord) -> Result<Option<T>, Error> + Sync),
    sender: &mpsc::Sender<Batch<T>>,
) -> Result<(), ReadError> {
    let end = log.end(0).await.map_err(ReadError::Failed)?;
    let mut from = log.start(0).await.map_err(ReadError::Failed)?;
    if let Kept::Last(count) = kept {
        from = from.max(end.saturating_sub(count));
    }
    let mut reader = log.read(0, from).await.map_err(ReadError::Failed)?;
    let known =
        |record: &RawRecord| decode(record).unwrap_or_else(|error| unreadable(record, &error));
    if matches!(kept, Kept::Whole) {
        let mut items: Vec<T> = Vec::new();
        while from < end {
            let Ok(records) = tokio::time::timeout(NOTHING_MORE, reader.next()).await else {
                log.end(0).await.map_err(ReadError::Failed)?;
                break;
            };
            let records = records?;
            from = records.last().map_or(end, |last| last.offset + 1);
            items.extend(records.iter().filter_map(&known));
        }
        if sender.send(Batch { is_whole: true, items }).await.is_err() {
            return Ok(());
        }
    }
    loop {
        let records = reader.next().await?;
        let items: Vec<T> = records.iter().filter_map(&known).collect();
        let batch = Batch { is_whole: false, items };
        if !batch.items.is_empty() && sender.send(batch).await.is_err() {
            return Ok(());
        }
    }
}

fn warn(feed: &str, error: &(dyn std::error::Error + 'static)) {
    tracing::warn!(error, feed, "a topic cannot be read on; it is opened again");
}

fn unreadable<T>(record: &RawRecord, error: &Error) -> Option<T> {
    let error = error as &dyn std::error::Error;
    tracing::warn!(offset = record.offset, error, "a record cannot be read");
    None
}

impl<T> Feed<T> {
    /// A feed that has ended has nothing more to say.
    async fn take(&mut self) -> Batch<T> {
        match self.batches.recv().await {
            Some(batch) => batch,
            None => std::future::pending().await,
        }
    }
}

#[async_trait]
impl Rates for Feed<PartitionRates> {
    async fn next(&mut self) -> Vec<PartitionRates> {
        self.take().await.items
    }
}

#[async_trait]
impl Overrides for Feed<Override> {
    async fn next(&mut self) -> Overridden {
        let Batch { is_whole, items } = self.take().await;
        if is_whole { Overridden::Whole(items) } else { Overridden::More(items) }
    }
}
