//! One module for each command: it reads its arguments, calls the parts that do the work, and prints the result.

mod audit;
mod bench;
mod config;
mod crd;
mod dev_broker;
mod docs;
mod ledger;
pub(crate) mod load;
mod message;
mod monitor;
mod operator;
mod plan;
mod processes;
mod replay;
mod service;
mod simulate;
mod sink;
mod status;
mod table;
mod tail;
mod topics;
mod work;

pub(crate) use self::bench::Peer;
use crate::args::Command;
use crate::demo;
use crate::failure::Exit;
use crate::output::{Gone, Output};
use crate::signals::Signals;

/// Runs a command until it is done or the process is told to end.
pub(crate) async fn run(
    command: Command,
    output: &Output,
    signals: Signals,
) -> anyhow::Result<Exit> {
    let ran = match command {
        Command::Demo(args) => Box::pin(demo::run(args, output, signals)).await,
        Command::Topics(command) => topics::run(command, output).await,
        Command::Monitor(args) => Box::pin(monitor::run(args, output, signals)).await,
        Command::Controller(args) => Box::pin(processes::controller(args, signals)).await,
        Command::Consumer(args) => Box::pin(processes::consumer(args, signals)).await,
        Command::Status(args) => status::run(&args, output).await,
        Command::Tail(args) => tail::run(args, output, signals).await,
        Command::Ledger(command) => ledger::run(command, output).await,
        Command::Service(command) => service::run(command, output).await,
        Command::Config(command) => config::run(command, output),
        Command::Crd => crd::run(output),
        Command::DevBroker(args) => dev_broker::run(&args, output, signals).await,
        Command::Load(args) => load::run(args, output, signals).await,
        Command::Audit(args) => audit::run(&args, output).await,
        Command::Sink(command) => sink::run(command, output).await,
        Command::Replay(args) => replay::run(&args, output),
        Command::Plan(args) => plan::run(&args, output),
        Command::Simulate(command) => simulate::run(command, output, signals).await,
        Command::Bench(command) => bench::run(command, output, signals).await,
        Command::GenerateDocs { directory } => docs::run(&directory),
    };
    match ran {
        // Whoever read our output has what they wanted, as with `tidegate tail | head`.
        Err(error) if error.is::<Gone>() => Ok(Exit::Done),
        other => other,
    }
}
