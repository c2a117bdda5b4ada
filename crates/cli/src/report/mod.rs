//! The one module that draws charts and writes HTML pages and CSV files; it knows nothing of what they show.
//!
//! A page is one file that needs nothing else: charts are SVG in it. Every chart names its axes with their units, and a
//! legend lists few series: what is many is drawn in one faint colour, with the ones that matter on top.

mod chart;
mod csv;
mod page;

pub(crate) use chart::{Axis, Chart, Colour, Series, Shape};
pub(crate) use csv::Csv;
pub(crate) use page::{Figure, Page, Section, Table};
