//! The report of the experiment: a page with graphs, the samples as CSV, and each partition's graph as a file of its own.

use std::path::Path;

use super::experiment::{Found, Recording};
use super::verdict::{Steps, Track};
use crate::report::{
    self, Axis, Chart, Colour, Csv, Figure, Page, Section, Series, Shape, Table, millionths,
    thousandths,
};

/// Columns of the samples, in order.
const COLUMNS: [&str; 13] = [
    "partition",
    "second",
    "step",
    "producer_payload_bytes",
    "producer_stored_bytes",
    "producer_bytes_per_sec",
    "window_bytes_per_sec",
    "filtered_bytes_per_sec",
    "window_ms",
    "log_size",
    "log_start",
    "high_watermark",
    "source",
];

/// Writes the report to a folder.
pub(super) fn write(directory: &Path, found: &Found, recording: &Recording) -> anyhow::Result<()> {
    let (page, samples) = (page(found, recording).html()?, csv(recording));
    let summary = serde_json::to_string_pretty(found)? + "\n";
    let mut charts = Vec::new();
    for (number, track) in &recording.tracks {
        let chart = rates_chart(track, recording.steps);
        charts.push((format!("partition-{number}.svg"), chart.svg()?));
    }
    let mut files =
        vec![("index.html", &*page), ("summary.json", &*summary), ("samples.csv", samples.text())];
    files.extend(charts.iter().map(|(name, chart)| (&**name, &**chart)));
    report::write(directory, &files)
}

/// A line for each sample; what the producer has written counts from the beginning.
fn csv(recording: &Recording) -> Csv {
    let mut csv = Csv::new(&COLUMNS);
    for (number, track) in &recording.tracks {
        for sample in &track.samples {
            csv.line(&[
                number,
                &format!("{:.3}", recording.steps.second(sample.unix_ms)),
                &(recording.steps.of(sample.unix_ms) + 1),
                &track.payload(0, sample.unix_ms),
                &track.stored(0, sample.unix_ms),
                &track.stored_rate(sample),
                &sample.write_rate,
                &sample.filtered_rate,
                &sample.window_ms,
                &sample.size.map_or_else(String::new, |size| size.to_string()),
                &sample.log_start,
                &sample.high_watermark,
                &sample.source,
            ]);
        }
    }
    csv
}

fn page(found: &Found, recording: &Recording) -> Page {
    let figure = |value: String, label: &str, good| Figure { value, label: label.to_owned(), good };
    let or_never = |figure: Option<f64>, unit: &str| {
        figure.map_or_else(|| "never".to_owned(), |value| format!("{value:.1} {unit}"))
    };
    let window = found.window_converged_s;
    let error = found.steady_error_percent;
    let figures = vec![
        figure(or_never(window, "s"), "slowest window", Some(window.is_some_and(|s| s <= 30.0))),
        figure(or_never(error, "%"), "worst steady error", Some(error.is_some_and(|e| e <= 5.0))),
        figure(found.deletions.to_string(), "deletions by retention", None),
        figure(format!("{:.1} MB", millionths(found.stored_bytes)), "stored", None),
        figure(format!("{:.1} MB", millionths(found.kept_bytes)), "left at the end", None),
    ];
    let rates = recording.tracks.iter().map(|(number, track)| Section {
        heading: format!("Partition {number}: rates"),
        text: "Grey: what the producer stored in each second, and its mean in each step. The window's rate lies on what was stored in \
               the same time as long as nothing is lost or counted twice."
            .to_owned(),
        chart: Some(rates_chart(track, recording.steps)),
        table: None,
    });
    let logs = Section {
        heading: "Sizes of the logs".to_owned(),
        text:
            "Retention deletes whole segments; a difference of sizes would be a negative rate then."
                .to_owned(),
        chart: Some(sizes_chart(recording)),
        table: None,
    };
    let steps = Section {
        heading: "Steps".to_owned(),
        text: "Converged: within a tenth of what the producer stores in the step. Steady: windows within one step.".to_owned(),
        chart: None,
        table: Some(steps_table(found)),
    };
    Page {
        title: "The monitor beside a producer".to_owned(),
        about: found.about(),
        figures,
        sections: rates.chain([logs, steps]).collect(),
    }
}

/// What the producer has stored, and what the monitor makes of it.
fn rates_chart(track: &Track, steps: Steps) -> Chart {
    let series = |name: &str, shape, colour, points| Series {
        name: Some(name.to_owned()),
        shape,
        colour,
        points,
    };
    let of = |rate: &dyn Fn(&super::verdict::Sample) -> u64| {
        let point = |sample| {
            let sample: &super::verdict::Sample = sample;
            (steps.second(sample.unix_ms), thousandths(rate(sample)))
        };
        track.samples.iter().map(point).collect()
    };
    let seconds = track.samples.windows(2).filter_map(|pair| {
        let span = pair[1].unix_ms.checked_sub(pair[0].unix_ms).filter(|span| *span > 0)?;
        let stored = track.stored(pair[0].unix_ms, pair[1].unix_ms) * 1000 / span;
        Some((steps.second(pair[1].unix_ms), thousandths(stored)))
    });
    let mut means: Vec<(f64, f64)> = Vec::new();
    for step in 0..steps.count {
        let (begin, end) = (steps.begin(step), steps.begin(step + 1));
        let mean = track.stored(begin, end) * 1000 / (end - begin).max(1);
        means.extend([begin, end].map(|at| (steps.second(at), thousandths(mean))));
    }
    Chart {
        x: Axis::new("time [s]"),
        y: Axis::new("stored [kB/s]"),
        series: vec![
            series("producer, each second", Shape::Line, Colour::Faint, seconds.collect()),
            series("producer, mean of the step", Shape::Line, Colour::Of(6), means),
            series(
                "producer, in the time of the window",
                Shape::Dots,
                Colour::Of(5),
                of(&|sample| track.stored_rate(sample)),
            ),
            series("monitor, window", Shape::Line, Colour::Of(0), of(&|sample| sample.write_rate)),
            series(
                "monitor, filtered",
                Shape::Line,
                Colour::Of(1),
                of(&|sample| sample.filtered_rate),
            ),
        ],
        marks: (1..steps.count).map(|step| steps.second(steps.begin(step))).collect(),
    }
}

fn sizes_chart(recording: &Recording) -> Chart {
    let series = recording.tracks.iter().enumerate().map(|(index, (number, track))| Series {
        name: Some(format!("partition {number}")),
        shape: Shape::Line,
        colour: Colour::Of(index),
        points: track
            .samples
            .iter()
            .filter_map(|sample| {
                Some((recording.steps.second(sample.unix_ms), millionths(sample.size?)))
            })
            .collect(),
    });
    Chart {
        x: Axis::new("time [s]"),
        y: Axis::new("size of the log [MB]"),
        series: series.collect(),
        marks: Vec::new(),
    }
}

fn steps_table(found: &Found) -> Table {
    let heads = [
        "partition, step",
        "stored [kB/s]",
        "window converged [s]",
        "filter converged [s]",
        "mean error [%]",
        "steady error [%]",
    ];
    let or_none =
        |figure: Option<f64>| figure.map_or_else(String::new, |value| format!("{value:.1}"));
    let rows = found.steps.iter().map(|step| {
        vec![
            format!("{}, {}", step.partition, step.step + 1),
            format!("{:.1}", thousandths(step.stored_per_sec)),
            or_none(step.window_converged_s),
            or_none(step.filtered_converged_s),
            format!("{:.2}", step.mean_error_percent),
            step.steady_error_percent.map_or_else(String::new, |value| format!("{value:.2}")),
        ]
    });
    Table { heads: heads.map(str::to_owned).into(), rows: rows.collect() }
}
