//! R7: a controller stands for election only after silence of the present term, by its own account of what it has read; one that was
//! sent to lead need not wait the first time.
//!
//! That two are in office at once is harmless, so that no other auditor would see one who cannot wait.

use std::time::Duration;

use tidegate_core::controller::{Controller, Effect};
use tidegate_core::ids::{Instant, Term};
use tidegate_core::ledger::{Entry, Record};

/// What one controller process has read of whoever is in office.
#[derive(Debug)]
pub(in super::super) struct Patience {
    /// How long it must have heard nothing.
    elect_after: Duration,
    may_depose: bool,
    reign: Option<(Term, u64)>,
    heard: Instant,
}

impl Patience {
    pub(in super::super) const fn new(
        elect_after: Duration,
        may_depose: bool,
        now: Instant,
    ) -> Self {
        Self { elect_after, may_depose, reign: None, heard: now }
    }

    /// After a step: what is wrong with what follows from it.
    pub(in super::super) fn observe(
        &mut self,
        now: Instant,
        controller: &Controller,
        effects: &[Effect],
    ) -> Option<String> {
        let reign = controller.fold().reign().map(|reign| (reign.term, reign.seq));
        if reign != self.reign {
            (self.reign, self.heard) = (reign, now);
        }
        let elects = |effect: &Effect| {
            matches!(effect, Effect::Append(Entry { record: Record::Elect { .. }, .. }))
        };
        let silent = now.since(self.heard);
        let stands = effects.iter().any(elects);
        let sent = stands && std::mem::take(&mut self.may_depose);
        let hasty = reign.is_some() && silent < self.elect_after && stands && !sent;
        hasty.then(|| format!("stands for election {silent:?} after it has heard {reign:?}"))
    }
}
