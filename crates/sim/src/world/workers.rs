//! The workers: they start consumer processes when told to, start them again when they end, and tell what died.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::consumer::Input as ConsumerInput;
use tidegate_core::ids::{ConsumerNumber, DirectoryId};

use super::process::{Input, Process, ProcessKey};
use super::{Event, Mutant, World};

/// How long a consumer may take to stop.
const STOP_BUDGET: Duration = Duration::from_secs(8);

/// What is then left of it is killed.
const KILL_AFTER: Duration = Duration::from_secs(12);

/// All workers, by consumer.
pub(super) type Workers = BTreeMap<ConsumerNumber, Worker>;

/// One worker. It is gone when it is no longer there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Worker {
    machine: usize,
    directory: DirectoryId,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its process starts, the first time or again. Left by time.
    Starting,
    /// Left by the process's end, or by a removal.
    Running(ProcessKey),
    /// It was told to end; and perhaps to run again after that. Left by the process's end.
    Stopping { process: ProcessKey, again: bool },
}

impl World {
    /// A worker for this consumer is to run.
    pub(super) fn ensure(&mut self, consumer: ConsumerNumber) {
        match self.workers.get_mut(&consumer).map(|worker| &mut worker.phase) {
            Some(Phase::Stopping { again, .. }) => *again = true,
            Some(Phase::Starting | Phase::Running(_)) => {}
            None => {
                let machine = self.any_machine();
                let directory = DirectoryId(self.rng.wide());
                self.workers
                    .insert(consumer, Worker { machine, directory, phase: Phase::Starting });
                self.start_worker_later(consumer);
            }
        }
    }

    /// It is to end.
    pub(super) fn remove(&mut self, consumer: ConsumerNumber) {
        match self.workers.get_mut(&consumer).map(|worker| &mut worker.phase) {
            Some(phase @ Phase::Running(_)) => {
                let Phase::Running(process) = *phase else { return };
                *phase = Phase::Stopping { process, again: false };
                self.terminate(process);
            }
            Some(Phase::Stopping { again, .. }) => *again = false,
            Some(Phase::Starting) => self.gone(consumer),
            None => {}
        }
    }

    fn gone(&mut self, consumer: ConsumerNumber) {
        self.workers.remove(&consumer);
        self.tell_controllers(consumer, false, None);
    }

    /// SIGTERM, and SIGKILL when that does not help.
    pub(super) fn terminate(&mut self, process: ProcessKey) {
        if self.scenario.mutant == Some(Mutant::LyingExit) {
            self.audit_exit(process, true);
        }
        let now = self.now;
        if let Some(shell) = self.processes.get_mut(&process).and_then(Process::consumer_mut) {
            shell.ends_since.get_or_insert(now);
        }
        self.give(process, Input::Consumer(ConsumerInput::Shutdown(STOP_BUDGET)));
        self.queue.schedule(self.now.after(KILL_AFTER), Event::Kill(process));
    }

    pub(super) fn any_machine(&mut self) -> usize {
        let machines = self.machines.len() as u64;
        usize::try_from(self.rng.below(machines)).unwrap_or(0)
    }

    fn start_worker_later(&mut self, consumer: ConsumerNumber) {
        let delay = self.rng.between(Duration::from_millis(300), self.weather.slowest_start);
        self.queue.schedule(self.now.after(delay), Event::StartWorker(consumer));
    }

    /// The process of a worker starts, once nobody on its machine holds the directory's lock.
    pub(super) fn start_worker(&mut self, consumer: ConsumerNumber) {
        let Some(worker) = self.workers.get(&consumer).copied() else { return };
        let Some(machine) = self.machines.get(worker.machine).copied() else { return };
        if worker.phase != Phase::Starting {
            return;
        }
        if self.is_locked(worker.directory, machine.boot) {
            self.start_worker_later(consumer);
            return;
        }
        let process = self.start_consumer(consumer, machine, worker.directory);
        if let Some(worker) = self.workers.get_mut(&consumer) {
            worker.phase = Phase::Running(process);
        }
    }

    fn is_locked(&self, directory: DirectoryId, boot: tidegate_core::ids::BootId) -> bool {
        self.processes.values().any(|process| {
            process.machine.boot == boot
                && process.consumer().is_some_and(|shell| shell.directory == directory)
        })
    }

    /// A process has left, or was killed: its worker starts another one unless it was told to end.
    pub(super) fn exited(&mut self, key: ProcessKey, clean: bool) {
        let Some(process) = self.processes.remove(&key) else { return };
        self.trace.note(self.now, format_args!("{key}"), format_args!("ended, clean: {clean}"));
        if let Some(shell) = process.controller() {
            let delay = self.rng.between(Duration::from_millis(500), Duration::from_secs(6));
            self.queue.schedule(self.now.after(delay), Event::StartController(shell.slot));
        }
        let Some(number) = process.consumer().map(|shell| shell.number) else { return };
        let of_process = |phase: Phase| matches!(phase, Phase::Running(own) | Phase::Stopping { process: own, .. } if own == key);
        let Some(worker) = self.workers.get(&number).copied().filter(|at| of_process(at.phase))
        else {
            return;
        };
        let ends = matches!(worker.phase, Phase::Stopping { again: false, .. });
        let unknown = self.rng.chance(self.weather.deaths_unseen);
        self.tell_controllers(number, !ends, (!unknown).then_some(process.id));
        if ends {
            self.workers.remove(&number);
        } else {
            self.start_again(number, worker);
        }
    }

    /// Mostly in the same place; sometimes the volume moves to another machine, sometimes it is lost.
    fn start_again(&mut self, number: ConsumerNumber, mut worker: Worker) {
        if self.is_stormy() && self.rng.chance(250) {
            worker.machine = self.any_machine();
        }
        if self.is_stormy() && self.rng.chance(250) {
            worker.directory = DirectoryId(self.rng.wide());
        }
        worker.phase = Phase::Starting;
        self.workers.insert(number, worker);
        self.start_worker_later(number);
    }

    /// A second process of a consumer, which no worker knows of: in its directory on another machine, or in another
    /// directory anywhere.
    ///
    /// Sometimes there are two at once: the Hello of one of them then comes after it has looked and the other has spoken.
    pub(super) fn start_rogues(&mut self) {
        let running: Vec<_> = self.workers.keys().copied().collect();
        let Some(number) = self.rng.pick(&running).copied() else { return };
        self.start_rogue(number);
        if self.rng.chance(400) {
            self.start_rogue(number);
        }
    }

    fn start_rogue(&mut self, number: ConsumerNumber) {
        let Some(worker) = self.workers.get(&number).copied() else { return };
        let at = self.any_machine();
        let Some(machine) = self.machines.get(at).copied() else { return };
        let shares = at != worker.machine && self.rng.chance(500);
        let directory = if shares { worker.directory } else { DirectoryId(self.rng.wide()) };
        if self.is_locked(directory, machine.boot) {
            return;
        }
        self.stats.rogues += 1;
        let key = self.start_consumer(number, machine, directory);
        let life = self.rng.between(Duration::from_secs(5), Duration::from_secs(60));
        let dies = self.now.after(life);
        // The others live on: nobody must mind.
        if dies < self.storm_ends() {
            self.queue.schedule(dies, Event::Kill(key));
        }
    }

    /// The processes of workers that run.
    pub(super) fn running(&self) -> Vec<ProcessKey> {
        let running = |worker: &Worker| match worker.phase {
            Phase::Running(process) => Some(process),
            Phase::Starting | Phase::Stopping { .. } => None,
        };
        self.workers.values().filter_map(running).collect()
    }
}
