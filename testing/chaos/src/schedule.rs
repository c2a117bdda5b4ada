//! Which faults come when: a pure function of the seed.
//!
//! Three lanes run beside each other, each with one fault at a time, so that at most three overlap: those of consumers
//! that take long, those of consumers that are short, and those of what all share. A lane goes through its faults in
//! an order that the seed decides, and begins anew as long as there is time.
//!
//! The seed repeats the schedule and not the outcome: whom a fault meets depends on who owns partitions then.

use std::time::Duration;

use crate::fault::{Fault, Kind};
use crate::proxy::Direction;
use crate::random::Random;
use crate::setting::Clocks;

/// The load alone, before the first fault and after the last: the group must be seen well at both ends.
const QUIET: Duration = Duration::from_secs(10);

/// What a lane waits between two faults: a hand-off takes a second, and some are to meet a group that has not recovered.
const SHORT_GAP: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));
const LONG_GAP: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(12));

/// How many different consumers may be dead or still at a time, by the lanes that strike them.
pub(crate) const LANES: usize = 3;

/// A fault and when it begins, counted from the beginning of the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) at: Duration,
    pub(crate) fault: Fault,
}

/// What a schedule depends on.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// How long the load runs.
    pub(crate) duration: Duration,
    pub(crate) clocks: Clocks,
    /// Whether a disk can be filled up.
    pub(crate) full_disk: bool,
    /// Not all kinds beside each other, but these alone, one at a time.
    pub(crate) only: Vec<Kind>,
}

impl Plan {
    /// The faults of each lane, in their order.
    pub(crate) fn lanes(&self) -> [Vec<Planned>; LANES] {
        if !self.only.is_empty() {
            let calm = (self.clocks.fence, self.clocks.fence * 5 / 4);
            return [self.lane(1, calm, Self::chosen), Vec::new(), Vec::new()];
        }
        [
            self.lane(1, LONG_GAP, Self::long),
            self.lane(2, SHORT_GAP, Self::short),
            self.lane(3, LONG_GAP, Self::shared),
        ]
    }

    fn lane(
        &self,
        number: u64,
        gap: (Duration, Duration),
        round: fn(&Self, &mut Random) -> Vec<Fault>,
    ) -> Vec<Planned> {
        let mut random = Random::new(self.seed, number);
        let end = self.duration.saturating_sub(QUIET);
        let mut at = QUIET;
        let mut lane = Vec::new();
        loop {
            let mut faults = round(self, &mut random);
            random.shuffle(&mut faults);
            for fault in faults {
                at += random.between(gap.0, gap.1);
                if at + fault.span() > end {
                    return lane;
                }
                // Left out, and not replaced: a seed means the same with and without the right to mount.
                if self.full_disk || fault.kind() != Kind::FullDisk {
                    lane.push(Planned { at, fault });
                }
                at += fault.span();
            }
        }
    }

    /// All of the chosen kinds.
    fn chosen(&self, random: &mut Random) -> Vec<Fault> {
        let mut faults = [self.long(random), self.short(random), self.shared(random)].concat();
        faults.retain(|fault| self.only.contains(&fault.kind()));
        faults
    }

    /// Consumers that are away for longer than a lease or a fence.
    fn long(&self, random: &mut Random) -> Vec<Fault> {
        let lease = self.clocks.lease;
        let death = random.between(Duration::from_secs(26), Duration::from_secs(30));
        vec![
            Fault::Death { for_: death.max(self.clocks.fence + Duration::from_secs(6)) },
            Fault::Sigstop { for_: lease * 2 },
            Fault::Sigstop { for_: lease * 6 },
        ]
    }

    /// Consumers that are soon back.
    fn short(&self, random: &mut Random) -> Vec<Fault> {
        let lease = self.clocks.lease;
        let mut restart = || Fault::Sigkill {
            restart_after: random.between(Duration::ZERO, Duration::from_secs(5)),
        };
        let mut faults = vec![restart(), restart(), Fault::Sigstop { for_: lease / 2 }];
        faults.push(Fault::Sigterm {
            consumers: 2 + random.below(2),
            again_after: random.between(Duration::from_secs(2), Duration::from_secs(6)),
        });
        faults.push(Fault::BlackHole { for_: random.between(lease / 2, lease * 2) });
        faults.push(Fault::Delay {
            each: random.between(Duration::from_millis(50), Duration::from_millis(800)),
            for_: random.between(Duration::from_secs(5), Duration::from_secs(10)),
        });
        let lost = if random.below(2) == 0 { Direction::ToBroker } else { Direction::ToConsumer };
        faults.push(Fault::HalfOpen { lost, for_: random.between(lease / 2, lease * 2) });
        faults.push(Fault::SinkOutage {
            for_: random.between(Duration::from_secs(2), Duration::from_secs(7)),
        });
        let for_ = random.between(Duration::from_secs(5), Duration::from_secs(9));
        faults.push(Fault::FullDisk { for_ });
        faults
    }

    /// What the whole group depends on.
    fn shared(&self, random: &mut Random) -> Vec<Fault> {
        let successor = self.clocks.elect_after;
        let more = random.between(Duration::from_secs(3), Duration::from_secs(6));
        vec![
            Fault::ControllerKill { restart_after: successor + more },
            Fault::ControllerStop { for_: successor * 2 + more },
            Fault::BrokerKill {
                for_: random.between(Duration::from_secs(5), Duration::from_secs(12)),
            },
        ]
    }
}

/// All faults in the order in which they begin.
pub(crate) fn merged(lanes: &[Vec<Planned>]) -> Vec<Planned> {
    let mut all: Vec<Planned> = lanes.iter().flatten().copied().collect();
    all.sort_by_key(|planned| planned.at);
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn plan(seed: u64, minutes: u64) -> Plan {
        let duration = Duration::from_secs(minutes * 60);
        let clocks = Clocks::for_run(duration, false);
        Plan { seed, duration, clocks, full_disk: true, only: Vec::new() }
    }

    #[test]
    fn a_seed_repeats_its_schedule() {
        assert_eq!(plan(5, 3).lanes(), plan(5, 3).lanes());
        assert_ne!(plan(5, 3).lanes(), plan(6, 3).lanes());
    }

    #[test]
    fn three_minutes_are_enough_for_every_kind() {
        for seed in 0..500 {
            for minutes in [3, 10] {
                let all = merged(&plan(seed, minutes).lanes());
                let kinds: BTreeSet<Kind> =
                    all.iter().map(|planned| planned.fault.kind()).collect();
                assert_eq!(kinds.len(), Kind::ALL.len(), "seed {seed}, {minutes} minutes");
            }
        }
    }

    #[test]
    fn faults_of_a_lane_do_not_overlap_and_end_before_the_load() {
        for lane in plan(9, 10).lanes() {
            assert!(lane.windows(2).all(|pair| pair[0].at + pair[0].fault.span() < pair[1].at));
            let last = lane.last().unwrap();
            assert!(last.at + last.fault.span() <= Duration::from_secs(590));
        }
    }

    #[test]
    fn chosen_kinds_come_alone_and_one_at_a_time() {
        let only = vec![Kind::Death, Kind::Sigkill];
        let plan = Plan { only, clocks: Clocks::for_run(Duration::ZERO, true), ..plan(3, 10) };
        let all = merged(&plan.lanes());
        assert!(all.len() > 5);
        assert!(all.iter().all(|planned| plan.only.contains(&planned.fault.kind())));
        let quiet =
            |pair: &[Planned]| pair[1].at >= pair[0].at + pair[0].fault.span() + plan.clocks.fence;
        assert!(all.windows(2).all(quiet), "the group is well again in between");
    }

    #[test]
    fn a_disk_that_cannot_be_filled_is_left_out_and_changes_nothing_else() {
        let without = merged(&Plan { full_disk: false, ..plan(1, 10) }.lanes());
        let mut all = merged(&plan(1, 10).lanes());
        assert!(all.iter().any(|planned| planned.fault.kind() == Kind::FullDisk));
        all.retain(|planned| planned.fault.kind() != Kind::FullDisk);
        assert_eq!(without, all);
    }
}
