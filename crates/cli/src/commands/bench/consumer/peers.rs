//! Other programs that read Kafka, run on the same topics: what they say they have done, and what the system says they used.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;

use super::once::PATIENCE;

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Ticks in a second, in which Linux tells of CPU time whatever its own clock is.
const TICKS: f64 = 100.0;

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

/// What a process did and used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Run {
    /// As the program itself counts, where it does; else of the whole process.
    pub(super) seconds: f64,
    /// Of the whole process.
    pub(super) cpu_seconds: f64,
    pub(super) rss_peak_mib: u64,
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
                command.args(["-C", "-q", "-e", "-b", bootstrap, "-t", topic, "-o", "beginning"]);
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
            PeerKind::Perf => perf_seconds(&said),
            PeerKind::Java => java_seconds(&said, records)?,
        };
        let seconds = seconds.with_context(|| format!("{program} said no result: {said}"))?;
        Ok(Run { seconds, cpu_seconds, rss_peak_mib })
    }
}

#[expect(clippy::disallowed_methods, reason = "what other programs take is real time")]
fn now() -> Instant {
    Instant::now()
}

/// Waits for the end of a process, and tells its CPU seconds, its peak of memory, and whether it ended well. Between its end and the
/// wait its figures are still there.
pub(super) fn watch(mut child: Child, patience: Duration) -> anyhow::Result<(f64, u64, bool)> {
    let began = now();
    let pid = child.id();
    let mut peak = 0;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
            .context("only Linux tells what other processes use")?;
        let status = File::open(format!("/proc/{pid}/status")).and_then(std::io::read_to_string);
        peak = status.ok().and_then(|status| high_water(&status)).unwrap_or(0).max(peak);
        let (state, cpu) = of_stat(&stat).context("/proc/PID/stat is not as expected")?;
        if state == 'Z' {
            return Ok((cpu, peak >> 20, child.wait()?.success()));
        }
        if began.elapsed() > patience {
            child.kill()?;
            child.wait()?;
            bail!("a run took longer than {patience:?}");
        }
        std::thread::park_timeout(LOOK);
    }
}

/// State and CPU seconds; the name before them is in parentheses and may hold anything.
fn of_stat(stat: &str) -> Option<(char, f64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ticks = |field: Option<&str>| field?.parse::<u32>().ok().map(f64::from);
    // utime and stime are the 14th and 15th field of all, the state is the third.
    let (user, system) = (ticks(fields.nth(10))?, ticks(fields.next())?);
    Some((state, (user + system) / TICKS))
}

fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// "% 5000000 messages (…) consumed in 1234ms: 4051863 msgs/s …"
fn perf_seconds(said: &str) -> Option<f64> {
    let (_, rest) = said.rsplit_once(" consumed in ")?;
    let ms: u32 = rest.split_once("ms")?.0.trim().parse().ok()?;
    Some(f64::from(ms) / 1000.0)
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
        assert_eq!(perf_seconds(said), Some(0.25));
        assert_eq!(perf_seconds("nothing"), None);
        let said = "start.time, data.consumed.in.nMsg, rebalance.time.ms, fetch.time.ms\n1, 500, 300, 2000\n";
        assert_eq!(java_seconds(said, 500).unwrap(), Some(2.0));
        assert!(java_seconds(said, 501).is_err());
        assert_eq!(java_seconds("", 1).unwrap(), None);
    }

    #[test]
    fn what_a_process_used_is_known_after_its_end() {
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"]);
        let (cpu, peak, worked) = watch(command.spawn().unwrap(), Duration::from_mins(1)).unwrap();
        assert!(worked && cpu > 0.0 && peak < 1000, "{cpu} s, {peak} MiB");
        let command = Command::new("false").spawn().unwrap();
        assert!(!watch(command, Duration::from_mins(1)).unwrap().2);
    }
}
