//! How a life begins: where the logs end, a Hello, its acknowledgement.
//!
//! The controller may read the Hello, grant and say Start before its acknowledgement is here. Such commands wait for it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::io::{AppendId, Effect, Located};
use super::life::Lease;
use super::machine::{Consumer, Living, Phase};
use super::outbox::Outbox;
use crate::ids::{Generation, Incarnation, Instant, Offset};
use crate::ledger::{Command, Entry, Hello, Record};
use crate::mutants::{self, Mutant};

/// A Hello that waits for its acknowledgement.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Greeting {
    pub(super) id: AppendId,
    pub(super) handed: Instant,
    located: Located,
    early: Vec<(Offset, Command)>,
}

impl Greeting {
    /// Keeps a command that may be for the incarnation which this Hello begins: that stands at or above the ledger's end of
    /// before it.
    pub(super) fn keep(&mut self, offset: Offset, command: Command) {
        let Located { generation, ledger_end, .. } = self.located;
        let may_be_own = command.generation == generation && command.incarnation.0 >= ledger_end;
        if command.generation > generation || may_be_own {
            self.early.push((offset, command));
        }
    }

    /// Commands that are kept.
    pub(super) fn kept(&self) -> usize {
        self.early.len()
    }
}

impl Consumer {
    pub(super) fn located(
        &mut self,
        now: Instant,
        located: Option<Located>,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::Locating { asked: true, .. } = self.phase else {
            return;
        };
        let Some(mut located) = located else {
            self.phase = Phase::Locating { asked: false, at: now.after(self.settings.retry) };
            return;
        };
        located.generation = located.generation.max(self.told);
        self.attempt = self.attempt.saturating_add(1);
        self.heard = located.command_end;
        effects.push(Effect::Listen(located.command_end));
        let hello = Hello {
            consumer: self.identity.consumer,
            process: self.identity.process,
            attempt: self.attempt,
            seen: located.ledger_end,
            boot: self.identity.boot,
            directory: self.identity.directory,
            clean: self.identity.clean,
            persisted: self.identity.persisted.clone(),
        };
        let id = self.ids.next();
        let entry = Entry { generation: located.generation, record: Record::Hello(hello) };
        effects.push(Effect::Append(id, entry));
        self.phase = Phase::Greeting(Greeting { id, handed: now, located, early: Vec::new() });
    }

    /// C2: a Hello that was acknowledged too late is void.
    pub(super) fn begin(&mut self, now: Instant, at: Offset, effects: &mut Vec<Effect>) {
        let next = Phase::Locating { asked: false, at: now };
        let Phase::Greeting(greeting) = core::mem::replace(&mut self.phase, next) else { return };
        let incarnation = Incarnation(at);
        let late = mutants::is_planted(Mutant::LeaseWithoutHello);
        let lease = Lease::new(incarnation, if late { now } else { greeting.handed }, now);
        if !lease.is_live(now, self.settings.lease) {
            return;
        }
        let generation = greeting.located.generation;
        self.enter_generation(generation);
        let outbox = Outbox::new(generation, incarnation);
        let living = Living { lease, generation, outbox, leaving: None };
        self.phase = Phase::Living(Box::new(living));
        self.identity.clean = false;
        effects.push(Effect::Began(incarnation));
        effects.push(Effect::Save { clean: false, partitions: BTreeMap::new() });
        for (offset, command) in greeting.early {
            self.command(now, offset, command, effects);
        }
    }

    /// Forgets what belongs to a generation of the ledger that is over.
    fn enter_generation(&mut self, generation: Generation) {
        if self.generation != Some(generation) {
            self.generation = Some(generation);
            self.term = None;
            self.seen.clear();
        }
    }
}
