//! `tidegate simulate compare`: policies side by side over the same streams.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use tidegate_core::ids::Instant;
use tidegate_sim::planner::compare::{Compared, Comparison, PolicyScores};
use tidegate_sim::planner::stream::Stream;
use tidegate_sim::planner::{Policy, Sizing};

use super::work::Progress;
use super::{input, pages, table, work};
use crate::args::{CompareArgs, Policies};
use crate::failure::Exit;
use crate::output::Output;
use crate::report::{self, Axis, Chart, Colour, Csv, Page, Section, Series, Shape, Table};
use crate::signals::Signals;
use crate::wiring;

pub(super) async fn run(
    args: CompareArgs,
    output: &Output,
    signals: Signals,
) -> anyhow::Result<Exit> {
    let streams = input::streams(&args.source, input::Usual::COMPARE)?;
    let policies = args.policies.clone().map_or_else(Policy::usual, |Policies(list)| list);
    let capacity = args.capacity.map_or_else(|| input::usual_capacity(&args.source), Into::into);
    let (seed, shown) = (args.source.shape.seed, policies.clone());
    let job = move || compare(&policies, Sizing::full(capacity), seed, &streams);
    let Some(compared) = work::run(signals, job).await? else { return Ok(work::interrupted()) };
    let table = Figures { shown, compared };
    if let Some(directory) = &args.report {
        table.write(directory, capacity)?;
    }
    output.result(&table.text()?, &table.compared)?;
    Ok(Exit::Done)
}

fn compare(
    policies: &[Policy],
    sizing: Sizing,
    seed: u64,
    streams: &[Stream],
) -> anyhow::Result<Compared> {
    let boot = wiring::clock();
    let clock = move || boot.now().since(Instant::since_boot(Duration::ZERO));
    let comparison = Comparison { policies, sizing, seed, clock: &clock };
    let mut progress = Progress::new("compare", "measurements");
    Ok(comparison.run(streams, &mut |done, total| progress.tell(done, total))?)
}

/// The figures, in the order that was asked for.
struct Figures {
    shown: Vec<Policy>,
    compared: Compared,
}

// === impl Figures ===

impl Figures {
    fn rows(&self) -> impl Iterator<Item = (&Policy, &PolicyScores)> {
        table::in_order(&self.shown, &self.compared.policies)
    }

    fn table(&self) -> Table {
        let heads = ["policy", "consumers", "CBS", "R", "solve p50 [ms]", "solve max [ms]"];
        let row = |(policy, PolicyScores { mean, solve_ms, sd }): (&Policy, &PolicyScores)| {
            vec![
                policy.to_string(),
                table::figure(mean.consumers, sd.map(|sd| sd.consumers), 2),
                table::figure(mean.cbs, sd.map(|sd| sd.cbs), 4),
                table::figure(mean.r_score, sd.map(|sd| sd.r_score), 2),
                table::figure(solve_ms.p50, None, 3),
                table::figure(solve_ms.max, None, 3),
            ]
        };
        let heads = heads.map(str::to_owned).to_vec();
        Table { heads, rows: self.rows().map(row).collect() }
    }

    fn text(&self) -> anyhow::Result<String> {
        let Table { heads, rows } = self.table();
        let mut text = table::aligned(&heads, &rows);
        let Compared { iterations, streams, lower_bound, .. } = &self.compared;
        write!(text, "\n\n{iterations} measurements, lower bound {lower_bound:.2} consumers")?;
        if *streams > 1 {
            write!(text, "; {streams} such streams: mean ± standard deviation")?;
        }
        Ok(text)
    }

    fn write(&self, directory: &Path, capacity: u64) -> anyhow::Result<()> {
        let mut csv =
            Csv::new(&["policy", "consumers", "cbs", "r_score", "solve_p50_ms", "solve_max_ms"]);
        for (policy, PolicyScores { mean, solve_ms, .. }) in self.rows() {
            csv.line(&[
                policy,
                &mean.consumers,
                &mean.cbs,
                &mean.r_score,
                &solve_ms.p50,
                &solve_ms.max,
            ]);
        }
        let page = self.page(capacity).html()?;
        let json = serde_json::to_string_pretty(&self.compared)? + "\n";
        report::write(
            directory,
            &[("index.html", &page), ("compare.json", &json), ("compare.csv", csv.text())],
        )
    }

    fn page(&self, capacity: u64) -> Page {
        let Compared { iterations, streams, .. } = &self.compared;
        let front = Section {
            heading: "Consumers against moves".to_owned(),
            text: "Further left needs fewer consumers, further down moves less load. A line joins the policies that no other one beats in both."
                .to_owned(),
            chart: Some(self.chart()),
            table: None,
        };
        let figures = Section {
            heading: "All figures".to_owned(),
            text: "CBS is the relative excess of consumers over the best of the twelve published algorithms in each measurement; R is the \
                   load that moves, in loads of a full consumer."
                .to_owned(),
            chart: None,
            table: Some(self.table()),
        };
        Page {
            title: "Tidegate: policies compared".to_owned(),
            about: format!(
                "{iterations} measurements, streams: {streams}, a consumer is filled up to {capacity}."
            ),
            figures: Vec::new(),
            sections: vec![front, figures],
        }
    }

    fn chart(&self) -> Chart {
        let point = |scores: &PolicyScores| (scores.mean.cbs * 100.0, scores.mean.r_score);
        let points: Vec<_> = self.rows().map(|(policy, scores)| (policy, point(scores))).collect();
        let coordinates: Vec<_> = points.iter().map(|(_, point)| *point).collect();
        let mut series = vec![Series {
            name: Some("not beaten in both".to_owned()),
            shape: Shape::Step,
            colour: Colour::Faint,
            points: pages::front(&coordinates),
        }];
        let is_reference = |policy: &Policy| matches!(policy, Policy::Reference(_));
        let (published, others): (Vec<_>, Vec<_>) =
            points.into_iter().partition(|(policy, _)| is_reference(policy));
        let dots = |name: String, index, points| Series {
            name: Some(name),
            shape: Shape::Dots,
            colour: Colour::Of(index),
            points,
        };
        let published = published.into_iter().map(|(_, point)| point).collect();
        series.push(dots("the published algorithms".to_owned(), 0, published));
        let others = others.into_iter().enumerate();
        series.extend(
            others.map(|(index, (policy, at))| dots(policy.to_string(), index + 1, vec![at])),
        );
        let (x, y) = (Axis::new("CBS [%]"), Axis::new("E[R] [loads of a consumer]"));
        Chart { x, y, series, marks: Vec::new() }
    }
}
