//! Benchmarks, with the `dist` profile: times of the planner, and its instructions, which are the same on a busy machine; the
//! ledger's part of a processor.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::needs;
use crate::run::{cargo, output, program, run};

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
    let work = build_work()?;
    let mut table =
        String::from("partitions  per consumer  instructions a decision, without the search\n");
    for (partitions, per_consumer) in GROUPS {
        let counted = instructions(&work, partitions, per_consumer)? / u64::from(DECISIONS + 1);
        writeln!(table, "{partitions:>10}  {per_consumer:>12}  {counted:>12}")?;
    }
    println!("\n{table}");
    run(cargo().args([
        "run",
        "--profile",
        "dist",
        "--package",
        "tidegate",
        "--",
        "bench",
        "planner",
    ]))?;
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

/// Builds the program that does the planner's work and nothing else: callgrind wants neither threads nor signals.
fn build_work() -> Result<String> {
    let mut command = cargo();
    command.args(["bench", "--profile", "dist", "--package", "tidegate-sim", "--bench", "planner"]);
    let messages = output(command.args(["--no-run", "--message-format", "json"]))?;
    let messages = messages.lines().map(serde_json::from_str::<Value>);
    let built =
        messages.filter_map(Result::ok).filter(|message| message["target"]["name"] == "planner");
    let mut programs =
        built.filter_map(|message| message["executable"].as_str().map(str::to_owned));
    programs.next_back().context("cargo names no program that it built")
}

/// What callgrind counts inside of the packer.
fn instructions(work: &str, partitions: &str, per_consumer: &str) -> Result<u64> {
    let mut command = program("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    command.args(["--toggle-collect=*solve_observed*", work, partitions, per_consumer]);
    let output = command.arg(DECISIONS.to_string()).output().context("failed to start valgrind")?;
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
