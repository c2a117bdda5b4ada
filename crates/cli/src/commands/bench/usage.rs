//! What processes use, this one and others, as the system counts it.

use std::fs::File;
use std::process::Child;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rustix::time::{ClockId, clock_gettime};

use super::figures::Run;

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// Ticks in a second, in which Linux tells of CPU time whatever its own clock is.
const TICKS: f64 = 100.0;

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) now: u64,
    /// The most there was at any time.
    pub(super) peak: u64,
}

/// Time on all cores together.
pub(super) fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let nanos = u32::try_from(used.tv_nsec).unwrap_or_default();
    Duration::new(u64::try_from(used.tv_sec).unwrap_or_default(), nanos)
}

/// `None` where the system does not tell it in Linux's way.
pub(super) fn memory() -> Option<Memory> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some(Memory { now: bytes(&status, "VmRSS:")?, peak: bytes(&status, "VmHWM:")? })
}

/// Measures what this process uses for a piece of work. Its memory is what it takes beyond what was there: other work may have left
/// some that is used again.
pub(super) struct Meter {
    began: Instant,
    used: Duration,
    held: u64,
}

impl Meter {
    pub(super) fn start() -> Self {
        // The peak begins anew.
        if let Err(error) = std::fs::write("/proc/self/clear_refs", "5") {
            tracing::debug!(%error, "the peak of memory is that of all runs so far");
        }
        let held = memory().map_or(0, |memory| memory.now);
        Self { began: now(), used: cpu(), held }
    }

    pub(super) fn stop(self) -> Run {
        Run {
            seconds: self.began.elapsed().as_secs_f64(),
            cpu_seconds: cpu().saturating_sub(self.used).as_secs_f64(),
            rss_peak_mib: memory().map_or(0, |memory| memory.peak.saturating_sub(self.held) >> 20),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what is measured is real time")]
pub(super) fn now() -> Instant {
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
        peak = status.ok().and_then(|status| bytes(&status, "VmHWM:")).unwrap_or(0).max(peak);
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

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_has_used_something() {
        let memory = memory().unwrap();
        assert!(memory.now > 1 << 20 && memory.peak >= memory.now);
        assert!(cpu() > Duration::ZERO);
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
