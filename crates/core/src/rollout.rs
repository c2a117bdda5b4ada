//! Updates consumers to another revision of what they run, one at a time, the first as a canary.
//!
//! ```text
//!         outdated, the others ready,          owns                  ready               has what          ready, nobody
//!         nobody behind              nothing              again               it had            behind
//! (idle) ────────────────► Leaving ────────► Updating ────────► Returning ────────► Settling ────────► (idle)
//!                             └─────────────────┴── time over, or it fails ──┴──────────┘
//!                                     the revision is refused: whoever has it is taken back, in the same way
//! ```
//!
//! A partition leaves before its consumer is updated and comes back after, so that it waits twice for a hand-off and never for a start.
//! Until the canary has settled, consumers that are started beside it get the revision that is known to work.

use alloc::borrow::ToOwned as _;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crate::ids::{ConsumerNumber, Incarnation, Instant, PartitionId};

/// Names what a consumer runs: image and configuration.
pub type Revision = String;

/// One consumer as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Member {
    /// What its worker was told to run.
    pub revision: Revision,
    /// Its life in the ledger.
    pub incarnation: Option<Incarnation>,
    /// It can be given partitions, and its worker runs and says that it is ready.
    pub ready: bool,
    /// What keeps its worker from running, again and again.
    pub failing: Option<String>,
}

/// The group as it is now.
pub struct View<'a> {
    /// Its consumers, those that are to go left out.
    pub members: &'a BTreeMap<ConsumerNumber, Member>,
    /// What a consumer has.
    pub owned: &'a dyn Fn(ConsumerNumber) -> BTreeSet<PartitionId>,
    /// Some partition's backlog is above its limit.
    pub is_behind: bool,
    /// Nothing is to be changed.
    pub paused: bool,
}

impl fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View").field("members", &self.members).finish_non_exhaustive()
    }
}

/// How long is waited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Patience {
    /// For each phase of a step, before the revision is refused.
    pub step: Duration,
    /// With the canary, after it has its partitions again.
    pub canary: Duration,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Wishes {
    /// Partitions are to leave this consumer.
    pub leave: Option<ConsumerNumber>,
    /// Its worker stays though it has nothing.
    pub hold: Option<ConsumerNumber>,
    /// Partitions that are to come back.
    pub pins: BTreeMap<PartitionId, ConsumerNumber>,
    /// A worker is to be updated now.
    pub update: Option<(ConsumerNumber, Revision)>,
    /// What has happened.
    pub notes: Vec<Note>,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// So many consumers are to be updated to this.
    Begun(Revision, usize),
    /// One runs it, and has its partitions again; it took this long.
    Updated(ConsumerNumber, Duration),
    /// It does not work, for this reason: those that have it are taken back.
    Refused(Revision, String),
    /// All consumers run this.
    Done(Revision),
}

/// Where a rollout is, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Consumers that run what they should.
    pub updated: usize,
    /// All consumers.
    pub all: usize,
    /// Who is being updated, and how far that is.
    pub step: Option<(ConsumerNumber, &'static str)>,
    /// Why the wanted revision is not run.
    pub refused: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Leaving,
    /// Another life than this one is waited for.
    Updating(Option<Incarnation>),
    Returning,
    Settling,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Step {
    consumer: ConsumerNumber,
    phase: Phase,
    /// Since when it is in this phase.
    since: Instant,
    began: Instant,
    had: BTreeSet<PartitionId>,
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
}

impl Rollout {
    /// Nothing is known of any consumer.
    pub const fn new(patience: Patience, wanted: Revision) -> Self {
        Self {
            patience,
            wanted,
            proven: None,
            refused: None,
            step: None,
            canary_settled: false,
            is_under_way: false,
        }
    }

    /// Consumers are to run this. What was refused stays so until something else is wanted.
    pub fn want(&mut self, revision: &str, patience: Patience) {
        self.patience = patience;
        if self.wanted != revision {
            revision.clone_into(&mut self.wanted);
            self.canary_settled = false;
            self.is_under_way = false;
            if self.refused.as_ref().is_some_and(|(refused, _)| refused != revision) {
                self.refused = None;
            }
        }
    }

    /// Others have decided meanwhile: what is there counts, and not what was under way.
    pub fn resume(&mut self) {
        self.step = None;
        self.canary_settled = false;
        self.is_under_way = false;
    }

    /// What was asked for, be it refused or not.
    pub fn wanted(&self) -> &str {
        &self.wanted
    }

    /// What all consumers should run in the end.
    pub fn goal(&self) -> &str {
        let is_refused = self.refused.as_ref().is_some_and(|(refused, _)| *refused == self.wanted);
        self.proven.as_deref().filter(|_| is_refused).unwrap_or(&self.wanted)
    }

    /// What a consumer is started with that did not run before.
    pub fn for_new(&self) -> &str {
        let proven = self.proven.as_deref().filter(|_| !self.canary_settled);
        proven.unwrap_or_else(|| self.goal())
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

    /// What is proven at first: what is there.
    fn see_proven(&mut self, view: &View<'_>) {
        if self.proven.is_none() && !view.members.is_empty() {
            let others = view.members.values().map(|member| &member.revision);
            let other = others.filter(|revision| **revision != self.wanted).max();
            self.proven = Some(other.unwrap_or(&self.wanted).clone());
        }
    }

    /// Takes the step in progress further.
    fn advance(&mut self, now: Instant, view: &View<'_>, wishes: &mut Wishes) {
        let Some(mut step) = self.step.take() else { return };
        let Some(member) = view.members.get(&step.consumer) else { return };
        let next = match &step.phase {
            Phase::Leaving if (view.owned)(step.consumer).is_empty() => {
                let goal = self.goal().to_owned();
                wishes.update = Some((step.consumer, goal));
                Some(Phase::Updating(member.incarnation))
            }
            Phase::Updating(_) if member.revision != self.goal() => {
                // Something else is wanted by now.
                wishes.update = Some((step.consumer, self.goal().to_owned()));
                None
            }
            Phase::Updating(before) => {
                (member.ready && member.incarnation != *before).then_some(Phase::Returning)
            }
            Phase::Returning
                if step.had.is_subset(&(view.owned)(step.consumer))
                    || member.ready && now.since(step.since) >= self.patience.step =>
            {
                Some(Phase::Settling)
            }
            Phase::Settling if self.has_settled(now, &step, member, view) => {
                self.canary_settled = true;
                wishes.notes.push(Note::Updated(step.consumer, now.since(step.began)));
                return;
            }
            Phase::Leaving | Phase::Returning | Phase::Settling => None,
        };
        if let Some(phase) = next {
            step.phase = phase;
            step.since = now;
        } else if let Some(why) = self.trouble(now, &step, member) {
            step.since = now;
            self.step = self.give_up(step, member, why, wishes);
            return;
        }
        self.step = Some(step);
    }

    fn has_settled(&self, now: Instant, step: &Step, member: &Member, view: &View<'_>) -> bool {
        let long_enough = self.canary_settled || now.since(step.since) >= self.patience.canary;
        member.ready && long_enough && !view.is_behind
    }

    /// Why the step does not get on.
    fn trouble(&self, now: Instant, step: &Step, member: &Member) -> Option<String> {
        let consumer = step.consumer;
        if let (Phase::Updating(_), Some(why)) = (&step.phase, &member.failing) {
            return Some(format!("consumer {consumer} does not run: {why}"));
        }
        if now.since(step.since) < self.patience.step {
            return None;
        }
        match step.phase {
            Phase::Leaving => Some(format!("nobody has room for what consumer {consumer} has")),
            Phase::Updating(_) => Some(format!("consumer {consumer} did not become ready")),
            Phase::Returning | Phase::Settling if !member.ready => {
                Some(format!("consumer {consumer} did not stay ready"))
            }
            Phase::Settling if !self.canary_settled => {
                Some(format!("partitions are behind since consumer {consumer} was updated"))
            }
            // What does not come back may be pinned elsewhere or gone, and load rises also while consumers are updated.
            Phase::Returning | Phase::Settling => None,
        }
    }

    /// Refuses the revision. Returns how the step goes on: what has left the consumer comes back once it runs what it ran.
    fn give_up(
        &mut self,
        step: Step,
        member: &Member,
        why: String,
        wishes: &mut Wishes,
    ) -> Option<Step> {
        let proven = self.proven.clone().filter(|proven| proven != self.goal());
        // With nothing to go back to it is waited for.
        let Some(proven) = proven else { return Some(step) };
        wishes.notes.push(Note::Refused(self.wanted.clone(), why.clone()));
        self.refused = Some((self.wanted.clone(), why));
        self.canary_settled = true;
        matches!(step.phase, Phase::Updating(_)).then(|| {
            wishes.update = Some((step.consumer, proven));
            Step { phase: Phase::Updating(member.incarnation), ..step }
        })
    }

    /// Begins with the next consumer that does not run what it should.
    fn begin(&mut self, now: Instant, view: &View<'_>, wishes: &mut Wishes) {
        if self.step.is_some() || view.members.is_empty() {
            return;
        }
        let goal = self.goal().to_owned();
        let outdated: Vec<_> =
            view.members.iter().filter(|(_, member)| member.revision != goal).collect();
        // One that a controller before this one has begun with, or that was lost since.
        let mut updated = view.members.iter().filter(|(_, member)| member.revision == goal);
        let unready = updated.find(|(_, member)| !member.ready).map(|(consumer, _)| *consumer);
        if outdated.is_empty() {
            if self.is_under_way || self.proven.as_deref() != Some(&goal) {
                wishes.notes.push(Note::Done(goal.clone()));
            }
            self.proven = Some(goal);
            self.canary_settled = false;
            self.is_under_way = false;
            return;
        }
        if !self.is_under_way {
            self.is_under_way = true;
            wishes.notes.push(Note::Begun(goal, outdated.len()));
        }
        if let Some(consumer) = unready {
            let had = BTreeSet::new();
            let phase = Phase::Updating(None);
            self.step = Some(Step { consumer, phase, since: now, began: now, had });
            return;
        }
        if view.is_behind {
            return;
        }
        // Who does not work anyway costs nothing.
        let next = outdated.iter().min_by_key(|(consumer, member)| (member.ready, *consumer));
        if let Some((consumer, _)) = next {
            let consumer = **consumer;
            let had = (view.owned)(consumer);
            let phase = Phase::Leaving;
            self.step = Some(Step { consumer, phase, since: now, began: now, had });
        }
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
            Phase::Settling => {}
        }
    }
}

impl Phase {
    const fn name(&self) -> &'static str {
        match self {
            Self::Leaving => "leaving",
            Self::Updating(_) => "updating",
            Self::Returning => "returning",
            Self::Settling => "settling",
        }
    }
}

#[cfg(test)]
mod tests;
