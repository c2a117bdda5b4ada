//! Every record: exactly once where the sink compares, at least once elsewhere, in order, and none left out in silence.

use tidegate_core::ids::{FencingToken, PartitionId, Position};

use super::super::World;
use super::super::process::{Process, ProcessKey};
use super::super::scenario::SinkKind;
use super::super::sink::Write;
use super::Promise;

impl World {
    /// One batch at a time, and each begins where the last one did or later.
    pub(in super::super) fn audit_order(&mut self, write: &Write, overlaps: bool) {
        let (token, expected) = (write.token, write.expected);
        let before = self.audit.begun.insert((write.from, write.partition), (token, expected));
        let backwards = before.is_some_and(|before| (token, expected) < before);
        if overlaps || backwards {
            let what = format_args!("{write:?} after {before:?}, overlaps: {overlaps}");
            self.violate(Promise::Order, what);
        }
    }

    /// C5.
    pub(in super::super) fn audit_write_begins(&mut self, write: &Write) {
        let (from, partition, token) = (write.from, write.partition, write.token);
        if self.audit.stopped.contains(&(from, partition, token)) {
            self.violate(
                Promise::QuietAfterStop,
                format_args!("{from} writes {partition} in {token:?}"),
            );
        }
    }

    /// P2: a write has become durable.
    pub(in super::super) fn audit_write(&mut self, write: &Write) {
        self.stats.writes += 1;
        let (first, partition) = (write.first, write.partition);
        self.audit.written.insert(partition);
        // Where the ledger has forgotten the grant, it began where it was told to; else the grant has said so already.
        let durable = self.audit.durable.entry(partition).or_insert(write.expected);
        let end = *durable;
        *durable = end.max(write.end);
        if first > end {
            let gone = first <= self.data.start(partition);
            let promise = if gone { Promise::NothingSkipped } else { Promise::ExactlyOnce };
            self.violate(promise, format_args!("{partition}: {end}..{first} is left out"));
        } else if first < end {
            self.stats.repeated += end.min(write.end) - first;
            if self.sink.kind.is_fenced() {
                let what = format_args!("{partition}: {first}..{end} again");
                self.violate(Promise::ExactlyOnce, what);
            }
        }
        let highest = self.audit.acquired.get(&partition).copied();
        let stale = highest.is_some_and(|highest| write.token < highest);
        if stale && self.sink.kind == SinkKind::Epochs {
            let what = format_args!("{write:?} after {highest:?} has acquired");
            self.violate(Promise::StaleOwner, what);
        }
    }

    /// The sink is asked for a partition.
    pub(in super::super) fn audit_acquire(&mut self, partition: PartitionId, token: FencingToken) {
        let highest = self.audit.acquired.entry(partition).or_insert(token);
        *highest = token.max(*highest);
    }

    /// A reader says that what it is to read next is gone.
    pub(in super::super) fn audit_out_of_range(
        &mut self,
        key: ProcessKey,
        partition: PartitionId,
        next: Position,
    ) {
        let start = self.data.start(partition);
        if next.0 >= start {
            let what = format_args!("{key} misses {partition} {next:?}, which begins at {start}");
            self.violate(Promise::NothingSkipped, what);
        }
        self.audit.out_of_range.entry(partition).or_default().insert(next.0);
    }

    /// Somebody has decided to go on at a position: the only loss that is allowed, and only of what is gone and was told.
    pub(in super::super) fn audit_gap(&mut self, partition: PartitionId, upto: u64) {
        let durable = self.audit.durable.get(&partition).copied().unwrap_or(0);
        let (told, start) =
            (self.audit.out_of_range.remove(&partition), self.data.start(partition));
        if told.is_none() || upto > start {
            let what = format_args!("{partition}: {durable}..{upto}, begins at {start}");
            self.violate(Promise::NothingSkipped, what);
        }
        self.stats.gaps += 1;
        self.stats.skipped += upto.saturating_sub(durable);
        self.audit.durable.insert(partition, upto.max(durable));
    }

    /// P5: the first partition whose records are not all in the sink. One that retention has overtaken may stand still, but
    /// only where its reader has said so.
    pub(in super::super) fn undrained(&self) -> Option<String> {
        let produced = self.data.produced();
        produced.into_iter().find_map(|(partition, end)| {
            let durable = self.audit.durable.get(&partition).copied().unwrap_or(0);
            let stopped = self.is_stopped(partition) || self.audit.is_told_behind(partition);
            let behind = durable < end && !stopped;
            behind.then(|| format!("{partition} is durable to {durable} of {end}"))
        })
    }

    /// True where its reader stands at a record that is gone, and has said so.
    fn is_stopped(&self, partition: PartitionId) -> bool {
        let Some(told) = self.audit.out_of_range.get(&partition) else { return false };
        let start = self.data.start(partition);
        let mut consumers = self.processes.values().filter_map(Process::consumer);
        consumers.any(|shell| {
            let mut held = shell.consumer.holdings().filter(|(at, ..)| *at == partition);
            held.any(|(_, _, next)| next.0 < start && told.contains(&next.0))
        })
    }
}
