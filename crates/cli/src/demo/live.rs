//! What is shown while a run goes on: a picture that changes on a terminal, else a line every few seconds.

use std::fmt::Write as _;

use super::observed::Sample;
use super::setting::Setting;
use crate::output::{self, Output, Size};

/// Time between two lines where no picture can be shown.
const LINE_EVERY_MS: u64 = 5000;

/// Samples over which the rate of writing is taken.
const RATE_OVER: usize = 4;

/// Characters of a consumer's bar.
const BAR: usize = 24;

/// What is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Records are written.
    Load,
    /// All are written; not all are durable.
    Drain,
}

/// Shows a run.
#[derive(Debug)]
pub(super) struct Screen<'a> {
    output: &'a Output,
    setting: &'a Setting,
    /// Lines of the picture that is on the terminal.
    lines: usize,
    next_line_ms: u64,
    told_drain: bool,
    /// Time and bytes of the last looks, the latest at the end.
    written: Vec<(u64, u64)>,
}

impl<'a> Screen<'a> {
    pub(super) fn new(output: &'a Output, setting: &'a Setting) -> Self {
        let (lines, next_line_ms, told_drain) = (0, 0, false);
        Self { output, setting, lines, next_line_ms, told_drain, written: Vec::new() }
    }

    /// Shows a moment.
    pub(super) fn show(&mut self, act: Act, sample: &Sample, kills: usize) {
        if act == Act::Load {
            self.written.push((sample.at_ms, sample.written_bytes));
            if self.written.len() > RATE_OVER {
                self.written.remove(0);
            }
        }
        if self.output.is_live() {
            let picture = self.picture(act, sample, kills);
            output::redraw(self.lines, &picture);
            self.lines = picture.lines().count();
            return;
        }
        let is_due = act == Act::Load && sample.at_ms >= self.next_line_ms;
        let is_turn = act == Act::Drain && !self.told_drain;
        if is_due || is_turn {
            self.next_line_ms = sample.at_ms / LINE_EVERY_MS * LINE_EVERY_MS + LINE_EVERY_MS;
            self.told_drain |= is_turn;
            self.output.say(&self.line(act, sample, kills));
        }
    }

    fn rate(&self) -> u64 {
        let (Some(first), Some(last)) = (self.written.first(), self.written.last()) else {
            return 0;
        };
        let elapsed_ms = last.0.saturating_sub(first.0);
        last.1.saturating_sub(first.1).saturating_mul(1000).checked_div(elapsed_ms).unwrap_or(0)
    }

    fn line(&self, act: Act, sample: &Sample, kills: usize) -> String {
        let at = clock(sample.at_ms);
        let behind = seconds(sample.behind_ms);
        if act == Act::Drain {
            return format!("{at}  all is written; waiting until it is durable ({behind} behind)");
        }
        let killed = if kills == 0 { String::new() } else { format!(", {kills} killed") };
        format!(
            "{at}  {}/s written, {} consumers{killed}, {} hand-offs ({} in flight), {} plans, {behind} behind",
            bytes(self.rate()),
            sample.consumers.len(),
            sample.handoffs,
            sample.in_flight,
            sample.plans,
        )
    }

    fn picture(&self, act: Act, sample: &Sample, kills: usize) -> String {
        let mut text = String::new();
        let drawn = self.draw(&mut text, act, sample, kills);
        let text = drawn.map(|()| text).unwrap_or_default();
        Size::of_terminal().cut(&text)
    }

    fn draw(&self, text: &mut String, act: Act, sample: &Sample, kills: usize) -> std::fmt::Result {
        let total = u64::try_from(self.setting.args.duration.as_millis()).unwrap_or(u64::MAX);
        let what = match act {
            Act::Load => "",
            Act::Drain => "   all is written; waiting until it is durable",
        };
        writeln!(text, "\n  {} of {}{what}", clock(sample.at_ms), clock(total))?;
        writeln!(
            text,
            "  written    {:>10}/s   freshness  {:>7} behind",
            bytes(self.rate()),
            seconds(sample.behind_ms)
        )?;
        writeln!(
            text,
            "  hand-offs  {:>10}     in flight  {:>7}   plans {}   killed {kills}",
            sample.handoffs, sample.in_flight, sample.plans
        )?;
        writeln!(text, "  consumers  {:>10}", sample.consumers.len())?;
        let capacity = self.setting.capacity.get();
        for (consumer, load) in &sample.consumers {
            let share = load.bytes_per_sec.saturating_mul(100) / capacity;
            let filled = usize::try_from(share).unwrap_or(usize::MAX).saturating_mul(BAR) / 100;
            let filled = filled.min(BAR);
            let bar = "█".repeat(filled) + &"·".repeat(BAR - filled);
            let (load, partitions) = (bytes(load.bytes_per_sec), load.partitions);
            writeln!(
                text,
                "    {:>3}  {bar}  {share:>3} %  {load:>8}/s  {partitions} partitions",
                consumer.get()
            )?;
        }
        writeln!(text)
    }
}

fn clock(at_ms: u64) -> String {
    format!("{:02}:{:02}", at_ms / 60_000, at_ms / 1000 % 60)
}

fn seconds(ms: u64) -> String {
    format!("{}.{} s", ms / 1000, ms % 1000 / 100)
}

fn bytes(bytes: u64) -> String {
    let (unit, name) = match bytes {
        1_000_000.. => (1_000_000, "MB"),
        1000.. => (1000, "kB"),
        _ => return format!("{bytes} B"),
    };
    format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(["00:07", "12:05"], [clock(7999), clock(725_000)]);
        assert_eq!(seconds(1234), "1.2 s");
        assert_eq!([bytes(12), bytes(1500), bytes(20_960_000)], ["12 B", "1.5 kB", "20.9 MB"]);
    }
}
