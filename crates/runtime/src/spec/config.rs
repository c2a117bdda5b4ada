//! A spec that was checked: what the loops work with.

use std::fmt;

use tidegate_core::ids::GroupName;

use super::dead_letters::DeadLetterTarget;
use super::sections::{
    Capacity, Consumer, Consumers, ControlTopics, Controller, Http, Mode, Monitor, Ownership, Start,
};
use super::url::shown;
use super::workers::Workers;
use crate::security::Cluster;

/// The settings of one group, made by [`super::GroupSpec::validate`] only: every relation between them holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// The group's name.
    pub group: GroupName,
    /// What the controller may do.
    pub mode: Mode,
    /// Whether consumers and partitions stay as they are.
    pub paused: bool,
    /// The Kafka cluster.
    pub cluster: Cluster,
    /// The topics of interest; use [`Self::topic`] to find the entry for a topic.
    pub topics: Vec<Topic>,
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

/// A topic of interest, or all of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Which topics.
    pub pattern: TopicPattern,
    /// Where their records go.
    pub sink: SinkTarget,
    /// Where records go that the sink rejects; `None` stops their partition.
    pub dead_letters: Option<DeadLetterTarget>,
    /// Where a partition starts that nobody has read yet.
    pub start: Start,
}

/// A topic's name, or the beginning of names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicPattern {
    /// All topics whose name starts so.
    Prefix(String),
    /// The one topic of this name.
    Name(String),
}

/// A partition that must be on a certain consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: u32,
}

/// Where records go: a URL with a scheme that names the kind of sink. It is printed without what may be secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SinkTarget {
    scheme: String,
    rest: String,
}

// === impl Config ===

impl Config {
    /// The entry for a topic: that of its name, else that of the longest prefix. `None` for topics that are not of
    /// interest, the group's control topics and Kafka's internal ones.
    pub fn topic(&self, name: &str) -> Option<&Topic> {
        if name.starts_with("__") || self.control_topics.names().any(|control| control == name) {
            return None;
        }
        let fitting = self.topics.iter().filter(|topic| topic.pattern.matches(name));
        fitting.max_by_key(|topic| topic.pattern.rank())
    }

    /// The topics of interest as the monitor asks for them: names, and prefixes followed by `*`.
    pub fn topic_patterns(&self) -> Vec<String> {
        self.topics.iter().map(|topic| topic.pattern.to_string()).collect()
    }
}

impl ControlTopics {
    /// The names of the control topics.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let all = [&self.monitor, &self.controller, &self.service];
        all.into_iter().chain(&self.ledger).map(String::as_str)
    }

    /// The topic whose partition 0 is the ledger.
    pub fn ledger(&self) -> &str {
        self.ledger.as_ref().unwrap_or(&self.controller)
    }
}

// === impl Pin ===

impl Pin {
    /// Reads `TOPIC/PARTITION`.
    pub fn parse(text: &str) -> Option<Self> {
        let (topic, partition) = text.rsplit_once('/')?;
        let partition = partition.parse().ok()?;
        (!topic.is_empty()).then(|| Self { topic: topic.to_owned(), partition })
    }
}

// === impl TopicPattern ===

impl TopicPattern {
    /// Reads a name, or a prefix followed by `*`.
    pub fn new(text: &str) -> Self {
        text.strip_suffix('*')
            .map_or_else(|| Self::Name(text.to_owned()), |prefix| Self::Prefix(prefix.to_owned()))
    }

    /// True for the topics that this is about.
    pub fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Name(name) => topic == name,
            Self::Prefix(prefix) => topic.starts_with(prefix.as_str()),
        }
    }

    fn rank(&self) -> (bool, usize) {
        match self {
            Self::Name(name) => (true, name.len()),
            Self::Prefix(prefix) => (false, prefix.len()),
        }
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

// === impl SinkTarget ===

impl SinkTarget {
    /// Reads `scheme:rest`; the error says what is expected and does not repeat the text, which may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_scheme = |scheme: &str| {
            scheme.starts_with(|letter: char| letter.is_ascii_lowercase())
                && scheme.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"+-".contains(&byte)
                })
        };
        let (scheme, rest) = text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)).ok_or(
            "expected a URL such as file:///var/lib/tidegate/out or blackhole:".to_owned(),
        )?;
        let authority =
            rest.strip_prefix("//").and_then(|rest| rest.split('/').next()).unwrap_or_default();
        if authority.rsplit_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return Err("expected a URL without password: give secrets by reference".to_owned());
        }
        Ok(Self { scheme: scheme.to_owned(), rest: rest.to_owned() })
    }

    /// The whole URL, which opens the sink and may hold a secret.
    pub fn url(&self) -> String {
        format!("{}:{}", self.scheme, self.rest)
    }

    /// The kind of sink, such as `file`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What follows the scheme's colon, such as `///var/lib/tidegate/out`.
    pub fn rest(&self) -> &str {
        &self.rest
    }
}

impl fmt::Display for SinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shown(&self.url()))
    }
}

impl fmt::Debug for SinkTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SinkTarget({self})")
    }
}
