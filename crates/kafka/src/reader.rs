//! The data path: reads the partitions it was told to, from their leaders, over the thin layer; never a group.
//!
//! ```text
//!                 ┌──────────────── board: what is read, from where, and who leads it ◄──── assign, pause
//!                 │ leaders              ▲ positions                                             │
//!  director ──────┘                      │                                                       ▼
//!     └─ one fetcher for each broker ────┴─ fetch ─ decode ──batches──► bounded channel ──► next
//! ```
//!
//! Every assignment has a generation, and each batch says where it begins. A batch of an older generation is dropped when it
//! comes out of the channel, so is what was passed on before, and whatever stands behind a gap: whatever goes wrong
//! between a broker and here, records are never passed over and never come twice.

mod board;
mod budget;
mod director;
mod entry;
mod fetcher;
mod parcel;
mod session;
mod stash;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tidegate_core::ids::{PartitionId, Position};
use tidegate_runtime::ports::{Class, Error, PartitionReader, ReadEvent, TopicPartition};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::sync::mpsc;

use self::board::Board;
use self::budget::Budget;
use self::entry::Generation;
use self::parcel::Parcel;
use self::stash::Stash;
use crate::cluster::Cluster;
use crate::errors;
use crate::metadata::TopicMeta;

/// Events that may wait for the caller: what they hold is bounded by the budget.
const QUEUE: usize = 64;

/// Memory and patience of a reader.
#[derive(Clone, Copy, Debug)]
pub struct ReaderOptions {
    /// How much may be fetched ahead, over all partitions: about a half of it is on the way, and a half decoded.
    pub queue_kib: u32,
    /// How long a broker holds a fetch back that has nothing to return.
    pub fetch_wait: Duration,
}

impl Default for ReaderOptions {
    fn default() -> Self {
        Self {
            // Three sink batches of the default size.
            queue_kib: 16 << 10,
            // A record that is written meanwhile ends the wait, and a partition that comes does not wait for it.
            fetch_wait: Duration::from_millis(100),
        }
    }
}

/// Reads partitions of one cluster.
#[derive(Debug)]
pub(crate) struct KafkaReader {
    shared: Arc<Shared>,
    news: mpsc::Receiver<News>,
    stash: Stash,
    _director: Task<()>,
}

/// What the tasks of a reader have in common.
#[derive(Debug)]
struct Shared {
    cluster: Arc<Cluster>,
    options: ReaderOptions,
    board: Board,
    budget: Arc<Budget>,
    news: mpsc::Sender<News>,
}

/// What the tasks tell.
#[derive(Debug)]
enum News {
    Records(Parcel),
    /// The reading of a partition is over.
    Over(PartitionId, Generation, Why),
}

/// Why the reading of a partition is over.
#[derive(Debug)]
enum Why {
    /// The position is not in the log.
    OutOfRange,
    Failed(Error),
}

/// Nobody reads any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unread;

// === impl Shared ===

impl Shared {
    /// Waits for room for news.
    async fn send(&self, news: News) -> Result<(), Unread> {
        self.news.send(news).await.map_err(|_| Unread)
    }

    /// Ends the reading of a partition, unless it is over already.
    async fn finish(
        &self,
        id: PartitionId,
        generation: Generation,
        why: Why,
    ) -> Result<(), Unread> {
        if self.board.finish(id, generation) {
            self.send(News::Over(id, generation, why)).await?;
        }
        Ok(())
    }
}

// === impl KafkaReader ===

impl KafkaReader {
    /// To be called from within a tokio runtime.
    pub(crate) fn new(cluster: Arc<Cluster>, options: ReaderOptions) -> Self {
        let (sender, news) = mpsc::channel(QUEUE);
        let limit = usize::try_from(options.queue_kib).unwrap_or(0) << 10;
        let budget = Arc::new(Budget::new(limit));
        let board = Board::default();
        let shared = Arc::new(Shared { cluster, options, board, budget, news: sender });
        let director = spawn_named("kafka reader", director::run(Arc::clone(&shared)));
        Self { shared, news, stash: Stash::new(limit / 2), _director: director }
    }

    /// What the caller gets to see of the news; nothing if they are of an assignment that is over.
    fn accept(&mut self, news: News) -> Option<ReadEvent> {
        let board = &self.shared.board;
        match news {
            News::Records(parcel) => {
                let mut batches = Vec::new();
                for tagged in parcel.open() {
                    if !board.is_paused(tagged.batch.partition.id) {
                        batches.extend(board.take(tagged));
                    } else if let Err(tagged) = self.stash.put(tagged) {
                        board.again(tagged.batch.partition.id, tagged.generation);
                    }
                }
                (!batches.is_empty()).then_some(ReadEvent::Records(batches))
            }
            News::Over(id, generation, why) => {
                let partition = board.end(id, generation)?;
                Some(match why {
                    Why::OutOfRange => ReadEvent::OutOfRange(partition),
                    Why::Failed(error) => ReadEvent::Failed(partition, error),
                })
            }
        }
    }
}

#[async_trait]
impl PartitionReader for KafkaReader {
    async fn assign(&mut self, partition: &TopicPartition, from: Position) -> Result<(), Error> {
        // Whatever comes of this: what was read before is over.
        self.unassign(partition).await?;
        let (cluster, topic) = (&self.shared.cluster, &partition.topic);
        let known = cluster.topic(topic).await;
        // What the cache has against the partition may be old.
        let trouble = match fault(&known, topic, partition.id) {
            Some(_) => {
                cluster.ask_another();
                fault(&cluster.look_up(topic).await, topic, partition.id)
            }
            None => known.err(),
        };
        if let Some(error) = trouble {
            return Err(error);
        }
        self.shared.board.begin(partition, from);
        Ok(())
    }

    async fn unassign(&mut self, partition: &TopicPartition) -> Result<(), Error> {
        self.stash.drop_of(partition.id);
        self.shared.board.remove(partition.id);
        Ok(())
    }

    async fn pause(&mut self, partition: &TopicPartition, paused: bool) -> Result<(), Error> {
        if self.shared.board.pause(partition.id, paused) {
            if !paused {
                self.stash.resume();
            }
            return Ok(());
        }
        let text = format!("partition {partition} is not assigned");
        Err(Error::new(Class::Permanent, text))
    }

    async fn next(&mut self) -> ReadEvent {
        loop {
            let board = &self.shared.board;
            while let Some(tagged) = self.stash.take(|id| board.is_paused(id)) {
                if let Some(batch) = board.take(tagged) {
                    return ReadEvent::Records(vec![batch]);
                }
            }
            // Cancel-safe: what is received is returned, or dropped for good, in the same poll.
            match self.news.recv().await {
                Some(news) => {
                    if let Some(event) = self.accept(news) {
                        return event;
                    }
                }
                // The shared state holds a sender.
                None => std::future::pending().await,
            }
        }
    }

    fn end(&self, partition: &TopicPartition) -> Option<Position> {
        self.shared.board.end_of(partition.id).map(Position)
    }
}

/// What is wrong with a partition by the metadata.
fn fault(outcome: &Result<TopicMeta, Error>, topic: &str, id: PartitionId) -> Option<Error> {
    match outcome {
        Ok(meta) if meta.id != id.topic => {
            let (is, was) = (meta.id, id.topic);
            let text = format!(
                "topic {topic} has id {is} and not {was}: it was deleted and created again"
            );
            Some(Error::new(Class::Permanent, text))
        }
        Ok(meta) if !meta.partitions.contains_key(&id.number) => Some(errors::topic_missing(topic)),
        Ok(_) => None,
        Err(error) if error.class() == Class::Transient => None,
        Err(error) => Some(errors::again(error)),
    }
}
