//! What the status of the resource says.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The status of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GroupStatus {
    /// The generation of the resource that this is about.
    pub observed_generation: i64,
    /// Whether the group is as it should be, and why not.
    pub conditions: Vec<Condition>,
    /// How many consumers there are.
    pub consumers: Numbers,
    /// How many partitions are measured.
    pub partitions: u32,
    /// Finds the consumers' pods.
    pub selector: String,
    /// The last decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_decision: Option<LastDecision>,
    /// What a rollout has taken back. It is not tried again before something else is wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Refused>,
}

/// A revision of what consumers work by that they did not work with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Refused {
    /// Its name: a hash of what consumers work by.
    pub revision: String,
    /// What went wrong.
    pub reason: String,
}

/// One aspect of the group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// Which aspect.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// A word for programs.
    pub reason: String,
    /// A sentence for people.
    pub message: String,
    /// Since when it has this status.
    pub last_transition_time: String,
}

/// How many consumers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Numbers {
    /// So many should run.
    pub wanted: u32,
    /// So many can be given partitions.
    pub ready: u32,
}

/// The last decision, with what it was bound by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LastDecision {
    /// When it was made.
    pub time: String,
    /// What set it off.
    pub trigger: String,
    /// No fewer consumers would do for the load.
    pub lower_bound: u32,
    /// So many consumers there were.
    pub consumers_before: u32,
    /// So many there are to be.
    pub consumers_after: u32,
    /// So many there would be without `consumers.min` and `consumers.max`.
    pub raw_consumers: u32,
    /// What kept it from something else, such as the maximum.
    pub bound_by: Vec<String>,
    /// So many partitions move.
    pub moves: u32,
    /// How many of them for which reason.
    pub reasons: BTreeMap<String, u32>,
}
