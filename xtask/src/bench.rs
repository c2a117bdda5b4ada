//! Benchmarks, with the `dist` profile: times of the planner, and its instructions, which are the same on a busy machine; the
//! ledger's part of a processor.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::{Context, Result};

use crate::needs;
use crate::run::{cargo, program, run, target_directory};

/// Partitions, and so many of them for each consumer.
const GROUPS: [(&str, &str); 6] = [
    ("1000", "2"),
    ("1000", "50"),
    ("10000", "2"),
    ("10000", "50"),
    ("100000", "2"),
    ("100000", "50"),
];

/// Decisions after the first that are counted: enough that the first does not hide them.
const DECISIONS: u32 = 9;

/// Runs them all.
pub(crate) fn run_all() -> Result<()> {
    needs::provide_valgrind()?;
    run(cargo().args(["build", "--profile", "dist", "--package", "tidegate"]))?;
    let tidegate = format!("{}/dist/tidegate", target_directory()?);
    run(program(&tidegate).args(["bench", "planner"]))?;
    let mut table =
        String::from("partitions  per consumer  instructions a decision, without the search\n");
    for (partitions, per_consumer) in GROUPS {
        let counted = instructions(&tidegate, partitions, per_consumer)? / u64::from(DECISIONS + 1);
        writeln!(table, "{partitions:>10}  {per_consumer:>12}  {counted:>12}")?;
    }
    println!("\n{table}");
    run(cargo().args([
        "bench",
        "--profile",
        "dist",
        "--package",
        "tidegate-wire",
        "--bench",
        "ledger",
    ]))
}

/// What callgrind counts inside of the packer.
fn instructions(tidegate: &str, partitions: &str, per_consumer: &str) -> Result<u64> {
    let mut command = Command::new("valgrind");
    command.args([
        "--tool=callgrind",
        "--callgrind-out-file=/dev/null",
        "--toggle-collect=*pack::solve_observed*",
    ]);
    command.arg(tidegate).args(["bench", "planner", "--budget", "0s", "--preset", "calm"]);
    command.args(["--partitions", partitions, "--per-consumer", per_consumer]);
    command.args(["--decisions", &DECISIONS.to_string()]);
    let output = command.output().context("failed to start valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    collected(&said).with_context(|| format!("valgrind counted nothing: {}", said.trim()))
}

/// The number in callgrind's last words.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected"))?;
    line.rsplit(' ').next()?.parse().ok().filter(|count| *count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_and_none_at_all_is_no_count() {
        let said = "==1== Events    : Ir\n==1== Collected : 123456\n==1==\n";
        assert_eq!(collected(said), Some(123_456));
        assert_eq!(collected("==1== Collected : 0"), None);
        assert_eq!(collected("valgrind: no such program"), None);
    }
}
