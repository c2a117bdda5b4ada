//! The report of a run: a page with graphs, and the numbers behind them as files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use tidegate_core::ids::{ConsumerNumber, PartitionId};
use tidegate_load::audit::AuditReport;
use tidegate_runtime::spec::Rate;

use super::cast::Recording;
use super::setting::Setting;
use super::stage::Stage;
use super::summary::{Summary, was_planned};
use crate::report::{
    self, Axis, Chart, Colour, Csv, Figure, Page, Section, Series, Shape, Table, millionths,
    thousandths,
};

/// Partitions that are told apart in the chart of rates.
const NAMED_PARTITIONS: usize = 5;

/// What a report is made from.
struct Material<'a> {
    setting: &'a Setting,
    stage: &'a Stage,
    recording: &'a Recording,
    report: &'a AuditReport,
    summary: &'a Summary,
}

/// Writes the report to a folder.
pub(super) fn write(
    directory: &Path,
    setting: &Setting,
    stage: &Stage,
    recording: &Recording,
    report: &AuditReport,
    summary: &Summary,
) -> anyhow::Result<()> {
    let material = Material { setting, stage, recording, report, summary };
    report::write(
        directory,
        &[
            ("index.html", &material.page().html()?),
            ("summary.json", &(serde_json::to_string_pretty(summary)? + "\n")),
            ("rates.csv", material.rates_csv().text()),
            ("consumers.csv", material.consumers_csv().text()),
            ("freshness.csv", material.freshness_csv().text()),
            ("handoffs.csv", material.handoffs_csv().text()),
        ],
    )
}

// === the page ===

impl Material<'_> {
    fn page(&self) -> Page {
        let load = &self.setting.args.load;
        let about = format!(
            "{} partitions in {} topics, written for {} at {} in all; profile {}, seed {}; broker {}; a consumer bears {}.",
            self.setting.partition_count(),
            load.topics,
            tidegate_runtime::spec::Span::print(self.setting.args.duration),
            Rate::print(load.rate),
            load.profile,
            self.setting.seed,
            self.summary.broker,
            Rate::print(self.setting.capacity),
        );
        let sections = vec![
            self.rates_section(),
            self.consumers_section(),
            self.load_section(),
            self.freshness_section(),
            self.handoffs_section(),
        ];
        Page { title: "Tidegate demo".to_owned(), about, figures: self.figures(), sections }
    }

    fn figures(&self) -> Vec<Figure> {
        let summary = self.summary;
        let figure =
            |value: String, label: &str, good| Figure { value, label: label.to_owned(), good };
        let fault = |count: u64, label| figure(grouped(count), label, Some(count == 0));
        vec![
            figure(grouped(summary.produced), "records acknowledged", None),
            figure(grouped(summary.delivered), "records in the sink", None),
            fault(summary.lost, "lost"),
            fault(summary.duplicated, "duplicated"),
            fault(summary.out_of_order, "out of order"),
            figure(grouped(summary.handoffs), "hand-offs", Some(summary.handoffs > 0)),
            figure(
                format!("{} ms", grouped(summary.handoff_ms.p99)),
                "planned hand-off, p99",
                None,
            ),
            figure(format!("{} ms", grouped(summary.freshness_ms.p99)), "freshness, p99", None),
            figure(
                format!("{} – {}", summary.consumers.min, summary.consumers.max),
                "consumers",
                None,
            ),
            figure(summary.plans.to_string(), "plans", None),
            figure(summary.kills.to_string(), "consumers killed", None),
        ]
    }

    fn rates_section(&self) -> Section {
        let tops = self.top_partitions();
        let of =
            |partition: PartitionId| self.points(|sample| sample.rates.get(&partition).copied());
        let partitions = || self.stage.partitions.iter();
        let faint = partitions()
            .filter(|partition| !tops.contains(&partition.id))
            .map(|partition| series(None, Shape::Line, Colour::Faint, of(partition.id)));
        let named = tops.iter().enumerate().map(|(index, id)| {
            let name = partitions().find(|partition| partition.id == *id);
            let name = name.map(|partition| self.short_name(&partition.topic, id.number));
            series(name, Shape::Line, Colour::Of(index), of(*id))
        });
        let series: Vec<_> = faint.chain(named).collect();
        let text = "As the monitor published it, after the low-pass filter. The five highest are named; \
                    the others are grey.";
        section("Write rate of each partition", text, self.chart("MB/s", series))
    }

    fn consumers_section(&self) -> Section {
        let living = self.points(|sample| Some(sample.consumers.len() as u64 * 1_000_000));
        let needed = self.points(|sample| {
            let total: u64 = sample.rates.values().sum();
            Some(total.saturating_mul(1_000_000) / self.setting.capacity)
        });
        let series = vec![
            series(
                Some("load, in capacities of one consumer".to_owned()),
                Shape::Line,
                Colour::Faint,
                needed,
            ),
            series(Some("living consumers".to_owned()), Shape::Step, Colour::Of(0), living),
        ];
        let text = "Consumers are packed up to 75 % of their capacity. Dashed lines: a consumer was killed.";
        section("Consumers over time", text, self.chart("consumers", series))
    }

    fn load_section(&self) -> Section {
        let all: BTreeSet<ConsumerNumber> = self
            .recording
            .samples
            .iter()
            .flat_map(|sample| sample.consumers.keys().copied())
            .collect();
        let capacity = self.setting.capacity.get();
        let limit = self.points(|_| Some(capacity));
        let mut lines =
            vec![series(Some("capacity".to_owned()), Shape::Line, Colour::Faint, limit)];
        lines.extend(all.into_iter().enumerate().map(|(index, consumer)| {
            let load = self.points(|sample| Some(sample.consumers.get(&consumer)?.bytes_per_sec));
            let name = (index < 7).then(|| format!("consumer {consumer}"));
            series(name, Shape::Line, Colour::Of(index), load)
        }));
        let text = "Sum of the measured rates of the partitions that each consumer owns.";
        section("Load of each consumer", text, self.chart("MB/s", lines))
    }

    fn freshness_section(&self) -> Section {
        let seconds = self.seconds();
        let mean = seconds.iter().filter_map(|(at, second)| {
            Some((*at, thousandths(second.freshness_sum_ms.checked_div(second.records)?)))
        });
        let worst = seconds.iter().map(|(at, second)| (*at, thousandths(second.freshness_max_ms)));
        let series = vec![
            series(Some("worst".to_owned()), Shape::Bars, Colour::Of(5), worst.collect()),
            series(Some("mean".to_owned()), Shape::Line, Colour::Of(0), mean.collect()),
        ];
        let text = "From the moment a record was sent to the moment it was durable in the sink, for the records that \
                    became durable in each second.";
        section("Freshness", text, self.chart("s", series))
    }

    fn handoffs_section(&self) -> Section {
        let dots = |planned: bool| -> Vec<_> {
            let chosen = self
                .report
                .handoffs
                .iter()
                .filter(|handoff| was_planned(self.recording, self.stage, handoff) == planned);
            chosen
                .map(|handoff| (self.elapsed(handoff.at_ms), thousandths(handoff.gap_ms)))
                .collect()
        };
        let mut series =
            vec![series(Some("planned".to_owned()), Shape::Dots, Colour::Of(0), dots(true))];
        let others = dots(false);
        if !others.is_empty() {
            let name = Some("after a consumer's end".to_owned());
            series.push(self::series(name, Shape::Dots, Colour::Of(1), others));
        }
        let text = "From the last durable write of the old owner to the first of the new one, read from the sink. A \
                    partition that is rarely written waits for its next record, too.";
        let mut section = section("Hand-offs", text, self.chart("s", series));
        section.table = Some(self.handoffs_table());
        section
    }

    fn handoffs_table(&self) -> Table {
        let row = |name: &str, quantiles: super::summary::Quantiles| {
            vec![
                name.to_owned(),
                quantiles.p50.to_string(),
                quantiles.p99.to_string(),
                quantiles.max.to_string(),
            ]
        };
        Table {
            heads: ["milliseconds", "p50", "p99", "max"].map(str::to_owned).to_vec(),
            rows: vec![
                row("planned", self.summary.handoff_ms),
                row("after a consumer's end", self.summary.recovery_ms),
            ],
        }
    }

    // === numbers ===

    /// A value of each sample, by seconds, in millions.
    fn points(&self, value: impl Fn(&super::observed::Sample) -> Option<u64>) -> Vec<(f64, f64)> {
        let samples = self.recording.samples.iter();
        samples
            .filter_map(|sample| Some((thousandths(sample.at_ms), millionths(value(sample)?))))
            .collect()
    }

    fn chart(&self, unit: &str, series: Vec<Series>) -> Chart {
        let mut x = Axis::new("seconds since the load began");
        x.at_least = thousandths(self.recording.elapsed_ms);
        let label = match unit {
            "s" => "seconds",
            other => other,
        };
        let marks = self.recording.kills.iter().map(|(at_ms, _)| thousandths(*at_ms)).collect();
        Chart { x, y: Axis::new(label), series, marks }
    }

    fn top_partitions(&self) -> Vec<PartitionId> {
        let mut highest: BTreeMap<PartitionId, u64> = BTreeMap::new();
        for (partition, rate) in self.recording.samples.iter().flat_map(|sample| &sample.rates) {
            let known = highest.entry(*partition).or_default();
            *known = (*known).max(*rate);
        }
        let mut all: Vec<_> = highest.into_iter().map(|(id, rate)| (rate, id)).collect();
        all.sort_unstable_by(|one, other| other.cmp(one));
        all.into_iter().take(NAMED_PARTITIONS).map(|(_, id)| id).collect()
    }

    fn short_name(&self, topic: &str, number: u32) -> String {
        let short = topic.strip_prefix(self.setting.name.as_str()).unwrap_or(topic);
        format!("{}-{number}", short.trim_start_matches('.'))
    }

    fn elapsed(&self, unix_ms: u64) -> f64 {
        thousandths(unix_ms.saturating_sub(self.recording.began_unix_ms))
    }

    /// What became durable, by seconds since the load began.
    fn seconds(&self) -> Vec<(f64, tidegate_load::audit::Second)> {
        let seconds = self.report.seconds.iter();
        seconds.map(|(second, sums)| (self.elapsed(second * 1000 + 500), *sums)).collect()
    }

    // === files ===

    fn rates_csv(&self) -> Csv {
        let mut csv = Csv::new(&["elapsed_ms", "topic", "partition", "filtered_bytes_per_second"]);
        for sample in &self.recording.samples {
            for partition in &self.stage.partitions {
                let Some(rate) = sample.rates.get(&partition.id) else { continue };
                csv.line(&[&sample.at_ms, &partition.topic, &partition.id.number, rate]);
            }
        }
        csv
    }

    fn consumers_csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "elapsed_ms",
            "consumer",
            "partitions",
            "bytes_per_second",
            "written_bytes",
            "in_flight",
            "behind_ms",
        ]);
        for sample in &self.recording.samples {
            for (consumer, load) in &sample.consumers {
                let (written, in_flight) = (&sample.written_bytes, &sample.in_flight);
                csv.line(&[
                    &sample.at_ms,
                    consumer,
                    &load.partitions,
                    &load.bytes_per_sec,
                    written,
                    in_flight,
                    &sample.behind_ms,
                ]);
            }
        }
        csv
    }

    fn freshness_csv(&self) -> Csv {
        let mut csv =
            Csv::new(&["unix_second", "records", "bytes", "freshness_mean_ms", "freshness_max_ms"]);
        for (second, sums) in &self.report.seconds {
            let mean = sums.freshness_sum_ms.checked_div(sums.records).unwrap_or(0);
            csv.line(&[second, &sums.records, &sums.bytes, &mean, &sums.freshness_max_ms]);
        }
        csv
    }

    fn handoffs_csv(&self) -> Csv {
        let mut csv = Csv::new(&[
            "unix_ms",
            "topic",
            "partition",
            "from_epoch",
            "to_epoch",
            "planned",
            "gap_ms",
            "idle_ms",
        ]);
        for handoff in &self.report.handoffs {
            let planned = was_planned(self.recording, self.stage, handoff);
            csv.line(&[
                &handoff.at_ms,
                &handoff.topic,
                &handoff.partition,
                &handoff.from_epoch,
                &handoff.to_epoch,
                &planned,
                &handoff.gap_ms,
                &handoff.idle_ms,
            ]);
        }
        csv
    }
}

fn section(heading: &str, text: &str, chart: Chart) -> Section {
    Section { heading: heading.to_owned(), text: text.to_owned(), chart: Some(chart), table: None }
}

fn series(name: Option<String>, shape: Shape, colour: Colour, points: Vec<(f64, f64)>) -> Series {
    Series { name, shape, colour, points }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
