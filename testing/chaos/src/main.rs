//! `cargo xtask chaos`: real processes of a group under real faults, and an audit of every record.
//!
//! ```text
//!            ┌ load generator ──► brokers (embedded, or three nodes of Apache Kafka)
//!            │                      ▲  ▲
//! this       ├ proxies ─────────────┘  │
//! process    │    ▲                    │
//!            ├ staff: starts, restarts, kills, stops ─► monitor, two controllers, consumers ──► sink
//!            ├ lanes of faults                                                                   │
//!            └ observer of the ledger; at the end, the audit ◄───────────────────────────────────┘
//! ```
//!
//! The processes are the `tidegate` binary, unchanged. What decides the verdict is read from the sink and compared with
//! what was acknowledged to the load generator.

mod args;
mod broker;
mod fault;
mod folder;
mod observed;
mod observer;
mod output;
mod process;
mod proof;
mod proxy;
mod random;
mod report;
mod run;
mod schedule;
mod setting;
mod signals;
mod staff;
mod stage;
mod status;
mod tally;
mod world;

use std::process::ExitCode;

use clap::Parser as _;
use tidegate_runtime::telemetry::logging;

use crate::args::Args;
use crate::signals::Signals;

fn main() -> ExitCode {
    let args = Args::parse();
    match start(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output::say(&format!("chaos: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn start(args: &Args) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .thread_name("chaos")
        .build()?;
    logging::init(Some("warn"), logging::Format::Text)?;
    runtime.block_on(async {
        let signals = Signals::install()?;
        run::run(args, signals).await
    })
}
