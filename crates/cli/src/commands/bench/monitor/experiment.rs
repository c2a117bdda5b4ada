//! The published experiment: a producer steps through three rates per partition, with random waits and small payloads, and
//! the monitor's samples are put beside what it has stored, while retention deletes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::num::{NonZeroU16, NonZeroU64};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::ensure;
use serde::Serialize;
use tidegate_core::random::SplitMix64;
use tidegate_runtime::spec;
use tidegate_runtime::task::spawn_named;
use tidegate_wire::PartitionRates;

use super::pages;
use super::producer::{Course, Notes, PartitionWriter};
use super::verdict::{Sample, StepFound, Steps, Track};
use crate::args::MonitorBenchArgs;
use crate::commands::bench::ground::{Ground, Plan};
use crate::commands::{table, work};
use crate::failure::Exit;
use crate::output::Output;
use crate::wiring;

/// Two windows a step, so that each has as long with a steady rate as it took to come there.
const DURATION: Duration = Duration::from_secs(180);

/// Nodes of the embedded broker: leaders are on several ports, as they are on a cluster.
const NODES: NonZeroU16 = NonZeroU16::new(3).unwrap();

/// The smallest segments that every version of Kafka takes, and two of them kept.
const DELETED_SOON: [(&str, &str); 2] =
    [("segment.bytes", "1048576"), ("retention.bytes", "2097152")];

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Found {
    pub(super) broker: String,
    pub(super) seed: u64,
    /// Payload in a second.
    pub(super) rates: Vec<u64>,
    pub(super) step_s: u64,
    pub(super) window_s: u64,
    pub(super) filter_time_constant_s: u64,
    pub(super) steps: Vec<StepFound>,
    /// The slowest window of all steps; none if one did not converge.
    pub(super) window_converged_s: Option<f64>,
    /// The worst of all steps.
    pub(super) steady_error_percent: Option<f64>,
    /// How often retention was seen to delete, in all partitions.
    pub(super) deletions: usize,
    /// Bytes stored, and bytes that are left.
    pub(super) stored_bytes: u64,
    pub(super) kept_bytes: u64,
}

/// A run, to be drawn.
pub(super) struct Recording {
    pub(super) steps: Steps,
    pub(super) tracks: BTreeMap<u32, Track>,
}

pub(super) async fn run(args: &MonitorBenchArgs, output: &Output) -> anyhow::Result<Exit> {
    let count = u32::try_from(args.rates.len())?;
    let step = args.duration.unwrap_or(DURATION) / count.max(1);
    let defaults = spec::Monitor::default();
    let plan = Plan {
        brokers: args.bootstrap.clone().ok_or(NODES),
        topics: 1,
        partitions: count,
        settings: DELETED_SOON,
        // Every partition in every report: the samples are read from the reports.
        monitor: spec::Monitor { window: args.window, full_report: defaults.period, ..defaults },
    };
    let ground = Ground::build(plan).await?;
    let recorded = record(args, step, &ground).await;
    let broker = ground.broker_name().to_owned();
    let monitor = ground.config.monitor;
    ground.clear().await;
    let recording = recorded?;
    let found = Found::new(args, broker, &monitor, &recording);
    let mut said = text(&found);
    if let Some(directory) = &args.report {
        pages::write(directory, &found, &recording)?;
        write!(said, "\n\nReport: {}", directory.join("index.html").display())?;
    }
    output.result(&said, &found)?;
    Ok(Exit::Done)
}

/// Runs the writers and the monitor beside each other until the writers are done.
async fn record(
    args: &MonitorBenchArgs,
    step: Duration,
    ground: &Ground,
) -> anyhow::Result<Recording> {
    let clock = wiring::clock();
    let ports = ground.ports()?;
    let mut monitor = ground.monitor(ports);
    // Connections are made, and the partitions are seen while they are empty.
    ensure!(!monitor.round().await.is_empty(), "the monitor finds no partitions: see the log");
    let began_unix_ms = clock.unix_ms();
    let (mut writers, mut notes) = (Vec::new(), BTreeMap::new());
    let mut seeds = SplitMix64::new(args.seed);
    for (number, course) in (0..).zip(courses(&args.rates, step)) {
        let noted = Notes::default();
        notes.insert(number, Arc::clone(&noted));
        let writer = PartitionWriter {
            writer: ground.kafka.batch_writer(),
            clock: Arc::clone(&clock),
            topic: ground.topics[0].clone(),
            number,
            course,
            random: SplitMix64::new(seeds.next()),
            notes: noted,
        };
        writers.push(spawn_named(format!("writer {number}"), writer.run()));
    }
    let mut writing = futures_util::future::try_join_all(writers);
    let mut samples: BTreeMap<u32, Vec<Sample>> = BTreeMap::new();
    let total = step.saturating_mul(u32::try_from(args.rates.len())?);
    let mut progress = work::Progress::new("bench monitor", "seconds");
    let mut periods = tokio::time::interval(ground.config.monitor.period);
    periods.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            ended = &mut writing => {
                ended?.into_iter().collect::<anyhow::Result<()>>()?;
                break;
            }
            _ = periods.tick() => {}
        }
        for report in monitor.round().await {
            note(&report, &mut samples);
        }
        let elapsed = Duration::from_millis(clock.unix_ms().saturating_sub(began_unix_ms));
        progress.tell(usize::try_from(elapsed.as_secs())?, usize::try_from(total.as_secs())?);
    }
    let track = |(number, notes): (u32, Notes)| {
        let written = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
        (number, Track { written, samples: samples.remove(&number).unwrap_or_default() })
    };
    let count = u32::try_from(args.rates.len())?;
    let steps = Steps { began_unix_ms, step, count };
    Ok(Recording { steps, tracks: notes.into_iter().map(track).collect() })
}

/// The rates of each partition: all of them, each partition beginning with another one.
fn courses(rates: &[NonZeroU64], step: Duration) -> Vec<Course> {
    let turned = |by: usize| {
        let mut rates = rates.to_vec();
        rates.rotate_left(by);
        Course { rates, step }
    };
    (0..rates.len()).map(turned).collect()
}

/// Keeps what a report says.
fn note(report: &PartitionRates, samples: &mut BTreeMap<u32, Vec<Sample>>) {
    for (number, measured) in &report.rates {
        samples.entry(*number).or_default().push(Sample {
            unix_ms: report.sampled_unix_ms,
            window_ms: u64::try_from(measured.window.as_millis()).unwrap_or(u64::MAX),
            write_rate: measured.write_rate,
            filtered_rate: measured.filtered_rate,
            size: measured.sample.size,
            log_start: measured.sample.log_start.0,
            high_watermark: measured.sample.high_watermark.0,
            source: measured.source.name(),
        });
    }
}

impl Found {
    fn new(
        args: &MonitorBenchArgs,
        broker: String,
        monitor: &spec::Monitor,
        recording: &Recording,
    ) -> Self {
        let tracks = || recording.tracks.values();
        let steps: Vec<StepFound> = recording
            .tracks
            .iter()
            .flat_map(|(number, track)| track.judge(*number, recording.steps))
            .collect();
        let kept = tracks().filter_map(|track| track.samples.last()?.size);
        Self {
            broker,
            seed: args.seed,
            rates: args.rates.iter().map(|rate| rate.get()).collect(),
            step_s: recording.steps.step.as_secs(),
            window_s: monitor.window.as_secs(),
            filter_time_constant_s: monitor.filter_time_constant.as_secs(),
            window_converged_s: worst(steps.iter().map(|step| step.window_converged_s)),
            steady_error_percent: worst(steps.iter().map(|step| step.steady_error_percent)),
            deletions: tracks().map(Track::deletions).sum(),
            stored_bytes: tracks().map(|track| track.stored(0, u64::MAX)).sum(),
            kept_bytes: kept.sum(),
            steps,
        }
    }
}

/// The largest; none if one is missing.
fn worst(mut figures: impl Iterator<Item = Option<f64>>) -> Option<f64> {
    figures.try_fold(0.0, |worst: f64, figure| Some(worst.max(figure?)))
}

fn text(found: &Found) -> String {
    let heads = [
        "partition, step",
        "stored [B/s]",
        "window converged [s]",
        "filter converged [s]",
        "mean error [B/s]",
        "mean error [%]",
        "steady error [%]",
    ];
    let heads = heads.map(str::to_owned);
    let figure = |figure: Option<f64>, digits| {
        figure.map_or_else(|| "-".to_owned(), |value| table::figure(value, None, digits))
    };
    let row = |step: &StepFound| {
        vec![
            format!("{}, {}", step.partition, step.step + 1),
            step.stored_per_sec.to_string(),
            figure(step.window_converged_s, 1),
            figure(step.filtered_converged_s, 1),
            step.mean_error_bytes_per_sec.to_string(),
            figure(Some(step.mean_error_percent), 2),
            figure(step.steady_error_percent, 2),
        ]
    };
    let rows: Vec<_> = found.steps.iter().map(row).collect();
    format!(
        "{}\n\n{}\n\n\
         Converged: within a tenth of what the producer stores in the step; the window stays there, the filter comes there first.\n\
         Errors: the window's rate against what was stored in the same time; steady: windows within one step.\n\
         Slowest window {} s, worst steady error {} %, {} deletions by retention; {} bytes stored, {} left.",
        found.about(),
        table::aligned(&heads, &rows),
        figure(found.window_converged_s, 1),
        figure(found.steady_error_percent, 2),
        found.deletions,
        found.stored_bytes,
        found.kept_bytes,
    )
}

impl Found {
    /// What was done.
    pub(super) fn about(&self) -> String {
        let rates: Vec<String> = self.rates.iter().map(|rate| format!("{rate} B/s")).collect();
        format!(
            "{} partitions with {} of payload in steps of {} s, records of 123 bytes, waits of 0.01 to 2 s; window {} s, \
             filter {} s; broker {}, seed {}.",
            self.rates.len(),
            rates.join(", "),
            self.step_s,
            self.window_s,
            self.filter_time_constant_s,
            self.broker,
            self.seed,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_any_time_all_rates_are_written() {
        let rates = [1, 2, 3].map(|rate| NonZeroU64::new(rate).unwrap());
        let courses = courses(&rates, Duration::from_secs(1));
        for step in 0..3 {
            let mut now: Vec<u64> = courses.iter().map(|course| course.rates[step].get()).collect();
            now.sort_unstable();
            assert_eq!(now, [1, 2, 3]);
        }
    }

    #[test]
    fn the_worst_is_none_when_one_is_missing() {
        assert_eq!(worst([Some(1.0), Some(3.0), Some(2.0)].into_iter()), Some(3.0));
        assert_eq!(worst([Some(1.0), None].into_iter()), None);
    }
}
