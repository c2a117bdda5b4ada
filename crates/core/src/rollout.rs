//! Updates consumers to another revision of what they run, one at a time, the first as a canary.
//!
//! ```text
//!         outdated, the others ready,          owns                  ready               reads what        ready, has written,
//!         nobody behind              nothing              again               it had            nobody behind
//! (idle) ────────────────► Leaving ────────► Updating ────────► Returning ────────► Settling ────────► (idle)
//!                             └─────────────────┴── time over, or it fails ──┴──────────┘
//!                                     the revision is refused: whoever has it is taken back, in the same way
//! ```
//!
//! A partition leaves before its consumer is updated and comes back after, so that it waits twice for a hand-off and never for a start.
//! Until the canary has settled, consumers that are started beside it get the revision that is known to work. What works is gone back to
//! also while partitions are behind, and with nothing to go back to a consumer is left as it is.

mod io;

use alloc::borrow::ToOwned as _;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::ids::{ConsumerNumber, Incarnation, Instant, PartitionId, Position};

pub use self::io::{Held, Member, Note, Patience, Progress, Revision, View, Wishes};

/// How often a worker that ends again and again is started before that counts.
const FAILED_STARTS: u32 = 3;

/// How long the next consumer waits at most while partitions are behind, in times of a step.
const GATE: u32 = 5;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Leaving,
    Updating(Update),
    Returning,
    /// With where its partitions were when this began.
    Settling(BTreeMap<PartitionId, Option<Position>>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Update {
    to: Revision,
    /// Another life than this one is waited for.
    before: Option<Incarnation>,
    /// How often its worker had been started.
    starts: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Step {
    consumer: ConsumerNumber,
    /// What it ran.
    from: Revision,
    /// It was ready, so that it is the revision's fault if it is not again.
    worked: bool,
    /// Partitions were behind before it was touched.
    was_behind: bool,
    phase: Phase,
    /// Since when it is in this phase.
    since: Instant,
    began: Instant,
    had: BTreeSet<PartitionId>,
}

/// How a step goes on.
enum Next {
    Stays,
    Turns(Phase),
    /// The consumer has settled.
    Ends,
    /// There is nothing left to do with the consumer.
    Drops,
    Fails(String),
}

/// The update of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rollout {
    patience: Patience,
    wanted: Revision,
    /// What consumers run that works; none while no consumer was seen.
    proven: Option<Revision>,
    refused: Option<(Revision, String)>,
    step: Option<Step>,
    /// A consumer has settled with the goal.
    canary_settled: bool,
    is_under_way: bool,
    /// Nobody was looked for yet whom a controller before this one has begun with.
    is_fresh: bool,
    /// Since when the next consumer waits because partitions are behind.
    gated: Option<Instant>,
}

impl Rollout {
    /// Nothing is known of any consumer. What an earlier process has refused stays so if it is what is wanted.
    pub fn new(patience: Patience, wanted: Revision, refused: Option<(Revision, String)>) -> Self {
        let refused = refused.filter(|(revision, _)| *revision == wanted);
        Self {
            patience,
            wanted,
            proven: None,
            refused,
            step: None,
            canary_settled: false,
            is_under_way: false,
            is_fresh: true,
            gated: None,
        }
    }

    /// Consumers are to run this. What was refused stays so until something else is wanted.
    pub fn want(&mut self, revision: &str, patience: Patience) {
        self.patience = patience;
        if self.wanted != revision {
            revision.clone_into(&mut self.wanted);
            self.canary_settled = false;
            self.is_under_way = false;
            self.gated = None;
            if self.refused.as_ref().is_some_and(|(refused, _)| refused != revision) {
                self.refused = None;
            }
        }
    }

    /// Others have decided meanwhile: what is there counts, and not what was under way. What was refused stays so, unless everybody runs it.
    pub fn resume(&mut self) {
        let refused = self.refused.take();
        *self = Self::new(self.patience, core::mem::take(&mut self.wanted), refused);
    }

    /// What was asked for, be it refused or not.
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// What all consumers should run in the end.
    pub fn goal(&self) -> &str {
        self.proven.as_deref().filter(|_| self.is_refused()).unwrap_or(&self.wanted)
    }

    fn is_refused(&self) -> bool {
        self.refused.as_ref().is_some_and(|(refused, _)| *refused == self.wanted)
    }

    /// What a consumer is started with that did not run before.
    pub fn for_new(&self) -> &str {
        let proven = self.proven.as_deref().filter(|_| !self.canary_settled);
        proven.unwrap_or_else(|| self.goal())
    }

    /// What works, and is gone back to; none while no consumer was seen.
    pub fn proven(&self) -> Option<&str> {
        self.proven.as_deref()
    }

    /// Why what is wanted is not run.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_ref().map(|(_, why)| why.as_str())
    }

    /// Where it is; `None` when all run what is wanted.
    pub fn progress(&self, members: &BTreeMap<ConsumerNumber, Member>) -> Option<Progress> {
        let updated = members.values().filter(|member| member.revision == self.wanted).count();
        let step = self.step.as_ref().map(|step| (step.consumer, step.phase.name()));
        let refused = self.refused().map(str::to_owned);
        let is_idle = step.is_none() && refused.is_none() && updated == members.len();
        (!is_idle).then_some(Progress { updated, all: members.len(), step, refused })
    }

    /// Looks at the group, and says what is to be done.
    pub fn look(&mut self, now: Instant, view: &View<'_>) -> Wishes {
        let mut wishes = Wishes::default();
        self.see_proven(view);
        if view.paused {
            if let Some(step) = &mut self.step {
                step.since = now;
            }
        } else {
            self.advance(now, view, &mut wishes);
            self.begin(now, view, &mut wishes);
        }
        self.stand_by(&mut wishes);
        wishes
    }

    /// What is proven at first: what most of those run that work.
    fn see_proven(&mut self, view: &View<'_>) {
        if self.proven.is_some() || view.members.is_empty() {
            return;
        }
        let mut others: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for member in view.members.values() {
            if member.revision != self.wanted && member.is_known {
                let (ready, all) = others.entry(&member.revision).or_default();
                *ready = ready.saturating_add(usize::from(member.ready));
                *all = all.saturating_add(1);
            }
        }
        let most = others.into_iter().max_by_key(|(_, counts)| *counts);
        if view.members.values().all(|member| member.revision == self.wanted) {
            self.refused = None;
        }
        self.proven = Some(most.map_or(&*self.wanted, |(revision, _)| revision).to_owned());
    }

    /// Takes the step in progress further.
    fn advance(&mut self, now: Instant, view: &View<'_>, wishes: &mut Wishes) {
        let Some(mut step) = self.step.take() else { return };
        if view.drained.contains(&step.consumer) {
            return;
        }
        let member = view.members.get(&step.consumer);
        if let (Phase::Updating(update), Some(member)) = (&mut step.phase, member) {
            // Some count the starts of each pod.
            update.starts = update.starts.min(member.starts);
        }
        let next = match (&step.phase, member) {
            (Phase::Updating(update), _) => self.updates(now, &step, update, member),
            (_, None) => Next::Drops,
            (Phase::Leaving, Some(member)) => self.leaves(now, &step, member, view),
            // Something else is wanted by now.
            (_, Some(member)) if member.revision != self.goal() => Next::Turns(Phase::Leaving),
            (Phase::Returning, Some(member)) => self.returns(now, &step, member, view),
            (Phase::Settling(at), Some(member)) => self.settles(now, &step, at, member, view),
        };
        match next {
            Next::Stays => self.step = Some(step),
            Next::Turns(phase) => self.turn(now, step, phase, wishes),
            Next::Ends => {
                self.canary_settled = true;
                wishes.notes.push(Note::Updated(step.consumer, now.since(step.began)));
            }
            Next::Drops => {}
            Next::Fails(why) => self.give_up(now, step, member, why, wishes),
        }
    }

    fn turn(&mut self, now: Instant, step: Step, phase: Phase, wishes: &mut Wishes) {
        if let Phase::Updating(update) = &phase {
            wishes.update = Some((step.consumer, update.to.clone()));
        }
        self.step = Some(Step { phase, since: now, ..step });
    }

    fn is_over(&self, now: Instant, step: &Step) -> bool {
        now.since(step.since) >= self.patience.step
    }

    fn leaves(&self, now: Instant, step: &Step, member: &Member, view: &View<'_>) -> Next {
        if member.revision == self.goal() {
            return Next::Turns(Phase::Returning);
        }
        if (view.held)(step.consumer).is_empty() {
            return Next::Turns(Phase::update(self.goal(), Some(member)));
        }
        if self.is_over(now, step) {
            return Next::Fails(format!("nobody has room for what consumer {} has", step.consumer));
        }
        Next::Stays
    }

    /// A worker that is not there is being made again: it is held.
    fn updates(&self, now: Instant, step: &Step, update: &Update, member: Option<&Member>) -> Next {
        let consumer = step.consumer;
        if update.to != self.goal() {
            return Next::Turns(Phase::update(self.goal(), member));
        }
        let Update { to, before, starts } = update;
        let told = member.filter(|member| member.revision == *to);
        // What was called off before it began gives no other life.
        let called_off = *to == step.from && now.since(step.since) >= self.patience.canary;
        if told.is_some_and(|it| it.ready && (it.incarnation != *before || called_off)) {
            return Next::Turns(Phase::Returning);
        }
        let trouble = told.and_then(|it| it.trouble.as_ref().map(|why| (it.starts, why)));
        match trouble {
            Some((now, why)) if now.saturating_sub(*starts) >= FAILED_STARTS => {
                Next::Fails(format!("consumer {consumer} does not run: {why}"))
            }
            _ if !self.is_over(now, step) => Next::Stays,
            _ if told.is_some_and(|it| it.ready) => {
                Next::Fails(format!("consumer {consumer} was not started anew"))
            }
            // It was not ready before either: others tell more of the revision.
            _ if !step.worked => Next::Drops,
            _ => Next::Fails(format!("consumer {consumer} did not become ready")),
        }
    }

    fn returns(&self, now: Instant, step: &Step, member: &Member, view: &View<'_>) -> Next {
        let held = (view.held)(step.consumer);
        let is_read = |partition| held.get(partition).is_some_and(|held| held.is_read);
        if step.had.iter().all(is_read) {
            return Next::Turns(Phase::settle(&held));
        }
        match self.is_over(now, step) {
            false => Next::Stays,
            true if !member.ready => Next::Fails(not_ready(step)),
            // What does not come back may be pinned elsewhere, or gone.
            true if self.canary_settled || held.values().all(|held| held.is_read) => {
                Next::Turns(Phase::settle(&held))
            }
            true => Next::Fails(format!("consumer {} does not read what it has", step.consumer)),
        }
    }

    fn settles(
        &self,
        now: Instant,
        step: &Step,
        at: &BTreeMap<PartitionId, Option<Position>>,
        member: &Member,
        view: &View<'_>,
    ) -> Next {
        let is_canary = !self.canary_settled;
        // It has written, or there was nothing to write.
        let is_done = |(partition, held): (&PartitionId, &Held)| {
            let before = at.get(partition).copied().flatten();
            let idle = held.lag.is_some_and(|(lag, told)| lag == 0 && told >= step.since);
            held.is_read && (idle || held.next > before)
        };
        let works = !is_canary || (view.held)(step.consumer).iter().all(is_done);
        let long_enough = !is_canary || now.since(step.since) >= self.patience.canary;
        let keeps_up = !view.is_behind || step.was_behind;
        if member.ready && works && long_enough && keeps_up {
            return Next::Ends;
        }
        let consumer = step.consumer;
        match (self.is_over(now, step), member.ready) {
            (false, _) => Next::Stays,
            (true, false) => Next::Fails(not_ready(step)),
            (true, true) if !works => {
                Next::Fails(format!("consumer {consumer} does not write what it has"))
            }
            (true, true) if is_canary => {
                Next::Fails(format!("partitions are behind since consumer {consumer} was updated"))
            }
            // Load rises also while consumers are updated.
            (true, true) => Next::Ends,
        }
    }

    /// Refuses the revision; what has left the consumer comes back once it runs what it ran. With nothing to go back to, all are left as
    /// they are until something else is wanted.
    fn give_up(
        &mut self,
        now: Instant,
        step: Step,
        member: Option<&Member>,
        why: String,
        wishes: &mut Wishes,
    ) {
        if self.is_refused() {
            // What worked does not work here any more: the others are taken back all the same.
            return;
        }
        wishes.notes.push(Note::Refused(self.wanted.clone(), why.clone()));
        self.refused = Some((self.wanted.clone(), why));
        self.canary_settled = true;
        let Some(proven) = self.proven.clone().filter(|proven| *proven != self.wanted) else {
            return;
        };
        match step.phase {
            Phase::Leaving => self.turn(now, step, Phase::Returning, wishes),
            Phase::Updating(_) => self.turn(now, step, Phase::update(&proven, member), wishes),
            // It has partitions: it is left again first.
            Phase::Returning | Phase::Settling(_) => {}
        }
    }

    /// Begins with the next consumer that does not run what it should.
    fn begin(&mut self, now: Instant, view: &View<'_>, wishes: &mut Wishes) {
        if self.step.is_some() || view.members.is_empty() {
            return;
        }
        let goal = self.goal().to_owned();
        let outdated: Vec<_> =
            view.members.iter().filter(|(_, member)| member.revision != goal).collect();
        let is_proven = self.proven.as_deref() == Some(&*goal);
        // One that a controller before this one has begun with.
        let mut updated = view.members.iter().filter(|(_, member)| member.revision == goal);
        let unready = updated.find(|(_, member)| !member.ready);
        let unready = unready.filter(|_| self.is_fresh && !is_proven);
        self.is_fresh = false;
        if outdated.is_empty() && unready.is_none() {
            if self.is_under_way || !is_proven {
                wishes.notes.push(Note::Done(goal.clone()));
            }
            self.proven = Some(goal);
            self.canary_settled = false;
            self.is_under_way = false;
            return;
        }
        if !self.is_under_way {
            self.is_under_way = true;
            wishes.notes.push(Note::Begun(goal.clone(), outdated.len()));
        }
        let (was_behind, since, began) = (view.is_behind, now, now);
        if let Some((consumer, member)) = unready {
            let phase = Phase::update(&goal, Some(&Member { incarnation: None, ..member.clone() }));
            let (consumer, from, had) = (*consumer, String::new(), BTreeSet::new());
            self.step =
                Some(Step { consumer, from, worked: true, was_behind, phase, since, began, had });
            return;
        }
        if self.is_refused() && self.proven.as_ref() == Some(&self.wanted) {
            return;
        }
        if let Some((consumer, member)) = self.next(now, &outdated, is_proven, view) {
            let had = (view.held)(consumer).into_keys().collect();
            let (from, worked, phase) = (member.revision.clone(), member.ready, Phase::Leaving);
            self.step = Some(Step { consumer, from, worked, was_behind, phase, since, began, had });
        }
    }

    /// Who is next: as a canary somebody who works, because with others it would prove nothing; then whoever does not, because that
    /// costs nothing. While partitions are behind who works has to wait, and not for ever: it may be this update that helps.
    fn next<'a>(
        &mut self,
        now: Instant,
        outdated: &[(&ConsumerNumber, &'a Member)],
        is_proven: bool,
        view: &View<'_>,
    ) -> Option<(ConsumerNumber, &'a Member)> {
        let is_canary = !is_proven && !self.canary_settled;
        let first = |(consumer, member): &&(&ConsumerNumber, &Member)| {
            (member.ready != is_canary, **consumer)
        };
        let longest = self.patience.step.saturating_mul(GATE);
        let waits = view.is_behind && !is_proven;
        let waits = waits && now.since(*self.gated.get_or_insert(now)) < longest;
        let may = outdated.iter().filter(|(_, member)| !(waits && member.ready));
        let next = may.min_by_key(first).map(|(consumer, member)| (**consumer, *member));
        if next.is_some() {
            self.gated = None;
        }
        next
    }

    /// What is wished for as long as the step is where it is.
    fn stand_by(&self, wishes: &mut Wishes) {
        let Some(step) = &self.step else { return };
        wishes.hold = Some(step.consumer);
        match step.phase {
            Phase::Leaving | Phase::Updating(_) => wishes.leave = Some(step.consumer),
            Phase::Returning => {
                wishes.pins = step.had.iter().map(|had| (*had, step.consumer)).collect();
            }
            Phase::Settling(_) => {}
        }
    }
}

fn not_ready(step: &Step) -> String {
    format!("consumer {} did not stay ready", step.consumer)
}

impl Phase {
    fn update(to: &str, member: Option<&Member>) -> Self {
        let before = member.and_then(|member| member.incarnation);
        let starts = member.map_or(0, |member| member.starts);
        Self::Updating(Update { to: to.to_owned(), before, starts })
    }

    fn settle(held: &BTreeMap<PartitionId, Held>) -> Self {
        Self::Settling(held.iter().map(|(partition, held)| (*partition, held.next)).collect())
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Updating(_) => "updating",
            Self::Returning => "returning",
            Self::Settling(_) => "settling",
        }
    }
}

#[cfg(test)]
mod tests;
