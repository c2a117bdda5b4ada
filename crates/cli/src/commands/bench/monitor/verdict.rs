//! How near the monitor's rates come to what the producer has stored. Pure: notes and samples in, figures out.
//!
//! Two questions for each step. How long after it began does a rate stay within a tenth of the new one? And how far is
//! the window's rate from what was stored in the very time that the window covers? The second has no delay in it, so it
//! tells whether bytes are lost or counted twice, as under retention.

use std::time::Duration;

use serde::Serialize;

use super::producer::Written;

/// A rate has converged within this part of the step's. The random waits alone move a window of 30 s by up to 7 %.
const BAND_PERCENT: u64 = 10;

/// What the monitor has measured of a partition at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) unix_ms: u64,
    pub(super) window_ms: u64,
    pub(super) write_rate: u64,
    pub(super) filtered_rate: u64,
    pub(super) size: Option<u64>,
    pub(super) log_start: u64,
    pub(super) high_watermark: u64,
    pub(super) source: &'static str,
}

/// All of a partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Track {
    pub(super) written: Vec<Written>,
    pub(super) samples: Vec<Sample>,
}

/// When the steps begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    pub(super) began_unix_ms: u64,
    pub(super) step: Duration,
    pub(super) count: u32,
}

/// How one step of a partition was measured. Rates are in bytes that are stored.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct StepFound {
    pub(super) partition: u32,
    pub(super) step: u32,
    /// What the producer has stored in a second, on average over the step.
    pub(super) stored_per_sec: u64,
    /// Seconds until the rate over the window stayed within a tenth of that.
    pub(super) window_converged_s: Option<f64>,
    /// Seconds until the filtered rate first came within a tenth.
    pub(super) filtered_converged_s: Option<f64>,
    /// Mean distance of the rate over the window from what was stored in the same time.
    pub(super) mean_error_bytes_per_sec: u64,
    pub(super) mean_error_percent: f64,
    /// The same of windows that lie in this step only.
    pub(super) steady_error_percent: Option<f64>,
    pub(super) samples: usize,
    pub(super) steady_samples: usize,
}

// === impl Sample ===

impl Sample {
    fn begins_unix_ms(&self) -> u64 {
        self.unix_ms.saturating_sub(self.window_ms)
    }
}

// === impl Track ===

impl Track {
    /// Bytes that were stored after one moment and up to another.
    pub(super) fn stored(&self, after_unix_ms: u64, until_unix_ms: u64) -> u64 {
        self.sum(after_unix_ms, until_unix_ms, |written| written.stored)
    }

    /// The same of the payload.
    pub(super) fn payload(&self, after_unix_ms: u64, until_unix_ms: u64) -> u64 {
        self.sum(after_unix_ms, until_unix_ms, |written| written.payload)
    }

    fn sum(&self, after: u64, until: u64, of: impl Fn(&Written) -> u64) -> u64 {
        let from = self.written.partition_point(|written| written.unix_ms <= after);
        let to = self.written.partition_point(|written| written.unix_ms <= until);
        self.written.get(from..to).unwrap_or_default().iter().map(of).sum()
    }

    /// What was stored in a second in the time that a sample's window covers.
    pub(super) fn stored_rate(&self, sample: &Sample) -> u64 {
        self.stored(sample.begins_unix_ms(), sample.unix_ms) * 1000 / sample.window_ms.max(1)
    }

    /// How often the beginning of the log has moved: whenever retention deleted something.
    pub(super) fn deletions(&self) -> usize {
        self.samples.windows(2).filter(|pair| pair[0].log_start < pair[1].log_start).count()
    }

    /// Looks at each step.
    pub(super) fn judge(&self, partition: u32, steps: Steps) -> Vec<StepFound> {
        (0..steps.count).map(|step| self.judge_step(partition, steps, step)).collect()
    }

    fn judge_step(&self, partition: u32, steps: Steps, step: u32) -> StepFound {
        let (begin, end) = (steps.begin(step), steps.begin(step + 1));
        let within = |sample: &&Sample| begin < sample.unix_ms && sample.unix_ms <= end;
        let samples: Vec<&Sample> = self.samples.iter().filter(within).collect();
        let steady: Vec<&Sample> =
            samples.iter().copied().filter(|sample| begin <= sample.begins_unix_ms()).collect();
        let stored_per_sec = self.stored(begin, end) * 1000 / (end - begin).max(1);
        let seconds = |sample: &&Sample| to_seconds(sample.unix_ms - begin);
        let outside = |rate: u64| {
            rate.abs_diff(stored_per_sec) * 100 > stored_per_sec.saturating_mul(BAND_PERCENT)
        };
        let settled = samples
            .iter()
            .rposition(|sample| outside(sample.write_rate))
            .map_or(0, |last| last + 1);
        let reached = samples.iter().find(|sample| !outside(sample.filtered_rate));
        let distance = |sample: &&Sample| sample.write_rate.abs_diff(self.stored_rate(sample));
        let distances: u64 = samples.iter().map(distance).sum();
        StepFound {
            partition,
            step,
            stored_per_sec,
            window_converged_s: samples.get(settled).map(seconds),
            filtered_converged_s: reached.map(seconds),
            mean_error_bytes_per_sec: distances / (samples.len() as u64).max(1),
            mean_error_percent: self.error_percent(&samples).unwrap_or_default(),
            steady_error_percent: self.error_percent(&steady),
            samples: samples.len(),
            steady_samples: steady.len(),
        }
    }

    /// Mean distance from what was stored, relative to it.
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    fn error_percent(&self, samples: &[&Sample]) -> Option<f64> {
        let errors = samples.iter().filter_map(|sample| {
            let stored = self.stored_rate(sample);
            (stored > 0).then(|| sample.write_rate.abs_diff(stored) as f64 * 100.0 / stored as f64)
        });
        let (count, sum) =
            errors.fold((0_u32, 0.0), |(count, sum), error| (count + 1, sum + error));
        (count > 0).then(|| (sum / f64::from(count) * 100.0).round() / 100.0)
    }
}

// === impl Steps ===

impl Steps {
    pub(super) fn begin(self, step: u32) -> u64 {
        let after = u64::try_from(self.step.as_millis()).unwrap_or(u64::MAX);
        self.began_unix_ms.saturating_add(after.saturating_mul(u64::from(step)))
    }

    /// The step that a moment is in, the last one from its beginning on.
    pub(super) fn of(self, unix_ms: u64) -> u32 {
        (1..self.count).rfind(|step| self.begin(*step) < unix_ms).unwrap_or(0)
    }

    /// Seconds since the beginning.
    pub(super) fn second(self, unix_ms: u64) -> f64 {
        to_seconds(unix_ms.saturating_sub(self.began_unix_ms))
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn to_seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: Steps = Steps { began_unix_ms: 0, step: Duration::from_secs(10), count: 2 };

    /// 100 B/s for 10 s, then 200 B/s; a monitor with a window of 4 s that is right, or wrong by so much.
    fn track(wrong: u64) -> Track {
        let rate = |second: u64| if second <= 10 { 100 } else { 200 };
        let written = (1..=20).map(|second| Written {
            unix_ms: second * 1000,
            payload: 90,
            stored: rate(second),
        });
        let mut track = Track { written: written.collect(), samples: Vec::new() };
        for second in 4..=20 {
            let stored = track.stored((second - 4) * 1000, second * 1000);
            track.samples.push(Sample {
                unix_ms: second * 1000,
                window_ms: 4000,
                write_rate: stored / 4 + wrong,
                filtered_rate: rate(second),
                size: None,
                log_start: second / 6,
                high_watermark: 0,
                source: "log-size",
            });
        }
        track
    }

    #[test]
    fn a_window_converges_when_it_has_left_the_last_step_behind() {
        let [first, second] = &track(0).judge(3, STEPS)[..] else { panic!("two steps") };
        assert_eq!((first.stored_per_sec, second.stored_per_sec), (100, 200));
        assert_eq!(first.window_converged_s, Some(4.0), "its first sample");
        assert_eq!(second.window_converged_s, Some(4.0), "150, 175 and so on are outside");
        assert_eq!(second.filtered_converged_s, Some(1.0));
        assert_eq!((second.mean_error_bytes_per_sec, second.steady_error_percent), (0, Some(0.0)));
        assert_eq!((second.samples, second.steady_samples), (10, 7));
    }

    #[test]
    fn an_error_is_relative_to_what_was_stored_and_one_that_stays_never_converges() {
        let found = track(50).judge(0, STEPS);
        assert_eq!(found[0].steady_error_percent, Some(50.0));
        assert_eq!(found[1].steady_error_percent, Some(25.0));
        assert_eq!(found[1].mean_error_bytes_per_sec, 50);
        assert_eq!(found[0].window_converged_s, None);
    }

    #[test]
    fn deletions_are_moves_of_the_logs_beginning() {
        assert_eq!(track(0).deletions(), 3, "at 6, 12 and 18 s");
    }
}
