//! The sections of a group's spec with their defaults.
//!
//! A field's documentation is also its text in the schema and in `docs/config.md`, so it ends with the reason for the
//! default; the `impl Default`s give only the values.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32, NonZeroU64};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Address, OptionalRate, Permille, Rate, Size, Span};

/// What the controller may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Measure, plan and explain; act on nothing.
    #[default]
    Observe,
    /// Run the workers and move the partitions.
    Own,
}

/// A topic, or all topics with a prefix, and where their records go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "sink"]))]
pub struct TopicOfInterest {
    /// Name of a topic, or a prefix followed by `*`. A name wins over a prefix, a longer prefix over a shorter one.
    pub name: String,
    /// Where the records go, as a URL such as `file:///var/lib/tidegate/out`, `s3://bucket/prefix` or `blackhole:`.
    pub sink: String,
    /// Where records go that the sink rejects: `kafka:TOPIC` in the same cluster, or a prefix of objects such as
    /// `file:///var/lib/tidegate/dead`. Without it, the default, a rejected record stops its partition: nothing is left
    /// out unless somebody says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<String>,
    /// Where a partition starts that nobody has read yet and for which the group has committed nothing. It is looked up once,
    /// by the controller, and stands in the ledger from then on. A partition or topic that was made while the group runs starts
    /// at its beginning under `latest`, too: what was written before it was found is not left out. The default is `earliest`,
    /// because nothing is left out then.
    pub start: Start,
}

/// Where reading of a new partition starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Start {
    /// At the first record that is still there.
    #[default]
    Earliest,
    /// After the last record.
    Latest,
    /// At the first record that is not older than this, in milliseconds since the Unix epoch; after the last record where all
    /// are older.
    Timestamp(u64),
}

/// The topics through which the processes of a group talk; one set for each group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct ControlTopics {
    /// Where the monitor writes the rates. The default is the published name.
    pub monitor: String,
    /// Where commands go, and the ledger in partition 0. The default is the published name.
    pub controller: String,
    /// Where overrides of this spec are written. The default is the published name.
    pub service: String,
    /// A topic of its own for the ledger, so that consumers need no right to write commands. The default is partition
    /// 0 of the controller topic, as published.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ledger: Option<String>,
    /// Goes on when the ledger's topic could lose acknowledged records. The default is false: such a loss would give
    /// one partition two owners.
    pub allow_weak_ledger: bool,
    /// Replicas of each control topic. The default is 3, or the number of brokers when there are fewer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replication: Option<NonZeroU16>,
}

/// What one consumer can bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Capacity {
    /// Bytes that one consumer can process in a second. The default is low on purpose: a wrong guess then costs a
    /// consumer too many and never a growing backlog.
    #[serde(with = "Rate")]
    pub bytes_per_second: NonZeroU64,
    /// Share of the capacity up to which consumers are filled. The default leaves a quarter for growth and for catching
    /// up: in the published latency experiment this band gained more than any better packing.
    pub packing: Permille,
    /// Share of the capacity above which partitions are taken away, 0.9 to 1. The default is far enough above `packing`
    /// that noise moves nothing.
    pub overload: Permille,
}

/// How many consumers there may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Consumers {
    /// At least so many. The default is 1: an idle group still answers at once.
    pub min: NonZeroU32,
    /// At most so many. The default is a guard against a runaway; set it to what machine or quota can bear.
    pub max: NonZeroU32,
    /// So many more while partitions leave a consumer that is to go. The default is 1: replacements go one by one. With 0
    /// its partitions are given up first where the others have no room for them.
    pub max_surge: u32,
    /// Numbers of consumers that partitions must leave, and that end then. None by default.
    pub drain: BTreeSet<NonZeroU32>,
    /// Partitions that must be on a certain consumer, by `TOPIC/PARTITION`, such as `{orders/3: 2}`; a pin to a consumer that is
    /// lost or to be left waits. None by default.
    pub pins: BTreeMap<String, NonZeroU32>,
}

/// How partitions are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Monitor {
    /// Time between two samples. The default costs three requests for each broker and second.
    #[serde(with = "Span")]
    pub period: Duration,
    /// Time after which new topics and partitions are seen. The default is short because an unseen partition is an
    /// unread one, and metadata is cheap.
    #[serde(with = "Span")]
    pub metadata_refresh: Duration,
    /// Length of the window of the published rate, at most 30s. The default is the published length.
    #[serde(with = "Span")]
    pub window: Duration,
    /// Time constant of the low-pass filter. The default follows 63 % of a step in 10 s, 95 % in 30 s, and swallows
    /// the bursts of a producer's batches.
    #[serde(with = "Span")]
    pub filter_time_constant: Duration,
    /// Time between two records that list all partitions. The default is what a reader that starts anew has to wait.
    #[serde(with = "Span")]
    pub full_report: Duration,
    /// Uses log sizes and nothing else, as published; topics whose logs shrink by retention or compaction are then warned of. The
    /// default is false: under retention, or without the right to ask for log sizes, offsets measure better.
    pub log_sizes_only: bool,
    /// `retention.ms` of the monitor topic; -1 is for ever. The default is the published one.
    pub retention_ms: i64,
    /// `retention.bytes` of the monitor topic; -1 is without limit. The default goes with `retentionMs`.
    pub retention_bytes: i64,
}

/// When and how the group is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Controller {
    /// Time between two looks at the load: an overload is seen at the next one. Lost consumers, new partitions and changes of
    /// the spec do not wait for it. The default is the monitor's period: in between there is nothing new.
    #[serde(with = "Span")]
    pub decision_period: Duration,
    /// Time for which fewer consumers must have been enough before one is removed; the largest rates in it must then still
    /// have a place. The default outlasts the dips of a filtered rate and the cost of starting a consumer again.
    #[serde(with = "Span")]
    pub hold_scale_in: Duration,
    /// Lag, as time at the present write rate, above which backlog counts as load. The default is longer than a hand-off
    /// or a restart, which heal by themselves.
    #[serde(with = "Span")]
    pub lag_threshold: Duration,
    /// Time in which a backlog is to be worked off. The default adds load gently: shorter ones start consumers
    /// that are idle soon after.
    #[serde(with = "Span")]
    pub drain_target: Duration,
    /// How consumers are weighed against moves. The default is `balanced`: in simulations it has fewer consumers and moves
    /// less than every published packing that keeps partitions in place.
    pub preset: PlannerPreset,
    /// What saving one consumer is worth, in loads of one consumer moved once. Below 1 a group under falling load never
    /// shrinks; the default is the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpha: Option<Permille>,
    /// Time that one decision may spend on looking for something better than its first find, roughly. The default is short
    /// beside a hand-off; `0s` looks for nothing.
    #[serde(with = "Span")]
    pub planner_budget: Duration,
    /// Load that may leave its consumers in one decision, as the sum of its partitions' rates. What an overload drives out, and
    /// what has lost its consumer, is not held up; all else waits for the next decision. A partition above it stays where it is, and
    /// a consumer with more load is not given up. The default is without limit: a move costs a fraction of a second.
    #[serde(with = "OptionalRate", skip_serializing_if = "Option::is_none")]
    pub max_moved_load: Option<NonZeroU64>,
    /// Time from asking for a worker to its first sign of life, after which the plan goes on without it. The default
    /// is long enough for an image that must be fetched first.
    #[serde(with = "Span")]
    pub worker_start_deadline: Duration,
    /// Time for which partitions that must leave a consumer wait for another one to have room and be ready; then they are
    /// given up first. The default is twice `ownership.writeTimeout`: who was asked before may have to finish a write.
    #[serde(with = "Span")]
    pub handoff_deadline: Duration,
}

/// How the planner weighs consumers against moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PlannerPreset {
    /// Move only what must move, and give consumers up when that is easy.
    Calm,
    /// Look for fewer consumers and fewer moves alike.
    #[default]
    Balanced,
    /// As few consumers as can be found, and then as few moves.
    Tight,
}

/// The clocks of the ledger. `writeTimeout` + `heartbeat` < `lease` < `fence` must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Ownership {
    /// A consumer that was not heard for so long stops by itself. The default rides out a change of leader in Kafka.
    #[serde(with = "Span")]
    pub lease: Duration,
    /// Longest time that a write to a sink may take. The default lets a slow disk or store recover once.
    #[serde(with = "Span")]
    pub write_timeout: Duration,
    /// Time between two heartbeats. The default leaves five tries between the end of a write and that of the lease.
    #[serde(with = "Span")]
    pub heartbeat: Duration,
    /// Silence after which the controller takes a consumer's partitions away. The default is the lease and 5 s for what
    /// two clocks may drift and a log may delay.
    #[serde(with = "Span")]
    pub fence: Duration,
    /// Time between two signs of life of the controller. The default is that of the heartbeats.
    #[serde(with = "Span")]
    pub tick: Duration,
    /// Silence of the controller after which another one stands for election. The default is six ticks missed.
    #[serde(with = "Span")]
    pub elect_after: Duration,
}

/// How a consumer reads and writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Consumer {
    /// Bytes after which a batch is cut. The default is the published one.
    #[serde(with = "Size")]
    pub batch_bytes: u64,
    /// Time after which a batch is cut. The default is the published one.
    #[serde(with = "Span")]
    pub wait_time: Duration,
    /// The same for the first batch after a partition was taken over. The default makes a hand-off short and
    /// costs one small write.
    #[serde(with = "Span")]
    pub first_batch: Duration,
    /// Memory of fetched records that wait or are being written, for all partitions of a consumer together: their bytes, and
    /// about a hundred more for each. As much again may be on its way from the brokers. The default is two batches of large
    /// records: less slows the fetching down; more makes batches larger where many partitions are busy at once, and costs memory.
    #[serde(with = "Size")]
    pub queue_bytes: u64,
    /// Time from SIGTERM to the end for giving all partitions back. The default is a write and the events after it.
    #[serde(with = "Span")]
    pub stop_budget: Duration,
    /// What to do when a sink has lost writes that were acknowledged. The default is `stop`: a person must look.
    pub on_sink_behind: OnSinkBehind,
    /// What to do when records were deleted before they were read. The default is `stop`: a person must look. A log that has
    /// lost its end stops the partition in any case.
    pub on_out_of_range: OnOutOfRange,
}

/// What to do with a partition whose log begins above what is to be read next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnOutOfRange {
    /// Stop it and raise an alarm.
    #[default]
    Stop,
    /// Record the gap in the sink, count it, and go on where the log begins.
    Skip,
}

/// What to do with a partition whose sink stands behind the ledger.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum OnSinkBehind {
    /// Stop it and raise an alarm.
    #[default]
    Stop,
    /// Read again from where the sink stands.
    Rewind,
    /// Go on from where the ledger stands, and leave the gap.
    Continue,
}

/// The HTTP server of each process: `/livez`, `/readyz`, `/metrics`, `/status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Http {
    /// Address and port; port 0 takes a free one. The default is reachable from this machine only and lets several
    /// processes share one file.
    #[serde(with = "Address")]
    pub listen: SocketAddr,
}

// === defaults ===

impl ControlTopics {
    /// The three topics with names of their own behind a common prefix, for whoever shares a cluster.
    pub fn prefixed(prefix: &str) -> Self {
        Self {
            monitor: format!("{prefix}.monitor"),
            controller: format!("{prefix}.controller"),
            service: format!("{prefix}.service"),
            ..Self::default()
        }
    }
}

impl Default for ControlTopics {
    fn default() -> Self {
        Self {
            monitor: "data-engineering-monitor".to_owned(),
            controller: "data-engineering-controller".to_owned(),
            service: "data-engineering-service".to_owned(),
            ledger: None,
            allow_weak_ledger: false,
            replication: None,
        }
    }
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            bytes_per_second: NonZeroU64::new(10_000_000).unwrap_or(NonZeroU64::MIN),
            packing: Permille(750),
            overload: Permille(950),
        }
    }
}

impl Default for Consumers {
    fn default() -> Self {
        Self {
            min: NonZeroU32::MIN,
            max: NonZeroU32::new(10).unwrap_or(NonZeroU32::MIN),
            max_surge: 1,
            drain: BTreeSet::new(),
            pins: BTreeMap::new(),
        }
    }
}

impl Default for Monitor {
    fn default() -> Self {
        Self {
            period: Duration::from_secs(1),
            metadata_refresh: Duration::from_secs(5),
            window: Duration::from_secs(30),
            filter_time_constant: Duration::from_secs(10),
            full_report: Duration::from_secs(30),
            log_sizes_only: false,
            retention_ms: -1,
            retention_bytes: -1,
        }
    }
}

impl Default for Controller {
    fn default() -> Self {
        Self {
            decision_period: Duration::from_secs(1),
            hold_scale_in: Duration::from_secs(180),
            lag_threshold: Duration::from_secs(10),
            drain_target: Duration::from_secs(120),
            preset: PlannerPreset::Balanced,
            alpha: None,
            planner_budget: Duration::from_millis(50),
            max_moved_load: None,
            worker_start_deadline: Duration::from_secs(60),
            handoff_deadline: Duration::from_secs(10),
        }
    }
}

impl Default for Ownership {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            write_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(2),
            fence: Duration::from_secs(20),
            tick: Duration::from_secs(2),
            elect_after: Duration::from_secs(12),
        }
    }
}

impl Default for Consumer {
    fn default() -> Self {
        Self {
            batch_bytes: 5_000_000,
            wait_time: Duration::from_secs(1),
            first_batch: Duration::from_millis(50),
            queue_bytes: 12_000_000,
            stop_budget: Duration::from_secs(10),
            on_sink_behind: OnSinkBehind::Stop,
            on_out_of_range: OnOutOfRange::Stop,
        }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)) }
    }
}
