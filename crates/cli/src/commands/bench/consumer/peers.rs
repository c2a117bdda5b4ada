//! Other programs that read Kafka, run on the same topics: what they say they have done, and what the system says they used.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::str::FromStr;

use anyhow::{Context as _, ensure};

use super::once::PATIENCE;
use crate::commands::bench::figures::Run;
use crate::commands::bench::usage::{now, watch};

/// A program to compare with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PeerKind {
    /// kcat, the command-line tool.
    Kcat,
    /// librdkafka's own benchmark.
    Perf,
    /// Kafka's own benchmark of its Java client.
    Java,
}

/// A program, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(super) kind: PeerKind,
    program: PathBuf,
}

/// What to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Task<'a> {
    pub(super) bootstrap: &'a str,
    pub(super) topic: &'a str,
    pub(super) records: u64,
    /// Which run it is: a group that has read a topic once does not begin again.
    pub(super) round: u32,
}

// === impl PeerKind ===

impl PeerKind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kcat => "kcat",
            Self::Perf => "perf",
            Self::Java => "java",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Kcat => "kcat",
            Self::Perf => "rdkafka_performance",
            Self::Java => "kafka-consumer-perf-test.sh",
        }
    }
}

// === impl Peer ===

/// `kcat`, or `kcat=/path/to/it`.
impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, program) = text.split_once('=').unwrap_or((text, ""));
        let kind = [PeerKind::Kcat, PeerKind::Perf, PeerKind::Java]
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or("expected kcat, perf or java, and behind a = where it is")?;
        let program = if program.is_empty() { kind.program() } else { program };
        Ok(Self { kind, program: program.into() })
    }
}

impl Peer {
    /// Lets the program read all of a topic.
    pub(super) fn run(&self, task: Task<'_>) -> anyhow::Result<Run> {
        let said = tempfile::NamedTempFile::new()?;
        let mut java_settings = tempfile::NamedTempFile::new()?;
        let mut command = Command::new(&self.program);
        let Task { bootstrap, topic, records, round } = task;
        let count = records.to_string();
        match self.kind {
            PeerKind::Kcat => {
                // Its values go nowhere, at the price of a system call for a buffer full of them.
                command.args(["-C", "-q", "-b", bootstrap, "-t", topic, "-o", "beginning"]);
                // It ends with the last record: to be told that there are no more takes half a second.
                command.args(["-c", &count]);
                command.stdout(Stdio::null());
            }
            PeerKind::Perf => {
                let group = format!("{topic}-perf-{round}");
                command.args(["-G", &group, "-t", topic, "-b", bootstrap, "-c", &count]);
                command.args(["-X", "auto.offset.reset=earliest"]);
                command.stdout(said.reopen()?);
            }
            PeerKind::Java => {
                use std::io::Write as _;
                writeln!(java_settings, "group.protocol=consumer")?;
                let group = format!("{topic}-java-{round}");
                command.args(["--bootstrap-server", bootstrap, "--topic", topic]);
                command.args(["--group", &group, "--messages", &count, "--timeout", "60000"]);
                command.arg("--consumer.config").arg(java_settings.path());
                command.stdout(said.reopen()?);
            }
        }
        let program = self.program.display();
        let mistakes = tempfile::NamedTempFile::new()?;
        command.stdin(Stdio::null()).stderr(mistakes.reopen()?);
        let began = now();
        let child = command.spawn().with_context(|| {
            format!(
                "failed to start {program}: install it, or say where it is with --peer {}=PATH",
                self.kind.name()
            )
        })?;
        let (cpu_seconds, rss_peak_mib, worked) = watch(child, PATIENCE)?;
        let whole = began.elapsed().as_secs_f64();
        let read = |file: &tempfile::NamedTempFile| std::fs::read_to_string(file.path());
        let (said, mistakes) = (read(&said)?, read(&mistakes)?);
        ensure!(worked, "{program} has failed: {}{}", mistakes.trim(), said.trim());
        let seconds = match self.kind {
            PeerKind::Kcat => Some(whole),
            PeerKind::Perf => perf_seconds(&said, records)?,
            PeerKind::Java => java_seconds(&said, records)?,
        };
        let seconds = seconds.with_context(|| format!("{program} said no result: {said}"))?;
        Ok(Run { seconds, cpu_seconds, rss_peak_mib })
    }
}

/// "% 5000000 messages (…) consumed in 1234ms: 4051863 msgs/s …"
fn perf_seconds(said: &str, records: u64) -> anyhow::Result<Option<f64>> {
    let Some((before, rest)) = said.rsplit_once(" consumed in ") else { return Ok(None) };
    let read = before.rsplit_once("% ").and_then(|(_, read)| read.split_once(' ')?.0.parse().ok());
    let read: u64 = read.context("it does not say how many records it read")?;
    ensure!(read >= records, "it read {read} of {records} records");
    let ms: Option<u32> = rest.split_once("ms").and_then(|(ms, _)| ms.trim().parse().ok());
    Ok(ms.map(|ms| f64::from(ms) / 1000.0))
}

/// A line of titles and a line of figures, with commas between. What it takes to join the group is not counted.
fn java_seconds(said: &str, records: u64) -> anyhow::Result<Option<f64>> {
    let lines: Vec<Vec<&str>> =
        said.lines().map(|line| line.split(',').map(str::trim).collect()).collect();
    let Some(title) = lines.iter().position(|line| line.contains(&"fetch.time.ms")) else {
        return Ok(None);
    };
    let of = |name: &str| {
        let column = lines.get(title)?.iter().position(|title| *title == name)?;
        lines.get(title + 1)?.get(column)?.parse::<f64>().ok()
    };
    if let Some(read) = of("data.consumed.in.nMsg") {
        // It takes whole polls.
        #[expect(clippy::cast_precision_loss, reason = "numbers of records are far below 2^52")]
        let wanted = records as f64;
        ensure!(read >= wanted, "it read {read} of {records} records");
    }
    Ok(of("fetch.time.ms").map(|ms| ms / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_named_with_or_without_their_place() {
        let peer: Peer = "kcat".parse().unwrap();
        assert_eq!((peer.kind, peer.program), (PeerKind::Kcat, "kcat".into()));
        let peer: Peer = "java=/opt/kafka/test".parse().unwrap();
        assert_eq!((peer.kind, peer.program), (PeerKind::Java, "/opt/kafka/test".into()));
        assert!("cat".parse::<Peer>().unwrap_err().contains("kcat, perf or java"));
    }

    #[test]
    fn what_the_programs_say_is_understood() {
        let said = "% 500 messages (50000 bytes) consumed in 250ms: 2000 msgs/s (0.20 MB/s)\n";
        assert_eq!(perf_seconds(said, 500).unwrap(), Some(0.25));
        assert!(perf_seconds(said, 501).is_err());
        assert_eq!(perf_seconds("nothing", 1).unwrap(), None);
        let said = "start.time, data.consumed.in.nMsg, rebalance.time.ms, fetch.time.ms\n1, 500, 300, 2000\n";
        assert_eq!(java_seconds(said, 500).unwrap(), Some(2.0));
        assert!(java_seconds(said, 501).is_err());
        assert_eq!(java_seconds("", 1).unwrap(), None);
    }
}
