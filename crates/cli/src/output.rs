//! The one place that writes to standard output and standard error.
//!
//! Standard output carries data and nothing else: with `--output json` the last line is one object, and commands that
//! follow something write one object a line. Everything for people is left out then, or goes to standard error.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::args::OutputFormat;
use crate::failure::Exit;

/// Where the results of a command go.
#[derive(Debug)]
pub(crate) struct Output {
    format: OutputFormat,
}

impl Output {
    pub(crate) fn new(format: OutputFormat) -> Self {
        Self { format }
    }

    /// True when the results are for programs.
    pub(crate) fn is_json(&self) -> bool {
        self.format == OutputFormat::Json
    }

    /// True when there is a person at a terminal who can be shown a picture that changes.
    pub(crate) fn is_live(&self) -> bool {
        !self.is_json() && io::stdout().is_terminal()
    }

    /// Writes the result of a command: as text, or as one object in one line.
    pub(crate) fn result(&self, text: &str, value: &impl Serialize) -> anyhow::Result<()> {
        match self.format {
            OutputFormat::Text => write(text.trim_end_matches('\n')),
            OutputFormat::Json => write(&serde_json::to_string(value)?),
        }
    }

    /// Writes what is data in a form of its own, the same whatever results look like.
    #[expect(clippy::unused_self, reason = "what a command writes goes through its output")]
    pub(crate) fn data(&self, text: &str) -> anyhow::Result<()> {
        write(text.trim_end_matches('\n'))
    }

    /// Tells a person how it goes; not a part of the result, so with json it goes to standard error.
    pub(crate) fn say(&self, text: &str) {
        let told = match self.format {
            OutputFormat::Text => write(text),
            OutputFormat::Json => complain_in(text),
        };
        if let Err(error) = told {
            tracing::debug!(%error, "nobody listens");
        }
    }
}

/// Replaces the picture on the terminal: goes up over the lines of the last one first.
pub(crate) fn redraw(lines_before: usize, text: &str) {
    let mut screen = io::stdout().lock();
    let up = if lines_before == 0 { String::new() } else { format!("\x1b[{lines_before}A") };
    let drawn = write!(screen, "{up}\x1b[J{text}").and_then(|()| screen.flush());
    if let Err(error) = drawn {
        tracing::debug!(%error, "nobody looks");
    }
}

/// A terminal's lines, and the characters of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
}

impl Size {
    /// That of the terminal; a usual one where it is not told.
    pub(crate) fn of_terminal() -> Self {
        let told = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let or =
            |told: Option<u16>, usual| told.filter(|told| *told > 0).map_or(usual, usize::from);
        Self {
            rows: or(told.map(|size| size.ws_row), 24),
            columns: or(told.map(|size| size.ws_col), 100),
        }
    }

    /// Lines of a picture that can be replaced: the cursor stands below it, and what has left the screen stays.
    pub(crate) fn picture_rows(self) -> usize {
        self.rows.saturating_sub(1)
    }

    /// The text with lines that do not wrap, each ended.
    pub(crate) fn cut(self, text: &str) -> String {
        let columns = self.columns.saturating_sub(1);
        let cut = |line: &str| line.chars().take(columns).collect::<String>() + "\n";
        text.lines().map(cut).collect()
    }
}

/// Writes to standard error.
pub(crate) fn complain(text: &str) {
    if complain_in(text).is_err() {
        tracing::debug!("nobody listens");
    }
}

/// Prints what is wrong with the command line, or the help that was asked for.
pub(crate) fn usage(usage: &clap::Error) -> Exit {
    if usage.print().is_err() {
        return Exit::Failed;
    }
    if usage.use_stderr() { Exit::Usage } else { Exit::Done }
}

fn complain_in(text: &str) -> anyhow::Result<()> {
    Ok(writeln!(io::stderr().lock(), "{text}")?)
}

/// A reader that has gone, such as `head`, is no error.
fn write(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Gone.into()),
        other => Ok(other?),
    }
}

/// The reader of standard output has gone.
#[derive(Debug)]
pub(crate) struct Gone;

impl std::fmt::Display for Gone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the reader of standard output has gone")
    }
}

impl std::error::Error for Gone {}
