//! What is explored: worlds that begin in a settled state, with a few faults to spend in any order at any moment.
//!
//! One world in which everything goes wrong would be too large to be explored to its end. So each configuration is small
//! and about one thing, and together they reach everything: what must be reached somewhere is checked over all of them.

use std::collections::BTreeSet;

use crate::action::Fate;
use crate::configurations;
use crate::sink::SinkKind;

/// What may still go wrong, and how often.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Faults of appends: one more copy, an unknown outcome, an arrival out of order or after its sender gave up, a late
    /// acknowledgement; and writes to the sink that are given up.
    pub faults: u8,
    /// Faults of commands: they overtake each other, or are lost.
    pub command_faults: u8,
    /// Time passes for everybody.
    pub passes: u8,
    /// Time passes for one process only.
    pub lapses: u8,
    /// A process dies.
    pub crashes: u8,
    /// A process of a consumer starts in the directory of one that died.
    pub restarts: u8,
    /// A second process of consumer 1 starts, in a directory of its own.
    pub twins: u8,
    /// The settings change, so that a partition must move from consumer 1 to consumer 2.
    pub respecs: u8,
    /// A process will never read again, or nothing that it sends will ever arrive.
    pub cuts: u8,
    /// Someone with the term's authority and a wrong idea of the fold appends a Grant or a fence.
    pub forgeries: u8,
    /// A process is told to end.
    pub shutdowns: u8,
    /// The ledger loses records that were acknowledged and read.
    pub losses: u8,
    /// Another controller starts.
    pub arrivals: u8,
}

/// What the ledger can lose at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// So many records at its end, whose offsets are given again: a leader took office that had not got them.
    Tail(u64),
    /// Everything, and the commands with it: the topic was deleted and made again.
    Topic,
}

/// What takes its time in some configurations only. What is always explored: when consumers read, and when records that
/// ownership follows from arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Matter {
    /// Commands are in flight; else they arrive as soon as they are sent, and are read as late as may be.
    Commands,
    /// Heartbeats, Ticks and Progress are in flight.
    Beats,
    /// Hellos are in flight, and can fail there.
    Hellos,
    /// What else consumers append about ownership is in flight, and can fail there.
    Events,
    /// What controllers append about ownership is in flight, and can fail there.
    Grants,
    /// Processes stand still while time passes; else they look at once what it brings.
    Stalls,
    /// Batches are gathered and written.
    Writes,
    /// Controllers read late; else they read whatever is appended at once.
    Lag,
}

/// Whose appends to the ledger can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// Those of all processes.
    Everybody,
    /// Those of controllers.
    Controllers,
    /// Those of consumers.
    Consumers,
}

/// A configuration.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Data partitions.
    pub partitions: u32,
    /// Records in each of them.
    pub records: u64,
    /// Controllers.
    pub controllers: u8,
    /// Consumers.
    pub consumers: u32,
    /// What has happened before.
    pub begins: Begin,
    /// What may go wrong.
    pub budget: Budget,
    /// How much time passes at once, in seconds.
    pub spans: &'static [u64],
    /// What can become of an append, where that costs a fault.
    pub fates: &'static [Fate],
    /// What can become of a command, where that costs a fault.
    pub command_fates: &'static [Fate],
    /// Whose appends can fail.
    pub failing: Failing,
    /// What may take its time. Everything else of this kind happens at once.
    pub explores: BTreeSet<Matter>,
    /// What the ledger can lose, where that costs a loss.
    pub losses: &'static [Loss],
    /// Offsets from one mark of the ledger to the next, where controllers write snapshots.
    pub marks: Option<u64>,
    /// Which sink.
    pub sink: SinkKind,
    /// P5 is tried from one state in so many, and from every state in which nothing more can happen.
    pub recovery_every: u64,
}

/// Where a configuration begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// With an empty ledger, and processes that have just started.
    Empty,
    /// With a controller in office and consumers that live, and nothing granted.
    Elected,
    /// When everything has settled: consumer 1 owns all partitions.
    Settled,
}

impl Scenario {
    pub(crate) fn explores(&self, matter: Matter) -> bool {
        self.explores.contains(&matter)
    }

    /// P3 is about clocks that run alike, and about a ledger that loses nothing, or only what the controller has read that
    /// goes on with what is left.
    pub(crate) fn claims_are_alone(&self) -> bool {
        let unread = self.explores(Matter::Lag) || self.budget.crashes > 0;
        self.budget.lapses == 0 && !(self.budget.losses > 0 && unread)
    }

    /// The configurations that are explored to their end.
    pub fn all() -> Vec<Self> {
        configurations::all()
    }

    /// The same with one more of each kind of fault that they have, and with controllers that read late: larger than can
    /// be explored to their end.
    pub fn deep() -> Vec<Self> {
        Self::all().into_iter().map(Self::enlarged).collect()
    }

    fn enlarged(self) -> Self {
        let more = |count: u8| if count > 0 { count + 1 } else { 0 };
        let budget = Budget {
            faults: more(self.budget.faults),
            command_faults: more(self.budget.command_faults),
            passes: more(self.budget.passes),
            crashes: more(self.budget.crashes),
            restarts: more(self.budget.restarts),
            ..self.budget
        };
        let explores = self.explores.iter().copied().chain([Matter::Lag]).collect();
        Self { budget, explores, ..self }
    }
}
