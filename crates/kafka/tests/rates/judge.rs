//! Whether rates are right: each is held against what the producer knows of its records, by the offsets that the samples saw.
//!
//! A sample carries its high watermark, so it is known which records lie between the two ends of a window, however slow the
//! machine was: rate = their bytes / the window. What remains open is bounded by an interval on each side: how many bytes a
//! record takes, and what was written after a sample's offsets had been asked for and before its sizes were.

use std::time::Duration;

use tidegate_core::rates::{LowPass, Measurement};

use crate::watch::Track;

/// The monitor's default.
const TIME_CONSTANT: Duration = Duration::from_secs(10);

/// Two times are the same if they differ by less: the window is told in whole milliseconds, of another clock.
const SAME_MS: u64 = 25;

/// A rate is right within a tenth.
const TOLERANCE_PERMILLE: u64 = 100;

/// What is known of the records of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Records {
    /// So many records ...
    pub(crate) count: u64,
    /// ... take at least and at most so many bytes in the log.
    pub(crate) bytes: (u64, u64),
    /// Bytes that a sample's size may be ahead of its offsets where the size itself does not tell.
    pub(crate) unseen: u64,
}

/// What lies between two moments: the fewest and the most.
#[derive(Clone, Copy, Debug)]
struct Between {
    least: u64,
    most: u64,
}

impl Records {
    /// Batches of one size.
    pub(crate) fn in_batches(count: u64, bytes: u64) -> Self {
        Self { count, bytes: (bytes, bytes), unseen: 0 }
    }

    fn least(&self, records: u64) -> u64 {
        scaled(records, self.bytes.0, self.count)
    }

    fn most(&self, records: u64) -> u64 {
        scaled(records, self.bytes.1, self.count)
    }

    /// Looks at every sample of a partition that was empty when it was sampled first; tells how many there were.
    pub(crate) fn judge(&self, what: &str, track: &Track) -> usize {
        let (mut low, mut high) = (LowPass::new(TIME_CONSTANT), LowPass::new(TIME_CONSTANT));
        for (at, (unix_ms, measured)) in track.iter().enumerate() {
            let past = track.get(..at).unwrap_or_default();
            let window = self.between(past, measured, begin(*unix_ms, measured));
            let slack = per_second(self.unseen, measured.window);
            let context = || format!("{what}, sample {at} at {unix_ms}: {measured:?}");
            within(measured.write_rate, window.rates(measured.window), slack, &context);
            let records = records(past, measured, begin(*unix_ms, measured));
            within(measured.records_per_sec, records.rates(measured.window), 1, &context);

            // The first step is as long as the window: the sample before it was not published.
            let step = past.last().map_or(measured.window, |(before, _)| {
                Duration::from_millis(unix_ms.saturating_sub(*before))
            });
            let written = self.between(past, measured, begin_of(*unix_ms, step));
            low.push(written.least, step);
            high.push(written.most, step);
            let filtered = (low.rate().unwrap_or(0), high.rate().unwrap_or(0));
            within(
                measured.filtered_rate,
                filtered,
                per_second(self.unseen, TIME_CONSTANT),
                &context,
            );
        }
        track.len()
    }

    /// The bytes that were written from a moment to a sample.
    fn between(&self, past: &[(u64, Measurement)], to: &Measurement, from: u64) -> Between {
        let records = records(past, to, from);
        let ahead = |measured: Option<&Measurement>| measured.map_or(0, |found| self.ahead(found));
        let (before, after) = around(past, from);
        let before = ahead(before).max(ahead(after));
        Between {
            least: self.least(records.least).saturating_sub(before),
            most: self.most(records.most).saturating_add(self.ahead(to)),
        }
    }

    /// By how many bytes the log was ahead of the high watermark when its size was told.
    fn ahead(&self, measured: &Measurement) -> u64 {
        let sample = measured.sample;
        let records = sample.high_watermark.0.saturating_sub(sample.log_start.0);
        sample.size.map_or(0, |size| size.saturating_sub(self.least(records)))
    }
}

impl Between {
    fn rates(self, window: Duration) -> (u64, u64) {
        let millisecond = Duration::from_millis(1);
        (per_second(self.least, window + millisecond), per_second(self.most, window))
    }
}

/// The records that were written from a moment to a sample.
fn records(past: &[(u64, Measurement)], to: &Measurement, from: u64) -> Between {
    let (before, after) = around(past, from);
    // Nothing was written before the first sample.
    let watermark = |measured: Option<&Measurement>, otherwise| {
        measured.map_or(otherwise, |found| found.sample.high_watermark.0)
    };
    let now = to.sample.high_watermark.0;
    let first = watermark(before, 0);
    let last = if before.is_none() { 0 } else { watermark(after, now) };
    Between { least: now.saturating_sub(last), most: now.saturating_sub(first) }
}

/// When the window of a sample begins.
fn begin(unix_ms: u64, measured: &Measurement) -> u64 {
    begin_of(unix_ms, measured.window)
}

fn begin_of(unix_ms: u64, window: Duration) -> u64 {
    unix_ms.saturating_sub(u64::try_from(window.as_millis()).unwrap())
}

/// The last sample that may have been at a moment or before, and the first that may have been at it or after: one and the same
/// if the sample of that moment was published.
fn around(
    past: &[(u64, Measurement)],
    moment: u64,
) -> (Option<&Measurement>, Option<&Measurement>) {
    let same = past.iter().filter(|(unix_ms, _)| unix_ms.abs_diff(moment) <= SAME_MS);
    let same: Vec<_> = same.collect();
    if let (Some((_, first)), Some((_, last))) = (same.first(), same.last()) {
        return (Some(first), Some(last));
    }
    let before = past.iter().rfind(|(unix_ms, _)| *unix_ms < moment);
    let after = past.iter().find(|(unix_ms, _)| *unix_ms > moment);
    (before.map(|(_, measured)| measured), after.map(|(_, measured)| measured))
}

fn within(found: u64, (least, most): (u64, u64), slack: u64, context: &impl Fn() -> String) {
    let least = scaled(least, 1000 - TOLERANCE_PERMILLE, 1000).saturating_sub(slack);
    let most = scaled(most, 1000 + TOLERANCE_PERMILLE, 1000).saturating_add(slack + 1);
    assert!((least..=most).contains(&found), "{found} is not in {least}..={most}: {}", context());
}

fn scaled(amount: u64, by: u64, of: u64) -> u64 {
    let scaled = u128::from(amount) * u128::from(by) / u128::from(of);
    u64::try_from(scaled).unwrap_or(u64::MAX)
}

fn per_second(amount: u64, elapsed: Duration) -> u64 {
    let rate = u128::from(amount) * 1_000_000_000 / elapsed.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}
