//! What a person should look at: a closed list, the same in status, metrics and events.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ByteRate;

/// How bad it is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Work stands still, or data is in danger: a person must act.
    Critical,
    /// Something is not as it should be; the group goes on.
    #[default]
    Warning,
    /// A severity of a later version.
    #[serde(other)]
    Unknown,
}

/// Something that a person should look at. The variants name what it is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// Two living processes have one consumer number: the later waits.
    TwoProcessesOfOneNumber {
        /// The number.
        consumer: u32,
        /// The process that has it.
        current: String,
        /// The process that waits.
        waiting: String,
    },
    /// A partition is written faster than any consumer reads.
    HotPartition {
        /// Topic and number.
        partition: String,
        /// How fast it is written.
        bytes_per_sec: u64,
        /// What a consumer can process.
        capacity_bytes_per_sec: u64,
    },
    /// A sink has less than it once made durable.
    SinkBehind {
        /// Topic and number.
        partition: String,
        /// Where the sink stands.
        sink: Option<u64>,
        /// What the ledger knows to have been durable.
        ledger: u64,
    },
    /// A sink refuses or is damaged.
    SinkFailing {
        /// Topic and number.
        partition: String,
        /// Why, in a few words.
        reason: String,
    },
    /// A partition cannot be read.
    ReadFailing {
        /// Topic and number.
        partition: String,
    },
    /// The records to read next are not in the partition any more.
    OutOfRange {
        /// Topic and number.
        partition: String,
        /// The offset that does not exist.
        next: u64,
        /// The first offset that is still there.
        start: u64,
        /// The offset after the last.
        end: u64,
    },
    /// The ledger belongs to another group.
    ForeignLedger {
        /// The ledger's topic.
        topic: String,
    },
    /// The ledger's topic could lose acknowledged records.
    WeakLedger {
        /// The ledger's topic.
        topic: String,
        /// What is wrong with its settings.
        reason: String,
    },
    /// A worker did not come up in time.
    WorkerLate {
        /// Its consumer.
        consumer: u32,
    },
    /// A worker ends again and again.
    WorkerCrashLooping {
        /// Its consumer.
        consumer: u32,
        /// How often it was started.
        starts: u32,
    },
    /// No plan satisfies the spec.
    PlanInfeasible {
        /// Why.
        reason: String,
    },
    /// The monitor has not told the rates of a topic for too long.
    RatesStale {
        /// The topic.
        topic: String,
    },
    /// The group's committed offsets in Kafka cannot be kept up to date.
    MirrorFailing {
        /// The group.
        group: String,
        /// Why, in a few words.
        reason: String,
    },
    /// More consumers are needed than the spec allows.
    MaxConsumersReached {
        /// The limit.
        max: u32,
    },
    /// The ledger lost records.
    LedgerTruncated {
        /// The ledger's topic.
        topic: String,
    },
    /// An update of the consumers did not work and was taken back.
    RolloutTakenBack {
        /// Why.
        reason: String,
    },
    /// A field that the service topic sets is not in effect.
    OverrideRefused {
        /// The path of the field.
        field: String,
        /// Why.
        reason: String,
    },
}

/// An alarm in the status.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase", default)]
pub struct RaisedAlarm {
    /// How bad it is.
    pub severity: Severity,
    /// Which alarm: one of [`Alarm::CODES`], or one of a later version.
    pub code: String,
    /// What it is about: a consumer, a partition, a topic or the group.
    pub object: String,
    /// What is the matter, in one sentence.
    pub summary: String,
    /// Since when: milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
}

// === impl Alarm ===

impl Alarm {
    /// The codes of all alarms, for metrics that list all of them.
    pub const CODES: &'static [&'static str] = &[
        "two-processes-of-one-number",
        "hot-partition",
        "sink-behind",
        "sink-failing",
        "read-failing",
        "out-of-range",
        "foreign-ledger",
        "weak-ledger",
        "worker-late",
        "worker-crash-looping",
        "plan-infeasible",
        "rates-stale",
        "mirror-failing",
        "max-consumers-reached",
        "ledger-truncated",
        "rollout-taken-back",
        "override-refused",
    ];

    /// A fixed word for labels and messages.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TwoProcessesOfOneNumber { .. } => "two-processes-of-one-number",
            Self::HotPartition { .. } => "hot-partition",
            Self::SinkBehind { .. } => "sink-behind",
            Self::SinkFailing { .. } => "sink-failing",
            Self::ReadFailing { .. } => "read-failing",
            Self::OutOfRange { .. } => "out-of-range",
            Self::ForeignLedger { .. } => "foreign-ledger",
            Self::WeakLedger { .. } => "weak-ledger",
            Self::WorkerLate { .. } => "worker-late",
            Self::WorkerCrashLooping { .. } => "worker-crash-looping",
            Self::PlanInfeasible { .. } => "plan-infeasible",
            Self::RatesStale { .. } => "rates-stale",
            Self::MirrorFailing { .. } => "mirror-failing",
            Self::MaxConsumersReached { .. } => "max-consumers-reached",
            Self::LedgerTruncated { .. } => "ledger-truncated",
            Self::RolloutTakenBack { .. } => "rollout-taken-back",
            Self::OverrideRefused { .. } => "override-refused",
        }
    }

    /// How bad it is: critical where records are not delivered until a person acts.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::SinkBehind { .. }
            | Self::SinkFailing { .. }
            | Self::ReadFailing { .. }
            | Self::OutOfRange { .. }
            | Self::ForeignLedger { .. }
            | Self::PlanInfeasible { .. }
            | Self::LedgerTruncated { .. } => Severity::Critical,
            Self::TwoProcessesOfOneNumber { .. }
            | Self::HotPartition { .. }
            | Self::WeakLedger { .. }
            | Self::WorkerLate { .. }
            | Self::WorkerCrashLooping { .. }
            | Self::RatesStale { .. }
            | Self::MirrorFailing { .. }
            | Self::MaxConsumersReached { .. }
            | Self::RolloutTakenBack { .. }
            | Self::OverrideRefused { .. } => Severity::Warning,
        }
    }

    /// What it is about.
    pub fn object(&self) -> String {
        match self {
            Self::TwoProcessesOfOneNumber { consumer, .. }
            | Self::WorkerLate { consumer }
            | Self::WorkerCrashLooping { consumer, .. } => format!("consumer {consumer}"),
            Self::HotPartition { partition, .. }
            | Self::SinkBehind { partition, .. }
            | Self::SinkFailing { partition, .. }
            | Self::ReadFailing { partition }
            | Self::OutOfRange { partition, .. } => format!("partition {partition}"),
            Self::ForeignLedger { topic }
            | Self::WeakLedger { topic, .. }
            | Self::RatesStale { topic }
            | Self::LedgerTruncated { topic } => format!("topic {topic}"),
            Self::MirrorFailing { group, .. } => format!("group {group}"),
            Self::OverrideRefused { field, .. } => format!("field {field}"),
            Self::PlanInfeasible { .. }
            | Self::MaxConsumersReached { .. }
            | Self::RolloutTakenBack { .. } => "group".to_owned(),
        }
    }

    /// What is the matter, in one sentence without a full stop.
    pub fn summary(&self) -> String {
        self.to_string()
    }

    /// The alarm as the status shows it.
    pub fn raised(&self, since_unix_ms: u64) -> RaisedAlarm {
        RaisedAlarm {
            severity: self.severity(),
            code: self.code().to_owned(),
            object: self.object(),
            summary: self.summary(),
            since_unix_ms,
        }
    }
}

impl fmt::Display for Alarm {
    #[expect(clippy::too_many_lines, reason = "a sentence for each")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoProcessesOfOneNumber { consumer, current, waiting } => write!(
                f,
                "two processes have consumer number {consumer}: {current} has it, {waiting} waits"
            ),
            Self::HotPartition { partition, bytes_per_sec, capacity_bytes_per_sec } => write!(
                f,
                "partition {partition} is written at {}, and a consumer can process {}: more \
                 consumers do not help",
                ByteRate(*bytes_per_sec),
                ByteRate(*capacity_bytes_per_sec)
            ),
            Self::SinkBehind { partition, sink: Some(sink), ledger } => write!(
                f,
                "the sink of partition {partition} ends at offset {sink}, but had records up to \
                 {ledger}: the partition waits for a decision"
            ),
            Self::SinkBehind { partition, sink: None, ledger } => write!(
                f,
                "the sink of partition {partition} is empty, but had records up to {ledger}: the \
                 partition waits for a decision"
            ),
            Self::SinkFailing { partition, reason } => {
                write!(f, "the sink of partition {partition} cannot be written to: {reason}")
            }
            Self::ReadFailing { partition } => {
                write!(
                    f,
                    "partition {partition} cannot be read: see the consumer's log for the cause"
                )
            }
            Self::OutOfRange { partition, next, start, end } if next < start => write!(
                f,
                "partition {partition} is to be read from offset {next} on, and its log is from \
                 {start} to {end}: {} offsets were deleted before they were delivered",
                start - next
            ),
            Self::OutOfRange { partition, next, start, end } => write!(
                f,
                "partition {partition} is to be read from offset {next} on, and its log is from \
                 {start} to {end}: it has lost its end"
            ),
            Self::ForeignLedger { topic } => {
                write!(f, "the ledger in topic {topic} belongs to another group")
            }
            Self::WeakLedger { topic, reason } => {
                write!(f, "the ledger's topic {topic} could lose acknowledged records: {reason}")
            }
            Self::WorkerLate { consumer } => {
                write!(f, "the worker of consumer {consumer} did not come up in time")
            }
            Self::WorkerCrashLooping { consumer, starts } => write!(
                f,
                "the worker of consumer {consumer} ends again and again: it was started {starts} \
                 times"
            ),
            Self::PlanInfeasible { reason } => write!(f, "no plan satisfies the spec: {reason}"),
            Self::RatesStale { topic } => {
                write!(f, "the monitor says nothing new about topic {topic}")
            }
            Self::MirrorFailing { group, reason } => {
                write!(f, "the offsets of group {group} in Kafka cannot be kept: {reason}")
            }
            Self::MaxConsumersReached { max } => {
                write!(f, "more than the allowed {max} consumers are needed: they are overfull")
            }
            Self::LedgerTruncated { topic } => {
                write!(f, "the ledger in topic {topic} lost records: nothing new is granted")
            }
            Self::RolloutTakenBack { reason } => {
                write!(f, "an update of the consumers was taken back: {reason}")
            }
            Self::OverrideRefused { field, reason } => {
                write!(f, "the service topic sets {field}, which is not in effect: {reason}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn one_of_each() -> Vec<Alarm> {
        let partition = || "orders-3".to_owned();
        let topic = || "data-engineering-controller".to_owned();
        let reason = || "because".to_owned();
        vec![
            Alarm::TwoProcessesOfOneNumber {
                consumer: 1,
                current: "a".to_owned(),
                waiting: "b".to_owned(),
            },
            Alarm::HotPartition {
                partition: partition(),
                bytes_per_sec: 9,
                capacity_bytes_per_sec: 8,
            },
            Alarm::SinkBehind { partition: partition(), sink: None, ledger: 7 },
            Alarm::SinkFailing { partition: partition(), reason: reason() },
            Alarm::ReadFailing { partition: partition() },
            Alarm::OutOfRange { partition: partition(), next: 7, start: 9, end: 12 },
            Alarm::ForeignLedger { topic: topic() },
            Alarm::WeakLedger { topic: topic(), reason: reason() },
            Alarm::WorkerLate { consumer: 1 },
            Alarm::WorkerCrashLooping { consumer: 1, starts: 9 },
            Alarm::PlanInfeasible { reason: reason() },
            Alarm::RatesStale { topic: topic() },
            Alarm::MirrorFailing { group: "orders".to_owned(), reason: reason() },
            Alarm::MaxConsumersReached { max: 4 },
            Alarm::LedgerTruncated { topic: topic() },
            Alarm::RolloutTakenBack { reason: reason() },
            Alarm::OverrideRefused { field: "consumers.max".to_owned(), reason: reason() },
        ]
    }

    #[test]
    fn each_alarm_has_a_code_of_its_own_that_is_listed() {
        let codes: Vec<_> = one_of_each().iter().map(Alarm::code).collect();
        assert_eq!(codes, Alarm::CODES);
        assert_eq!(codes.iter().collect::<BTreeSet<_>>().len(), codes.len());
    }

    #[test]
    fn each_alarm_names_its_object_in_one_sentence() {
        for alarm in one_of_each() {
            let raised = alarm.raised(5);
            assert!(!raised.summary.ends_with('.'), "{raised:?}");
            let object = raised.object.split(' ').next_back().expect("objects are not empty");
            assert!(object == "group" || raised.summary.contains(object), "{raised:?}");
        }
    }
}
