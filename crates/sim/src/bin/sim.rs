//! Runs the simulator over many seeds, prints one line, and writes down what happened where a promise was broken.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use tidegate_sim::world::{Outcome, Scenario, Stats, World};

const USAGE: &str = "usage: sim [--seeds N] [--seed S] [--log DIR] [--verbose]";

/// Worlds when nobody says how many: as many as CI runs.
const SEEDS: u64 = 500;

/// From so many worlds on, everything that a simulator is for must happen in some of them.
const ENOUGH: u64 = 100;

/// What was asked for.
#[derive(Debug)]
struct Arguments {
    first: u64,
    seeds: u64,
    single: bool,
    verbose: bool,
    log: PathBuf,
}

/// All worlds together.
#[derive(Debug, Default)]
struct Summary {
    worlds: u64,
    violations: u64,
    slowest_recovery: Duration,
    slowest_seed: u64,
    stats: Stats,
}

fn main() -> ExitCode {
    let Some(arguments) = arguments(std::env::args().skip(1)) else {
        eprint(USAGE);
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprint(&format!("failed to write: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn eprint(line: &str) {
    // Where nobody listens there is nobody to tell.
    let _unheard = writeln!(io::stderr(), "{line}");
}

/// A seed alone is one run, whose events are written down whatever happens; with a number it is the first of so many.
fn arguments(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let (mut first, mut seeds, mut verbose) = (None, None, false);
    let mut log = PathBuf::from("target/sim");
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seeds" => seeds = Some(words.next()?.parse().ok()?),
            "--seed" => first = Some(words.next()?.parse().ok()?),
            "--log" => log = PathBuf::from(words.next()?),
            "--verbose" => verbose = true,
            _ => return None,
        }
    }
    let single = first.is_some() && seeds.is_none();
    let seeds = seeds.unwrap_or(if single { 1 } else { SEEDS });
    Some(Arguments { first: first.unwrap_or(0), seeds, single, verbose, log })
}

/// True when no promise was broken and nothing that must happen somewhere happened nowhere.
fn run(arguments: &Arguments) -> io::Result<bool> {
    let mut summary = Summary::default();
    for seed in (arguments.first..).take(usize::try_from(arguments.seeds).unwrap_or(usize::MAX)) {
        let outcome = World::new(Scenario::for_seed(seed), seed).run();
        if arguments.verbose {
            writeln!(
                io::stdout(),
                "seed {seed} hash {:016x} {:?}",
                outcome.trace_hash,
                outcome.stats
            )?;
        }
        if outcome.violation.is_some() || arguments.single {
            write_down(&arguments.log, &outcome)?;
        }
        summary.add(&outcome);
    }
    writeln!(io::stdout(), "{}", summary.line())?;
    let missing = summary.missing();
    if arguments.seeds >= ENOUGH && !missing.is_empty() {
        eprint(&format!("these must happen somewhere and did nowhere: {}", missing.join(", ")));
        return Ok(false);
    }
    Ok(summary.violations == 0)
}

/// Runs a world once more, and keeps every word of it.
fn write_down(log: &Path, outcome: &Outcome) -> io::Result<()> {
    let seed = outcome.seed;
    std::fs::create_dir_all(log)?;
    let path = log.join(format!("seed-{seed}.jsonl"));
    let mut file = BufWriter::new(File::create(&path)?);
    for line in World::new(Scenario::for_seed(seed), seed).recorded().run().lines {
        serde_json::to_writer(&mut file, &line)?;
        file.write_all(b"\n")?;
    }
    file.flush()?;
    if let Some(violation) = &outcome.violation {
        eprint(&format!("seed {seed}: {violation}"));
        eprint(&format!(
            "seed {seed}: run it again with: cargo xtask sim --seed {seed}; read it with: tidegate replay {}",
            path.display()
        ));
    }
    eprint(&format!("seed {seed}: events are in {}", path.display()));
    Ok(())
}

impl Summary {
    fn add(&mut self, outcome: &Outcome) {
        self.worlds += 1;
        self.violations += u64::from(outcome.violation.is_some());
        let took = outcome.stats.recovered_after;
        if let Some(took) = took.filter(|took| *took > self.slowest_recovery) {
            (self.slowest_recovery, self.slowest_seed) = (took, outcome.seed);
        }
        self.stats.add(&outcome.stats);
    }

    fn line(&self) -> String {
        let stats = &self.stats;
        let counted = [
            ("seeds", self.worlds),
            ("events", stats.events),
            ("faults", stats.faults.values().sum()),
            ("handoffs", stats.handoffs),
            ("recoveries", stats.recoveries),
            ("fences", stats.fences),
            ("deaths", stats.deaths),
            ("takeovers", stats.takeovers),
            ("snapshots", stats.snapshots),
            ("trims", stats.trims),
            ("losses", stats.losses_noticed),
            ("renewals", stats.renewals),
            ("overtaken", stats.overtaken),
            ("lapses", stats.lapses),
            ("writes", stats.writes),
            ("gaps", stats.gaps),
            ("api_failures", stats.api_failures),
            ("violations", self.violations),
        ];
        let counted = counted.map(|(name, count)| format!("{name}={count}")).join(" ");
        let slowest = self.slowest_recovery.as_millis();
        let (seed, ignored, faults) = (self.slowest_seed, &stats.ignored, &stats.faults);
        format!(
            "{counted}\nslowest_recovery_ms={slowest} (seed {seed})\nfaults={faults:?}\nignored={ignored:?}"
        )
    }

    /// What a simulator must reach to be worth its time, and this one did not.
    fn missing(&self) -> Vec<&'static str> {
        let stats = &self.stats;
        let reached = [
            ("hand-off", stats.handoffs),
            ("recovery", stats.recoveries),
            ("fence", stats.fences),
            ("fence on proof", stats.deaths),
            ("take-over", stats.takeovers),
            ("Hello with proof", stats.hellos_with_proof),
            ("lapse", stats.lapses),
            ("snapshot", stats.snapshots),
            ("trim", stats.trims),
            ("loss that a reader noticed", stats.losses_noticed),
            ("generation begun anew", stats.renewals),
            ("reader that was overtaken", stats.overtaken),
            ("life in a generation that was over", stats.misled),
            ("answer to StateQuery", stats.states),
            ("Drain", stats.drains),
            ("evacuation before somebody was ready", stats.withdrawals),
            ("sink behind the ledger", stats.sinks_behind),
            ("unclean exit", stats.unclean_exits),
            ("refused write", stats.refused_writes),
            ("repeated record", stats.repeated),
            ("partition out of range", stats.out_of_range),
            ("gap", stats.gaps),
            ("failure of the API", stats.api_failures),
            ("alarm", stats.alarms),
        ];
        reached.into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect()
    }
}
