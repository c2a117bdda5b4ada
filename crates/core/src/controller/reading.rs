//! Reading the ledger: what each record means for the timers, and who must be told about it.

use alloc::vec::Vec;

use super::io::{Effect, Note};
use super::machine::{Controller, Handover, Office};
use super::standing::Standings;
use crate::demand::Lag;
use crate::ids::{
    ConsumerNumber, Epoch, Incarnation, Instant, Offset, PartitionId, Position, Term,
};
use crate::ledger::{
    Change, CommandBody, Entry, Evidence, Hello, Ignored, PartitionFigures, Record, StopReason,
};

impl Controller {
    pub(super) fn read(
        &mut self,
        now: Instant,
        at: Offset,
        entry: Option<&Entry>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(entry) = entry else {
            self.fold.skip(at);
            effects.push(Effect::Note(Note::Undecodable(at)));
            return;
        };
        let before = self.fold.reign();
        self.remember_positions(entry);
        let applied = self.fold.apply(at, entry);
        self.archive.pass(&self.fold, self.settings.mark_every);
        if self.fold.reign() != before {
            self.election.term_heard = now;
        }
        if let Some(office) = &mut self.office {
            office.outbox.read_back(now, entry);
        }
        match applied {
            Ok(change) => self.applied(now, at, &entry.record, &change, effects),
            Err(Ignored::ForeignGroup) => effects.push(Effect::RefuseLedger),
            Err(Ignored::NoEffect) => self.read_remark(entry, effects),
            Err(reason) => {
                if reason == Ignored::OtherGeneration {
                    self.note_generation(now, entry, effects);
                }
                effects.push(Effect::Note(Note::Ignored(at, reason)));
                self.answer_ignored(at, &entry.record, reason, effects);
            }
        }
    }

    /// Whoever speaks without living is told so, and says Hello again.
    fn answer_ignored(
        &self,
        at: Offset,
        record: &Record,
        reason: Ignored,
        effects: &mut Vec<Effect>,
    ) {
        if self.office.is_none() {
            return;
        }
        let over = matches!(reason, Ignored::NotLiving | Ignored::OtherGeneration);
        let command = match record {
            Record::Hello(hello)
                if over || matches!(reason, Ignored::LateHello | Ignored::StaleAttempt) =>
            {
                self.command_to(hello.consumer, Incarnation(at), CommandBody::Ended)
            }
            // Its incarnation may be somebody else's in this generation, also of its own number: nobody's is this offset.
            Record::Heartbeat { consumer, .. } if reason == Ignored::OtherGeneration => {
                self.command_to(*consumer, Incarnation(at), CommandBody::Ended)
            }
            Record::Heartbeat { consumer, incarnation, .. } if over => {
                self.command_to(*consumer, *incarnation, CommandBody::Ended)
            }
            // An incarnation of another generation may be somebody else in this one.
            _ if reason == Ignored::NotLiving => record
                .speaker()
                .and_then(|incarnation| self.command(incarnation, CommandBody::Ended)),
            _ => None,
        };
        effects.extend(command);
    }

    /// What the fold passes over and a controller does not: parts of snapshots, and what consumers say that they hold.
    fn read_remark(&mut self, entry: &Entry, effects: &mut Vec<Effect>) {
        match &entry.record {
            Record::Snapshot { .. } => self.snapshot_read(entry, effects),
            Record::State { incarnation, partitions } => {
                self.state_read(*incarnation, partitions, effects);
            }
            _ => {}
        }
    }

    /// Whoever holds what the ledger does not give it is told to stop.
    fn state_read(
        &self,
        incarnation: Incarnation,
        held: &[(PartitionId, Epoch, Position)],
        effects: &mut Vec<Effect>,
    ) {
        let Some(office) = &self.office else { return };
        for (partition, epoch, _) in held {
            if self.fold.ownership(*partition).owner() != Some((*epoch, incarnation)) {
                let (term, deadline) = (office.term, self.settings.write_timeout);
                let partitions = Vec::from([*partition]);
                let stop = CommandBody::Stop { term, epoch: *epoch, partitions, deadline };
                effects.extend(self.command(incarnation, stop));
            }
        }
    }

    fn applied(
        &mut self,
        now: Instant,
        at: Offset,
        record: &Record,
        change: &Change,
        effects: &mut Vec<Effect>,
    ) {
        self.note_change(now, record, change);
        self.dirty |= !is_routine(record);
        match record {
            Record::Elect { .. } => self.elected(now, effects),
            Record::Plan { .. } => self.plan_read(now, at),
            // The word that there was nothing before is worth something only where there is nothing before.
            Record::Genesis { first, .. } => {
                self.generation_read(now, *first && at == Offset(0), effects);
            }
            Record::Hello(hello) => {
                self.silence.heard(Incarnation(at), now);
                self.note_persisted(hello);
                self.joined(hello.consumer, Incarnation(at), effects);
                self.pass_over_deaf(now, hello.consumer, change, effects);
            }
            Record::Heartbeat { incarnation, heard, figures, .. } => {
                self.silence.heard(*incarnation, now);
                self.archive.heard(*incarnation, *heard);
                self.note_figures(now, figures);
            }
            Record::Started { incarnation, .. } => {
                self.note_moves(now, *incarnation, &change.activated, effects);
            }
            Record::Grant { partitions, .. } => self.note_granted(now, partitions),
            Record::Tick { .. }
            | Record::Progress { .. }
            | Record::Stopped { .. }
            | Record::Fenced { .. }
            | Record::Goodbye { .. }
            | Record::Reply { .. }
            | Record::State { .. }
            | Record::Snapshot { .. }
            | Record::Unknown { .. } => {}
        }
    }

    /// Remembers who had what, and whom to count on after an end.
    fn note_change(&mut self, now: Instant, record: &Record, change: &Change) {
        let planned = matches!(record, Record::Stopped { reason: StopReason::Command, .. });
        for (partition, incarnation) in &change.freed {
            if let Some(from) = self.fold.lives().consumer_of(*incarnation) {
                // Who was granted it and did not begin to read is not the owner to go back to.
                let handover = Handover { from, freed_at: now, granted_at: None, planned };
                let handover = self.handovers.entry(*partition).or_insert(handover);
                handover.planned &= planned;
            }
        }
        let silent = matches!(record, Record::Fenced { evidence: Evidence::Silence, .. });
        for incarnation in &change.ended {
            self.silence.forget(*incarnation);
            self.archive.forget(*incarnation);
            let lives = self.fold.lives();
            let Some(consumer) = lives.consumer_of(*incarnation) else { continue };
            if lives.current(consumer).is_some() {
                self.standings.lives(consumer);
            } else if silent {
                self.standings.pass_over(consumer, now.after(self.settings.late_penalty));
            } else {
                self.standings.expect(consumer, now.after(self.settings.restart_grace));
            }
        }
    }

    /// What a consumer held before counts where the ledger knows nothing: after it was lost.
    fn note_persisted(&mut self, hello: &Hello) {
        for (partition, next) in &hello.persisted {
            if self.fold.ownership(*partition).next().is_none() {
                self.note_durable(*partition, *next);
                self.homes.insert(*partition, hello.consumer);
            }
        }
    }

    fn joined(
        &mut self,
        consumer: ConsumerNumber,
        incarnation: Incarnation,
        effects: &mut Vec<Effect>,
    ) {
        self.standings.lives(consumer);
        let note =
            if self.fold.lives().is_current(incarnation) { Note::Joined } else { Note::Waiting };
        self.tell(note(consumer, incarnation), effects);
    }

    fn note_granted(&mut self, now: Instant, partitions: &[(PartitionId, Position)]) {
        for (partition, _) in partitions {
            if let Some(handover) = self.handovers.get_mut(partition) {
                handover.granted_at = Some(now);
            }
        }
    }

    /// A consumer that says Hello again and has not begun what it had been granted for half a lease hears nothing: its
    /// partitions go elsewhere for a while, or it would be granted them for ever.
    fn pass_over_deaf(
        &mut self,
        now: Instant,
        consumer: ConsumerNumber,
        change: &Change,
        effects: &mut Vec<Effect>,
    ) {
        let long = self.settings.lease.checked_div(2).unwrap_or_default();
        let unread = |partition| {
            let granted = self.handovers.get(partition).and_then(|handover| handover.granted_at);
            granted.is_some_and(|at| now.since(at) >= long)
        };
        if change.freed.iter().any(|(partition, _)| unread(partition)) {
            self.standings.pass_over(consumer, now.after(self.settings.late_penalty));
            self.tell(Note::Late(consumer), effects);
        }
    }

    fn note_figures(&mut self, now: Instant, figures: &[PartitionFigures]) {
        for figure in figures {
            if let Some(records) = figure.lag {
                let bytes_per_record = figure.bytes.checked_div(figure.records).unwrap_or(0);
                self.demand.lag(now, figure.partition, Lag { records, bytes_per_record });
            }
        }
    }

    fn note_moves(
        &mut self,
        now: Instant,
        incarnation: Incarnation,
        partitions: &[PartitionId],
        effects: &mut Vec<Effect>,
    ) {
        let Some(to) = self.fold.lives().consumer_of(incarnation) else { return };
        for partition in partitions {
            let handover = self.handovers.remove(partition);
            let moved = Note::Moved {
                partition: *partition,
                from: handover.map(|handover| handover.from),
                to,
                planned: handover.is_some_and(|handover| handover.planned),
                pause: handover.map(|handover| now.since(handover.freed_at)),
            };
            self.tell(moved, effects);
        }
    }

    /// What happens to the group is news from who leads it only: to others it is their predecessor's, or long past.
    fn tell(&self, note: Note, effects: &mut Vec<Effect>) {
        effects.extend(self.office.is_some().then_some(Effect::Note(note)));
    }

    fn elected(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        self.election.observe(&self.fold, self.process);
        let Some((term, generation)) = self.election.term().zip(self.fold.generation()) else {
            if self.office.take().is_some() {
                effects.push(Effect::Note(Note::Leading(false)));
            }
            return;
        };
        self.office = Some(Office::new(generation, term, now));
        self.silence.restart(now, self.fold.lives());
        self.standings = Standings::default();
        self.dirty = true;
        effects.push(Effect::Note(Note::Leading(true)));
        effects.push(Effect::AskSteering);
        self.ask_states(term, effects);
    }

    /// A new controller asks everybody what they hold: nobody may read what the ledger does not give to it.
    fn ask_states(&self, term: Term, effects: &mut Vec<Effect>) {
        for (incarnation, _) in self.fold.lives().iter() {
            effects.extend(self.command(incarnation, CommandBody::StateQuery { term }));
        }
    }
}

/// True for records that nothing follows from but a timer or a figure.
fn is_routine(record: &Record) -> bool {
    matches!(record, Record::Heartbeat { .. } | Record::Progress { .. } | Record::Tick { .. })
}
