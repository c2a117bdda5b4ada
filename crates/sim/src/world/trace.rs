//! What happened: always as a hash, and in words when it is recorded.

use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

use super::queue::Moment;

/// One thing that happened: a line of the event log, which is a JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// When, in microseconds since the world began.
    pub at_us: u64,
    /// To whom, or who did it: words such as `p3 c1` (a process, and its consumer number), `ledger`, `sink`, `world`.
    pub who: String,
    /// What.
    pub what: String,
}

impl Line {
    /// True when this name is one of the words of `who`.
    pub fn is_about(&self, name: &str) -> bool {
        self.who.split(' ').any(|word| word == name)
    }
}

#[derive(Debug)]
pub(super) struct Trace {
    hash: Fnv,
    lines: Option<Vec<Line>>,
}

/// FNV-1a, 64 bits: enough to tell two runs apart, and the same everywhere.
#[derive(Debug)]
struct Fnv(u64);

impl fmt::Write for Fnv {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

impl Trace {
    pub(super) const fn new() -> Self {
        Self { hash: Fnv(0xcbf2_9ce4_8422_2325), lines: None }
    }

    /// Keeps the words from now on.
    pub(super) fn record(&mut self) {
        self.lines.get_or_insert_default();
    }

    pub(super) fn note(&mut self, at: Moment, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>) {
        writeln!(self.hash, "{} {who} {what}", at.0).expect("a hash takes any text");
        if let Some(lines) = &mut self.lines {
            lines.push(Line { at_us: at.0, who: who.to_string(), what: what.to_string() });
        }
    }

    pub(super) fn into_parts(self) -> (u64, Vec<Line>) {
        (self.hash.0, self.lines.unwrap_or_default())
    }
}
