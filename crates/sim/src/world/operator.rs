//! The person who is told that records are gone before they were read, and decides to go on without them.
//!
//! What is decided is written down where the records would be: a gap in the sink's chain. Then the reader is started
//! again, and goes on where the sink stands.

use std::time::Duration;

use tidegate_core::ids::{Epoch, PartitionId, Position};

use super::process::ProcessKey;
use super::{Event, Mutant, World};

/// How long it takes until somebody looks.
const LOOK: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));

/// How many of a thousand alarms nobody ever looks at: the partition stands still then, and that is in order.
const NEGLIGENCE: u32 = 300;

impl World {
    /// A reader has found that what it is to read next is gone.
    pub(super) fn out_of_range(
        &mut self,
        key: ProcessKey,
        (at, _): (PartitionId, Epoch),
        next: Position,
    ) {
        self.stats.out_of_range += 1;
        self.audit_out_of_range(key, at, next);
        let decides = !self.rng.chance(NEGLIGENCE);
        if decides && self.scenario.sink.is_fenced() {
            let look = self.rng.between(LOOK.0, LOOK.1);
            self.queue.schedule(self.now.after(look), Event::Decide(at));
        }
    }

    /// Somebody decides to leave a gap.
    pub(super) fn decide(&mut self, partition: PartitionId) {
        let start = self.data.start(partition);
        let end = self.audit.durable.get(&partition).copied().unwrap_or(0);
        // One who comes when somebody else has decided already finds no alarm.
        if !self.audit.is_out_of_range(partition) {
            return;
        }
        // A write that was given up may have brought the sink further than its writer knew: then nothing is missing.
        if end < start {
            self.leave_gap(partition, end, start);
        }
        self.decided_at = self.now;
        for key in self.holders(partition) {
            self.terminate(key);
        }
    }

    fn leave_gap(&mut self, partition: PartitionId, end: u64, start: u64) {
        let what = format_args!("{partition} goes on at {start}, {end}..{start} is left out");
        self.trace.note(self.now, format_args!("operator"), what);
        self.sink.leave_gap(partition, start);
        self.audit_gap(partition, start);
    }

    /// Processes that believe that they hold a partition.
    fn holders(&self, partition: PartitionId) -> Vec<ProcessKey> {
        let holds = |key: &ProcessKey| {
            let shell = self.processes.get(key).and_then(|process| process.consumer());
            shell.is_some_and(|shell| shell.consumer.holdings().any(|(at, ..)| at == partition))
        };
        self.processes.keys().copied().filter(holds).collect()
    }

    /// Where a defective reader goes on instead of saying so.
    pub(super) fn skips_silently(&self) -> bool {
        self.scenario.mutant == Some(Mutant::SilentSkip)
    }
}
