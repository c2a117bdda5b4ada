//! What a user says about a group, and what the processes make of it.
//!
//! ```text
//! YAML + environment ─► JSON value ─► walk against the schema ─► GroupSpec ─► checks ─► Config
//!                          ▲           (unknown keys, types)                 (ranges, relations)
//!        overrides from the service topic
//! ```
//!
//! One struct, [`GroupSpec`], is the file of the command line, the `spec` of the custom resource and the fields of the
//! service topic. Faults are collected over all stages, so that a user sees all of them at once; a faulty part is left
//! out and its default takes its place for the stages after.
//!
//! ```
//! use tidegate_runtime::spec::GroupSpec;
//! # use std::collections::BTreeMap;
//! let yaml = "
//! group: orders
//! cluster: {bootstrapServers: 'localhost:9092'}
//! topics: [{name: 'orders.*', sink: 'blackhole:'}]
//! capacity: {bytesPerSecond: 2MB/s}
//! ";
//! let spec = GroupSpec::parse(yaml, &BTreeMap::new())?;
//! assert_eq!(spec.validate()?.capacity.bytes_per_second.get(), 2_000_000);
//!
//! let faults = GroupSpec::parse("groop: orders", &BTreeMap::new()).unwrap_err();
//! assert!(faults.to_string().contains("groop: unknown key, did you mean group?"));
//! # Ok::<(), tidegate_runtime::spec::Faults>(())
//! ```

use std::collections::BTreeMap;
use std::sync::LazyLock;

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::security::Cluster;

mod check;
mod config;
mod consumers;
mod dead_letters;
mod docs;
mod edit;
mod sections;
mod units;
mod url;
mod walk;
mod workers;

pub use config::{Config, Pin, SinkTarget, Topic, TopicPattern};
pub use dead_letters::DeadLetterTarget;
pub use docs::docs;
pub use sections::{
    Capacity, Consumer, Consumers, ControlTopics, Controller, Http, Mode, Monitor, OnOutOfRange,
    OnSinkBehind, Ownership, PlannerPreset, Start, TopicOfInterest,
};
pub use units::{Address, OptionalRate, Permille, Rate, Size, Span};
pub use url::shown;
pub use workers::{Backoff, Keeping, Kubernetes, Storage, WorkerKind, Workers};

/// The specification of one consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[schemars(extend("required" = ["group", "cluster"]))]
pub struct GroupSpec {
    /// Name of the consumer group. Required.
    pub group: String,
    /// What the controller may do. The default is `observe`: a new group is looked at before it is touched.
    pub mode: Mode,
    /// Keeps consumers and partitions as they are: only what has no consumer, or has lost it, still gets one. The default is false.
    pub paused: bool,
    /// The Kafka cluster. Required.
    pub cluster: Cluster,
    /// The topics to read, each with its sink. There may be none: the service topic can add them.
    pub topics: Vec<TopicOfInterest>,
    /// The topics through which the processes talk.
    pub control_topics: ControlTopics,
    /// What one consumer can bear.
    pub capacity: Capacity,
    /// How many consumers there may be.
    pub consumers: Consumers,
    /// How partitions are measured.
    pub monitor: Monitor,
    /// When and how the group is changed.
    pub controller: Controller,
    /// The clocks of the ledger.
    pub ownership: Ownership,
    /// How a consumer reads and writes.
    pub consumer: Consumer,
    /// What runs the consumers.
    pub workers: Workers,
    /// The HTTP server of each process.
    pub http: Http,
}

impl GroupSpec {
    /// Reads a spec from YAML. Variables of the environment named `TIDEGATE_` and a key's path in capitals
    /// (`TIDEGATE_CAPACITY_BYTES_PER_SECOND`) win over it; others are ignored unless they look like a slip.
    /// Reports all faults, those that [`Self::validate`] finds among them.
    pub fn parse(yaml: &str, environment: &BTreeMap<String, String>) -> Result<Self, Faults> {
        let mut value = from_yaml(yaml).map_err(|message| Fault::new("", message))?;
        if value.is_null() {
            value = Value::Object(serde_json::Map::new());
        }
        let slips = edit::apply_environment(&mut value, schema(), environment);
        Self::checked(value, slips)
    }

    /// Reads a spec from a JSON value and reports all faults.
    pub fn from_value(value: Value) -> Result<Self, Faults> {
        Self::checked(value, Vec::new())
    }

    /// The same spec with one field changed, as an override of the service topic says. The field is a path of keys
    /// (`capacity.bytesPerSecond`), or `topics.` and a topic's name for a whole entry of that list, which a JSON null
    /// removes. `None`, a withdrawn override, leaves the field as the spec has it.
    pub fn with_override(&self, field: &str, value: Option<Value>) -> Result<Self, Faults> {
        let Some(value) = value else { return Ok(self.clone()) };
        let mut spec = self.to_value();
        edit::set_field(&mut spec, field, value);
        Self::from_value(spec)
    }

    /// The values that the processes work with, or all faults.
    pub fn validate(&self) -> Result<Config, Faults> {
        let (config, faults) = check::check(self);
        Faults::none_of(faults).map(|()| config)
    }

    /// The effective values as YAML, defaults included; secrets appear as references only.
    pub fn print(&self) -> String {
        to_yaml(self)
    }

    fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    fn checked(mut value: Value, faults: Vec<Fault>) -> Result<Self, Faults> {
        let mut found = walk::Found { faults, cuts: Vec::new() };
        walk::prune(&mut value, schema(), "", &mut found);
        let spec = serde_json::from_value::<Self>(value).unwrap_or_else(|error| {
            found.faults.push(Fault::new("", error.to_string()));
            found.cuts.push(String::new());
            Self::default()
        });
        let is_consequence =
            |fault: &Fault| found.cuts.iter().any(|cut| fault.is_below(cut) || fault.is_above(cut));
        let (_, mut faults) = check::check(&spec);
        faults.retain(|fault| !is_consequence(fault));
        found.faults.extend(faults);
        Faults::none_of(found.faults).map(|()| spec)
    }
}

/// The JSON schema of [`GroupSpec`], without references. It is made once: every text and every override is held against it.
pub fn schema() -> &'static Value {
    static SCHEMA: LazyLock<Value> = LazyLock::new(schema_of::<GroupSpec>);
    &SCHEMA
}

/// The JSON schema of a type, without references.
pub fn schema_of<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>().to_value()
}

/// Something in a spec that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Path of the key, such as `capacity.packing` or `topics[2].sink`; empty for the spec as a whole.
    pub path: String,
    /// What is wrong and what is expected.
    pub message: String,
}

impl Fault {
    fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }

    /// True when the fault is about the key of this path or one inside it.
    fn is_below(&self, path: &str) -> bool {
        path.is_empty()
            || self.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || starts_key(rest))
    }

    /// True when the key of this path is inside the one that the fault is about.
    fn is_above(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(starts_key)
    }
}

fn starts_key(rest: &str) -> bool {
    rest.starts_with(['.', '['])
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

/// All faults of a spec, at least one; printed one to a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults in the order in which they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }

    fn none_of(faults: Vec<Fault>) -> Result<(), Self> {
        if faults.is_empty() { Ok(()) } else { Err(Self(faults)) }
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().enumerate().try_for_each(|(index, fault)| {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")
        })
    }
}

impl std::error::Error for Faults {}

/// Writes YAML; what cannot be written is a comment that says why.
pub fn to_yaml(value: &impl Serialize) -> String {
    serde_saphyr::to_string(value).unwrap_or_else(|error| format!("# {error}\n"))
}

/// Reads YAML that is not a whole specification, such as the value of one field.
pub fn from_yaml(text: &str) -> Result<Value, String> {
    serde_saphyr::from_str(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
