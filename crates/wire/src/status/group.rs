//! The status of a group, as its controller sees it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alarm::RaisedAlarm;

/// The status of a group, as one controller process sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The group.
    pub group: String,
    /// Whether the controller acts.
    pub mode: Mode,
    /// When this was true: milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// The ledger's life, once its first record was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// The process that tells this: 32 hexadecimal digits.
    pub process: String,
    /// What that process is.
    pub role: Role,
    /// The term in the ledger, whoever's it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub term: Option<u64>,
    /// Offset of the next record of the ledger to read.
    pub ledger_position: u64,
    /// What the spec asks for.
    pub spec: SpecSummary,
    /// What the service topic sets over the spec.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<OverrideRow>,
    /// The update of the consumers to another image or configuration, while it goes on or has failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// How many consumers should run.
    pub wanted_consumers: u32,
    /// How many can be given partitions.
    pub ready_consumers: u32,
    /// The age of records when they become durable, if anybody has told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// The plan that is being carried out, or was last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanStatus>,
    /// What a person should look at, worst first.
    pub alarms: Vec<RaisedAlarm>,
    /// The topics of interest.
    pub topics: Vec<TopicRow>,
    /// The consumers, by number.
    pub consumers: Vec<ConsumerRow>,
    /// The partitions, by topic and number.
    pub partitions: Vec<PartitionRow>,
    /// The last decisions, latest first.
    pub decisions: Vec<Decision>,
}

/// Whether a controller acts.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// It plans and explains, and acts on nothing.
    #[default]
    Observe,
    /// It does everything.
    Own,
    /// A mode of a later version.
    #[serde(other)]
    Unknown,
}

/// What a controller process is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It reads, and takes over when the leader falls silent.
    #[default]
    Follower,
    /// It stands for election.
    Candidate,
    /// It is the controller.
    Leader,
    /// A role of a later version.
    #[serde(other)]
    Unknown,
}

/// What the spec asks for, as far as it explains the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SpecSummary {
    /// Names or prefixes (`orders-*`) of the topics of interest.
    pub topics: Vec<String>,
    /// What one consumer can process.
    pub capacity_bytes_per_sec: u64,
    /// The share of the capacity up to which consumers are filled.
    pub packing_permille: u32,
    /// The share of the capacity above which a consumer is relieved.
    pub overload_permille: u32,
    /// Fewest consumers.
    pub min_consumers: u32,
    /// Most consumers.
    pub max_consumers: u32,
    /// Whether consumers and partitions are kept as they are.
    pub paused: bool,
}

/// A field that the service topic sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OverrideRow {
    /// The path of the field in the spec, such as `consumers.max`.
    pub field: String,
    /// What it is set to.
    pub value: serde_json::Value,
    /// Why it is not in effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// How far an update of the consumers is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RolloutStatus {
    /// Names the image and the configuration that are wanted.
    pub revision: String,
    /// How many consumers run that.
    pub updated: u32,
    /// How many there are.
    pub consumers: u32,
    /// The one that is being updated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<u32>,
    /// How far that one is: leaving, updating, returning or settling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// Why the update was taken back: until something else is wanted, consumers run what they ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// The age of records when they became durable, over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Freshness {
    /// Half of the records were younger.
    pub p50_ms: u64,
    /// All but one in a hundred were younger.
    pub p99_ms: u64,
}

/// A topic of interest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TopicRow {
    /// Its name.
    pub name: String,
    /// Its id, as Kafka prints it.
    pub id: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// How many of them are not measured now.
    pub missing: u32,
    /// What is written to it: the sum of the filtered rates.
    pub bytes_per_sec: u64,
}

/// A consumer: a number, and what runs under it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerRow {
    /// Its number.
    pub number: u32,
    /// Its current incarnation, if one lives: an offset of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// The process of that incarnation: 32 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub process: Option<String>,
    /// Other processes of the same number, which wait for the end of the current one. There should be none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waiting: Vec<Waiting>,
    /// It was heard within its lease.
    pub live: bool,
    /// It can be given partitions.
    pub ready: bool,
    /// It should run.
    pub wanted: bool,
    /// Where its worker is.
    pub worker: WorkerPhase,
    /// What went wrong with its worker last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
    /// The weights of its partitions.
    pub load_bytes_per_sec: u64,
    /// What it can process.
    pub capacity_bytes_per_sec: u64,
    /// How many partitions it owns.
    pub partitions_observed: u32,
    /// How many it should own.
    pub partitions_target: u32,
}

/// An incarnation that waits behind the current one of its consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Waiting {
    /// The incarnation.
    pub incarnation: u64,
    /// Its process: 32 hexadecimal digits.
    pub process: String,
}

/// Where a worker is in its life.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum WorkerPhase {
    /// There is none that this controller knows of: the consumer may be run by hand.
    #[default]
    None,
    /// Asked for, not yet started.
    Pending,
    /// Its process runs.
    Running,
    /// It ended and will be started again after a pause.
    BackingOff,
    /// It was told to end.
    Stopping,
    /// It is gone.
    Gone,
    /// A phase of a later version.
    #[serde(other)]
    Unknown,
}

/// A partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PartitionRow {
    /// Its topic's name, or the id where no message has named it yet.
    pub topic: String,
    /// Its number.
    pub number: u32,
    /// What is written to it, filtered; absent before the first measurement.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_sec: Option<u64>,
    /// What it counts for in the packing: the rate, and backlog if there is some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_bytes_per_sec: Option<u64>,
    /// The consumer that owns it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<u32>,
    /// The consumer that should own it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// How far its owner is with it.
    pub state: Ownership,
    /// The grant by which it is owned: an offset of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The offset after the last durable record, as the ledger knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Records that are not durable yet, as its owner said last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
}

/// Who owns a partition.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Ownership {
    /// Nobody.
    #[default]
    Free,
    /// A consumer that has not said yet that it reads.
    Granted,
    /// A consumer that reads.
    Active,
    /// A state of a later version.
    #[serde(other)]
    Unknown,
}

/// A plan and how far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PlanStatus {
    /// Its id: an offset of the ledger.
    pub id: u64,
    /// What set the decision off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// How many partitions it moves.
    pub moves: u32,
    /// How many of them are where they should be, and are read there.
    pub done: u32,
    /// How many move for which reason.
    pub reasons: BTreeMap<String, u32>,
    /// Sum of the moved write rates in thousandths of a consumer's capacity: the R-score.
    pub cost_permille: u64,
    /// Consumers after it.
    pub consumers: u32,
    /// No valid plan can have fewer consumers.
    pub lower_bound: u32,
}

/// A decision of this process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Decision {
    /// When: milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// What set it off.
    pub trigger: String,
    /// How many partitions it moves.
    pub moves: u32,
    /// How many move for which reason.
    pub reasons: BTreeMap<String, u32>,
    /// Sum of the moved write rates in thousandths of a consumer's capacity: the R-score.
    pub cost_permille: u64,
    /// Consumers before it.
    pub consumers_before: u32,
    /// Consumers after it.
    pub consumers_after: u32,
    /// Consumers that there would be after it without the least and the largest number.
    pub raw_consumers: u32,
    /// No valid plan can have fewer consumers.
    pub lower_bound: u32,
    /// What kept the group from being smaller or from moving less.
    pub bound_by: Vec<String>,
}
