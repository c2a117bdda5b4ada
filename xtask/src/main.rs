//! `cargo xtask`: everything this repository asks of a developer's machine and of CI, one sub-command for each.
//!
//! It starts other programs and shows their output as it comes; each command line is printed before it runs. The only
//! thing it decides by itself is [`tidy`]. A stage that cannot do its work fails, it never passes over it in silence.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command line tool talks to its user"
)]

mod bench;
mod ci;
mod deny;
mod docs;
mod needs;
mod run;
mod servers;
mod stages;
mod tidy;

use std::env;
use std::process::ExitCode;

use anyhow::{Result, bail};

const USAGE: &str = "\
cargo xtask COMMAND

  ci              everything CI runs, in its order: fmt, tidy, clippy, test, doc, alone, deny, sim,
                  model, chaos, kube
  test [ARGS]     install or name what the tests need, then run all tests (ARGS go to `cargo test`)
  fmt [--fix]     is all code formatted? (--fix formats it)
  tidy            the repository's own rules: sizes, imports, layers, links, changelog, generated pages
  clippy          lints of all targets, warnings are errors
  doc             build the API documentation, warnings are errors
  alone           check that each crate builds by itself
  deny            licenses, duplicate and banned crates, sources
  image           the root folder of the image, built as the Dockerfile does, and the program run in it (needs root)
  sim [ARGS]      the simulator over 500 seeds, or with ARGS
  model [--deep]  the model checker over its configurations (--deep: larger ones, bounded), then over planted defects
  bench           the planner's times and instructions, and the ledger's part of a processor, in the dist profile
  chaos ARGS      real processes under real faults, then an audit: --broker embedded|kafka --minutes N [--seed S]
  kafka ARGS      a real Apache Kafka on this machine: up, status, stop, kill, down, wipe, tool, fetch
  postgres ARGS   a real PostgreSQL on this machine: up, status, kill, down, wipe, fetch
  s3 ARGS         a real S3 server on this machine: up, status, kill, down, wipe, fetch
  kube ARGS       a real Kubernetes on this machine: up, status, kill, down, wipe, kubectl, helm, fetch
  kube test ARGS  the tests on it; `ci` leaves out those that take a quarter of an hour (ARGS go to `cargo test`)
  kube bench      figures on it: how fast consumers are made, pauses of a rollout, the cost of a hundred at rest
  docs            write the pages under docs/ that are generated from code
  help            this text
";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match dispatch(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(arguments: &[String]) -> Result<ExitCode> {
    let Some((command, rest)) = arguments.split_first() else {
        eprint!("{USAGE}");
        return Ok(ExitCode::from(2));
    };
    match (command.as_str(), rest) {
        ("ci", []) => ci::run()?,
        ("test", _) => stages::test(rest)?,
        ("fmt", []) => stages::fmt(false)?,
        ("fmt", [fix]) if fix == "--fix" => stages::fmt(true)?,
        ("tidy", []) => tidy::run()?,
        ("clippy", []) => stages::clippy()?,
        ("doc", []) => stages::doc()?,
        ("alone", []) => stages::alone()?,
        ("deny", []) => deny::run()?,
        ("image", []) => stages::image()?,
        ("sim", _) => stages::sim(rest)?,
        ("model", _) => stages::model(rest)?,
        ("bench", []) => bench::run_all()?,
        ("chaos", _) => stages::chaos(rest)?,
        ("kafka", _) => return servers::KAFKA.forward(rest),
        ("postgres", _) => return servers::POSTGRES.forward(rest),
        ("s3", _) => return servers::S3.forward(rest),
        ("kube", [first, rest @ ..]) if first == "test" => stages::kube(rest)?,
        ("kube", [first]) if first == "bench" => stages::kube_bench()?,
        ("kube", _) => return servers::KUBE.forward(rest),
        ("docs", []) => docs::write()?,
        ("help" | "--help" | "-h", _) => print!("{USAGE}"),
        _ => bail!("no such command: {}\n\n{USAGE}", arguments.join(" ")),
    }
    Ok(ExitCode::SUCCESS)
}
