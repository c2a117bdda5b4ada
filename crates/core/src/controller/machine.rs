//! The controller's step function: reading the ledger, and what follows from it while this process leads.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::archive::Archive;
use super::election::{Election, Role};
use super::gone::Gone;
use super::handoff::Sent;
use super::io::{Effect, Input, Mode, Note, Settings, Steering, WorkerView};
use super::lives::Lineage;
use super::outbox::Outbox;
use super::planning::{Explanation, PlanState, Planning, Sight};
use super::silence::Silence;
use super::standing::Standings;
use super::withdraw::Leaving;
use crate::demand::Demand;
use crate::ids::{
    ConsumerNumber, Generation, GroupName, Incarnation, Instant, Offset, PartitionId, Position,
    ProcessId, Term,
};
use crate::ledger::{CommandBody, Evidence, Fold, Record, Replay};

/// How many processes that are known to be dead are remembered: a Hello of one may still arrive.
const DEAD_REMEMBERED: usize = 1024;

/// Time between two looks at everything. Short beside what a person or a lease notices, long beside the cost of a look
/// at 100,000 partitions.
const LOOK: Duration = Duration::from_millis(200);

/// What a controller has beside the fold while it leads.
#[derive(Clone, Debug, Hash)]
pub(super) struct Office {
    pub(super) term: Term,
    pub(super) outbox: Outbox,
    pub(super) sent: BTreeMap<PartitionId, Sent>,
    /// When the start of a partition that nobody ever read was last asked for.
    pub(super) starts_asked: BTreeMap<PartitionId, Instant>,
    /// It was told what is asked for beside the load.
    is_steered: bool,
    tick_due: Instant,
}

impl Office {
    pub(super) fn new(generation: Generation, term: Term, now: Instant) -> Self {
        Self {
            term,
            outbox: Outbox::new(generation, term),
            sent: BTreeMap::new(),
            starts_asked: BTreeMap::new(),
            is_steered: false,
            tick_due: now,
        }
    }
}

/// A partition between two owners.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Handover {
    pub(super) from: ConsumerNumber,
    pub(super) freed_at: Instant,
    /// When it was last granted since.
    pub(super) granted_at: Option<Instant>,
    pub(super) planned: bool,
}

/// The controller's state machine.
#[derive(Clone, Debug, Hash)]
pub struct Controller {
    pub(super) settings: Settings,
    pub(super) process: ProcessId,
    pub(super) fold: Fold,
    pub(super) election: Election,
    pub(super) office: Option<Office>,
    pub(super) silence: Silence,
    pub(super) standings: Standings,
    pub(super) demand: Demand,
    pub(super) planning: Planning,
    pub(super) starts: BTreeMap<PartitionId, Position>,
    /// Up to where partitions are durable by the word of consumers, or of a ledger that is over.
    pub(super) durable: BTreeMap<PartitionId, Position>,
    pub(super) handovers: BTreeMap<PartitionId, Handover>,
    pub(super) workers: BTreeMap<ConsumerNumber, Instant>,
    pub(super) dead: BTreeSet<ProcessId>,
    questions: u64,
    pub(super) lineage: Lineage,
    pub(super) archive: Archive,
    pub(super) gone: Gone,
    pub(super) leaving: Leaving,
    pub(super) held: BTreeSet<ConsumerNumber>,
    pub(super) pins: BTreeMap<PartitionId, ConsumerNumber>,
    pub(super) frozen: bool,
    /// Where consumers say that partitions were before the ledger knew of them.
    pub(super) homes: BTreeMap<PartitionId, ConsumerNumber>,
    /// Something changed that grants, commands or plans may follow from.
    pub(super) dirty: bool,
    /// When to look at everything again whatever happens, for what follows from time alone.
    look_due: Instant,
}

impl Controller {
    /// A controller process that has read nothing yet.
    pub fn new(settings: Settings, group: GroupName, process: ProcessId, now: Instant) -> Self {
        Self {
            process,
            fold: Fold::new(group.clone()),
            election: Election::new(now),
            office: None,
            silence: Silence::default(),
            standings: Standings::default(),
            demand: Demand::new(settings.demand.clone()),
            planning: Planning::default(),
            starts: BTreeMap::new(),
            durable: BTreeMap::new(),
            handovers: BTreeMap::new(),
            workers: BTreeMap::new(),
            dead: BTreeSet::new(),
            questions: 0,
            lineage: Lineage::new(Replay::new(group, Offset(0))),
            archive: Archive::default(),
            gone: Gone::default(),
            leaving: Leaving::default(),
            held: BTreeSet::new(),
            pins: BTreeMap::new(),
            frozen: false,
            homes: BTreeMap::new(),
            dirty: true,
            look_due: now,
            settings,
        }
    }

    /// What this process is.
    pub fn role(&self) -> Role {
        self.election.role
    }

    /// The ledger as read so far.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// What is known of the partitions' load.
    pub fn demand(&self) -> &Demand {
        &self.demand
    }

    /// The plan that is being carried out, or was last.
    pub fn plan_state(&self) -> Option<PlanState> {
        self.planning.state
    }

    /// The last decision of this process.
    pub fn last_decision(&self) -> Option<&Explanation> {
        self.planning.last.as_ref()
    }

    /// Each partition's consumer: where the plan wants it, else where it is.
    pub fn target(&self) -> crate::pack::Assignment {
        self.sight().assignment
    }

    /// Consumers that should run.
    pub fn wanted_consumers(&self) -> BTreeSet<ConsumerNumber> {
        self.sight().wanted
    }

    /// True when this consumer can be given partitions now.
    pub fn is_ready(&self, now: Instant, consumer: ConsumerNumber) -> bool {
        self.ready(now, consumer).is_some()
    }

    /// Takes an input up and returns what is to be done, in order.
    pub fn step(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        match input {
            Input::Tick => {}
            Input::LedgerOpened(start) => self.ledger_opened(start, &mut effects),
            Input::LedgerLost => self.ledger_lost(&mut effects),
            Input::Traces(left) => self.lineage.note_traces(left),
            Input::Ledger(records) => {
                for (at, entry) in records {
                    for (at, entry) in self.replayed(now, at, entry, &mut effects) {
                        self.read(now, at, entry.as_ref(), &mut effects);
                    }
                }
            }
            Input::LedgerEnd(id, end) => self.ledger_end(id, end),
            Input::Rates(topic, report) => {
                self.gone.is_measured(topic);
                self.demand.report(now, topic, &report);
            }
            Input::TopicsGone(topics) => self.topics_gone(&topics, &mut effects),
            Input::Starts(starts) => {
                self.starts.extend(starts);
                self.dirty = true;
            }
            Input::Worker(worker) => self.worker(now, worker),
            Input::Steering(steering) => self.steer(now, steering, &mut effects),
            Input::TopicsLeft(topics) => self.topics_left(topics),
            Input::Settings(settings) => {
                self.demand.set_settings(settings.demand.clone());
                self.settings = *settings;
                self.dirty = true;
            }
        }
        self.advance(now, &mut effects);
        effects
    }

    /// Where a partition goes on that the ledger knows nothing of: the furthest that anybody knows to be durable.
    pub(super) fn note_durable(&mut self, partition: PartitionId, next: Position) {
        let known = self.durable.entry(partition).or_insert(next);
        *known = next.max(*known);
    }

    fn ledger_end(&mut self, id: u64, end: Option<Offset>) {
        // A question that failed counts as asked, so that the next one waits its turn.
        let Some(end) = end else { return };
        self.silence.end(id, end);
        if let Some((_, at)) = self.election.asked.take_if(|(asked, _)| *asked == id) {
            self.election.end = Some((end, at));
        }
    }

    fn steer(&mut self, now: Instant, steering: Steering, effects: &mut Vec<Effect>) {
        let Steering { leave, hold, pins, frozen } = steering;
        let before = self.leaving.consumers();
        let other: BTreeSet<_> = before.symmetric_difference(&leave).collect();
        // Of who has nothing nothing follows.
        let concerns = |consumer: &ConsumerNumber| other.contains(consumer);
        let is_concerned = self.sight().assignment.values().any(concerns);
        if self.pins != pins || self.frozen != frozen || is_concerned {
            self.demand.spec_changed();
        }
        self.promise(&leave, effects);
        self.leaving.note(now, &leave);
        (self.held, self.pins, self.frozen) = (hold, pins, frozen);
        if let Some(office) = &mut self.office {
            office.is_steered = true;
        }
        self.dirty = true;
    }

    /// Who is to be left hears of a controller that sees to it, each time that this is said: it may wait for that with its end.
    fn promise(&self, leave: &BTreeSet<ConsumerNumber>, effects: &mut Vec<Effect>) {
        let Some(office) = self.office.as_ref().filter(|_| !self.settings.demand.paused) else {
            return;
        };
        let owners: BTreeSet<_> = self.fold.owners().map(|(_, owner)| owner).collect();
        let left = leave.intersection(&owners);
        for current in left.filter_map(|consumer| self.fold.lives().current(*consumer)) {
            let asks = CommandBody::StateQuery { term: office.term };
            effects.extend(self.command(current, asks));
        }
    }

    fn worker(&mut self, now: Instant, worker: WorkerView) {
        if worker.exists {
            self.workers.entry(worker.consumer).or_insert(now);
        } else {
            self.workers.remove(&worker.consumer);
        }
        if let Some(process) = worker.died {
            self.dead.insert(process);
            if self.dead.len() > DEAD_REMEMBERED {
                self.dead.pop_first();
            }
        }
    }

    // === what follows ===

    fn advance(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        if self.settings.mode == Mode::Observe {
            self.decide(now, self.planning.imagined.clone(), effects);
            return;
        }
        if self.office.is_none() {
            self.stand(now, effects);
            return;
        }
        self.fence_dead(now, effects);
        self.fence_silent(now, effects);
        self.settle(now, effects);
        if self.dirty || self.look_due <= now {
            self.dirty = false;
            self.look_due = now.after(LOOK);
            self.watch_plan(now, effects);
            let Sight { planned, assignment, wanted } = self.sight();
            self.watch_standings(now, &wanted, effects);
            self.watch_topics(now, effects);
            let is_steered = self.office.as_ref().is_some_and(|office| office.is_steered);
            if is_steered {
                self.withdraw(now, &planned, effects);
                self.decide(now, assignment, effects);
            }
            self.reconcile(now, &planned, effects);
            if is_steered {
                self.keep_workers(now, &wanted, effects);
            }
            self.write_snapshot(now, effects);
        }
        self.tick(now, effects);
    }

    pub(super) fn question(&mut self) -> u64 {
        self.questions = self.questions.saturating_add(1);
        self.questions
    }

    fn fence_dead(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let is_dead = |process: ProcessId| {
            self.dead.contains(&process) || self.dead.contains(&process.family())
        };
        let dead: Vec<_> = self
            .fold
            .lives()
            .iter()
            .filter(|(_, life)| is_dead(life.process))
            .map(|(incarnation, _)| incarnation)
            .collect();
        self.fence(now, dead, Evidence::Death, effects);
    }

    fn fence_silent(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (fence, resend) = (self.settings.fence, self.settings.resend);
        let id = self.questions.saturating_add(1);
        if self.silence.wants_end(now, fence, resend.saturating_mul(5), id) {
            self.questions = id;
            effects.push(Effect::FetchLedgerEnd(id));
        }
        let silent = self.silence.confirmed(&self.fold, fence);
        self.fence(now, silent, Evidence::Silence, effects);
    }

    fn fence(
        &mut self,
        now: Instant,
        suspects: Vec<Incarnation>,
        evidence: Evidence,
        effects: &mut Vec<Effect>,
    ) {
        let Some(office) = &mut self.office else { return };
        for incarnation in suspects {
            let Some(life) = self.fold.lives().get(incarnation) else { continue };
            if office.outbox.holds_fence(incarnation) {
                continue;
            }
            let beat = life.beat;
            let record = |seal| Record::Fenced { seal, incarnation, beat, evidence };
            office.outbox.append(now, record, effects);
            effects.push(Effect::Note(Note::Fencing(life.consumer, incarnation, evidence)));
        }
    }

    /// Whom the plan counts on is expected to come; who does not come in time is passed over, and planned around.
    fn watch_standings(
        &mut self,
        now: Instant,
        wanted: &BTreeSet<ConsumerNumber>,
        effects: &mut Vec<Effect>,
    ) {
        for consumer in wanted {
            if self.fold.lives().current(*consumer).is_none() {
                self.standings.expect(*consumer, now.after(self.settings.start_deadline));
            }
        }
        let bereft = self.handovers.values().map(|handover| handover.from);
        self.standings.expect_only(&wanted.iter().copied().chain(bereft).collect());
        let penalty = now.after(self.settings.late_penalty);
        for consumer in self.standings.advance(now, penalty) {
            effects.push(Effect::Note(Note::Late(consumer)));
        }
    }

    /// K5: workers run for whoever is wanted, and are removed once they own nothing and nobody counts on them.
    fn keep_workers(
        &mut self,
        now: Instant,
        wanted: &BTreeSet<ConsumerNumber>,
        effects: &mut Vec<Effect>,
    ) {
        for consumer in wanted {
            if !self.workers.contains_key(consumer) {
                self.workers.insert(*consumer, now);
                effects.push(Effect::EnsureWorker(*consumer));
            }
        }
        let undecided = self.office.as_ref().is_none_or(|office| office.outbox.holds_plan());
        if self.frozen
            || undecided
            || self.planning.state.is_none_or(|state| state.done_at.is_none())
        {
            return;
        }
        let bereft = self.handovers.values().map(|handover| handover.from);
        let bereft: BTreeSet<_> = bereft.filter(|from| !self.leaving.contains(*from)).collect();
        let needed =
            |consumer: &&ConsumerNumber| wanted.contains(consumer) || bereft.contains(consumer);
        let idle: Vec<_> =
            self.workers.keys().filter(|consumer| !needed(consumer)).copied().collect();
        for consumer in idle {
            self.workers.remove(&consumer);
            effects.push(Effect::RemoveWorker(consumer));
        }
    }

    fn tick(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (tick, resend) = (self.settings.tick, self.settings.resend);
        let Some(office) = &mut self.office else { return };
        office.outbox.resend(now, resend, effects);
        if office.tick_due <= now {
            office.tick_due = now.after(tick);
            if !office.outbox.holds_tick() {
                office.outbox.append(now, |seal| Record::Tick { seal }, effects);
            }
        }
    }
}
