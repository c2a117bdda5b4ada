//! `tidegate sink verify`: everything that a chain promises, checked object by object and record by record.

use std::fmt::Write as _;

use serde::Serialize;
use tidegate_runtime::ports::TopicPartition;
use tidegate_sinks::object::ChainReport;

use super::{select, shown};
use crate::args::SinkSelection;
use crate::failure::Exit;
use crate::output::Output;

/// What was found in one chain.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    topic: String,
    topic_id: String,
    partition: u32,
    objects: u64,
    gaps: u64,
    records: u64,
    lines_bytes: u64,
    object_bytes: u64,
    start: Option<u64>,
    end: Option<u64>,
    fault_count: u64,
    faults: Vec<String>,
}

pub(super) async fn run(args: &SinkSelection, output: &Output) -> anyhow::Result<Exit> {
    let (reader, partitions) = select(args).await?;
    let (mut text, mut all, mut faults) = (String::new(), Vec::new(), 0);
    for partition in &partitions {
        let report = reader.verify(partition).await?;
        faults += report.fault_count;
        writeln!(text, "{}: {report}", shown(partition))?;
        for fault in &report.faults {
            writeln!(text, "  {fault}")?;
        }
        all.push(found(partition, &report));
    }
    let records: u64 = all.iter().map(|found| found.records).sum();
    writeln!(text, "{} partitions, {records} records, {faults} faults", all.len())?;
    output.result(&text, &all)?;
    Ok(if faults == 0 { Exit::Done } else { Exit::Failed })
}

fn found(partition: &TopicPartition, report: &ChainReport) -> Found {
    Found {
        topic: partition.topic.clone(),
        topic_id: partition.id.topic.to_string(),
        partition: partition.id.number,
        objects: report.objects,
        gaps: report.gaps,
        records: report.records,
        lines_bytes: report.bytes,
        object_bytes: report.object_bytes,
        start: report.start.map(|start| start.0),
        end: report.end.map(|end| end.0),
        fault_count: report.fault_count,
        faults: report.faults.iter().map(ToString::to_string).collect(),
    }
}
