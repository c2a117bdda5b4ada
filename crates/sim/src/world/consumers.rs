//! A consumer process: what its shell does with the effects of the state machine.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::consumer::{
    Alarm, AppendId, Consumer, Effect, Extent, Failure, Identity, Input as ConsumerInput,
    ReadFailure,
};
use tidegate_core::ids::{
    ConsumerNumber, DirectoryId, Epoch, FencingToken, Offset, PartitionId, Position, ProcessId,
};
use tidegate_core::ledger::{Entry, PartitionFigures, Record};

use super::audit::{Obedience, Promise, Renewals};
use super::broker::{Log, Payload, Question};
use super::data::RECORD_BYTES;
use super::leases::LeaseAccount;
use super::process::{Input, Link, Machine, Process, ProcessKey, Role};
use super::queue::Moment;
use super::scenario::consumer_settings;
use super::sink::Write;
use super::{Event, Mutant, World};

/// Records in a batch at most: a second of the busiest partitions.
const BATCH: u64 = 2_000;

/// Looks of a process from one commit of its positions to the next: five seconds.
const MIRROR: u64 = 50;

/// The shell of one consumer process.
#[derive(Debug)]
pub(super) struct ConsumerShell {
    pub(super) number: ConsumerNumber,
    pub(super) directory: DirectoryId,
    pub(super) consumer: Consumer,
    /// Its command partition is being read.
    pub(super) listening: bool,
    lanes: BTreeMap<PartitionId, Lane>,
    writes: u64,
    pub(super) ticks: u64,
    /// What the auditors know of its lease.
    pub(super) lease: LeaseAccount,
    /// And of its commands.
    pub(super) obedience: Obedience,
    /// And of the generations that it lived in.
    pub(super) renewals: Renewals,
    /// Its life began in a generation that was over: the first record that is left was of it, and it is soon told.
    misled: bool,
    /// When it was told to end.
    pub(super) ends_since: Option<Moment>,
    /// What its shell has to tell it once all effects of the step under way are done.
    pub(super) soon: Vec<ConsumerInput>,
}

/// A partition between its log and the sink.
#[derive(Clone, Copy, Debug)]
struct Lane {
    epoch: Epoch,
    /// Where the sink stands, as far as this process knows.
    stands: u64,
    reads: bool,
    announced: bool,
    /// The first record of the batch that was announced, and its end.
    gathered: (u64, u64),
    /// The write in flight.
    writing: Option<u64>,
    records: u64,
}

/// What a state directory keeps.
#[derive(Clone, Debug, Default)]
pub(super) struct StateFile {
    clean: bool,
    partitions: BTreeMap<PartitionId, Position>,
}

impl World {
    /// Starts a process of a consumer, which takes the state directory's lock.
    pub(super) fn start_consumer(
        &mut self,
        number: ConsumerNumber,
        mut machine: Machine,
        directory: DirectoryId,
    ) -> ProcessKey {
        if self.scenario.mutant == Some(Mutant::SlowClock) {
            machine.pace /= 2;
        }
        let id = ProcessId(self.rng.wide());
        let file = self.directories.entry(directory).or_default();
        let identity = Identity {
            consumer: number,
            process: id,
            boot: self.boots_known.then_some(machine.boot),
            directory: Some(directory),
            clean: file.clean,
            persisted: file.partitions.iter().map(|(at, next)| (*at, *next)).collect(),
        };
        let consumer = Consumer::new(consumer_settings(), identity, machine.clock(self.now));
        let shell = ConsumerShell {
            number,
            directory,
            consumer,
            listening: false,
            lanes: BTreeMap::new(),
            writes: 0,
            ticks: 0,
            lease: LeaseAccount::default(),
            obedience: Obedience::default(),
            renewals: Renewals::default(),
            misled: false,
            ends_since: None,
            soon: Vec::new(),
        };
        let key = self.start(Process::new(id, machine, Role::Consumer(Box::new(shell))));
        self.trace.note(
            self.now,
            format_args!("{key} c{number}"),
            format_args!("started {id} {directory:?}"),
        );
        key
    }

    pub(super) fn shell(&mut self, key: ProcessKey) -> Option<&mut ConsumerShell> {
        self.processes.get_mut(&key)?.consumer_mut()
    }

    fn lane(&mut self, key: ProcessKey, partition: PartitionId) -> Option<&mut Lane> {
        self.shell(key)?.lanes.get_mut(&partition)
    }

    /// Batches that can be written are announced, and once a second what was done is told.
    pub(super) fn look_at_lanes(&mut self, key: ProcessKey) {
        let produced = self.data.produced();
        let mut inputs = Vec::new();
        let Some(shell) = self.shell(key) else { return };
        shell.ticks += 1;
        let number = shell.number;
        if shell.ticks.is_multiple_of(10) {
            inputs.push(ConsumerInput::Figures(shell.figures(&produced)));
        }
        let commits = shell.ticks.is_multiple_of(MIRROR);
        let mut lanes = std::mem::take(&mut shell.lanes);
        if commits && self.unreachable_until(Log::Commands(number)).is_none() {
            let stands = lanes.iter().map(|(at, lane)| (*at, Position(lane.stands)));
            self.committed.extend(stands);
        }
        let fails = self.rng.chance(self.weather.reads_failing);
        for (partition, lane) in &mut lanes {
            let end = produced.get(partition).copied().unwrap_or(0);
            inputs.extend(self.read_lane(*partition, lane, end, fails));
        }
        if let Some(shell) = self.shell(key) {
            shell.lanes = lanes;
        }
        inputs.push(ConsumerInput::Tick);
        for input in inputs {
            self.step(key, Input::Consumer(input));
        }
    }

    /// One look at a partition: reading fails, finds its place gone, or finds something.
    fn read_lane(
        &self,
        partition: PartitionId,
        lane: &mut Lane,
        end: u64,
        fails: bool,
    ) -> Option<ConsumerInput> {
        if !lane.reads || lane.announced || lane.writing.is_some() {
            return None;
        }
        let failed = |lane: &mut Lane, failure| {
            lane.reads = false;
            Some(ConsumerInput::ReadFailed(partition, lane.epoch, failure))
        };
        if fails {
            return failed(lane, ReadFailure::Transient);
        }
        if self.unreachable_until(Log::Data(partition)).is_some() {
            return None;
        }
        let start = self.data.start(partition);
        if lane.stands < start && !self.skips_silently() {
            let extent = Extent { start: Position(start), end: Position(end) };
            return failed(lane, ReadFailure::OutOfRange(extent));
        }
        let first = lane.stands.max(start);
        if end <= first {
            return None;
        }
        lane.announced = true;
        lane.gathered = (first, end.min(first + BATCH));
        Some(ConsumerInput::Ready(partition, lane.epoch))
    }

    pub(super) fn perform_consumer(&mut self, key: ProcessKey, effect: Effect) {
        match effect {
            Effect::Locate => self.ask(key, Question::Locate),
            Effect::Listen(from) => {
                if let Some(process) = self.processes.get_mut(&key) {
                    (process.cursor, process.read, process.link) = (from, from, Link::Sound);
                }
                if let Some(shell) = self.shell(key) {
                    shell.listening = true;
                    shell.lease.listens(from);
                }
                self.schedule_poll(key);
            }
            Effect::FetchCommandEnd(id) if self.scenario.mutant == Some(Mutant::DeafLease) => {
                let all_heard = ConsumerInput::CommandEnd(id, Some(Offset(0)));
                self.deliver(Duration::from_millis(5), key, Input::Consumer(all_heard));
            }
            Effect::FetchCommandEnd(id) => self.ask(key, Question::Commands(id)),
            Effect::Append(id, entry) => self.append_of_consumer(key, id, entry),
            Effect::Acquire(partition, token) => self.ask_sink(key, partition, token),
            Effect::Read(partition, epoch, from) => self.begin_lane(key, partition, epoch, from),
            Effect::Unread(partition) => {
                if let Some(lane) = self.lane(key, partition) {
                    (lane.reads, lane.announced) = (false, false);
                }
            }
            Effect::Write(partition, token) => self.begin_write(key, partition, token),
            Effect::Finish(partition, token) => self.finish(key, partition, token),
            Effect::Skip(..) => self.violate(
                Promise::NothingSkipped,
                format_args!("{key} leaves a gap, and nobody decided so"),
            ),
            Effect::Abort(partition) => self.drop_lane(key, partition),
            Effect::Release(partition, _) => {
                if self.lane(key, partition).is_some_and(|lane| lane.writing.is_some()) {
                    let what = format_args!("{key} gives {partition} back during a write");
                    self.violate(Promise::QuietAfterStop, what);
                }
                self.drop_lane(key, partition);
            }
            Effect::Save { clean, partitions } => self.save(key, clean, partitions),
            Effect::Raise(alarm) => self.raised(key, alarm),
            Effect::Began(incarnation) => {
                self.count_life(key);
                self.trace.note(
                    self.now,
                    format_args!("{key}"),
                    format_args!("began {incarnation:?}"),
                );
            }
            Effect::Lapsed(incarnation) => {
                self.count_lapse(key);
                self.trace.note(
                    self.now,
                    format_args!("{key}"),
                    format_args!("lapsed {incarnation:?}"),
                );
            }
            Effect::Ignored(refusal) => {
                self.trace.note(
                    self.now,
                    format_args!("{key}"),
                    format_args!("ignored {refusal:?}"),
                );
            }
            Effect::Exit(clean) => {
                self.audit_exit(key, clean);
                self.exited(key, clean);
            }
        }
    }

    fn count_life(&mut self, key: ProcessKey) {
        self.stats.lives += 1;
        let present = self.audit.reference.generation();
        if let Some(shell) = self.shell(key) {
            shell.misled = shell.consumer.generation() < present;
        }
    }

    fn count_lapse(&mut self, key: ProcessKey) {
        let misled = self.shell(key).is_some_and(|shell| shell.misled);
        self.stats.lapses += u64::from(!misled);
        self.stats.misled += u64::from(misled);
    }

    fn append_of_consumer(&mut self, key: ProcessKey, id: AppendId, entry: Entry) {
        let mutant = self.scenario.mutant;
        if self.shell(key).is_some_and(|shell| shell.lease.beats_too_early(&entry.record)) {
            let what = format_args!("{key} beats and has something to say first");
            self.violate(Promise::Lease, what);
        }
        let mut fault = None;
        if let Some(process) = self.processes.get_mut(&key) {
            let now = process.machine.clock(self.now);
            if let Some(shell) = process.consumer_mut() {
                shell.lease.hands(id, &entry.record, now);
                fault = shell.renewals.hands(id, &entry);
            }
        }
        if let Some(fault) = fault {
            self.violate(Promise::Renewal, format_args!("{key} {fault}"));
        }
        if let Record::Stopped { partitions, .. } = &entry.record {
            for (partition, epoch, _) in partitions {
                let token = FencingToken { generation: entry.generation, epoch: *epoch };
                self.audit.stopped.insert((key, *partition, token));
            }
            if mutant == Some(Mutant::WriteAfterStop) {
                self.write_after_stop(key, &entry);
            }
        }
        let beats = matches!(entry.record, Record::Heartbeat { .. });
        if beats && mutant == Some(Mutant::FalseAcknowledgement) && self.is_stormy() {
            let at = Offset(u64::MAX / 2 + self.now.0);
            let acknowledged = ConsumerInput::Appended(id, at);
            self.deliver(Duration::from_millis(5), key, Input::Consumer(acknowledged));
            return;
        }
        self.append(key, Some(id), &Payload::Ledger(entry));
    }

    fn drop_lane(&mut self, key: ProcessKey, partition: PartitionId) {
        if let Some(shell) = self.shell(key) {
            shell.lanes.remove(&partition);
        }
    }

    fn begin_lane(
        &mut self,
        key: ProcessKey,
        partition: PartitionId,
        epoch: Epoch,
        from: Position,
    ) {
        let steps_back = self.scenario.mutant == Some(Mutant::StepBack);
        let from = from.0.saturating_sub(u64::from(steps_back));
        let Some(shell) = self.shell(key) else { return };
        let before = shell.lanes.get(&partition).filter(|before| before.epoch == epoch);
        let lane = Lane {
            epoch,
            stands: from,
            reads: true,
            announced: false,
            gathered: (from, from),
            writing: None,
            records: before.map_or(0, |before| before.records),
        };
        shell.lanes.insert(partition, lane);
    }

    fn begin_write(&mut self, key: ProcessKey, partition: PartitionId, token: FencingToken) {
        let Some(shell) = self.shell(key) else { return };
        shell.writes += 1;
        let id = shell.writes;
        let Some(lane) = shell.lanes.get_mut(&partition) else { return };
        let overlaps = lane.writing.replace(id).is_some();
        let (expected, (first, end)) = (lane.stands, lane.gathered);
        let write = Write { from: key, id, partition, token, expected, first, end, answered: true };
        self.audit_order(&write, overlaps);
        self.audit_lease_of_write(key);
        self.audit_write_begins(&write);
        self.send_write(write);
        let timeout = consumer_settings().write_timeout;
        self.queue.schedule(self.now.after(timeout), Event::WriteTimeout(write));
        if self.scenario.mutant == Some(Mutant::EagerProgress) {
            self.queue.schedule(self.now, Event::WriteAnswer(write, Ok(())));
        }
    }

    /// The last write of an owner: what it has gathered.
    fn finish(&mut self, key: ProcessKey, partition: PartitionId, token: FencingToken) {
        let Some(shell) = self.shell(key) else { return };
        let Some(lane) = shell.lanes.get_mut(&partition) else { return };
        lane.reads = false;
        if lane.announced {
            self.begin_write(key, partition, token);
        } else {
            let stands = Position(lane.stands);
            shell.soon.push(ConsumerInput::Written(partition, token.epoch, stands));
        }
    }

    /// The answer to a write, if its process still waits for it.
    pub(super) fn write_answered(&mut self, write: Write, result: Result<(), Failure>) {
        let Some(lane) = self.lane(write.from, write.partition) else { return };
        if lane.writing != Some(write.id) {
            return;
        }
        lane.writing = None;
        let epoch = write.token.epoch;
        let input = match result {
            Ok(()) => {
                lane.announced = false;
                lane.stands = write.end;
                lane.records += write.end - write.first;
                ConsumerInput::Written(write.partition, epoch, Position(write.end))
            }
            Err(failure) => ConsumerInput::WriteFailed(write.partition, epoch, failure),
        };
        self.give(write.from, Input::Consumer(input));
    }

    fn write_after_stop(&mut self, key: ProcessKey, entry: &Entry) {
        let Record::Stopped { partitions, .. } = &entry.record else { return };
        for (partition, epoch, next) in partitions {
            let Some(next) = next else { continue };
            let token = FencingToken { generation: entry.generation, epoch: *epoch };
            let (expected, first, end) = (next.0, next.0, next.0 + 1);
            let (from, partition, answered) = (key, *partition, false);
            let write = Write { from, id: 0, partition, token, expected, first, end, answered };
            self.audit_write_begins(&write);
            self.send_write(write);
        }
    }

    fn save(&mut self, key: ProcessKey, clean: bool, partitions: BTreeMap<PartitionId, Position>) {
        let Some(directory) = self.shell(key).map(|shell| shell.directory) else { return };
        self.directories.insert(directory, StateFile { clean, partitions });
    }

    fn raised(&mut self, key: ProcessKey, alarm: Alarm) {
        self.trace.note(self.now, format_args!("{key}"), format_args!("{alarm:?}"));
        match alarm {
            Alarm::SinkFailing(..) | Alarm::ReadFailing(..) => self.stats.alarms += 1,
            Alarm::OutOfRange(partition, epoch, next, _) => {
                self.out_of_range(key, (partition, epoch), next);
            }
            Alarm::SinkBehind(partition, ..) if self.audit.behind.contains_key(&partition) => {
                self.stats.sinks_behind += 1;
                self.audit.behind.entry(partition).and_modify(|(_, told)| *told = true);
            }
            Alarm::SinkBehind(..) => {
                self.violate(Promise::NothingLost, format_args!("{key} raises {alarm:?}"));
            }
        }
    }
}

impl ConsumerShell {
    fn figures(&self, produced: &BTreeMap<PartitionId, u64>) -> Vec<PartitionFigures> {
        let figure = |(partition, lane): (&PartitionId, &Lane)| PartitionFigures {
            partition: *partition,
            records: lane.records,
            bytes: lane.records * RECORD_BYTES,
            busy_us: 0,
            lag: produced.get(partition).map(|end| end.saturating_sub(lane.stands)),
        };
        self.lanes.iter().map(figure).collect()
    }
}
