//! An owner of a partition, as the checks play it: each of its calls is a check by itself.
//!
//! It remembers what it made durable, so that a reader can compare. It never looks behind the [`Sink`] trait.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use tidegate_core::ids::{FencingToken, Position};

use super::Check;
use crate::ports::{Batch, Class, Guarantee, Record, Sink, SinkError, TopicPartition};

/// How often an owner tries to go on after a write whose outcome it does not know. Once would do, were it not for the
/// same write arriving late.
const ATTEMPTS: usize = 5;

/// The offsets that are durable.
pub(super) type Written = Mutex<BTreeMap<TopicPartition, Vec<u64>>>;

/// An owner of a partition in a process of its own.
pub(super) struct Owner<'a> {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) partition: &'a TopicPartition,
    pub(super) token: FencingToken,
    pub(super) written: &'a Written,
}

impl Owner<'_> {
    pub(super) async fn acquires(&self) -> Result<Option<u64>, String> {
        let found = self.sink.acquire(self.partition, self.token).await;
        found.map(|at| at.map(|at| at.0)).map_err(|error| failed("acquire", &error))
    }

    pub(super) async fn finds(&self, wanted: Option<u64>) -> Check {
        let found = self.acquires().await?;
        if found == wanted {
            return Ok(());
        }
        Err(format!("acquire found position {found:?} instead of {wanted:?}"))
    }

    /// Like `finds`, but a sink that is at-least-once may have forgotten the position.
    pub(super) async fn finds_end(&self, end: u64, guarantee: Guarantee) -> Check {
        match self.acquires().await? {
            None if guarantee == Guarantee::AtLeastOnce => Ok(()),
            Some(found) if found == end => Ok(()),
            found => Err(format!("acquire found position {found:?} instead of {end}")),
        }
    }

    /// Like `finds_end`, where nothing at all may be written yet.
    pub(super) async fn stands_at(&self, at: u64, guarantee: Guarantee) -> Check {
        if at == 0 { self.finds(None).await } else { self.finds_end(at, guarantee).await }
    }

    pub(super) async fn is_shut_out(&self) -> Check {
        match self.sink.acquire(self.partition, self.token).await {
            Err(error) if error.class() == Class::Fenced => Ok(()),
            Err(error) => Err(failed("an acquire that should be fenced", &error)),
            Ok(at) => Err(format!("it acquired the partition at {at:?}")),
        }
    }

    pub(super) async fn tries(&self, expected: u64, end: u64) -> Result<(), SinkError> {
        let records: Vec<_> = (expected..end).map(record).collect();
        self.tries_records(expected, &records, end).await
    }

    pub(super) async fn tries_records(
        &self,
        expected: u64,
        records: &[Record],
        end: u64,
    ) -> Result<(), SinkError> {
        let batch = Batch { expected: Position(expected), records, end: Position(end) };
        self.sink.write(self.partition, self.token, batch).await?;
        self.note(records.iter().map(|record| record.offset));
        Ok(())
    }

    pub(super) async fn writes(&self, expected: u64, end: u64) -> Check {
        self.tries(expected, end).await.map_err(|error| failed("write", &error))
    }

    pub(super) async fn writes_records(
        &self,
        expected: u64,
        records: &[Record],
        end: u64,
    ) -> Check {
        let written = self.tries_records(expected, records, end).await;
        written.map_err(|error| failed("write", &error))
    }

    pub(super) async fn skips(&self, expected: u64, end: u64) -> Check {
        let written = self.tries_records(expected, &[], end).await;
        written.map_err(|error| failed("write of a gap", &error))
    }

    pub(super) async fn is_fenced(&self, expected: u64, end: u64) -> Check {
        match self.tries(expected, end).await {
            Err(error) if error.class() == Class::Fenced => Ok(()),
            Err(error) => Err(failed("a write that should be fenced", &error)),
            Ok(()) => Err(format!("the write of {expected}..{end} was not fenced")),
        }
    }

    /// Writes a batch of which exactly these offsets should be rejected.
    pub(super) async fn is_rejected(
        &self,
        expected: u64,
        records: &[Record],
        end: u64,
        rejected: &[u64],
    ) -> Check {
        match self.tries_records(expected, records, end).await {
            Err(SinkError::Rejected { records, .. }) => {
                let offsets: Vec<_> = records.iter().map(|rejection| rejection.offset).collect();
                if offsets != rejected {
                    return Err(format!("offsets {offsets:?} were rejected, not {rejected:?}"));
                }
                let unsaid = records.iter().find(|rejection| rejection.reason.is_empty());
                unsaid.map_or(Ok(()), |it| Err(format!("offset {} has no reason", it.offset)))
            }
            Err(error) => Err(failed("a write that should be rejected", &error)),
            Ok(()) => Err(format!("the write of {expected}..{end} was not rejected")),
        }
    }

    pub(super) async fn releases(&self) -> Check {
        let released = self.sink.release(self.partition, self.token).await;
        released.map_err(|error| failed("release", &error))
    }

    /// Begins a write and drops it after so many polls.
    pub(super) async fn gives_up(&self, expected: u64, end: u64, polls: usize) {
        let records: Vec<_> = (expected..end).map(record).collect();
        let batch = Batch { expected: Position(expected), records: &records, end: Position(end) };
        let mut write = self.sink.write(self.partition, self.token, batch);
        for _ in 0..polls {
            let done =
                poll_fn(|context| Poll::Ready(write.as_mut().poll(context).is_ready())).await;
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
    }

    /// After a write from `begin` to `end` whose outcome is not known: acquires and writes what follows. Returns where
    /// the sink then stands.
    pub(super) async fn goes_on(
        &self,
        begin: u64,
        end: u64,
        guarantee: Guarantee,
    ) -> Result<u64, String> {
        let mut seen = String::new();
        for _ in 0..ATTEMPTS {
            let at = match self.acquires().await? {
                Some(at) if at == end => at,
                Some(at) if at == begin => at,
                None if begin == 0 || guarantee == Guarantee::AtLeastOnce => begin,
                found => return Err(format!("found position {found:?}, not {begin} or {end}")),
            };
            match self.tries(at, end + 2).await {
                Ok(()) => {
                    self.note(begin..at);
                    return Ok(end + 2);
                }
                Err(error) => seen = failed("a write after a lost one", &error),
            }
        }
        Err(seen)
    }

    fn note(&self, durable: impl Iterator<Item = u64>) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let offsets = written.entry(self.partition.clone()).or_default();
        offsets.extend(durable);
        offsets.sort_unstable();
    }
}

fn failed(doing: &str, error: &SinkError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{doing} failed: {error}{}", cause.unwrap_or_default())
}

/// Records of different shapes: text, bytes that are none, empty, absent, with headers.
pub(super) fn record(offset: u64) -> Record {
    let value = match offset % 4 {
        0 => Some(Bytes::from(format!("value \"{offset}\" \u{e4}\n"))),
        1 => Some(Bytes::from(vec![0, 0xff, 0xfe, 7])),
        2 => Some(Bytes::new()),
        _ => None,
    };
    let headers = vec![("trace".to_owned(), value.clone()), ("trace".to_owned(), None)];
    Record {
        offset,
        timestamp_ms: 1_700_000_000_000,
        key: offset.is_multiple_of(3).then(|| Bytes::from(offset.to_string())),
        value,
        headers: if offset.is_multiple_of(5) { headers } else { Vec::new() },
    }
}
