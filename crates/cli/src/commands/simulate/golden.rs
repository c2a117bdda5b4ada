//! `tidegate simulate golden`: the published algorithms against a file of golden cases.

use std::fmt::Write as _;
use std::path::Path;

use tidegate_sim::planner::golden::{self, GoldenError};

use super::input;
use crate::failure::{Exit, Refused};
use crate::output::Output;

pub(super) fn run(file: &Path, output: &Output) -> anyhow::Result<Exit> {
    let text = input::read(file)?;
    let outcome = golden::check(&text).map_err(|error| {
        let cause = match &error {
            GoldenError::Form { source, .. } => format!(": {source}"),
            _ => String::new(),
        };
        Refused::input(file, format!("{error}{cause}"))
    })?;
    let mut text = String::new();
    for difference in &outcome.differences {
        writeln!(text, "{difference}")?;
    }
    writeln!(text, "{} cases, {} equal", outcome.cases, outcome.equal)?;
    output.result(&text, &outcome)?;
    Ok(if outcome.differences.is_empty() { Exit::Done } else { Exit::Failed })
}
