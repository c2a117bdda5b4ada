//! The verdict on a run, and its figures: from what the sink contains, the ledger as read, and the faults as done.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use tidegate_core::ids::{Epoch, Offset};
use tidegate_load::audit::{AuditReport, Handoff};
use tidegate_runtime::ports::TopicPartition;

use crate::fault::{Cause, Kind};
use crate::observed::{Counts, Observed};
use crate::staff::Record;
use crate::tally::Tally;
use crate::world::DETHRONING;

/// The object that `--output json` prints. Names and order are fixed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Summary {
    faults: BTreeMap<&'static str, u64>,
    records: u64,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    handoff_ms: HandoffMs,
    /// The longest time without a controller, from a fault of the leader to the next reign.
    takeover_ms: u64,
    #[serde(skip)]
    more: More,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct HandoffMs {
    planned: Quantiles,
    crash: Quantiles,
    stall: Quantiles,
}

/// Quantiles in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Quantiles {
    p50: u64,
    p99: u64,
    #[serde(skip)]
    max: u64,
    #[serde(skip)]
    count: usize,
}

/// What only the text tells.
#[derive(Clone, Debug, Default)]
struct More {
    kill: Quantiles,
    death: Quantiles,
    ending: Quantiles,
    other: Quantiles,
    take_overs: Vec<u64>,
    without_successor: usize,
    unexpected: u64,
    in_log: u64,
    damage: Vec<String>,
    counts: Counts,
    missed: usize,
    record: Record,
    faulty: Vec<String>,
}

/// What is known at the end of a run.
#[derive(Debug)]
pub(crate) struct Evidence<'a> {
    pub(crate) report: &'a AuditReport,
    /// How many of the repeated records stand in the log twice.
    pub(crate) in_log: u64,
    pub(crate) observed: &'a Observed,
    pub(crate) tally: &'a Tally,
    pub(crate) partitions: &'a [TopicPartition],
    pub(crate) record: Record,
    /// Kinds of faults that the schedule had.
    pub(crate) scheduled: Vec<Kind>,
}

impl Evidence<'_> {
    /// Puts the figures together.
    pub(crate) fn summary(self) -> Summary {
        let gaps = self.gaps();
        let of = |causes: &[Option<Cause>]| {
            let chosen = causes.iter().filter_map(|cause| gaps.get(cause)).flatten();
            Quantiles::of(chosen.copied().collect())
        };
        let (kill, death) = (Some(Cause::Kill), Some(Cause::Death));
        let begins = self.tally.begins(&DETHRONING);
        let reign_after = |at: &u64| Some(self.observed.reign_after(*at)? - at);
        let take_overs: Vec<u64> = begins.iter().filter_map(reign_after).collect();
        let counts = self.tally.counts(self.scheduled.iter().copied());
        let AuditReport { acknowledged, lost, duplicated, out_of_order, .. } = *self.report;
        let mut summary = Summary {
            faults: Kind::ALL.iter().map(|kind| (kind.name(), 0)).collect(),
            records: acknowledged,
            lost,
            duplicated,
            out_of_order,
            handoff_ms: HandoffMs {
                planned: of(&[None]),
                crash: of(&[kill, death]),
                stall: of(&[Some(Cause::Stall)]),
            },
            takeover_ms: take_overs.iter().copied().max().unwrap_or(0),
            more: More {
                kill: of(&[kill]),
                death: of(&[death]),
                ending: of(&[Some(Cause::Ending)]),
                other: of(&[Some(Cause::Other)]),
                without_successor: begins.len() - take_overs.len(),
                take_overs,
                unexpected: self.report.unexpected + self.report.repeated - self.in_log,
                in_log: self.in_log,
                damage: self.damage(),
                counts: self.observed.counts(),
                missed: self.tally.missed_count(),
                record: self.record,
                faulty: Vec::new(),
            },
        };
        summary.faults.extend(counts.iter().map(|(kind, count)| (kind.name(), *count)));
        let never = counts.iter().filter(|(_, count)| **count == 0);
        summary.more.faulty = summary.faulty(never.map(|(kind, _)| *kind));
        summary
    }

    /// How long each hand-off took, by its cause; `None` is the controller's wish.
    fn gaps(&self) -> BTreeMap<Option<Cause>, Vec<u64>> {
        self.report.handoffs.iter().fold(BTreeMap::new(), |mut gaps, handoff| {
            gaps.entry(self.cause(handoff)).or_default().push(handoff.gap_ms);
            gaps
        })
    }

    fn cause(&self, handoff: &Handoff) -> Option<Cause> {
        let partition = self.partitions.iter().find(|partition| {
            partition.topic == handoff.topic && partition.id.number == handoff.partition
        });
        let Some(partition) = partition else { return Some(Cause::Other) };
        let epochs = [handoff.from_epoch, handoff.to_epoch].map(|at| Epoch(Offset(at)));
        if self.observed.was_planned(partition.id, epochs[0], epochs[1]) {
            return None;
        }
        let losers = self.observed.losers(partition.id, epochs[0], epochs[1]);
        Some(self.tally.cause(&losers, handoff.at_ms))
    }

    fn damage(&self) -> Vec<String> {
        let lost = self.report.lost_ranges.iter().map(|range| {
            let (topic, partition) = (&range.topic, range.partition);
            format!("lost: {topic}-{partition} offsets {} to {}", range.first, range.end - 1)
        });
        lost.chain(self.report.faults.iter().cloned()).take(20).collect()
    }
}

// === impl Summary ===

impl Summary {
    /// Whether the run was as it must be.
    pub(crate) fn is_good(&self) -> bool {
        self.more.faulty.is_empty()
    }

    /// What is wrong with the run.
    fn faulty(&self, never: impl Iterator<Item = Kind>) -> Vec<String> {
        let mut faulty = Vec::new();
        let damage = self.lost + self.duplicated + self.out_of_order + self.more.unexpected;
        if damage > 0 || !self.more.damage.is_empty() {
            faulty.push("the sink is not what was acknowledged".to_owned());
        }
        if self.records == 0 {
            faulty.push("no record was written".to_owned());
        }
        faulty.extend(never.map(|kind| format!("{kind} was scheduled and never happened")));
        let More { ending, other, take_overs, .. } = &self.more;
        let HandoffMs { planned, crash, stall } = self.handoff_ms;
        if planned.count == 0 {
            faulty.push("no hand-off was planned".to_owned());
        }
        if crash.count + stall.count + ending.count + other.count == 0 {
            faulty.push("nothing was recovered".to_owned());
        }
        if take_overs.is_empty() {
            faulty.push("no controller took over".to_owned());
        }
        faulty
    }

    /// The summary for people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).map(|()| text).unwrap_or_default()
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        let More { counts, missed, record, .. } = &self.more;
        writeln!(text, "\nfaults")?;
        for (kind, count) in &self.faults {
            writeln!(text, "  {kind:<18} {count:>4}")?;
        }
        if *missed > 0 {
            writeln!(text, "  not done           {missed:>4}")?;
        }
        let Self { records, lost, duplicated, out_of_order, .. } = self;
        writeln!(
            text,
            "records     {records} audited: {lost} lost, {duplicated} duplicated, \
             {out_of_order} out of order, {} unexpected",
            self.more.unexpected
        )?;
        if self.more.in_log > 0 {
            let in_log = self.more.in_log;
            writeln!(text, "            {in_log} that the log has twice, each looked up there")?;
        }
        self.write_handoffs(text)?;
        let Counts { take_overs, fences, plans } = counts;
        let times: Vec<_> = self.more.take_overs.iter().map(ToString::to_string).collect();
        writeln!(text, "take-overs  {take_overs}; ms after each fault: {}", times.join(", "))?;
        if self.more.without_successor > 0 {
            writeln!(text, "            {} without a successor", self.more.without_successor)?;
        }
        let surprises = record.surprises.len();
        writeln!(
            text,
            "group       {plans} plans, {fences} fences, {} processes started, {surprises} ended by themselves",
            record.starts
        )?;
        record
            .surprises
            .iter()
            .try_for_each(|surprise| writeln!(text, "            {surprise}"))?;
        self.more.damage.iter().try_for_each(|damage| writeln!(text, "damage      {damage}"))?;
        self.more.faulty.iter().try_for_each(|fault| writeln!(text, "FAILED      {fault}"))?;
        if self.is_good() {
            writeln!(text, "every record is in the sink exactly once and in order")?;
        }
        Ok(())
    }

    fn write_handoffs(&self, text: &mut String) -> std::fmt::Result {
        let HandoffMs { planned, stall, .. } = self.handoff_ms;
        let More { kill, death, ending, other, .. } = &self.more;
        writeln!(text, "hand-offs                count     p50     p99     max (ms)")?;
        for (name, found) in [
            ("planned", planned),
            ("after a kill", *kill),
            ("after a death", *death),
            ("after a stall", stall),
            ("after an ending", *ending),
            ("other", *other),
        ] {
            let Quantiles { p50, p99, max, count } = found;
            writeln!(text, "  {name:<18} {count:>9} {p50:>7} {p99:>7} {max:>7}")?;
        }
        Ok(())
    }
}

// === impl Quantiles ===

impl Quantiles {
    fn of(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        let at = |permille: usize| {
            let rank = (values.len() * permille).div_ceil(1000);
            values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
        };
        Self { p50: at(500), p99: at(990), max: at(1000), count: values.len() }
    }
}

#[cfg(test)]
mod tests {
    use tidegate_core::ids::GroupName;

    use super::*;

    fn summary(report: &AuditReport, scheduled: Vec<Kind>) -> Summary {
        summary_with(report, scheduled, 0)
    }

    fn summary_with(report: &AuditReport, scheduled: Vec<Kind>, in_log: u64) -> Summary {
        let tally = Tally::default();
        tally.count(Kind::Sigkill);
        let observed = Observed::new(GroupName("orders".to_owned()));
        let (observed, tally) = (&observed, &tally);
        let record = Record::default();
        let partitions = &[];
        Evidence { report, in_log, observed, tally, partitions, record, scheduled }.summary()
    }

    #[test]
    fn the_json_has_the_promised_form() {
        let report = AuditReport { acknowledged: 5, ..AuditReport::default() };
        let json = serde_json::to_value(summary(&report, vec![Kind::Sigkill])).unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().cloned().collect();
        let fixed = [
            "duplicated",
            "faults",
            "handoff_ms",
            "lost",
            "out_of_order",
            "records",
            "takeover_ms",
        ];
        assert_eq!(keys, fixed);
        assert_eq!(json["faults"]["sigkill"], 1);
        assert_eq!(json["handoff_ms"]["crash"], serde_json::json!({"p50": 0, "p99": 0}));
    }

    #[test]
    fn a_run_that_shows_nothing_is_not_good() {
        let report = AuditReport { acknowledged: 5, lost: 1, ..AuditReport::default() };
        let summary = summary(&report, vec![Kind::Sigkill, Kind::Death]);
        assert!(!summary.is_good());
        let text = summary.text();
        for fault in [
            "the sink is not what was acknowledged",
            "death was scheduled and never happened",
            "no hand-off was planned",
            "nothing was recovered",
            "no controller took over",
        ] {
            assert!(text.contains(fault), "{text}");
        }
        assert!(!text.contains("sigkill was scheduled"), "{text}");
    }

    #[test]
    fn only_what_the_log_has_twice_is_excused() {
        let report = AuditReport { acknowledged: 5, repeated: 2, ..AuditReport::default() };
        let damaged = "the sink is not what was acknowledged";
        let half = summary_with(&report, Vec::new(), 1).text();
        assert!(
            half.contains("1 unexpected") && half.contains("1 that the log has twice"),
            "{half}"
        );
        assert!(half.contains(damaged), "{half}");
        let all = summary_with(&report, Vec::new(), 2).text();
        assert!(all.contains("0 unexpected") && !all.contains(damaged), "{all}");
    }

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let quantiles = Quantiles::of((1..=200).collect());
        assert_eq!(quantiles, Quantiles { p50: 100, p99: 198, max: 200, count: 200 });
        assert_eq!(Quantiles::of(vec![]), Quantiles::default());
    }
}
