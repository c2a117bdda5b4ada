//! The fold as lists: what a snapshot says, and how a fold is made of it again.
//!
//! A snapshot is a cache of the fold below an offset. It is cut into parts that stay below any broker's limit, and the
//! same fold is always cut the same way, so that parts of several writers fit together.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::attempts::Attempt;
use super::fold::{AdoptedPlan, Fold, Reign};
use super::lives::{LatestHellos, Life, Lives};
use super::ownership::Ownership;
use super::record::{Entry, Record};
use crate::ids::{
    ConsumerNumber, Generation, GroupName, Incarnation, Offset, PartitionId, ProcessId,
};
use crate::mutants::{self, Mutant};

/// Rows of one part at most: at some 100 bytes each they stay below Kafka's usual megabyte for a batch.
const PART_ROWS: usize = 5_000;

/// Everything that a fold says, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// Who reigns.
    pub reign: Option<Reign>,
    /// The last plan.
    pub plan: Option<AdoptedPlan>,
    /// The highest try of each process.
    pub attempts: Vec<(ProcessId, Attempt)>,
    /// The incarnations that have not ended.
    pub lives: Vec<(Incarnation, Life)>,
    /// Those that have, as far as they are remembered.
    pub ended: Vec<(Incarnation, ConsumerNumber)>,
    /// The latest Hellos of each consumer.
    pub hellos: Vec<(ConsumerNumber, LatestHellos)>,
    /// Who owns what.
    pub partitions: Vec<(PartitionId, Ownership)>,
}

impl Facts {
    /// Cuts the facts into parts. The plan, which may be long, has the first one for itself.
    pub fn to_parts(&self) -> Vec<Self> {
        let first = Self { reign: self.reign, plan: self.plan.clone(), ..Self::default() };
        let mut parts = Vec::from([first]);
        parts.extend(chunks(&self.attempts, |attempts| Self { attempts, ..Self::default() }));
        parts.extend(chunks(&self.lives, |lives| Self { lives, ..Self::default() }));
        parts.extend(chunks(&self.ended, |ended| Self { ended, ..Self::default() }));
        parts.extend(chunks(&self.hellos, |hellos| Self { hellos, ..Self::default() }));
        parts.extend(chunks(&self.partitions, |partitions| Self { partitions, ..Self::default() }));
        parts
    }

    /// Adds another part.
    fn merge(&mut self, part: Self) {
        self.reign = self.reign.or(part.reign);
        self.plan = self.plan.take().or(part.plan);
        self.attempts.extend(part.attempts);
        self.lives.extend(part.lives);
        self.ended.extend(part.ended);
        self.hellos.extend(part.hellos);
        self.partitions.extend(part.partitions);
    }
}

fn chunks<T: Clone>(rows: &[T], part: impl Fn(Vec<T>) -> Facts) -> impl Iterator<Item = Facts> {
    rows.chunks(PART_ROWS).map(move |chunk| part(chunk.to_vec()))
}

/// The parts of a snapshot as they come in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Assembly {
    wanted: Option<(Generation, Offset, u32)>,
    parts: BTreeMap<u32, Facts>,
}

impl Assembly {
    /// Takes a part up, and returns the snapshot with its `upto` once it is whole. Parts of an older one make way for
    /// those of a newer one, and never the other way round.
    pub fn take(&mut self, entry: &Entry) -> Option<(Offset, Facts)> {
        let Record::Snapshot { upto, part, of, facts, .. } = &entry.record else { return None };
        let offered = (entry.generation, *upto, *of);
        if self.wanted.is_some_and(|wanted| offered < wanted) || part >= of {
            return None;
        }
        if self.wanted != Some(offered) {
            *self = Self { wanted: Some(offered), parts: BTreeMap::new() };
        }
        self.parts.insert(*part, Facts::clone(facts));
        if u32::try_from(self.parts.len()) != Ok(*of) {
            return None;
        }
        let mut whole = Facts::default();
        for part in core::mem::take(&mut self.parts).into_values() {
            whole.merge(part);
        }
        Some((*upto, whole))
    }
}

impl Fold {
    /// Everything that the fold says.
    pub fn facts(&self) -> Facts {
        Facts {
            reign: self.reign,
            plan: self.plan.clone(),
            attempts: if mutants::is_planted(Mutant::SnapshotWithoutAttempts) {
                Vec::new()
            } else {
                self.attempts.iter().collect()
            },
            lives: self.lives.iter().map(|(at, life)| (at, life.clone())).collect(),
            ended: self.lives.ended().collect(),
            hellos: self.lives.hellos().collect(),
            partitions: self.partitions().collect(),
        }
    }

    /// The fold that said this at this position; `None` when it is none, because a partition in it is owned by nobody
    /// that lives (L4).
    pub fn of_facts(
        group: GroupName,
        generation: Generation,
        position: Offset,
        facts: Facts,
    ) -> Option<Self> {
        let mut fold = Self::new(group);
        fold.generation = Some(generation);
        fold.position = position;
        fold.reign = facts.reign;
        fold.plan = facts.plan;
        fold.attempts = facts.attempts.into_iter().collect();
        fold.lives = Lives::of_facts(facts.lives, facts.ended, facts.hellos);
        fold.partitions = facts.partitions.into_iter().collect();
        fold.owners_live().then_some(fold)
    }
}
