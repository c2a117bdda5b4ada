//! The status of a monitor process and of a consumer process.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::alarm::RaisedAlarm;
use super::group::{Freshness, TopicRow};

/// The status of a monitor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct MonitorStatus {
    /// The group.
    pub group: String,
    /// When this was true: milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// When a round of samples was last complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampled_unix_ms: Option<u64>,
    /// How long that round took.
    pub round_ms: u64,
    /// False once the cluster has refused to tell log sizes: rates are then measured by offsets.
    pub log_sizes_permitted: bool,
    /// What a person should look at, worst first.
    pub alarms: Vec<RaisedAlarm>,
    /// The topics that are measured.
    pub topics: Vec<TopicRow>,
}

/// The status of a consumer process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsumerStatus {
    /// The group.
    pub group: String,
    /// When this was true: milliseconds since the Unix epoch.
    pub at_unix_ms: u64,
    /// Its number.
    pub number: u32,
    /// The process: 32 hexadecimal digits.
    pub process: String,
    /// Its incarnation, while it has one: an offset of the ledger.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// Whether it may act.
    pub lease: LeaseState,
    /// For how long it may still act.
    pub lease_left_ms: u64,
    /// What it made durable over the last seconds.
    pub bytes_per_sec: u64,
    /// The age of records when they become durable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Freshness>,
    /// What a person should look at, worst first.
    pub alarms: Vec<RaisedAlarm>,
    /// What it holds.
    pub partitions: Vec<HeldPartition>,
}

/// Whether a consumer may act.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// It has said Hello, or is about to, and has no answer.
    #[default]
    Joining,
    /// It may act.
    Live,
    /// It is giving everything back.
    Leaving,
    /// A state of a later version.
    #[serde(other)]
    Unknown,
}

/// What a consumer does for a partition that it holds.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum HeldState {
    /// It takes the sink over.
    Acquiring,
    /// Something has failed and is tried again soon.
    Pausing,
    /// It waits for records.
    Reading,
    /// It has records, and waits for more of them or for the end of the time that a batch may take.
    Gathering,
    /// It has a batch, and waits until its lease is long enough to write it.
    Waiting,
    /// It writes a batch.
    Writing,
    /// It writes the last batch before it gives the partition back.
    Stopping,
    /// It waits for a person; an alarm says why.
    Stuck,
    /// A state of a later version, or of one that does not tell.
    #[default]
    #[serde(other)]
    Unknown,
}

// === impl HeldState ===

impl HeldState {
    /// The word for it, as in the status.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acquiring => "acquiring",
            Self::Pausing => "pausing",
            Self::Reading => "reading",
            Self::Gathering => "gathering",
            Self::Waiting => "waiting",
            Self::Writing => "writing",
            Self::Stopping => "stopping",
            Self::Stuck => "stuck",
            Self::Unknown => "unknown",
        }
    }
}

/// A partition that a consumer holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldPartition {
    /// Its topic's name.
    pub topic: String,
    /// Its number.
    pub number: u32,
    /// The grant: an offset of the ledger.
    pub epoch: u64,
    /// What is done for it.
    pub state: HeldState,
    /// The offset after the last durable record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Records that are not durable yet, if it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag_records: Option<u64>,
}
