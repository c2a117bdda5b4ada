//! The task that owns the partition reader, so that no wait for Kafka holds up a heartbeat.
//!
//! Every assignment has a number of its own: what was read under an earlier one is recognised and dropped, also for
//! the same partition under the same grant.

use std::collections::BTreeMap;

use tidegate_core::ids::Position;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::ports::{Class, Error, PartitionReader, ReadEvent, RecordBatch, TopicPartition};

/// Numbers the assignments of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ReadingId(pub(super) u64);

/// What the reader is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Read a partition from here on.
    Assign(ReadingId, TopicPartition, Position),
    /// Stop reading it.
    Unassign(TopicPartition),
    /// Stop fetching it for a while, or go on.
    Pause(TopicPartition, bool),
}

/// What the reader has to say.
#[derive(Debug)]
pub(super) enum Read {
    /// Records, and the end of their partition as far as it is known.
    Records(ReadingId, RecordBatch, Option<Position>),
    /// The position does not exist.
    OutOfRange(ReadingId, TopicPartition),
    /// Reading has failed and does not go on by itself.
    Failed(ReadingId, TopicPartition, Error),
}

/// Orders that may wait; the loop never waits to give one, as each partition has at most a few under way.
const ORDERS: usize = 100_000;

/// Events that may wait: the loop's buffers are the queue, this only hands over.
const READS: usize = 16;

/// The loop's ends of the two channels.
#[derive(Debug)]
pub(super) struct ReaderHandle {
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) reads: mpsc::Receiver<Read>,
}

/// Makes the channels and the task's future.
pub(super) fn reader(
    reader: Box<dyn PartitionReader>,
    stop: CancellationToken,
) -> (ReaderHandle, impl Future<Output = Result<(), crate::task::Failure>>) {
    let (orders, orders_in) = mpsc::channel(ORDERS);
    let (reads_out, reads) = mpsc::channel(READS);
    let task =
        Reader { client: reader, readings: BTreeMap::new(), orders: orders_in, reads: reads_out };
    (ReaderHandle { orders, reads }, task.run(stop))
}

struct Reader {
    client: Box<dyn PartitionReader>,
    readings: BTreeMap<TopicPartition, ReadingId>,
    orders: mpsc::Receiver<Order>,
    reads: mpsc::Sender<Read>,
}

impl Reader {
    async fn run(mut self, stop: CancellationToken) -> Result<(), crate::task::Failure> {
        loop {
            // Cancel-safe: both branches return what they took in the same poll. Neither goes first, so that a stream of
            // orders for one partition does not keep the others from being read.
            let event = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                order = self.orders.recv() => match order {
                    Some(order) => {
                        self.obey(order).await;
                        continue;
                    }
                    None => return Ok(()),
                },
                event = self.client.next() => event,
            };
            for read in self.translate(event) {
                if !self.hand_over(read, &stop).await {
                    return Ok(());
                }
            }
        }
    }

    /// Waits for room, and obeys orders meanwhile: the loop may be waiting for one before it makes room.
    async fn hand_over(&mut self, read: Read, stop: &CancellationToken) -> bool {
        let reads = self.reads.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return false,
                order = self.orders.recv() => match order {
                    Some(order) => self.obey(order).await,
                    None => return false,
                },
                room = reads.reserve() => match room {
                    Ok(room) => {
                        room.send(read);
                        return true;
                    }
                    Err(_) => return false,
                },
            }
        }
    }

    async fn obey(&mut self, order: Order) {
        match order {
            Order::Assign(id, partition, from) => {
                self.forget(&partition);
                match self.client.assign(&partition, from).await {
                    Ok(()) => {
                        self.readings.insert(partition, id);
                    }
                    Err(error) => {
                        // The loop has gone: nobody is left to be told.
                        let _gone = self.reads.send(Read::Failed(id, partition, error)).await;
                    }
                }
            }
            Order::Unassign(partition) => {
                self.forget(&partition);
                if let Err(error) = self.client.unassign(&partition).await {
                    tracing::warn!(%partition, error = &error as &dyn std::error::Error, "failed to stop reading");
                }
            }
            Order::Pause(partition, paused) => {
                if let Err(error) = self.client.pause(&partition, paused).await {
                    tracing::warn!(%partition, paused, error = &error as &dyn std::error::Error, "failed to pause");
                }
            }
        }
    }

    fn forget(&mut self, partition: &TopicPartition) {
        self.readings.remove(partition);
    }

    fn id(&self, partition: &TopicPartition) -> Option<ReadingId> {
        self.readings.get(partition).copied()
    }

    fn translate(&self, event: ReadEvent) -> Vec<Read> {
        match event {
            ReadEvent::Records(batches) => batches
                .into_iter()
                .filter_map(|batch| {
                    let id = self.id(&batch.partition)?;
                    let end = self.client.end(&batch.partition);
                    Some(Read::Records(id, batch, end))
                })
                .collect(),
            ReadEvent::OutOfRange(partition) => {
                self.id(&partition).map(|id| Read::OutOfRange(id, partition)).into_iter().collect()
            }
            ReadEvent::Failed(partition, error) if error.class() == Class::Transient => {
                tracing::warn!(%partition, error = &error as &dyn std::error::Error, "reading failed and goes on");
                Vec::new()
            }
            ReadEvent::Failed(partition, error) => self
                .id(&partition)
                .map(|id| Read::Failed(id, partition, error))
                .into_iter()
                .collect(),
        }
    }
}
