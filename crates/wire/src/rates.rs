//! What the monitor publishes: one message for each topic and period, or several where one would be too large.
//!
//! A partition in neither of the two lists is unchanged. In a full message each partition is in one of them; a full message
//! in several parts says so too, but none of its parts alone lists all, so [`PartitionRates::report`] calls none of them
//! full. Nothing is lost by that: partitions do not vanish from a topic as long as it has its id.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::ids::{Position, TopicId};
use tidegate_core::rates::{Measurement, Sample, Source, TopicReport};

use crate::envelope::{Encoded, Opened, seal, to_json};
use crate::error::Error;
use crate::ids::TopicText;
use crate::kind::Kind;
use crate::rows::at_most;
use crate::words::SourceWord;

/// The leader of a partition where the message does not say.
const NO_LEADER: i32 = -1;

/// No measured partition takes less: its fields' names alone take more.
const LEAST_BYTES: usize = 100;

/// How fast the partitions of a topic are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionRates {
    /// The topic's name; the key of the record.
    pub topic: String,
    /// Its id.
    pub topic_id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// When the samples were taken: milliseconds since the Unix epoch.
    pub sampled_unix_ms: u64,
    /// Every partition of the topic is in one of the lists of all parts together.
    pub full: bool,
    /// Which part this is, from 0.
    pub part: u32,
    /// Of how many.
    pub of: u32,
    /// The partitions that were measured, durations in whole milliseconds.
    pub rates: BTreeMap<u32, Measurement>,
    /// The partitions that are not measured now.
    pub missing: BTreeSet<u32>,
}

/// What the monitor knows about a report beside what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RatesOf {
    /// The topic's name.
    pub topic: String,
    /// Its id.
    pub topic_id: TopicId,
    /// How many partitions it has.
    pub partitions: u32,
    /// When the samples were taken: milliseconds since the Unix epoch.
    pub sampled_unix_ms: u64,
}

// === impl PartitionRates ===

impl PartitionRates {
    /// The message that carries a report. What is finer than a millisecond is dropped.
    pub fn of(of: RatesOf, report: TopicReport) -> Self {
        let mut rates = report.rates;
        for measured in rates.values_mut() {
            measured.window = Duration::from_millis(whole_ms(measured.window));
            measured.staleness = Duration::from_millis(whole_ms(measured.staleness));
        }
        Self {
            topic: of.topic,
            topic_id: of.topic_id,
            partitions: of.partitions,
            sampled_unix_ms: of.sampled_unix_ms,
            full: report.full,
            part: 0,
            of: 1,
            rates,
            missing: report.missing,
        }
    }

    /// The report that the message carries, or the part of it.
    pub fn report(&self) -> TopicReport {
        let full = self.full && self.of == 1;
        TopicReport { full, rates: self.rates.clone(), missing: self.missing.clone() }
    }

    /// The same in parts whose values have at most so many bytes, except where a single partition needs more.
    fn split(&self, max_bytes: usize) -> Vec<Self> {
        let none = || Self {
            topic: self.topic.clone(),
            rates: BTreeMap::new(),
            missing: BTreeSet::new(),
            ..*self
        };
        let frame = Self { part: u32::MAX, of: u32::MAX, ..none() };
        let frame = to_json(&Body::of(&frame)).len();
        let mut parts = vec![none()];
        let mut size = frame;
        let mut make_room = |parts: &mut Vec<Self>, bytes: usize| {
            let is_empty = size == frame;
            if size + bytes > max_bytes && !is_empty {
                parts.push(none());
                size = frame;
            }
            size += bytes;
        };
        for (number, measured) in &self.rates {
            let comma = 1;
            make_room(&mut parts, to_json(&Measured::of(*number, measured)).len() + comma);
            if let Some(part) = parts.last_mut() {
                part.rates.insert(*number, *measured);
            }
        }
        for number in &self.missing {
            let comma = 1;
            make_room(&mut parts, to_json(number).len() + comma);
            if let Some(part) = parts.last_mut() {
                part.missing.insert(*number);
            }
        }
        let of = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        (0_u32..).zip(parts).map(|(number, part)| Self { part: number, of, ..part }).collect()
    }
}

/// Writes rates as one message.
pub fn encode_rates(rates: &PartitionRates) -> Encoded {
    let encoded = seal(Kind::PartitionRates, &Body::of(rates));
    Encoded { key: Some(rates.topic.clone().into_bytes()), ..encoded }
}

/// Writes rates as one message, or as several if its value would have more than `max_bytes`. A part has more only where
/// a single partition needs more.
pub fn encode_rates_in_parts(rates: &PartitionRates, max_bytes: usize) -> Vec<Encoded> {
    // What is certainly too large is not written twice.
    if rates.rates.len().saturating_mul(LEAST_BYTES) <= max_bytes {
        let whole = encode_rates(rates);
        if whole.value.as_ref().map_or(0, Vec::len) <= max_bytes {
            return vec![whole];
        }
    }
    rates.split(max_bytes).iter().map(encode_rates).collect()
}

/// Reads rates.
pub fn decode_rates(
    headers: &[(&str, &[u8])],
    value: Option<&[u8]>,
) -> Result<PartitionRates, Error> {
    let opened = Opened::new(headers, value)?;
    if Kind::parse(opened.kind) != Some(Kind::PartitionRates) {
        let kind = opened.kind.to_owned();
        return Err(Error::Misplaced { kind, expected: Kind::PartitionRates });
    }
    Ok(opened.parse::<Body>()?.into_rates())
}

/// How fast the partitions of a topic are written. A partition in neither list is unchanged.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PartitionRates")]
pub(crate) struct Body {
    /// The topic's name.
    topic: String,
    /// Its id.
    topic_id: TopicText,
    /// How many partitions it has.
    partition_count: u32,
    /// When the samples were taken: milliseconds since the Unix epoch.
    sampled_unix_ms: u64,
    /// Every partition of the topic is in one of the lists of all parts together.
    full: bool,
    /// Which part of the report this is, from 0.
    #[serde(default)]
    part: u32,
    /// How many parts the report has.
    #[serde(default = "one")]
    of: u32,
    /// The partitions that were measured.
    #[serde(deserialize_with = "at_most")]
    partitions: Vec<Measured>,
    /// The partitions that are not measured now: their last rate stays the best guess.
    #[serde(default, deserialize_with = "at_most")]
    missing: Vec<u32>,
}

/// How fast a partition is written.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Measured {
    /// The partition's number.
    number: u32,
    /// The offset after the last record that consumers may read.
    high_watermark: u64,
    /// The offset of the oldest record that is still there.
    log_start: u64,
    /// Bytes of the log on its leader, where the cluster tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// The broker that leads; -1 if that is not known.
    #[serde(default = "no_leader")]
    leader: i32,
    /// The time that the window covers.
    window_ms: u64,
    /// Bytes/s over the window.
    write_rate: u64,
    /// Bytes/s after the low-pass filter.
    filtered_rate: u64,
    /// Records/s over the window.
    records_per_sec: u64,
    /// Bytes per record, where anything tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_record: Option<u64>,
    /// How the last step was measured.
    source: SourceWord,
    /// The age of the last sample.
    #[serde(default)]
    staleness_ms: u64,
}

const fn one() -> u32 {
    1
}

const fn no_leader() -> i32 {
    NO_LEADER
}

fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === impl Body ===

impl Body {
    fn of(rates: &PartitionRates) -> Self {
        Self {
            topic: rates.topic.clone(),
            topic_id: TopicText(rates.topic_id),
            partition_count: rates.partitions,
            sampled_unix_ms: rates.sampled_unix_ms,
            full: rates.full,
            part: rates.part,
            of: rates.of,
            partitions: rates.rates.iter().map(|(number, at)| Measured::of(*number, at)).collect(),
            missing: rates.missing.iter().copied().collect(),
        }
    }

    fn into_rates(self) -> PartitionRates {
        PartitionRates {
            topic: self.topic,
            topic_id: self.topic_id.0,
            partitions: self.partition_count,
            sampled_unix_ms: self.sampled_unix_ms,
            full: self.full,
            part: self.part,
            of: self.of,
            rates: self
                .partitions
                .into_iter()
                .map(|rate| (rate.number, rate.measurement()))
                .collect(),
            missing: self.missing.into_iter().collect(),
        }
    }
}

// === impl Measured ===

impl Measured {
    fn of(number: u32, measured: &Measurement) -> Self {
        Self {
            number,
            high_watermark: measured.sample.high_watermark.0,
            log_start: measured.sample.log_start.0,
            size: measured.sample.size,
            leader: measured.sample.leader,
            window_ms: whole_ms(measured.window),
            write_rate: measured.write_rate,
            filtered_rate: measured.filtered_rate,
            records_per_sec: measured.records_per_sec,
            bytes_per_record: measured.bytes_per_record,
            source: SourceWord::of(measured.source),
            staleness_ms: whole_ms(measured.staleness),
        }
    }

    fn measurement(&self) -> Measurement {
        Measurement {
            sample: Sample {
                high_watermark: Position(self.high_watermark),
                log_start: Position(self.log_start),
                size: self.size,
                leader: self.leader,
            },
            window: Duration::from_millis(self.window_ms),
            write_rate: self.write_rate,
            filtered_rate: self.filtered_rate,
            records_per_sec: self.records_per_sec,
            bytes_per_record: self.bytes_per_record,
            staleness: Duration::from_millis(self.staleness_ms),
            // A source of a later version is none that this version may trust like the log's size.
            source: self.source.meaning().unwrap_or(Source::HighWatermark),
        }
    }
}
