//! The consumer's step function: phases of the process, and what each input does in them.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use super::greeting::Greeting;
use super::holding::{Activity, Doing, Holding};
use super::io::{AppendId, Effect, Input, Settings};
use super::leaving::Leaving;
use super::life::{Lease, Pulse};
use super::outbox::{AppendIds, Outbox};
use crate::ids::{
    BootId, ConsumerNumber, DirectoryId, Epoch, FencingToken, Generation, Incarnation, Instant,
    Offset, PartitionId, Position, ProcessId, Term,
};
use crate::ledger::{Entry, PartitionFigures, Record};
use crate::mutants::{self, Mutant};

/// Who a consumer process is, and what its state file remembers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Its number.
    pub consumer: ConsumerNumber,
    /// This run of it.
    pub process: ProcessId,
    /// The machine's boot.
    pub boot: Option<BootId>,
    /// The state directory, whose lock this process holds.
    pub directory: Option<DirectoryId>,
    /// Whether the life before ended in a controlled stop.
    pub clean: bool,
    /// What the life before owned.
    pub persisted: Vec<(PartitionId, Position)>,
}

/// Where a consumer process is in its life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Looking where the logs end; asked at this moment, or to be asked then. Left by the answer.
    Locating {
        /// False while the answer is awaited.
        asked: bool,
        /// When to ask, or when it was asked.
        at: Instant,
    },
    /// The Hello was handed over. Left by its acknowledgement, its failure, or after a lease's time.
    Greeting(Greeting),
    /// An incarnation lives. Left by its lapse, by `Ended`, or by the end of the process.
    Living(Box<Living>),
    /// Nothing more will happen.
    Left,
}

/// An incarnation with what it still has to say.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Living {
    pub(super) lease: Lease,
    pub(super) generation: Generation,
    pub(super) outbox: Outbox,
    pub(super) leaving: Option<Leaving>,
}

/// The consumer's state machine.
#[derive(Clone, Debug, Hash)]
pub struct Consumer {
    pub(super) settings: Settings,
    pub(super) identity: Identity,
    pub(super) phase: Phase,
    pub(super) ids: AppendIds,
    pub(super) attempt: u32,
    /// The highest generation that a command was of. The ledger may begin with records of an older one.
    pub(super) told: Generation,
    /// The generation of the last life; term and epochs are offsets in it.
    pub(super) generation: Option<Generation>,
    /// Everything in the command partition below this was obeyed.
    pub(super) heard: Offset,
    /// The highest term seen in this generation.
    pub(super) term: Option<Term>,
    /// The highest epoch seen of each partition in this generation: nothing at or below it starts again.
    pub(super) seen: BTreeMap<PartitionId, Epoch>,
    pub(super) holdings: BTreeMap<PartitionId, Holding>,
    figures: Vec<PartitionFigures>,
    /// Where in the figures the next heartbeat begins, when they are too many for one.
    figures_from: usize,
    /// The holdings changed since they were saved.
    unsaved: bool,
    save_due: Instant,
}

/// Partitions in one heartbeat at most: they are totals, so that the others come with the next ones, and the record stays
/// far below any broker's limit.
const FIGURES: usize = 2_000;

/// Pause between two saves of the state file: it is a hint, and each save syncs the disk.
const SAVE_PAUSE: Duration = Duration::from_secs(1);

impl Consumer {
    /// A process that has just started and holds its state directory's lock.
    pub fn new(settings: Settings, identity: Identity, now: Instant) -> Self {
        Self {
            settings,
            identity,
            phase: Phase::Locating { asked: false, at: now },
            ids: AppendIds::default(),
            attempt: 0,
            told: Generation::default(),
            generation: None,
            heard: Offset(0),
            term: None,
            seen: BTreeMap::new(),
            holdings: BTreeMap::new(),
            figures: Vec::new(),
            figures_from: 0,
            unsaved: false,
            save_due: now,
        }
    }

    /// Where the process is in its life.
    pub fn phase(&self) -> &Phase {
        &self.phase
    }

    /// Its incarnation, if it has one that may act at this moment.
    pub fn incarnation(&self, now: Instant) -> Option<Incarnation> {
        let lease = self.settings.lease;
        self.living()
            .filter(|living| living.lease.is_live(now, lease))
            .map(|living| living.lease.incarnation)
    }

    /// How much longer its incarnation may act; zero without one.
    pub fn lease_left(&self, now: Instant) -> Duration {
        let lapses = self.living().map(|living| living.lease.lapses(self.settings.lease));
        lapses.map_or(Duration::ZERO, |lapses| lapses.since(now))
    }

    /// The generation of its present life, or of its last.
    pub fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// True while a controlled stop is under way.
    pub fn is_leaving(&self) -> bool {
        self.living().is_some_and(|living| living.leaving.is_some())
    }

    /// What it holds: epoch and durable position of each partition.
    pub fn holdings(&self) -> impl Iterator<Item = (PartitionId, Epoch, Position)> {
        self.holdings.iter().map(|(partition, holding)| (*partition, holding.epoch, holding.next))
    }

    /// How many partitions it holds.
    pub fn holds(&self) -> usize {
        self.holdings.len()
    }

    /// What it does for each partition that it holds.
    pub fn activities(&self) -> impl Iterator<Item = (PartitionId, Activity)> {
        self.holdings.iter().map(|(partition, holding)| (*partition, holding.activity()))
    }

    /// Takes an input up and returns what is to be done, in order.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.check_lease(now, &mut effects);
        // Looking at every holding at every input would cost the square of their number.
        let looks = matches!(input, Input::Tick | Input::Appended(..));
        self.take(now, input, &mut effects);
        if looks {
            self.retry_acquires(now, &mut effects);
            self.begin_writes(now, &mut effects);
        }
        self.advance(now, &mut effects);
        effects
    }

    fn take(&mut self, now: Instant, input: Input, effects: &mut Vec<Effect>) {
        match input {
            Input::Tick => {}
            Input::Located(located) => self.located(now, located, effects),
            Input::CommandEnd(ask, end) => self.command_end(now, ask, end),
            Input::Command(offset, command) => {
                if let Some(command) = command {
                    self.command(now, offset, command, effects);
                }
                self.heard = self.heard.max(offset.next());
            }
            Input::Heard(end) => self.heard = self.heard.max(end),
            Input::CommandsLost => self.commands_lost(now, effects),
            Input::Appended(id, offset) => self.appended(now, id, offset, effects),
            Input::AppendFailed(id) => self.append_failed(now, id),
            Input::Acquired(partition, epoch, stands) => {
                self.acquired(now, partition, epoch, stands, effects);
            }
            Input::AcquireFailed(partition, epoch, failure) => {
                self.acquire_failed(now, (partition, epoch), failure, effects);
            }
            Input::Ready(partition, epoch) => self.ready(now, (partition, epoch), effects),
            Input::Written(partition, epoch, end) => {
                self.written(now, (partition, epoch), end, effects);
            }
            Input::WriteFailed(partition, epoch, failure) => {
                self.write_failed(now, (partition, epoch), failure, effects);
            }
            Input::ReadFailed(partition, epoch, failure) => {
                self.read_failed(now, (partition, epoch), failure, effects);
            }
            Input::Figures(figures) => self.figures = figures,
            Input::Shutdown(budget) => self.shut_down(now, budget, effects),
        }
    }

    pub(super) fn figures_kept(&self) -> usize {
        self.figures.len()
    }

    pub(super) fn living(&self) -> Option<&Living> {
        match &self.phase {
            Phase::Living(living) => Some(living),
            Phase::Locating { .. } | Phase::Greeting(_) | Phase::Left => None,
        }
    }

    pub(super) fn living_mut(&mut self) -> Option<&mut Living> {
        match &mut self.phase {
            Phase::Living(living) => Some(living),
            Phase::Locating { .. } | Phase::Greeting(_) | Phase::Left => None,
        }
    }

    pub(super) fn token(&self, epoch: Epoch) -> Option<FencingToken> {
        self.living().map(|living| FencingToken { generation: living.generation, epoch })
    }

    pub(super) fn touch(&mut self) {
        self.unsaved = true;
    }

    // === what was appended ===

    fn appended(&mut self, now: Instant, id: AppendId, at: Offset, effects: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Greeting(greeting) if greeting.id == id => self.begin(now, at, effects),
            Phase::Living(living) => {
                living.outbox.acknowledged(id);
                if living.leaving.is_some_and(|leaving| leaving.goodbye == Some(id)) {
                    self.leave(true, effects);
                } else if let Pulse::Beating { id: beat, handed } = living.lease.pulse
                    && beat == id
                {
                    let rest_until = handed.after(self.settings.heartbeat);
                    if !living.lease.renew(handed, at, rest_until) {
                        self.renew(now, effects);
                    }
                }
            }
            Phase::Locating { .. } | Phase::Greeting(_) | Phase::Left => {}
        }
    }

    fn append_failed(&mut self, now: Instant, id: AppendId) {
        let again = now.after(self.settings.retry);
        match &mut self.phase {
            Phase::Greeting(greeting) if greeting.id == id => {
                self.phase = Phase::Locating { asked: false, at: again };
            }
            Phase::Living(living) => {
                living.outbox.failed(id, again);
                if matches!(living.lease.pulse, Pulse::Beating { id: beat, .. } if beat == id) {
                    living.lease.pulse = Pulse::Resting(again);
                }
                if let Some(leaving) = &mut living.leaving
                    && leaving.goodbye == Some(id)
                {
                    (leaving.goodbye, leaving.goodbye_due) = (None, again);
                }
            }
            Phase::Locating { .. } | Phase::Greeting(_) | Phase::Left => {}
        }
    }

    fn command_end(&mut self, now: Instant, ask: u64, end: Option<Offset>) {
        let again = now.after(self.settings.retry);
        if let Some(living) = self.living_mut()
            && living.lease.pulse == Pulse::Asking(ask)
        {
            living.lease.pulse = end.map_or(Pulse::Resting(again), Pulse::Hearing);
        }
    }

    // === the end of a life ===

    fn check_lease(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let lease = self.settings.lease;
        if self.living().is_some_and(|living| !living.lease.is_live(now, lease)) {
            self.lapse(now, effects);
        }
    }

    /// The ledger has lost what this life had read or heard of: the next Hello, in a higher generation, proves it to the
    /// controller.
    pub(super) fn renew(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if let Some(generation) = self.living().map(|living| living.generation) {
            self.note_told(generation.next());
            self.lapse(now, effects);
        }
    }

    /// C3: offsets are given again, so that nothing tells any more whether everything was obeyed. The next life listens from
    /// where the partition ends then. Who is leaving waits for no command.
    fn commands_lost(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match &self.phase {
            Phase::Living(living) if living.leaving.is_none() => self.lapse(now, effects),
            Phase::Greeting(_) => {
                self.phase = Phase::Locating { asked: false, at: now.after(self.settings.retry) };
            }
            Phase::Living(_) | Phase::Locating { .. } | Phase::Left => {}
        }
    }

    /// The life is over: nothing of it may go on. A new one begins with a new Hello, unless the process is leaving; that
    /// was in order if it has said Goodbye, acknowledged or not.
    pub(super) fn lapse(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(living) = self.living() else { return };
        let leaving = living.leaving.map(|leaving| leaving.goodbye.is_some());
        effects.push(Effect::Lapsed(living.lease.incarnation));
        // The next Hello says what was held: a ledger that has lost its records is rebuilt from that.
        if !self.holdings.is_empty() {
            self.identity.persisted = self.owned().into_iter().collect();
        }
        for partition in core::mem::take(&mut self.holdings).into_keys() {
            effects.push(Effect::Abort(partition));
        }
        self.figures.clear();
        match leaving {
            Some(clean) => self.leave(clean, effects),
            None => self.phase = Phase::Locating { asked: false, at: now },
        }
    }

    pub(super) fn note_told(&mut self, generation: Generation) {
        self.told = self.told.max(generation);
    }

    pub(super) fn owned(&self) -> BTreeMap<PartitionId, Position> {
        self.holdings.iter().map(|(partition, holding)| (*partition, holding.next)).collect()
    }

    // === what time brings ===

    fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Locating { asked: false, at } if at <= now => {
                self.phase = Phase::Locating { asked: true, at: now };
                effects.push(Effect::Locate);
            }
            Phase::Greeting(Greeting { handed, .. })
                if now.since(handed) >= self.settings.lease =>
            {
                self.phase = Phase::Locating { asked: true, at: now };
                effects.push(Effect::Locate);
            }
            Phase::Living(_) => {
                self.say_goodbye(now, effects);
                self.flush(now, effects);
                self.beat(now, effects);
                self.save(now, effects);
            }
            Phase::Locating { .. } | Phase::Greeting(_) | Phase::Left => {}
        }
    }

    fn flush(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let pause = self.settings.progress;
        let Phase::Living(living) = &mut self.phase else {
            return;
        };
        living.outbox.flush(now, &mut self.ids, pause, effects);
    }

    /// C3: asks for the end of the command partition, waits until it was obeyed, and only then beats.
    fn beat(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let heard = self.heard;
        let Phase::Living(living) = &mut self.phase else {
            return;
        };
        if living.leaving.is_some_and(|leaving| leaving.goodbye.is_some()) {
            return;
        }
        match living.lease.pulse {
            Pulse::Resting(until) if until <= now => {
                let ask = self.ids.next().0;
                living.lease.pulse = Pulse::Asking(ask);
                effects.push(Effect::FetchCommandEnd(ask));
            }
            Pulse::Hearing(end)
                if (heard >= end || mutants::is_planted(Mutant::BeatWithoutHearing))
                    && living.outbox.is_settled() =>
            {
                living.lease.seq = living.lease.seq.saturating_add(1);
                let from = self.figures_from.checked_rem(self.figures.len()).unwrap_or_default();
                let turn = self.figures.iter().cycle().skip(from);
                let figures = turn.take(self.figures.len().min(FIGURES)).copied().collect();
                let record = Record::Heartbeat {
                    consumer: self.identity.consumer,
                    incarnation: living.lease.incarnation,
                    seq: living.lease.seq,
                    heard: end,
                    figures,
                };
                let id = self.ids.next();
                effects.push(Effect::Append(id, Entry { generation: living.generation, record }));
                living.lease.pulse = Pulse::Beating { id, handed: now };
                self.figures_from = from.saturating_add(FIGURES);
            }
            Pulse::Resting(_) | Pulse::Asking(_) | Pulse::Hearing(_) | Pulse::Beating { .. } => {}
        }
    }

    fn retry_acquires(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(generation) = self.living().map(|living| living.generation) else {
            return;
        };
        for (partition, holding) in &mut self.holdings {
            if matches!(holding.doing, Doing::Pausing(until) if until <= now) {
                holding.doing = Doing::Acquiring;
                let token = FencingToken { generation, epoch: holding.epoch };
                effects.push(Effect::Acquire(*partition, token));
            }
        }
    }

    fn save(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.unsaved && self.save_due <= now {
            self.unsaved = false;
            self.save_due = now.after(SAVE_PAUSE);
            effects.push(Effect::Save { clean: false, partitions: self.owned() });
        }
    }
}
