//! `tidegate simulate`: planners over streams of loads, without a cluster. The simulations are those of `tidegate-sim`; here their input
//! is read, their progress is told, and their figures are printed.

mod compare;
mod frequency;
mod golden;
mod group;
pub(super) mod input;
mod latency;
mod pages;

use super::{table, work};
use crate::args::SimulateCommand;
use crate::failure::Exit;
use crate::output::Output;
use crate::signals::Signals;

pub(super) async fn run(
    command: SimulateCommand,
    output: &Output,
    signals: Signals,
) -> anyhow::Result<Exit> {
    match command {
        SimulateCommand::Golden { file } => golden::run(&file, output),
        SimulateCommand::Stream(args) => {
            output.data(&input::made(args.recipe, &args.shape, input::Usual::COMPARE)?.to_csv())?;
            Ok(Exit::Done)
        }
        SimulateCommand::Compare(args) => compare::run(args, output, signals).await,
        SimulateCommand::Latency(args) => latency::run(args, output, signals).await,
        SimulateCommand::Frequency(args) => frequency::run(args, output, signals).await,
    }
}
