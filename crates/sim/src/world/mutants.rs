//! What a defective fold makes of a record: the record that a correct fold would treat so.

use tidegate_core::ids::Offset;
use tidegate_core::ledger::{Entry, Evidence, Fold, Record};

use super::Mutant;

/// The record that stands for `entry` before a fold with this defect.
pub(super) fn twist(mutant: Option<Mutant>, fold: &Fold, at: Offset, entry: &Entry) -> Entry {
    let mut twisted = entry.clone();
    match (mutant, &mut twisted.record) {
        (Some(Mutant::CredulousHello), Record::Hello(hello)) => {
            let incumbent =
                fold.lives().current(hello.consumer).and_then(|at| fold.lives().get(at));
            if let Some(life) = incumbent {
                (hello.boot, hello.directory) = (life.boot, life.directory);
            }
        }
        (Some(Mutant::LateHello), Record::Hello(hello)) => hello.seen = at,
        (Some(Mutant::FenceWithoutBeat), Record::Fenced { evidence, .. }) => {
            *evidence = Evidence::Death;
        }
        (
            Some(Mutant::NoSeq),
            Record::Tick { seal }
            | Record::Plan { seal, .. }
            | Record::Grant { seal, .. }
            | Record::Fenced { seal, .. },
        ) => {
            if let Some(reign) = fold.reign().filter(|reign| reign.term == seal.term) {
                seal.seq = reign.seq + 1;
            }
        }
        _ => {}
    }
    twisted
}
