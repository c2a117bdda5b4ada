//! What every sink must do, as checks that the tests of any sink can run: ours and those of third parties.
//!
//! The checks speak to a sink only through [`Sink`], on partitions of a topic made up for the run, so they may run
//! against a place that holds other data. Each time they need another process they open the place once more. What they
//! cannot see is whether the records are really there: the report tells which offsets a reader must find.
//!
//! ```
//! # use std::sync::Arc;
//! # use async_trait::async_trait;
//! # use tidegate_core::ids::{FencingToken, Position};
//! # use tidegate_runtime::ports::{Batch, Guarantee, Sink, SinkError, TopicPartition};
//! #[derive(Debug)]
//! struct Nowhere;
//!
//! #[async_trait]
//! impl Sink for Nowhere {
//!     fn guarantee(&self) -> Guarantee {
//!         Guarantee::AtLeastOnce
//!     }
//!     // …
//! #   async fn acquire(&self, _: &TopicPartition, _: FencingToken) -> Result<Option<Position>, SinkError> {
//! #       Ok(None)
//! #   }
//! #   async fn write(&self, _: &TopicPartition, _: FencingToken, _: Batch<'_>) -> Result<(), SinkError> {
//! #       Ok(())
//! #   }
//! #   async fn release(&self, _: &TopicPartition, _: FencingToken) -> Result<(), SinkError> {
//! #       Ok(())
//! #   }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let report = tidegate_runtime::conformance::conformance(async || Arc::new(Nowhere) as Arc<dyn Sink>).await;
//! report.assert_passed();
//! # });
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};

use crate::ports::{Batch, Class, Guarantee, Record, Sink, SinkError, TopicPartition};

/// How often an owner tries to go on after a write whose outcome it does not know. Once would do, were it not for the
/// same write arriving late.
const ATTEMPTS: usize = 5;

/// After how many polls a write is given up, in turn: at once, in its middle, close to its end, after it.
const GIVE_UP_AFTER: [usize; 7] = [1, 2, 3, 5, 10, 50, 1000];

/// The checks that only a sink that is exactly-once must pass, in the order of [`Bench::exactly_once`].
const EXACTLY_ONCE: [&str; 5] = [
    "partitions and topic ids are apart",
    "a stale owner is fenced at its old position",
    "a batch that does not begin at the end is fenced",
    "of two owners at once one writes",
    "an owner that has not acquired, or has released, does not write",
];

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink does what it must.
    Passed,
    /// The sink's guarantee does not cover it.
    NotPromised,
    /// It does not; the text says what was seen.
    Failed(String),
}

/// What a run found.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the sink promises.
    pub guarantee: Guarantee,
    /// The checks by name, in the order in which they ran.
    pub checks: Vec<(&'static str, Outcome)>,
    /// The offsets that are durable, for a reader to compare: with an exactly-once sink each of them once, in this
    /// order, and no others.
    pub written: BTreeMap<TopicPartition, Vec<u64>>,
}

type Check = Result<(), String>;

/// Opens the sink under test, makes up partitions and tokens, and remembers what was written.
struct Bench<F> {
    open: F,
    topic: TopicId,
    partitions: AtomicU32,
    written: Mutex<BTreeMap<TopicPartition, Vec<u64>>>,
}

/// An owner of a partition in a process of its own.
struct Owner<'a> {
    sink: Arc<dyn Sink>,
    partition: &'a TopicPartition,
    token: FencingToken,
    written: &'a Mutex<BTreeMap<TopicPartition, Vec<u64>>>,
}

/// Runs all checks; `open` opens the same place anew each time, as another process would.
pub async fn conformance<F>(open: F) -> Report
where
    F: AsyncFn() -> Arc<dyn Sink>,
{
    let guarantee = open().await.guarantee();
    let mut id = [0; 16];
    // Without randomness the run meets the leftovers of another, if there was one, and says so.
    getrandom::fill(&mut id).unwrap_or_default();
    let bench = Bench {
        open,
        topic: TopicId(id),
        partitions: AtomicU32::new(0),
        written: Mutex::default(),
    };
    let mut checks = bench.common(guarantee).await;
    if guarantee == Guarantee::ExactlyOnce {
        checks.extend(EXACTLY_ONCE.into_iter().zip(bench.exactly_once().await));
    } else {
        checks.extend(EXACTLY_ONCE.map(|name| (name, Outcome::NotPromised)));
    }
    let written = bench.written.into_inner().unwrap_or_else(PoisonError::into_inner);
    Report { guarantee, checks, written }
}

// === impl Report ===

impl Report {
    /// True when no check failed.
    pub fn passed(&self) -> bool {
        !self.checks.iter().any(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
    }

    /// For tests.
    ///
    /// # Panics
    ///
    /// With the whole report when a check failed.
    pub fn assert_passed(&self) {
        assert!(self.passed(), "the sink does not conform:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.checks.iter().try_for_each(|(name, outcome)| match outcome {
            Outcome::Passed => writeln!(f, "passed        {name}"),
            Outcome::NotPromised => writeln!(f, "not promised  {name}"),
            Outcome::Failed(seen) => writeln!(f, "FAILED        {name}: {seen}"),
        })
    }
}

impl From<Check> for Outcome {
    fn from(check: Check) -> Self {
        check.map_or_else(Self::Failed, |()| Self::Passed)
    }
}

// === impl Bench ===

impl<F: AsyncFn() -> Arc<dyn Sink>> Bench<F> {
    async fn common(&self, guarantee: Guarantee) -> Vec<(&'static str, Outcome)> {
        vec![
            (
                "a partition that was never written has no position",
                self.begins_empty().await.into(),
            ),
            (
                "what was written is found by the next owner",
                self.chain_is_found(guarantee).await.into(),
            ),
            ("the first batch may begin anywhere", self.first_batch(guarantee).await.into()),
            ("a gap moves the position", self.gap(guarantee).await.into()),
            ("a write that was given up happened or not", self.given_up(guarantee).await.into()),
        ]
    }

    async fn exactly_once(&self) -> [Outcome; EXACTLY_ONCE.len()] {
        [
            self.partitions_are_apart().await.into(),
            self.stale_owner().await.into(),
            self.strays().await.into(),
            self.two_owners().await.into(),
            self.strangers().await.into(),
        ]
    }

    fn partition(&self) -> TopicPartition {
        let number = self.partitions.fetch_add(1, Ordering::Relaxed);
        TopicPartition {
            topic: "conformance".to_owned(),
            id: PartitionId { topic: self.topic, number },
        }
    }

    /// An owner in a new process; `epoch` orders them.
    async fn owner<'a>(&'a self, partition: &'a TopicPartition, epoch: u64) -> Owner<'a> {
        let token = FencingToken { generation: Generation(1), epoch: Epoch(Offset(epoch)) };
        Owner { sink: (self.open)().await, partition, token, written: &self.written }
    }

    async fn begins_empty(&self) -> Check {
        let partition = self.partition();
        let owner = self.owner(&partition, 1).await;
        owner.finds(None).await?;
        owner.finds(None).await
    }

    async fn chain_is_found(&self, guarantee: Guarantee) -> Check {
        let partition = self.partition();
        let first = self.owner(&partition, 1).await;
        first.finds(None).await?;
        for (expected, end) in [(0, 3), (3, 4), (4, 9)] {
            first.writes(expected, end).await?;
        }
        first.finds_end(9, guarantee).await?;
        first.writes(9, 12).await?;
        first.releases().await?;
        let second = self.owner(&partition, 2).await;
        second.finds_end(12, guarantee).await?;
        second.writes(12, 14).await?;
        self.owner(&partition, 3).await.finds_end(14, guarantee).await
    }

    async fn first_batch(&self, guarantee: Guarantee) -> Check {
        let partition = self.partition();
        let first = self.owner(&partition, 1).await;
        first.finds(None).await?;
        first.writes(5_000_000_000, 5_000_000_002).await?;
        self.owner(&partition, 2).await.finds_end(5_000_000_002, guarantee).await
    }

    async fn gap(&self, guarantee: Guarantee) -> Check {
        let partition = self.partition();
        let owner = self.owner(&partition, 1).await;
        owner.finds(None).await?;
        owner.skips(0, 10).await?;
        owner.writes(10, 12).await?;
        owner.skips(12, 20).await?;
        self.owner(&partition, 2).await.finds_end(20, guarantee).await
    }

    /// A lost acknowledgement: the write's future is dropped at different points, and its owner goes on.
    async fn given_up(&self, guarantee: Guarantee) -> Check {
        let partition = self.partition();
        let owner = self.owner(&partition, 1).await;
        owner.finds(None).await?;
        let mut at = 0;
        for polls in GIVE_UP_AFTER {
            let end = at + 3;
            owner.gives_up(at, end, polls).await;
            at = owner.goes_on(at, end, guarantee).await?;
        }
        self.owner(&partition, 2).await.finds_end(at, guarantee).await
    }

    async fn partitions_are_apart(&self) -> Check {
        let (one, other) = (self.partition(), self.partition());
        let mut again = one.clone();
        again.id.topic.0[0] ^= 1; // deleted and created again
        for (partition, end) in [(&one, 4), (&other, 6), (&again, 2)] {
            let owner = self.owner(partition, 1).await;
            owner.finds(None).await?;
            owner.writes(0, end).await?;
        }
        for (partition, end) in [(&one, 4), (&other, 6), (&again, 2)] {
            self.owner(partition, 2).await.finds(Some(end)).await?;
        }
        Ok(())
    }

    async fn stale_owner(&self) -> Check {
        let partition = self.partition();
        let stale = self.owner(&partition, 1).await;
        stale.finds(None).await?;
        stale.writes(0, 5).await?;
        let new = self.owner(&partition, 2).await;
        new.finds(Some(5)).await?;
        new.writes(5, 8).await?;
        stale.is_fenced(5, 8).await?;
        stale.is_fenced(5, 20).await?;
        new.writes(8, 9).await?;
        self.owner(&partition, 3).await.finds(Some(9)).await
    }

    async fn strays(&self) -> Check {
        let partition = self.partition();
        let owner = self.owner(&partition, 1).await;
        for (expected, end) in [(4, 8), (11, 14), (9, 14)] {
            let stands = owner.acquires().await?;
            match stands {
                None => owner.writes(0, 10).await?,
                Some(10) => {}
                Some(other) => return Err(format!("found position {other} instead of 10")),
            }
            owner.is_fenced(expected, end).await?;
        }
        owner.finds(Some(10)).await
    }

    /// Both owners know the same end and write behind it at the same moment; either may win, and the other goes on.
    async fn two_owners(&self) -> Check {
        let partition = self.partition();
        let old = self.owner(&partition, 1).await;
        old.finds(None).await?;
        old.writes(0, 2).await?;
        let new = self.owner(&partition, 2).await;
        new.finds(Some(2)).await?;
        let (by_old, by_new) = tokio::join!(old.tries(2, 4), new.tries(2, 5));
        let end = match (by_old, by_new) {
            (Ok(()), Err(error)) if error.class() == Class::Fenced => 4,
            (Err(error), Ok(())) if error.class() == Class::Fenced => 5,
            other => return Err(format!("expected one to be fenced, found {other:?}")),
        };
        new.finds(Some(end)).await?;
        new.writes(end, 9).await?;
        old.is_fenced(end, 9).await
    }

    async fn strangers(&self) -> Check {
        let partition = self.partition();
        let stranger = self.owner(&partition, 1).await;
        stranger.is_fenced(0, 3).await?;
        stranger.finds(None).await?;
        stranger.writes(0, 3).await?;
        stranger.releases().await?;
        stranger.is_fenced(3, 6).await?;
        self.owner(&partition, 2).await.finds(Some(3)).await
    }
}

// === impl Owner ===

impl Owner<'_> {
    async fn acquires(&self) -> Result<Option<u64>, String> {
        let found = self.sink.acquire(self.partition, self.token).await;
        found.map(|at| at.map(|at| at.0)).map_err(|error| failed("acquire", &error))
    }

    async fn finds(&self, wanted: Option<u64>) -> Check {
        let found = self.acquires().await?;
        if found == wanted {
            return Ok(());
        }
        Err(format!("acquire found position {found:?} instead of {wanted:?}"))
    }

    /// Like `finds`, but a sink that is at-least-once may have forgotten the position.
    async fn finds_end(&self, end: u64, guarantee: Guarantee) -> Check {
        match self.acquires().await? {
            None if guarantee == Guarantee::AtLeastOnce => Ok(()),
            Some(found) if found == end => Ok(()),
            found => Err(format!("acquire found position {found:?} instead of {end}")),
        }
    }

    async fn tries(&self, expected: u64, end: u64) -> Result<(), SinkError> {
        let records: Vec<_> = (expected..end).map(record).collect();
        let batch = Batch { expected: Position(expected), records: &records, end: Position(end) };
        self.sink.write(self.partition, self.token, batch).await?;
        self.note(expected, end);
        Ok(())
    }

    async fn writes(&self, expected: u64, end: u64) -> Check {
        self.tries(expected, end).await.map_err(|error| failed("write", &error))
    }

    async fn skips(&self, expected: u64, end: u64) -> Check {
        let batch = Batch { expected: Position(expected), records: &[], end: Position(end) };
        let written = self.sink.write(self.partition, self.token, batch).await;
        written.map_err(|error| failed("write of a gap", &error))
    }

    async fn is_fenced(&self, expected: u64, end: u64) -> Check {
        match self.tries(expected, end).await {
            Err(error) if error.class() == Class::Fenced => Ok(()),
            Err(error) => Err(failed("a write that should be fenced", &error)),
            Ok(()) => Err(format!("the write of {expected}..{end} was not fenced")),
        }
    }

    async fn releases(&self) -> Check {
        let released = self.sink.release(self.partition, self.token).await;
        released.map_err(|error| failed("release", &error))
    }

    /// Begins a write and drops it after so many polls.
    async fn gives_up(&self, expected: u64, end: u64, polls: usize) {
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
    async fn goes_on(&self, begin: u64, end: u64, guarantee: Guarantee) -> Result<u64, String> {
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
                    self.note(begin, at);
                    return Ok(end + 2);
                }
                Err(error) => seen = failed("a write after a lost one", &error),
            }
        }
        Err(seen)
    }

    fn note(&self, expected: u64, end: u64) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let offsets = written.entry(self.partition.clone()).or_default();
        offsets.extend(expected..end);
        offsets.sort_unstable();
    }
}

fn failed(doing: &str, error: &SinkError) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    format!("{doing} failed: {error}{}", cause.unwrap_or_default())
}

/// Records of different shapes: text, bytes that are none, empty, absent, with headers.
fn record(offset: u64) -> Record {
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
