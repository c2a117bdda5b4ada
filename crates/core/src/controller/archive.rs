//! Snapshots of the ledger, and what they let the broker delete.
//!
//! At marks, which are the same for every reader, the fold is kept. The leader writes it down now and then; whoever reads
//! the parts compares them with what it kept. Once a snapshot was read back and is right, what lies below the one before it
//! is needed by nobody: a reader who begins at that one has two to go by.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::io::{Effect, Note};
use super::machine::Controller;
use crate::ids::{ConsumerNumber, Incarnation, Instant, Offset};
use crate::ledger::{Assembly, Entry, Facts, Fold, Record};

/// What a process knows about snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Archive {
    /// The number of the last mark that was passed.
    passed: u64,
    /// The fold at that mark, if this process has read up to it.
    mark: Option<(Offset, Facts)>,
    assembly: Assembly,
    /// The last snapshot that was read whole and right.
    right: Option<Offset>,
    written: Option<Instant>,
    /// How far each incarnation has obeyed its command partition.
    heard: BTreeMap<Incarnation, Offset>,
}

/// How many marks there are up to an offset.
fn marks(offset: Offset, every: u64) -> u64 {
    offset.0.checked_div(every).unwrap_or_default()
}

impl Archive {
    /// Of a process that begins with a fold at this position, which is somewhere between two marks.
    pub(super) fn beginning(position: Offset, every: u64) -> Self {
        Self { passed: marks(position, every), ..Self::default() }
    }

    /// Keeps the fold when it has passed a mark.
    pub(super) fn pass(&mut self, fold: &Fold, every: u64) {
        let passed = marks(fold.position(), every);
        if passed > self.passed {
            self.passed = passed;
            self.mark = Some((fold.position(), fold.facts()));
        }
    }

    /// Notes how far an incarnation has obeyed its commands.
    pub(super) fn heard(&mut self, incarnation: Incarnation, upto: Offset) {
        self.heard.insert(incarnation, upto);
    }

    /// An incarnation has ended.
    pub(super) fn forget(&mut self, incarnation: Incarnation) {
        self.heard.remove(&incarnation);
    }

    /// Reads a part of a snapshot. Once it is whole and this process can compare it: its `upto`, and whether it is right.
    fn compare(&mut self, entry: &Entry) -> Option<(Offset, bool)> {
        let (upto, facts) = self.assembly.take(entry)?;
        let (marked, kept) = self.mark.as_ref()?;
        (*marked == upto).then(|| (upto, facts == *kept))
    }

    /// Where each consumer's commands may be cut: nobody of that number has to read what is below any more.
    fn obeyed(&self, fold: &Fold) -> BTreeMap<ConsumerNumber, Offset> {
        let mut obeyed = BTreeMap::new();
        for (incarnation, life) in fold.lives().iter() {
            let upto = self.heard.get(&incarnation).copied().unwrap_or_default();
            let lowest = obeyed.entry(life.consumer).or_insert(upto);
            *lowest = upto.min(*lowest);
        }
        obeyed
    }
}

impl Controller {
    /// Writes a snapshot of the last mark, if it is time to. None is written before the generation has settled: a reader
    /// who begins at a snapshot need not wait for that.
    pub(super) fn write_snapshot(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let pause = self.settings.snapshot_pause;
        let rests = self.archive.written.is_some_and(|at| now.since(at) < pause);
        if rests || !self.is_settled() {
            return;
        }
        let Some((upto, facts)) = &self.archive.mark else { return };
        if self.archive.right.is_some_and(|right| right >= *upto) {
            return;
        }
        let Some(generation) = self.fold.generation() else { return };
        let parts = facts.to_parts();
        let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        for (part, facts) in (0..).zip(parts) {
            let group = self.fold.group().clone();
            let record = Record::Snapshot { group, upto: *upto, part, of, facts: Box::new(facts) };
            effects.push(Effect::Append(Entry { generation, record }));
        }
        self.archive.written = Some(now);
    }

    /// A part of a snapshot was read.
    pub(super) fn snapshot_read(&mut self, entry: &Entry, effects: &mut Vec<Effect>) {
        match self.archive.compare(entry) {
            None => {}
            Some((upto, false)) => effects.push(Effect::Note(Note::SnapshotDiffers(upto))),
            Some((upto, true)) => {
                effects.push(Effect::Note(Note::Snapshot(upto)));
                let before = self.archive.right.replace(upto).filter(|before| *before < upto);
                if let Some(before) = before.filter(|_| self.office.is_some()) {
                    effects.push(Effect::Trim(None, before));
                    let obeyed = self.archive.obeyed(&self.fold);
                    let cuts = obeyed.into_iter().filter(|(_, upto)| *upto > Offset(0));
                    effects.extend(cuts.map(|(consumer, upto)| Effect::Trim(Some(consumer), upto)));
                }
            }
        }
    }
}
