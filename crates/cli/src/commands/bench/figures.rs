//! Figures of what moves records: medians of runs, as a table, CSV and graphs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Serialize;

use crate::commands::table;
use crate::report::{self, Axis, Chart, Colour, Csv, Series, Shape};

/// Who is measured beside others.
pub(super) const OURS: &str = "tidegate";

const HEADS: [&str; 7] =
    ["records/s", "(from - to)", "MB/s", "CPU ns/record", "MiB", "our speed", "our CPU"];

const COLUMNS: [&str; 4] = ["records_per_s", "mb_per_s", "cpu_ns_per_record", "rss_mib"];

/// What one run did and used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Run {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) rss_peak_mib: u64,
}

/// Medians of the runs of one program on the same records.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) records_per_s: f64,
    mb_per_s: f64,
    pub(super) cpu_ns_per_record: f64,
    rss_mib: u64,
    /// The slowest and the fastest run.
    records_per_s_range: (f64, f64),
}

impl Figures {
    #[expect(clippy::cast_precision_loss, reason = "numbers of records are far below 2^52")]
    pub(super) fn of(record_bytes: u64, records: u64, mut runs: Vec<Run>) -> Self {
        runs.sort_by(|one, other| one.seconds.total_cmp(&other.seconds));
        let records = records as f64;
        let rate = |run: &Run| records / run.seconds;
        let mut cpu: Vec<f64> = runs.iter().map(|run| run.cpu_seconds).collect();
        cpu.sort_by(f64::total_cmp);
        let middle = runs.len() / 2;
        let records_per_s = runs.get(middle).map(rate).unwrap_or_default();
        let slowest = runs.last().map(rate).unwrap_or_default();
        let fastest = runs.first().map(rate).unwrap_or_default();
        Self {
            records_per_s,
            mb_per_s: records_per_s * record_bytes as f64 / 1e6,
            cpu_ns_per_record: cpu.get(middle).copied().unwrap_or_default() * 1e9 / records,
            rss_mib: runs.iter().map(|run| run.rss_peak_mib).max().unwrap_or_default(),
            records_per_s_range: (slowest, fastest),
        }
    }

    /// For a table, under [`HEADS`].
    fn cells(&self) -> [String; 5] {
        let (slowest, fastest) = self.records_per_s_range;
        [
            format!("{:.0}", self.records_per_s),
            format!("({slowest:.0} - {fastest:.0})"),
            format!("{:.0}", self.mb_per_s),
            format!("{:.0}", self.cpu_ns_per_record),
            self.rss_mib.to_string(),
        ]
    }

    /// Speed and CPU time of other figures as parts of these.
    fn ours(&self, ours: Option<&Self>) -> [String; 2] {
        let ratio = |of: fn(&Self) -> f64| {
            ours.map_or_else(String::new, |ours| format!("{:.2}", of(ours) / of(self)))
        };
        [ratio(|figures| figures.records_per_s), ratio(|figures| figures.cpu_ns_per_record)]
    }

    /// For CSV, under [`COLUMNS`].
    fn values(&self) -> [String; 4] {
        [
            format!("{:.0}", self.records_per_s),
            format!("{:.2}", self.mb_per_s),
            format!("{:.1}", self.cpu_ns_per_record),
            self.rss_mib.to_string(),
        ]
    }
}

/// One program, measured.
pub(super) struct Entry<'a> {
    pub(super) who: &'static str,
    /// What it was measured on: those with the same are compared.
    pub(super) of: Vec<String>,
    /// The line of a graph that it belongs to.
    pub(super) line: String,
    pub(super) record_bytes: u64,
    pub(super) partitions: u32,
    pub(super) figures: &'a Figures,
}

/// A table with the figures, and with ours as parts of each.
pub(super) fn describe(of: &[&str], entries: &[Entry<'_>]) -> String {
    let heads = ["who"].iter().chain(of).chain(&HEADS).map(|head| (*head).to_owned());
    let rows = entries.iter().map(|entry| {
        let ours = entries.iter().find(|ours| ours.who == OURS && ours.of == entry.of);
        let mut cells = vec![entry.who.to_owned()];
        cells.extend_from_slice(&entry.of);
        cells.extend(entry.figures.cells());
        cells.extend(entry.figures.ours(ours.map(|ours| ours.figures)));
        cells
    });
    table::aligned(&heads.collect::<Vec<_>>(), &rows.collect::<Vec<_>>())
}

/// Writes a report to a folder: the figures as CSV, and graphs of speed and CPU time over partitions for each size of records.
pub(super) fn write(directory: &Path, of: &[&str], entries: &[Entry<'_>]) -> anyhow::Result<()> {
    let mut csv = Csv::new(&[&["who"], of, &COLUMNS[..]].concat());
    for entry in entries {
        let values = entry.figures.values();
        let cells = entry.of.iter().chain(&values).map(|cell| cell as &dyn std::fmt::Display);
        csv.line(
            &[&entry.who as &dyn std::fmt::Display].into_iter().chain(cells).collect::<Vec<_>>(),
        );
    }
    let mut charts = Vec::new();
    let sizes: BTreeSet<u64> = entries.iter().map(|entry| entry.record_bytes).collect();
    for size in sizes {
        let millions = |figures: &Figures| figures.records_per_s / 1e6;
        let speed = chart(entries, size, "million records/s", millions);
        charts.push((format!("speed-{size}.svg"), speed.svg()?));
        let cost = chart(entries, size, "CPU ns per record", |figures| figures.cpu_ns_per_record);
        charts.push((format!("cost-{size}.svg"), cost.svg()?));
    }
    let mut files = vec![("figures.csv", csv.text())];
    files.extend(charts.iter().map(|(name, chart)| (&**name, &**chart)));
    report::write(directory, &files)
}

fn chart(entries: &[Entry<'_>], record_bytes: u64, what: &str, of: fn(&Figures) -> f64) -> Chart {
    let mut lines: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.record_bytes == record_bytes) {
        let at = (f64::from(entry.partitions), of(entry.figures));
        lines.entry(&entry.line).or_default().push(at);
    }
    let series = lines.into_iter().enumerate().map(|(at, (name, points))| {
        // A single number of partitions is no line.
        let shape = if points.len() > 1 { Shape::Line } else { Shape::Dots };
        Series { name: Some(name.to_owned()), shape, colour: Colour::Of(at), points }
    });
    Chart {
        x: Axis::new("partitions"),
        y: Axis::new(format!("{what} of {record_bytes} B")),
        series: series.collect(),
        marks: Vec::new(),
    }
}
