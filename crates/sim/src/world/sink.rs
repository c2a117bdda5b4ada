//! Where records go: a chain of writes per partition, which compares positions, or epochs too, or takes everything.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::consumer::{Failure, Input as ConsumerInput};
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position};

use super::process::{Input, Process, ProcessKey};
use super::scenario::SinkKind;
use super::{Event, Mutant, World};
use crate::rng::Rng;

/// How long a shell waits for the sink.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

const LATENCY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(40));

/// How late a write may arrive that its sender has given up.
const LATE: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(20));

/// How long a write takes while the sink is slow: up to longer than anybody waits.
const SLOW: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));

/// Records that a restored sink lacks at most.
const MOST_LOST: u64 = 2_000;

/// All partitions of the one sink.
#[derive(Debug)]
pub(super) struct Sink {
    /// What it compares.
    pub(super) kind: SinkKind,
    chains: BTreeMap<PartitionId, Chain>,
}

/// What one partition's chain is known by: where it ends, and who wrote last.
#[derive(Clone, Copy, Debug)]
struct Chain {
    end: Option<u64>,
    token: FencingToken,
}

/// A batch on its way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) from: ProcessKey,
    pub(super) id: u64,
    pub(super) partition: PartitionId,
    pub(super) token: FencingToken,
    /// Where the writer believes that the sink stands, the first record that it has, and where the sink will stand.
    pub(super) expected: u64,
    pub(super) first: u64,
    pub(super) end: u64,
    /// Whether the answer arrives.
    pub(super) answered: bool,
}

impl Sink {
    pub(super) const fn new(kind: SinkKind) -> Self {
        Self { kind, chains: BTreeMap::new() }
    }

    /// Where a partition's chain ends. An owner below the last one that wrote is shut out; where epochs are compared, also
    /// one below the last that acquired it.
    fn acquire(
        &mut self,
        partition: PartitionId,
        token: FencingToken,
    ) -> Result<Option<Position>, Failure> {
        if !self.kind.is_fenced() {
            return Ok(None);
        }
        let chain = self.chains.get_mut(&partition);
        if chain.as_ref().is_some_and(|chain| token < chain.token) {
            return Err(Failure::Fenced);
        }
        let stands = chain.as_ref().and_then(|chain| chain.end);
        if self.kind == SinkKind::Epochs {
            self.chains.insert(partition, Chain { end: stands, token });
        }
        Ok(stands.map(Position))
    }

    /// Appends a batch, where the sink compares only if it stands where the writer believes.
    fn write(&mut self, write: &Write, compares: SinkKind) -> bool {
        let chain = self.chains.get(&write.partition);
        let stands = chain.and_then(|chain| chain.end).is_none_or(|end| end == write.expected);
        let stale = chain.is_some_and(|chain| write.token < chain.token);
        let refused = match compares {
            SinkKind::Plain => false,
            SinkKind::Chain => !stands,
            SinkKind::Epochs => !stands || stale,
        };
        if !refused {
            let chain = Chain { end: Some(write.end), token: write.token };
            self.chains.insert(write.partition, chain);
        }
        !refused
    }

    /// The last records of a partition are gone; who wrote last is known still. Returns where it stood and where it stands.
    fn set_back(&mut self, partition: PartitionId, rng: &mut Rng) -> Option<(u64, u64)> {
        let chain = self.chains.get_mut(&partition).filter(|_| self.kind.is_fenced())?;
        let stood = chain.end.filter(|end| *end > 0)?;
        let stands = stood - 1 - rng.below(stood.min(MOST_LOST));
        chain.end = Some(stands);
        Some((stood, stands))
    }

    /// Where records would be that are gone, the chain says so.
    pub(super) fn leave_gap(&mut self, partition: PartitionId, end: u64) {
        let nobody = FencingToken { generation: Generation(0), epoch: Epoch(Offset(0)) };
        let chain = self.chains.entry(partition).or_insert(Chain { end: None, token: nobody });
        chain.end = Some(end);
    }
}

impl World {
    fn sink_latency(&mut self) -> Duration {
        self.rng.between(LATENCY.0, LATENCY.1) * self.weather.sink_slowness
    }

    /// A consumer asks for a partition of the sink.
    pub(super) fn ask_sink(
        &mut self,
        key: ProcessKey,
        partition: PartitionId,
        token: FencingToken,
    ) {
        let latency = self.sink_latency();
        let [failing, late, refusing] = self.weather.acquires;
        let refuses = self.rng.chance(refusing);
        let failure = if refuses { Failure::Permanent } else { Failure::Transient };
        let failed = ConsumerInput::AcquireFailed(partition, token.epoch, failure);
        if refuses || self.is_sinkless(key) || self.rng.chance(failing) {
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
        let latency = self.sink_latency();
        self.audit_acquire(partition, token);
        let boast = self.audit.behind.get(&partition).map(|(stood, _)| Position(*stood));
        let boast = boast.filter(|_| self.scenario.mutant == Some(Mutant::BoastfulSink));
        let answer = match self.sink.acquire(partition, token) {
            Ok(stands) if boast > stands => ConsumerInput::Acquired(partition, token.epoch, boast),
            Ok(stands) => ConsumerInput::Acquired(partition, token.epoch, stands),
            Err(failure) => ConsumerInput::AcquireFailed(partition, token.epoch, failure),
        };
        self.deliver(latency, key, Input::Consumer(answer));
    }

    /// The sink is restored from a backup, which lacks the last records of a partition.
    pub(super) fn restore_sink(&mut self) {
        let partitions: Vec<_> = self.sink.chains.keys().copied().collect();
        let Some(partition) = self.rng.pick(&partitions).copied() else { return };
        let Some((stood, stands)) = self.sink.set_back(partition, &mut self.rng) else { return };
        let what = format_args!("{partition} stood at {stood} and stands at {stands}");
        self.trace.note(self.now, format_args!("sink"), what);
        self.audit.durable.insert(partition, stands);
        let (stood, told) = self.audit.behind.get(&partition).copied().unwrap_or((stood, false));
        self.audit.behind.insert(partition, (stood, told));
    }

    /// A batch is sent; what becomes of it is up to the weather.
    pub(super) fn send_write(&mut self, mut write: Write) {
        let latency = self.sink_latency();
        let [lost, unanswered, late, failing] = self.weather.writes;
        if self.rng.chance(failing) {
            // Half of those that fail were carried out before something went wrong.
            let failure = if self.rng.chance(50) { Failure::Permanent } else { Failure::Transient };
            self.queue.schedule(self.now.after(latency), Event::WriteAnswer(write, Err(failure)));
            if self.rng.chance(500) {
                return;
            }
            write.answered = false;
        }
        if self.is_sinkless(write.from) || self.rng.chance(lost) {
            return;
        }
        let delay = if self.rng.chance(late) {
            self.rng.between(LATE.0, LATE.1)
        } else if self.now < self.weather.sink_slow_until {
            self.rng.between(SLOW.0, SLOW.1)
        } else {
            latency
        };
        write.answered &= !self.rng.chance(unanswered);
        self.queue.schedule(self.now.after(delay), Event::Write(write));
    }

    /// A batch reaches the sink.
    pub(super) fn write(&mut self, write: Write) {
        let compares = match (self.scenario.mutant, self.sink.kind) {
            (Some(Mutant::BlindSink), _) => SinkKind::Plain,
            (Some(Mutant::EpochBlindSink), SinkKind::Epochs) => SinkKind::Chain,
            (_, kind) => kind,
        };
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
            let result = if taken { Ok(()) } else { Err(Failure::Fenced) };
            let latency = self.sink_latency();
            self.queue.schedule(self.now.after(latency), Event::WriteAnswer(write, result));
        }
    }
}
