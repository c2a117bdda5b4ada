//! Topic settings: which exist, their defaults, what a value must look like, and which the broker obeys.
//!
//! Obeyed: the fields of [`LogLimits`] and `min.insync.replicas`. The others are checked, kept and
//! reported, so that a client which describes a topic finds what it set. `cleanup.policy=compact`
//! is one of them: such a topic keeps all its records, which a reader of a compacted topic must be
//! able to bear anyway.

use std::collections::BTreeMap;

use crate::log::LogLimits;

/// A setting that exists.
#[derive(Debug)]
pub(crate) struct Known {
    /// Its name in Apache Kafka.
    pub(crate) name: &'static str,
    /// Its value where neither the topic nor the broker sets one.
    pub(crate) default: &'static str,
    /// What its values look like.
    pub(crate) kind: Kind,
}

/// What a value looks like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A whole number of at least this.
    Int(i32),
    /// A whole number of at least this, in 64 bits.
    Long(i64),
    /// A number from 0 to 1.
    Ratio,
    /// `true` or `false`.
    Boolean,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Any of these words, separated by commas.
    Words(&'static [&'static str]),
}

/// The settings of one topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicConfig {
    own: BTreeMap<String, String>,
    limits: LogLimits,
    min_insync_replicas: usize,
}

/// Where an effective value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Set on the topic.
    Topic,
    /// Set for all topics when the broker was started.
    Broker,
    /// Nobody set it.
    Default,
}

/// Every setting a topic may have, in the order of their names.
pub(crate) const KNOWN: [Known; 18] = [
    known("cleanup.policy", "delete", Kind::Words(&["compact", "delete"])),
    known(
        "compression.type",
        "producer",
        // Batches are kept as they come, so that no other value could be honoured.
        Kind::Word(&["producer"]),
    ),
    known("delete.retention.ms", "86400000", Kind::Long(0)),
    known("file.delete.delay.ms", "60000", Kind::Long(0)),
    known("flush.messages", "9223372036854775807", Kind::Long(1)),
    known("flush.ms", "9223372036854775807", Kind::Long(0)),
    known("max.compaction.lag.ms", "9223372036854775807", Kind::Long(1)),
    known("max.message.bytes", "1048588", Kind::Int(0)),
    // Batches keep their producer's timestamps: changing them would break their checksum.
    known("message.timestamp.type", "CreateTime", Kind::Word(&["CreateTime"])),
    known("min.cleanable.dirty.ratio", "0.5", Kind::Ratio),
    known("min.compaction.lag.ms", "0", Kind::Long(0)),
    known("min.insync.replicas", "1", Kind::Int(1)),
    known("retention.bytes", "-1", Kind::Long(-1)),
    known("retention.ms", "604800000", Kind::Long(-1)),
    known("segment.bytes", "1073741824", Kind::Int(14)),
    known("segment.jitter.ms", "0", Kind::Long(0)),
    known("segment.ms", "604800000", Kind::Long(1)),
    known("unclean.leader.election.enable", "false", Kind::Boolean),
];

const fn known(name: &'static str, default: &'static str, kind: Kind) -> Known {
    Known { name, default, kind }
}

// === impl Known ===

impl Known {
    /// The setting of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }
}

// === impl Kind ===

impl Kind {
    fn admits(self, value: &str) -> bool {
        match self {
            Self::Int(least) => value.parse::<i32>().is_ok_and(|value| value >= least),
            Self::Long(least) => value.parse::<i64>().is_ok_and(|value| value >= least),
            Self::Ratio => value.parse::<f64>().is_ok_and(|value| (0.0..=1.0).contains(&value)),
            Self::Boolean => ["true", "false"].contains(&value),
            Self::Word(words) => words.contains(&value),
            Self::Words(words) => value.split(',').all(|word| words.contains(&word.trim())),
        }
    }
}

// === impl TopicConfig ===

impl TopicConfig {
    /// The settings of a topic that sets `own` on a broker that sets `broker`; the fault in words if one is wrong.
    pub(crate) fn new(
        own: BTreeMap<String, String>,
        broker: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        check(&own)?;
        let value = |name: &str| effective(&own, broker, name).0;
        let limits = LogLimits {
            segment_bytes: number(value("segment.bytes")),
            segment_ms: number(value("segment.ms")),
            retention_bytes: value("retention.bytes").parse().ok(),
            retention_ms: value("retention.ms").parse().ok().filter(|ms| *ms >= 0),
            max_message_bytes: number(value("max.message.bytes")),
            deletes: value("cleanup.policy").contains("delete"),
        };
        let min_insync_replicas = number(value("min.insync.replicas"));
        Ok(Self { own, limits, min_insync_replicas })
    }

    /// What the topic itself sets.
    pub(crate) fn own(&self) -> &BTreeMap<String, String> {
        &self.own
    }

    /// What shapes the logs of its partitions.
    pub(crate) fn limits(&self) -> &LogLimits {
        &self.limits
    }

    /// Live replicas that a produce request with `acks=all` needs.
    pub(crate) fn min_insync_replicas(&self) -> usize {
        self.min_insync_replicas
    }
}

/// Faults of settings: unknown names and wrong values.
pub(crate) fn check(settings: &BTreeMap<String, String>) -> Result<(), String> {
    for (name, value) in settings {
        let known = Known::named(name).ok_or_else(|| format!("unknown topic config {name}"))?;
        if !known.kind.admits(value) {
            return Err(format!("invalid value {value} for configuration {name}"));
        }
    }
    Ok(())
}

/// The value that counts, and where it comes from.
pub(crate) fn effective<'a>(
    own: &'a BTreeMap<String, String>,
    broker: &'a BTreeMap<String, String>,
    name: &str,
) -> (&'a str, Source) {
    if let Some(value) = own.get(name) {
        (value, Source::Topic)
    } else if let Some(value) = broker.get(name) {
        (value, Source::Broker)
    } else {
        (Known::named(name).map_or("", |known| known.default), Source::Default)
    }
}

/// A number that [`check`] or the table of defaults vouches for.
fn number<T: std::str::FromStr>(value: &str) -> T {
    value.parse().unwrap_or_else(|_| unreachable!("checked when it was set: {value}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_default_is_a_value_its_kind_admits() {
        for known in &KNOWN {
            assert!(known.kind.admits(known.default), "{}", known.name);
        }
        assert!(KNOWN.is_sorted_by_key(|known| known.name));
    }

    #[test]
    fn the_topic_wins_over_the_broker_and_the_broker_over_the_default() {
        let broker = settings(&[("segment.bytes", "1000"), ("retention.ms", "5")]);
        let own = settings(&[("retention.ms", "-1"), ("retention.bytes", "7")]);
        let config = TopicConfig::new(own, &broker).unwrap();
        assert_eq!(config.limits().segment_bytes, 1000);
        assert_eq!(config.limits().retention_ms, None);
        assert_eq!(config.limits().retention_bytes, Some(7));
        assert_eq!(config.limits().max_message_bytes, 1_048_588);
    }

    #[test]
    fn unknown_names_and_wrong_values_are_refused_in_words() {
        let refusal = |pairs: &[(&str, &str)]| check(&settings(pairs)).unwrap_err();
        assert_eq!(refusal(&[("no.such", "1")]), "unknown topic config no.such");
        assert_eq!(
            refusal(&[("retention.ms", "soon")]),
            "invalid value soon for configuration retention.ms"
        );
        assert!(check(&settings(&[("cleanup.policy", "compact,delete")])).is_ok());
    }
}
