//! A record of a control topic as it is shown to people and programs.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use tidegate_core::ids::TopicId;
use tidegate_runtime::ports::RawRecord;
use tidegate_wire::TYPE_HEADER;

use crate::output::Output;

/// A message as it is printed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    topic: String,
    partition: u32,
    offset: u64,
    timestamp_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    value: Value,
    /// The same in one line, for people.
    text: String,
}

impl Message {
    /// A record of a partition; data topics are called by these names.
    pub(super) fn of(
        (topic, partition): (&str, u32),
        record: &RawRecord,
        names: &BTreeMap<TopicId, String>,
    ) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let kind = record.headers.iter().find(|(name, _)| name == TYPE_HEADER);
        let value = record.value.as_deref().map_or(Value::Null, |value| {
            serde_json::from_slice(value).unwrap_or_else(|_| Value::String(text(value)))
        });
        Self {
            topic: topic.to_owned(),
            partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.as_deref().map(text),
            kind: kind.map_or_else(|| "unknown".to_owned(), |(_, kind)| text(kind)),
            value,
            text: describe(record, names),
        }
    }

    /// Prints it in one line.
    pub(super) fn print(&self, output: &Output) -> anyhow::Result<()> {
        let Self { topic, partition, offset, timestamp_ms, text, .. } = self;
        let at = time(*timestamp_ms);
        output.result(&format!("{at} {topic}-{partition} @{offset} {text}"), self)
    }
}

/// What cannot be decoded is told and not hidden: somebody wrote it.
fn describe(record: &RawRecord, names: &BTreeMap<TopicId, String>) -> String {
    let headers: Vec<_> =
        record.headers.iter().map(|(name, value)| (name.as_str(), &**value)).collect();
    match tidegate_wire::decode(record.key.as_deref(), &headers, record.value.as_deref()) {
        Ok(decoded) => tidegate_wire::describe(&decoded, &|id| names.get(&id).cloned()),
        Err(error) => format!("unreadable: {error}"),
    }
}

/// The time of the day, in UTC.
fn time(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1000 % 86_400, unix_ms % 1000);
    format!("{:02}:{:02}:{:02}.{ms:03}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_of_the_day() {
        assert_eq!(time(1_700_000_000_123), "22:13:20.123");
    }
}
