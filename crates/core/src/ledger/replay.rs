//! How a reader who knows nothing gets to a fold: from the first record of the ledger, or from a snapshot when the
//! beginning was deleted.
//!
//! ```text
//!  first record is at 0, or a Genesis follows those of a lower generation ─► the empty fold, and on from there
//!  else: keep what is read ──whole snapshot of at least the first offset──► its fold, and on from its `upto`
//! ```

use alloc::vec::Vec;

use super::facts::{Assembly, Facts};
use super::fold::Fold;
use super::record::{Entry, Record};
use crate::ids::{Generation, GroupName, Offset};

/// What was read of a ledger whose state is not known yet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replay {
    group: GroupName,
    start: Offset,
    read: Vec<(Offset, Option<Entry>)>,
    assembly: Assembly,
    generation: Generation,
}

/// Where a reader begins: a fold, and the records that it is to apply next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Beginning {
    /// The fold.
    pub fold: Fold,
    /// What was read and is not in it.
    pub records: Vec<(Offset, Option<Entry>)>,
}

/// The ledger is another group's. Nothing may run on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ForeignGroup;

impl Replay {
    /// Nothing was read yet of a ledger that can be read from this offset on.
    pub fn new(group: GroupName, start: Offset) -> Self {
        let generation = Generation::default();
        Self { group, start, read: Vec::new(), assembly: Assembly::default(), generation }
    }

    /// The offset after the last record that was read.
    pub fn position(&self) -> Offset {
        self.read.last().map_or(self.start, |(at, _)| at.next())
    }

    /// The highest generation that was met.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// True when a snapshot was met whose form this version does not know: who wrote it can read this ledger.
    pub fn has_unknown_snapshot(&self) -> bool {
        let unknown =
            |entry: &Entry| matches!(&entry.record, Record::Unknown { kind } if kind == "Snapshot");
        self.read.iter().any(|(_, entry)| entry.as_ref().is_some_and(unknown))
    }

    /// Reads a record (`None` for one that could not be decoded), and returns the beginning once it is found. A ledger of
    /// another group is refused.
    pub fn take(
        &mut self,
        at: Offset,
        entry: Option<&Entry>,
    ) -> Result<Option<Beginning>, ForeignGroup> {
        if at == Offset(0) || entry.is_some_and(|entry| self.is_genesis(entry)) {
            let records = Vec::from([(at, entry.cloned())]);
            return Ok(Some(Beginning { fold: Fold::new(self.group.clone()), records }));
        }
        self.read.push((at, entry.cloned()));
        let Some(entry) = entry else { return Ok(None) };
        if matches!(&entry.record, Record::Snapshot { group, .. } if *group != self.group) {
            return Err(ForeignGroup);
        }
        self.generation = self.generation.max(entry.generation);
        let whole = self.assembly.take(entry).filter(|(upto, _)| *upto <= at);
        Ok(whole.and_then(|(upto, facts)| self.begin(entry, upto, facts)))
    }

    /// A snapshot of more than is before it is one of a ledger that is over: it was under way when records were lost.
    fn begin(&mut self, entry: &Entry, upto: Offset, facts: Facts) -> Option<Beginning> {
        if upto < self.start {
            return None;
        }
        let fold = Fold::of_facts(self.group.clone(), entry.generation, upto, facts)?;
        let read = core::mem::take(&mut self.read);
        let records = read.into_iter().filter(|(at, _)| *at >= upto).collect();
        Some(Beginning { fold, records })
    }

    /// A new life of the ledger needs nothing of what was before, but something must have been: a Genesis that nothing is
    /// left before may have been ignored where it stands, as one that came twice or for a lower generation is.
    fn is_genesis(&self, entry: &Entry) -> bool {
        matches!(&entry.record, Record::Genesis { group, .. } if *group == self.group)
            && self.generation > Generation::default()
            && entry.generation > self.generation
    }
}
