//! Golden cases: what the published algorithms must answer, from a file with one case a line. Every difference is told, and a line that is
//! no case is an error with its number.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use tidegate_core::pack::reference::{Algorithm, Load};

/// A line of the file.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    capacity: u64,
    sizes: Vec<u64>,
    current: Vec<i64>,
    order: Vec<usize>,
    results: BTreeMap<String, Expected>,
}

#[derive(Debug, Deserialize)]
struct Expected {
    next: Vec<i64>,
}

/// What came of a file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// Cases in it.
    pub cases: usize,
    /// Those that all algorithms answer as they must.
    pub equal: usize,
    /// Every answer that is another.
    pub differences: Vec<Difference>,
}

/// An answer that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The line, from 1.
    pub line: usize,
    /// The name of the case.
    pub case: String,
    /// Whose answer.
    pub algorithm: String,
    /// The consumer of each partition as it must be; -1 is none.
    pub expected: Vec<i64>,
    /// As it is.
    pub found: Vec<i64>,
}

/// A line that is no case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GoldenError {
    /// It is no JSON, or has not the form of a case.
    #[error("line {line}, column {}: not a golden case", .source.column())]
    Form {
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Its parts contradict each other.
    #[error("line {line}, column 1: {fault}")]
    Case {
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        fault: String,
    },
    /// There is no case at all.
    #[error("line 1, column 1: the file is empty, expected a golden case a line")]
    Empty,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, case, algorithm, expected, found } = self;
        write!(f, "line {line}, {algorithm} of {case:?}: expected {expected:?}, found {found:?}")
    }
}

/// Runs every algorithm of every case in the text of a file.
pub fn check(text: &str) -> Result<Outcome, GoldenError> {
    let mut outcome = Outcome { cases: 0, equal: 0, differences: Vec::new() };
    let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    for (line, text) in lines.filter(|(_, text)| !text.trim().is_empty()) {
        let case: Case =
            serde_json::from_str(text).map_err(|source| GoldenError::Form { line, source })?;
        let differences =
            differences(line, &case).map_err(|fault| GoldenError::Case { line, fault })?;
        outcome.cases += 1;
        outcome.equal += usize::from(differences.is_empty());
        outcome.differences.extend(differences);
    }
    if outcome.cases == 0 { Err(GoldenError::Empty) } else { Ok(outcome) }
}

fn differences(line: usize, case: &Case) -> Result<Vec<Difference>, String> {
    let partitions = case.sizes.len();
    if case.capacity == 0 {
        return Err("capacity is 0".to_owned());
    }
    if case.current.len() != partitions {
        return Err(format!("{partitions} sizes, but {} of current", case.current.len()));
    }
    let mut order = case.order.clone();
    order.sort_unstable();
    if !order.iter().copied().eq(0..partitions) {
        return Err(format!("order does not name each of the {partitions} partitions once"));
    }
    let load =
        |(size, current): (&u64, &i64)| Load { size: *size, current: u32::try_from(*current).ok() };
    let loads: Vec<Load> = case.sizes.iter().zip(&case.current).map(load).collect();
    let mut differences = Vec::new();
    for (name, Expected { next: expected }) in &case.results {
        let algorithm = Algorithm::ALL.into_iter().find(|known| known.name() == name);
        let algorithm = algorithm.ok_or_else(|| format!("unknown algorithm {name:?}"))?;
        let found = algorithm.run(case.capacity, &loads, &case.order);
        let found: Vec<i64> = found.into_iter().map(|at| at.map_or(-1, i64::from)).collect();
        if found != *expected {
            let (case, algorithm) = (case.name.clone(), name.clone());
            differences.push(Difference {
                line,
                case,
                algorithm,
                expected: expected.clone(),
                found,
            });
        }
    }
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASE: &str = r#"{"name":"n","capacity":100,"sizes":[60,60],"current":[-1,0],"order":[0,1],"results":{"bfd":{"next":[0,1]}}}"#;

    #[test]
    fn every_difference_is_told() {
        let wrong = CASE.replace("\"next\":[0,1]", "\"next\":[1,0]");
        let outcome = check(&format!("{CASE}\n\n{wrong}\n")).unwrap();
        assert_eq!((outcome.cases, outcome.equal), (2, 1));
        assert_eq!(
            outcome.differences[0].to_string(),
            "line 3, bfd of \"n\": expected [1, 0], found [0, 1]"
        );
    }

    #[test]
    fn what_is_no_case_is_told_with_its_line() {
        let broken = CASE.replace("\"capacity\":100,", "");
        for (text, said) in [
            (format!("{CASE}\n{{"), "line 2, column 1"),
            (format!("{CASE}\n{broken}"), "line 2, column"),
            (CASE.replace("bfd", "best"), "line 1, column 1: unknown algorithm \"best\""),
            (CASE.replace("[-1,0]", "[-1]"), "line 1, column 1: 2 sizes, but 1 of current"),
            (CASE.replace("100", "0"), "line 1, column 1: capacity is 0"),
            (
                CASE.replace("\"order\":[0,1]", "\"order\":[0,0]"),
                "line 1, column 1: order does not",
            ),
            (String::new(), "line 1, column 1: the file is empty"),
        ] {
            let error = check(&text).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
