//! What can be said on the command line.

mod bench;
mod groups;
mod operator;
mod simulate;
mod sink;
mod values;

use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tidegate_core::ids::{ConsumerNumber, ProcessId};
use tidegate_core::pack::Preset;
use tidegate_load::profile::Shape;
use tidegate_runtime::spec::{Rate, Size, Span};
use tidegate_runtime::telemetry::logging;

pub(crate) use self::bench::{
    BenchCommand, ConsumeOnceArgs, ConsumerBenchArgs, MonitorBenchArgs, PlannerBenchArgs,
    SinkBenchArgs,
};
pub(crate) use self::groups::{GroupsArgs, KubernetesArgs, Source};
pub(crate) use self::operator::{LedgerCommand, ServiceCommand};
pub(crate) use self::simulate::{
    CompareArgs, FrequencyArgs, GroupArgs, HandoffName, LatencyArgs, ModelName, Policies,
    RecipeArgs, RecipeName, SimulateCommand, SourceArgs,
};
pub(crate) use self::sink::{SinkCommand, SinkReadArgs, SinkSelection};
use self::values::{consumer_number, listen_address, pod_uid, process_id};

/// Version of the package and the commit it was built from.
pub(crate) const VERSION: &str =
    concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("TIDEGATE_COMMIT"), ")");

/// Sizes and steers a Kafka consumer group by the load of each partition.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version = VERSION, propagate_version = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 invalid configuration \
                        or input file, 4 no feasible plan.")]
pub(crate) struct Cli {
    /// How results are written to standard output; with json the last line is one object.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) output: OutputFormat,
    /// Which events are logged to standard error, such as info or `tidegate_runtime=debug`.
    #[arg(long, global = true, env = "RUST_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// How events are written.
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) log_format: LogFormat,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// A line for people.
    #[default]
    Text,
    /// A JSON object a line.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole system on this machine for a while, then audit every record.
    Demo(DemoArgs),
    /// Create or describe the group's control topics.
    #[command(subcommand)]
    Topics(TopicsCommand),
    /// Measure the partitions and publish their rates.
    Monitor(MonitorArgs),
    /// Plan, start and end consumers, and move partitions between them.
    Controller(ControllerArgs),
    /// Read the partitions that the controller grants and write them to their sinks.
    Consumer(ConsumerArgs),
    /// Show the group as it is and as it is planned.
    Status(StatusArgs),
    /// Show the decoded messages of the control topics, live.
    Tail(TailArgs),
    /// Look into the group's ledger, end a consumer's life in it, or begin it anew.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Set fields of a group's specification while it runs, take them back, or list them.
    #[command(subcommand)]
    Service(ServiceCommand),
    /// Check, print or describe the specification of a group.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the definition of the custom resource `ConsumerGroup`, for `kubectl apply -f -`.
    Crd,
    /// Run a small in-memory broker for demos and tests; it keeps nothing.
    DevBroker(DevBrokerArgs),
    /// Write records at changing rates, and note what was acknowledged.
    Load(LoadArgs),
    /// Compare what a sink holds, record by record, with what was acknowledged to the load generator.
    Audit(AuditArgs),
    /// Read back or check what an object sink holds.
    #[command(subcommand)]
    Sink(SinkCommand),
    /// Show what happened in a run of the simulator, event by event, from the log that it wrote.
    Replay(ReplayArgs),
    /// Explain offline what would be planned for these loads.
    Plan(PlanArgs),
    /// Run planners over streams of loads, without a cluster.
    #[command(subcommand)]
    Simulate(SimulateCommand),
    /// Time parts of Tidegate on this machine.
    #[command(subcommand)]
    Bench(BenchCommand),
    /// Write the generated pages of the documentation.
    #[command(hide = true)]
    GenerateDocs {
        /// Where to.
        directory: PathBuf,
    },
}

impl Command {
    /// What is logged when nobody says: processes tell their changes of state, commands with a result only trouble.
    pub(crate) fn default_log(&self) -> &'static str {
        match self {
            Self::Monitor(MonitorArgs { once: false, live: false, .. })
            | Self::Controller(_)
            | Self::Consumer(_)
            | Self::DevBroker(_) => "info",
            // A partition that could not be measured is worth a word.
            Self::Monitor(_) => "warn",
            _ => "error",
        }
    }
}

/// The group's specification.
#[derive(Clone, Debug, Args)]
pub(crate) struct SpecArgs {
    /// The group's specification.
    #[arg(short = 'f', long = "spec", value_name = "FILE")]
    pub(crate) spec: PathBuf,
    /// Uses these brokers instead of the specification's.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,
}

/// `tidegate topics`.
#[derive(Debug, Subcommand)]
pub(crate) enum TopicsCommand {
    /// Create the control topics that are missing.
    Create {
        #[command(flatten)]
        spec: SpecArgs,
        /// Also sets right what differs from the specification.
        #[arg(long)]
        fix: bool,
    },
    /// Compare the control topics with the specification; change nothing.
    Describe {
        #[command(flatten)]
        spec: SpecArgs,
    },
    /// Change how long data topics keep their records.
    #[command(group = clap::ArgGroup::new("retention").required(true))]
    Retain {
        /// Data topics of the group; all of them are changed, or none where one is no data topic or does not exist.
        #[arg(required = true, value_name = "TOPIC")]
        topics: Vec<String>,
        #[command(flatten)]
        spec: SpecArgs,
        /// Keeps records for ever: sets retention.ms and retention.bytes to -1.
        #[arg(long, group = "retention")]
        forever: bool,
        /// Keeps records for so long, such as 7d: sets retention.ms, and leaves a limit of the size as it is.
        #[arg(long, group = "retention", value_parser = some_time)]
        time: Option<Duration>,
    },
}

/// What all processes of a group take.
#[derive(Clone, Debug, Args)]
pub(crate) struct ServiceArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// Where /livez, /readyz, /metrics and /status are served, instead of the specification's address.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    pub(crate) http: Option<SocketAddr>,
}

/// `tidegate monitor`.
#[derive(Clone, Debug, Args)]
pub(crate) struct MonitorArgs {
    #[command(flatten)]
    pub(crate) groups: GroupsArgs,
    /// Measures for a while, prints a table of the rates, and ends. Publishes nothing.
    #[arg(long, conflicts_with_all = ["live", "http", "kubernetes"])]
    pub(crate) once: bool,
    /// How long `--once` measures: a window's length is as exact as it gets.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = Span::parse, requires = "once")]
    pub(crate) time: Duration,
    /// Shows the table in this terminal, as much as it has room for, renewed with each sample, until it is told to end. Publishes
    /// nothing.
    #[arg(long, conflicts_with_all = ["http", "kubernetes"])]
    pub(crate) live: bool,
}

/// `tidegate controller`.
#[derive(Debug, Args)]
pub(crate) struct ControllerArgs {
    #[command(flatten)]
    pub(crate) groups: GroupsArgs,
    /// Ends the consumers with the controller. Otherwise they go on without it and the next one finds them.
    #[arg(long, conflicts_with = "kubernetes")]
    pub(crate) end_workers: bool,
}

/// `tidegate consumer`.
#[derive(Debug, Args)]
pub(crate) struct ConsumerArgs {
    #[command(flatten)]
    pub(crate) service: ServiceArgs,
    /// Number of the consumer, from 1: the partition of the controller topic that its commands come on.
    #[arg(long, env = "TIDEGATE_CONSUMER_ID", value_name = "N", value_parser = consumer_number)]
    pub(crate) id: ConsumerNumber,
    /// Id of this run, 32 hexadecimal digits; random when left out.
    #[arg(long, env = "TIDEGATE_PROCESS_ID", value_name = "HEX", value_parser = process_id)]
    pub(crate) process_id: Option<ProcessId>,
    /// The uid of the pod that it runs in: whoever sees the end of the pod then knows that this run has ended.
    #[arg(long, env = "TIDEGATE_POD_UID", value_name = "UID", value_parser = pod_uid, conflicts_with = "process_id")]
    pub(crate) pod_uid: Option<ProcessId>,
    /// Its state directory; `consumer-N` in the specification's data directory when left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The specification was written by a controller, who knows the environment and the service topic.
    #[arg(long, hide = true)]
    pub(crate) as_told: bool,
    /// Ends when this process is no longer its parent: for consumers that are of no use without it.
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) parent: Option<u32>,
}

/// `tidegate status`.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Where the controller serves HTTP, such as `http://127.0.0.1:8080`.
    #[arg(long, conflicts_with = "spec", required_unless_present = "spec")]
    pub(crate) url: Option<String>,
    /// Finds the controller that runs on this machine with this specification.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
}

/// `tidegate tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Which topics.
    #[arg(value_enum, default_value_t)]
    pub(crate) topics: TailTopics,
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    /// Begins with the oldest messages that are kept.
    #[arg(long)]
    pub(crate) from_beginning: bool,
    /// Ends where the topics ended at the start, instead of waiting for more.
    #[arg(long)]
    pub(crate) until_end: bool,
}

/// Topics to follow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TailTopics {
    /// The rates.
    Monitor,
    /// The ledger and the commands to all consumers.
    Controller,
    /// Overrides of the specification.
    Service,
    /// All of them.
    #[default]
    All,
}

/// `tidegate config`.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Report all faults at once, each with the path of its key.
    Check(ConfigFile),
    /// Print the values in effect, defaults included.
    Print(ConfigFile),
    /// Print the JSON schema of the specification.
    Schema,
}

/// A specification, named in either way.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ConfigFile {
    /// The group's specification.
    #[arg(value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The same.
    #[arg(short = 'f', long = "spec", value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
}

/// `tidegate dev-broker`.
#[derive(Debug, Args)]
pub(crate) struct DevBrokerArgs {
    /// Number of nodes: ports of this one process.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) nodes: NonZeroU16,
    /// Port of the first node, the others follow; 0 gives each a free one.
    #[arg(long, default_value_t = 9092)]
    pub(crate) port: u16,
    /// Ends when this process is no longer its parent.
    #[arg(long, hide = true, value_name = "PID")]
    pub(crate) parent: Option<u32>,
}

/// What the load generator is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadShape {
    /// Number of topics.
    #[arg(long, default_value = "2", value_name = "N")]
    pub(crate) topics: NonZeroU32,
    /// Partitions of each topic.
    #[arg(long, default_value = "32", value_name = "N")]
    pub(crate) partitions: NonZeroU32,
    /// Bytes written in a second to all partitions together.
    #[arg(long, default_value = "20MB/s", value_parser = Rate::parse)]
    pub(crate) rate: NonZeroU64,
    /// How the rates change: walk (each partition at random), steps (all of them, up and down) or hot (one partition).
    #[arg(long, default_value = "walk", value_name = "walk|steps|hot")]
    pub(crate) profile: Shape,
    /// Bytes of each record.
    #[arg(long, default_value = "1kB", value_name = "SIZE", value_parser = Size::parse)]
    pub(crate) record_bytes: u64,
    /// Repeats the rates of another run.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// `tidegate demo`.
#[derive(Clone, Debug, Args)]
pub(crate) struct DemoArgs {
    /// For how long records are written.
    #[arg(long, default_value = "60s", value_parser = Span::parse)]
    pub(crate) duration: Duration,
    #[command(flatten)]
    pub(crate) load: LoadShape,
    /// Uses these brokers instead of an embedded one.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Option<String>,
    /// Writes a page with graphs, and the data behind them, to this folder.
    #[arg(long, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Kills so many consumers during the run, each chosen at random, with SIGKILL.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) kill: u32,
    /// Keeps specification, sink, logs and state of the consumers in this folder, which must be empty or absent.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

/// `tidegate load`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LoadArgs {
    #[command(flatten)]
    pub(crate) spec: SpecArgs,
    #[command(flatten)]
    pub(crate) load: LoadShape,
    /// What the topics' names begin with; a number follows. They are created when they are missing.
    #[arg(long, default_value = "example.", value_name = "TEXT")]
    pub(crate) prefix: String,
    /// For how long; until it is interrupted when left out.
    #[arg(long, value_parser = Span::parse)]
    pub(crate) duration: Option<Duration>,
    /// Writes what was acknowledged to this file at the end, for the audit.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: Option<PathBuf>,
}

/// `tidegate audit`.
#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// The sink, as the specification names it: `file:///folder` or `s3://bucket/prefix`.
    #[arg(long, value_name = "URL")]
    pub(crate) sink: String,
    /// What `tidegate load` has written.
    #[arg(long, value_name = "FILE")]
    pub(crate) ledger: PathBuf,
}

/// `tidegate replay`.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    /// What `cargo xtask sim` has written for a seed.
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Leaves out what happened before, counted from the run's beginning.
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub(crate) from: Option<Duration>,
    /// Leaves out what happened after.
    #[arg(long, value_name = "TIME", value_parser = Span::parse)]
    pub(crate) to: Option<Duration>,
    /// Shows only what concerns these: a process such as p3, a consumer such as c1, or controller, ledger, sink, world,
    /// operator, audit. May be repeated.
    #[arg(long, value_name = "NAME")]
    pub(crate) process: Vec<String>,
}

/// `tidegate plan`.
#[derive(Debug, Args)]
pub(crate) struct PlanArgs {
    /// The load of each partition in bytes/s: CSV with a header and lines of topic:partition,rate; or JSON, an object with a rate for each
    /// topic:partition.
    #[arg(long, value_name = "FILE")]
    pub(crate) loads: PathBuf,
    /// The consumer of each partition, in the same forms; partitions that are not in it have none.
    #[arg(long, value_name = "FILE")]
    pub(crate) current: PathBuf,
    /// The group's specification; the defaults when left out.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) spec: Option<PathBuf>,
    /// What a consumer can read in a second, instead of the specification's.
    #[arg(long, value_name = "RATE", value_parser = Rate::parse)]
    pub(crate) capacity: Option<NonZeroU64>,
    /// So many consumers run at most, instead of the specification's.
    #[arg(long, value_name = "N")]
    pub(crate) max_consumers: Option<NonZeroU32>,
    /// What the group is tuned for, instead of the specification's price of a consumer: calm, balanced or tight.
    #[arg(long, value_name = "NAME", value_parser = preset)]
    pub(crate) preset: Option<Preset>,
}

impl From<LogFormat> for logging::Format {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Text => Self::Text,
            LogFormat::Json => Self::Json,
        }
    }
}

fn preset(name: &str) -> Result<Preset, String> {
    let names = Preset::ALL.map(Preset::name).join(", ");
    Preset::parse(name).ok_or_else(|| format!("expected one of {names}"))
}

fn some_time(text: &str) -> Result<Duration, String> {
    let time = Span::parse(text)?;
    let some = (!time.is_zero()).then_some(time);
    some.ok_or_else(|| {
        "expected more than nothing: all records would be deleted at once".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
