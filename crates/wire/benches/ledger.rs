//! What the ledger of a large group costs its controller: the processor time of decoding, folding, deciding and encoding, per
//! second in the life of a group that is in steady state.
//!
//! Every consumer beats every two seconds with figures of all its partitions, and each of its partitions becomes durable once a
//! second, told in five records. Time is virtual; consumers and brokers cost nothing here.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidegate_core::controller::{Controller, Effect, Input, Settings, Steering};
use tidegate_core::demand;
use tidegate_core::ids::{
    ConsumerNumber, Epoch, Generation, GroupName, Incarnation, Instant, Offset, PartitionId,
    Position, ProcessId, TopicId,
};
use tidegate_core::ledger::{CommandBody, Entry, Hello, Ownership, PartitionFigures, Record};
use tidegate_core::rates::{Measurement, Sample, Source, TopicReport};
use tidegate_wire::{Encoded, decode_entry, encode_entry};

const CONSUMERS: u32 = 500;
const PARTITIONS_EACH: u32 = 20;
const RATE: u64 = 100_000;
const GENERATION: Generation = Generation(1_790_000_000);
const TOPIC: TopicId = TopicId([7; 16]);

/// Seconds of the group's life that are measured.
const SECONDS: u64 = 120;

/// Time between two looks of the controller's shell.
const TICK_MS: u64 = 50;

/// Records of one consumer that tell what has become durable, per second.
const PROGRESS_PER_SEC: u64 = 5;

struct World {
    controller: Controller,
    now_ms: u64,
    end: u64,
    unread: Vec<(Offset, Encoded)>,
    lives: BTreeMap<Incarnation, Life>,
    /// Spent by the controller, and of that by decoding.
    spent: Duration,
    decoding: Duration,
    read: u64,
}

struct Life {
    consumer: ConsumerNumber,
    partitions: BTreeMap<PartitionId, (Epoch, u64)>,
    beats: u64,
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

fn settings() -> Settings {
    Settings {
        demand: demand::Settings {
            // Just so many partitions below the packing limit of three quarters.
            capacity_bytes_per_sec: NonZeroU64::new(u64::from(PARTITIONS_EACH) * RATE * 4 / 3 + 1)
                .unwrap_or(NonZeroU64::MIN),
            max_consumers: CONSUMERS,
            first_measurement: Duration::ZERO,
            ..demand::Settings::default()
        },
        ..Settings::usual(GENERATION)
    }
}

/// The monitor's report: all partitions are written at the same rate.
fn report() -> TopicReport {
    let measurement = Measurement {
        sample: Sample {
            high_watermark: Position(1),
            log_start: Position(0),
            size: Some(1),
            leader: 1,
        },
        window: Duration::from_secs(30),
        write_rate: RATE,
        filtered_rate: RATE,
        records_per_sec: 100,
        bytes_per_record: Some(1000),
        staleness: Duration::ZERO,
        source: Source::LogSize,
    };
    let rates = (0..CONSUMERS * PARTITIONS_EACH).map(|number| (number, measurement)).collect();
    TopicReport { full: true, rates, missing: BTreeSet::new() }
}

// === impl World ===

impl World {
    fn new() -> Self {
        let group = GroupName("large".into());
        let controller = Controller::new(settings(), group, ProcessId(1), Instant::default());
        Self {
            controller,
            now_ms: 0,
            end: 0,
            unread: Vec::new(),
            lives: BTreeMap::new(),
            spent: Duration::ZERO,
            decoding: Duration::ZERO,
            read: 0,
        }
    }

    /// Appends what a consumer says: encoding it costs the controller nothing.
    fn say(&mut self, record: Record) -> Offset {
        let entry = Entry { generation: GENERATION, record };
        self.append(encode_entry(&entry))
    }

    fn append(&mut self, encoded: Encoded) -> Offset {
        let at = Offset(self.end);
        self.end += 1;
        self.unread.push((at, encoded));
        at
    }

    fn step(&mut self, input: Input) {
        let now = Instant::since_boot(Duration::from_millis(self.now_ms));
        let before = processor_time();
        let effects = self.controller.step(now, input);
        // What the shell encodes is part of the cost.
        let encoded: Vec<_> = effects
            .iter()
            .map(|effect| match effect {
                Effect::Append(entry) => Some(encode_entry(entry)),
                Effect::Command(_, command) => {
                    drop(tidegate_wire::encode_command(command));
                    None
                }
                _ => None,
            })
            .collect();
        self.spent += processor_time().saturating_sub(before);
        for (effect, encoded) in effects.into_iter().zip(encoded) {
            self.perform(effect, encoded);
        }
    }

    fn perform(&mut self, effect: Effect, encoded: Option<Encoded>) {
        match effect {
            Effect::Append(_) => {
                self.end = encoded.map_or(self.end, |encoded| self.append(encoded).0 + 1);
            }
            Effect::Command(_, command) => {
                let CommandBody::Start { epoch, partitions, .. } = command.body else { return };
                let incarnation = command.incarnation;
                let started = partitions.iter().map(|(partition, _)| (*partition, epoch)).collect();
                let Some(life) = self.lives.get_mut(&incarnation) else { return };
                for (partition, from) in partitions {
                    life.partitions.insert(partition, (epoch, from.0));
                }
                self.say(Record::Started { incarnation, partitions: started });
            }
            Effect::FetchLedgerEnd(id) => {
                let end = Offset(self.end);
                self.step(Input::LedgerEnd(id, Some(end)));
            }
            Effect::AskSteering => self.step(Input::Steering(Steering::default())),
            Effect::LookForTraces => self.step(Input::Traces(false)),
            Effect::ResolveStarts(partitions) => {
                let starts = partitions.into_iter().map(|partition| (partition, Position(0)));
                self.step(Input::Starts(starts.collect()));
            }
            Effect::EnsureWorker(consumer) => {
                let process = ProcessId(1000 + u128::from(consumer.get()));
                let hello = self.say(Record::Hello(Hello {
                    consumer,
                    process,
                    attempt: 1,
                    seen: Offset(self.end),
                    boot: None,
                    directory: None,
                    clean: false,
                    persisted: Vec::new(),
                }));
                let life = Life { consumer, partitions: BTreeMap::new(), beats: 0 };
                self.lives.insert(Incarnation(hello), life);
            }
            _ => {}
        }
    }

    /// The controller reads what was appended.
    fn read(&mut self) {
        let unread = std::mem::take(&mut self.unread);
        if unread.is_empty() {
            return;
        }
        self.read += u64::try_from(unread.len()).unwrap_or(0);
        let before = processor_time();
        let decode = |(at, encoded): &(Offset, Encoded)| {
            (*at, decode_entry(&encoded.header_refs(), encoded.value.as_deref()).ok())
        };
        let records = unread.iter().map(decode).collect();
        let spent = processor_time().saturating_sub(before);
        self.spent += spent;
        self.decoding += spent;
        self.step(Input::Ledger(records));
    }

    /// The next moment, at which consumers say what is due.
    fn pass(&mut self) {
        self.now_ms += TICK_MS;
        let (now, lives) = (self.now_ms, std::mem::take(&mut self.lives));
        let mut after = BTreeMap::new();
        for (at, (incarnation, mut life)) in (0_u64..).zip(lives) {
            // Consumers are spread over the time between two of their records.
            let due = |period: u64| (now / TICK_MS + at).is_multiple_of(period / TICK_MS);
            if due(2_000) {
                life.beats += 1;
                self.say(life.heartbeat(incarnation));
            }
            if due(1_000 / PROGRESS_PER_SEC) {
                let turn = now * PROGRESS_PER_SEC / 1_000;
                let partitions = life.progress(turn);
                self.say(Record::Progress { incarnation, partitions });
            }
            after.insert(incarnation, life);
        }
        self.lives = after;
        if now.is_multiple_of(1_000) {
            self.step(Input::Rates(TOPIC, report()));
        }
        self.step(Input::Tick);
        self.read();
    }

    fn active(&self) -> usize {
        let active =
            |(_, ownership): &(_, Ownership)| matches!(ownership, Ownership::Active { .. });
        self.controller.fold().partitions().filter(active).count()
    }
}

// === impl Life ===

impl Life {
    fn heartbeat(&self, incarnation: Incarnation) -> Record {
        let figures = self.partitions.iter().map(|(partition, (_, next))| PartitionFigures {
            partition: *partition,
            records: *next,
            bytes: *next * 1000,
            busy_us: *next * 10,
            lag: Some(50),
        });
        Record::Heartbeat {
            consumer: self.consumer,
            incarnation,
            seq: self.beats,
            heard: Offset(0),
            figures: figures.collect(),
        }
    }

    /// What has become durable of the partitions whose turn it is.
    fn progress(&mut self, turn: u64) -> Vec<(PartitionId, Epoch, Position)> {
        let due = |partition: &PartitionId| {
            u64::from(partition.number) % PROGRESS_PER_SEC == turn % PROGRESS_PER_SEC
        };
        let mine = self.partitions.iter_mut().filter(|(partition, _)| due(partition));
        mine.map(|(partition, (epoch, next))| {
            *next += 100;
            (*partition, *epoch, Position(*next))
        })
        .collect()
    }
}

#[expect(clippy::print_stdout, reason = "the result of the benchmark")]
fn main() {
    let mut world = World::new();
    world.step(Input::LedgerOpened(Offset(0)));
    let all = usize::try_from(CONSUMERS * PARTITIONS_EACH).unwrap_or(usize::MAX);
    while world.active() < all {
        world.pass();
        assert!(world.now_ms < 600_000, "{} of {all} partitions are read", world.active());
    }
    assert_eq!(world.lives.len(), usize::try_from(CONSUMERS).unwrap_or(0), "consumers");
    let settled_ms = world.now_ms;
    (world.spent, world.decoding, world.read) = (Duration::ZERO, Duration::ZERO, 0);
    let end = world.now_ms + SECONDS * 1_000;
    while world.now_ms < end {
        world.pass();
    }
    let share =
        |time: Duration| time.as_secs_f64() / Duration::from_secs(SECONDS).as_secs_f64() * 100.0;
    println!(
        "{CONSUMERS} consumers, {all} partitions, all read after {settled_ms} ms; {} records/s; {:.2} % of a core, of that decoding {:.2} %",
        world.read / SECONDS,
        share(world.spent),
        share(world.decoding),
    );
}
