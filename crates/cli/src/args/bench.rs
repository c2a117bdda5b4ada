//! What can be said to `tidegate bench`.

use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tidegate_core::pack::Preset;
use tidegate_runtime::spec::{Rate, Size, Span};

use super::preset;
use crate::commands::Peer;

/// `tidegate bench`.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Time the packer, phase by phase, for groups of several sizes.
    Planner(PlannerBenchArgs),
    /// Compare the rates that the monitor measures with those that a producer writes at; or, with --partitions, time the
    /// monitor's rounds.
    Monitor(MonitorBenchArgs),
    /// Time a consumer that reads topics which were written before, beside other programs that read the same.
    Consumer(ConsumerBenchArgs),
    /// Time the writes of sinks, beside what their disk or database can do without them.
    Sink(SinkBenchArgs),
    /// One run of a consumer: what `bench consumer` starts.
    #[command(hide = true)]
    ConsumeOnce(ConsumeOnceArgs),
}

/// `tidegate bench consumer`.
#[derive(Debug, Args)]
pub(crate) struct ConsumerBenchArgs {
    /// Uses these brokers instead of an embedded one. Topics are made, and deleted at the end.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,
    /// Nodes of the embedded broker, which is another process.
    #[arg(long, value_name = "N", default_value = "1", conflicts_with = "bootstrap")]
    pub(crate) brokers: NonZeroU16,
    /// Partitions of each topic.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 4, 16],
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) partitions: Vec<u32>,
    /// Topics.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1],
          value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) topics: Vec<u32>,
    /// Lets this program read the same, where there is one topic: kcat, perf (`rdkafka_performance`) or java
    /// (`kafka-consumer-perf-test.sh`), or NAME=PATH where it is not on the search path.
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: Vec<Peer>,
    /// Takes all partitions back and grants them again so many times, and times the first record after each grant.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) grants: u32,
    /// Measures the CPU time of a consumer that has read everything, for so long.
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub(crate) idle: Option<Duration>,
    /// Keeps the topics.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

/// `tidegate bench sink`.
#[derive(Debug, Args)]
pub(crate) struct SinkBenchArgs {
    /// A sink, named as in a specification; given again for more. It writes to a folder, prefix or schema of its own in
    /// that place, which is deleted afterwards. When left out: blackhole, and a folder for temporary files.
    #[arg(long = "sink", value_name = "URL")]
    pub(crate) sinks: Vec<String>,
    /// Partitions that are written at the same time.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 4],
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) partitions: Vec<u32>,
    /// Where psql is, which copies the same rows to a database.
    #[arg(long, value_name = "PATH", default_value = "psql")]
    pub(crate) psql: PathBuf,
    #[command(flatten)]
    pub(crate) measure: MeasureArgs,
}

/// What is measured, and how often.
#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// Bytes of a record's value.
    #[arg(long, value_name = "SIZE", value_delimiter = ',', default_values = ["100B", "200B", "1KiB"], value_parser = size)]
    pub(crate) record_bytes: Vec<u64>,
    /// Bytes of values that are written, to all partitions together.
    #[arg(long, value_name = "SIZE", default_value = "200MB", value_parser = size)]
    pub(crate) bytes: u64,
    /// Runs of each, in turn; the median counts.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) repeat: u32,
    /// Writes the figures as CSV, and graphs, to this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

/// `tidegate bench consume-once`.
#[derive(Debug, Args)]
pub(crate) struct ConsumeOnceArgs {
    /// The brokers.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: String,
    /// The topics, of which all partitions are read to their end.
    #[arg(long, value_name = "NAME", value_delimiter = ',', required = true)]
    pub(crate) topics: Vec<String>,
    /// Grants after that.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) grants: u32,
    /// Time without work after that.
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub(crate) idle: Option<Duration>,
}

/// From 1 byte to 10 GB.
fn size(text: &str) -> Result<u64, String> {
    let bytes = Size::parse(text)?;
    if (1..=10_000_000_000).contains(&bytes) {
        Ok(bytes)
    } else {
        Err("expected 1B to 10GB".to_owned())
    }
}

/// `tidegate bench planner`.
#[derive(Debug, Args)]
pub(crate) struct PlannerBenchArgs {
    /// Sizes of groups.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000],
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) partitions: Vec<u32>,
    /// So many partitions fill a consumer on average.
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [2, 50],
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) per_consumer: Vec<u32>,
    /// Decisions after the first, as loads change.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) decisions: u32,
    /// The same seed gives the same loads and the same decisions.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
    /// How the packer is tuned.
    #[arg(long, value_name = "NAME", default_value = "balanced", value_parser = preset)]
    pub(crate) preset: Preset,
    /// The time that the search may take.
    #[arg(long, value_name = "TIME", default_value = "50ms", value_parser = Span::parse)]
    pub(crate) budget: Duration,
}

/// `tidegate bench monitor`.
#[derive(Debug, Args)]
pub(crate) struct MonitorBenchArgs {
    /// Uses these brokers instead of an embedded one. Topics are made, and deleted at the end.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "partitions")]
    pub(crate) bootstrap: Option<String>,
    /// Payload that is written to a partition in a second, step by step. There is a partition for each rate, which begins with it:
    /// all rates are written at any time.
    #[arg(long, value_name = "RATE", value_delimiter = ',', default_values = ["100kB/s", "400kB/s", "200kB/s"],
          value_parser = Rate::parse, conflicts_with = "partitions")]
    pub(crate) rates: Vec<NonZeroU64>,
    /// For how long: all steps together, 3m when left out; or rounds of one second, 65s when left out.
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub(crate) duration: Option<Duration>,
    /// The monitor's window, at most 30s.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = Span::parse, conflicts_with = "partitions")]
    pub(crate) window: Duration,
    /// Writes a page with graphs, and the samples as CSV, to this folder.
    #[arg(long, value_name = "DIR", conflicts_with = "partitions")]
    pub(crate) report: Option<PathBuf>,
    /// Times rounds over so many partitions of an embedded broker, which is another process.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) partitions: Option<u32>,
    /// Nodes of that broker.
    #[arg(long, value_name = "N", default_value = "3", requires = "partitions")]
    pub(crate) brokers: NonZeroU16,
    /// Topics that have these partitions.
    #[arg(long, value_name = "N", default_value_t = 100, requires = "partitions",
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) topics: u32,
    /// Percentage of these partitions that are written to before each round, as much as chance will have it.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, requires = "partitions",
          value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) busy: u32,
    /// The same seed gives the same waits and amounts.
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub(crate) seed: u64,
}
