//! The fold against its table, record by record, on records that no process of a world would write.
//!
//! Worlds bring the records that production code writes, with everything that can happen to them on their way. Some rules
//! of the fold are there for records that only a defective or a much later version would write; here they are met.

use tidegate_core::ids::{
    BootId, ConsumerNumber, DirectoryId, Epoch, Generation, Incarnation, Offset, PartitionId,
    Position, ProcessId, Term, TopicId,
};
use tidegate_core::ledger::{
    Entry, Evidence, Fold, Hello, Ownership, PlanBody, Record, Seal, StopReason,
};

use super::controllers::group;
use super::shadow::{Held, Shadow};
use crate::rng::Rng;

/// Records in one duel: long enough for several reigns and lives, short enough to cost nothing beside a world.
const RECORDS: u64 = 120;

/// The first difference, if there is one.
pub(super) fn duel(rng: &mut Rng) -> Option<String> {
    let (mut fold, mut shadow) = (Fold::new(group()), Shadow::default());
    for at in 0..RECORDS {
        let entry = if at == 0 { genesis() } else { forged(rng, at, &fold) };
        let applied = fold.apply(Offset(at), &entry);
        shadow.apply(Offset(at), &entry);
        if let Some(difference) = difference(&fold, &shadow) {
            return Some(format!("{at}: {entry:?}, applied {applied:?}: {difference}"));
        }
    }
    None
}

pub(super) fn held(ownership: Ownership) -> Held {
    let active = matches!(ownership, Ownership::Active { .. });
    Held { owner: ownership.owner(), next: ownership.next(), active }
}

fn difference(fold: &Fold, shadow: &Shadow) -> Option<String> {
    let reign = fold.reign().map(|reign| (reign.term, reign.seq));
    if reign != shadow.reign() {
        return Some(format!("{reign:?} reigns, and by the table {:?}", shadow.reign()));
    }
    let lives: Vec<_> = fold.lives().iter().map(|(at, life)| (at, life.beat)).collect();
    let expected: Vec<_> = shadow.beats().collect();
    if lives != expected {
        return Some(format!("{lives:?} live, and by the table {expected:?}"));
    }
    let again = fold
        .generation()
        .and_then(|now| Fold::of_facts(group(), now, fold.position(), fold.facts()));
    if fold.generation().is_some() && again.as_ref() != Some(fold) {
        return Some("a fold made of its own facts is another fold".into());
    }
    fold.partitions().find_map(|(partition, ownership)| {
        let expected = shadow.held.get(&partition).copied().unwrap_or_default();
        (held(ownership) != expected)
            .then(|| format!("{partition} is {ownership:?}, and by the table {expected:?}"))
    })
}

const GENERATION: Generation = Generation(7);

fn genesis() -> Entry {
    Entry { generation: GENERATION, record: Record::Genesis { group: group(), first: true } }
}

/// A record of any kind: mostly one that could be valid, about things that exist.
fn forged(rng: &mut Rng, at: u64, fold: &Fold) -> Entry {
    let present = fold.generation().unwrap_or(GENERATION).0;
    let generation = Generation(present - u64::from(rng.chance(30)));
    if rng.chance(15) {
        let generation = Generation(present + rng.below(2));
        return Entry { generation, record: Record::Genesis { group: group(), first: false } };
    }
    let record = match rng.below(14) {
        0 if rng.chance(500) => Record::Elect { process: process(rng), attempt: small(rng, 3) },
        0 | 1 => Record::Tick { seal: seal(rng, fold) },
        2 => Record::Plan { seal: seal(rng, fold), plan: PlanBody::default() },
        3 | 12 | 13 => Record::Hello(hello(rng, at)),
        4 => Record::Heartbeat {
            consumer: consumer(rng),
            incarnation: incarnation(rng, at, fold),
            seq: rng.below(6),
            heard: Offset(0),
            figures: Vec::new(),
        },
        5 | 6 => Record::Grant {
            seal: seal(rng, fold),
            consumer: consumer(rng),
            incarnation: incarnation(rng, at, fold),
            partitions: (0..2).map(|_| (partition(rng), position(rng))).collect(),
        },
        7 | 8 => started_or_progress(rng, at, fold),
        9 => stopped(rng, at, fold),
        10 => Record::Fenced {
            seal: seal(rng, fold),
            incarnation: incarnation(rng, at, fold),
            beat: rng.below(4),
            evidence: if rng.chance(300) { Evidence::Death } else { Evidence::Silence },
        },
        _ if rng.chance(200) => {
            Record::Goodbye { incarnation: incarnation(rng, at, fold), clean: true }
        }
        _ => Record::Tick { seal: seal(rng, fold) },
    };
    Entry { generation, record }
}

fn started_or_progress(rng: &mut Rng, at: u64, fold: &Fold) -> Record {
    let (partition, epoch, incarnation) = owned(rng, at, fold);
    if rng.chance(500) {
        Record::Started { incarnation, partitions: vec![(partition, epoch)] }
    } else {
        Record::Progress { incarnation, partitions: vec![(partition, epoch, position(rng))] }
    }
}

fn stopped(rng: &mut Rng, at: u64, fold: &Fold) -> Record {
    let (partition, epoch, incarnation) = owned(rng, at, fold);
    let next = rng.chance(700).then(|| position(rng));
    let reason = StopReason::Command;
    Record::Stopped { incarnation, partitions: vec![(partition, epoch, next)], reason }
}

/// Mostly an owner as it is; else one that could be.
fn owned(rng: &mut Rng, at: u64, fold: &Fold) -> (PartitionId, Epoch, Incarnation) {
    let partition = partition(rng);
    let owner = fold.ownership(partition).owner();
    let (epoch, owner) =
        owner.unwrap_or_else(|| (Epoch(Offset(rng.below(at))), incarnation(rng, at, fold)));
    let epoch = if rng.chance(150) { Epoch(Offset(rng.below(at))) } else { epoch };
    let owner = if rng.chance(150) { incarnation(rng, at, fold) } else { owner };
    (partition, epoch, owner)
}

fn small(rng: &mut Rng, limit: u64) -> u32 {
    u32::try_from(rng.below(limit)).unwrap_or(0) + 1
}

fn process(rng: &mut Rng) -> ProcessId {
    ProcessId(u128::from(rng.below(4)))
}

fn consumer(rng: &mut Rng) -> ConsumerNumber {
    ConsumerNumber::new(small(rng, 2)).unwrap_or(ConsumerNumber::FIRST)
}

fn partition(rng: &mut Rng) -> PartitionId {
    PartitionId { topic: TopicId([7; 16]), number: small(rng, 3) }
}

fn position(rng: &mut Rng) -> Position {
    Position(rng.below(20))
}

fn seal(rng: &mut Rng, fold: &Fold) -> Seal {
    let reign = fold.reign().map_or((Term(Offset(0)), 0), |reign| (reign.term, reign.seq));
    let term = if rng.chance(50) { Term(Offset(rng.below(20))) } else { reign.0 };
    Seal { term, seq: (reign.1 + 1).saturating_sub(u64::from(rng.chance(200))) }
}

fn incarnation(rng: &mut Rng, at: u64, fold: &Fold) -> Incarnation {
    let living: Vec<_> = fold.lives().iter().map(|(incarnation, _)| incarnation).collect();
    match rng.pick(&living) {
        Some(incarnation) if !rng.chance(100) => *incarnation,
        _ => Incarnation(Offset(rng.below(at))),
    }
}

fn hello(rng: &mut Rng, at: u64) -> Hello {
    Hello {
        consumer: consumer(rng),
        process: process(rng),
        attempt: small(rng, 9),
        seen: Offset(at.saturating_sub(rng.below(12))),
        boot: rng.chance(800).then(|| BootId(u128::from(rng.below(2)))),
        directory: rng.chance(800).then(|| DirectoryId(u128::from(rng.below(2)))),
        clean: false,
        persisted: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fold_and_its_table_agree_on_records_that_nobody_would_write() {
        for seed in 0..2_000 {
            assert_eq!(duel(&mut Rng::new(seed)), None, "seed {seed}");
        }
    }

    #[test]
    fn forged_records_take_effect_often_enough_to_mean_something() {
        let mut applied = 0;
        for seed in 0..100 {
            let (mut rng, mut fold) = (Rng::new(seed), Fold::new(group()));
            for at in 0..RECORDS {
                let entry = if at == 0 { genesis() } else { forged(&mut rng, at, &fold) };
                applied += u64::from(fold.apply(Offset(at), &entry).is_ok());
            }
        }
        let all = 100 * RECORDS;
        assert!(applied > all / 5, "{applied} of {all}");
    }
}
