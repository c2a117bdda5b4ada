//! The report of `tidegate bench consumer` in a folder.

use std::path::Path;

use super::{Report, Row};
use crate::commands::bench::figures::{self, Figures, Point};
use crate::report::Csv;

/// What stands before the figures in each line.
const COLUMNS: [&str; 5] = ["who", "record_bytes", "partitions", "topics", "brokers"];

/// Writes the report.
pub(super) fn write(directory: &Path, report: &Report) -> anyhow::Result<()> {
    let mut csv = Csv::new(&[&COLUMNS[..], &Figures::COLUMNS].concat());
    for row in &report.runs {
        let [speed, bytes, cpu, memory] = row.figures.values();
        csv.line(&[
            &row.who,
            &row.record_bytes,
            &row.partitions,
            &row.topics,
            &row.brokers,
            &speed,
            &bytes,
            &cpu,
            &memory,
        ]);
    }
    let points: Vec<Point<'_>> = report.runs.iter().map(point).collect();
    figures::write(directory, &csv, &points)
}

/// A line for each reader and number of topics.
fn point(row: &Row) -> Point<'_> {
    let Row { who, topics, record_bytes, partitions, figures, .. } = row;
    let line = if *topics == 1 { (*who).to_owned() } else { format!("{who}, {topics} topics") };
    Point { line, record_bytes: *record_bytes, partitions: *partitions, figures }
}
