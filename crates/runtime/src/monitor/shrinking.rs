//! Warns of topics whose logs shrink, where rates are measured by the sizes of logs alone: such rates are too low.
//!
//! Each topic is looked at when it is measured first, and again now and then, as people change settings.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::ports::{Admin, TopicState};
use crate::retention::why_logs_shrink;

/// How often a topic's settings are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// Who was not looked at for so long is no longer measured. Not every round reports every topic, and one that a broker
/// failed to list for a while is not to be warned of anew.
const FORGET: Duration = Duration::from_secs(3600);

/// When which topic was looked at, and what was found.
#[derive(Debug, Default)]
pub(super) struct Shrinking {
    known: BTreeMap<String, (Instant, Option<String>)>,
}

// === impl Shrinking ===

impl Shrinking {
    /// Looks at those that are due; says what is new.
    pub(super) async fn warn_of(
        &mut self,
        admin: &dyn Admin,
        topics: impl Iterator<Item = &str> + Send,
    ) {
        let now = Instant::now();
        let due = self.due(topics, now);
        if due.is_empty() {
            return;
        }
        let found = match admin.describe(&due).await {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "whether logs shrink by retention is not known"
                );
                Vec::new()
            }
        };
        for (topic, why) in self.note(due, &found, now) {
            tracing::warn!(
                topic,
                why,
                "rates of this topic are too low whenever its log shrinks, as monitor.logSizesOnly is set: leave that out; where it \
                 shrinks by retention.ms or retention.bytes, `tidegate topics retain --forever {topic}` helps as well"
            );
        }
    }

    fn due<'a>(&self, topics: impl Iterator<Item = &'a str>, now: Instant) -> Vec<String> {
        let is_due = |topic: &&str| {
            self.known
                .get(*topic)
                .is_none_or(|(looked, _)| now.duration_since(*looked) >= LOOK_AGAIN)
        };
        topics.filter(is_due).map(str::to_owned).collect()
    }

    /// What is new about those that were looked at. Where there was no answer, what was known stays.
    fn note(
        &mut self,
        due: Vec<String>,
        found: &[TopicState],
        now: Instant,
    ) -> Vec<(String, String)> {
        let found: BTreeMap<_, _> = found
            .iter()
            .filter(|topic| !topic.config.is_empty())
            .map(|topic| (topic.name.as_str(), why_logs_shrink(topic)))
            .collect();
        let mut news = Vec::new();
        for topic in due {
            let told = self.known.remove(&topic).and_then(|(_, why)| why);
            let why = found.get(topic.as_str()).unwrap_or(&told).clone();
            if let Some(why) = why.as_ref().filter(|why| Some(*why) != told.as_ref()) {
                news.push((topic.clone(), why.clone()));
            }
            self.known.insert(topic, (now, why));
        }
        self.known.retain(|_, (looked, _)| now.duration_since(*looked) < FORGET);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::retention::tests::topic;

    /// A monitor of some topics, by the minute.
    struct World {
        shrinking: Shrinking,
        began: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { shrinking: Shrinking::default(), began: Instant::now() }
        }

        /// The topics that are told of in this minute.
        fn told(&mut self, minute: u64, measured: &[&str], found: &[TopicState]) -> Vec<String> {
            let now = self.began + Duration::from_secs(minute * 60);
            let due = self.shrinking.due(measured.iter().copied(), now);
            let news = self.shrinking.note(due, found, now);
            news.into_iter().map(|(topic, _)| topic).collect()
        }
    }

    fn kept_for(name: &str, ms: &str) -> TopicState {
        let settings = [("cleanup.policy", "delete"), ("retention.ms", ms)];
        TopicState { name: name.to_owned(), ..topic(&settings) }
    }

    #[test]
    fn a_topic_is_told_once_and_again_when_its_settings_change() {
        let mut world = World::new();
        let told = |world: &mut World, minute, ms| world.told(minute, &["a"], &[kept_for("a", ms)]);
        assert_eq!(told(&mut world, 0, "1000"), ["a"]);
        assert!(told(&mut world, 1, "2000").is_empty(), "not due");
        assert_eq!(told(&mut world, 10, "2000"), ["a"]);
        assert!(told(&mut world, 20, "2000").is_empty(), "told");
        assert!(told(&mut world, 30, "-1").is_empty(), "mended");
        assert_eq!(told(&mut world, 40, "2000"), ["a"]);
    }

    #[test]
    fn a_look_without_an_answer_changes_nothing_of_what_is_known() {
        let mut world = World::new();
        let shrinks = [kept_for("a", "1000")];
        assert_eq!(world.told(0, &["a"], &shrinks), ["a"]);
        assert!(world.told(10, &["a"], &[]).is_empty());
        assert!(world.told(20, &["a"], &shrinks).is_empty(), "it was told of at first");
        // Settings that may not be read any more are no answer either.
        let unread = TopicState { name: "a".to_owned(), ..topic(&[]) };
        assert!(world.told(30, &["a"], &[unread]).is_empty());
        assert!(world.told(40, &["a"], &shrinks).is_empty(), "it was told of at first");
    }

    #[test]
    fn topics_that_are_measured_no_longer_are_forgotten() {
        let mut world = World::new();
        world.told(0, &["a", "b"], &[kept_for("a", "1000"), kept_for("b", "1000")]);
        for minute in [10, 20, 30, 40, 50, 60] {
            world.told(minute, &["b"], &[kept_for("b", "1000")]);
        }
        assert_eq!(world.shrinking.known.keys().collect::<Vec<_>>(), ["b"]);
    }
}
