//! Every planted defect is found, in a small configuration and by the promise that it breaks. One that survives fails.

use std::sync::{Mutex, PoisonError};

use tidegate_core::mutants::{Mutant, plant};
use tidegate_model::{Bounds, Promise, World, explore, scenarios};

/// One defect at a time is in force in the whole process.
static PLANTED: Mutex<()> = Mutex::new(());

/// No configuration is larger; a defect that is not found within so many states survives.
const STATES: usize = 5_000_000;

/// Explores a configuration with a defect in force, or none, until this promise is broken.
fn breaks(mutant: Option<Mutant>, configuration: &str, promise: Promise) -> Option<String> {
    let _alone = PLANTED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut found = scenarios(false, Some(configuration));
    assert_eq!(found.len(), 1, "{configuration} names one configuration");
    // States before the first action are without the defect: it strikes where it is looked for.
    plant(mutant);
    let world = World::new(found.remove(0)).only(promise);
    let findings = explore(world, Bounds { threads: 2, states: Some(STATES), time: None });
    plant(None);
    findings.broken.into_iter().next().map(|(_, path)| path)
}

fn dies(mutant: Mutant, configuration: &str, promise: Promise) {
    let path = breaks(Some(mutant), configuration, promise);
    assert!(path.is_some(), "{mutant:?} survives {promise:?} in {configuration}");
}

#[test]
fn start_before_read_back_dies_by_k1() {
    dies(Mutant::StartBeforeReadBack, "first grant", Promise::K1);
}

#[test]
fn no_incarnation_check_dies_by_p3() {
    dies(Mutant::NoIncarnationCheck, "two of one number", Promise::P3);
}

#[test]
fn a_lease_of_the_assignment_dies_by_p3() {
    dies(Mutant::LeaseOfAssignment, "late Start", Promise::P3);
}

#[test]
fn a_heartbeat_without_hearing_dies_by_p5() {
    dies(Mutant::BeatWithoutHearing, "one-way link", Promise::P5);
}

#[test]
fn a_lease_that_does_not_count_the_hello_dies_by_p3() {
    dies(Mutant::LeaseWithoutHello, "late answer", Promise::P3);
}

#[test]
fn no_answer_for_a_barred_epoch_dies_by_p5() {
    dies(Mutant::NoAnswerForBarred, "barred", Promise::P5);
}

#[test]
fn a_hello_that_frees_without_evidence_dies_by_p3() {
    dies(Mutant::HelloWithoutEvidence, "two of one number", Promise::P3);
}

#[test]
fn a_late_hello_dies_by_p1() {
    dies(Mutant::LateHello, "late Hello", Promise::P1);
}

#[test]
fn no_seq_dies_by_p4() {
    dies(Mutant::NoSeq, "hand-off", Promise::P4);
}

#[test]
fn a_grant_of_what_is_owned_dies_by_p1() {
    dies(Mutant::GrantWhatIsOwned, "forgery", Promise::P1);
}

#[test]
fn a_fence_without_beat_dies_by_p1() {
    dies(Mutant::FenceWithoutBeat, "clocks", Promise::P1);
}

#[test]
fn an_epoch_taken_from_an_acknowledgement_dies_by_k1() {
    dies(Mutant::EpochOfAcknowledgement, "grants", Promise::K1);
}

#[test]
fn a_sink_that_does_not_compare_dies_by_p2() {
    dies(Mutant::SinkWithoutCompare, "chain", Promise::P2);
}

#[test]
fn a_grant_at_once_in_a_new_generation_dies_by_p3() {
    dies(Mutant::GrantAtOnce, "stalled at a loss", Promise::P3);
}

#[test]
fn a_pause_that_heartbeats_of_an_older_generation_do_not_renew_dies_by_p3() {
    dies(Mutant::PauseOnce, "lost tail", Promise::P3);
}

#[test]
fn going_on_in_an_older_generation_dies_by_p5() {
    dies(Mutant::GoOnInOlderGeneration, "lost tail", Promise::P5);
}

#[test]
fn a_snapshot_without_attempts_dies_by_p1() {
    dies(Mutant::SnapshotWithoutAttempts, "snapshot", Promise::P1);
}

#[test]
fn without_a_defect_the_same_promises_hold() {
    for (configuration, promise) in
        [("forgery", Promise::P1), ("one-way link", Promise::P5), ("lost tail", Promise::P3)]
    {
        assert_eq!(breaks(None, configuration, promise), None, "{configuration}");
    }
}
