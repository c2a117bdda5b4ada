//! The `tidegate` program: arguments, wiring, printing, exit codes. It decides nothing.
//!
//! ```text
//! arguments ─► a command ─► ports of `kafka`, `sinks`, `devbroker` ─► loops of `runtime`
//!                  │
//!                  └─► output (stdout: data; stderr: all else)
//! ```

mod args;
mod commands;
mod demo;
mod failure;
mod kubernetes;
mod output;
mod quantiles;
mod report;
mod setup;
mod signals;
mod wiring;

use std::process::ExitCode;

use clap::Parser as _;
use tidegate_runtime::telemetry::logging;

use crate::args::Cli;
use crate::failure::Exit;
use crate::output::Output;
use crate::signals::Signals;

/// A consumer's records come and go by the megabyte, from thread to thread. The C library's allocator gives such memory back to the
/// system and asks for it again, which cost as much as all the rest.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let ran = start();
    let exit = ran.unwrap_or_else(|error| {
        output::complain(&failure::describe(&error));
        failure::exit_of(&error)
    });
    ExitCode::from(exit as u8)
}

/// Signals are caught before anything else, so that a stop that comes early is as orderly as any other: the first
/// process of a container that ignores SIGTERM is killed.
fn start() -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("tidegate")
        .build()?;
    let signals = {
        let _entered = runtime.enter();
        Signals::install()?
    };
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => return Ok(output::usage(&usage)),
    };
    let format = cli.log_format.into();
    let said = cli.log.as_deref().filter(|filter| !filter.is_empty());
    logging::init(said.or(Some(cli.command.default_log())), format)?;
    let output = Output::new(cli.output);
    runtime.block_on(commands::run(cli.command, &output, signals))
}
