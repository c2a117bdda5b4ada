//! What the simulations of latency and of frequency share: the size of consumers, what a hand-off costs, and how figures are shown.

use std::num::NonZeroU64;

use tidegate_sim::planner::Sizing;
use tidegate_sim::planner::latency::{Handoff, HandoffOrder, PolicyFigures};

use super::{input, table};
use crate::args::{GroupArgs, HandoffName, SourceArgs};
use crate::failure::Refused;
use crate::report::{Csv, Table};

/// The heads of the columns that [`cells`] fills.
pub(super) const HEADS: [&str; 8] = [
    "consumers",
    "R",
    "mean [s]",
    "p50 [s]",
    "p90 [s]",
    "p99 [s]",
    "p99.9 [s]",
    "later than 1 s [%]",
];

/// The columns of a file, as [`line()`] fills them.
pub(super) const COLUMNS: [&str; 8] =
    ["consumers", "r_score", "mean_s", "p50_s", "p90_s", "p99_s", "p999_s", "late_share"];

/// The size of consumers, as it is said or by the published ratios.
pub(super) fn sizing(group: &GroupArgs, source: &SourceArgs) -> anyhow::Result<Sizing> {
    let packing = group.packing.map_or_else(|| input::usual_capacity(source), NonZeroU64::get);
    let share = |said: Option<NonZeroU64>, percent: u64| {
        said.map_or_else(
            || (packing / 100).saturating_mul(percent) + packing % 100 * percent / 100,
            NonZeroU64::get,
        )
    };
    let (overload, capacity) = (share(group.overload, 120), share(group.consumer_capacity, 133));
    let sizing = Sizing { packing, overload, capacity };
    sizing.validate().map_err(|error| Refused::usage(error.to_string()).into())
}

/// What a hand-off costs in the fluid model.
pub(super) fn handoff(group: &GroupArgs) -> Handoff {
    Handoff {
        pause: group.migration,
        start_delay: group.start_delay.unwrap_or_default(),
        order: match group.handoff {
            Some(HandoffName::MakeFirst) => HandoffOrder::MakeFirst,
            Some(HandoffName::BreakFirst) | None => HandoffOrder::BreakFirst,
        },
    }
}

/// A table for a terminal, and what its figures are.
pub(super) fn text(table: &Table, streams: usize) -> String {
    let lines = table::aligned(&table.heads, &table.rows);
    if streams > 1 {
        format!("{lines}\n\n{streams} streams: mean ± standard deviation")
    } else {
        lines
    }
}

/// A row of a table.
pub(super) fn cells(figures: &PolicyFigures) -> Vec<String> {
    let digits = [2, 2, 3, 3, 3, 2, 2, 2];
    let (means, deviations) = (parts(figures.mean), figures.sd.map(parts));
    let cell = |index: usize| {
        let scale = if index == 7 { 100.0 } else { 1.0 };
        let deviation = deviations.map(|parts| parts[index] * scale);
        table::figure(means[index] * scale, deviation, digits[index])
    };
    (0..HEADS.len()).map(cell).collect()
}

/// Adds a line to a file: names first.
pub(super) fn line(csv: &mut Csv, names: &[&dyn std::fmt::Display], figures: &PolicyFigures) {
    let means = parts(figures.mean);
    let means = means.iter().map(|mean| -> &dyn std::fmt::Display { mean });
    csv.line(&names.iter().copied().chain(means).collect::<Vec<_>>());
}

fn parts(figures: tidegate_sim::planner::latency::LatencyFigures) -> [f64; 8] {
    let latency = figures.latency_s;
    [
        figures.consumers,
        figures.r_score,
        latency.mean,
        latency.p50,
        latency.p90,
        latency.p99,
        latency.p999,
        figures.late_share,
    ]
}
