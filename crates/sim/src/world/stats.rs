//! What happened in numbers, in one world or in many.

use std::collections::BTreeMap;
use std::time::Duration;

/// What happened in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events.
    pub events: u64,
    /// Steps of state machines.
    pub steps: u64,
    /// Faults that struck, by kind.
    pub faults: BTreeMap<String, u64>,
    /// Partitions that changed hands by Stop, `StopConsumingEvent`, Grant, Start.
    pub handoffs: u64,
    /// The same as the controllers noted it.
    pub handoffs_seen: u64,
    /// Partitions that were taken up after their owner's end.
    pub recoveries: u64,
    /// Incarnations fenced for silence.
    pub fences: u64,
    /// Incarnations fenced because their process was known to be dead.
    pub deaths: u64,
    /// Incarnations ended by a later Hello.
    pub hellos_with_proof: u64,
    /// Reigns that ended by another one's beginning.
    pub takeovers: u64,
    /// Snapshots that were read back and right.
    pub snapshots: u64,
    /// Logs that were trimmed.
    pub trims: u64,
    /// Readers of the ledger that found out that records were gone.
    pub losses_noticed: u64,
    /// Readers of the ledger that were to read what had been deleted.
    pub overtaken: u64,
    /// Generations that were begun after the first.
    pub renewals: u64,
    /// Answers to `StateQuery`.
    pub states: u64,
    /// Drains of consumers that held something.
    pub drains: u64,
    /// Plans that took partitions from a consumer that was to be left though nobody was ready to have them.
    pub withdrawals: u64,
    /// Partitions whose sink was behind the ledger, as often as it was said.
    pub sinks_behind: u64,
    /// Plans in the ledger.
    pub plans: u64,
    /// Decisions, also those that moved nothing.
    pub decisions: u64,
    /// Times that no plan could be made.
    pub infeasible: u64,
    /// Lives that began.
    pub lives: u64,
    /// Lives that began in a generation of the ledger that was over, and ended when they were told.
    pub misled: u64,
    /// Lives that lapsed.
    pub lapses: u64,
    /// Consumers that left without having given everything back.
    pub unclean_exits: u64,
    /// Second processes of one consumer.
    pub rogues: u64,
    /// Durable writes.
    pub writes: u64,
    /// Writes that the sink refused.
    pub refused_writes: u64,
    /// Records that a sink which compares nothing got again.
    pub repeated: u64,
    /// Alarms about the sink, and about reading.
    pub alarms: u64,
    /// Partitions that stopped because retention had overtaken them.
    pub out_of_range: u64,
    /// Gaps that somebody decided to leave.
    pub gaps: u64,
    /// Records in them.
    pub skipped: u64,
    /// Calls to the workers' API that failed.
    pub api_failures: u64,
    /// Records of the ledger that changed nothing, by reason.
    pub ignored: BTreeMap<String, u64>,
    /// How long after the last fault everything was well again.
    pub recovered_after: Option<Duration>,
}

impl Stats {
    /// Counts what happened in another world, too. Of the recoveries the slowest is kept.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.counters().into_iter().zip(other.clone().counters()) {
            *sum += *more;
        }
        self.recovered_after = self.recovered_after.max(other.recovered_after);
        for (sums, more) in [(&mut self.faults, &other.faults), (&mut self.ignored, &other.ignored)]
        {
            for (name, count) in more {
                *sums.entry(name.clone()).or_default() += count;
            }
        }
    }

    fn counters(&mut self) -> [&mut u64; 34] {
        [
            &mut self.events,
            &mut self.steps,
            &mut self.handoffs,
            &mut self.handoffs_seen,
            &mut self.recoveries,
            &mut self.fences,
            &mut self.deaths,
            &mut self.hellos_with_proof,
            &mut self.takeovers,
            &mut self.snapshots,
            &mut self.trims,
            &mut self.losses_noticed,
            &mut self.overtaken,
            &mut self.renewals,
            &mut self.states,
            &mut self.drains,
            &mut self.withdrawals,
            &mut self.sinks_behind,
            &mut self.plans,
            &mut self.decisions,
            &mut self.infeasible,
            &mut self.lives,
            &mut self.misled,
            &mut self.lapses,
            &mut self.unclean_exits,
            &mut self.rogues,
            &mut self.writes,
            &mut self.refused_writes,
            &mut self.repeated,
            &mut self.alarms,
            &mut self.out_of_range,
            &mut self.gaps,
            &mut self.skipped,
            &mut self.api_failures,
        ]
    }
}
