//! `tidegate sink read`: the records of a sink, or its objects.

use anyhow::Context as _;
use serde::Serialize;
use tidegate_core::ids::Position;
use tidegate_runtime::ports::TopicPartition;
use tidegate_sinks::ndjson::Line;
use tidegate_sinks::object::format::{Extent, Header};
use tidegate_sinks::object::{Encoding, Link, Object};

use super::{select, shown};
use crate::args::SinkReadArgs;
use crate::failure::Exit;
use crate::output::{Output, complain};

/// An object of a list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row<'a> {
    topic: &'a str,
    topic_id: String,
    partition: u32,
    position: u64,
    start: u64,
    end: u64,
    records: u64,
    lines_bytes: u64,
    object_bytes: u64,
    encoding: &'static str,
    generation: u64,
    epoch: u64,
    written_ms: u64,
}

/// The records, as they are kept: lines of JSON whatever results look like.
pub(super) async fn records(args: &SinkReadArgs, output: &Output) -> anyhow::Result<Exit> {
    let (reader, partitions) = select(&args.selection).await?;
    let mut exit = Exit::Done;
    for partition in &partitions {
        let mut chain = reader.chain_from(partition, Position(args.from)).await?;
        while let Some(link) = chain.next().await? {
            match link {
                Link::Object(object) if object.header.end.0 <= args.from => {}
                Link::Object(object) => print(&object, args.from, output)?,
                Link::Fault(fault) => {
                    complain(&format!("{}: {fault}", shown(partition)));
                    exit = Exit::Failed;
                }
            }
        }
    }
    Ok(exit)
}

/// Prints the lines of an object from an offset on.
fn print(object: &Object, from: u64, output: &Output) -> anyhow::Result<()> {
    let text = std::str::from_utf8(object.body())
        .with_context(|| format!("the object at {} is not text", object.header.position.0))?;
    if object.header.start.0 >= from {
        return if text.is_empty() { Ok(()) } else { output.data(text) };
    }
    for line in text.lines() {
        // What cannot be read has no offset; `verify` names it.
        let is_before = Line::parse(line.as_bytes()).is_ok_and(|line| line.offset < from);
        if !is_before {
            output.data(line)?;
        }
    }
    Ok(())
}

/// The objects, one in a line.
pub(super) async fn list(args: &SinkReadArgs, output: &Output) -> anyhow::Result<Exit> {
    let (reader, partitions) = select(&args.selection).await?;
    let mut exit = Exit::Done;
    for partition in &partitions {
        if !output.is_json() {
            let topic = partition.id.topic;
            output.data(&format!("{} of topic {topic}\n{}", shown(partition), heads()))?;
        }
        let mut chain = reader.chain_from(partition, Position(args.from)).await?;
        while let Some(link) = chain.next_head().await? {
            match link.opened {
                Ok((header, _)) if header.end.0 <= args.from => {}
                Ok((header, extent)) => {
                    let row = row(partition, &header, extent);
                    output.result(&line(&row), &row)?;
                }
                Err(error) => {
                    complain(&format!("{}: object {}: {error}", shown(partition), link.name));
                    exit = Exit::Failed;
                }
            }
        }
    }
    Ok(exit)
}

fn row<'a>(partition: &'a TopicPartition, header: &Header, extent: Extent) -> Row<'a> {
    Row {
        topic: &partition.topic,
        topic_id: partition.id.topic.to_string(),
        partition: partition.id.number,
        position: header.position.0,
        start: header.start.0,
        end: header.end.0,
        records: header.records,
        lines_bytes: extent.lines_bytes,
        object_bytes: extent.object_bytes,
        encoding: if extent.encoding == Encoding::Zstd { "zstd" } else { "plain" },
        generation: header.token.generation.0,
        epoch: header.token.epoch.0.0,
        written_ms: header.written_ms,
    }
}

fn heads() -> String {
    format!(
        "{:>14} {:>14} {:>14} {:>9} {:>11} {:>11}  {:<5} {:>10} {:>14}",
        "position", "start", "end", "records", "lines", "bytes", "kept", "epoch", "written ms"
    )
}

fn line(row: &Row<'_>) -> String {
    let Row { position, start, end, records, lines_bytes, object_bytes, encoding, .. } = row;
    let Row { epoch, written_ms, .. } = row;
    format!(
        "{position:>14} {start:>14} {end:>14} {records:>9} {lines_bytes:>11} {object_bytes:>11}  {encoding:<5} \
         {epoch:>10} {written_ms:>14}"
    )
}
