//! `tidegate bench sink`: how fast sinks make records durable, and what it costs, beside what their disk or their database
//! can do with the same bytes or rows in the same run.

mod limits;
mod load;

use std::collections::BTreeMap;
use std::pin::pin;

use anyhow::Context as _;
use serde::Serialize;
use tidegate_runtime::spec::shown;
use tidegate_sinks::scratch::Scratch;

use self::load::Load;
use crate::args::SinkBenchArgs;
use crate::commands::bench::figures::{self, Entry, Figures, OURS, Run};
use crate::failure::Exit;
use crate::output::{self, Output};
use crate::signals::Signals;
use crate::wiring;

/// What was found, in the form of `--output json`.
#[derive(Debug, Default, Serialize)]
struct Report {
    runs: Vec<Row>,
}

/// A sink, or what it is compared with, on the same records.
#[derive(Debug, Serialize)]
struct Row {
    who: &'static str,
    /// Without what may be secret.
    sink: String,
    record_bytes: u64,
    partitions: u32,
    #[serde(flatten)]
    figures: Figures,
}

pub(super) async fn run(
    args: &SinkBenchArgs,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Exit> {
    let folder = tempfile::tempdir().context("failed to make a folder for temporary files")?;
    let urls = if args.sinks.is_empty() {
        vec!["blackhole:".to_owned(), format!("file://{}", folder.path().display())]
    } else {
        args.sinks.clone()
    };
    let mut report = Report::default();
    for url in &urls {
        for record_bytes in &args.measure.record_bytes {
            for partitions in &args.partitions {
                let load = Load::new(*record_bytes, *partitions, args.measure.bytes)?;
                let to = shown(url);
                output::complain(&format!(
                    "{to}: {partitions} partitions, records of {record_bytes} B"
                ));
                let Some(runs) = measure(args, url, &load, &mut signals).await? else {
                    return Ok(Exit::Failed);
                };
                report.runs.extend(runs.into_iter().map(|(who, runs)| Row {
                    who,
                    sink: to.clone(),
                    record_bytes: *record_bytes,
                    partitions: *partitions,
                    figures: Figures::of(*record_bytes, load.records(), runs),
                }));
            }
        }
    }
    let entry = |row| entry(row, urls.len() == 1);
    let entries: Vec<Entry<'_>> = report.runs.iter().map(entry).collect();
    if let Some(directory) = &args.measure.report {
        let columns = ["sink", "record_bytes", "partitions"];
        figures::write(directory, &columns, &entries)?;
    }
    let text = figures::describe(&["sink", "record B", "partitions"], &entries);
    output.result(&text, &report)?;
    Ok(Exit::Done)
}

/// Runs the sink and its limits in turn, each time in a new place; `None` after a signal.
async fn measure(
    args: &SinkBenchArgs,
    url: &str,
    load: &Load,
    signals: &mut Signals,
) -> anyhow::Result<Option<BTreeMap<&'static str, Vec<Run>>>> {
    let mut runs: BTreeMap<&'static str, Vec<Run>> = BTreeMap::new();
    for round in 0..args.measure.repeat {
        let name = format!("tidegate_bench_{}_{round}", wiring::clock().unix_ms());
        let scratch = Scratch::make(url, &name).await?;
        let measured = {
            let mut measuring = pin!(measure_once(args, &scratch, load));
            tokio::select! {
                measured = &mut measuring => Some(measured),
                () = signals.next() => {
                    // What it has started would go on by itself, in a place that is being deleted.
                    output::complain("it ends after this run");
                    let _interrupted = measuring.await;
                    None
                }
            }
        };
        let discarded = scratch.discard(wiring::clock()).await;
        // What failed first is told first.
        let measured = measured.transpose()?;
        discarded?;
        let Some(measured) = measured else { return Ok(None) };
        for (who, run) in measured {
            runs.entry(who).or_default().push(run);
        }
    }
    Ok(Some(runs))
}

async fn measure_once(
    args: &SinkBenchArgs,
    scratch: &Scratch,
    load: &Load,
) -> anyhow::Result<Vec<(&'static str, Run)>> {
    let sink = scratch.open(wiring::clock()).await?;
    let mut runs = vec![(OURS, load.write(sink).await?)];
    runs.extend(limits::measure(&scratch.spec, load, &args.psql).await?);
    Ok(runs)
}

fn entry(row: &Row, alone: bool) -> Entry<'_> {
    let Row { who, sink, record_bytes, partitions, figures } = row;
    Entry {
        who,
        of: vec![sink.clone(), record_bytes.to_string(), partitions.to_string()],
        line: if alone { (*who).to_owned() } else { format!("{who}, {sink}") },
        record_bytes: *record_bytes,
        partitions: *partitions,
        figures,
    }
}
