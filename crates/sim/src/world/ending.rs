//! How a world ends: once nothing goes wrong any more, everything must become well, stay well, and drain, in time.

use std::time::Duration;

use super::audit::Promise;
use super::{Event, World};

/// Time between two looks whether everything is well again.
const INSPECT: Duration = Duration::from_millis(500);

/// How long everything must have been well before the producers stop, and how long after the last fault at least: what
/// was under way then arrives late (20 s), and who was fatally hit is fenced after that (20 s).
const SETTLE: Duration = Duration::from_secs(5);
const AFTERMATH: Duration = Duration::from_secs(50);

/// How long it may take until all records are in the sink; nothing unusual may happen meanwhile.
const DRAIN: Duration = Duration::from_secs(30);

impl World {
    /// Looks whether everything is well again, for long enough; then the producers stop.
    pub(super) fn inspect(&mut self) {
        if self.ailment().is_some() {
            self.well_since = None;
        }
        let since = *self.well_since.get_or_insert(self.now);
        let settled =
            self.now.since(since) >= SETTLE && self.now.since(self.healed_at) >= AFTERMATH;
        if self.ailment().is_none() && settled {
            self.audit_rates();
            self.stats.recovered_after = Some(since.since(self.healed_at));
            self.data.produces = false;
            self.unrest_before = self.unrest();
            self.queue.schedule(self.now.after(DRAIN), Event::Drained);
        } else {
            self.queue.schedule(self.now.after(INSPECT), Event::Inspect);
        }
    }

    /// The producers have stopped, and nobody has decided anything, for long enough: everything must be in the sink.
    pub(super) fn drained(&mut self) {
        let decided = self.now.since(self.decided_at);
        if decided < DRAIN {
            self.queue.schedule(self.decided_at.after(DRAIN), Event::Drained);
            return;
        }
        if let Some(behind) = self.undrained() {
            self.violate(Promise::Recovery, format_args!("{behind}"));
        }
        let (before, after) = (self.unrest_before, self.unrest());
        if before != after {
            self.violate(
                Promise::Recovery,
                format_args!("lapses, fences, take-overs without a fault: {before:?} -> {after:?}"),
            );
        }
        self.ended = true;
    }

    fn unrest(&self) -> [u64; 3] {
        [self.stats.lapses, self.stats.fences, self.stats.takeovers]
    }

    pub(super) fn give_up(&mut self) {
        if self.stats.recovered_after.is_none() {
            let ailment = self.ailment().unwrap_or_else(|| "nothing stays well".into());
            self.violate(Promise::Recovery, format_args!("{ailment}"));
        }
    }
}
