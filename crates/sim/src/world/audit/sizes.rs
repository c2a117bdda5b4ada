//! Bounded memory: what each state machine keeps, against what it may keep.
//!
//! The bounds are stated in what the world has: partitions, consumer numbers, processes. What exceeds them grows with time.

use tidegate_core::ledger;
use tidegate_core::{consumer, controller};

use super::super::World;
use super::super::data::PARTITIONS;
use super::super::process::{ProcessKey, Role};
use super::Promise;

/// Partitions in ownership events that a consumer may have to say at once, and commands that wait for the Hello's
/// acknowledgement: what one lease of unanswered events and of
/// commands that come again and again (15 in 15 s, each for all partitions, twice for duplicates) brings.
const EVENTS: usize = PARTITIONS * 30;

/// Consumer numbers: eight consumers, and others in place of those that are passed over for a while.
const NUMBERS: usize = 24;

/// Incarnations that live at once: for each number the current one, and those that wait or are not fenced yet.
const LIVING: usize = NUMBERS * 2;

/// As many as the fold and the controller say that they remember at most.
const ENDED: usize = 4_096;
const DEAD: usize = 1_024;

impl World {
    /// Looks at one process after its step.
    pub(in super::super) fn audit_sizes(&mut self, key: ProcessKey) {
        let excess = match self.processes.get(&key).map(|process| &process.role) {
            Some(Role::Consumer(shell)) => excess_of_consumer(&shell.consumer.sizes()),
            Some(Role::Controller(shell)) => {
                let started = usize::try_from(self.started).unwrap_or(usize::MAX);
                excess_of_controller(&shell.controller.sizes(), started)
            }
            None => None,
        };
        if let Some((what, size, bound)) = excess {
            self.violate(Promise::Bounded, format_args!("{key} keeps {size} {what} of {bound}"));
        }
    }
}

type Excess = (&'static str, usize, usize);

fn excess_of_consumer(sizes: &consumer::Sizes) -> Option<Excess> {
    let kept = [
        ("commands that came early", sizes.early, EVENTS),
        ("events", sizes.events, EVENTS),
        ("positions to tell", sizes.progress, PARTITIONS),
        ("epochs", sizes.seen, PARTITIONS),
        ("partitions", sizes.holdings, PARTITIONS),
        ("figures", sizes.figures, PARTITIONS),
    ];
    kept.into_iter().find(|(_, size, bound)| size > bound)
}

/// The one size that grows with time is the attempts: one for each process that ever spoke.
fn excess_of_controller(sizes: &controller::Sizes, started: usize) -> Option<Excess> {
    let controller::Sizes { fold, .. } = *sizes;
    let ledger::Sizes { attempts, living, ended, numbers, partitions } = fold;
    let kept = [
        ("attempts", attempts, started),
        ("incarnations", living, LIVING),
        ("ended incarnations", ended, ENDED),
        ("consumer numbers", numbers, NUMBERS),
        ("partitions of the fold", partitions, PARTITIONS),
        // A Tick, a Plan, a Grant for each partition, a Fenced for each incarnation.
        ("records to read back", sizes.pending, 2 + PARTITIONS + LIVING),
        ("sent commands", sizes.sent, PARTITIONS),
        ("starts", sizes.starts, PARTITIONS),
        ("hand-overs", sizes.handovers, PARTITIONS),
        ("workers", sizes.workers, NUMBERS),
        ("dead processes", sizes.dead, DEAD),
        // Each incarnation that lives has one at most, and no other has.
        ("timers", sizes.timers, living),
        ("standings", sizes.standings, NUMBERS),
    ];
    kept.into_iter().find(|(_, size, bound)| size > bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_as_large_as_it_may_be_passes_and_one_more_does_not() {
        let most = consumer::Sizes { events: EVENTS, ..consumer::Sizes::default() };
        assert_eq!(excess_of_consumer(&most), None);
        let more = consumer::Sizes { seen: PARTITIONS + 1, ..most };
        assert!(excess_of_consumer(&more).is_some_and(|(what, ..)| what == "epochs"));
    }

    #[test]
    fn a_controller_that_keeps_more_timers_than_lives_is_found() {
        let more = controller::Sizes { timers: LIVING + 1, ..controller::Sizes::default() };
        assert!(excess_of_controller(&more, 0).is_some_and(|(what, ..)| what == "timers"));
    }
}
