//! `tidegate bench consumer`: how fast a consumer reads, and what it costs, beside other programs that read the same
//! topics in the same run.

mod ledger;
mod once;
mod peers;

use std::collections::BTreeMap;
use std::process::Stdio;

use anyhow::{Context as _, bail};
use serde::Serialize;
use tidegate_kafka::Kafka;
use tidegate_runtime::ports::TopicSpec;
use tidegate_runtime::spec;
use tokio::process::Command;

use self::once::Found;
pub(crate) use self::peers::Peer;
use self::peers::{PeerKind, Task};
use crate::args::{ConsumeOnceArgs, ConsumerBenchArgs};
use crate::commands::bench::figures::{self, Entry, Figures, OURS, Run};
use crate::commands::bench::ground::{Ground, Plan};
use crate::commands::work;
use crate::failure::Exit;
use crate::output::{self, Output};
use crate::signals::Signals;
use crate::wiring;

/// Bytes of a batch that is written, roughly: half of what a broker takes by default.
const BATCH_BYTES: u64 = 500_000;

/// What was found, in the form of `--output json`.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    runs: Vec<Row>,
    /// Of Tidegate alone, where they were asked for.
    grants: Vec<Grants>,
    idle: Vec<Idle>,
}

/// One reader on the same topics.
#[derive(Clone, Debug, Serialize)]
struct Row {
    who: &'static str,
    record_bytes: u64,
    /// Of all topics together.
    partitions: u32,
    topics: u32,
    brokers: u32,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Debug, Serialize)]
struct Grants {
    partitions: u32,
    first_read_ms: Quantiles,
    first_durable_ms: Quantiles,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: f64,
    p99: f64,
}

#[derive(Debug, Serialize)]
struct Idle {
    partitions: u32,
    cpu_percent: f64,
}

/// Topics and what they hold.
#[derive(Clone, Copy, Debug)]
struct Cell {
    record_bytes: u64,
    topics: u32,
    /// Of each topic.
    partitions: u32,
}

pub(super) async fn run(
    args: &ConsumerBenchArgs,
    output: &Output,
    mut signals: Signals,
) -> anyhow::Result<Exit> {
    let plan = Plan {
        brokers: args.bootstrap.clone().ok_or(args.brokers),
        topics: 0,
        partitions: 1,
        settings: [("retention.ms", "-1"), ("retention.bytes", "-1")],
        monitor: spec::Monitor::default(),
    };
    let ground = Ground::build(plan).await?;
    let report = tokio::select! {
        report = measure(args, &ground) => Some(report),
        () = signals.next() => None,
    };
    ground.clear().await;
    let Some(report) = report.transpose()? else { return Ok(Exit::Failed) };
    let entries: Vec<Entry<'_>> = report.runs.iter().map(entry).collect();
    if let Some(directory) = &args.measure.report {
        let columns = ["record_bytes", "partitions", "topics", "brokers"];
        figures::write(directory, &columns, &entries)?;
    }
    output.result(&describe(&report, &entries)?, &report)?;
    Ok(Exit::Done)
}

pub(super) async fn once(args: &ConsumeOnceArgs, output: &Output) -> anyhow::Result<Exit> {
    Box::pin(once::run(args, output)).await
}

async fn measure(args: &ConsumerBenchArgs, ground: &Ground) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let sizes = args.measure.record_bytes.iter().copied();
    let cells = sizes.flat_map(|record_bytes| {
        let topics = args.topics.iter().copied();
        topics.flat_map(move |topics| {
            let partitions = args.partitions.iter().copied();
            partitions.map(move |partitions| Cell { record_bytes, topics, partitions })
        })
    });
    for (at, cell) in cells.enumerate() {
        output::complain(&format!(
            "{} topics of {} partitions, records of {} B",
            cell.topics, cell.partitions, cell.record_bytes
        ));
        let name = ground.config.group.0.as_str();
        let topics: Vec<String> =
            (0..cell.topics).map(|number| format!("{name}.read-{at}-{number}")).collect();
        let measured = measure_cell(args, ground, cell, &topics, &mut report).await;
        if !args.keep {
            for topic in &topics {
                ground.kafka.admin().delete(topic).await?;
            }
        }
        measured?;
    }
    Ok(report)
}

/// Fills the topics and lets each reader read them, in turn.
async fn measure_cell(
    args: &ConsumerBenchArgs,
    ground: &Ground,
    cell: Cell,
    topics: &[String],
    report: &mut Report,
) -> anyhow::Result<()> {
    let records = args.measure.bytes / cell.record_bytes;
    fill(&ground.kafka, cell, topics, records).await?;
    let brokers = ground.kafka.admin().brokers().await?;
    let bootstrap = ground.config.cluster.bootstrap_servers.clone();
    let mut runs: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
    let mut held = 0;
    for round in 0..args.measure.repeat {
        let last = round + 1 == args.measure.repeat;
        let found = tidegate(args, &bootstrap, topics, last).await?;
        held = found.records;
        runs.entry(0).or_default().push(Run {
            seconds: found.seconds,
            cpu_seconds: found.cpu_seconds,
            rss_peak_mib: found.rss_peak_mib,
        });
        let partitions = cell.topics * cell.partitions;
        if let (Some(read), Some(durable)) = (found.first_read_ms, found.first_durable_ms) {
            let quantiles = |(p50, p99)| Quantiles { p50, p99 };
            let (first_read_ms, first_durable_ms) = (quantiles(read), quantiles(durable));
            report.grants.push(Grants { partitions, first_read_ms, first_durable_ms });
        }
        if let Some(cpu_percent) = found.idle_cpu_percent {
            report.idle.push(Idle { partitions, cpu_percent });
        }
        // The others read one topic each.
        let Some(topic) = topics.first().filter(|_| topics.len() == 1) else { continue };
        for (at, peer) in args.peer.iter().enumerate() {
            let (peer, bootstrap, topic) = (peer.clone(), bootstrap.clone(), topic.clone());
            let run = move || {
                peer.run(Task { bootstrap: &bootstrap, topic: &topic, records: held, round })
            };
            runs.entry(at + 1).or_default().push(tokio::task::spawn_blocking(run).await??);
        }
    }
    for (at, runs) in runs {
        let kind = at.checked_sub(1).and_then(|at| args.peer.get(at)).map(|peer| peer.kind);
        let who = kind.map_or(OURS, PeerKind::name);
        report.runs.push(Row {
            who,
            record_bytes: cell.record_bytes,
            partitions: cell.topics * cell.partitions,
            topics: cell.topics,
            brokers,
            figures: Figures::of(cell.record_bytes, held, runs),
        });
    }
    Ok(())
}

/// Makes the topics and writes the same number of records to each partition.
async fn fill(kafka: &Kafka, cell: Cell, topics: &[String], records: u64) -> anyhow::Result<()> {
    let clock = wiring::clock();
    let mut progress = work::Progress::new("write", "records");
    let all = u64::from(cell.topics) * u64::from(cell.partitions);
    let each = (records / all).max(1);
    let value = usize::try_from(cell.record_bytes)?;
    // Something like text, the same in each run.
    let text: Vec<u8> = (0..value).map(|at| b"abcdefghij klmnopqrst"[at % 21]).collect();
    let value = bytes::Bytes::from(text);
    let at_a_time = (BATCH_BYTES / cell.record_bytes).max(1);
    let writer = kafka.batch_writer();
    let mut config = BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]);
    let largest = 2 * BATCH_BYTES + 4 * cell.record_bytes;
    config.insert("max.message.bytes".to_owned(), largest.to_string());
    for (done, topic) in topics.iter().enumerate() {
        let partitions = cell.partitions;
        let (name, config) = (topic.clone(), config.clone());
        let spec = TopicSpec { name, partitions, replication: Some(1), config };
        kafka.admin().create(&spec).await?;
        let mut left = each;
        while left > 0 {
            let count = usize::try_from(left.min(at_a_time))?;
            // Few partitions in a request: a broker takes no larger one than 100 MiB.
            for first in (0..partitions).step_by(16) {
                let some = first..partitions.min(first + 16);
                let batch = some.map(|number| (number, vec![value.clone(); count])).collect();
                writer.write(topic, &batch, clock.unix_ms()).await?;
            }
            left -= count as u64;
            let of_topic = usize::try_from((each - left) * u64::from(partitions))?;
            let of_others = done * usize::try_from(each * u64::from(partitions))?;
            progress.tell(of_others + of_topic, usize::try_from(each * all)?);
        }
    }
    Ok(())
}

/// A consumer in a process of its own.
async fn tidegate(
    args: &ConsumerBenchArgs,
    bootstrap: &str,
    topics: &[String],
    last: bool,
) -> anyhow::Result<Found> {
    let program = std::env::current_exe().context("failed to find this program's file")?;
    let mut command = Command::new(program);
    command.args(["bench", "consume-once", "--output", "json", "--log", "warn"]);
    command.args(["--bootstrap", bootstrap, "--topics", &topics.join(",")]);
    if last {
        command.args(["--grants", &args.grants.to_string()]);
        if let Some(idle) = args.idle {
            command.args(["--idle", &format!("{}ms", idle.as_millis())]);
        }
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
    let child = command.spawn().context("failed to start a consumer")?;
    let done = tokio::time::timeout(once::PATIENCE, child.wait_with_output()).await;
    let done = done.context("a consumer did not end in time")??;
    if !done.status.success() {
        bail!("a consumer has failed; it said why above");
    }
    serde_json::from_slice(&done.stdout).context("a consumer said no result")
}

/// A line of a graph for each reader and number of topics.
fn entry(row: &Row) -> Entry<'_> {
    let Row { who, record_bytes, partitions, topics, brokers, figures } = row;
    Entry {
        who,
        of: [
            record_bytes.to_string(),
            partitions.to_string(),
            topics.to_string(),
            brokers.to_string(),
        ]
        .into(),
        line: if *topics == 1 { (*who).to_owned() } else { format!("{who}, {topics} topics") },
        record_bytes: *record_bytes,
        partitions: *partitions,
        figures,
    }
}

fn describe(report: &Report, entries: &[Entry<'_>]) -> anyhow::Result<String> {
    use std::fmt::Write as _;
    let of = ["record B", "partitions", "topics", "brokers"];
    let mut text = figures::describe(&of, entries);
    for Grants { partitions, first_read_ms: read, first_durable_ms: durable } in &report.grants {
        writeln!(
            text,
            "\nfrom a grant of {partitions} partitions to the first record: read p50 {:.0} ms, p99 {:.0} ms; \
             in the sink p50 {:.0} ms, p99 {:.0} ms",
            read.p50, read.p99, durable.p50, durable.p99
        )?;
    }
    for Idle { partitions, cpu_percent } in &report.idle {
        writeln!(
            text,
            "\n{partitions} partitions without new records: {cpu_percent:.1} % of a core"
        )?;
    }
    Ok(text)
}
