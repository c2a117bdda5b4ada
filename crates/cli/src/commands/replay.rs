//! `tidegate replay`: what happened in a run of the simulator, from the log that it wrote.
//!
//! It shows; it does not run anything again. The same seed does, see `cargo xtask sim --seed`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use anyhow::Context as _;
use tidegate_sim::world::Line;

use crate::args::ReplayArgs;
use crate::failure::Exit;
use crate::output::Output;

pub(super) fn run(args: &ReplayArgs, output: &Output) -> anyhow::Result<Exit> {
    let name = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("failed to open {name}"))?;
    for (number, text) in BufReader::new(file).lines().enumerate() {
        let text = text.with_context(|| format!("failed to read {name}"))?;
        let line: Line = serde_json::from_str(&text).with_context(|| {
            format!("line {} of {name} is no event of the simulator", number.saturating_add(1))
        })?;
        if is_shown(args, &line) {
            output.result(&describe(&line), &line)?;
        }
    }
    Ok(Exit::Done)
}

fn is_shown(args: &ReplayArgs, line: &Line) -> bool {
    let at = Duration::from_micros(line.at_us);
    let in_time = args.from.is_none_or(|from| from <= at) && args.to.is_none_or(|to| at <= to);
    let concerned = args.process.is_empty() || args.process.iter().any(|name| line.is_about(name));
    in_time && concerned
}

/// Seconds first, so that a person can find the place again with `--from`.
fn describe(line: &Line) -> String {
    let (seconds, micros) = (line.at_us / 1_000_000, line.at_us % 1_000_000);
    format!("{seconds:>4}.{micros:06}s {:<14} {}", line.who, line.what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_begins_with_the_time_and_whom_it_concerns() {
        let (who, what) = ("p3 c1".to_owned(), "began Incarnation@7".to_owned());
        let line = Line { at_us: 2_000_015, who, what };
        assert_eq!(describe(&line), "   2.000015s p3 c1          began Incarnation@7");
    }
}
