//! How long data topics keep their records, and what that means for whoever measures them by the sizes of their logs.
//!
//! The published method takes the growth of a log for what was written to it. That is right only while nothing is deleted from
//! the log and nothing in it is compacted.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::ports::{Admin, Class, Error, TopicState};
use crate::spec::Config;

const TIME: &str = "retention.ms";
const SIZE: &str = "retention.bytes";
const POLICY: &str = "cleanup.policy";

/// Kafka's word for a retention without limit.
const UNLIMITED: &str = "-1";

/// How long records are to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Neither time nor size ends it.
    Forever,
    /// So long; a limit on the size of the log stays as it is.
    For(Duration),
}

/// What was changed of a topic.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Retained {
    /// The topic.
    pub topic: String,
    /// Settings by Kafka's names, as they were; left out where they may not be read.
    pub before: BTreeMap<String, String>,
    /// The same settings as they are now.
    pub after: BTreeMap<String, String>,
    /// Why the logs of the topic shrink all the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shrinks: Option<String>,
}

/// Changes how long topics keep their records: all of them, or none where one is missing or is not a data topic.
pub async fn retain(
    admin: &dyn Admin,
    config: &Config,
    topics: &[String],
    retention: Retention,
) -> Result<Vec<Retained>, Error> {
    let refuse = |text: String| Err(Error::new(Class::Permanent, text));
    if let Some(topic) =
        topics.iter().find(|topic| config.control_topics.names().any(|name| name == *topic))
    {
        return refuse(format!(
            "topic {topic} is a control topic of the group: `tidegate topics create --fix` sets its retention"
        ));
    }
    let found = admin.describe(topics).await?;
    if let Some(topic) =
        topics.iter().find(|topic| !found.iter().any(|found| found.name == **topic))
    {
        return refuse(format!(
            "topic {topic} does not exist, or may not be seen: nothing was changed"
        ));
    }
    let after = settings(retention);
    let mut done = Vec::new();
    for topic in found {
        admin.configure(&topic.name, &after).await?;
        let before =
            after.keys().filter_map(|name| Some((name.clone(), topic.config.get(name)?.clone())));
        let before = before.collect();
        let mut now = topic;
        if !now.config.is_empty() {
            now.config.extend(after.clone());
        }
        let shrinks = why_logs_shrink(&now);
        done.push(Retained { topic: now.name, before, after: after.clone(), shrinks });
    }
    Ok(done)
}

fn settings(retention: Retention) -> BTreeMap<String, String> {
    let set = |name: &str, value: String| (name.to_owned(), value);
    match retention {
        Retention::Forever => {
            [set(TIME, UNLIMITED.to_owned()), set(SIZE, UNLIMITED.to_owned())].into()
        }
        Retention::For(time) => [set(TIME, time.as_millis().to_string())].into(),
    }
}

/// Why the logs of a topic lose what was written to them; `None` when they do not, or when its settings may not be read.
pub fn why_logs_shrink(topic: &TopicState) -> Option<String> {
    let policy = topic.config.get(POLICY)?;
    let limit = |name: &str| {
        let value = topic.config.get(name).filter(|value| *value != UNLIMITED)?;
        Some(format!("{name} is {value}"))
    };
    let deleted =
        if policy.contains("delete") { limit(TIME).or_else(|| limit(SIZE)) } else { None };
    deleted.or_else(|| policy.contains("compact").then(|| format!("{POLICY} is {policy}")))
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::TopicId;

    use super::*;

    fn topic(settings: &[(&str, &str)]) -> TopicState {
        let config = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        TopicState {
            name: "orders".to_owned(),
            id: TopicId([1; 16]),
            partitions: 1,
            replication: 1,
            config: config.collect(),
        }
    }

    fn why(settings: &[(&str, &str)]) -> Option<String> {
        why_logs_shrink(&topic(settings))
    }

    #[test]
    fn logs_shrink_by_time_by_size_and_by_compaction() {
        let limits = |time, size| [(POLICY, "delete"), (TIME, time), (SIZE, size)];
        assert_eq!(why(&limits("-1", "-1")), None);
        assert_eq!(why(&limits("604800000", "-1")).as_deref(), Some("retention.ms is 604800000"));
        assert_eq!(why(&limits("-1", "1000")).as_deref(), Some("retention.bytes is 1000"));
        let compacted = [(POLICY, "compact"), (TIME, "604800000")];
        assert_eq!(why(&compacted).as_deref(), Some("cleanup.policy is compact"));
        let both = [(POLICY, "compact,delete"), (TIME, "-1"), (SIZE, "-1")];
        assert_eq!(why(&both).as_deref(), Some("cleanup.policy is compact,delete"));
    }

    #[test]
    fn settings_that_may_not_be_read_say_nothing() {
        assert_eq!(why(&[]), None);
    }

    #[test]
    fn for_ever_means_neither_time_nor_size() {
        let both = [(SIZE.to_owned(), "-1".to_owned()), (TIME.to_owned(), "-1".to_owned())];
        assert_eq!(settings(Retention::Forever), both.into());
        let hour = settings(Retention::For(Duration::from_secs(3600)));
        assert_eq!(hour, [(TIME.to_owned(), "3600000".to_owned())].into());
    }
}
