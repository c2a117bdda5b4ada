//! The broker's side: appends, reads, records that are lost or deleted, and what readers are told of that.
//!
//! A reader names the leader epoch of what it read last, and so learns of a loss whenever that took something it had read,
//! even where as many records have been appended since; who had not read so far goes on and knows nothing.

use std::sync::Arc;

use tidegate_core::consumer::Input as ConsumerInput;
use tidegate_core::controller::{Input as ControllerInput, Note};
use tidegate_core::ids::{ConsumerNumber, Generation, Offset};
use tidegate_core::ledger::{Command, Entry, Record};
use tidegate_core::mutants::{self, Mutant};

use crate::audit::{Promise, Reached};
use crate::process::{Machine, Payload, Request};
use crate::scenario::Loss;
use crate::settings;
use crate::share::Log;
use crate::state::State;

impl State {
    // === appends ===

    /// A record arrives. Returns its offset.
    pub(crate) fn append(&mut self, request: &Request) -> u64 {
        match &request.payload {
            Payload::Ledger(entry) => {
                let at = self.ledger.append(Arc::clone(entry));
                self.audit.record(Offset(at), entry, &self.sink);
                self.acknowledge_grant(request.from, entry, at);
                at
            }
            Payload::Command(consumer, command) => {
                self.commands.entry(*consumer).or_default().append(Arc::clone(command))
            }
        }
    }

    fn acknowledge_grant(&mut self, at: usize, entry: &Entry, offset: u64) {
        if !mutants::is_planted(Mutant::EpochOfAcknowledgement) {
            return;
        }
        if let (Record::Grant { partitions, .. }, Machine::Controller(shell)) =
            (&entry.record, &mut self.change(at).machine)
        {
            let acknowledged = partitions.iter().map(|(partition, _)| (*partition, offset));
            shell.acknowledged.extend(acknowledged);
        }
    }

    // === reads ===

    /// The ledger's generation by its first record. Before there was any, a consumer is told what it will be: where it
    /// would wait otherwise is of no interest.
    pub(crate) fn first_generation(&self) -> Option<Generation> {
        let begun = self.ledger.first().map(|entry| entry.generation);
        let first = settings::genesis(settings::BEGINNING);
        begun.or_else(|| (!self.sink.has_traces()).then_some(first))
    }

    /// True when there is something that this process has not read.
    pub(crate) fn can_read(&self, at: usize) -> bool {
        let process = self.process(at);
        let end = match &process.machine {
            Machine::Controller(_) => self.ledger.end(),
            Machine::Consumer(shell) if shell.listening => {
                self.commands.get(&shell.number).map_or(0, Log::end)
            }
            Machine::Consumer(_) | Machine::Gone => 0,
        };
        !process.deaf && (process.lost || process.cursor < end)
    }

    /// A process reads to the end. To stop before it would be to read earlier.
    pub(crate) fn read(&mut self, at: usize) {
        match self.process(at).consumer().map(|shell| shell.number) {
            None => self.read_ledger(at),
            Some(number) => self.read_commands(at, number),
        }
    }

    fn read_ledger(&mut self, at: usize) {
        let process = self.change(at);
        let lost = std::mem::take(&mut process.lost);
        let trimmed = process.cursor < self.ledger.start();
        if lost {
            self.step_controller(at, ControllerInput::LedgerLost);
        }
        if lost || trimmed {
            self.open_ledger(at);
        }
        let cursor = self.process(at).cursor;
        let records = self.ledger.from(cursor);
        let records: Vec<_> =
            records.map(|(at, entry)| (Offset(at), Some(Entry::clone(entry)))).collect();
        self.change(at).cursor += records.len() as u64;
        self.step_controller(at, ControllerInput::Ledger(records));
    }

    fn read_commands(&mut self, at: usize, number: ConsumerNumber) {
        let Some(log) = self.commands.get(&number) else { return };
        let commands = log.from(self.process(at).cursor);
        let commands: Vec<_> =
            commands.map(|(at, command)| (at, Command::clone(command))).collect();
        for (offset, command) in commands {
            // Who says Hello while it reads goes on from where that says.
            if self.process(at).cursor == offset {
                self.change(at).cursor += 1;
                self.step_consumer(at, ConsumerInput::Command(Offset(offset), Some(command)));
            }
        }
    }

    /// A controller reads the ledger from its first record that is left.
    pub(crate) fn open_ledger(&mut self, at: usize) {
        let start = self.ledger.start();
        let process = self.change(at);
        process.cursor = start;
        if let Machine::Controller(shell) = &mut process.machine {
            shell.opened = start;
        }
        self.step_controller(at, ControllerInput::LedgerOpened(Offset(start)));
    }

    // === records that are lost or deleted ===

    /// The end of the ledger after a loss.
    pub(crate) fn kept(&self, loss: Loss) -> u64 {
        match loss {
            Loss::Tail(lost) => self.ledger.end().saturating_sub(lost),
            Loss::Topic => 0,
        }
    }

    /// A loss of everything is that of the topic.
    pub(crate) fn can_lose(&self, loss: Loss) -> bool {
        loss == Loss::Topic || self.kept(loss) > self.ledger.start()
    }

    /// The ledger loses records that were acknowledged. With the topic the commands go as well, and who reads them reads
    /// nothing until it looks for the end again.
    pub(crate) fn lose(&mut self, loss: Loss) {
        self.budget.losses -= 1;
        let kept = self.kept(loss);
        for at in 0..self.processes.len() {
            let process = self.process(at);
            if process.controller().is_some() && process.cursor > kept {
                self.change(at).lost = true;
            }
            if loss == Loss::Topic
                && let Some(shell) = self.change(at).consumer_mut()
            {
                shell.listening = false;
            }
        }
        if loss == Loss::Topic {
            self.commands.clear();
        }
        self.ledger.truncate(kept);
        self.audit.rebuild(self.ledger.from(0));
    }

    /// The broker deletes what is below an offset.
    pub(crate) fn trim(&mut self, consumer: Option<ConsumerNumber>, below: Offset) {
        let Some(consumer) = consumer else { return self.ledger.trim(below.0) };
        self.commands.entry(consumer).or_default().trim(below.0);
        for at in 0..self.processes.len() {
            let behind = self.process(at).cursor < below.0;
            let reader = self.change(at).consumer_mut().filter(|shell| shell.number == consumer);
            if let Some(shell) = reader.filter(|_| behind) {
                shell.listening = false;
            }
        }
    }

    /// What a controller has to tell: that snapshots differ may never be.
    pub(crate) fn noted(&mut self, at: usize, note: &Note) {
        match (note, &self.process(at).machine) {
            (Note::SnapshotDiffers(upto), _) => {
                let what = format_args!("p{} read another snapshot up to {upto:?}", at + 1);
                self.audit.violate(Promise::P1, what);
            }
            (Note::Leading(true), Machine::Controller(shell)) if shell.opened > 0 => {
                self.audit.reach(Reached::HeirOfSnapshot);
            }
            _ => {}
        }
    }
}
