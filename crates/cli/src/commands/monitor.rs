//! `tidegate monitor`: the process of a group; or, with `--once` and `--live`, its measurements for whoever looks, without a group.
//!
//! Both measure as the process does, with its own windows, and publish nothing.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use serde::Serialize;
use tidegate_core::rates::Measurement;
use tidegate_runtime::monitor::{self, Monitor, Shown};
use tidegate_runtime::spec::Config;
use tidegate_wire::PartitionRates;
use tidegate_wire::status::ByteRate;
use tokio::time::{Instant, MissedTickBehavior};

use super::{operator, processes, table};
use crate::args::{MonitorArgs, Source, SpecArgs};
use crate::failure::{Exit, Refused};
use crate::output::{self, Output, Size};
use crate::setup::{self, Patience};
use crate::signals::Signals;
use crate::wiring;

pub(super) async fn run(
    args: MonitorArgs,
    output: &Output,
    signals: Signals,
) -> anyhow::Result<Exit> {
    let MonitorArgs { groups, once, time, live } = args;
    let service = match groups.source() {
        Source::File(service) => service,
        Source::Kubernetes(kubernetes) => return operator::monitor(kubernetes, signals).await,
    };
    if once {
        self::once(&service.spec, time, output, signals).await
    } else if live {
        self::live(&service.spec, output, signals).await
    } else {
        processes::monitor(service, signals).await
    }
}

async fn once(
    spec: &SpecArgs,
    time: Duration,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Exit> {
    let mut meter = Meter::new(spec).await?;
    let until = Instant::now() + time;
    let mut rates = meter.round().await;
    while Instant::now() < until {
        // Cancel-safe: a round that is given up has measured nothing that anybody waits for.
        tokio::select! {
            biased;
            () = signals.next() => bail!("told to end before the rates were measured"),
            round = meter.round() => rates = round,
        }
    }
    let seen = Seen::new(&rates);
    if seen.partitions.is_empty() && seen.missing.is_empty() {
        bail!("no topic of the specification exists, or none may be seen");
    }
    output.result(&seen.text(usize::MAX), &seen)?;
    Ok(Exit::Done)
}

async fn live(spec: &SpecArgs, output: &Output, mut signals: Signals) -> anyhow::Result<Exit> {
    if !output.is_json() && !output.is_live() {
        let text = "--live needs a terminal: use --once, or --output json for an object a line";
        return Err(Refused::usage(text).into());
    }
    let mut meter = Meter::new(spec).await?;
    let mut lines = 0;
    loop {
        let rates = tokio::select! {
            biased;
            () = signals.next() => return Ok(Exit::Done),
            rates = meter.round() => rates,
        };
        let seen = Seen::new(&rates);
        if output.is_json() {
            output.result("", &seen)?;
        } else {
            let picture = seen.picture(Size::of_terminal());
            output::redraw(lines, &picture);
            lines = picture.lines().count();
        }
    }
}

/// Measures, a round a period.
struct Meter {
    monitor: Monitor,
    periods: tokio::time::Interval,
}

// === impl Meter ===

impl Meter {
    async fn new(spec: &SpecArgs) -> anyhow::Result<Self> {
        let mut config = Config::clone(&*setup::load_config(spec)?);
        // Every round tells all.
        config.monitor.full_report = Duration::ZERO;
        let kafka = setup::connect(&config.cluster, "tidegate-monitor", Patience::Command).await?;
        let ports: monitor::Ports = wiring::monitor_ports(&kafka, &config)?;
        let mut periods = tokio::time::interval(config.monitor.period);
        periods.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ok(Self { monitor: Monitor::new(Arc::new(config), ports, Shown::to_nobody()), periods })
    }

    async fn round(&mut self) -> Vec<PartitionRates> {
        self.periods.tick().await;
        let measured = self.monitor.measure().await;
        self.monitor.warn_of_shrinking(&measured).await;
        measured
    }
}

/// What a round has seen, the fastest partition first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    partitions: Vec<Row>,
    /// Partitions that are not measured.
    missing: Vec<Name>,
}

#[derive(Debug, Serialize)]
struct Name {
    topic: String,
    partition: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    #[serde(flatten)]
    name: Name,
    /// Bytes/s over the window, and after the filter.
    write_rate: u64,
    filtered_rate: u64,
    records_per_sec: u64,
    bytes_per_record: Option<u64>,
    window_ms: u64,
    high_watermark: u64,
    log_start: u64,
    log_size: Option<u64>,
    source: &'static str,
}

// === impl Seen ===

impl Seen {
    fn new(rates: &[PartitionRates]) -> Self {
        let name = |topic: &str, partition: u32| Name { topic: topic.to_owned(), partition };
        let rows = rates.iter().flat_map(|of| {
            of.rates.iter().map(|(number, measured)| Row::new(name(&of.topic, *number), measured))
        });
        let missing = rates
            .iter()
            .flat_map(|of| of.missing.iter().map(|number| name(&of.topic, *number)))
            .collect();
        let mut partitions: Vec<Row> = rows.collect();
        // Stable: partitions of one rate stay in the order of topics and numbers.
        partitions.sort_by_key(|row| std::cmp::Reverse(row.write_rate));
        Self { partitions, missing }
    }

    /// What a terminal has room for: partitions that it has none for are counted.
    fn picture(&self, size: Size) -> String {
        let rows = size.picture_rows();
        let frame = self.text(0).lines().count();
        let text = size.cut(&self.text(rows.saturating_sub(frame)));
        // Where there is not even room for the frame, the sums at its end are what matters.
        let surplus = text.lines().count().saturating_sub(rows);
        text.split_inclusive('\n').skip(surplus).collect()
    }

    /// At most so many lines of partitions.
    fn text(&self, lines: usize) -> String {
        let heads = ["partition", "write rate", "filtered", "records/s", "bytes/record", "source"];
        let heads = heads.map(str::to_owned).to_vec();
        let rows: Vec<_> = self.partitions.iter().take(lines).map(Row::cells).collect();
        let mut text = table::aligned(&heads, &rows);
        let total =
            |rate: fn(&Row) -> u64| self.partitions.iter().map(rate).fold(0, u64::saturating_add);
        let more = self.partitions.len().saturating_sub(lines);
        let shown = if more == 0 { String::new() } else { format!(", {more} of them not shown") };
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "\n\n{} partitions{shown}, {} in all, {} records/s",
            self.partitions.len(),
            ByteRate(total(|row| row.write_rate)),
            total(|row| row.records_per_sec)
        );
        if !self.missing.is_empty() {
            let names: Vec<_> = self.missing.iter().take(10).map(Name::to_string).collect();
            let more = if self.missing.len() > 10 { ", ..." } else { "" };
            let _ =
                write!(text, "\n{} not measured: {}{more}", self.missing.len(), names.join(", "));
        }
        text
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

// === impl Row ===

impl Row {
    fn new(name: Name, measured: &Measurement) -> Self {
        Self {
            name,
            write_rate: measured.write_rate,
            filtered_rate: measured.filtered_rate,
            records_per_sec: measured.records_per_sec,
            bytes_per_record: measured.bytes_per_record,
            window_ms: u64::try_from(measured.window.as_millis()).unwrap_or(u64::MAX),
            high_watermark: measured.sample.high_watermark.0,
            log_start: measured.sample.log_start.0,
            log_size: measured.sample.size,
            source: measured.source.name(),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            ByteRate(self.write_rate).to_string(),
            ByteRate(self.filtered_rate).to_string(),
            self.records_per_sec.to_string(),
            self.bytes_per_record.map_or("-".to_owned(), |bytes| bytes.to_string()),
            self.source.to_owned(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partition: u32, write_rate: u64) -> Row {
        Row {
            name: Name { topic: "orders".to_owned(), partition },
            write_rate,
            filtered_rate: write_rate,
            records_per_sec: write_rate / 100,
            bytes_per_record: (write_rate > 0).then_some(100),
            window_ms: 9000,
            high_watermark: 7,
            log_start: 0,
            log_size: Some(700),
            source: "log-size",
        }
    }

    #[test]
    fn the_table_has_human_units_a_sum_and_what_is_missing() {
        let seen = Seen {
            partitions: vec![row(3, 1_500_000), row(0, 2000), row(1, 0)],
            missing: vec![Name { topic: "orders".to_owned(), partition: 2 }],
        };
        let text = "\
partition  write rate   filtered  records/s  bytes/record    source
orders-3    1.50 MB/s  1.50 MB/s      15000           100  log-size
orders-0     2.0 kB/s   2.0 kB/s         20           100  log-size

3 partitions, 1 of them not shown, 1.50 MB/s in all, 15020 records/s
1 not measured: orders-2";
        assert_eq!(seen.text(2), text);
    }

    #[test]
    fn the_live_picture_never_leaves_the_terminal() {
        let missing = vec![Name { topic: "a-topic-with-a-long-name".repeat(9), partition: 2 }];
        let partitions = (0..50).map(|number| row(number, 1000)).collect();
        let seen = Seen { partitions, missing };
        for (rows, columns) in [(1, 80), (2, 80), (5, 80), (10, 60), (24, 20), (200, 300)] {
            let picture = seen.picture(Size { rows, columns });
            // One more line is the cursor's; one more character would wrap.
            assert!(picture.lines().count() < rows, "{rows} rows: {picture}");
            assert!(picture.lines().all(|line| line.len() < columns), "{columns}: {picture}");
            assert!(picture.is_empty() || picture.ends_with('\n'), "{picture}");
        }
        let picture = seen.picture(Size { rows: 10, columns: 60 });
        let shown = picture.lines().filter(|line| line.starts_with("orders-")).count();
        assert_eq!(shown, 5, "all room is used: {picture}");
        assert!(picture.contains("\n50 partitions, 45 of them not shown, "), "{picture}");
        let large = seen.picture(Size { rows: 200, columns: 80 });
        assert!(large.contains("orders-49 ") && large.contains("\n50 partitions, 50"), "{large}");
        let small = seen.picture(Size { rows: 3, columns: 80 });
        assert!(small.starts_with("50 partitions, 50 of them not shown"), "{small}");
    }
}
