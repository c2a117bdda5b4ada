//! R14: what follows when the ledger has lost records, and what the auditors themselves know of a ledger that was cut.
//!
//! Everything that is known by offset is known of one life of the log: when it is cut the auditors read it again from its
//! first record, as a reader with unlimited memory would. What was granted in any life stays granted for them, by
//! generation. Across a cut P1 says nothing; P2 and P3 do, and they are looked at in the sink and in the processes.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_core::consumer::{AppendId, Consumer, Input};
use tidegate_core::ids::{Generation, Instant, Offset, PartitionId, Position};
use tidegate_core::ledger::{Entry, Fold, Record};

use super::super::World;
use super::super::controllers::group;
use super::super::process::ProcessKey;
use super::super::shadow::Shadow;
use super::{Audit, Promise, Tenures};

/// How long nothing is granted in a generation that was begun anew: 20 s by clocks that run up to 5 % too fast.
const SETTLES: Duration = Duration::from_secs(19);

/// What is known of one consumer process and of the ledger's lives.
#[derive(Debug, Default)]
pub(in super::super) struct Renewals {
    /// The Hello of this life, and the heartbeat that waits for its acknowledgement.
    greeting: Option<AppendId>,
    beating: Option<AppendId>,
    /// Where the last one of them was acknowledged to be.
    acknowledged: Option<Offset>,
    /// What a life held that had to be abandoned, and its generation: the next Hello says so.
    owed: Option<(Generation, BTreeMap<PartitionId, Position>)>,
}

impl Renewals {
    /// A record is handed over; says what is wrong with it.
    pub(in super::super) fn hands(&mut self, id: AppendId, entry: &Entry) -> Option<String> {
        match &entry.record {
            Record::Hello(hello) => {
                *self = Self { greeting: Some(id), owed: self.owed.take(), ..Self::default() };
                let (generation, held) = self.owed.take()?;
                let said: BTreeMap<_, _> = hello.persisted.iter().copied().collect();
                let wrong = entry.generation <= generation || !held.is_empty() && said != held;
                wrong.then(|| format!("says {entry:?} after {held:?} in {generation:?}"))
            }
            Record::Heartbeat { .. } => {
                self.beating = Some(id);
                None
            }
            _ => None,
        }
    }

    /// An input is about to be taken in. True when the life that takes it in is over by it.
    pub(in super::super) fn takes(
        &mut self,
        consumer: &Consumer,
        now: Instant,
        input: &Input,
    ) -> bool {
        let ends = match input {
            Input::Appended(id, at) if self.greeting.take_if(|own| own == id).is_some() => {
                self.acknowledged = Some(*at);
                false
            }
            Input::Appended(id, at) if self.beating.take_if(|own| own == id).is_some() => {
                let back = self.acknowledged.is_some_and(|last| *at <= last);
                self.acknowledged = self.acknowledged.max(Some(*at));
                back
            }
            Input::AppendFailed(id) => {
                self.beating.take_if(|own| own == id);
                false
            }
            Input::Command(_, Some(command)) => Some(command.generation) > consumer.generation(),
            _ => false,
        };
        let ends = ends && consumer.incarnation(now).is_some();
        if ends && !consumer.is_leaving() {
            let held = consumer.holdings().map(|(at, _, next)| (at, next)).collect();
            self.owed = consumer.generation().map(|generation| (generation, held));
        }
        ends
    }
}

/// What the auditors know of the ledger's lives.
#[derive(Debug, Default)]
pub(in super::super) struct Lineage {
    /// Nothing may be granted before this moment.
    settles_at: super::Moment,
    /// What was cut from the log: from the lowest place of a cut to the highest end before one.
    cut: Option<(Offset, Offset)>,
    /// When it was cut last.
    pub(in super::super) cut_at: Option<super::Moment>,
    /// What records said before a planted defect made something else of them, where it did.
    originals: BTreeMap<Offset, Entry>,
}

impl Lineage {
    pub(super) fn keep(&mut self, at: Offset, entry: &Entry, read: &Entry) {
        if entry != read {
            self.originals.insert(at, entry.clone());
        }
    }

    /// True for an offset that was given twice: what two readers know below it need not be the same.
    pub(in super::super) fn was_cut_below(&self, upto: Offset) -> bool {
        self.cut.is_some_and(|(lowest, end)| lowest < upto && upto <= end)
    }
}

impl Audit {
    /// Where a partition begins of which nothing was ever written the ledger alone knew: it is decided once more, and what
    /// retention has taken by then was nobody's.
    fn forget_starts(&mut self) {
        let written = &self.written;
        self.durable.retain(|partition, _| written.contains(partition));
    }
}

impl World {
    /// The ledger was cut: what is known by its offsets is read again.
    pub(in super::super) fn audit_cut(&mut self, upto: Offset) {
        let audit = &mut self.audit;
        let end = audit.reference.position();
        let (lowest, highest) = audit.lineage.cut.unwrap_or((upto, end));
        audit.lineage.cut = Some((upto.min(lowest), end.max(highest)));
        audit.lineage.cut_at = Some(self.now);
        let generation = audit.reference.generation();
        audit.forget_starts();
        audit.reference = Fold::new(group());
        audit.shadow = Shadow::default();
        audit.tenures = Tenures::default();
        audit.effects.clear();
        audit.between.clear();
        audit.compared.clear();
        audit.reign_heard = self.now;
        audit.lineage.originals.retain(|at, _| *at < upto);
        for (at, read) in (0..).map(Offset).zip(&self.broker.ledger) {
            let entry = audit.lineage.originals.get(&at).unwrap_or(read);
            let known = audit.reference.generation();
            let applied = audit.reference.apply(at, read);
            audit.shadow.apply(at, entry);
            if let Some(seal) = entry.record.seal().filter(|_| applied.is_ok()) {
                audit.effects.insert((seal.term, seal.seq));
            }
            if audit.reference.generation() != known {
                audit.tenures = Tenures::default();
                audit.effects.clear();
            }
            for (partition, ownership) in audit.reference.partitions() {
                // What is wrong with the records that are left was said when they came.
                let _told = audit.tenures.observe(at, partition, ownership.owner());
            }
        }
        if audit.reference.generation() != generation {
            audit.lineage.settles_at = super::Moment(0);
        }
    }

    /// K6: a generation that is not the group's first waits until every lease of an older one has lapsed.
    pub(super) fn audit_settling(&mut self, at: Offset, entry: &Entry, before: Option<Generation>) {
        let begun = self.audit.reference.generation();
        match &entry.record {
            Record::Genesis { first, .. } if begun != before => {
                let first = *first && at == Offset(0);
                if first && !self.audit.granted.is_empty() {
                    let what = format_args!("{at:?} {entry:?}, and there was something before");
                    self.violate(Promise::Renewal, what);
                }
                self.audit.forget_starts();
                self.stats.renewals += u64::from(!first);
                let waits = if first { Duration::ZERO } else { SETTLES };
                self.audit.lineage.settles_at = self.now.after(waits);
            }
            Record::Grant { .. } if self.now < self.audit.lineage.settles_at => {
                let settles_at = self.audit.lineage.settles_at;
                let what = format_args!("{at:?} {entry:?} before {settles_at:?}");
                self.violate(Promise::Renewal, what);
            }
            _ => {}
        }
    }

    /// Who was told that records are gone grants nothing in that generation.
    pub(in super::super) fn audit_halt(&mut self, key: ProcessKey, entry: &Entry) {
        let lost = self.controller_mut(key).and_then(|shell| shell.lost);
        let grants = matches!(entry.record, Record::Grant { .. });
        if grants && lost.is_some_and(|lost| entry.generation <= lost) {
            self.violate(Promise::Renewal, format_args!("{key} appends {entry:?} after {lost:?}"));
        }
    }

    /// Whose acknowledgement went back, or who was told of a higher generation, holds nothing any more.
    pub(in super::super) fn audit_abandoned(&mut self, key: ProcessKey) {
        let Some(process) = self.processes.get(&key) else { return };
        let now = process.machine.clock(self.now);
        let Some(shell) = process.consumer() else { return };
        if shell.consumer.incarnation(now).is_some() || shell.consumer.holdings().next().is_some() {
            let what = format_args!("{key} goes on in {:?}", shell.consumer.generation());
            let what = what.to_string();
            self.violate(Promise::Renewal, format_args!("{what}"));
        }
    }
}
