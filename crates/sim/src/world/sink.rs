//! Where records go: a chain of writes per partition, which compares positions or takes everything.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::consumer::{Failure, Input as ConsumerInput};
use tidegate_core::ids::{FencingToken, PartitionId, Position};

use super::process::{Input, Process, ProcessKey};
use super::{Event, Mutant, World};

/// How long a shell waits for the sink.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

const LATENCY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(40));

/// How late a write may arrive that its sender has given up.
const LATE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(20));

/// All partitions of the one sink.
#[derive(Debug)]
pub(super) struct Sink {
    /// Whether it compares.
    pub(super) fenced: bool,
    chains: BTreeMap<PartitionId, Chain>,
}

/// What one partition's chain is known by: where it ends, and who wrote last.
#[derive(Clone, Copy, Debug)]
struct Chain {
    end: u64,
    token: FencingToken,
}

/// A batch on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) from: ProcessKey,
    pub(super) id: u64,
    pub(super) partition: PartitionId,
    pub(super) token: FencingToken,
    /// Where the writer believes that the sink stands, and where it will stand.
    pub(super) expected: u64,
    pub(super) end: u64,
    /// Whether the answer arrives.
    pub(super) answered: bool,
}

impl Sink {
    pub(super) const fn new(fenced: bool) -> Self {
        Self { fenced, chains: BTreeMap::new() }
    }

    /// Where a partition's chain ends. An owner below the last one that wrote is shut out.
    fn acquire(
        &self,
        partition: PartitionId,
        token: FencingToken,
    ) -> Result<Option<Position>, Failure> {
        match self.chains.get(&partition) {
            Some(chain) if self.fenced && token < chain.token => Err(Failure::Fenced),
            Some(chain) if self.fenced => Ok(Some(Position(chain.end))),
            Some(_) | None => Ok(None),
        }
    }

    /// Appends a batch, where the sink compares only if it stands where the writer believes.
    fn write(&mut self, write: &Write, compares: bool) -> bool {
        let end = self.chains.get(&write.partition).map(|chain| chain.end);
        if compares && end.is_some_and(|end| end != write.expected) {
            return false;
        }
        self.chains.insert(write.partition, Chain { end: write.end, token: write.token });
        true
    }
}

impl World {
    /// A consumer asks for a partition of the sink.
    pub(super) fn ask_sink(
        &mut self,
        key: ProcessKey,
        partition: PartitionId,
        token: FencingToken,
    ) {
        let latency = self.rng.between(LATENCY.0, LATENCY.1);
        let [failing, late] = self.weather.acquires;
        let failed = ConsumerInput::AcquireFailed(partition, token.epoch, Failure::Transient);
        if self.is_sinkless(key) || self.rng.chance(failing) {
            self.deliver(latency, key, Input::Consumer(failed));
        } else if self.rng.chance(late) {
            // The answer still comes, long after: a shell that lets it through does no harm.
            self.deliver(ACQUIRE_TIMEOUT, key, Input::Consumer(failed));
            let delay = self.rng.between(LATE.0, LATE.1);
            self.queue.schedule(self.now.after(delay), Event::Acquire(key, partition, token));
        } else {
            self.queue.schedule(self.now.after(latency), Event::Acquire(key, partition, token));
        }
    }

    fn is_sinkless(&self, key: ProcessKey) -> bool {
        let cut_off = |process: &Process| self.now < process.sinkless_until;
        self.now < self.weather.sink_down_until || self.processes.get(&key).is_some_and(cut_off)
    }

    pub(super) fn acquire(&mut self, key: ProcessKey, partition: PartitionId, token: FencingToken) {
        let latency = self.rng.between(LATENCY.0, LATENCY.1);
        let answer = match self.sink.acquire(partition, token) {
            Ok(stands) => ConsumerInput::Acquired(partition, token.epoch, stands),
            Err(failure) => ConsumerInput::AcquireFailed(partition, token.epoch, failure),
        };
        self.deliver(latency, key, Input::Consumer(answer));
    }

    /// A batch is sent; what becomes of it is up to the weather.
    pub(super) fn send_write(&mut self, mut write: Write) {
        let latency = self.rng.between(LATENCY.0, LATENCY.1);
        let [lost, unanswered, late] = self.weather.writes;
        if self.is_sinkless(write.from) || self.rng.chance(lost) {
            return;
        }
        let delay = if self.rng.chance(late) { self.rng.between(LATE.0, LATE.1) } else { latency };
        write.answered = !self.rng.chance(unanswered);
        self.queue.schedule(self.now.after(delay), Event::Write(write));
    }

    /// A batch reaches the sink.
    pub(super) fn write(&mut self, write: Write) {
        let compares = self.sink.fenced && self.scenario.mutant != Some(Mutant::BlindSink);
        let taken = self.sink.write(&write, compares);
        let what = if taken { "written" } else { "refused" };
        let (partition, token) = (write.partition, write.token.epoch);
        self.trace.note(
            self.now,
            format_args!("sink"),
            format_args!(
                "{what} {partition} {token:?} {}..{} of {}",
                write.expected, write.end, write.from
            ),
        );
        if taken {
            self.audit_write(&write);
        } else {
            self.stats.refused_writes += 1;
        }
        if write.answered {
            let latency = self.rng.between(LATENCY.0, LATENCY.1);
            self.queue.schedule(self.now.after(latency), Event::WriteAnswer(write, taken));
        }
    }
}
