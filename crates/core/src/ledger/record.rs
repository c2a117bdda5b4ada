//! The records of the ledger and the commands to consumers, as values; `tidegate-wire` knows their bytes.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

use super::facts::Facts;
use crate::ids::{
    BootId, ConsumerNumber, DirectoryId, Epoch, Generation, GroupName, Incarnation, Offset,
    PartitionId, Position, ProcessId, Term,
};

/// A record with the generation of the ledger that it was written for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Records of another generation are ignored.
    pub generation: Generation,
    /// What it says.
    pub record: Record,
}

/// What marks a record of the controller: whose reign, and which record of that reign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seal {
    /// The reign.
    pub term: Term,
    /// Rises with each record of the reign; a retry repeats it.
    pub seq: u64,
}

/// A record of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// The ledger begins, with the first record of its topic; or begins anew, in a higher generation, when it was found
    /// to have lost records.
    Genesis {
        /// The group.
        group: GroupName,
        /// True when the group has left no trace of an earlier life, so that nobody can hold a lease of one.
        first: bool,
    },
    /// A process wants to be the controller; its offset is the term.
    Elect {
        /// Which process.
        process: ProcessId,
        /// Rises with each try of that process.
        attempt: u32,
    },
    /// The controller lives.
    Tick {
        /// Which record of which reign.
        seal: Seal,
    },
    /// The controller has decided.
    Plan {
        /// Which record of which reign.
        seal: Seal,
        /// What it decided.
        plan: PlanBody,
    },
    /// A consumer process asks for a life; its offset is the incarnation.
    Hello(Hello),
    /// A consumer lives, hears its commands, and this is what it did.
    Heartbeat {
        /// Whose number: who is told that its life is over, even when the ledger has lost its Hello.
        consumer: ConsumerNumber,
        /// Whose.
        incarnation: Incarnation,
        /// Rises with each heartbeat of the incarnation.
        seq: u64,
        /// End of its command partition that it had obeyed everything below.
        heard: Offset,
        /// What it did with its partitions.
        figures: Vec<PartitionFigures>,
    },
    /// The controller gives free partitions to a consumer; its offset, as read, is the epoch.
    Grant {
        /// Which record of which reign.
        seal: Seal,
        /// The consumer.
        consumer: ConsumerNumber,
        /// Its incarnation, which must be the current one.
        incarnation: Incarnation,
        /// The partitions, with the position that counts only while none is known.
        partitions: Vec<(PartitionId, Position)>,
    },
    /// `StartConsumingEvent`: the consumer reads.
    Started {
        /// Whose.
        incarnation: Incarnation,
        /// What it reads.
        partitions: Vec<(PartitionId, Epoch)>,
    },
    /// What the sink has made durable.
    Progress {
        /// Whose.
        incarnation: Incarnation,
        /// The position after the last durable record.
        partitions: Vec<(PartitionId, Epoch, Position)>,
    },
    /// `StopConsumingEvent`: the consumer reads no longer and will write nothing more.
    Stopped {
        /// Whose.
        incarnation: Incarnation,
        /// The position after the last durable record, where it is known.
        partitions: Vec<(PartitionId, Epoch, Option<Position>)>,
        /// Why.
        reason: StopReason,
    },
    /// The controller ends an incarnation.
    Fenced {
        /// Which record of which reign.
        seal: Seal,
        /// Whose life ends.
        incarnation: Incarnation,
        /// The heartbeat after which it was silent.
        beat: u64,
        /// Why the controller believes it.
        evidence: Evidence,
    },
    /// A consumer ends its own life.
    Goodbye {
        /// Whose.
        incarnation: Incarnation,
        /// True when every partition had been stopped in order.
        clean: bool,
    },
    /// A consumer says why it did not obey a command. No effect on the fold.
    Reply {
        /// Whose.
        incarnation: Incarnation,
        /// Offset of the command in the consumer's command partition.
        command: Offset,
        /// Why not.
        refusal: Refusal,
    },
    /// A consumer's answer to `StateQuery`. No effect on the fold.
    State {
        /// Whose.
        incarnation: Incarnation,
        /// What it holds.
        partitions: Vec<(PartitionId, Epoch, Position)>,
    },
    /// A cache of the fold below an offset. No effect on the fold.
    Snapshot {
        /// Whose ledger it is.
        group: GroupName,
        /// Everything below this offset is in it.
        upto: Offset,
        /// Which part, from 0.
        part: u32,
        /// Of how many.
        of: u32,
        /// What it says.
        facts: Box<Facts>,
    },
    /// A kind that this version does not know. No effect on the fold.
    Unknown {
        /// Its name.
        kind: String,
    },
}

/// A consumer process asks for a life.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The consumer number that the process was given.
    pub consumer: ConsumerNumber,
    /// The process.
    pub process: ProcessId,
    /// Rises with each try of the process.
    pub attempt: u32,
    /// The ledger's end, fetched after the state directory's lock was taken and before this try.
    pub seen: Offset,
    /// The machine's boot; `None` where it cannot be told, which is evidence for nothing.
    pub boot: Option<BootId>,
    /// The state directory; `None` without one.
    pub directory: Option<DirectoryId>,
    /// True when the life before in this directory ended in a controlled stop.
    pub clean: bool,
    /// What the state file remembers: a hint for sticky grants.
    pub persisted: Vec<(PartitionId, Position)>,
}

/// What a consumer did with a partition since it was granted: totals, so that a lost report loses nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartitionFigures {
    /// Which partition.
    pub partition: PartitionId,
    /// Records made durable.
    pub records: u64,
    /// Bytes of key, value and headers made durable.
    pub bytes: u64,
    /// Microseconds that fetching and writing them took.
    pub busy_us: u64,
    /// Records between the durable position and the end of the partition, when known.
    pub lag: Option<u64>,
}

/// What the controller decided: moves from where the partitions are. A partition that is not named stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct PlanBody {
    /// Offset of the plan before, which this one replaces.
    pub parent: Option<Offset>,
    /// What set the decision off.
    pub trigger: Option<Trigger>,
    /// The moves, by partition.
    pub moves: Vec<Move>,
    /// Sum of the moved write rates in thousandths of a consumer's capacity.
    pub cost_permille: u64,
    /// Number of consumers after it.
    pub consumers: u32,
    /// No valid plan can have fewer consumers.
    pub lower_bound: u32,
}

/// One partition's change of owner.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Move {
    /// Which partition.
    pub partition: PartitionId,
    /// Its owner when the plan was made.
    pub from: Option<ConsumerNumber>,
    /// Its owner to be; `None` takes it from the group.
    pub to: Option<ConsumerNumber>,
    /// Why, in one word of the planner's.
    pub reason: String,
}

/// What sets a decision off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trigger {
    /// A consumer's load is above its overload limit.
    Overload,
    /// A partition has no owner.
    Unassigned,
    /// An incarnation ended.
    ConsumerLost,
    /// A worker that a plan counts on did not come up in time.
    WorkerLate,
    /// The spec changed.
    Spec,
    /// A topic does not exist any more.
    TopicGone,
    /// It is time to look whether fewer consumers would do.
    Sentinel,
}

impl Trigger {
    /// A fixed word for messages and people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Overload => "overload",
            Self::Unassigned => "unassigned",
            Self::ConsumerLost => "consumer-lost",
            Self::WorkerLate => "worker-late",
            Self::Spec => "spec",
            Self::TopicGone => "topic-gone",
            Self::Sentinel => "sentinel",
        }
    }
}

/// Why the controller believes that an incarnation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// No heartbeat for the fencing time; `beat` is the proof.
    Silence,
    /// Its process was reaped by its parent, or its pod's end was confirmed: proof of death.
    Death,
}

/// Why a consumer stopped a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StopReason {
    /// It was told to.
    Command,
    /// The epoch of a command was one that it does not hold and now never will.
    Barred,
    /// It is shutting down.
    Shutdown,
}

/// Why a consumer did not obey a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// A controller of a later term has spoken.
    StaleTerm,
    /// Its lease has lapsed.
    LeaseLapsed,
    /// It is shutting down.
    ShuttingDown,
    /// It does not know the kind of command.
    UnknownCommand,
}

/// A command to one consumer, with the generation of the ledger it follows from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    /// A higher one than the consumer's own makes it say Hello again; of a lower one the command is ignored.
    pub generation: Generation,
    /// Which life of the consumer it is for.
    pub incarnation: Incarnation,
    /// What to do.
    pub body: CommandBody,
}

/// What a consumer is told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CommandBody {
    /// `StartConsumingCommand`: read these partitions from these positions.
    Start {
        /// Reign of the sender.
        term: Term,
        /// The grant.
        epoch: Epoch,
        /// What to read and from where.
        partitions: Vec<(PartitionId, Position)>,
    },
    /// `StopConsumingCommand`: give these partitions back.
    Stop {
        /// Reign of the sender.
        term: Term,
        /// The grant.
        epoch: Epoch,
        /// What to give back.
        partitions: Vec<PartitionId>,
        /// How long a write in flight may take to end.
        deadline: Duration,
    },
    /// Say what you hold.
    StateQuery {
        /// Reign of the sender.
        term: Term,
    },
    /// Give everything back.
    Drain {
        /// Reign of the sender.
        term: Term,
    },
    /// The incarnation has ended, or its Hello was ignored: say Hello again.
    Ended,
    /// A kind that this version does not know.
    Unknown {
        /// Its name.
        kind: String,
    },
}

impl Record {
    /// The incarnation that speaks, for records of consumers that have one.
    pub fn speaker(&self) -> Option<Incarnation> {
        match self {
            Self::Heartbeat { incarnation, .. }
            | Self::Started { incarnation, .. }
            | Self::Progress { incarnation, .. }
            | Self::Stopped { incarnation, .. }
            | Self::Goodbye { incarnation, .. }
            | Self::Reply { incarnation, .. }
            | Self::State { incarnation, .. } => Some(*incarnation),
            Self::Genesis { .. }
            | Self::Elect { .. }
            | Self::Tick { .. }
            | Self::Plan { .. }
            | Self::Hello(_)
            | Self::Grant { .. }
            | Self::Fenced { .. }
            | Self::Snapshot { .. }
            | Self::Unknown { .. } => None,
        }
    }

    /// The seal, for records of a controller in office.
    pub fn seal(&self) -> Option<Seal> {
        match self {
            Self::Tick { seal }
            | Self::Plan { seal, .. }
            | Self::Grant { seal, .. }
            | Self::Fenced { seal, .. } => Some(*seal),
            Self::Genesis { .. }
            | Self::Elect { .. }
            | Self::Hello(_)
            | Self::Heartbeat { .. }
            | Self::Started { .. }
            | Self::Progress { .. }
            | Self::Stopped { .. }
            | Self::Goodbye { .. }
            | Self::Reply { .. }
            | Self::State { .. }
            | Self::Snapshot { .. }
            | Self::Unknown { .. } => None,
        }
    }
}
