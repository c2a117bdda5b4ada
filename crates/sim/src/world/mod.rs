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
mod duel;
mod ending;
mod faults;
mod leases;
mod loss;
mod monitor;
mod mutants;
mod operator;
mod process;
mod queue;
mod scenario;
mod shadow;
mod sink;
mod stats;
mod trace;
mod weather;
mod worker_api;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_core::consumer::Failure;
use tidegate_core::ids::{
    BootId, ConsumerNumber, DirectoryId, FencingToken, PartitionId, Position,
};

use self::audit::Audit;
use self::broker::{Broker, Question, Request};
use self::consumers::StateFile;
use self::data::Data;
use self::faults::Storm;
use self::process::{Input, Machine, Process, ProcessKey};
use self::queue::Queue;
use self::sink::{Sink, Write};
use self::trace::Trace;
use self::weather::Weather;
use self::workers::Workers;
use crate::rng::Rng;

pub use self::audit::{Promise, Violation};
pub use self::loss::LedgerLoss;
pub use self::mutants::Mutant;
pub use self::queue::Moment;
pub use self::scenario::{Scenario, SinkKind};
pub use self::stats::Stats;
pub use self::trace::Line;

/// Machines of the world.
const MACHINES: usize = 3;

/// Duels of the fold with its table before each world: they cost a twentieth of it.
const DUELS: u32 = 20;

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
    WriteAnswer(Write, Result<(), Failure>),
    WriteTimeout(Write),
    Produce,
    Sample,
    CallApi(ProcessKey, ConsumerNumber),
    Decide(PartitionId),
    StartWorker(ConsumerNumber),
    ListWorkers,
    StartController(usize),
    Kill(ProcessKey),
    Reopen(ProcessKey),
    Delete,
    BeginStorm,
    Strike,
    Heal,
    Inspect,
    Drained,
    GiveUp,
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
    /// What a person has kept of the logs.
    backup: Option<Box<Broker>>,
    /// The ledger has a topic of its own, so that commands do not share its fate.
    ledger_apart: bool,
    sink: Sink,
    /// Positions that consumers commit now and then, for those who look at the group from outside.
    committed: BTreeMap<PartitionId, Position>,
    data: Data,
    /// The processes say which boot of the machine they run in.
    boots_known: bool,
    /// Consumers that a person wants to be left.
    leaving: BTreeSet<ConsumerNumber>,
    weather: Weather,
    storm: Storm,
    audit: Audit,
    trace: Trace,
    stats: Stats,
    healed_at: Moment,
    /// When somebody decided last to leave a gap.
    decided_at: Moment,
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
            sink: Sink::new(scenario.sink),
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
            committed: BTreeMap::new(),
            backup: None,
            ledger_apart: seed % 3 == 1,
            data,
            boots_known: boots_are_known(seed),
            leaving: BTreeSet::new(),
            weather: Weather::FAIR,
            storm: Storm::default(),
            audit: Audit::new(),
            trace: Trace::new(),
            stats: Stats::default(),
            healed_at: Moment(0),
            decided_at: Moment(0),
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
        let mut rng = Rng::new(self.seed);
        if let Some(difference) = (0..DUELS).find_map(|_| duel::duel(&mut rng)) {
            self.violate(Promise::Ledger, format_args!("{difference}"));
        }
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
            Event::WriteAnswer(write, result) => self.write_answered(write, result),
            Event::WriteTimeout(write) => self.write_answered(write, Err(Failure::Transient)),
            Event::Produce => self.produce(),
            Event::Sample => self.sample(),
            Event::CallApi(key, consumer) => self.call_api(key, consumer),
            Event::Decide(partition) => self.decide(partition),
            Event::StartWorker(consumer) => self.start_worker(consumer),
            Event::ListWorkers => self.list_workers(),
            Event::StartController(slot) => self.start_controller(slot),
            Event::Kill(key) => self.exited(key, false),
            Event::Reopen(key) => self.reopen(key),
            Event::Delete => self.delete(),
            Event::BeginStorm => self.begin_storm(),
            Event::Strike => self.strike(),
            Event::Heal => self.heal(),
            Event::Inspect => self.inspect(),
            Event::Drained => self.drained(),
            Event::GiveUp => self.give_up(),
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

/// The machine after a reboot: the same clock, which counts from another moment.
fn reborn(machine: Machine, rng: &mut Rng) -> Machine {
    let uptime = rng.between(Duration::ZERO, Duration::from_secs(1_000_000));
    Machine { boot: BootId(rng.wide()), uptime, ..machine }
}

/// In every eighth world nobody can tell one boot of a machine from another, so that no Hello proves anything.
const fn boots_are_known(seed: u64) -> bool {
    seed % 8 != 5
}
