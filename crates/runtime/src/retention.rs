//! How long data topics keep their records, and what that means for whoever measures them by the sizes of their logs.
//!
//! The published method takes the growth of a log for what was written to it. That is right only while nothing is deleted from
//! the log and nothing in it is compacted.

use std::collections::{BTreeMap, BTreeSet};
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

/// What came of a change.
#[derive(Debug)]
pub struct Outcome {
    /// What was changed.
    pub changed: Vec<Retained>,
    /// Why the change ended before all topics were done. What became of the first one that is not in `changed` is not
    /// known then, and those after it are as they were.
    pub failure: Option<Error>,
}

/// Changes how long topics keep their records: all of them, or none where one is missing or is not a data topic. A failure on
/// the way is told together with what was done before.
pub async fn retain(
    admin: &dyn Admin,
    config: &Config,
    topics: &[String],
    retention: Retention,
) -> Result<Outcome, Error> {
    let refuse = |text: String| Err(Error::new(Class::Permanent, text));
    if let Some(topic) = topics.iter().find(|topic| config.topic(topic).is_none()) {
        return refuse(not_data(config, topic));
    }
    let wanted: Vec<String> = BTreeSet::from_iter(topics).into_iter().cloned().collect();
    let found = admin.describe(&wanted).await?;
    if let Some(topic) =
        wanted.iter().find(|topic| !found.iter().any(|found| found.name == **topic))
    {
        return refuse(format!(
            "topic {topic} does not exist, or may not be seen: nothing was changed"
        ));
    }
    let after = settings(retention);
    let mut changed = Vec::new();
    for topic in found {
        if let Err(error) = admin.configure(&topic.name, &after).await {
            return Ok(Outcome { changed, failure: Some(error) });
        }
        let before =
            after.keys().filter_map(|name| Some((name.clone(), topic.config.get(name)?.clone())));
        let before = before.collect();
        let mut now = topic;
        if !now.config.is_empty() {
            now.config.extend(after.clone());
        }
        let shrinks = why_logs_shrink(&now);
        changed.push(Retained { topic: now.name, before, after: after.clone(), shrinks });
    }
    Ok(Outcome { changed, failure: None })
}

/// Why a topic is left alone.
fn not_data(config: &Config, topic: &str) -> String {
    let group = &config.group.0;
    if config.control_topics.names().any(|name| name == topic) {
        return format!(
            "topic {topic} is a control topic of group {group}: `tidegate topics create --fix` sets its retention; \
             nothing was changed"
        );
    }
    format!(
        "topic {topic} is no data topic of group {group}, as nothing in `topics` of its specification matches it: \
         correct the name, or add it there; nothing was changed"
    )
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
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tidegate_core::ids::TopicId;

    use super::*;
    use crate::ports::TopicSpec;
    use crate::spec::GroupSpec;

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

    /// A cluster that has every topic, and changes them until it comes to one that it refuses.
    #[derive(Debug, Default)]
    struct Cluster {
        refused: Option<&'static str>,
        changed: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl Admin for Cluster {
        async fn brokers(&self) -> Result<u32, Error> {
            Ok(1)
        }

        async fn list(&self) -> Result<BTreeMap<TopicId, String>, Error> {
            Ok(BTreeMap::new())
        }

        async fn describe(&self, names: &[String]) -> Result<Vec<TopicState>, Error> {
            let settings = [(POLICY, "delete"), (TIME, "7"), (SIZE, "-1")];
            let state = |name: &String| TopicState { name: name.clone(), ..topic(&settings) };
            Ok(names.iter().map(state).collect())
        }

        async fn create(&self, _: &TopicSpec) -> Result<bool, Error> {
            Ok(false)
        }

        async fn grow(&self, _: &str, _: u32) -> Result<(), Error> {
            Ok(())
        }

        async fn configure(&self, topic: &str, _: &BTreeMap<String, String>) -> Result<(), Error> {
            if self.refused == Some(topic) {
                return Err(Error::new(Class::Permanent, format!("{topic} is refused")));
            }
            self.changed.lock().unwrap().push(topic.to_owned());
            Ok(())
        }

        async fn delete(&self, _: &str) -> Result<(), Error> {
            Ok(())
        }
    }

    fn config() -> Config {
        let yaml = "{group: shop, cluster: {bootstrapServers: 'localhost:9092'}, \
                     controlTopics: {controller: orders.commands, ledger: orders.ledger}, \
                     topics: [{name: 'orders.*', sink: 'blackhole:'}, {name: bills, sink: 'blackhole:'}]}";
        GroupSpec::parse(yaml, &BTreeMap::new()).unwrap().validate().unwrap()
    }

    async fn forever(cluster: &Cluster, topics: &[&str]) -> Result<Outcome, Error> {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        retain(cluster, &config(), &topics, Retention::Forever).await
    }

    #[tokio::test]
    async fn none_but_data_topics_are_changed() {
        for (topic, why) in [
            ("bills2", "is no data topic of group shop"),
            ("order", "correct the name, or add it there"),
            ("__consumer_offsets", "is no data topic"),
            // The patterns fit these.
            ("orders.commands", "is a control topic of group shop"),
            ("orders.ledger", "`tidegate topics create --fix` sets its retention"),
        ] {
            let cluster = Cluster::default();
            let error = forever(&cluster, &["bills", topic]).await.unwrap_err();
            let (sentence, named) = (error.to_string(), format!("topic {topic} is "));
            assert!(sentence.starts_with(&named) && sentence.contains(why), "{sentence}");
            assert!(cluster.changed.lock().unwrap().is_empty(), "{topic}");
        }
        let cluster = Cluster::default();
        let outcome = forever(&cluster, &["orders.eu", "bills", "orders.eu"]).await.unwrap();
        assert!(outcome.failure.is_none());
        assert_eq!(*cluster.changed.lock().unwrap(), ["bills", "orders.eu"], "each once");
    }

    #[tokio::test]
    async fn a_failure_on_the_way_hides_nothing_of_what_was_changed() {
        let cluster = Cluster { refused: Some("orders.b"), ..Cluster::default() };
        let outcome = forever(&cluster, &["orders.a", "orders.b", "orders.c"]).await.unwrap();
        assert_eq!(outcome.failure.unwrap().to_string(), "orders.b is refused");
        let changed: Vec<_> = outcome.changed.iter().map(|topic| topic.topic.as_str()).collect();
        assert_eq!(changed, ["orders.a"]);
        assert_eq!(outcome.changed[0].before[TIME], "7");
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
