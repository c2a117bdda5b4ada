//! Tables for people who read a terminal: the first column is text, the others are numbers.

use std::collections::BTreeMap;

use tidegate_sim::planner::Policy;

/// What was found of each policy, in the order that was asked for.
pub(super) fn in_order<'a, T>(
    policies: &'a [Policy],
    found: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (&'a Policy, &'a T)> {
    policies.iter().filter_map(|policy| Some((policy, found.get(&policy.to_string())?)))
}

/// Aligned columns.
pub(super) fn aligned(heads: &[String], rows: &[Vec<String>]) -> String {
    let all = || std::iter::once(heads).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| {
        let cells = all().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |row: &[String]| {
        let cell = |(column, (cell, width)): (usize, (&String, &usize))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        };
        let cells: Vec<_> = row.iter().zip(&widths).enumerate().map(cell).collect();
        cells.join("  ").trim_end().to_owned()
    };
    all().map(line).collect::<Vec<_>>().join("\n")
}

/// A figure, with the deviation if there is one.
pub(super) fn figure(value: f64, deviation: Option<f64>, digits: usize) -> String {
    match deviation {
        Some(deviation) => format!("{value:.digits$} ± {deviation:.digits$}"),
        None => format!("{value:.digits$}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_aligned_to_the_right() {
        let text = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
        let rows = [text(&["mwf", "9.2"]), text(&["a", "10.25"])];
        assert_eq!(
            aligned(&text(&["policy", "R"]), &rows),
            "policy      R\nmwf       9.2\na       10.25"
        );
    }

    #[test]
    fn deviations_are_shown_beside_means() {
        assert_eq!(figure(1.0, None, 2), "1.00");
        assert_eq!(figure(1.0, Some(0.25), 2), "1.00 ± 0.25");
    }
}
