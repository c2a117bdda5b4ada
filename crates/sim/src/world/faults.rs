//! What strikes now and then, each kind as often as the seed has it; the weather lies over everything besides.

use std::time::Duration;

use tidegate_core::ids::{Generation, Offset, ProcessId};
use tidegate_core::ledger::{Command, CommandBody, Entry, Evidence, Record, Seal};

use super::LedgerLoss;
use super::broker::{Log, Payload, Request};
use super::process::{Process, ProcessKey, Role};
use super::queue::Moment;
use super::scenario::GENESIS;
use super::weather::Weather;
use super::{Event, Mutant, World, reborn};
use crate::rng::Rng;

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
    /// A record or a command that was appended long ago is appended once more.
    Echo,
    BrokerDown,
    /// A log has no leader for a while.
    MoveLeader,
    SinkDown,
    /// Writes take longer than anybody waits.
    SinkSlow,
    MonitorDown,
    ApiDown,
    /// A machine and everything on it begins anew.
    Reboot,
    /// Some partitions change their rates.
    ShiftRates,
    /// All do, by the same factor.
    StepRates,
    /// One is written faster than any consumer can bear.
    HotPartition,
    GrowTopic,
    /// Records are deleted, read or not.
    Retention,
    /// The sink has lost the last records of a partition.
    RestoreSink,
    /// A person takes from a consumer what it holds.
    Drain,
    /// A person wants other consumers to be left than before, or none any more.
    Evacuate,
    /// The ledger loses records.
    Lose(LedgerLoss),
    /// The controllers are told that a process is dead which is not.
    Calumny,
    /// A fence that names a heartbeat before the last, as if it had been under way while the last one came.
    StaleFence,
}

const FAULTS: [Fault; 29] = [
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
    Fault::Echo,
    Fault::BrokerDown,
    Fault::MoveLeader,
    Fault::SinkDown,
    Fault::SinkSlow,
    Fault::MonitorDown,
    Fault::ApiDown,
    Fault::Reboot,
    Fault::ShiftRates,
    Fault::StepRates,
    Fault::HotPartition,
    Fault::GrowTopic,
    Fault::Retention,
    Fault::Drain,
    Fault::Evacuate,
];

/// The faults of one world, each as often as it is likely, and the longest pause between two.
#[derive(Clone, Debug, Default)]
pub(super) struct Storm {
    urn: Vec<Fault>,
    pause: Duration,
}

impl Storm {
    fn new(losses: &[LedgerLoss], rng: &mut Rng) -> Self {
        let mut urn = Vec::new();
        for fault in FAULTS {
            let likelihood = if rng.chance(333) { 0 } else { 1 + rng.below(4) };
            urn.extend((0..likelihood).map(|_| fault));
        }
        // What stands still after it is looked at no more, so that it is in few worlds.
        if rng.chance(100) {
            urn.push(Fault::RestoreSink);
        }
        for (loss, likelihood) in LedgerLoss::likelihoods(losses, rng) {
            urn.extend((0..likelihood).map(|_| Fault::Lose(loss)));
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
            self.storm = Storm::new(&self.scenario.losses, &mut self.rng);
        }
        let shown_by = self.scenario.mutant.and_then(Mutant::shown_by);
        if let Some(loss) = shown_by.filter(|loss| self.scenario.losses.contains(loss)) {
            self.storm.urn.extend([Fault::Lose(loss); 6]);
        }
        match self.scenario.mutant {
            Some(Mutant::FalseDeath) => self.storm.urn.extend([Fault::Calumny; 10]),
            Some(Mutant::FenceWithoutBeat) => self.storm.urn.extend([Fault::StaleFence; 10]),
            Some(Mutant::DeafLease) => {
                self.storm.urn.extend([Fault::DeafConsumer, Fault::ShiftRates, Fault::StepRates]);
                self.storm.urn.extend([Fault::DeafConsumer; 10]);
            }
            Some(Mutant::BoastfulSink) => self.storm.urn.extend([Fault::RestoreSink; 3]),
            Some(Mutant::SilentSkip) => self.storm.urn.extend([Fault::Retention; 10]),
            Some(Mutant::EpochBlindSink) => {
                self.storm.urn.extend([Fault::StallConsumer; 10]);
                self.weather.writes = [0, 100, 200, 0];
            }
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
        self.broker.leaderless.clear();
        self.data.become_bearable(&mut self.rng);
        self.healed_at = self.now;
        self.leaving.clear();
        self.tell_leaving();
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
        *self.stats.faults.entry(format!("{fault:?}")).or_default() += 1;
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
            Fault::Rogue => self.start_rogues(),
            Fault::Terminate => {
                let running = self.running();
                if let Some(victim) = self.rng.pick(&running).copied() {
                    self.terminate(victim);
                }
            }
            Fault::Reboot => self.reboot(),
            Fault::Noise => self.noise(),
            Fault::Echo => self.echo(),
            Fault::BrokerDown
            | Fault::MoveLeader
            | Fault::SinkDown
            | Fault::SinkSlow
            | Fault::MonitorDown
            | Fault::ApiDown => self.outage(fault, short, long),
            Fault::ShiftRates
            | Fault::StepRates
            | Fault::HotPartition
            | Fault::GrowTopic
            | Fault::Retention => self.upset_data(fault),
            Fault::RestoreSink => self.restore_sink(),
            Fault::Drain => self.drain(),
            Fault::Evacuate => self.evacuate(),
            Fault::Lose(loss) => self.lose(loss),
            Fault::Calumny => self.slander(),
            Fault::StaleFence => self.fence_stale(),
        }
    }

    fn outage(&mut self, fault: Fault, short: Duration, long: Duration) {
        let (now, ends) = (self.now, self.storm_ends());
        let weather = &mut self.weather;
        match fault {
            Fault::BrokerDown => weather.broker_down_until = now.after(short).min(ends),
            Fault::SinkDown => weather.sink_down_until = now.after(short),
            Fault::SinkSlow => weather.sink_slow_until = now.after(long),
            Fault::ApiDown => weather.api_down_until = now.after(long),
            Fault::MonitorDown => {
                weather.monitor_down_until = now.after(long);
                // Sometimes it was a restart: what was measured is forgotten.
                if self.rng.chance(500) {
                    self.data.restart_monitor();
                }
            }
            _ => self.move_leader(now.after(short / 3).min(ends)),
        }
    }

    /// A leader moves, and the log waits for the new one until then.
    fn move_leader(&mut self, until: Moment) {
        let mut logs = vec![Log::Ledger, Log::Ledger, Log::Ledger];
        logs.extend(self.broker.commands.keys().copied().map(Log::Commands));
        logs.extend(self.data.produced().into_keys().map(Log::Data));
        let Some(log) = self.rng.pick(&logs).copied() else { return };
        self.trace.note(self.now, format_args!("world"), format_args!("{log:?} moves"));
        self.broker.leaderless.insert(log, until);
        if let Log::Data(partition) = log {
            self.data.move_leader(partition, &mut self.rng);
        }
    }

    fn upset_data(&mut self, fault: Fault) {
        let (data, rng) = (&mut self.data, &mut self.rng);
        match fault {
            Fault::ShiftRates => data.shift(rng),
            Fault::StepRates => data.step_rates(rng),
            Fault::HotPartition => data.heat(rng),
            Fault::GrowTopic => data.grow(rng),
            _ => self.retain(),
        }
    }

    /// Retention deletes what is durable, or goes beyond it.
    fn retain(&mut self) {
        let produced: Vec<_> = self.data.produced().into_iter().collect();
        let Some((partition, end)) = self.rng.pick(&produced).copied() else { return };
        let durable = self.audit.durable.get(&partition).copied().unwrap_or(0);
        let start = if self.rng.chance(500) {
            self.rng.below(durable + 1)
        } else {
            durable + self.rng.below(end.saturating_sub(durable) + 1)
        };
        self.data.delete_below(partition, start, &mut self.rng);
        let what = format_args!("{partition} begins at {start}, durable to {durable} of {end}");
        self.trace.note(self.now, format_args!("world"), what);
    }

    fn reboot(&mut self) {
        let index = self.any_machine();
        let Some(machine) = self.machines.get_mut(index) else { return };
        let boot = std::mem::replace(machine, reborn(*machine, &mut self.rng)).boot;
        let on_it = |(_, process): &(&ProcessKey, &Process)| process.machine.boot == boot;
        let on_it: Vec<_> = self.processes.iter().filter(on_it).map(|(key, _)| *key).collect();
        for key in on_it {
            self.exited(key, false);
        }
        if index == 0 {
            self.data.restart_monitor();
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
                let start = self.broker.start_of(&process.role).min(process.cursor);
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
        let present = self.audit.reference.generation().unwrap_or(GENESIS).0;
        let generation = Generation(self.rng.below(2) * present);
        let record = Record::Unknown { kind: "noise".into() };
        let payload = Payload::Ledger(Entry { generation, record });
        self.arrive(Request { payload, answer: None });
    }

    fn echo(&mut self) {
        let consumers: Vec<_> = self.broker.commands.keys().copied().collect();
        let consumer = self.rng.pick(&consumers).copied().filter(|_| self.rng.chance(500));
        let payload = if let Some(consumer) = consumer {
            let commands = self.broker.commands.get(&consumer).map_or(&[][..], Vec::as_slice);
            self.rng.pick(commands).cloned().map(|command| Payload::Command(consumer, command))
        } else {
            self.rng.pick(&self.broker.ledger).cloned().map(Payload::Ledger)
        };
        if let Some(payload) = payload {
            self.arrive(Request { payload, answer: None });
        }
    }

    fn fence_stale(&mut self) {
        let fold = &self.audit.reference;
        let generation = fold.generation().unwrap_or(GENESIS);
        let beaten = fold.lives().iter().find(|(_, life)| life.beat > 0);
        let Some((reign, (incarnation, life))) = fold.reign().zip(beaten) else { return };
        let seal = Seal { term: reign.term, seq: reign.seq + 1 };
        let (beat, evidence) = (life.beat - 1, Evidence::Silence);
        let record = Record::Fenced { seal, incarnation, beat, evidence };
        let payload = Payload::Ledger(Entry { generation, record });
        self.arrive(Request { payload, answer: None });
    }

    fn drain(&mut self) {
        let fold = &self.audit.reference;
        let lives: Vec<_> = fold.lives().iter().map(|(at, life)| (at, life.consumer)).collect();
        let Some((generation, reign)) = fold.generation().zip(fold.reign()) else { return };
        let Some((incarnation, consumer)) = self.rng.pick(&lives).copied() else { return };
        let body = CommandBody::Drain { term: reign.term };
        let command = Command { generation, incarnation, body };
        self.arrive(Request { payload: Payload::Command(consumer, command), answer: None });
    }

    fn evacuate(&mut self) {
        let lives = self.audit.reference.lives().iter();
        let living: Vec<_> = lives.map(|(_, life)| life.consumer).collect();
        let count = self.rng.below(3);
        self.leaving = (0..count).filter_map(|_| self.rng.pick(&living).copied()).collect();
        self.tell_leaving();
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
