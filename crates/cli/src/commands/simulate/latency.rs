//! `tidegate simulate latency`: how late data is read under each policy.

use std::path::Path;

use tidegate_runtime::spec::Span;
use tidegate_sim::planner::latency::{Experiment, Measured, Model, PolicyFigures};
use tidegate_sim::planner::{Policy, Sizing};

use super::work::Progress;
use super::{group, input, pages, table, work};
use crate::args::{GroupArgs, LatencyArgs, ModelName, Policies};
use crate::failure::{Exit, Refused};
use crate::output::Output;
use crate::report::{self, Axis, Chart, Colour, Csv, Page, Section, Series, Shape, Table};
use crate::signals::Signals;

pub(super) async fn run(
    args: LatencyArgs,
    output: &Output,
    signals: Signals,
) -> anyhow::Result<Exit> {
    let model = model(args.model, &args.group)?;
    let sizing = group::sizing(&args.group, &args.source)?;
    let streams = input::streams(&args.source, input::Usual::LATENCY)?;
    let shown = args.policies.clone().map_or_else(Policy::usual, |Policies(list)| list);
    let (policies, seed, interval) = (shown.clone(), args.source.shape.seed, args.group.interval);
    let job = move || {
        let experiment = Experiment { policies: &policies, sizing, interval, model, seed };
        let mut progress = Progress::new("latency", "runs");
        Ok(experiment.run(&streams, &mut |done, total| progress.tell(done, total))?)
    };
    let Some(measured) = work::run(signals, job).await? else { return Ok(work::interrupted()) };
    let figures = Figures { shown, measured };
    if let Some(directory) = &args.report {
        figures.write(directory, &about(&args, sizing))?;
    }
    let text = group::text(&figures.table(), figures.measured.streams);
    output.result(&text, &figures.measured)?;
    Ok(Exit::Done)
}

fn model(name: ModelName, args: &GroupArgs) -> anyhow::Result<Model> {
    let given =
        [("--start-delay", args.start_delay.is_some()), ("--handoff", args.handoff.is_some())];
    match name {
        ModelName::Fluid => Ok(Model::Fluid(group::handoff(args))),
        ModelName::Published => {
            if let Some((option, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                return Err(Refused::usage(format!("{option} needs --model fluid")).into());
            }
            Ok(Model::Published { migration: args.migration })
        }
    }
}

fn about(args: &LatencyArgs, sizing: Sizing) -> String {
    let model = match args.model {
        ModelName::Published => "published",
        ModelName::Fluid => "fluid",
    };
    format!(
        "The {model} model: a measurement each {}, a partition that moves is not read for {}; consumers are filled up to {}, presets take \
         partitions away above {}, and a consumer reads {} in a second.",
        Span::print(args.group.interval),
        Span::print(args.group.migration),
        sizing.packing,
        sizing.overload,
        sizing.capacity,
    )
}

/// The figures, in the order that was asked for.
struct Figures {
    shown: Vec<Policy>,
    measured: Measured,
}

// === impl Figures ===

impl Figures {
    fn rows(&self) -> impl Iterator<Item = (&Policy, &PolicyFigures)> {
        table::in_order(&self.shown, &self.measured.policies)
    }

    fn table(&self) -> Table {
        let heads = std::iter::once("policy").chain(group::HEADS).map(str::to_owned).collect();
        let row = |(policy, figures): (&Policy, &PolicyFigures)| {
            std::iter::once(policy.to_string()).chain(group::cells(figures)).collect()
        };
        Table { heads, rows: self.rows().map(row).collect() }
    }

    fn write(&self, directory: &Path, about: &str) -> anyhow::Result<()> {
        let columns: Vec<_> = std::iter::once("policy").chain(group::COLUMNS).collect();
        let mut csv = Csv::new(&columns);
        for (policy, figures) in self.rows() {
            group::line(&mut csv, &[policy], figures);
        }
        let page = Page {
            title: "Tidegate: latency".to_owned(),
            about: about.to_owned(),
            figures: Vec::new(),
            sections: vec![self.front(), self.all()],
        };
        let json = serde_json::to_string_pretty(&self.measured)? + "\n";
        report::write(
            directory,
            &[("index.html", &page.html()?), ("latency.json", &json), ("latency.csv", csv.text())],
        )
    }

    fn front(&self) -> Section {
        let point = |figures: &PolicyFigures| (figures.mean.consumers, figures.mean.latency_s.p999);
        let points: Vec<_> = self.rows().map(|(_, figures)| point(figures)).collect();
        let mut series = vec![Series {
            name: Some("not beaten in both".to_owned()),
            shape: Shape::Step,
            colour: Colour::Faint,
            points: pages::front(&points),
        }];
        series.extend(self.rows().enumerate().map(|(index, (policy, figures))| Series {
            name: Some(policy.to_string()),
            shape: Shape::Dots,
            colour: Colour::Of(index),
            points: vec![point(figures)],
        }));
        let (x, y) = (Axis::new("consumers"), Axis::new("p99.9 of latency [s]"));
        Section {
            heading: "Consumers against latency".to_owned(),
            text: "Further left needs fewer consumers, further down is read sooner.".to_owned(),
            chart: Some(Chart { x, y, series, marks: Vec::new() }),
            table: None,
        }
    }

    fn all(&self) -> Section {
        Section {
            heading: "All figures".to_owned(),
            text: "Latency is the time from written to read, over all data; R is the load that moves at each measurement, in loads of a \
                   full consumer."
                .to_owned(),
            chart: None,
            table: Some(self.table()),
        }
    }
}
