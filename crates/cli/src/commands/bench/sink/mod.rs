//! `tidegate bench sink`: how fast sinks make records durable, and what it costs, beside what their disk or their database
//! can do with the same bytes or rows in the same run.

mod limits;
mod load;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use tidegate_runtime::spec::shown;
use tidegate_sinks::scratch::Scratch;

use self::load::Load;
use crate::args::SinkBenchArgs;
use crate::commands::bench::figures::{self, Figures, Point, Run};
use crate::commands::table;
use crate::failure::Exit;
use crate::output::{self, Output};
use crate::report::Csv;
use crate::signals::Signals;
use crate::wiring;

/// Who is measured beside the sinks themselves.
const OURS: &str = "tidegate";

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
        for record_bytes in &args.record_bytes {
            for partitions in &args.partitions {
                let load = Load::new(*record_bytes, *partitions, args.bytes)?;
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
    if let Some(directory) = &args.report {
        write(directory, &report)?;
    }
    output.result(&describe(&report), &report)?;
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
    for round in 0..args.repeat {
        let name = format!("tidegate_bench_{}_{round}", wiring::clock().unix_ms());
        let scratch = Scratch::make(url, &name).await?;
        let measured = tokio::select! {
            measured = measure_once(args, &scratch, load) => Some(measured),
            () = signals.next() => None,
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

fn write(directory: &Path, report: &Report) -> anyhow::Result<()> {
    let columns = ["who", "sink", "record_bytes", "partitions"];
    let mut csv = Csv::new(&[&columns[..], &Figures::COLUMNS].concat());
    for row in &report.runs {
        let [speed, bytes, cpu, memory] = row.figures.values();
        let Row { who, sink, record_bytes, partitions, .. } = row;
        csv.line(&[who, sink, record_bytes, partitions, &speed, &bytes, &cpu, &memory]);
    }
    let points: Vec<Point<'_>> = report.runs.iter().map(point).collect();
    figures::write(directory, &csv, &points)
}

fn point(row: &Row) -> Point<'_> {
    let Row { who, sink, record_bytes, partitions, figures } = row;
    let line = format!("{who}, {sink}");
    Point { line, record_bytes: *record_bytes, partitions: *partitions, figures }
}

fn describe(report: &Report) -> String {
    let heads = ["who", "sink", "record B", "partitions"];
    let heads = heads.into_iter().chain(Figures::HEADS).chain(["our speed", "our CPU"]);
    let heads: Vec<String> = heads.map(str::to_owned).collect();
    let same = |one: &Row, other: &Row| {
        (&one.sink, one.record_bytes, one.partitions)
            == (&other.sink, other.record_bytes, other.partitions)
    };
    let rows = report.runs.iter().map(|row| {
        let ours = report.runs.iter().find(|ours| ours.who == OURS && same(ours, row));
        let mut cells = vec![row.who.to_owned(), row.sink.clone()];
        cells.extend([row.record_bytes.to_string(), row.partitions.to_string()]);
        cells.extend(row.figures.cells());
        cells.extend(row.figures.ours(ours.map(|ours| &ours.figures)));
        cells
    });
    table::aligned(&heads, &rows.collect::<Vec<_>>())
}
