//! `tidegate audit`: what a sink holds against what was acknowledged to `tidegate load`.

use std::fmt::Write as _;

use anyhow::Context as _;
use tidegate_load::audit::{AuditReport, Repeat, audit};
use tidegate_load::ledger::Acknowledged;

use crate::args::AuditArgs;
use crate::failure::Exit;
use crate::output::Output;
use crate::wiring;

pub(super) async fn run(args: &AuditArgs, output: &Output) -> anyhow::Result<Exit> {
    let file = args.ledger.display();
    let text = std::fs::read(&args.ledger).with_context(|| format!("failed to read {file}"))?;
    let ledger: Acknowledged = serde_json::from_slice(&text)
        .with_context(|| format!("{file} is not what `tidegate load --ledger` writes"))?;
    let reader = tidegate_sinks::open_reader(&args.sink, wiring::clock()).await?;
    let report = audit(&reader, &ledger).await?;
    output.result(&describe(&report)?, &report)?;
    Ok(if report.is_clean() { Exit::Done } else { Exit::Failed })
}

fn describe(report: &AuditReport) -> anyhow::Result<String> {
    let mut text = String::new();
    let AuditReport { acknowledged, delivered, lost, duplicated, out_of_order, .. } = report;
    let AuditReport { unexpected, of_other_runs, repeated, lost_at_end, .. } = report;
    writeln!(text, "{acknowledged} records acknowledged, {delivered} delivered")?;
    writeln!(
        text,
        "{lost} lost, {duplicated} duplicated, {out_of_order} out of order, {unexpected} unexpected"
    )?;
    if *lost_at_end > 0 {
        writeln!(
            text,
            "{lost_at_end} of the lost stand behind everything delivered of their partitions: \
             audit again once `tidegate status` shows no lag"
        )?;
    }
    if *of_other_runs > 0 {
        writeln!(
            text,
            "{of_other_runs} of the unexpected are of other runs of `tidegate load`: \
             this ledger knows only its own"
        )?;
    }
    if *repeated > 0 {
        writeln!(
            text,
            "{repeated} repeated: at an offset that was never acknowledged, and at another one"
        )?;
    }
    let freshness = report.freshness_ms;
    writeln!(text, "freshness p50 {} ms, p99 {} ms", freshness.p50, freshness.p99)?;
    writeln!(text, "{} hand-offs", report.handoffs.len())?;
    for range in &report.lost_ranges {
        let (first, end) = (range.first, range.end);
        writeln!(text, "lost: {}-{} offsets {first} to {}", range.topic, range.partition, end - 1)?;
    }
    for Repeat { topic, partition, offset, sequence } in &report.repeats {
        writeln!(text, "repeated: {topic}-{partition} offset {offset}, sequence {sequence}")?;
    }
    for fault in &report.faults {
        writeln!(text, "fault: {fault}")?;
    }
    Ok(text)
}
