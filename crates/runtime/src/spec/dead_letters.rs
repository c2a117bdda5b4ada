//! Where rejected records go: the targets of `deadLetters`, and what is wrong with one.

use std::fmt;

use super::config::{Config, SinkTarget};

/// Names the kinds of targets, for error texts.
const EXPECTED: &str = "expected kafka:TOPIC, file:///FOLDER or s3://BUCKET/PREFIX";

/// The schemes of places that keep one object for each record.
const PLACES: [&str; 2] = ["file", "s3"];

/// Where the records of a topic go that its sink rejects.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeadLetterTarget {
    /// A topic of the same cluster.
    Kafka(String),
    /// Objects under a prefix.
    Objects(SinkTarget),
}

impl DeadLetterTarget {
    /// Reads a target; the error says what is expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let target = SinkTarget::parse(text).map_err(|_| EXPECTED.to_owned())?;
        match target.scheme() {
            "kafka" if target.rest().is_empty() => Err(EXPECTED.to_owned()),
            "kafka" => Ok(Self::Kafka(target.rest().to_owned())),
            scheme if PLACES.contains(&scheme) => Ok(Self::Objects(target)),
            scheme => Err(format!("{EXPECTED}, found the scheme {scheme:?}")),
        }
    }

    /// What is wrong with it for records that go to this sink; `None` when nothing is.
    pub(super) fn fault(&self, sink: &SinkTarget, config: &Config) -> Option<String> {
        match self {
            Self::Kafka(topic) => {
                let ours = config.control_topics.names().any(|control| control == topic);
                if ours || topic.starts_with("__") {
                    return Some(format!("{topic} is no data topic: choose another one"));
                }
                let entry = config.topic(topic)?;
                Some(format!(
                    "{topic} is itself a topic of interest, by topics entry \"{}\": what is rejected would come back",
                    entry.pattern
                ))
            }
            Self::Objects(place) => {
                let folder = |target: &SinkTarget| {
                    let rest = target.rest().split('?').next().unwrap_or_default();
                    (target.scheme().to_owned(), rest.trim_end_matches('/').to_owned())
                };
                (folder(place) == folder(sink)).then(|| {
                    "is where the records of the sink are: choose another folder".to_owned()
                })
            }
        }
    }
}

impl fmt::Display for DeadLetterTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kafka(topic) => write!(f, "kafka:{topic}"),
            Self::Objects(target) => target.fmt(f),
        }
    }
}
