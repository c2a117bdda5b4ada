//! One partition's measurement: the samples of at most the last 30 seconds and what follows from them.
//!
//! Every sample adds a step of bytes and records, by the best source there is for it. The window's rate is the sum of its steps over
//! its time whatever sources it mixes, so deletion by retention, compaction and a move of the leader cannot show in it.

use core::time::Duration;

use super::filter::LowPass;
use super::steps::Steps;
use crate::ids::{Instant, Position};

/// A high watermark that falls and stays is a truncated log, not a replica that lags. A new leader's watermark catches up within
/// one fetch of its followers (0.5 s by default); ten times that is no election.
const TRUNCATED_AFTER: Duration = Duration::from_secs(5);

/// What was seen of a partition at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The offset after the last record that consumers may read.
    pub high_watermark: Position,
    /// The offset of the oldest record that is still there.
    pub log_start: Position,
    /// The bytes of the log on its leader; none where the cluster does not tell.
    pub size: Option<u64>,
    /// The broker that leads.
    pub leader: i32,
}

/// Where the bytes of a measurement come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The growth of the leader's log; used while its start and its leader stay.
    LogSize,
    /// New offsets times bytes per record; used otherwise.
    HighWatermark,
}

impl Source {
    /// A fixed word for messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LogSize => "log-size",
            Self::HighWatermark => "high-watermark",
        }
    }
}

/// What a rate may be measured from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Basis {
    /// From the log's size where it tells what was written, else from offsets.
    #[default]
    Best,
    /// From the log's size and nothing else, as published: what retention or compaction takes away in between is missing, and where
    /// a log has shrunk or has another leader nothing is known.
    LogSizesOnly,
}

/// A ratio of bytes to offsets, kept as a fraction so that nothing is lost to rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BytesPerRecord {
    bytes: u64,
    records: u64,
}

/// What is known about a partition's write rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measurement {
    /// The last sample.
    pub sample: Sample,
    /// The time that the window covers.
    pub window: Duration,
    /// Bytes/s over the window.
    pub write_rate: u64,
    /// Bytes/s after the low-pass filter.
    pub filtered_rate: u64,
    /// Records/s over the window, rounded.
    pub records_per_sec: u64,
    /// Bytes per record, rounded; `None` while nothing tells.
    pub bytes_per_record: Option<u64>,
    /// The age of the last sample.
    pub staleness: Duration,
    /// How the last step was measured.
    pub source: Source,
}

/// The samples of one partition.
#[derive(Clone, Debug)]
pub struct RateWindow {
    span: Duration,
    basis: Basis,
    steps: Steps,
    filter: LowPass,
    last: Option<(Instant, Sample)>,
    /// Since when the high watermark is below one seen before.
    lowered_since: Option<Instant>,
    learned: Learned,
    /// Bytes that were counted as the log grew, and whose records the high watermark has not shown yet.
    ahead: u64,
    /// Over the whole log: believed until something is learned.
    given: Option<BytesPerRecord>,
    source: Source,
}

/// Bytes per record over the recent steps that log sizes measured, or the recent batches that were looked at, older ones counting
/// less.
///
/// One step alone would not do: a log's size runs ahead of its high watermark by whatever is not replicated yet. A step without
/// records teaches nothing: its bytes belong to the records that come next.
/// Both sums are scaled by 2^16, so that forgetting is as exact for one record as for a million.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    bytes: u128,
    records: u128,
}

// === impl BytesPerRecord ===

impl BytesPerRecord {
    /// A ratio; `None` unless both are above zero.
    pub const fn new(bytes: u64, records: u64) -> Option<Self> {
        if bytes == 0 || records == 0 { None } else { Some(Self { bytes, records }) }
    }

    /// So many records in bytes.
    pub fn bytes_of(self, records: u64) -> u64 {
        let bytes = u128::from(records).saturating_mul(u128::from(self.bytes));
        saturate(bytes.checked_div(u128::from(self.records)).unwrap_or(0))
    }

    /// The ratio itself, rounded.
    pub fn rounded(self) -> u64 {
        let half = u128::from(self.records) / 2;
        let bytes = u128::from(self.bytes).saturating_add(half);
        saturate(bytes.checked_div(u128::from(self.records)).unwrap_or(0))
    }
}

// === impl Learned ===

impl Learned {
    /// Makes what was learned weigh no more than sixteen batches of so many records: steps by log sizes have many more.
    fn fade_to(&mut self, records: u64) {
        let most = u128::from(records).saturating_mul(1 << 20);
        let times = self.records.checked_div(most).unwrap_or(0).max(1);
        self.bytes = self.bytes.checked_div(times).unwrap_or(0);
        self.records = self.records.checked_div(times).unwrap_or(0);
    }

    fn add(&mut self, bytes: u64, records: u64) {
        let blend = |sum: u128, new: u64| {
            let kept = sum.saturating_sub(sum / 16);
            kept.saturating_add(u128::from(new).saturating_mul(1 << 16))
        };
        self.bytes = blend(self.bytes, bytes);
        self.records = blend(self.records, records);
    }

    fn ratio(self) -> Option<BytesPerRecord> {
        BytesPerRecord::new(saturate(self.bytes), saturate(self.records))
    }
}

// === impl RateWindow ===

impl RateWindow {
    /// A window over samples of at most the last `span`, and a filter.
    pub const fn new(span: Duration, time_constant: Duration, basis: Basis) -> Self {
        Self {
            span,
            basis,
            steps: Steps::new(),
            filter: LowPass::new(time_constant),
            last: None,
            lowered_since: None,
            learned: Learned { bytes: 0, records: 0 },
            ahead: 0,
            given: None,
            source: Source::HighWatermark,
        }
    }

    /// The window of a partition that did not exist at `absent_at`: everything in it was written since.
    #[must_use]
    pub fn empty_at(mut self, absent_at: Instant) -> Self {
        let leader = UNKNOWN_LEADER;
        let zero = Position::default();
        let sample = Sample { high_watermark: zero, log_start: zero, size: Some(0), leader };
        self.last = Some((absent_at, sample));
        self.steps.begin(absent_at);
        self
    }

    /// Takes in how many bytes and offsets a batch has.
    pub fn learn(&mut self, batch: BytesPerRecord) {
        self.learned.fade_to(batch.records);
        self.learned.add(batch.bytes, batch.records);
    }

    /// Takes in a sample. One that is not later than the last changes nothing.
    pub fn push(&mut self, now: Instant, sample: Sample) {
        let Some((at, before)) = self.last else {
            self.restart(now, sample);
            return;
        };
        let elapsed = now.since(at);
        if elapsed.is_zero() {
            return;
        }
        let Some(records) = sample.high_watermark.0.checked_sub(before.high_watermark.0) else {
            self.lowered(now, sample);
            return;
        };
        self.lowered_since = None;
        self.last = Some((now, sample));
        match self.step(before, sample, records) {
            Some(bytes) => self.advance(now, elapsed, bytes, records),
            None => self.steps.clear(),
        }
    }

    /// Takes in that there was no sample: what left the window is gone, and nothing else changes.
    pub fn missing(&mut self, now: Instant) {
        self.steps.forget(now, self.span);
    }

    /// The filtered rate of [`Self::measure`] at the moment of a sample, for less; `None` if none was taken now.
    pub fn rate_at(&self, now: Instant) -> Option<u64> {
        let (at, _) = self.last?;
        let is_measured = now.since(at).is_zero() && self.steps.sum().is_some();
        if is_measured { self.filter.rate() } else { None }
    }

    /// What is known now; `None` while fewer than two samples of the last 30 seconds say something about bytes.
    pub fn measure(&self, now: Instant) -> Option<Measurement> {
        let (at, sample) = self.last?;
        let staleness = now.since(at);
        let sum = self.steps.sum()?;
        if staleness > self.span {
            return None;
        }
        Some(Measurement {
            sample,
            window: sum.time(),
            write_rate: per_second(sum.bytes, sum.time()),
            filtered_rate: self.filter.rate()?,
            records_per_sec: per_second(sum.records, sum.time()),
            bytes_per_record: self.ratio().map(BytesPerRecord::rounded),
            staleness,
            source: self.source,
        })
    }

    /// Begins anew at a sample, which itself says nothing about a rate.
    fn restart(&mut self, now: Instant, sample: Sample) {
        self.steps.begin(now);
        self.last = Some((now, sample));
        self.ahead = 0;
        self.lowered_since = None;
        self.given = self.given.or_else(|| whole_log_ratio(sample));
    }

    fn ratio(&self) -> Option<BytesPerRecord> {
        self.learned.ratio().or(self.given)
    }

    /// The high watermark went back: after an election it will catch up, and until then nothing is known; else the log was cut.
    fn lowered(&mut self, now: Instant, sample: Sample) {
        let since = *self.lowered_since.get_or_insert(now);
        if now.since(since) >= TRUNCATED_AFTER {
            self.restart(now, sample);
        } else {
            self.missing(now);
        }
    }

    /// The bytes that were written between two samples, and the source that says so.
    fn step(&mut self, before: Sample, sample: Sample, records: u64) -> Option<u64> {
        let grown = growth(before, sample);
        let has_told = self.learn_growth(grown, records);
        self.source = Source::LogSize;
        match self.basis {
            Basis::LogSizesOnly => difference(before, sample),
            Basis::Best if has_told => grown,
            Basis::Best => self.by_offsets(sample, records),
        }
    }

    /// Takes in how much the log has grown, if that is what was written; false if it tells nothing.
    fn learn_growth(&mut self, grown: Option<u64>, records: u64) -> bool {
        match (grown, records) {
            (Some(grown), 0) => self.ahead = self.ahead.saturating_add(grown),
            (Some(grown), _) if grown > 0 || self.ahead > 0 => {
                self.learned.add(grown.saturating_add(self.ahead), records);
                self.ahead = 0;
            }
            // A log that stays as it is while offsets advance is one whose size is not reported in time; offsets tell more.
            (Some(_) | None, _) => {
                self.ahead = 0;
                return false;
            }
        }
        true
    }

    fn by_offsets(&mut self, sample: Sample, records: u64) -> Option<u64> {
        self.source = Source::HighWatermark;
        self.given = self.given.or_else(|| whole_log_ratio(sample));
        if records == 0 { Some(0) } else { self.ratio().map(|ratio| ratio.bytes_of(records)) }
    }

    fn advance(&mut self, now: Instant, elapsed: Duration, bytes: u64, records: u64) {
        self.filter.push(bytes, elapsed);
        // What is left behind makes room first.
        self.missing(now);
        self.steps.push(now, bytes, records);
    }
}

/// The leader of a partition before its first sample: whoever leads then has led from the start.
const UNKNOWN_LEADER: i32 = -1;

/// How much the log grew, if that tells what was written: same leader, same start, and not compacted below its former size.
fn growth(before: Sample, sample: Sample) -> Option<u64> {
    let same_leader = before.leader == sample.leader || before.leader == UNKNOWN_LEADER;
    if !same_leader || before.log_start != sample.log_start {
        return None;
    }
    sample.size?.checked_sub(before.size?)
}

/// The difference of two sizes, as published. Those of two replicas have none: each deletes and compacts when it comes to it.
fn difference(before: Sample, sample: Sample) -> Option<u64> {
    let is_known = before.leader != UNKNOWN_LEADER && sample.leader != UNKNOWN_LEADER;
    if is_known && before.leader != sample.leader {
        return None;
    }
    sample.size?.checked_sub(before.size?)
}

/// The average over everything that is in the log.
fn whole_log_ratio(sample: Sample) -> Option<BytesPerRecord> {
    let records = sample.high_watermark.0.checked_sub(sample.log_start.0)?;
    BytesPerRecord::new(sample.size?, records)
}

/// An amount per time as an amount per second, rounded.
fn per_second(amount: u64, elapsed: Duration) -> u64 {
    let scaled = u128::from(amount).saturating_mul(1_000_000_000);
    let rounded = scaled.saturating_add(elapsed.as_nanos() / 2);
    saturate(rounded.checked_div(elapsed.as_nanos()).unwrap_or(0))
}

fn saturate(value: u128) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
