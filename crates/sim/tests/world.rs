//! The simulator keeps its own promises: it is deterministic, it reaches what it is for, and its auditors can fail.

use tidegate_sim::world::{LedgerLoss, Mutant, Outcome, Promise, Scenario, SinkKind, World};

fn run(scenario: Scenario, seed: u64) -> Outcome {
    World::new(scenario, seed).run()
}

/// True when this promise is the first to break in one of so many worlds.
fn breaks(scenario: &Scenario, promise: Promise, seeds: u64) -> bool {
    let mut outcomes = (0..seeds).map(|seed| run(scenario.clone(), seed));
    outcomes.any(|outcome| outcome.violation.is_some_and(|broken| broken.promise == promise))
}

fn mutant(mutant: Mutant) -> Scenario {
    let sink = match mutant {
        Mutant::EpochBlindSink => SinkKind::Epochs,
        Mutant::SilentSkip | Mutant::StepBack => SinkKind::Plain,
        _ => SinkKind::Chain,
    };
    Scenario { mutant: Some(mutant), sink, ..Scenario::stormy() }
}

#[test]
fn thirty_seeds_keep_every_promise() {
    for seed in 0..30 {
        let outcome = run(Scenario::for_seed(seed), seed);
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in [1, 3] {
        let (one, other) =
            (run(Scenario::for_seed(seed), seed), run(Scenario::for_seed(seed), seed));
        assert_eq!((one.trace_hash, one.stats), (other.trace_hash, other.stats));
    }
    assert_ne!(run(Scenario::calm(), 1).trace_hash, run(Scenario::calm(), 2).trace_hash);
}

#[test]
fn a_record_of_a_run_has_the_same_hash_as_the_run() {
    let recorded = World::new(Scenario::stormy(), 5).recorded().run();
    assert_eq!(recorded.trace_hash, run(Scenario::stormy(), 5).trace_hash);
    assert!(!recorded.lines.is_empty());
}

#[test]
fn where_nothing_goes_wrong_nobody_is_fenced_and_nobody_loses_office() {
    for seed in 0..20 {
        let outcome = run(Scenario { controllers: 1, ..Scenario::calm() }, seed);
        let stats = &outcome.stats;
        assert_eq!(outcome.violation, None, "seed {seed}");
        assert_eq!((stats.fences, stats.deaths, stats.lapses), (0, 0, 0), "seed {seed}: {stats:?}");
        assert_eq!((stats.takeovers, stats.unclean_exits), (0, 0), "seed {seed}: {stats:?}");
    }
}

#[test]
fn every_planted_defect_is_found_by_the_auditor_of_the_promise_that_it_breaks() {
    let expected = [
        (Mutant::WriteAfterStop, Promise::QuietAfterStop),
        (Mutant::BlindSink, Promise::ExactlyOnce),
        (Mutant::FalseDeath, Promise::OneClaim),
        (Mutant::SlowClock, Promise::OneClaim),
        (Mutant::FalseAcknowledgement, Promise::OneClaim),
        (Mutant::CredulousHello, Promise::Ledger),
        (Mutant::LateHello, Promise::Ledger),
        (Mutant::FenceWithoutBeat, Promise::Ledger),
        (Mutant::NoSeq, Promise::InOrder),
        (Mutant::EagerProgress, Promise::NothingLost),
        (Mutant::NoStop, Promise::Recovery),
        (Mutant::DeafLease, Promise::Lease),
        (Mutant::LostStop, Promise::Obedience),
        (Mutant::HastyRemoval, Promise::WorkersStay),
        (Mutant::EpochFromAcknowledgement, Promise::NothingInvented),
        (Mutant::FalseEnded, Promise::LifeRespected),
        (Mutant::LyingExit, Promise::CleanExit),
        (Mutant::SilentSkip, Promise::NothingSkipped),
        (Mutant::EpochBlindSink, Promise::StaleOwner),
        (Mutant::StepBack, Promise::Order),
        (Mutant::Flood, Promise::Bounded),
        (Mutant::HalfSizes, Promise::Measured),
        (Mutant::RisingAcknowledgement, Promise::Renewal),
        (Mutant::HastyElection, Promise::Patience),
        (Mutant::LostDrain, Promise::Obedience),
        (Mutant::LostStateQuery, Promise::Obedience),
        (Mutant::BoastfulSink, Promise::Recovery),
    ];
    for (planted, promise) in expected {
        assert!(breaks(&mutant(planted), promise, 60), "{planted:?} is not found");
    }
}

#[test]
fn every_way_to_lose_records_finds_a_defect_that_no_other_finds() {
    let expected = [
        (LedgerLoss::Truncation, Mutant::UnheardLoss, Promise::Lease),
        (LedgerLoss::Remake, Mutant::FirstAgain, Promise::Renewal),
        (LedgerLoss::Restore, Mutant::RestoreBlindReader, Promise::Ledger),
        (LedgerLoss::Overtaking, Mutant::GapBlindReader, Promise::Ledger),
    ];
    for (loss, planted, promise) in expected {
        let only = Scenario { losses: vec![loss], ..mutant(planted) };
        assert!(breaks(&only, promise, 100), "{loss:?} does not find {planted:?}");
        let others: Vec<_> = LedgerLoss::ALL.into_iter().filter(|other| *other != loss).collect();
        let without = Scenario { losses: others, ..mutant(planted) };
        assert!(!breaks(&without, promise, 20), "{planted:?} is found without {loss:?}");
    }
}
