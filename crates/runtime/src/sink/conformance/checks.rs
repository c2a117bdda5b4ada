//! The checks themselves: each a short story of owners of one or more partitions.
//!
//! A story uses partitions of its own, so that none depends on what another left behind. It ends at the first thing that
//! is not as it must be, and says what was seen.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures_util::future::join_all;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, TopicId};

use super::owner::{Owner, Written, record};
use super::{Check, Outcome};
use crate::ports::{Class, Guarantee, Record, Sink, TopicPartition};

/// After how many polls a write is given up, in turn: at once, in its middle, close to its end, after it.
const GIVE_UP_AFTER: [usize; 7] = [1, 2, 3, 5, 10, 50, 1000];

/// Records of the large batch: more than a consumer cuts with its defaults and records of a kilobyte.
const MANY: u64 = 4096;

/// Value of some of them, in bytes: the largest that Kafka takes unless it is told otherwise is a little above.
const LARGE: usize = 1_000_000;

/// Partitions that are written at the same time.
const AT_ONCE: u64 = 8;

/// The checks that only a sink that is exactly-once must pass, in the order of [`Bench::exactly_once`].
const EXACTLY_ONCE: [&str; 6] = [
    "partitions and topic ids are apart",
    "a stale owner is fenced at its old position",
    "a stale owner does not acquire again",
    "a batch that does not begin at the end is fenced",
    "of two owners at once one writes",
    "an owner that has not acquired, or has released, does not write",
];

/// Opens the sink under test, makes up partitions and tokens, and remembers what was written.
pub(super) struct Bench<F> {
    open: F,
    guarantee: Guarantee,
    topic: TopicId,
    partitions: AtomicU32,
    pub(super) written: Written,
}

impl<F: AsyncFn() -> Arc<dyn Sink>> Bench<F> {
    pub(super) fn new(open: F, guarantee: Guarantee) -> Self {
        let mut id = [0; 16];
        // Without randomness the run meets the leftovers of another, if there was one, and says so.
        getrandom::fill(&mut id).unwrap_or_default();
        let (partitions, written) = (AtomicU32::new(0), Written::default());
        Self { open, guarantee, topic: TopicId(id), partitions, written }
    }

    /// What every sink must pass.
    pub(super) async fn common(&self) -> Vec<(&'static str, Outcome)> {
        vec![
            (
                "a partition that was never written has no position",
                self.begins_empty().await.into(),
            ),
            ("what was written is found by the next owner", self.chain_is_found().await.into()),
            ("the first batch may begin anywhere", self.first_batch().await.into()),
            ("a gap moves the position", self.gap().await.into()),
            ("a large batch is one write", self.large_batch().await.into()),
            ("partitions are written at the same time", self.at_once().await.into()),
            ("a write that was given up happened or not", self.given_up().await.into()),
            ("a process that died in a write is followed", self.restarts().await.into()),
        ]
    }

    /// What only a sink that is exactly-once must pass.
    pub(super) async fn exactly_once(&self) -> Vec<(&'static str, Outcome)> {
        if self.guarantee == Guarantee::AtLeastOnce {
            return EXACTLY_ONCE.map(|name| (name, Outcome::NotPromised)).to_vec();
        }
        let outcomes: [Check; EXACTLY_ONCE.len()] = [
            self.apart().await,
            self.stale_owner().await,
            self.late_acquire().await,
            self.strays().await,
            self.two_owners().await,
            self.strangers().await,
        ];
        EXACTLY_ONCE.into_iter().zip(outcomes.map(Outcome::from)).collect()
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

    async fn chain_is_found(&self) -> Check {
        let partition = self.partition();
        let first = self.owner(&partition, 1).await;
        first.finds(None).await?;
        for (expected, end) in [(0, 3), (3, 4), (4, 9)] {
            first.writes(expected, end).await?;
        }
        first.finds_end(9, self.guarantee).await?;
        first.writes(9, 12).await?;
        first.releases().await?;
        let second = self.owner(&partition, 2).await;
        second.finds_end(12, self.guarantee).await?;
        second.writes(12, 14).await?;
        self.owner(&partition, 3).await.finds_end(14, self.guarantee).await
    }

    async fn first_batch(&self) -> Check {
        let partition = self.partition();
        let first = self.owner(&partition, 1).await;
        first.finds(None).await?;
        first.writes(5_000_000_000, 5_000_000_002).await?;
        self.owner(&partition, 2).await.finds_end(5_000_000_002, self.guarantee).await
    }

    async fn gap(&self) -> Check {
        let partition = self.partition();
        let owner = self.owner(&partition, 1).await;
        owner.finds(None).await?;
        owner.skips(0, 10).await?;
        owner.writes(10, 12).await?;
        owner.skips(12, 20).await?;
        self.owner(&partition, 2).await.finds_end(20, self.guarantee).await
    }

    async fn large_batch(&self) -> Check {
        let partition = self.partition();
        let owner = self.owner(&partition, 1).await;
        owner.finds(None).await?;
        let mut records: Vec<_> = (0..MANY).map(record).collect();
        for large in records.iter_mut().step_by(1500) {
            large.value = Some(Bytes::from(vec![b'x'; LARGE]));
        }
        owner.writes_records(0, &records, MANY).await?;
        owner.writes(MANY, MANY + 1).await?;
        self.owner(&partition, 2).await.finds_end(MANY + 1, self.guarantee).await
    }

    /// By one sink, as a consumer does; each partition has its own length, so that mixed up positions are seen.
    async fn at_once(&self) -> Check {
        let partitions: Vec<_> = (0..AT_ONCE).map(|_| self.partition()).collect();
        let sink = (self.open)().await;
        let first = |partition| {
            let token = FencingToken { generation: Generation(1), epoch: Epoch(Offset(1)) };
            Owner { sink: Arc::clone(&sink), partition, token, written: &self.written }
        };
        let stories = partitions.iter().zip(1..).map(async |(partition, steps)| {
            let owner = first(partition);
            owner.finds(None).await?;
            for at in 0..steps {
                owner.writes(2 * at, 2 * at + 2).await?;
            }
            self.owner(partition, 2).await.finds_end(2 * steps, self.guarantee).await
        });
        join_all(stories).await.into_iter().collect()
    }

    /// A lost acknowledgement: the write's future is dropped at different points, and its owner goes on.
    async fn given_up(&self) -> Check {
        let partition = self.partition();
        let owner = self.owner(&partition, 1).await;
        owner.finds(None).await?;
        let mut at = 0;
        for polls in GIVE_UP_AFTER {
            let end = at + 3;
            owner.gives_up(at, end, polls).await;
            at = owner.goes_on(at, end, self.guarantee).await?;
        }
        self.owner(&partition, 2).await.finds_end(at, self.guarantee).await
    }

    /// A write is dropped at different points together with its sink. Another process goes on: by turns the same owner
    /// again, and the next one.
    async fn restarts(&self) -> Check {
        let partition = self.partition();
        self.owner(&partition, 1).await.finds(None).await?;
        let (mut at, mut epoch) = (0, 1);
        for polls in GIVE_UP_AFTER {
            for next in [0, 1] {
                let end = at + 3;
                let dying = self.owner(&partition, epoch).await;
                dying.stands_at(at, self.guarantee).await?;
                dying.gives_up(at, end, polls).await;
                drop(dying);
                epoch += next;
                at = self.owner(&partition, epoch).await.goes_on(at, end, self.guarantee).await?;
            }
        }
        self.owner(&partition, epoch + 1).await.finds_end(at, self.guarantee).await
    }

    /// A sink that rejects records has written nothing, stands where it stood, and need not be acquired again.
    pub(super) async fn rejects(&self, rejected: fn(u64) -> Record) -> Check {
        let partition = self.partition();
        let first = self.owner(&partition, 1).await;
        first.finds(None).await?;
        first.writes(0, 3).await?;
        let mixed = [record(3), rejected(4), record(5), rejected(6)];
        first.is_rejected(3, &mixed, 7, &[4, 6]).await?;
        first.writes_records(3, &[record(3), record(5)], 7).await?;
        first.is_rejected(7, &[rejected(7)], 8, &[7]).await?;
        first.skips(7, 8).await?;
        first.is_rejected(8, &[record(8), rejected(9)], 10, &[9]).await?;
        let second = self.owner(&partition, 2).await;
        second.finds_end(8, self.guarantee).await?;
        second.writes(8, 9).await?;
        self.owner(&partition, 3).await.finds_end(9, self.guarantee).await
    }

    async fn apart(&self) -> Check {
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

    /// An owner that was slow, in the process that it always had and in a new one.
    async fn late_acquire(&self) -> Check {
        let partition = self.partition();
        let stale = self.owner(&partition, 1).await;
        stale.finds(None).await?;
        let new = self.owner(&partition, 2).await;
        new.finds(None).await?;
        new.writes(0, 4).await?;
        stale.is_shut_out().await?;
        self.owner(&partition, 1).await.is_shut_out().await?;
        new.writes(4, 5).await?;
        self.owner(&partition, 2).await.finds(Some(5)).await
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
