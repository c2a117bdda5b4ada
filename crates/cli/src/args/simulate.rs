//! What can be said to `tidegate simulate`. Options that several simulations share stand once.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tidegate_runtime::spec::Span;
use tidegate_sim::planner::{Policy, PolicyError};

/// `tidegate simulate`.
#[derive(Debug, Subcommand)]
pub(crate) enum SimulateCommand {
    /// Check the published algorithms against a file of golden cases.
    Golden {
        /// One case a line, as JSON.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Write a stream of loads as CSV.
    Stream(StreamArgs),
    /// Run policies side by side: consumers, migration cost, and the excess over the best of the twelve published algorithms.
    Compare(CompareArgs),
    /// Measure how late data is read while policies move partitions around.
    Latency(LatencyArgs),
    /// Measure what comes of deciding more or less often, and of deciding at once when something is wrong.
    Frequency(FrequencyArgs),
}

/// How loads change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RecipeName {
    /// As published: every partition walks at random between 0 and 100, the capacity of a consumer.
    Walk,
    /// Few large and many small partitions, slow noise, and a common rise and fall; a consumer's capacity is 10000.
    Realistic,
}

/// What a stream is made from.
#[derive(Clone, Debug, Args)]
pub(crate) struct RecipeArgs {
    /// Number of partitions, in two topics; the recipe's own when left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) partitions: Option<u32>,
    /// A walk's longest step between two measurements; 5 when left out.
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) delta: Option<u32>,
    /// Number of measurements; the recipe's own when left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) iterations: Option<u32>,
    /// How unlike realistic partitions are, as the standard deviation of the logarithm of their rates; 1 when left out.
    #[arg(long, value_name = "S", value_parser = sigma)]
    pub(crate) sigma: Option<f64>,
    /// So many realistic partitions fill a consumer on average; 20 when left out.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) per_consumer: Option<u32>,
    /// The same seed gives the same stream, and the same order to algorithms that look at partitions in a random one.
    #[arg(long, default_value_t = 1, value_name = "S")]
    pub(crate) seed: u64,
}

/// `tidegate simulate stream`.
#[derive(Debug, Args)]
pub(crate) struct StreamArgs {
    /// How loads change.
    #[arg(long, value_enum)]
    pub(crate) recipe: RecipeName,
    #[command(flatten)]
    pub(crate) shape: RecipeArgs,
}

/// Where streams come from: files, or a recipe.
#[derive(Clone, Debug, Args)]
pub(crate) struct SourceArgs {
    /// Streams: CSV with a header of topic:partition, and a row of rates for each measurement.
    #[arg(long = "stream", value_name = "FILE", num_args = 1.., required_unless_present = "recipe")]
    pub(crate) streams: Vec<PathBuf>,
    /// Makes streams instead of reading them.
    #[arg(long, value_enum, conflicts_with = "streams")]
    pub(crate) recipe: Option<RecipeName>,
    /// Makes so many streams, with seeds that follow each other; results are then their mean and standard deviation.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) seeds: Option<u32>,
    #[command(flatten)]
    pub(crate) shape: RecipeArgs,
}

/// `tidegate simulate compare`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CompareArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Who decides, with commas between them: the twelve published algorithms (nf, nfd, ..., mbfp), calm, balanced, tight, each with an
    /// own price of a consumer as in tight:alpha=2, and `kafka-range-K`, `kafka-round-robin-K`, `kafka-sticky-K` over K consumers.
    /// The twelve and the presets when left out.
    #[arg(long, value_name = "LIST", value_parser = policies)]
    pub(crate) policies: Option<Policies>,
    /// Up to here a consumer is filled, in the unit of the stream; the recipe's own when left out, and 100 for a file.
    #[arg(long, value_name = "RATE")]
    pub(crate) capacity: Option<NonZeroU64>,
    /// Writes a page with graphs and tables, and the data behind them, to this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

/// How large consumers are, and how time passes.
#[derive(Clone, Debug, Args)]
pub(crate) struct GroupArgs {
    /// Up to here a consumer is filled, in the unit of the stream; 100 for walks and files, and 10000 for realistic loads when left out.
    #[arg(long, value_name = "RATE")]
    pub(crate) packing: Option<NonZeroU64>,
    /// Above here partitions are taken from a consumer, by the presets only; 1.2 times the packing when left out.
    #[arg(long, value_name = "RATE")]
    pub(crate) overload: Option<NonZeroU64>,
    /// What a consumer can really read; 1.33 times the packing when left out.
    #[arg(long, value_name = "RATE")]
    pub(crate) consumer_capacity: Option<NonZeroU64>,
    /// The time between two measurements of the stream.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = some_time)]
    pub(crate) interval: Duration,
    /// For so long nobody reads a partition that moves.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = Span::parse)]
    pub(crate) migration: Duration,
    /// A new consumer takes so long to start; 0s when left out. Only in the fluid model.
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub(crate) start_delay: Option<Duration>,
    /// What comes first when a partition moves to a consumer that has to be started; break-first when left out. Only in the fluid model.
    #[arg(long, value_enum)]
    pub(crate) handoff: Option<HandoffName>,
}

/// What comes first in a hand-off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum HandoffName {
    /// The old consumer stops at once, and the partition waits for the new one.
    BreakFirst,
    /// The old consumer goes on until the new one is ready.
    MakeFirst,
}

/// How time passes between measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum ModelName {
    /// As published: rates hold for an interval and decisions know them.
    #[default]
    Published,
    /// Rates change steadily, decisions know the interval before, and backlogs are worked off.
    Fluid,
}

/// `tidegate simulate latency`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Who decides, with commas between them, as for `simulate compare`. The twelve and the presets when left out.
    #[arg(long, value_name = "LIST", value_parser = policies)]
    pub(crate) policies: Option<Policies>,
    /// How time passes.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) model: ModelName,
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// Writes a page with graphs and tables, and the data behind them, to this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

/// `tidegate simulate frequency`.
#[derive(Clone, Debug, Args)]
pub(crate) struct FrequencyArgs {
    #[command(flatten)]
    pub(crate) source: SourceArgs,
    /// Who decides, as for `simulate compare`; only presets also decide on events.
    #[arg(long, default_value = "balanced", value_name = "LIST", value_parser = policies)]
    pub(crate) policies: Policies,
    /// Periods of decisions, with commas between them.
    #[arg(long, default_value = "1s,2s,5s,10s,15s,30s,60s,120s", value_name = "LIST", value_delimiter = ',', value_parser = some_time)]
    pub(crate) periods: Vec<Duration>,
    #[command(flatten)]
    pub(crate) group: GroupArgs,
    /// Writes a page with graphs and tables, and the data behind them, to this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
}

/// Policies as a list with commas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Policies(pub(crate) Vec<Policy>);

fn policies(list: &str) -> Result<Policies, PolicyError> {
    Policy::parse_list(list).map(Policies)
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = Span::parse(text)?;
    let is_enough = time >= Duration::from_secs(1);
    is_enough.then_some(time).ok_or_else(|| "expected a second or more".to_owned())
}

fn sigma(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|sigma| (0.0..=5.0).contains(sigma));
    number.ok_or_else(|| "expected a number between 0 and 5".to_owned())
}
