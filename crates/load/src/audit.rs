//! Holds what a sink contains against what was acknowledged to the producer.
//!
//! The chains are read one after the other, object by object. Memory grows with the runs of offsets, not with the
//! records: a sink that has everything in order takes one run for each partition.
//!
//! What the words mean here:
//!
//! - *lost*: acknowledged at an offset, and the sink does not have that record at that offset;
//! - *duplicated*: an offset of a partition that the sink has had before;
//! - *out of order*: an offset that is not above that of the record before it in the sink, or an acknowledged record whose
//!   sequence number is not above that of the acknowledged one before it;
//! - *repeated*: a record of the run that the sink has at another offset too, one at which nothing was acknowledged. A
//!   producer that has lost an acknowledgement writes so, and a sink that has both offsets is right; but only the log can
//!   prove it, so that each is listed;
//! - *unexpected*: not a record of this run, or one that was never acknowledged at that offset and whose outcome was
//!   known;
//! - *freshness*: from the moment a record was sent to the moment its object was durable.

use std::collections::BTreeMap;

use serde::Serialize;
use tidegate_core::ids::FencingToken;
use tidegate_runtime::ports::TopicPartition;
use tidegate_sinks::ndjson::{Line, LineError};
use tidegate_sinks::object::store::StoreError;
use tidegate_sinks::object::{Link, Object, ObjectReader};

use crate::histogram::Histogram;
use crate::ledger::{Acknowledged, PartitionLedger};
use crate::ranges::RangeSet;
use crate::stamp::Stamp;

/// Entries of a list of findings that are kept; their number is counted beyond.
const MAX_LISTED: usize = 100;

/// An audit that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The sink's content could not be read.
    #[error("failed to read what the sink contains")]
    Store(#[from] StoreError),
}

/// What an audit found.
#[derive(Debug, Default, Serialize)]
pub struct AuditReport {
    /// Records that were acknowledged to the producer.
    pub acknowledged: u64,
    /// Different records of the run in the sink: acknowledged ones and those whose outcome was unknown.
    pub delivered: u64,
    /// Records among them whose outcome was unknown.
    pub maybe_delivered: u64,
    /// Acknowledged and not in the sink.
    pub lost: u64,
    /// Offsets that the sink has more than once, counted once for each time too many.
    pub duplicated: u64,
    /// Records that do not come after the one before.
    pub out_of_order: u64,
    /// Records that are there at another offset too, at which nothing was acknowledged.
    pub repeated: u64,
    /// Records that should not be there.
    pub unexpected: u64,
    /// Those among the unexpected ones that another run of the generator has written.
    pub of_other_runs: u64,
    /// From sent to durable, over all delivered records.
    pub freshness_ms: Quantiles,
    /// Owner changes by partition and time.
    pub handoffs: Vec<Handoff>,
    /// What became durable in each second since the Unix epoch, by second.
    pub seconds: BTreeMap<u64, Second>,
    /// Objects read, gaps included.
    pub objects: u64,
    /// Where records are lost: the first hundred ranges.
    pub lost_ranges: Vec<LostRange>,
    /// Records among the lost that stand behind everything the sink has of their partition: they may still be on their
    /// way.
    pub lost_at_end: u64,
    /// Where records are repeated: the first hundred.
    pub repeats: Vec<Repeat>,
    /// What else is wrong with the chains and lines: the first hundred.
    pub faults: Vec<String>,
    /// Number of all faults.
    pub fault_count: u64,
    /// Chains of topics that the run did not write to, or of topics of the same name with another id: not looked at.
    pub foreign_chains: u64,
}

/// Quantiles in milliseconds, at most 1.6 % too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Quantiles {
    /// Half are not above.
    pub p50: u64,
    /// 99 of 100 are not above.
    pub p99: u64,
    /// The highest.
    pub max: u64,
}

/// A partition went from one owner to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Handoff {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// Epoch of the owner before.
    pub from_epoch: u64,
    /// Epoch of the new owner.
    pub to_epoch: u64,
    /// Generation of the new owner's epoch.
    pub generation: u64,
    /// From the last durable write of the owner before to the first of the new one, in milliseconds.
    pub gap_ms: u64,
    /// The part of the gap in which no record of the new owner's first write had been sent yet.
    pub idle_ms: u64,
    /// When the first write of the new owner was durable, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// What became durable in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Records.
    pub records: u64,
    /// Bytes of their lines.
    pub bytes: u64,
    /// Sum of their freshness, in milliseconds: for the mean.
    pub freshness_sum_ms: u64,
    /// The worst freshness, in milliseconds.
    pub freshness_max_ms: u64,
}

/// Offsets whose records are lost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LostRange {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// First lost offset.
    pub first: u64,
    /// First offset behind it that is not.
    pub end: u64,
}

/// A record that the sink has at another offset too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Repeat {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: u32,
    /// The offset at which nothing was acknowledged.
    pub offset: u64,
    /// The record's sequence number.
    pub sequence: u64,
}

/// Makes a report.
#[derive(Debug)]
struct Auditor<'a> {
    ledger: &'a Acknowledged,
    report: AuditReport,
    freshness: Histogram,
}

/// What is remembered along one chain.
#[derive(Debug)]
struct Trail<'a> {
    partition: &'a TopicPartition,
    ledger: &'a PartitionLedger,
    /// Offsets that came by.
    seen: RangeSet,
    /// Offsets that came by with the record that was acknowledged there.
    matched: RangeSet,
    /// Sequence numbers of records with an unknown outcome that came by.
    maybe_seen: RangeSet,
    last_offset: Option<u64>,
    /// Sequence number of the acknowledged record before.
    last_sequence: Option<u64>,
    /// Writer of the object before, and when it was durable.
    before: Option<(FencingToken, u64)>,
}

/// Reads everything in the sink and compares it with what was acknowledged.
pub async fn audit(reader: &ObjectReader, ledger: &Acknowledged) -> Result<AuditReport, Error> {
    let mut auditor =
        Auditor { ledger, report: AuditReport::default(), freshness: Histogram::default() };
    let nothing = PartitionLedger::default();
    let mut missing: BTreeMap<_, _> =
        ledger.partitions().map(|(topic, number, ledger)| ((topic, number), ledger)).collect();
    let partitions = reader.partitions().await?;
    for partition in &partitions {
        if !ledger.has_topic(&partition.topic, partition.id.topic) {
            auditor.report.foreign_chains += 1;
            continue;
        }
        let found = missing.remove(&(partition.topic.as_str(), partition.id.number));
        auditor.chain(reader, partition, found.unwrap_or(&nothing)).await?;
    }
    for ((topic, number), ledger) in missing {
        auditor.count_lost(topic, number, ledger, (&RangeSet::default(), 0));
    }
    Ok(auditor.finish())
}

// === impl AuditReport ===

impl AuditReport {
    /// True when nothing is lost, duplicated or out of order, and nothing is there that should not be.
    pub fn is_clean(&self) -> bool {
        let Self { lost, duplicated, out_of_order, repeated, unexpected, fault_count, .. } = self;
        lost + duplicated + out_of_order + repeated + unexpected + fault_count == 0
    }
}

// === impl Auditor ===

impl<'a> Auditor<'a> {
    async fn chain(
        &mut self,
        reader: &ObjectReader,
        partition: &'a TopicPartition,
        ledger: &'a PartitionLedger,
    ) -> Result<(), Error> {
        let mut trail = Trail {
            partition,
            ledger,
            seen: RangeSet::default(),
            matched: RangeSet::default(),
            maybe_seen: RangeSet::default(),
            last_offset: None,
            last_sequence: None,
            before: None,
        };
        let mut chain = reader.chain(partition);
        while let Some(link) = chain.next().await? {
            match link {
                Link::Object(object) => self.object(&object, &mut trail),
                Link::Fault(fault) => self.fault(format!("{partition}: {fault}")),
            }
        }
        let end = trail.last_offset.map_or(0, |last| last.saturating_add(1));
        self.count_lost(&partition.topic, partition.id.number, ledger, (&trail.matched, end));
        Ok(())
    }

    fn object(&mut self, object: &Object, trail: &mut Trail<'_>) {
        self.report.objects += 1;
        let mut second = Second::default();
        let mut oldest = None;
        for line in object.lines() {
            let Some(stamp) = self.line(line, trail) else { continue };
            let age = object.durable_ms.saturating_sub(stamp.time_ms);
            self.freshness.record(age);
            second.records += 1;
            second.freshness_sum_ms += age;
            second.freshness_max_ms = second.freshness_max_ms.max(age);
            oldest = Some(oldest.unwrap_or(stamp.time_ms).min(stamp.time_ms));
        }
        second.bytes = object.body().len() as u64;
        self.report.seconds.entry(object.durable_ms / 1000).or_default().add(second);
        self.report.handoffs.extend(trail.handoff(object, oldest));
    }

    /// Judges one record line; gives its stamp when it is a delivered record of the run that was not there before.
    fn line(&mut self, line: Result<Line<'_>, LineError>, trail: &mut Trail<'_>) -> Option<Stamp> {
        let line = match line {
            Ok(line) => line,
            Err(error) => {
                self.fault(format!("{}: {error}", trail.partition));
                self.report.unexpected += 1;
                return None;
            }
        };
        if !trail.seen.insert(line.offset) {
            self.report.duplicated += 1;
            return None;
        }
        let found = line.value_text().and_then(Stamp::parse);
        let stamp = found.filter(|stamp| {
            stamp.run == self.ledger.run && stamp.partition == trail.partition.id.number
        });
        let acknowledged = trail.ledger.sequence_at(line.offset);
        let matches = acknowledged.is_some() && acknowledged == stamp.map(|stamp| stamp.sequence);
        let is_next = trail.is_next(line.offset, acknowledged.filter(|_| matches));
        self.report.out_of_order += u64::from(!is_next);
        let Some(stamp) = stamp else {
            self.report.unexpected += 1;
            self.report.of_other_runs +=
                u64::from(found.is_some_and(|stamp| stamp.run != self.ledger.run));
            return None;
        };
        if matches {
            trail.matched.insert(line.offset);
        } else if acknowledged.is_none() && trail.is_repeat(stamp.sequence) {
            self.repeat(trail.partition, line.offset, stamp.sequence);
            return None;
        } else if acknowledged.is_none() && trail.ledger.may_have(stamp.sequence) {
            trail.maybe_seen.insert(stamp.sequence);
            self.report.maybe_delivered += 1;
        } else {
            self.report.unexpected += 1;
            return None;
        }
        self.report.delivered += 1;
        Some(stamp)
    }

    fn repeat(&mut self, partition: &TopicPartition, offset: u64, sequence: u64) {
        self.report.repeated += 1;
        if self.report.repeats.len() < MAX_LISTED {
            let (topic, partition) = (partition.topic.clone(), partition.id.number);
            self.report.repeats.push(Repeat { topic, partition, offset, sequence });
        }
    }

    fn count_lost(
        &mut self,
        topic: &str,
        number: u32,
        ledger: &PartitionLedger,
        (matched, end): (&RangeSet, u64),
    ) {
        self.report.acknowledged += ledger.stored_count();
        for range in ledger.offsets().flat_map(|offsets| matched.missing(offsets)) {
            self.report.lost += range.end - range.start;
            self.report.lost_at_end += range.end.saturating_sub(range.start.max(end));
            if self.report.lost_ranges.len() < MAX_LISTED {
                let (topic, partition) = (topic.to_owned(), number);
                let (first, end) = (range.start, range.end);
                self.report.lost_ranges.push(LostRange { topic, partition, first, end });
            }
        }
    }

    fn fault(&mut self, fault: String) {
        self.report.fault_count += 1;
        if self.report.faults.len() < MAX_LISTED {
            self.report.faults.push(fault);
        }
    }

    fn finish(mut self) -> AuditReport {
        self.report.freshness_ms = Quantiles {
            p50: self.freshness.quantile(500),
            p99: self.freshness.quantile(990),
            max: self.freshness.max(),
        };
        self.report.handoffs.sort_by_key(|handoff| handoff.at_ms);
        self.report
    }
}

// === impl Trail ===

impl Trail<'_> {
    /// Whether a record comes after the one before it, by offset and, when it is the one that was acknowledged there, by
    /// sequence: a record of unknown outcome stands wherever its producer's last try has put it.
    fn is_next(&mut self, offset: u64, acknowledged: Option<u64>) -> bool {
        let offset_rises = self.last_offset.is_none_or(|last| last < offset);
        self.last_offset = Some(offset);
        let Some(sequence) = acknowledged else { return offset_rises };
        let sequence_rises = self.last_sequence.is_none_or(|last| last < sequence);
        self.last_sequence = Some(sequence);
        offset_rises && sequence_rises
    }

    /// Whether a record at an offset where nothing was acknowledged is, or was, at another one too.
    fn is_repeat(&self, sequence: u64) -> bool {
        self.maybe_seen.contains(sequence) || self.ledger.has(sequence)
    }

    /// The handoff that this object completes, if another owner wrote the one before. `oldest_ms` is when the first of
    /// its records was sent.
    fn handoff(&mut self, object: &Object, oldest_ms: Option<u64>) -> Option<Handoff> {
        let (token, at_ms) = (object.header.token, object.durable_ms);
        let (from, before_ms) = self.before.replace((token, at_ms))?;
        let gap_ms = at_ms.saturating_sub(before_ms);
        (from != token).then(|| Handoff {
            topic: self.partition.topic.clone(),
            partition: self.partition.id.number,
            from_epoch: from.epoch.0.0,
            to_epoch: token.epoch.0.0,
            generation: token.generation.0,
            gap_ms,
            idle_ms: oldest_ms.unwrap_or(at_ms).saturating_sub(before_ms).min(gap_ms),
            at_ms,
        })
    }
}

// === impl Second ===

impl Second {
    fn add(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
        self.freshness_sum_ms += other.freshness_sum_ms;
        self.freshness_max_ms = self.freshness_max_ms.max(other.freshness_max_ms);
    }
}

#[cfg(test)]
mod tests;
