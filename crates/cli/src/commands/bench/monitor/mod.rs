//! `tidegate bench monitor`: how right the monitor measures, and what its rounds cost.
//!
//! ```text
//! ground       broker (a process of its own, or given), topics, the configuration of a monitor
//!   ├─ experiment   a producer that knows what it stores, and the monitor beside it ─► verdict ─► pages
//!   └─ scale        rounds over very many partitions, timed ─► one line
//! ```
//!
//! Both run the production monitor with its production ports: what they add looks on from outside.

mod experiment;
mod pages;
mod producer;
mod scale;
mod verdict;

use crate::args::MonitorBenchArgs;
use crate::failure::Exit;
use crate::output::{self, Output};
use crate::signals::Signals;

pub(super) async fn run(
    args: MonitorBenchArgs,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Exit> {
    let running = async {
        match args.partitions {
            Some(partitions) => Box::pin(scale::run(&args, partitions, output)).await,
            None => Box::pin(experiment::run(&args, output)).await,
        }
    };
    tokio::select! {
        done = running => done,
        () = signals.next() => {
            output::complain("interrupted: there is no result");
            Ok(Exit::Failed)
        }
    }
}
