//! A plan in words and as an object: what moves and why, what each consumer has before and after, and what bound the decision.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidegate_core::ids::{ConsumerNumber, PartitionId};
use tidegate_core::pack::{LoadChange, Move, Problem, Report, Solution};
use tidegate_wire::status::ByteRate;

use super::Names;

/// A solution with the names of its partitions.
pub(super) struct Named<'a> {
    pub(super) names: &'a Names,
    pub(super) problem: &'a Problem,
    pub(super) solution: &'a Solution,
}

// === impl Named ===

impl Named<'_> {
    /// The name of a partition.
    pub(super) fn name(&self, id: PartitionId) -> String {
        self.names.get(&id).map_or_else(|| id.to_string(), ToString::to_string)
    }

    /// For people.
    pub(super) fn text(&self) -> anyhow::Result<String> {
        let Solution { moves, consumers, report, .. } = self.solution;
        let mut text = String::new();
        let (before, after) = (report.consumers_before, report.consumers_after);
        writeln!(
            text,
            "consumers: {before} before, {after} after; at least {} for these loads, {} if filled up to the packing limit only",
            report.lower_bound.consumers(),
            report.packing_bound.consumers(),
        )?;
        let r_score =
            format!("{}.{:03}", report.r_score_permille / 1000, report.r_score_permille % 1000);
        writeln!(
            text,
            "moves: {}, {} of load, R {r_score}",
            moves.len(),
            ByteRate(report.moved_load),
        )?;
        for moved in moves {
            writeln!(text, "  {}", self.describe(moved))?;
        }
        for (consumer, LoadChange { before, after, capacity }) in &report.loads {
            let (before, after, capacity) =
                (ByteRate(*before), ByteRate(*after), ByteRate(*capacity));
            writeln!(text, "consumer {consumer}: {before} before, {after} after, of {capacity}")?;
        }
        for consumer in consumers.iter().filter(|consumer| !report.loads.contains_key(consumer)) {
            writeln!(text, "consumer {consumer}: a spare one")?;
        }
        for id in &report.hot {
            writeln!(
                text,
                "hot: {} is written faster than a consumer reads, and no plan can help it",
                self.name(*id)
            )?;
        }
        if !report.bound_by.is_empty() {
            writeln!(text, "bound by: {}", bindings(report).join(", "))?;
        }
        Ok(text)
    }

    fn describe(&self, moved: &Move) -> String {
        let Move { partition, from, to, reason } = moved;
        let weight = self.problem.items.get(partition).map_or(0, |item| item.weight);
        let from = from.map_or_else(|| "nobody".to_owned(), |from| format!("consumer {from}"));
        let (name, weight) = (self.name(*partition), ByteRate(weight));
        format!("{name} ({weight}) from {from} to consumer {to}: {}", reason.name())
    }

    /// For programs; `infeasible` is why it is no plan.
    pub(super) fn json(&self, infeasible: Option<&str>) -> Value {
        let Solution { assignment, moves, consumers, report } = self.solution;
        let consumers: Vec<_> = consumers.iter().map(|consumer| consumer.get()).collect();
        let assignment: serde_json::Map<String, Value> =
            assignment.iter().map(|(id, at)| (self.name(*id), at.get().into())).collect();
        let moves: Vec<_> = moves.iter().map(|moved| self.move_json(moved)).collect();
        let load = |(consumer, change): (&ConsumerNumber, &LoadChange)| {
            let LoadChange { before, after, capacity } = change;
            (consumer.to_string(), json!({"before": before, "after": after, "capacity": capacity}))
        };
        let loads: serde_json::Map<String, Value> = report.loads.iter().map(load).collect();
        json!({
            "feasible": infeasible.is_none(),
            "reason": infeasible,
            "consumers": consumers,
            "consumers_before": report.consumers_before,
            "consumers_after": report.consumers_after,
            "lower_bound": report.lower_bound.consumers(),
            "packing_bound": report.packing_bound.consumers(),
            "moved_bytes_per_sec": report.moved_load,
            "r_score_permille": report.r_score_permille,
            "moves": moves,
            "assignment": assignment,
            "loads": loads,
            "hot": report.hot.iter().map(|id| self.name(*id)).collect::<Vec<_>>(),
            "bound_by": bindings(report),
        })
    }

    fn move_json(&self, moved: &Move) -> Value {
        let weight = self.problem.items.get(&moved.partition).map_or(0, |item| item.weight);
        json!({
            "partition": self.name(moved.partition),
            "bytes_per_sec": weight,
            "from": moved.from.map(ConsumerNumber::get),
            "to": moved.to.get(),
            "reason": moved.reason.name(),
        })
    }
}

fn bindings(report: &Report) -> Vec<&'static str> {
    report.bound_by.iter().map(|binding| binding.name()).collect()
}
