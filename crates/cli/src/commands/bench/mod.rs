//! `tidegate bench`: what parts of Tidegate cost on this machine, and how well they measure. Production code is timed, not a copy.

mod consumer;
mod figures;
mod ground;
mod monitor;
mod planner;
mod sink;
mod usage;

pub(crate) use self::consumer::Peer;
use crate::args::BenchCommand;
use crate::failure::Exit;
use crate::output::Output;
use crate::signals::Signals;

pub(super) async fn run(
    command: BenchCommand,
    output: &Output,
    signals: Signals,
) -> anyhow::Result<Exit> {
    match command {
        BenchCommand::Planner(args) => planner::run(args, output, signals).await,
        BenchCommand::Consumer(args) => Box::pin(consumer::run(&args, output, signals)).await,
        BenchCommand::Sink(args) => Box::pin(sink::run(&args, output, signals)).await,
        BenchCommand::ConsumeOnce(args) => consumer::once(&args, output).await,
        BenchCommand::Monitor(args) => Box::pin(monitor::run(args, output, signals)).await,
    }
}
