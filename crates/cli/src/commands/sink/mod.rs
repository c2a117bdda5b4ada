//! `tidegate sink`: what an object sink holds, read back in order, listed, or checked.
//!
//! What is wrong with a chain is told on standard error and in the exit code, and the rest is read on: a person with a
//! damaged object wants the others.

mod read;
mod verify;

use tidegate_runtime::ports::TopicPartition;
use tidegate_sinks::object::ObjectReader;

use crate::args::{SinkCommand, SinkSelection};
use crate::failure::{Exit, Refused};
use crate::output::Output;
use crate::wiring;

pub(super) async fn run(command: SinkCommand, output: &Output) -> anyhow::Result<Exit> {
    match command {
        SinkCommand::Read(args) if args.list => read::list(&args, output).await,
        SinkCommand::Read(args) => read::records(&args, output).await,
        SinkCommand::Verify(args) => verify::run(&args, output).await,
    }
}

/// Opens the sink, and finds the partitions that were asked for.
async fn select(args: &SinkSelection) -> anyhow::Result<(ObjectReader, Vec<TopicPartition>)> {
    let reader = tidegate_sinks::open_reader(&args.url, wiring::clock()).await?;
    let mut partitions = reader.partitions().await?;
    partitions.retain(|partition| {
        args.topic.as_ref().is_none_or(|topic| *topic == partition.topic)
            && args.partition.is_none_or(|number| number == partition.id.number)
    });
    if partitions.is_empty() && (args.topic.is_some() || args.partition.is_some()) {
        let text = "the sink has no such partition: leave --topic and --partition out to see all";
        return Err(Refused::input(args.url.as_ref(), text).into());
    }
    Ok((reader, partitions))
}

/// A partition as people write it.
fn shown(partition: &TopicPartition) -> String {
    format!("{}-{}", partition.topic, partition.id.number)
}
