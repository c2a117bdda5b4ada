//! `tidegate simulate frequency`: what comes of deciding more or less often.

use std::path::Path;

use tidegate_sim::planner::frequency::{Frequencies, FrequencyRow, FrequencyTable};

use super::work::Progress;
use super::{group, input, work};
use crate::args::{FrequencyArgs, Policies};
use crate::failure::Exit;
use crate::output::Output;
use crate::report::{self, Axis, Chart, Colour, Csv, Page, Section, Series, Shape, Table};
use crate::signals::Signals;

pub(super) async fn run(
    args: FrequencyArgs,
    output: &Output,
    signals: Signals,
) -> anyhow::Result<Exit> {
    let sizing = group::sizing(&args.group, &args.source)?;
    let streams = input::streams(&args.source, input::Usual::LATENCY)?;
    let report = args.report.clone();
    let job = move || {
        let Policies(policies) = &args.policies;
        let frequencies = Frequencies {
            policies,
            periods: &args.periods,
            sizing,
            interval: args.group.interval,
            handoff: group::handoff(&args.group),
            seed: args.source.shape.seed,
        };
        let mut progress = Progress::new("frequency", "rows");
        Ok(frequencies.run(&streams, &mut |done, total| progress.tell(done, total))?)
    };
    let Some(found) = work::run(signals, job).await? else { return Ok(work::interrupted()) };
    if let Some(directory) = &report {
        write(directory, &found)?;
    }
    output.result(&group::text(&table(&found), found.streams), &found)?;
    Ok(Exit::Done)
}

fn table(found: &FrequencyTable) -> Table {
    let heads = ["policy", "period [s]", "events"].into_iter().chain(group::HEADS);
    let row = |row: &FrequencyRow| {
        let events = if row.events { "yes" } else { "no" };
        let names = [row.policy.clone(), row.period_s.to_string(), events.to_owned()];
        names.into_iter().chain(group::cells(&row.figures)).collect()
    };
    Table { heads: heads.map(str::to_owned).collect(), rows: found.rows.iter().map(row).collect() }
}

fn write(directory: &Path, found: &FrequencyTable) -> anyhow::Result<()> {
    let columns: Vec<_> =
        ["policy", "period_s", "events"].into_iter().chain(group::COLUMNS).collect();
    let mut csv = Csv::new(&columns);
    for row in &found.rows {
        group::line(&mut csv, &[&row.policy, &row.period_s, &row.events], &row.figures);
    }
    let charts = [
        chart(found, "Consumers", |row| row.figures.mean.consumers, "consumers"),
        chart(found, "Moves", |row| row.figures.mean.r_score, "R [loads of a consumer]"),
        chart(found, "Late data", |row| row.figures.mean.late_share * 100.0, "later than 1 s [%]"),
    ];
    let all = Section {
        heading: "All figures".to_owned(),
        text: "With events, the period is the time for which fewer consumers must have sufficed. R is counted for each measurement of the \
               stream, so that all rows can be compared."
            .to_owned(),
        chart: None,
        table: Some(table(found)),
    };
    let page = Page {
        title: "Tidegate: how often to decide".to_owned(),
        about: "The fluid model with decisions at the end of each period, and with those of the controller, which also decides at once when a \
                consumer is overloaded or a partition has none."
            .to_owned(),
        figures: Vec::new(),
        sections: charts.into_iter().chain([all]).collect(),
    };
    let json = serde_json::to_string_pretty(found)? + "\n";
    report::write(
        directory,
        &[("index.html", &page.html()?), ("frequency.json", &json), ("frequency.csv", csv.text())],
    )
}

/// One figure over the periods: a line for each policy, without events and with them.
fn chart(
    found: &FrequencyTable,
    heading: &str,
    of: fn(&FrequencyRow) -> f64,
    label: &str,
) -> Section {
    let mut series: Vec<Series> = Vec::new();
    for row in &found.rows {
        let name = format!("{}{}", row.policy, if row.events { ", with events" } else { "" });
        let point = (row.period_s, of(row));
        match series.iter_mut().find(|known| known.name.as_ref() == Some(&name)) {
            Some(known) => known.points.push(point),
            None => series.push(Series {
                name: Some(name),
                shape: Shape::Line,
                colour: Colour::Of(series.len()),
                points: vec![point],
            }),
        }
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    let (x, y) = (Axis::new("period [s]"), Axis::new(label));
    Section {
        heading: heading.to_owned(),
        text: String::new(),
        chart: Some(Chart { x, y, series, marks: Vec::new() }),
        table: None,
    }
}
