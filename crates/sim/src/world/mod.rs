//! A world of processes, a broker and a sink, in which everything that can go wrong does.
//!
//! ```text
//!  seed ─► weather, faults ─┐
//!                           ▼
//!  queue ─► event ─► broker, sink, workers, processes ─► production step functions ─► effects ─► queue
//!                           │
//!                           └─► auditors: every promise, after every event
//! ```
//!
//! One thread, virtual time, no clock and no randomness but the seed's: the same seed gives the same run. A world is
//! calm at first, then stormy, then heals; when nothing goes wrong any more everything must be well again in time.
//!
//! It does not know the wire format, the shells' tasks, or a real broker: other benches do.

mod audit;
mod broker;
mod consumers;
mod controllers;
mod data;
mod faults;
mod leases;
mod mutants;
mod process;
mod queue;
mod rng;
mod scenario;
mod shadow;
mod sink;
mod trace;
mod workers;

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::consumer::Failure;
use tidegate_core::ids::{BootId, ConsumerNumber, DirectoryId, FencingToken, PartitionId};

use self::audit::Audit;
use self::broker::{Broker, Question, Request};
use self::consumers::StateFile;
use self::data::Data;
use self::faults::{Storm, Weather};
use self::process::{Input, Machine, Process, ProcessKey};
use self::queue::Queue;
use self::rng::Rng;
use self::sink::{Sink, Write};
use self::trace::Trace;
use self::workers::Workers;

pub use self::audit::{Promise, Violation};
pub use self::queue::Moment;
pub use self::scenario::{Mutant, Scenario};
pub use self::trace::Line;

/// Machines of the world.
const MACHINES: usize = 3;

/// Time between two looks whether everything is well again.
const INSPECT: Duration = Duration::from_millis(500);

/// How long everything must have been well before the producers stop, and how long after the last fault at least: what
/// was under way then arrives late (20 s), and who was fatally hit is fenced after that (20 s).
const SETTLE: Duration = Duration::from_secs(5);
const AFTERMATH: Duration = Duration::from_secs(50);

/// How long it may take until all records are in the sink; nothing unusual may happen meanwhile.
const DRAIN: Duration = Duration::from_secs(30);

/// What will happen.
#[derive(Debug)]
enum Event {
    Tick(ProcessKey),
    Give(ProcessKey, Input),
    Poll(ProcessKey),
    Append(Request),
    Ask(ProcessKey, Question),
    Acquire(ProcessKey, PartitionId, FencingToken),
    Write(Write),
    WriteAnswer(Write, bool),
    WriteTimeout(Write),
    Produce,
    Sample,
    Ensure(ConsumerNumber),
    Remove(ConsumerNumber),
    StartWorker(ConsumerNumber),
    ListWorkers,
    StartController(usize),
    Kill(ProcessKey),
    BeginStorm,
    Strike,
    Heal,
    Inspect,
    Drained,
    GiveUp,
}

/// What happened in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events.
    pub events: u64,
    /// Steps of state machines.
    pub steps: u64,
    /// Faults that struck.
    pub faults: u64,
    /// Partitions that changed hands by Stop, `StopConsumingEvent`, Grant, Start.
    pub handoffs: u64,
    /// The same as the controllers noted it.
    pub handoffs_seen: u64,
    /// Partitions that were taken up after their owner's end.
    pub recoveries: u64,
    /// Incarnations fenced for silence.
    pub fences: u64,
    /// Incarnations fenced because their process was known to be dead.
    pub deaths: u64,
    /// Incarnations ended by a later Hello.
    pub hellos_with_proof: u64,
    /// Reigns that ended by another one's beginning.
    pub takeovers: u64,
    /// Snapshots that were read back and right.
    pub snapshots: u64,
    /// Logs that were trimmed.
    pub trims: u64,
    /// Plans in the ledger.
    pub plans: u64,
    /// Decisions, also those that moved nothing.
    pub decisions: u64,
    /// Times that no plan could be made.
    pub infeasible: u64,
    /// Lives that began.
    pub lives: u64,
    /// Lives that lapsed.
    pub lapses: u64,
    /// Consumers that left without having given everything back.
    pub unclean_exits: u64,
    /// Second processes of one consumer.
    pub rogues: u64,
    /// Durable writes.
    pub writes: u64,
    /// Writes that the sink refused.
    pub refused_writes: u64,
    /// Records that a sink which compares nothing got again.
    pub repeated: u64,
    /// Alarms about the sink.
    pub alarms: u64,
    /// Records of the ledger that changed nothing, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// How long after the last fault everything was well again.
    pub recovered_after: Option<Duration>,
}

/// How a world ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The seed: with the scenario it says everything.
    pub seed: u64,
    /// The same for the same run, and for no other.
    pub trace_hash: u64,
    /// What happened in numbers.
    pub stats: Stats,
    /// The first broken promise.
    pub violation: Option<Violation>,
    /// What happened in words, if that was recorded.
    pub lines: Vec<Line>,
}

/// A world. See the module.
#[derive(Debug)]
pub struct World {
    scenario: Scenario,
    seed: u64,
    rng: Rng,
    now: Moment,
    queue: Queue<Event>,
    machines: Vec<Machine>,
    processes: BTreeMap<ProcessKey, Process>,
    started: u32,
    directories: BTreeMap<DirectoryId, StateFile>,
    workers: Workers,
    broker: Broker,
    sink: Sink,
    data: Data,
    weather: Weather,
    storm: Storm,
    audit: Audit,
    trace: Trace,
    stats: Stats,
    healed_at: Moment,
    well_since: Option<Moment>,
    unrest_before: [u64; 3],
    ended: bool,
}

impl World {
    /// A world before its beginning.
    pub fn new(scenario: Scenario, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let machines = (0..MACHINES).map(|_| machine(&mut rng)).collect();
        let data = Data::new(scenario.partitions, &mut rng);
        let mut world = Self {
            sink: Sink::new(scenario.fenced_sink),
            scenario,
            seed,
            rng,
            now: Moment(0),
            queue: Queue::new(),
            machines,
            processes: BTreeMap::new(),
            started: 0,
            directories: BTreeMap::new(),
            workers: Workers::new(),
            broker: Broker::default(),
            data,
            weather: Weather::FAIR,
            storm: Storm::default(),
            audit: Audit::new(),
            trace: Trace::new(),
            stats: Stats::default(),
            healed_at: Moment(0),
            well_since: None,
            unrest_before: [0; 3],
            ended: false,
        };
        world.begin();
        world
    }

    /// Keeps what happens in words.
    #[must_use]
    pub fn recorded(mut self) -> Self {
        self.trace.record();
        self
    }

    /// Lets everything happen.
    pub fn run(mut self) -> Outcome {
        while !self.ended
            && self.audit.violation.is_none()
            && let Some((at, event)) = self.queue.pop()
        {
            self.now = at;
            self.stats.events += 1;
            self.happen(event);
        }
        let (trace_hash, lines) = self.trace.into_parts();
        let violation = self.audit.violation;
        Outcome { seed: self.seed, trace_hash, stats: self.stats, violation, lines }
    }

    fn begin(&mut self) {
        for slot in 0..self.scenario.controllers {
            self.start_controller(slot);
        }
        for event in [Event::Produce, Event::Sample, Event::ListWorkers] {
            self.queue.schedule(Moment(0), event);
        }
        self.queue.schedule(Moment(0).after(self.scenario.calm), Event::BeginStorm);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick(key) => self.tick(key),
            Event::Give(key, input) => self.give(key, input),
            Event::Poll(key) => self.poll(key),
            Event::Append(request) => self.arrive(request),
            Event::Ask(key, question) => self.answer(key, question),
            Event::Acquire(key, partition, token) => self.acquire(key, partition, token),
            Event::Write(write) => self.write(write),
            Event::WriteAnswer(write, taken) => {
                self.write_answered(write, taken.then_some(()).ok_or(Failure::Fenced));
            }
            Event::WriteTimeout(write) => self.write_answered(write, Err(Failure::Transient)),
            Event::Produce => self.produce(),
            Event::Sample => self.sample(),
            Event::Ensure(consumer) => self.ensure(consumer),
            Event::Remove(consumer) => self.remove(consumer),
            Event::StartWorker(consumer) => self.start_worker(consumer),
            Event::ListWorkers => self.list_workers(),
            Event::StartController(slot) => self.start_controller(slot),
            Event::Kill(key) => self.exited(key, false),
            Event::BeginStorm => self.begin_storm(),
            Event::Strike => self.strike(),
            Event::Heal => self.heal(),
            Event::Inspect => self.inspect(),
            Event::Drained => self.drained(),
            Event::GiveUp => self.give_up(),
        }
    }

    // === the end ===

    /// Looks whether everything is well again, for long enough; then the producers stop.
    fn inspect(&mut self) {
        if self.ailment().is_some() {
            self.well_since = None;
        }
        let since = *self.well_since.get_or_insert(self.now);
        let settled =
            self.now.since(since) >= SETTLE && self.now.since(self.healed_at) >= AFTERMATH;
        if self.ailment().is_none() && settled {
            self.stats.recovered_after = Some(since.since(self.healed_at));
            self.data.produces = false;
            self.unrest_before = self.unrest();
            self.queue.schedule(self.now.after(DRAIN), Event::Drained);
        } else {
            self.queue.schedule(self.now.after(INSPECT), Event::Inspect);
        }
    }

    /// The producers have stopped for long enough: everything must be in the sink.
    fn drained(&mut self) {
        if let Some(behind) = self.undrained() {
            self.violate(Promise::Recovery, format_args!("{behind}"));
        }
        let (before, after) = (self.unrest_before, self.unrest());
        if before != after {
            self.violate(
                Promise::Recovery,
                format_args!("lapses, fences, take-overs without a fault: {before:?} -> {after:?}"),
            );
        }
        self.ended = true;
    }

    fn unrest(&self) -> [u64; 3] {
        [self.stats.lapses, self.stats.fences, self.stats.takeovers]
    }

    fn give_up(&mut self) {
        if self.stats.recovered_after.is_none() {
            let ailment = self.ailment().unwrap_or_else(|| "nothing stays well".into());
            self.violate(Promise::Recovery, format_args!("{ailment}"));
        }
    }
}

/// Clocks run up to 5 % too fast or too slow.
fn machine(rng: &mut Rng) -> Machine {
    let boot = BootId(rng.wide());
    let uptime = rng.between(Duration::ZERO, Duration::from_secs(1_000_000));
    let drift = u32::try_from(rng.below(100_001)).unwrap_or(0);
    Machine { boot, uptime, pace: 950_000 + drift }
}
