//! What goes wrong, and when: the weather lies over everything, faults strike now and then.

use std::time::Duration;

use tidegate_core::ids::{Generation, Offset, ProcessId};
use tidegate_core::ledger::{Entry, Evidence, Record, Seal};

use super::broker::{Payload, Request};
use super::process::{ProcessKey, Role};
use super::queue::Moment;
use super::rng::Rng;
use super::scenario::GENESIS;
use super::{Event, Mutant, World};

/// What can happen to any request at any time, in permille, and what is down until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// How many times slower than usual the broker is.
    pub(super) slowness: u32,
    /// Appends that are lost, unacknowledged, late, applied twice, acknowledged slowly.
    pub(super) appends: [u32; 5],
    /// Questions for the end of a log that are not answered.
    pub(super) ends_failing: u32,
    /// Writes to the sink that are lost, unacknowledged, late.
    pub(super) writes: [u32; 3],
    /// Acquisitions that fail, and that are answered when nobody waits for it any more.
    pub(super) acquires: [u32; 2],
    /// Looks at a partition in which reading fails.
    pub(super) reads_failing: u32,
    /// Deaths that nobody tells the controllers.
    pub(super) deaths_unseen: u32,
    /// The longest that a worker takes to start its process.
    pub(super) slowest_start: Duration,
    pub(super) broker_down_until: Moment,
    pub(super) sink_down_until: Moment,
    pub(super) monitor_down_until: Moment,
}

/// Something that strikes at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    CrashConsumer,
    CrashController,
    StallConsumer,
    StallController,
    /// A process appends but does not read.
    DeafConsumer,
    DeafController,
    /// A process reads but does not append.
    MuteConsumer,
    MuteController,
    SlowReader,
    /// A process reads again what it has read before.
    Rewind,
    /// A process cannot reach the sink.
    Sinkless,
    Rogue,
    Terminate,
    /// A record that no reader understands.
    Noise,
    BrokerDown,
    SinkDown,
    MonitorDown,
    ShiftRates,
    GrowTopic,
    /// The controllers are told that a process is dead which is not.
    Calumny,
    /// A fence that names a heartbeat before the last, as if it had been under way while the last one came.
    StaleFence,
}

const FAULTS: [Fault; 19] = [
    Fault::CrashConsumer,
    Fault::CrashController,
    Fault::StallConsumer,
    Fault::StallController,
    Fault::DeafConsumer,
    Fault::DeafController,
    Fault::MuteConsumer,
    Fault::MuteController,
    Fault::SlowReader,
    Fault::Rewind,
    Fault::Sinkless,
    Fault::Rogue,
    Fault::Terminate,
    Fault::Noise,
    Fault::BrokerDown,
    Fault::SinkDown,
    Fault::MonitorDown,
    Fault::ShiftRates,
    Fault::GrowTopic,
];

/// The faults of one world, each as often as it is likely, and the longest pause between two.
#[derive(Clone, Debug, Default)]
pub(super) struct Storm {
    urn: Vec<Fault>,
    pause: Duration,
}

impl Weather {
    pub(super) const FAIR: Self = Self {
        slowness: 1,
        appends: [0; 5],
        ends_failing: 0,
        writes: [0; 3],
        acquires: [0; 2],
        reads_failing: 0,
        deaths_unseen: 0,
        slowest_start: Duration::from_secs(3),
        broker_down_until: Moment(0),
        sink_down_until: Moment(0),
        monitor_down_until: Moment(0),
    };

    fn foul(intensity: u32, rng: &mut Rng) -> Self {
        let mut upto = |most: u32| {
            let worst = most * intensity / 1000;
            if rng.chance(333) {
                0
            } else {
                u32::try_from(rng.below(u64::from(worst) + 1)).unwrap_or(0)
            }
        };
        Self {
            slowness: 1 + upto(8),
            appends: [upto(30), upto(40), upto(30), upto(40), upto(10)],
            ends_failing: upto(30),
            writes: [upto(20), upto(30), upto(20)],
            acquires: [upto(100), upto(50)],
            reads_failing: upto(5),
            deaths_unseen: upto(800),
            slowest_start: Duration::from_secs(3) + Duration::from_millis(u64::from(upto(25_000))),
            ..Self::FAIR
        }
    }
}

impl Storm {
    fn new(rng: &mut Rng) -> Self {
        let mut urn = Vec::new();
        for fault in FAULTS {
            let likelihood = if rng.chance(333) { 0 } else { 1 + rng.below(4) };
            urn.extend((0..likelihood).map(|_| fault));
        }
        Self { urn, pause: rng.between(Duration::from_secs(2), Duration::from_secs(15)) }
    }
}

impl World {
    /// True while things may go wrong.
    pub(super) fn is_stormy(&self) -> bool {
        let begins = Moment(0).after(self.scenario.calm);
        self.scenario.intensity_permille > 0 && begins <= self.now && self.now < self.storm_ends()
    }

    pub(super) fn storm_ends(&self) -> Moment {
        Moment(0).after(self.scenario.calm).after(self.scenario.storm)
    }

    pub(super) fn begin_storm(&mut self) {
        if self.scenario.intensity_permille == 0 {
            self.storm = Storm {
                urn: vec![Fault::ShiftRates, Fault::GrowTopic, Fault::Terminate],
                pause: Duration::from_secs(10),
            };
        } else {
            self.weather = Weather::foul(self.scenario.intensity_permille, &mut self.rng);
            self.storm = Storm::new(&mut self.rng);
        }
        match self.scenario.mutant {
            Some(Mutant::FalseDeath) => self.storm.urn.extend([Fault::Calumny; 10]),
            Some(Mutant::FenceWithoutBeat) => self.storm.urn.extend([Fault::StaleFence; 10]),
            _ => {}
        }
        let (weather, now) = (self.weather, self.now);
        self.trace.note(now, format_args!("world"), format_args!("{weather:?}"));
        self.queue.schedule(self.now, Event::Strike);
        self.queue.schedule(self.now.after(self.scenario.storm), Event::Heal);
    }

    /// Everything that is broken works again; what is under way still arrives late.
    pub(super) fn heal(&mut self) {
        self.trace.note(self.now, format_args!("world"), format_args!("healed"));
        self.weather = Weather { broker_down_until: self.now, ..Weather::FAIR };
        self.healed_at = self.now;
        self.storm = Storm::default();
        self.queue.schedule(self.now, Event::Inspect);
        self.queue.schedule(self.now.after(self.scenario.recovery), Event::GiveUp);
    }

    /// A fault strikes, and the next one is on its way.
    pub(super) fn strike(&mut self) {
        let Some(fault) = self.rng.pick(&self.storm.urn).copied() else { return };
        let pause = self.rng.between(Duration::from_millis(200), self.storm.pause);
        self.queue.schedule(self.now.after(pause), Event::Strike);
        let long = self.rng.between(Duration::from_millis(500), Duration::from_secs(45));
        let short = self.rng.between(Duration::from_millis(200), Duration::from_secs(12));
        self.stats.faults += 1;
        self.trace.note(self.now, format_args!("world"), format_args!("{fault:?}"));
        match fault {
            Fault::CrashConsumer
            | Fault::StallConsumer
            | Fault::DeafConsumer
            | Fault::MuteConsumer
            | Fault::Sinkless => {
                let victim = self.a_process(|role| matches!(role, Role::Consumer(_)));
                self.harm(fault, victim, long);
            }
            Fault::CrashController
            | Fault::StallController
            | Fault::DeafController
            | Fault::MuteController => {
                let victim = self.a_controller();
                self.harm(fault, victim, long);
            }
            Fault::SlowReader | Fault::Rewind => {
                let victim = self.a_process(|_| true);
                self.harm(fault, victim, long);
            }
            Fault::Rogue => self.start_rogue(),
            Fault::Terminate => {
                let running = self.running();
                if let Some(victim) = self.rng.pick(&running).copied() {
                    self.terminate(victim);
                }
            }
            Fault::Noise => self.noise(),
            Fault::BrokerDown => {
                self.weather.broker_down_until = self.now.after(short).min(self.storm_ends());
            }
            Fault::SinkDown => self.weather.sink_down_until = self.now.after(short),
            Fault::MonitorDown => self.weather.monitor_down_until = self.now.after(long),
            Fault::ShiftRates => self.data.shift(&mut self.rng),
            Fault::GrowTopic => self.data.grow(&mut self.rng),
            Fault::Calumny => self.slander(),
            Fault::StaleFence => self.fence_stale(),
        }
    }

    fn harm(&mut self, fault: Fault, victim: Option<ProcessKey>, time: Duration) {
        let until = self.now.after(time).min(self.storm_ends());
        let Some((key, process)) =
            victim.and_then(|key| Some((key, self.processes.get_mut(&key)?)))
        else {
            return;
        };
        let harm = match fault {
            Fault::CrashConsumer | Fault::CrashController => {
                self.exited(key, false);
                return;
            }
            Fault::StallConsumer | Fault::StallController => &mut process.stalled_until,
            Fault::DeafConsumer | Fault::DeafController => &mut process.deaf_until,
            Fault::MuteConsumer | Fault::MuteController => &mut process.mute_until,
            Fault::Sinkless => &mut process.sinkless_until,
            Fault::Rewind => {
                let back = self.rng.below(process.cursor.0.min(60) + 1);
                let start = self.broker.start_of(&process.role);
                process.cursor = start.max(Offset(process.cursor.0 - back));
                self.schedule_poll(key);
                return;
            }
            _ => &mut process.slow_until,
        };
        *harm = until.max(*harm);
    }

    fn a_process(&mut self, of: impl Fn(&Role) -> bool) -> Option<ProcessKey> {
        let of_role: Vec<_> = self
            .processes
            .iter()
            .filter(|(_, process)| of(&process.role))
            .map(|(key, _)| *key)
            .collect();
        self.rng.pick(&of_role).copied()
    }

    /// Mostly the one that leads.
    fn a_controller(&mut self) -> Option<ProcessKey> {
        if self.rng.chance(700) {
            self.a_process(|role| matches!(role, Role::Controller(shell) if shell.leads()))
        } else {
            self.a_process(|role| matches!(role, Role::Controller(_)))
        }
    }

    fn noise(&mut self) {
        let generation = Generation(self.rng.below(2) * GENESIS.0);
        let record = Record::Unknown { kind: "noise".into() };
        let payload = Payload::Ledger(Entry { generation, record });
        self.arrive(Request { payload, answer: None });
    }

    fn fence_stale(&mut self) {
        let fold = &self.audit.reference;
        let beaten = fold.lives().iter().find(|(_, life)| life.beat > 0);
        let Some((reign, (incarnation, life))) = fold.reign().zip(beaten) else { return };
        let seal = Seal { term: reign.term, seq: reign.seq + 1 };
        let (beat, evidence) = (life.beat - 1, Evidence::Silence);
        let record = Record::Fenced { seal, incarnation, beat, evidence };
        let payload = Payload::Ledger(Entry { generation: GENESIS, record });
        self.arrive(Request { payload, answer: None });
    }

    fn slander(&mut self) {
        let victim = self.a_process(|role| matches!(role, Role::Consumer(_)));
        let victim = victim.and_then(|key| self.processes.get(&key));
        let slandered = victim.and_then(|process| Some((process.consumer()?.number, process.id)));
        if let Some((number, id)) = slandered {
            let died: Option<ProcessId> = Some(id);
            self.tell_controllers(number, true, died);
        }
    }
}
