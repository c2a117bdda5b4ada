//! Lives of the ledger: how this process gets to know one, and how it begins another when records were lost.
//!
//! A ledger that lost records (it was truncated, restored, or its topic made anew) may have lost grants, and says nothing
//! that can be relied on. A Genesis of a higher generation ends everything that was; consumers read of it, or notice
//! that the ledger went back, and say Hello again.
//!
//! - K6: in a new generation nothing is granted before every lease of an older one has lapsed, unless there was none: for the
//!   time of a fence nothing but silence was read of all older lives, up to an end of the ledger that was fetched after it.

use alloc::vec::Vec;

use super::archive::Archive;
use super::election::Role;
use super::io::{Effect, Note};
use super::machine::Controller;
use super::planning::PlanState;
use crate::ids::{Generation, Instant, Offset};
use crate::ledger::{Beginning, Entry, ForeignGroup, Record, Replay};
use crate::mutants::{self, Mutant};

/// Generations of the ledger, as this process sees them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Lineage {
    /// What was read, while the state is not known yet.
    pub(super) replay: Option<Replay>,
    /// The generation to be begun is this one at least; above zero once an older one is known to be over.
    floor: Generation,
    /// The replay has met records of a controller.
    reigned: bool,
    /// The ledger has lost records: a new generation must begin.
    lost: bool,
    /// What was read is gone, and nothing is known of what is there now. Left when the ledger is opened again.
    closed: bool,
    /// Whether the group has left traces of an earlier life, once that is known.
    traces: Option<bool>,
    /// Nothing is granted before this moment, and before the ledger was read to an end fetched since; `None` once it was.
    settles: Option<Instant>,
    /// When Genesis was last handed over, or traces were asked for.
    sent: Option<Instant>,
}

impl Lineage {
    pub(super) fn new(replay: Replay) -> Self {
        Self {
            replay: Some(replay),
            floor: Generation::default(),
            reigned: false,
            lost: false,
            closed: false,
            traces: None,
            settles: None,
            sent: None,
        }
    }

    /// This generation is over: one that is begun is above it.
    fn rise_above(&mut self, generation: Generation) {
        self.floor = self.floor.max(generation.next());
    }

    pub(super) fn note_traces(&mut self, left: bool) {
        self.traces = Some(left);
        self.sent = None;
    }
}

impl Controller {
    /// True from the moment at which the ledger was found to have lost records until grants are made again.
    pub fn has_lost_records(&self) -> bool {
        self.lineage.floor > Generation::default() && (self.lineage.lost || !self.is_settled())
    }

    /// True while it looks for where to begin: its fold is of a ledger that it has read before.
    pub fn is_replaying(&self) -> bool {
        self.lineage.replay.is_some()
    }

    /// K6.
    pub(super) fn is_settled(&self) -> bool {
        self.lineage.settles.is_none() || mutants::is_planted(Mutant::GrantAtOnce)
    }

    /// K6: sees whether every lease of an older generation has lapsed by now.
    pub(super) fn settle(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let Some(due) = self.lineage.settles.filter(|due| *due <= now) else { return };
        if self.has_read_since(now, due, self.settings.resend.saturating_mul(5), effects) {
            self.lineage.settles = None;
            self.dirty = true;
        }
    }

    /// The ledger is read anew from its first record that is left.
    pub(super) fn ledger_opened(&mut self, start: Offset, effects: &mut Vec<Effect>) {
        self.lineage.replay = Some(Replay::new(self.fold.group().clone(), start));
        self.lineage.sent = None;
        self.lineage.closed = false;
        self.election.end = None;
        self.lineage.reigned = false;
        // If nothing is left to begin at, the next life is above the one that was known.
        if let Some(known) = self.fold.generation() {
            self.lineage.rise_above(known);
        }
        self.step_down(effects);
        // An `Elect` of before may be read again. It is not this process's any more: the seals of its reign are used up.
        if self.election.attempt > 0 {
            self.election.attempt = self.election.attempt.saturating_add(1);
        }
    }

    /// Records were lost: whatever the ledger says when it is read again, its generation is over.
    pub(super) fn ledger_lost(&mut self, effects: &mut Vec<Effect>) {
        let known = self.fold.generation().unwrap_or_default();
        self.lineage.closed = true;
        self.renew_above(known, effects);
    }

    fn renew_above(&mut self, generation: Generation, effects: &mut Vec<Effect>) {
        self.lineage.lost = true;
        self.lineage.rise_above(generation);
        self.lineage.sent = None;
        self.election.end = None;
        self.step_down(effects);
    }

    fn step_down(&mut self, effects: &mut Vec<Effect>) {
        self.election.role = Role::Following;
        if self.office.take().is_some() {
            effects.push(Effect::Note(Note::Leading(false)));
        }
    }

    /// Whoever speaks in a higher generation has lived in one that this ledger has lost. Whoever beats in an older one has
    /// got its lease renewed by that, and the pause begins anew.
    pub(super) fn note_generation(
        &mut self,
        now: Instant,
        entry: &Entry,
        effects: &mut Vec<Effect>,
    ) {
        let Some(ours) = self.fold.generation() else { return };
        let speaks = entry.record.speaker().is_some() || matches!(entry.record, Record::Hello(_));
        if speaks && entry.generation > ours {
            self.renew_above(entry.generation, effects);
        }
        let beats = matches!(entry.record, Record::Heartbeat { .. })
            && !mutants::is_planted(Mutant::PauseOnce);
        if beats && entry.generation < ours && self.lineage.settles.is_some() {
            self.lineage.settles = Some(now.after(self.settings.fence));
        }
    }

    /// Takes a record to the replay while there is one. What can be applied now is returned.
    pub(super) fn replayed(
        &mut self,
        now: Instant,
        at: Offset,
        entry: Option<Entry>,
        effects: &mut Vec<Effect>,
    ) -> Vec<(Offset, Option<Entry>)> {
        let Some(replay) = &mut self.lineage.replay else { return Vec::from([(at, entry)]) };
        if entry.as_ref().is_some_and(|entry| entry.record.seal().is_some()) {
            self.election.term_heard = now;
            self.lineage.reigned = true;
        }
        match replay.take(at, entry.as_ref()) {
            Ok(Some(beginning)) => self.begin_with(now, beginning),
            Ok(None) => Vec::new(),
            Err(ForeignGroup) => {
                effects.push(Effect::RefuseLedger);
                Vec::new()
            }
        }
    }

    /// True when nobody can be in office: nothing was read that only a controller writes.
    pub(super) fn is_vacant(&self) -> bool {
        if self.lineage.replay.is_some() {
            !self.lineage.reigned
        } else {
            self.lineage.lost || self.fold.reign().is_none()
        }
    }

    /// A life that ends takes its positions along, but what was durable is so still.
    pub(super) fn remember_positions(&mut self, entry: &Entry) {
        if !self.fold.is_renewed_by(entry) {
            return;
        }
        let known: Vec<_> = self.fold.partitions().collect();
        for (partition, ownership) in known {
            if let Some(next) = ownership.next() {
                self.note_durable(partition, next);
            }
            if let Some(consumer) = self.fold.consumer_of(partition) {
                self.homes.insert(partition, consumer);
            }
        }
    }

    fn begin_with(&mut self, now: Instant, beginning: Beginning) -> Vec<(Offset, Option<Entry>)> {
        self.lineage.replay = None;
        self.lineage.reigned = false;
        self.fold = beginning.fold;
        self.archive = Archive::beginning(self.fold.position(), self.settings.mark_every);
        self.silence.restart(now, self.fold.lives());
        self.election.term_heard = now;
        let plan = self.fold.plan().map(|plan| plan.at);
        self.planning.state = plan.map(|at| PlanState { at, read_at: now, done_at: None });
        self.dirty = true;
        beginning.records
    }

    /// The offset up to which this process has read the ledger; `None` while that is gone.
    pub(super) fn read_upto(&self) -> Option<Offset> {
        let read = self.lineage.replay.as_ref().map_or(self.fold.position(), Replay::position);
        (!self.lineage.closed).then_some(read)
    }

    /// The generation to go on in; `None` when there is none, or it has lost records.
    pub(super) fn sound_generation(&self) -> Option<Generation> {
        let unread = self.lineage.replay.is_some() || self.lineage.lost;
        self.fold.generation().filter(|_| !unread)
    }

    /// Begins a life of the ledger: its first, or one above all that are over.
    pub(super) fn begin_ledger(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let pause = self.settings.resend.saturating_mul(5);
        let unreadable = self.lineage.replay.as_ref().is_some_and(Replay::has_unknown_snapshot);
        if unreadable || self.lineage.sent.is_some_and(|at| now.since(at) < pause) {
            return;
        }
        self.lineage.sent = Some(now);
        let met = self.lineage.replay.as_ref().map(Replay::generation).unwrap_or_default();
        if met > Generation::default() {
            self.lineage.rise_above(met);
        }
        let generation = self.settings.genesis.max(self.lineage.floor);
        let known = (self.lineage.floor > Generation::default()).then_some(true);
        let Some(traces) = known.or(self.lineage.traces) else {
            effects.push(Effect::LookForTraces);
            return;
        };
        let record = Record::Genesis { group: self.fold.group().clone(), first: !traces };
        effects.push(Effect::Note(Note::Genesis(generation)));
        effects.push(Effect::Append(Entry { generation, record }));
    }

    /// A life of the ledger has begun.
    pub(super) fn generation_read(&mut self, now: Instant, first: bool, effects: &mut Vec<Effect>) {
        let generation = self.fold.generation().unwrap_or_default();
        self.lineage.lost = generation < self.lineage.floor;
        self.lineage.settles = (!first).then(|| now.after(self.settings.fence));
        self.archive = Archive::beginning(self.fold.position(), self.settings.mark_every);
        self.planning.state = None;
        self.step_down(effects);
    }
}
