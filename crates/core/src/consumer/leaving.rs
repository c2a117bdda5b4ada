//! The end of a process: it gives everything back, says Goodbye, and leaves.
//! C6 is kept here.

use alloc::vec::Vec;
use core::time::Duration;

use super::io::{AppendId, Effect};
use super::machine::{Consumer, Phase};
use crate::ids::Instant;
use crate::ledger::{Entry, Record, StopReason};

/// A controlled stop in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leaving {
    /// When to give up and leave unclean.
    pub(super) deadline: Instant,
    /// The Goodbye, once it was handed over: everything was given back then.
    pub(super) goodbye: Option<AppendId>,
    /// When to say it (again).
    pub(super) goodbye_due: Instant,
}

impl Consumer {
    pub(super) fn shut_down(&mut self, now: Instant, budget: Duration, effects: &mut Vec<Effect>) {
        match &mut self.phase {
            Phase::Living(living) if living.leaving.is_none() => {
                let deadline = now.after(budget);
                living.leaving = Some(Leaving { deadline, goodbye: None, goodbye_due: now });
                let reason = StopReason::Shutdown;
                for partition in self.holdings.keys().copied().collect::<Vec<_>>() {
                    self.stop_holding(now, partition, reason, effects);
                }
            }
            // A process that never lived has nothing to add to what its state file says.
            Phase::Locating { .. } | Phase::Greeting(_) if self.generation.is_none() => {
                effects.push(Effect::Exit(true));
                self.phase = Phase::Left;
            }
            Phase::Living(_) | Phase::Locating { .. } | Phase::Greeting(_) => {
                self.leave(false, effects);
            }
            Phase::Left => {}
        }
    }

    pub(super) fn leave(&mut self, clean: bool, effects: &mut Vec<Effect>) {
        let partitions = self.owned();
        effects.push(Effect::Save { clean, partitions });
        effects.push(Effect::Exit(clean));
        self.phase = Phase::Left;
    }

    pub(super) fn say_goodbye(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let given_back = self.holdings.is_empty();
        let Phase::Living(living) = &mut self.phase else {
            return;
        };
        let Some(leaving) = &mut living.leaving else {
            return;
        };
        if leaving.deadline <= now {
            self.leave(false, effects);
        } else if given_back
            && living.outbox.is_settled()
            && leaving.goodbye.is_none()
            && leaving.goodbye_due <= now
        {
            let record = Record::Goodbye { incarnation: living.lease.incarnation, clean: true };
            let id = self.ids.next();
            effects.push(Effect::Append(id, Entry { generation: living.generation, record }));
            leaving.goodbye = Some(id);
        }
    }
}
