//! What goes into the controller's step function and what comes out of it.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;

use super::planning::Explanation;
use crate::ids::{
    ConsumerNumber, Generation, Incarnation, Offset, PartitionId, Position, ProcessId, TopicId,
};
use crate::ledger::{Command, Entry, Ignored};
use crate::{consumer, demand, rates};

/// Whether the controller acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// It measures, plans and explains, and acts on nothing.
    Observe,
    /// It does everything.
    Own,
}

/// The controller's settings, from the spec.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Whether it acts.
    pub mode: Mode,
    /// How long a consumer's lease lasts: a consumer not heard for longer is granted nothing.
    pub lease: Duration,
    /// How long after its last heartbeat was read an incarnation is suspected; longer than the lease.
    pub fence: Duration,
    /// Time between signs of life of the controller itself.
    pub tick: Duration,
    /// Silence of the current term after which this process stands for election; the shell adds jitter.
    pub elect_after: Duration,
    /// Something else has decided that this process is to lead, as a Lease does: its first election waits for no silence, and
    /// deposes whoever leads.
    pub deposes: bool,
    /// Generation to begin a ledger with: unix seconds.
    pub genesis: Generation,
    /// Offsets from one mark in the ledger to the next: at a mark every reader keeps the fold, to write a snapshot of it
    /// or to compare it with one.
    pub mark_every: u64,
    /// Shortest time between two snapshots.
    pub snapshot_pause: Duration,
    /// Pause before a command or a record that was not answered is sent again.
    pub resend: Duration,
    /// How long a consumer that lost its process may take to come back before its partitions go elsewhere.
    pub restart_grace: Duration,
    /// How long a new worker may take until its Hello.
    pub start_deadline: Duration,
    /// How long a consumer that was late or silent is not planned with, unless it comes back.
    pub late_penalty: Duration,
    /// How long partitions of a consumer that is to be left wait for another one to be ready. Then they are given up first.
    pub evacuation_deadline: Duration,
    /// How long a write in flight may take after a Stop.
    pub write_timeout: Duration,
    /// What to pack by and when.
    pub demand: demand::Settings,
}

impl Settings {
    /// A controller that acts, with the clocks of the consumers' defaults and of the specification's. A ledger has to be
    /// begun in some generation, for which there is no default.
    pub fn usual(genesis: Generation) -> Self {
        let consumer = consumer::Settings::default();
        Self {
            mode: Mode::Own,
            lease: consumer.lease,
            fence: Duration::from_secs(20),
            tick: Duration::from_secs(2),
            elect_after: Duration::from_secs(12),
            deposes: false,
            genesis,
            mark_every: 4096,
            snapshot_pause: Duration::from_secs(60),
            resend: Duration::from_secs(1),
            restart_grace: Duration::from_secs(6),
            start_deadline: Duration::from_secs(60),
            late_penalty: Duration::from_secs(60),
            evacuation_deadline: Duration::from_secs(10),
            write_timeout: consumer.write_timeout,
            demand: demand::Settings::default(),
        }
    }
}

/// What happens to a controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// The ledger is read anew from this offset, the first that is left.
    LedgerOpened(Offset),
    /// The ledger has lost records that were read before, or its topic was made anew. It is opened again.
    LedgerLost,
    /// Answer to [`Effect::LookForTraces`]: whether there are any.
    Traces(bool),
    /// Records of the ledger, in order; `None` for one that could not be decoded.
    Ledger(Vec<(Offset, Option<Entry>)>),
    /// Answer to [`Effect::FetchLedgerEnd`] with its id; `None` when it failed.
    LedgerEnd(u64, Option<Offset>),
    /// What the monitor measured of a topic.
    Rates(TopicId, rates::TopicReport),
    /// Answer to [`Effect::CheckTopics`]: those that do not exist any more. Others exist, or it could not be found out.
    TopicsGone(BTreeSet<TopicId>),
    /// Answer to [`Effect::ResolveStarts`]: where partitions begin that nobody ever read.
    Starts(BTreeMap<PartitionId, Position>),
    /// A worker's state has changed.
    Worker(WorkerView),
    /// The spec has changed.
    Settings(Box<Settings>),
    /// What is asked for beside the load, in place of what was; answers [`Effect::AskSteering`] too.
    Steering(Steering),
    /// Topics that are of no interest any more. Rates of one say that it is again.
    TopicsLeft(BTreeSet<TopicId>),
}

/// What is asked for beside the load: by an operator, or to update consumers.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Steering {
    /// Consumers that partitions must leave.
    pub leave: BTreeSet<ConsumerNumber>,
    /// Consumers whose workers stay though they may have nothing.
    pub hold: BTreeSet<ConsumerNumber>,
    /// Partitions that must be on a certain consumer.
    pub pins: BTreeMap<PartitionId, ConsumerNumber>,
    /// Workers can neither be made nor removed for now: what runs them is away. Partitions move between consumers that live.
    pub frozen: bool,
}

/// What the controller knows about a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Whose it is.
    pub consumer: ConsumerNumber,
    /// False once it is gone.
    pub exists: bool,
    /// A process of it that is known to be dead, or a [family](ProcessId::family) of them: reaped, or its end confirmed. Silence of
    /// an API is no such knowledge.
    pub died: Option<ProcessId>,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append to the ledger, in the order of the effects.
    Append(Entry),
    /// Append to a consumer's command partition, which is made first if need be.
    Command(ConsumerNumber, Command),
    /// Fetch the ledger's end and answer with [`Input::LedgerEnd`] and this id.
    FetchLedgerEnd(u64),
    /// The ledger is empty: find out whether the group has left traces of an earlier life (committed offsets, workers), and
    /// answer with [`Input::Traces`].
    LookForTraces,
    /// Find out which of these topics do not exist any more, and answer with [`Input::TopicsGone`].
    CheckTopics(BTreeSet<TopicId>),
    /// This process leads now: tell what is asked for beside the load, by [`Input::Steering`]. Before, nothing is planned and no worker
    /// started or ended: what the controller before it was asked for is not known.
    AskSteering,
    /// Find where these partitions begin, by the spec's start policy, and answer with [`Input::Starts`].
    ResolveStarts(Vec<PartitionId>),
    /// Make sure that this consumer's worker runs. Its command partition must exist first.
    EnsureWorker(ConsumerNumber),
    /// End this consumer's worker: it owns nothing and is planned nothing.
    RemoveWorker(ConsumerNumber),
    /// Let the broker delete what is below this offset: in the ledger, or in a consumer's command partition.
    Trim(Option<ConsumerNumber>, Offset),
    /// Stop everything: the ledger belongs to another group.
    RefuseLedger,
    /// Something to tell, for the log and the metrics.
    Note(Note),
}

/// What has happened, for the log, the metrics and the status page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// This process leads now, or no longer.
    Leading(bool),
    /// A record was ignored.
    Ignored(Offset, Ignored),
    /// A record could not be decoded.
    Undecodable(Offset),
    /// An incarnation joined.
    Joined(ConsumerNumber, Incarnation),
    /// An incarnation waits behind another living one of the same number.
    Waiting(ConsumerNumber, Incarnation),
    /// An incarnation is being fenced.
    Fencing(ConsumerNumber, Incarnation, crate::ledger::Evidence),
    /// A decision was made; in mode observe it is not acted upon.
    Decided(Explanation),
    /// A plan has been carried out; it took this long.
    PlanDone(Offset, Duration),
    /// A consumer that was counted on did not come in time; it is passed over for a while.
    Late(ConsumerNumber),
    /// No plan could be made.
    PlanInfeasible(crate::pack::Error),
    /// A partition was handed over, or taken up after its owner's end.
    Moved {
        /// Which.
        partition: PartitionId,
        /// The owner before.
        from: Option<ConsumerNumber>,
        /// The owner now.
        to: ConsumerNumber,
        /// True when the owner before had stopped it in order.
        planned: bool,
        /// From the end of the old ownership to the begin of the new, as read; `None` for a partition's first owner.
        pause: Option<Duration>,
    },
    /// The ledger is empty, or has lost records: a life of it begins with this generation.
    Genesis(Generation),
    /// Topics do not exist any more: their partitions are taken from their owners.
    TopicsGone(BTreeSet<TopicId>),
    /// A snapshot of everything below this offset was read back, and is what this process had read.
    Snapshot(Offset),
    /// A snapshot says something else than this process had read below this offset.
    SnapshotDiffers(Offset),
}
