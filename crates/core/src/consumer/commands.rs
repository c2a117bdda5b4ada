//! How a consumer obeys its commands.

use alloc::vec;
use alloc::vec::Vec;

use super::holding::{Doing, Holding};
use super::io::Effect;
use super::machine::{Consumer, Phase};
use crate::ids::{Epoch, FencingToken, Instant, Offset, PartitionId, Position, Term};
use crate::ledger::{Command, CommandBody, Record, Refusal, StopReason};
use crate::mutants::{self, Mutant};

impl Consumer {
    /// A process answers only commands for its own incarnation.
    pub(super) fn command(
        &mut self,
        now: Instant,
        offset: Offset,
        command: Command,
        effects: &mut Vec<Effect>,
    ) {
        self.note_told(command.generation);
        if let Phase::Greeting(greeting) = &mut self.phase {
            greeting.keep(offset, command);
            return;
        }
        let Some(living) = self.living() else { return };
        if command.generation > living.generation {
            if !mutants::is_planted(Mutant::GoOnInOlderGeneration) {
                self.lapse(now, effects);
            }
            return;
        }
        let is_own = command.incarnation == living.lease.incarnation
            || mutants::is_planted(Mutant::NoIncarnationCheck);
        if command.generation < living.generation || !is_own {
            return;
        }
        match command.body {
            CommandBody::Start { term, epoch, partitions } => {
                let heard = self.term;
                if let Some(refusal) = self.refusal_of_start(term) {
                    // A grant above the term that was heard, of an earlier one: that Elect has been cut.
                    if heard.is_some_and(|heard| term < heard && heard.0 < epoch.0) {
                        self.renew(now, effects);
                        return;
                    }
                    self.refuse(offset, refusal, effects);
                } else {
                    self.start(epoch, &partitions, effects);
                    if mutants::is_planted(Mutant::LeaseOfAssignment) {
                        self.living_mut().into_iter().for_each(|living| living.lease.from = now);
                    }
                }
            }
            CommandBody::Stop { term, epoch, partitions, deadline: _ } => {
                self.note_term(term);
                self.stop(now, epoch, &partitions, effects);
            }
            CommandBody::StateQuery { term } => {
                self.note_term(term);
                self.report_state();
            }
            CommandBody::Drain { term } => {
                self.note_term(term);
                for partition in self.holdings.keys().copied().collect::<Vec<_>>() {
                    self.stop_holding(now, partition, StopReason::Command, effects);
                }
            }
            CommandBody::Ended => self.lapse(now, effects),
            CommandBody::Unknown { .. } => self.refuse(offset, Refusal::UnknownCommand, effects),
        }
    }

    fn note_term(&mut self, term: Term) {
        self.term = self.term.max(Some(term));
    }

    /// C1. That the lease is live was checked when the step began.
    fn refusal_of_start(&mut self, term: Term) -> Option<Refusal> {
        if self.term.is_some_and(|seen| term < seen) {
            return Some(Refusal::StaleTerm);
        }
        self.note_term(term);
        let leaving = self.living().is_some_and(|living| living.leaving.is_some());
        leaving.then_some(Refusal::ShuttingDown)
    }

    fn refuse(&mut self, offset: Offset, refusal: Refusal, effects: &mut Vec<Effect>) {
        if let Some(living) = self.living_mut() {
            living.outbox.refuse(offset, refusal);
        }
        effects.push(Effect::Ignored(refusal));
    }

    fn start(
        &mut self,
        epoch: Epoch,
        partitions: &[(PartitionId, Position)],
        effects: &mut Vec<Effect>,
    ) {
        let mut again = Vec::new();
        let mut barred = Vec::new();
        for (partition, from) in partitions {
            match self.holdings.get(partition) {
                Some(holding) if holding.epoch == epoch => {
                    if holding.acquired {
                        again.push((*partition, epoch));
                    }
                }
                _ if self.seen.get(partition).is_some_and(|seen| epoch <= *seen) => {
                    barred.push((*partition, epoch, None));
                }
                _ => self.hold(*partition, epoch, *from, effects),
            }
        }
        self.say_started(again);
        self.say_stopped(barred, StopReason::Barred);
    }

    /// Takes a partition up. An older epoch of it can only be left over when its end was decided without this
    /// consumer, so whatever is in flight for it is abandoned.
    fn hold(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        from: Position,
        effects: &mut Vec<Effect>,
    ) {
        if self.holdings.remove(&partition).is_some() {
            effects.push(Effect::Abort(partition));
        }
        self.seen.insert(partition, epoch);
        self.holdings.insert(partition, Holding::new(epoch, from));
        self.touch();
        if let Some(token) = self.token(epoch) {
            effects.push(Effect::Acquire(partition, token));
        }
    }

    /// A Stop for an epoch that is not held bars it for ever.
    fn stop(
        &mut self,
        now: Instant,
        epoch: Epoch,
        partitions: &[PartitionId],
        effects: &mut Vec<Effect>,
    ) {
        let mut barred = Vec::new();
        for partition in partitions {
            match self.holdings.get(partition) {
                Some(holding) if holding.epoch == epoch => {
                    self.stop_holding(now, *partition, StopReason::Command, effects);
                }
                _ => {
                    let seen = self.seen.entry(*partition).or_insert(epoch);
                    *seen = epoch.max(*seen);
                    barred.push((*partition, epoch, None));
                }
            }
        }
        self.say_stopped(barred, StopReason::Barred);
    }

    /// Ends a write in flight first; what was gathered beyond it is dropped. Where there is none, and nobody is in a hurry,
    /// what was gathered is written: the next owner need not read it again, and its first write follows on the last one by no
    /// more than the hand-off.
    pub(super) fn stop_holding(
        &mut self,
        now: Instant,
        partition: PartitionId,
        reason: StopReason,
        effects: &mut Vec<Effect>,
    ) {
        let time = self.generation_to_write(now).filter(|_| reason == StopReason::Command);
        let Some(holding) = self.holdings.get_mut(&partition) else {
            return;
        };
        match (holding.doing, time) {
            (Doing::Writing | Doing::Stopping(_), _) => {
                holding.doing = Doing::Stopping(reason);
                effects.push(Effect::Unread(partition));
            }
            (Doing::Reading | Doing::Gathered, Some(generation)) => {
                holding.doing = Doing::Stopping(reason);
                let token = FencingToken { generation, epoch: holding.epoch };
                effects.push(Effect::Finish(partition, token));
            }
            _ => {
                effects.push(Effect::Unread(partition));
                self.give_back(partition, reason, effects);
            }
        }
    }

    /// C5: the partition leaves the holdings with its event, so that no write can begin after it.
    pub(super) fn give_back(
        &mut self,
        partition: PartitionId,
        reason: StopReason,
        effects: &mut Vec<Effect>,
    ) {
        let Some(holding) = self.holdings.remove(&partition) else {
            return;
        };
        debug_assert!(!holding.is_writing() || matches!(holding.doing, Doing::Stopping(_)), "C5");
        self.touch();
        if let Some(token) = self.token(holding.epoch).filter(|_| holding.acquired) {
            effects.push(Effect::Release(partition, token));
        }
        if let Some(living) = self.living_mut() {
            living.outbox.forget_progress(partition);
        }
        let next = holding.acquired.then_some(holding.next);
        self.say_stopped(vec![(partition, holding.epoch, next)], reason);
    }

    pub(super) fn say_started(&mut self, partitions: Vec<(PartitionId, Epoch)>) {
        if let Some(living) = self.living_mut().filter(|_| !partitions.is_empty()) {
            let incarnation = living.lease.incarnation;
            living.outbox.event(Record::Started { incarnation, partitions });
        }
    }

    fn say_stopped(
        &mut self,
        partitions: Vec<(PartitionId, Epoch, Option<Position>)>,
        reason: StopReason,
    ) {
        let is_mute =
            reason == StopReason::Barred && mutants::is_planted(Mutant::NoAnswerForBarred);
        if let Some(living) = self.living_mut().filter(|_| !partitions.is_empty() && !is_mute) {
            let incarnation = living.lease.incarnation;
            living.outbox.event(Record::Stopped { incarnation, partitions, reason });
        }
    }

    fn report_state(&mut self) {
        let partitions: Vec<_> = self.holdings().collect();
        if let Some(living) = self.living_mut() {
            let incarnation = living.lease.incarnation;
            living.outbox.reply(Record::State { incarnation, partitions });
        }
    }
}
