//! The controller's own records until it has read them back.
//!
//! An acknowledgement proves nothing about the fold, and a missing one nothing about the log: only reading does. What
//! was not read back after a while is sent again, byte for byte, under the same `seq`.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::io::Effect;
use crate::ids::{Generation, Incarnation, Instant, PartitionId, Term};
use crate::ledger::{Entry, Record, Seal};

/// Records of one reign that were sent and not yet read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Outbox {
    generation: Generation,
    term: Term,
    seq: u64,
    pending: VecDeque<Entry>,
    sent: Instant,
}

impl Outbox {
    pub(super) fn new(generation: Generation, term: Term) -> Self {
        Self { generation, term, seq: 0, pending: VecDeque::new(), sent: Instant::default() }
    }

    /// Seals a record and sends it.
    pub(super) fn append(
        &mut self,
        now: Instant,
        record: impl FnOnce(Seal) -> Record,
        effects: &mut Vec<Effect>,
    ) {
        self.seq = self.seq.saturating_add(1);
        let seal = Seal { term: self.term, seq: self.seq };
        let entry = Entry { generation: self.generation, record: record(seal) };
        effects.push(Effect::Append(entry.clone()));
        if self.pending.is_empty() {
            self.sent = now;
        }
        self.pending.push_back(entry);
    }

    /// A record was read. If it is of this reign, it and all before it are settled, whether they took effect or not:
    /// none of them can take effect any more. Whoever wanted it looks at the fold and wants it again.
    pub(super) fn read_back(&mut self, now: Instant, entry: &Entry) {
        let Some(seal) = entry.record.seal() else { return };
        if (entry.generation, seal.term) != (self.generation, self.term) {
            return;
        }
        let settled = |own: &Entry| own.record.seal().is_none_or(|own| own.seq <= seal.seq);
        while self.pending.front().is_some_and(settled) {
            self.pending.pop_front();
            self.sent = now;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    /// Sends everything again that has waited too long.
    pub(super) fn resend(&mut self, now: Instant, pause: Duration, effects: &mut Vec<Effect>) {
        if !self.pending.is_empty() && now.since(self.sent) >= pause {
            self.sent = now;
            effects.extend(self.pending.iter().cloned().map(Effect::Append));
        }
    }

    /// True when a sign of life waits to be read.
    pub(super) fn holds_tick(&self) -> bool {
        self.pending.iter().any(|entry| matches!(entry.record, Record::Tick { .. }))
    }

    /// True when a plan waits to be read.
    pub(super) fn holds_plan(&self) -> bool {
        self.pending.iter().any(|entry| matches!(entry.record, Record::Plan { .. }))
    }

    /// The partitions in grants that wait to be read.
    pub(super) fn partitions_granted(&self) -> BTreeSet<PartitionId> {
        let of = |entry: &Entry| match &entry.record {
            Record::Grant { partitions, .. } => partitions.clone(),
            _ => Vec::new(),
        };
        self.pending.iter().flat_map(of).map(|(partition, _)| partition).collect()
    }

    /// True when the end of this incarnation waits to be read.
    pub(super) fn holds_fence(&self, suspect: Incarnation) -> bool {
        self.pending.iter().any(|entry| {
            matches!(&entry.record, Record::Fenced { incarnation, .. } if *incarnation == suspect)
        })
    }
}
