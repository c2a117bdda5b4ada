//! Warns of topics whose logs shrink, where rates are measured by the sizes of logs alone: such rates are too low.
//!
//! Each topic is looked at when it is measured first, and again now and then, as people change settings.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::ports::Admin;
use crate::retention::why_logs_shrink;

/// How often a topic's settings are looked at.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

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
        let is_due = |topic: &&str| {
            self.known
                .get(*topic)
                .is_none_or(|(looked, _)| now.duration_since(*looked) >= LOOK_AGAIN)
        };
        let due: Vec<String> = topics.filter(is_due).map(str::to_owned).collect();
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
        let mut found: BTreeMap<_, _> =
            found.iter().map(|topic| (topic.name.as_str(), why_logs_shrink(topic))).collect();
        for topic in due {
            let why = found.remove(topic.as_str()).flatten();
            let told = self.known.get(&topic).and_then(|(_, why)| why.clone());
            if let Some(why) = why.as_ref().filter(|why| Some(*why) != told.as_ref()) {
                tracing::warn!(
                    topic,
                    why,
                    "rates of this topic are too low whenever its log shrinks, as monitor.logSizesOnly is set: leave that out, \
                     or run `tidegate topics retain --forever {topic}`"
                );
            }
            self.known.insert(topic, (now, why));
        }
    }
}
