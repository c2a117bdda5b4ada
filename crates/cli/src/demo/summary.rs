//! The figures of a run, from what the sink contains.

use std::fmt::Write as _;

use serde::Serialize;
use tidegate_core::ids::{Epoch, Offset};
use tidegate_load::audit::{AuditReport, Handoff};

use super::cast::Recording;
use super::setting::Setting;
use super::stage::Stage;
use crate::quantiles::nearest_ranks;

/// The object that `--output json` prints. Names and order are fixed; new ones are added at the end.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Summary {
    /// Records that were acknowledged to the producer.
    pub(super) produced: u64,
    /// Different records of the run in the sink.
    pub(super) delivered: u64,
    pub(super) lost: u64,
    pub(super) duplicated: u64,
    pub(super) out_of_order: u64,
    /// Changes of owner between two durable writes of a partition, planned or not.
    pub(super) handoffs: u64,
    /// From the last durable write of the old owner to the first of the new one, for planned moves.
    pub(super) handoff_ms: Quantiles,
    pub(super) freshness_ms: Halves,
    /// Living consumers, once a second.
    pub(super) consumers: Count,
    pub(super) plans: u64,
    pub(super) broker: String,
    /// The same as `handoff_ms` for all other changes of owner.
    pub(super) recovery_ms: Quantiles,
    /// Consumers that were killed.
    pub(super) kills: u64,
    pub(super) seed: u64,
    /// For how long records were written.
    pub(super) elapsed_ms: u64,
    /// `handoff_ms` without the time in which the partition had no record that was not durable yet.
    pub(super) handoff_net_ms: Quantiles,
}

/// Quantiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Quantiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// The middle and the end of a distribution, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Halves {
    pub(super) p50: u64,
    pub(super) p99: u64,
}

/// How many there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(super) struct Count {
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) mean: f64,
}

// === impl Summary ===

impl Summary {
    pub(super) fn new(
        setting: &Setting,
        stage: &Stage,
        recording: &Recording,
        report: &AuditReport,
    ) -> Self {
        let (planned, unplanned): (Vec<_>, Vec<_>) =
            report.handoffs.iter().partition(|handoff| was_planned(recording, stage, handoff));
        let gaps = |handoffs: &[&Handoff]| {
            Quantiles::of(handoffs.iter().map(|handoff| handoff.gap_ms).collect())
        };
        let net = |handoff: &&Handoff| handoff.gap_ms.saturating_sub(handoff.idle_ms);
        let freshness = report.freshness_ms;
        Self {
            produced: report.acknowledged,
            delivered: report.delivered,
            lost: report.lost,
            duplicated: report.duplicated,
            out_of_order: report.out_of_order,
            handoffs: report.handoffs.len() as u64,
            handoff_ms: gaps(&planned),
            freshness_ms: Halves { p50: freshness.p50, p99: freshness.p99 },
            consumers: Count::of(
                recording.samples.iter().map(|sample| sample.consumers.len() as u64),
            ),
            plans: recording.last().plans,
            broker: stage.broker_name(),
            recovery_ms: gaps(&unplanned),
            kills: recording.kills.len() as u64,
            seed: setting.seed,
            elapsed_ms: recording.elapsed_ms,
            handoff_net_ms: Quantiles::of(planned.iter().map(net).collect()),
        }
    }

    /// Whether the run was as it must be.
    pub(super) fn is_good(&self, report: &AuditReport) -> bool {
        report.is_clean() && self.handoffs > 0
    }

    /// The summary for people.
    pub(super) fn text(&self, report: &AuditReport) -> String {
        let mut text = String::new();
        self.write_text(&mut text, report).map(|()| text).unwrap_or_default()
    }

    fn write_text(&self, text: &mut String, report: &AuditReport) -> std::fmt::Result {
        let verdict = if self.is_good(report) {
            "every record is in the sink exactly once and in order"
        } else if report.is_clean() {
            "no partition was handed over, so nothing is shown: run it longer or with more load"
        } else {
            "the sink is not what was acknowledged"
        };
        writeln!(text, "\n{verdict}\n")?;
        let Self { produced, delivered, lost, duplicated, out_of_order, .. } = self;
        writeln!(text, "records     {produced} produced, {delivered} delivered")?;
        writeln!(
            text,
            "            {lost} lost, {duplicated} duplicated, {out_of_order} out of order, {} repeated, {} unexpected",
            report.repeated, report.unexpected
        )?;
        let Quantiles { p50, p99, max } = self.handoff_ms;
        writeln!(
            text,
            "hand-offs   {}; planned: p50 {p50} ms, p99 {p99} ms, max {max} ms",
            self.handoffs
        )?;
        let Quantiles { p50, p99, max } = self.handoff_net_ms;
        writeln!(
            text,
            "            while records waited: p50 {p50} ms, p99 {p99} ms, max {max} ms"
        )?;
        let Quantiles { p50, p99, max } = self.recovery_ms;
        if max > 0 {
            writeln!(
                text,
                "            after a failure: p50 {p50} ms, p99 {p99} ms, max {max} ms"
            )?;
        }
        let Halves { p50, p99 } = self.freshness_ms;
        writeln!(text, "freshness   p50 {p50} ms, p99 {p99} ms")?;
        let Count { min, max, mean } = self.consumers;
        writeln!(text, "consumers   {min} to {max}, {mean:.1} on average; {} killed", self.kills)?;
        writeln!(text, "plans       {}; seed {}", self.plans, self.seed)?;
        report.faults.iter().take(10).try_for_each(|fault| writeln!(text, "fault       {fault}"))
    }
}

/// Whether a change of owner was the controller's wish, as the ledger tells.
pub(super) fn was_planned(recording: &Recording, stage: &Stage, handoff: &Handoff) -> bool {
    let partition = stage.partitions.iter().find(|partition| {
        partition.topic == handoff.topic && partition.id.number == handoff.partition
    });
    let epochs = (Epoch(Offset(handoff.from_epoch)), Epoch(Offset(handoff.to_epoch)));
    partition.is_some_and(|partition| {
        recording.observed.lock().was_planned(partition.id, epochs.0, epochs.1)
    })
}

// === impl Quantiles ===

impl Quantiles {
    fn of(values: Vec<u64>) -> Self {
        let [p50, p99, max] = nearest_ranks(values);
        Self { p50, p99, max }
    }
}

// === impl Count ===

impl Count {
    fn of(counts: impl Iterator<Item = u64> + Clone) -> Self {
        let (sum, number) = counts.clone().fold((0, 0_u64), |(sum, n), count| (sum + count, n + 1));
        #[expect(clippy::cast_precision_loss, reason = "counts of consumers and of seconds")]
        let mean = if number == 0 { 0.0 } else { sum as f64 / number as f64 };
        Self {
            min: counts.clone().min().unwrap_or(0),
            max: counts.max().unwrap_or(0),
            mean: (mean * 100.0).round() / 100.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        assert_eq!(Quantiles::of(vec![]), Quantiles::default());
        assert_eq!(Quantiles::of((1..=200).collect()), Quantiles { p50: 100, p99: 198, max: 200 });
        assert_eq!(Quantiles::of(vec![7]), Quantiles { p50: 7, p99: 7, max: 7 });
    }

    #[test]
    fn means_have_two_decimals() {
        let count = Count::of([1, 2, 2].into_iter());
        assert_eq!(count, Count { min: 1, max: 2, mean: 1.67 });
    }
}
