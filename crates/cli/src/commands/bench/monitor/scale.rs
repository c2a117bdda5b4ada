//! What the monitor's rounds cost: time, CPU, bytes and memory, over very many partitions.
//!
//! A round is all of it: metadata, both `ListOffsets`, log dirs, windows, filter, encode, publish. Before each some
//! partitions are written to, and that is not timed. The broker is another process, so that CPU and memory are the
//! monitor's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use tidegate_core::random::SplitMix64;
use tidegate_kafka::BatchWriter;
use tidegate_runtime::monitor;
use tidegate_runtime::ports::{AppendError, ControlLog, ControlReader, Error, RawRecord};
use tidegate_runtime::spec;

use super::producer::PAYLOAD;
use crate::args::MonitorBenchArgs;
use crate::commands::bench::ground::{Ground, Plan};
use crate::commands::bench::usage;
use crate::commands::{table, work};
use crate::failure::Exit;
use crate::output::Output;
use crate::quantiles::nearest_ranks;
use crate::wiring;

/// Longer than two periods of full reports, and than the window.
const DURATION: Duration = Duration::from_secs(65);

/// Between two rounds, as by default.
const PERIOD: Duration = Duration::from_secs(1);

/// How often `ListOffsets` alone is asked in either way.
const PROBES: usize = 21;

/// What is written must not fill the memory of the broker.
const SMALL_LOGS: [(&str, &str); 2] = [("segment.bytes", "1024"), ("retention.bytes", "1024")];

/// Records of a batch at most: what is written must stay small beside what is measured.
const MOST_RECORDS: u64 = 4;

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    partitions: u32,
    topics: u32,
    brokers: u16,
    busy_percent: u32,
    rounds: usize,
    round_ms: Times,
    /// Mean of all rounds.
    cpu_ms: f64,
    /// Rounds in which every partition was reported.
    full_rounds: FullRounds,
    /// Medians.
    list_offsets_ms: f64,
    bare_loop_ms: f64,
    /// Means, without what is published.
    bytes_in: u64,
    bytes_out: u64,
    /// Mean, before compression.
    bytes_published: u64,
    /// Partitions without a measurement, in the last round.
    missing: usize,
    rss_mib: Option<u64>,
    rss_peak_mib: Option<u64>,
    /// What the process has grown by since before the first round.
    rss_bytes_per_partition: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Times {
    p50: f64,
    p99: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct FullRounds {
    count: usize,
    max_ms: f64,
    cpu_ms: f64,
}

/// One round.
#[derive(Clone, Copy, Debug)]
struct Cost {
    took: Duration,
    cpu: Duration,
    received: u64,
    sent: u64,
    published: u64,
    full: bool,
}

pub(super) async fn run(
    args: &MonitorBenchArgs,
    partitions: u32,
    output: &Output,
) -> anyhow::Result<Exit> {
    let topics = args.topics.min(partitions);
    let plan = Plan {
        brokers: Err(args.brokers),
        topics,
        partitions: partitions / topics,
        settings: SMALL_LOGS,
        // Metadata in each round: the round that costs most.
        monitor: spec::Monitor {
            metadata_refresh: Duration::from_millis(1),
            ..spec::Monitor::default()
        },
    };
    let ground = Ground::build(plan).await?;
    let found = measure(args, partitions / topics, &ground).await;
    ground.clear().await;
    let found = found?;
    output.result(&text(&found), &found)?;
    Ok(Exit::Done)
}

async fn measure(args: &MonitorBenchArgs, each: u32, ground: &Ground) -> anyhow::Result<Found> {
    let before = usage::memory();
    let published = Arc::new(AtomicU64::new(0));
    let ports = ground.ports()?;
    let log = Arc::new(Counted { log: ports.log, bytes: Arc::clone(&published) });
    let mut monitor = ground.monitor(monitor::Ports { log, ..ports });
    let clock = wiring::clock();
    let mut writer = Writer::new(args, each, ground);
    let mut progress = work::Progress::new("bench monitor", "rounds");
    let rounds = rounds(args.duration.unwrap_or(DURATION));
    let mut costs = Vec::with_capacity(rounds);
    let mut missing = 0;
    let mut periods = tokio::time::interval(PERIOD);
    periods.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while costs.len() < rounds {
        writer.write(clock.unix_ms()).await?;
        periods.tick().await;
        let (traffic, already) = (ground.kafka.traffic(), published.load(Ordering::Relaxed));
        let (began, cpu) = (clock.now(), usage::cpu());
        let reports = monitor.round().await;
        let (took, cpu) = (clock.now().since(began), usage::cpu().saturating_sub(cpu));
        ensure!(reports.len() == ground.topics.len(), "a round failed: see the log");
        let full = reports.iter().any(|report| report.full);
        missing = reports.iter().map(|report| report.missing.len()).sum();
        let now = ground.kafka.traffic();
        costs.push(Cost {
            took,
            cpu,
            received: now.received - traffic.received,
            sent: now.sent - traffic.sent,
            published: published.load(Ordering::Relaxed) - already,
            full,
        });
        progress.tell(costs.len(), rounds);
    }
    let after = usage::memory();
    let (list_offsets_ms, bare_loop_ms) = probe(ground).await?;
    let topics = u32::try_from(ground.topics.len())?;
    let partitions = each * topics;
    let mib = |bytes: u64| bytes >> 20;
    Ok(Found {
        partitions,
        topics,
        brokers: args.brokers.get(),
        busy_percent: args.busy,
        rounds: costs.len(),
        round_ms: Times::of(costs.iter().map(|cost| cost.took).collect()),
        cpu_ms: mean(&costs, |cost| micros(cost.cpu)) / 1e3,
        full_rounds: FullRounds::of(&costs),
        list_offsets_ms,
        bare_loop_ms,
        bytes_in: whole(mean(&costs, |cost| cost.received)),
        bytes_out: whole(mean(&costs, |cost| cost.sent)),
        bytes_published: whole(mean(&costs, |cost| cost.published)),
        missing,
        rss_mib: after.map(|memory| mib(memory.now)),
        rss_peak_mib: after.map(|memory| mib(memory.peak)),
        rss_bytes_per_partition: before.zip(after).map(|(before, after)| {
            after.now.saturating_sub(before.now) / u64::from(partitions).max(1)
        }),
    })
}

/// So many rounds are as long as this.
fn rounds(duration: Duration) -> usize {
    usize::try_from(duration.as_secs()).unwrap_or(usize::MAX).max(1)
}

/// Medians of `ListOffsets` alone and of the bare loop, asked in turn, in milliseconds.
async fn probe(ground: &Ground) -> anyhow::Result<(f64, f64)> {
    let clock = wiring::clock();
    let mut probe = ground.kafka.offsets_probe(&ground.topics).await?;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..PROBES {
        let began = clock.now();
        let answered = probe.ask().await?;
        let between = clock.now();
        let answered_bare = probe.ask_bare().await?;
        bare.push(clock.now().since(between));
        ours.push(between.since(began));
        ensure!(
            answered == answered_bare,
            "{answered} offsets, and {answered_bare} without checks"
        );
    }
    Ok((Times::of(ours).p50, Times::of(bare).p50))
}

// === the load ===

/// Writes to some partitions of each topic.
struct Writer {
    batches: BatchWriter,
    topics: Vec<String>,
    busy: u32,
    random: SplitMix64,
}

impl Writer {
    fn new(args: &MonitorBenchArgs, each: u32, ground: &Ground) -> Self {
        let share = u64::from(each) * u64::from(args.busy) / 100;
        Self {
            batches: ground.kafka.batch_writer(),
            topics: ground.topics.clone(),
            busy: u32::try_from(share).unwrap_or(each),
            random: SplitMix64::new(args.seed),
        }
    }

    async fn write(&mut self, now_unix_ms: u64) -> anyhow::Result<()> {
        /// Topics at once: few, so that what is on its way is little beside the monitor's memory.
        const AT_ONCE: usize = 8;
        if self.busy == 0 {
            return Ok(());
        }
        for topics in self.topics.chunks(AT_ONCE) {
            let random = &mut self.random;
            let mut batches = Vec::new();
            for topic in topics {
                let batch = |number| (number, amount(random));
                let values: BTreeMap<u32, Vec<Bytes>> = (0..self.busy).map(batch).collect();
                batches.push((topic, values));
            }
            let writes = batches
                .iter()
                .map(|(topic, values)| self.batches.write(topic, values, now_unix_ms));
            futures_util::future::try_join_all(writes).await?;
        }
        Ok(())
    }
}

fn amount(random: &mut SplitMix64) -> Vec<Bytes> {
    let count = 1 + random.next() % MOST_RECORDS;
    (0..count).map(|_| PAYLOAD).collect()
}

/// Counts what is published.
#[derive(Debug)]
struct Counted {
    log: Arc<dyn ControlLog>,
    bytes: Arc<AtomicU64>,
}

#[async_trait]
impl ControlLog for Counted {
    async fn append(&self, partition: u32, record: RawRecord) -> Result<u64, AppendError> {
        let bytes = record.value.as_ref().map_or(0, Bytes::len) as u64;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.log.append(partition, record).await
    }

    async fn end(&self, partition: u32) -> Result<u64, Error> {
        self.log.end(partition).await
    }

    async fn start(&self, partition: u32) -> Result<u64, Error> {
        self.log.start(partition).await
    }

    async fn read(&self, partition: u32, from: u64) -> Result<Box<dyn ControlReader>, Error> {
        self.log.read(partition, from).await
    }

    async fn trim(&self, partition: u32, below: u64) -> Result<(), Error> {
        self.log.trim(partition, below).await
    }
}

// === figures ===

impl Times {
    fn of(times: Vec<Duration>) -> Self {
        let [p50, p99, max] = nearest_ranks(times).map(millis);
        Self { p50, p99, max }
    }
}

impl FullRounds {
    fn of(costs: &[Cost]) -> Self {
        let full: Vec<Cost> = costs.iter().copied().filter(|cost| cost.full).collect();
        Self {
            count: full.len(),
            max_ms: full.iter().map(|cost| millis(cost.took)).fold(0.0, f64::max),
            cpu_ms: mean(&full, |cost| micros(cost.cpu)) / 1e3,
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

/// With two digits behind the point: more is noise.
fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 1e5).round() / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn mean(costs: &[Cost], of: impl Fn(&Cost) -> u64) -> f64 {
    let sum: u64 = costs.iter().map(of).sum();
    (sum as f64 / costs.len().max(1) as f64).round()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of whole numbers, rounded"
)]
fn whole(mean: f64) -> u64 {
    mean as u64
}

fn text(found: &Found) -> String {
    let FullRounds { count, max_ms, cpu_ms } = found.full_rounds;
    let memory = |mib: Option<u64>| mib.map_or_else(|| "unknown".to_owned(), |mib| mib.to_string());
    let rows = [
        ("round p50 [ms]", format!("{:.1}", found.round_ms.p50)),
        ("round p99 [ms]", format!("{:.1}", found.round_ms.p99)),
        ("round max [ms]", format!("{:.1}", found.round_ms.max)),
        ("CPU [ms]", format!("{:.1}", found.cpu_ms)),
        ("full rounds", count.to_string()),
        ("full round max [ms]", format!("{max_ms:.1}")),
        ("full round CPU [ms]", format!("{cpu_ms:.1}")),
        ("ListOffsets p50 [ms]", format!("{:.1}", found.list_offsets_ms)),
        ("bare loop p50 [ms]", format!("{:.1}", found.bare_loop_ms)),
        ("received [B]", found.bytes_in.to_string()),
        ("sent [B]", found.bytes_out.to_string()),
        ("published [B]", found.bytes_published.to_string()),
        ("not measured", found.missing.to_string()),
        ("resident [MiB]", memory(found.rss_mib)),
        ("resident peak [MiB]", memory(found.rss_peak_mib)),
        ("grown [B/partition]", memory(found.rss_bytes_per_partition)),
    ];
    let heads = [String::new(), "a round".to_owned()];
    let rows: Vec<_> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    let table = table::aligned(&heads, &rows);
    let Found { partitions, topics, brokers, busy_percent, rounds, .. } = found;
    format!(
        "{partitions} partitions in {topics} topics on {brokers} embedded brokers, {busy_percent} % busy, {rounds} rounds.\n\n\
         {table}\n\n\
         CPU and bytes are means; published is before compression and not among what was sent."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times = (1..=200).rev().map(Duration::from_millis).collect();
        let Times { p50, p99, max } = Times::of(times);
        assert_eq!([p50, p99, max].map(|time| time.to_string()), ["100", "198", "200"]);
        assert_eq!(Times::of(Vec::new()).max.to_string(), "0");
    }
}
