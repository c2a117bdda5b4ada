//! The one module that draws charts and writes HTML pages and CSV files; it knows nothing of what they show.
//!
//! A page is one file that needs nothing else: charts are SVG in it. Every chart names its axes with their units, and a
//! legend lists few series: what is many is drawn in one faint colour, with the ones that matter on top.

mod chart;
mod csv;
mod page;

use std::path::Path;

use anyhow::Context as _;

pub(crate) use chart::{Axis, Chart, Colour, Series, Shape};
pub(crate) use csv::Csv;
pub(crate) use page::{Figure, Page, Section, Table};

/// Writes files, by name and text, to a folder that is made when it is missing.
pub(crate) fn write(directory: &Path, files: &[(&str, &str)]) -> anyhow::Result<()> {
    let named = || format!("failed to write the report to {}", directory.display());
    std::fs::create_dir_all(directory).with_context(named)?;
    for (name, text) in files {
        std::fs::write(directory.join(name), text).with_context(named)?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
pub(crate) fn thousandths(value: u64) -> f64 {
    value as f64 / 1e3
}

#[expect(clippy::cast_precision_loss, reason = "for a picture")]
pub(crate) fn millionths(value: u64) -> f64 {
    value as f64 / 1e6
}
