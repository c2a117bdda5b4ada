//! Which incarnations are silent, and since when: the timers behind a fence.
//!
//! Timers count from the moment a sign of life was *read*, so that a controller that reads late is slow to suspect, and
//! they begin anew when a controller takes office.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;

use crate::ids::{Incarnation, Instant, Offset};
use crate::ledger::{Fold, Lives};

/// Signs of life as they were read, and the confirmation of a suspicion in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Silence {
    heard: BTreeMap<Incarnation, Instant>,
    confirming: Option<Confirming>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Confirming {
    /// The ledger's end was asked for, at this moment.
    Asked { id: u64, at: Instant },
    /// Whoever is silent once this end is read may be fenced.
    Reading { end: Offset, asked_at: Instant },
}

impl Silence {
    /// Begins all timers anew.
    pub(super) fn restart(&mut self, now: Instant, lives: &Lives) {
        self.heard = lives.iter().map(|(incarnation, _)| (incarnation, now)).collect();
        self.confirming = None;
    }

    /// A sign of life was read.
    pub(super) fn heard(&mut self, incarnation: Incarnation, now: Instant) {
        self.heard.insert(incarnation, now);
    }

    /// An incarnation has ended.
    pub(super) fn forget(&mut self, incarnation: Incarnation) {
        self.heard.remove(&incarnation);
    }

    pub(super) fn len(&self) -> usize {
        self.heard.len()
    }

    /// True when a sign of life was read less than this ago.
    pub(super) fn is_fresh(&self, incarnation: Incarnation, now: Instant, limit: Duration) -> bool {
        self.heard.get(&incarnation).is_some_and(|heard| now.since(*heard) < limit)
    }

    fn suspects(&self, now: Instant, fence: Duration) -> impl Iterator<Item = Incarnation> {
        let silent = move |(_, heard): &(&Incarnation, &Instant)| now.since(**heard) >= fence;
        self.heard.iter().filter(silent).map(|(incarnation, _)| *incarnation)
    }

    /// True when somebody is suspected and the ledger's end should be asked for with this id.
    pub(super) fn wants_end(
        &mut self,
        now: Instant,
        fence: Duration,
        retry: Duration,
        id: u64,
    ) -> bool {
        let waiting = match self.confirming {
            None => false,
            Some(Confirming::Asked { at, .. }) => now.since(at) < retry,
            Some(Confirming::Reading { .. }) => true,
        };
        let wants = !waiting && self.suspects(now, fence).next().is_some();
        if wants {
            self.confirming = Some(Confirming::Asked { id, at: now });
        }
        wants
    }

    /// The answer to the question with this id.
    pub(super) fn end(&mut self, id: u64, end: Offset) {
        if let Some(Confirming::Asked { id: asked, at }) = self.confirming
            && asked == id
        {
            self.confirming = Some(Confirming::Reading { end, asked_at: at });
        }
    }

    /// K4: those who were suspected when the end was asked for and are silent still now that it was read.
    pub(super) fn confirmed(&mut self, fold: &Fold, fence: Duration) -> Vec<Incarnation> {
        match self.confirming {
            Some(Confirming::Reading { end, asked_at }) if fold.position() >= end => {
                self.confirming = None;
                self.suspects(asked_at, fence).collect()
            }
            Some(_) | None => Vec::new(),
        }
    }
}
