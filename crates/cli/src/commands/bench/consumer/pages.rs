//! The report of `tidegate bench consumer`: the figures as CSV, and a graph of speed over partitions for each size of records.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Report, Row};
use crate::report::{self, Axis, Chart, Colour, Csv, Series, Shape};

/// Columns of the figures, in order.
const COLUMNS: [&str; 9] = [
    "who",
    "record_bytes",
    "partitions",
    "topics",
    "brokers",
    "records_per_s",
    "mb_per_s",
    "cpu_ns_per_record",
    "rss_mib",
];

/// Writes the report to a folder.
pub(super) fn write(directory: &Path, report: &Report) -> anyhow::Result<()> {
    let csv = csv(&report.runs);
    let mut charts = Vec::new();
    let sizes: std::collections::BTreeSet<u64> =
        report.runs.iter().map(|row| row.record_bytes).collect();
    for size in sizes {
        let speed = chart(&report.runs, size, "records per second", |row| row.records_per_s);
        charts.push((format!("speed-{size}.svg"), speed.svg()?));
        let cost = chart(&report.runs, size, "CPU ns per record", |row| row.cpu_ns_per_record);
        charts.push((format!("cost-{size}.svg"), cost.svg()?));
    }
    let mut files = vec![("figures.csv", csv.text())];
    files.extend(charts.iter().map(|(name, chart)| (&**name, &**chart)));
    report::write(directory, &files)
}

fn csv(rows: &[Row]) -> Csv {
    let mut csv = Csv::new(&COLUMNS);
    for row in rows {
        csv.line(&[
            &row.who,
            &row.record_bytes,
            &row.partitions,
            &row.topics,
            &row.brokers,
            &format!("{:.0}", row.records_per_s),
            &format!("{:.2}", row.mb_per_s),
            &format!("{:.1}", row.cpu_ns_per_record),
            &row.rss_mib,
        ]);
    }
    csv
}

/// A line for each reader and number of topics.
fn chart(rows: &[Row], record_bytes: u64, what: &str, of: fn(&Row) -> f64) -> Chart {
    let mut lines: BTreeMap<(&str, u32), Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.record_bytes == record_bytes) {
        let point = (f64::from(row.partitions), of(row));
        lines.entry((row.who, row.topics)).or_default().push(point);
    }
    let series = lines.into_iter().enumerate().map(|(at, ((who, topics), points))| {
        let name =
            Some(if topics == 1 { who.to_owned() } else { format!("{who}, {topics} topics") });
        // A single number of partitions is no line.
        let shape = if points.len() > 1 { Shape::Line } else { Shape::Dots };
        Series { name, shape, colour: Colour::Of(at), points }
    });
    Chart {
        x: Axis::new("partitions"),
        y: Axis::new(format!("{what}, records of {record_bytes} B")),
        series: series.collect(),
        marks: Vec::new(),
    }
}
