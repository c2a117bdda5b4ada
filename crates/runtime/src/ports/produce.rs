//! Producing records to data topics: for the load generator and for dead letters.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{AppendError, Class, Error};

/// A record on its way to a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutgoingRecord {
    /// The topic's name, shared by the records of one sender.
    pub topic: Arc<str>,
    /// Number of the partition.
    pub partition: u32,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone.
    pub value: Option<Bytes>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// Milliseconds since the Unix epoch; `None` takes the time of the call.
    pub timestamp_ms: Option<u64>,
}

impl OutgoingRecord {
    /// Bytes of key, value and headers.
    pub fn size(&self) -> usize {
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + len(value)).sum();
        len(&self.key) + len(&self.value) + headers
    }
}

/// The wait for one record's acknowledgement: gives its offset. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "without it nobody learns whether the record was stored"]
pub struct Delivery(oneshot::Receiver<Result<u64, AppendError>>);

/// The other end of a [`Delivery`], kept by the adapter.
#[derive(Debug)]
pub struct DeliverySender(oneshot::Sender<Result<u64, AppendError>>);

impl Delivery {
    /// A wait and the end that fulfils it.
    pub fn pending() -> (DeliverySender, Self) {
        let (sender, receiver) = oneshot::channel();
        (DeliverySender(sender), Self(receiver))
    }
}

impl DeliverySender {
    /// Tells the outcome to whoever still waits.
    pub fn tell(self, outcome: Result<u64, AppendError>) {
        // Whoever enqueued the record need not wait for it.
        let _nobody = self.0.send(outcome);
    }
}

impl Future for Delivery {
    type Output = Result<u64, AppendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|outcome| {
            outcome.unwrap_or_else(|closed| {
                let error = Error::new(Class::Permanent, "the producer was closed");
                Err(AppendError::Unknown(error.because(closed)))
            })
        })
    }
}

/// Appends records to data partitions, many at a time, with all in-sync replicas' acknowledgement.
///
/// Records enqueued one after the other for one partition are stored in that order and acknowledged in that order: a
/// queue of deliveries per partition, awaited from its front, needs no task per record.
#[async_trait]
pub trait Producer: Send + Sync + std::fmt::Debug {
    /// Hands a record to the client. Waits only while the client holds as many unacknowledged bytes as it was made
    /// for, which is what bounds a sender that does not wait for deliveries. An error means that the record was not
    /// sent. Dropping the future before it is ready sends nothing.
    async fn enqueue(&self, record: OutgoingRecord) -> Result<Delivery, AppendError>;

    /// Enqueues one record and waits until it is stored.
    async fn send(&self, record: OutgoingRecord) -> Result<u64, AppendError> {
        self.enqueue(record).await?.await
    }
}
