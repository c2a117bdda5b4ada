//! One partition that is read: its assignment, the position of the next fetch, who is asked for it, and when again.

use std::time::Duration;

use tidegate_core::ids::Position;
use tidegate_runtime::ports::TopicPartition;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// So many failures in a row take some seconds.
const WORTH_A_WORD: u32 = 10;

/// Numbers the assignments of a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(pub(super) u64);

impl Generation {
    #[cfg(test)]
    pub(super) const FIRST: Self = Self(1);
}

/// What a fetch asks of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) generation: Generation,
    pub(super) next: u64,
    pub(super) leader: i32,
    pub(super) leader_epoch: i32,
    /// Leader epoch of the last record, by which the leader notices a log that was cut and has grown again.
    pub(super) last_epoch: i32,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) partition: TopicPartition,
    pub(super) generation: Generation,
    /// Behind the last record that was passed on.
    pub(super) given: u64,
    /// Behind the last record that was fetched.
    pub(super) next: u64,
    pub(super) last_epoch: i32,
    pub(super) paused: bool,
    pub(super) stage: Stage,
    /// Between tries, while it cannot be read.
    pub(super) backoff: Backoff,
    /// How often in a row the batch at `next` could not be decoded.
    pub(super) garbled: u32,
    pub(super) end: Option<u64>,
}

/// Who is asked for a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody: it is to be found out who leads it, not before this moment.
    Unled { due: Instant },
    /// Its leader.
    Led { broker: i32, epoch: i32 },
    /// Nobody: the leader says that the position is not in its log. To be looked into, not before this moment.
    Outside { due: Instant },
    /// Nobody: the caller is being told why.
    Over,
}

impl Entry {
    /// Begins at a position.
    pub(super) fn new(partition: TopicPartition, generation: Generation, from: Position) -> Self {
        Self {
            partition,
            generation,
            given: from.0,
            next: from.0,
            last_epoch: -1,
            paused: false,
            stage: Stage::Unled { due: Instant::now() },
            backoff: Backoff::default(),
            garbled: 0,
            end: None,
        }
    }

    /// What was not passed on is fetched again.
    pub(super) fn again(&mut self) {
        (self.next, self.last_epoch) = (self.given, -1);
    }

    /// What is to be asked of a broker.
    pub(super) fn ask(&self, of: i32) -> Option<Ask> {
        let Stage::Led { broker, epoch } = self.stage else { return None };
        (broker == of && !self.paused).then_some(Ask {
            generation: self.generation,
            next: self.next,
            leader: broker,
            leader_epoch: epoch,
            last_epoch: self.last_epoch,
        })
    }

    /// Nobody is asked for it until it is known who leads it.
    pub(super) fn lose(&mut self) {
        if self.stage != Stage::Over {
            self.stage = Stage::Unled { due: Instant::now() + self.pause() };
        }
    }

    /// How long to wait after one more failure.
    pub(super) fn pause(&mut self) -> Duration {
        let pause = self.backoff.failed();
        if self.backoff.failures() == WORTH_A_WORD {
            let partition = &self.partition;
            tracing::warn!(%partition, "it has not been read for some seconds: nobody leads it, or its leader does not answer");
        }
        pause
    }
}
