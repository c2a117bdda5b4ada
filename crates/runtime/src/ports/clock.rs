//! The only two clocks that Tidegate reads.

use std::time::Duration;

use tidegate_core::ids::Instant;

/// Tells the time; tests and the simulator bring their own.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Time since boot, suspended time included: what leases and deadlines are counted on.
    fn now(&self) -> Instant;

    /// Milliseconds since the Unix epoch: for people and for ages of records, never for a decision about ownership.
    fn unix_ms(&self) -> u64;
}

/// The machine's clocks: `CLOCK_BOOTTIME`, and the wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct BootClock;

impl Clock for BootClock {
    fn now(&self) -> Instant {
        Instant::since_boot(read(rustix::time::ClockId::Boottime))
    }

    fn unix_ms(&self) -> u64 {
        u64::try_from(read(rustix::time::ClockId::Realtime).as_millis()).unwrap_or(u64::MAX)
    }
}

fn read(clock: rustix::time::ClockId) -> Duration {
    Duration::try_from(rustix::time::clock_gettime(clock)).unwrap_or_default()
}
