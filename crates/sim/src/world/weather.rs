//! The weather: what can happen to anything at any time, as bad as the seed has it.

use std::time::Duration;

use super::queue::Moment;
use crate::rng::Rng;

/// Likelihoods in permille, and what is down until when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// How many times slower than usual the broker is.
    pub(super) slowness: u32,
    /// Appends that are lost, unacknowledged, late, applied twice, acknowledged slowly.
    pub(super) appends: [u32; 5],
    /// Commands that come late, and so after others that were sent later.
    pub(super) commands_late: u32,
    /// Questions for the end of a log that are not answered, and that are answered with what was true a while ago.
    pub(super) ends: [u32; 2],
    /// How many times slower than usual the sink is.
    pub(super) sink_slowness: u32,
    /// Writes to the sink that are lost, unacknowledged, late, answered with a failure.
    pub(super) writes: [u32; 4],
    /// Acquisitions that fail, that are answered when nobody waits for it any more, that need a person.
    pub(super) acquires: [u32; 3],
    /// Looks at a partition in which reading fails.
    pub(super) reads_failing: u32,
    /// Samples of the monitor that are missing.
    pub(super) samples_missing: u32,
    /// Calls to the workers' API that fail; half of them have been carried out.
    pub(super) api_failing: u32,
    /// Deaths that nobody tells the controllers.
    pub(super) deaths_unseen: u32,
    /// The longest that a worker takes to start its process.
    pub(super) slowest_start: Duration,
    pub(super) broker_down_until: Moment,
    pub(super) sink_down_until: Moment,
    pub(super) sink_slow_until: Moment,
    pub(super) monitor_down_until: Moment,
    pub(super) api_down_until: Moment,
}

impl Weather {
    pub(super) const FAIR: Self = Self {
        slowness: 1,
        appends: [0; 5],
        commands_late: 0,
        ends: [0; 2],
        sink_slowness: 1,
        writes: [0; 4],
        acquires: [0; 3],
        reads_failing: 0,
        samples_missing: 0,
        api_failing: 0,
        deaths_unseen: 0,
        slowest_start: Duration::from_secs(3),
        broker_down_until: Moment(0),
        sink_down_until: Moment(0),
        sink_slow_until: Moment(0),
        monitor_down_until: Moment(0),
        api_down_until: Moment(0),
    };

    /// Each likelihood is drawn for itself; a third of them are zero, so that every fault is seen without the others, too.
    pub(super) fn foul(intensity: u32, rng: &mut Rng) -> Self {
        let mut upto = |most: u32| {
            let worst = most * intensity / 1000;
            if rng.chance(333) {
                0
            } else {
                u32::try_from(rng.below(u64::from(worst) + 1)).unwrap_or(0)
            }
        };
        Self {
            slowness: 1 + upto(8),
            appends: [upto(30), upto(40), upto(30), upto(40), upto(10)],
            commands_late: upto(250),
            ends: [upto(30), upto(30)],
            sink_slowness: 1 + upto(20),
            writes: [upto(20), upto(30), upto(20), upto(20)],
            acquires: [upto(100), upto(50), upto(5)],
            reads_failing: upto(5),
            samples_missing: upto(100),
            api_failing: upto(500),
            deaths_unseen: upto(800),
            // From 5 s, as quick as a pod comes up where its image is, to 90 s, as slow as one that needs a new node.
            slowest_start: Duration::from_secs(5) + Duration::from_millis(u64::from(upto(85_000))),
            ..Self::FAIR
        }
    }
}
