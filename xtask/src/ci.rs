//! `cargo xtask ci`: the stages in the order in which they find faults soonest, with the time each took.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::servers::KUBE;
use crate::{deny, needs, stages, tidy};

enum Outcome {
    Passed,
    /// There is nothing to run yet, for the reason given. Shown, so that it is no silent skip.
    Missing(&'static str),
}

type Stage = (&'static str, fn() -> Result<Outcome>);

/// What is quick and fails often comes first.
const STAGES: [Stage; 11] = [
    ("fmt", || passed(stages::fmt(false))),
    ("tidy", || passed(tidy::run())),
    ("clippy", || passed(stages::clippy())),
    ("test", || passed(stages::test(&[]))),
    ("doc", || passed(stages::doc())),
    ("alone", || passed(stages::alone())),
    ("deny", || passed(deny::run())),
    ("sim", sim),
    ("model", || passed(stages::model(&[]))),
    ("chaos", || passed(stages::chaos_in_ci())),
    ("kube", kube),
];

/// Runs all stages; the first that fails ends the run.
pub(crate) fn run() -> Result<()> {
    let mut table = Vec::new();
    let result = STAGES.iter().try_for_each(|(name, stage)| {
        eprintln!("\n=== {name} ===");
        let (outcome, time) = timed(*stage);
        let shown = match &outcome {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::Missing(why)) => format!("NOT RUN: {why}"),
            Err(_) => "FAILED".to_owned(),
        };
        table.push((*name, time, shown));
        outcome.map(drop).with_context(|| format!("stage {name} failed"))
    });
    report(&table);
    result
}

fn sim() -> Result<Outcome> {
    if stages::has_simulator()? {
        return passed(stages::sim(&[]));
    }
    Ok(Outcome::Missing("the package tidegate-sim has no binary `sim`"))
}

/// Its first build takes too long beside the other stages: it is used where it is there.
fn kube() -> Result<Outcome> {
    if !KUBE.is_built()? {
        return Ok(Outcome::Missing(
            "Kubernetes is not built yet: `cargo xtask kube fetch` builds it once",
        ));
    }
    if needs::can_make_pods() {
        return passed(stages::kube_in_ci());
    }
    Ok(Outcome::Missing(
        "pods are processes in namespaces, which nobody but root can make, and not everywhere",
    ))
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

#[expect(
    clippy::disallowed_methods,
    reason = "no Clock port here: the time is only shown to a person"
)]
fn timed(stage: fn() -> Result<Outcome>) -> (Result<Outcome>, Duration) {
    let start = Instant::now();
    let outcome = stage();
    (outcome, start.elapsed())
}

fn report(table: &[(&str, Duration, String)]) {
    println!("\n{:<8} {:>8}  outcome", "stage", "seconds");
    for (name, time, shown) in table {
        println!("{name:<8} {:>8.1}  {shown}", time.as_secs_f64());
    }
    let total: Duration = table.iter().map(|(_, time, _)| *time).sum();
    println!("{:<8} {:>8.1}", "all", total.as_secs_f64());
    for (name, ..) in STAGES.iter().skip(table.len()) {
        println!("{name:<8} {:>8}  not reached", "");
    }
}
