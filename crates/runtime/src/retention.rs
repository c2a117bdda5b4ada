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

/// With tiered storage: older records are elsewhere, and no longer in the log that is measured.
const TIERED: &str = "remote.storage.enable";
const LOCAL_TIME: &str = "local.retention.ms";
const LOCAL_SIZE: &str = "local.retention.bytes";

/// Kafka's word for a retention without limit.
const UNLIMITED: &str = "-1";

/// Kafka's word for a local retention that is the whole one.
const AS_THE_WHOLE: &str = "-2";

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
        let unlimited = |value: &str| value == UNLIMITED || value == AS_THE_WHOLE;
        let value = topic.config.get(name).filter(|value| !unlimited(value))?;
        Some(format!("{name} is {value}"))
    };
    let is_tiered = topic.config.get(TIERED).is_some_and(|value| value == "true");
    let local: &[&str] = if is_tiered { &[LOCAL_TIME, LOCAL_SIZE] } else { &[] };
    let limits = [TIME, SIZE].into_iter().chain(local.iter().copied());
    let deleted = limits.filter(|_| policy.contains("delete")).find_map(limit);
    deleted.or_else(|| policy.contains("compact").then(|| format!("{POLICY} is {policy}")))
}

#[cfg(test)]
pub(crate) mod tests {
    use tidegate_core::ids::TopicId;

    use super::*;

    /// A topic with these settings.
    pub(crate) fn topic(settings: &[(&str, &str)]) -> TopicState {
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
    fn local_logs_shrink_by_their_own_limits_where_storage_is_tiered() {
        let kept = [(POLICY, "delete"), (TIME, "-1"), (SIZE, "-1")];
        let local = |time, size| [(TIERED, "true"), (LOCAL_TIME, time), (LOCAL_SIZE, size)];
        let why = |local: &[(&'static str, &'static str)]| why(&[&kept[..], local].concat());
        assert_eq!(why(&local("3600000", "-2")).as_deref(), Some("local.retention.ms is 3600000"));
        assert_eq!(why(&local("-2", "1000")).as_deref(), Some("local.retention.bytes is 1000"));
        assert_eq!(why(&local("-2", "-2")), None, "they are as the whole retention");
        assert_eq!(why(&local("-1", "-1")), None);
        let unused = [(TIERED, "false"), (LOCAL_TIME, "3600000"), (LOCAL_SIZE, "1000")];
        assert_eq!(why(&unused), None, "nothing is tiered");
        assert_eq!(why(&unused[1..]), None, "a version without tiered storage");
    }

    #[test]
    fn local_limits_as_the_whole_retention_shrink_by_it() {
        let settings = [(POLICY, "delete"), (TIME, "1000"), (TIERED, "true"), (LOCAL_TIME, "-2")];
        assert_eq!(why(&settings).as_deref(), Some("retention.ms is 1000"));
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
