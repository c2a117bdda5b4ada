//! What every sink must do, as checks that the tests of any sink can run: ours and those of third parties.
//!
//! The checks speak to a sink only through [`Sink`], on partitions of a topic made up for the run, so they may run
//! against a place that holds other data. Each time they need another process they open the place once more. What they
//! cannot see by themselves is whether the records are really there, and which records a sink rejects: a [`Suite`] is
//! told both. Without it they do not judge these, and the report tells which offsets a reader must find.
//!
//! ```
//! use std::sync::Arc;
//! use tidegate_runtime::sink::*;
//!
//! #[derive(Debug)]
//! struct Nowhere;
//!
//! #[async_trait]
//! impl Sink for Nowhere {
//!     fn guarantee(&self) -> Guarantee {
//!         Guarantee::AtLeastOnce
//!     }
//!     // …
//! #   async fn write(&self, _: &TopicPartition, _: FencingToken, _: Batch<'_>) -> Result<(), SinkError> {
//! #       Ok(())
//! #   }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let report = conformance(async || Arc::new(Nowhere) as Arc<dyn Sink>).await;
//! report.assert_passed();
//! # });
//! ```

mod checks;
mod owner;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError};

use futures_util::future::BoxFuture;

use self::checks::Bench;
use crate::ports::{Guarantee, Record, Sink, TopicPartition};

/// The check that a suite makes when it knows what the sink rejects.
const REJECTS: &str = "a sink that rejects records has written nothing";

/// The check that a suite makes when it can read.
const READS: &str = "what is durable is there, and in order";

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The sink does what it must.
    Passed,
    /// The sink's guarantee does not cover it.
    NotPromised,
    /// The suite was not told what it needs for it: [`Suite::rejecting`], [`Suite::reading`].
    NotAsked,
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

type Reader<'a> = Box<dyn Fn(TopicPartition) -> BoxFuture<'a, Result<Vec<u64>, String>> + 'a>;

/// All checks, for a sink of which more is known than how it is opened.
pub struct Suite<'a, F> {
    open: F,
    rejected: Option<fn(u64) -> Record>,
    read: Option<Reader<'a>>,
}

/// Runs all checks that need nothing but the sink; `open` opens the same place anew each time, as another process would.
pub async fn conformance<F>(open: F) -> Report
where
    F: AsyncFn() -> Arc<dyn Sink>,
{
    Suite::new(open).run().await
}

// === impl Suite ===

impl<F> fmt::Debug for Suite<'_, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("rejected", &self.rejected).finish_non_exhaustive()
    }
}

impl<'a, F: AsyncFn() -> Arc<dyn Sink>> Suite<'a, F> {
    /// The checks of [`conformance()`].
    pub fn new(open: F) -> Self {
        Self { open, rejected: None, read: None }
    }

    /// With the check of what follows a rejection. The function makes a record, at any offset, that the sink rejects.
    #[must_use]
    pub fn rejecting(mut self, rejected: fn(u64) -> Record) -> Self {
        self.rejected = Some(rejected);
        self
    }

    /// With a reader of the place: it returns the offsets that are there of a partition, in the order in which they are.
    #[must_use]
    pub fn reading(
        mut self,
        read: impl Fn(TopicPartition) -> BoxFuture<'a, Result<Vec<u64>, String>> + 'a,
    ) -> Self {
        self.read = Some(Box::new(read));
        self
    }

    /// Runs them.
    pub async fn run(self) -> Report {
        let guarantee = (self.open)().await.guarantee();
        let bench = Bench::new(self.open, guarantee);
        let mut checks = bench.common().await;
        checks.extend(bench.exactly_once().await);
        checks.push(match self.rejected {
            Some(rejected) => (REJECTS, bench.rejects(rejected).await.into()),
            None => (REJECTS, Outcome::NotAsked),
        });
        let written = bench.written.into_inner().unwrap_or_else(PoisonError::into_inner);
        checks.push(match self.read {
            Some(read) => (READS, is_there(&written, guarantee, read).await.into()),
            None => (READS, Outcome::NotAsked),
        });
        Report { guarantee, checks, written }
    }
}

/// Compares what was written with what is found.
async fn is_there(
    written: &BTreeMap<TopicPartition, Vec<u64>>,
    guarantee: Guarantee,
    read: Reader<'_>,
) -> Check {
    for (partition, wanted) in written {
        let mut found = read(partition.clone()).await?;
        if guarantee == Guarantee::AtLeastOnce {
            found.retain({
                let mut next = 0;
                move |offset| (next <= *offset).then(|| next = offset + 1).is_some()
            });
            found.retain(|offset| wanted.contains(offset));
        }
        if found != *wanted {
            let at = found.iter().zip(wanted).take_while(|(found, wanted)| found == wanted).count();
            let (found, wanted) = (found.get(at), wanted.get(at));
            return Err(format!(
                "of partition {partition} the record number {at} is {found:?} instead of {wanted:?}"
            ));
        }
    }
    Ok(())
}

// === impl Report ===

impl Report {
    /// True when no check failed.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The names of the checks that failed.
    pub fn failures(&self) -> impl Iterator<Item = &'static str> {
        let failed =
            self.checks.iter().filter(|(_, outcome)| matches!(outcome, Outcome::Failed(_)));
        failed.map(|(name, _)| *name)
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
            Outcome::NotAsked => writeln!(f, "not asked     {name}"),
            Outcome::Failed(seen) => writeln!(f, "FAILED        {name}: {seen}"),
        })
    }
}

impl From<Check> for Outcome {
    fn from(check: Check) -> Self {
        check.map_or_else(Self::Failed, |()| Self::Passed)
    }
}
