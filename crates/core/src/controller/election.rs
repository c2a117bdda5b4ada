//! Who is the controller: without Kubernetes the one whose `Elect` stands last in the ledger.
//!
//! A candidate reads to the end and elects itself only when it saw nothing of the current term for a while. Two
//! controllers at once are harmless: the fold takes up the records of the last valid term only.

use alloc::vec::Vec;
use core::time::Duration;

use super::io::Effect;
use super::machine::Controller;
use crate::ids::{Instant, Offset, ProcessId, Term};
use crate::ledger::{Entry, Fold, Record};

/// What this process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// It reads, and takes over when the controller falls silent. Left by silence.
    Following,
    /// Its `Elect` was handed over at this moment. Left by reading it or a later one, or by time.
    Standing {
        /// When.
        since: Instant,
    },
    /// It is the controller. Left by reading a later `Elect`.
    Leading {
        /// Its term.
        term: Term,
    },
}

/// The state of the election as this process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Election {
    pub(super) role: Role,
    /// The last try.
    pub(super) attempt: u32,
    /// When something of the current term was last read.
    pub(super) term_heard: Instant,
    /// The ledger's end, and when this process asked for it; `None` until it knows.
    pub(super) end: Option<(Offset, Instant)>,
    /// The question for the end that is on its way.
    pub(super) asked: Option<(u64, Instant)>,
}

impl Election {
    pub(super) fn new(now: Instant) -> Self {
        Self { role: Role::Following, attempt: 0, term_heard: now, end: None, asked: None }
    }

    /// The term, if this process leads.
    pub(super) fn term(&self) -> Option<Term> {
        match self.role {
            Role::Leading { term } => Some(term),
            Role::Following | Role::Standing { .. } => None,
        }
    }

    /// True when everything was read up to an end that was fetched at this moment or later: silence means
    /// something only to who has read to the end of it.
    pub(super) fn is_caught_up(&self, read_upto: Offset, since: Instant) -> bool {
        self.end.is_some_and(|(end, asked_at)| asked_at >= since && read_upto >= end)
    }

    /// True when the end must be asked for: none is known that was fetched at this moment or later.
    pub(super) fn wants_end(&self, now: Instant, since: Instant, retry: Duration) -> bool {
        let known = self.end.is_some_and(|(_, asked_at)| asked_at >= since);
        let waiting = self.asked.is_some_and(|(_, at)| now.since(at) < retry);
        !known && !waiting
    }

    /// Looks at the reign after an `Elect` was applied. True when the role changed.
    pub(super) fn observe(&mut self, fold: &Fold, me: ProcessId) -> bool {
        let Some(reign) = fold.reign() else { return false };
        let mine = reign.process == me && reign.attempt == self.attempt;
        let role = if mine { Role::Leading { term: reign.term } } else { Role::Following };
        let changed = role != self.role;
        self.role = role;
        changed
    }
}

impl Controller {
    /// True once everything was read up to an end of the ledger that was fetched at this moment or later, which is asked for
    /// unless one is known.
    pub(super) fn has_read_since(
        &mut self,
        now: Instant,
        since: Instant,
        retry: Duration,
        effects: &mut Vec<Effect>,
    ) -> bool {
        if self.election.wants_end(now, since, retry) {
            let id = self.question();
            self.election.asked = Some((id, now));
            effects.push(Effect::FetchLedgerEnd(id));
        }
        self.read_upto().is_some_and(|read| self.election.is_caught_up(read, since))
    }

    /// Stands for election after silence, or at once if it is sent to, having read to the end of it. An empty ledger is begun first,
    /// and one that has lost records is begun anew.
    pub(super) fn stand(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let (resend, elect_after) = (self.settings.resend, self.settings.elect_after);
        let sound = self.sound_generation();
        let at_once = self.is_vacant() || self.settings.deposes && self.election.attempt == 0;
        let silent_at =
            if at_once { Instant::default() } else { self.election.term_heard.after(elect_after) };
        // A try that nothing was read of is repeated only by who has read to a later end: one who can append but not read
        // would depose everybody again and again.
        let waits = resend.saturating_mul(5);
        let since = match self.election.role {
            Role::Standing { since } => silent_at.max(since.after(waits)),
            Role::Following | Role::Leading { .. } => silent_at,
        };
        if since > now {
            return;
        }
        if !self.has_read_since(now, since, resend, effects) {
            return;
        }
        let Some(generation) = sound else {
            self.begin_ledger(now, effects);
            return;
        };
        self.election.attempt = self.election.attempt.saturating_add(1);
        self.election.role = Role::Standing { since: now };
        let record = Record::Elect { process: self.process, attempt: self.election.attempt };
        effects.push(Effect::Append(Entry { generation, record }));
    }
}
