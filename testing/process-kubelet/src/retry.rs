//! How long to wait before something is tried again.

use std::time::Duration;

use kube::runtime::utils::Backoff;
use tokio::time::Instant;

/// Between attempts to write something to the API server.
pub(crate) const RETRY: Duration = Duration::from_millis(500);

/// Waits 0.2 s to 1.6 s between watch attempts. The default grows to 30 s, which leaves a node blind long after a short
/// outage of the API server.
#[derive(Debug, Default)]
pub(crate) struct WatchBackoff {
    attempts: u32,
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.attempts = (self.attempts + 1).min(4);
        Some(Duration::from_millis(100 << self.attempts))
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        self.attempts = 0;
    }
}

const LONGEST_DELAY: Duration = Duration::from_secs(300);
/// What ran this long begins again with the first delay.
const STABLE_AFTER: Duration = Duration::from_secs(600);

/// The delays of a kubelet: after a container's first end none, then doubling.
#[derive(Debug)]
pub(crate) struct CrashBackoff {
    first: Duration,
    next: Duration,
}

// === impl CrashBackoff ===

impl CrashBackoff {
    /// Begins without a delay.
    pub(crate) fn new(first: Duration) -> Self {
        Self { first, next: Duration::ZERO }
    }

    /// The delay after what began at `began` has ended.
    pub(crate) fn after_run(&mut self, began: Instant) -> Duration {
        if began.elapsed() > STABLE_AFTER {
            self.next = Duration::ZERO;
        }
        self.advance()
    }

    /// The delay after a failure to begin at all.
    pub(crate) fn after_failure(&mut self) -> Duration {
        self.next = self.next.max(self.first);
        self.advance()
    }

    fn advance(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).clamp(self.first, LONGEST_DELAY.max(self.first));
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_others_double() {
        let mut backoff = CrashBackoff::new(Duration::from_secs(10));
        let now = Instant::now();
        let delays: Vec<u64> = (0..8).map(|_| backoff.after_run(now).as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn a_failure_to_start_is_never_repeated_at_once() {
        let mut backoff = CrashBackoff::new(Duration::from_secs(10));
        assert_eq!(backoff.after_failure(), Duration::from_secs(10));
        assert_eq!(backoff.after_failure(), Duration::from_secs(20));
    }
}
