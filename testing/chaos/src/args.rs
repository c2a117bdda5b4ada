//! The command line.

use std::num::{NonZeroU32, NonZeroU64};

use clap::{Parser, ValueEnum};
use tidegate_runtime::spec::Rate;

use crate::fault::Kind;

/// Runs a group of real processes under real faults, and audits every record at the end.
#[derive(Clone, Debug, Parser)]
#[command(name = "chaos", bin_name = "cargo xtask chaos")]
pub(crate) struct Args {
    /// Three nodes of the embedded broker, or of Apache Kafka.
    #[arg(long, value_enum, default_value_t = BrokerKind::Embedded)]
    pub(crate) broker: BrokerKind,
    /// For how long records are written and faults come.
    #[arg(long, default_value = "3", value_name = "N")]
    pub(crate) minutes: NonZeroU32,
    /// Repeats the schedule of faults of another run.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// What is written in a second to all partitions together, at the most.
    #[arg(long, default_value = "2MB/s", value_parser = Rate::parse)]
    pub(crate) rate: NonZeroU64,
    /// Only faults of these kinds, one at a time, and the default clocks: what one fault costs by itself.
    #[arg(long, value_enum, value_delimiter = ',', value_name = "KIND,...")]
    pub(crate) only: Vec<Kind>,
    /// Text, or one JSON object in the last line of standard output.
    #[arg(long, value_enum, default_value_t = OutputFormat::Text)]
    pub(crate) output: OutputFormat,
    /// Keeps logs, state and sink also when all is well.
    #[arg(long)]
    pub(crate) keep: bool,
}

/// What the group runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum BrokerKind {
    /// The embedded broker.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

impl Args {
    /// The command that repeats a run.
    pub(crate) fn repeat(&self, seed: u64) -> String {
        let broker = match self.broker {
            BrokerKind::Embedded => "embedded",
            BrokerKind::Kafka => "kafka",
        };
        let (minutes, rate) = (self.minutes, Rate::print(self.rate));
        let kinds: Vec<_> = self.only.iter().map(|kind| kind.name()).collect();
        let only =
            if kinds.is_empty() { String::new() } else { format!(" --only {}", kinds.join(",")) };
        format!(
            "cargo xtask chaos --broker {broker} --minutes {minutes} --seed {seed} --rate {rate}{only}"
        )
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_do_not_contradict_each_other() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_run_can_be_repeated_by_its_command() {
        let words = ["chaos", "--broker", "kafka", "--minutes", "10", "--only", "death,sigkill"];
        let args = Args::try_parse_from(words).unwrap();
        let command = args.repeat(7);
        let again = Args::try_parse_from(command.split(' ').skip(2)).unwrap();
        assert_eq!((again.broker, again.minutes, again.seed), (args.broker, args.minutes, Some(7)));
        assert_eq!((again.rate, again.only), (args.rate, vec![Kind::Death, Kind::Sigkill]));
    }
}
