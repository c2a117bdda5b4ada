//! Runs the model checker over its configurations and prints a line for each; a counterexample is printed as its path.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use tidegate_model::{Bounds, Findings, Promise, Reached, World, explore, scenarios};

const USAGE: &str = "usage: model [--deep] [CONFIGURATION]";

/// Bounds of one configuration of the larger kind. All of them together end within twenty minutes, and a state on the
/// frontier takes some kilobytes, so that this is what memory allows beside other work.
const DEEP_STATES: usize = 2_000_000;
const DEEP_TIME: Duration = Duration::from_secs(40);

/// What is asked for without which a run of all configurations says little.
const MUST_REACH: [Reached; 8] = Reached::ALL;

fn main() -> ExitCode {
    let (deep, words): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|word| word == "--deep");
    if words.len() > 1 || words.iter().any(|word| word.starts_with('-')) {
        let _unheard = writeln!(io::stderr(), "{USAGE}");
        return ExitCode::from(2);
    }
    match run(!deep.is_empty(), words.first().map(String::as_str)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _unheard = writeln!(io::stderr(), "failed to write: {error}");
            ExitCode::FAILURE
        }
    }
}

/// True when no promise was broken, and together the configurations reached what they must.
fn run(deep: bool, filter: Option<&str>) -> io::Result<bool> {
    let mut out = io::stdout();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (states, time) = if deep { (Some(DEEP_STATES), Some(DEEP_TIME)) } else { (None, None) };
    let promises: Vec<_> = Promise::ALL.iter().map(|promise| promise.name()).collect();
    writeln!(out, "properties: {}", promises.join(", "))?;
    writeln!(
        out,
        "{:<18} {:>9} {:>9} {:>5} {:>8}  outcome",
        "configuration", "states", "unique", "depth", "seconds"
    )?;
    let mut reached = BTreeSet::new();
    let mut kept = true;
    let mut unfinished = Vec::new();
    for scenario in scenarios(deep, filter) {
        let (findings, took) =
            timed(|| explore(World::new(scenario), Bounds { threads, states, time }));
        let bounded = states.is_some_and(|limit| findings.states >= limit)
            || time.is_some_and(|limit| took >= limit);
        report(&mut out, &findings, took, bounded)?;
        unfinished.extend(bounded.then_some(findings.name));
        kept &= findings.broken.is_empty();
        reached.extend(findings.reached);
    }
    if deep {
        let (all, which) = (scenarios(deep, filter).len(), unfinished.join(", "));
        let count = unfinished.len();
        writeln!(out, "{count} of {all} configurations were not explored to their end: {which}")?;
        return Ok(kept);
    }
    let missing: Vec<_> =
        MUST_REACH.iter().filter(|what| !reached.contains(what)).map(|what| what.name()).collect();
    if filter.is_none() && !missing.is_empty() {
        writeln!(out, "these must be reached somewhere and were nowhere: {}", missing.join(", "))?;
        return Ok(false);
    }
    Ok(kept)
}

#[expect(
    clippy::disallowed_methods,
    reason = "no Clock port here: the time is only shown to a person"
)]
fn timed(explore: impl FnOnce() -> Findings) -> (Findings, Duration) {
    let start = Instant::now();
    let findings = explore();
    (findings, start.elapsed())
}

fn report(
    out: &mut impl io::Write,
    findings: &Findings,
    took: Duration,
    bounded: bool,
) -> io::Result<()> {
    let Findings { name, states, unique, depth, reached, broken } = findings;
    let extent = if bounded { "bounded" } else { "exhaustive" };
    let outcome = if broken.is_empty() { format!("all hold, {extent}") } else { "BROKEN".into() };
    let reached: Vec<_> = reached.iter().map(|what| what.name()).collect();
    let seconds = took.as_secs_f64();
    writeln!(
        out,
        "{name:<18} {states:>9} {unique:>9} {depth:>5} {seconds:>8.1}  {outcome}; reached: {}",
        reached.join(", ")
    )?;
    for (promise, path) in broken {
        writeln!(out, "{} is broken by:\n{path}", promise.name())?;
    }
    Ok(())
}
