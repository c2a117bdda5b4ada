//! The JSON of each record of the ledger.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::ids::{GroupName, Offset};
use tidegate_core::ledger::{self, Evidence, PlanBody, Record, StopReason};

use super::{Body, incarnation, sealed};
use crate::ids::{BootText, Consumer, DirectoryText, ProcessText};
use crate::kind::Kind;
use crate::rows::{EpochRow, FiguresRow, Grouped, MoveRow, PositionRow, ProgressRow, StopRow};
use crate::words::{EvidenceWord, ReasonWord, RefusalWord, TriggerWord};

macro_rules! body {
    ($(#[$doc:meta])* $name:ident { $($fields:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct $name {
            /// Life of the ledger that the record was written for: unix seconds.
            pub(crate) generation: u64,
            $($fields)*
        }
    };
}

pub(super) use body;

body! {
    /// What every record of the ledger has.
    Lineage {}
}

body! {
    /// A ledger begins: with the first record of its topic, or anew in a higher generation.
    Genesis {
        /// The group.
        pub(crate) group: String,
        /// True when the group has left no trace of an earlier life.
        #[serde(default)]
        pub(crate) first: bool,
    }
}

impl Body for Genesis {
    fn into_record(self) -> (u64, Record) {
        let record = Record::Genesis { group: GroupName(self.group), first: self.first };
        (self.generation, record)
    }
}

body! {
    /// A process wants to be the controller. Its offset is the term.
    Elect {
        /// The process.
        pub(crate) process: ProcessText,
        /// Rises with each try of the process.
        pub(crate) attempt: u32,
    }
}

impl Body for Elect {
    fn into_record(self) -> (u64, Record) {
        (self.generation, Record::Elect { process: self.process.0, attempt: self.attempt })
    }
}

body! {
    /// The controller lives.
    Tick {
        /// Offset of the `Elect` of the sender.
        pub(crate) term: u64,
        /// Rises with each record of the term; a retry repeats it.
        pub(crate) seq: u64,
    }
}

impl Body for Tick {
    fn into_record(self) -> (u64, Record) {
        (self.generation, Record::Tick { seal: sealed(self.term, self.seq) })
    }
}

body! {
    /// What the controller decided. A partition that it does not name stays where it is. Its offset is the plan's id.
    Plan {
        /// Offset of the `Elect` of the sender.
        pub(crate) term: u64,
        /// Rises with each record of the term; a retry repeats it.
        pub(crate) seq: u64,
        /// What was decided.
        #[serde(flatten)]
        pub(crate) terms: PlanTerms,
    }
}

/// What a plan says.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlanTerms {
    /// Offset of the plan before, which this one replaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<u64>,
    /// What set the decision off.
    #[serde(skip_serializing_if = "Option::is_none")]
    trigger: Option<TriggerWord>,
    /// The partitions that change their consumer.
    moves: Grouped<MoveRow>,
    /// Sum of the moved write rates in thousandths of a consumer's capacity.
    cost_permille: u64,
    /// Number of consumers after it.
    consumers: u32,
    /// No valid plan can have fewer consumers.
    lower_bound: u32,
}

impl PlanTerms {
    pub(super) fn of(plan: &PlanBody) -> Self {
        Self {
            parent: plan.parent.map(|offset| offset.0),
            trigger: plan.trigger.map(TriggerWord::of),
            moves: Grouped::of(&plan.moves),
            cost_permille: plan.cost_permille,
            consumers: plan.consumers,
            lower_bound: plan.lower_bound,
        }
    }

    pub(super) fn meaning(self) -> PlanBody {
        PlanBody {
            parent: self.parent.map(Offset),
            trigger: self.trigger.and_then(TriggerWord::meaning),
            moves: self.moves.into_items(),
            cost_permille: self.cost_permille,
            consumers: self.consumers,
            lower_bound: self.lower_bound,
        }
    }
}

impl Body for Plan {
    fn into_record(self) -> (u64, Record) {
        let seal = sealed(self.term, self.seq);
        (self.generation, Record::Plan { seal, plan: self.terms.meaning() })
    }
}

body! {
    /// A consumer process asks for a life. Its offset is the incarnation.
    Hello {
        /// The consumer number that the process was given.
        pub(crate) consumer: Consumer,
        /// The process.
        pub(crate) process: ProcessText,
        /// Rises with each try of the process.
        pub(crate) attempt: u32,
        /// The ledger's end, fetched after the state directory's lock was taken and before this try.
        pub(crate) seen: u64,
        /// The machine's boot, where it can be told.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(crate) boot: Option<BootText>,
        /// The state directory, if there is one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub(crate) directory: Option<DirectoryText>,
        /// True when the life before in this directory ended in a controlled stop.
        pub(crate) clean: bool,
        /// What the state file remembers: a hint.
        #[serde(default)]
        pub(crate) persisted: Grouped<PositionRow>,
    }
}

impl Hello {
    pub(crate) fn of(generation: u64, hello: &ledger::Hello) -> Self {
        Self {
            generation,
            consumer: Consumer(hello.consumer),
            process: ProcessText(hello.process),
            attempt: hello.attempt,
            seen: hello.seen.0,
            boot: hello.boot.map(BootText),
            directory: hello.directory.map(DirectoryText),
            clean: hello.clean,
            persisted: Grouped::of(&hello.persisted),
        }
    }
}

impl Body for Hello {
    fn into_record(self) -> (u64, Record) {
        let hello = ledger::Hello {
            consumer: self.consumer.0,
            process: self.process.0,
            attempt: self.attempt,
            seen: Offset(self.seen),
            boot: self.boot.map(|boot| boot.0),
            directory: self.directory.map(|directory| directory.0),
            clean: self.clean,
            persisted: self.persisted.into_items(),
        };
        (self.generation, Record::Hello(hello))
    }
}

body! {
    /// A consumer lives, hears its commands, and this is what it did.
    Heartbeat {
        /// The consumer number of the sender.
        pub(crate) consumer: Consumer,
        /// Offset of the `Hello` of the sender.
        pub(crate) incarnation: u64,
        /// Rises with each heartbeat of the incarnation.
        pub(crate) seq: u64,
        /// End of its command partition that it had obeyed everything below.
        pub(crate) heard: u64,
        /// What it did with its partitions.
        #[serde(default)]
        pub(crate) figures: Grouped<FiguresRow>,
    }
}

impl Body for Heartbeat {
    fn into_record(self) -> (u64, Record) {
        let record = Record::Heartbeat {
            consumer: self.consumer.0,
            incarnation: incarnation(self.incarnation),
            seq: self.seq,
            heard: Offset(self.heard),
            figures: self.figures.into_items(),
        };
        (self.generation, record)
    }
}

body! {
    /// The controller gives free partitions to a consumer. Its offset, as read, is the epoch.
    Grant {
        /// Offset of the `Elect` of the sender.
        pub(crate) term: u64,
        /// Rises with each record of the term; a retry repeats it.
        pub(crate) seq: u64,
        /// The consumer.
        pub(crate) consumer: Consumer,
        /// Offset of its `Hello`.
        pub(crate) incarnation: u64,
        /// The partitions, with the position that counts only while none is known.
        pub(crate) partitions: Grouped<PositionRow>,
    }
}

impl Body for Grant {
    fn into_record(self) -> (u64, Record) {
        let record = Record::Grant {
            seal: sealed(self.term, self.seq),
            consumer: self.consumer.0,
            incarnation: incarnation(self.incarnation),
            partitions: self.partitions.into_items(),
        };
        (self.generation, record)
    }
}

body! {
    /// A consumer reads.
    StartConsumingEvent {
        /// Offset of the `Hello` of the sender.
        pub(crate) incarnation: u64,
        /// What it reads.
        pub(crate) partitions: Grouped<EpochRow>,
    }
}

impl Body for StartConsumingEvent {
    fn into_record(self) -> (u64, Record) {
        let partitions = self.partitions.into_items();
        let incarnation = incarnation(self.incarnation);
        (self.generation, Record::Started { incarnation, partitions })
    }
}

body! {
    /// What a consumer's sink has made durable.
    Progress {
        /// Offset of the `Hello` of the sender.
        pub(crate) incarnation: u64,
        /// The positions after the last durable record.
        pub(crate) partitions: Grouped<ProgressRow>,
    }
}

impl Body for Progress {
    fn into_record(self) -> (u64, Record) {
        let partitions = self.partitions.into_items();
        let incarnation = incarnation(self.incarnation);
        (self.generation, Record::Progress { incarnation, partitions })
    }
}

body! {
    /// A consumer reads no longer and will write nothing more.
    StopConsumingEvent {
        /// Offset of the `Hello` of the sender.
        pub(crate) incarnation: u64,
        /// What it does not read any more.
        pub(crate) partitions: Grouped<StopRow>,
        /// Why.
        pub(crate) reason: ReasonWord,
    }
}

impl Body for StopConsumingEvent {
    fn into_record(self) -> (u64, Record) {
        let record = Record::Stopped {
            incarnation: incarnation(self.incarnation),
            partitions: self.partitions.into_items(),
            // Whatever the reason, the consumer has stopped.
            reason: self.reason.meaning().unwrap_or(StopReason::Command),
        };
        (self.generation, record)
    }
}

body! {
    /// The controller ends an incarnation.
    Fenced {
        /// Offset of the `Elect` of the sender.
        pub(crate) term: u64,
        /// Rises with each record of the term; a retry repeats it.
        pub(crate) seq: u64,
        /// Offset of the `Hello` of whose life ends.
        pub(crate) incarnation: u64,
        /// The heartbeat after which it was silent.
        pub(crate) beat: u64,
        /// Why the controller believes it.
        pub(crate) evidence: EvidenceWord,
    }
}

impl Body for Fenced {
    fn into_record(self) -> (u64, Record) {
        let record = Record::Fenced {
            seal: sealed(self.term, self.seq),
            incarnation: incarnation(self.incarnation),
            beat: self.beat,
            // Silence is the one that has to be proved.
            evidence: self.evidence.meaning().unwrap_or(Evidence::Silence),
        };
        (self.generation, record)
    }
}

body! {
    /// A consumer ends its own life.
    Goodbye {
        /// Offset of the `Hello` of the sender.
        pub(crate) incarnation: u64,
        /// True when every partition had been stopped in order.
        pub(crate) clean: bool,
    }
}

impl Body for Goodbye {
    fn into_record(self) -> (u64, Record) {
        let incarnation = incarnation(self.incarnation);
        (self.generation, Record::Goodbye { incarnation, clean: self.clean })
    }
}

body! {
    /// A consumer says why it did not obey a command.
    Reply {
        /// Offset of the `Hello` of the sender.
        pub(crate) incarnation: u64,
        /// Offset of the command in the consumer's command partition.
        pub(crate) command: u64,
        /// Why not.
        pub(crate) refusal: RefusalWord,
    }
}

impl Body for Reply {
    fn into_record(self) -> (u64, Record) {
        let incarnation = incarnation(self.incarnation);
        let command = Offset(self.command);
        let record = match self.refusal.meaning() {
            Some(refusal) => Record::Reply { incarnation, command, refusal },
            None => Record::Unknown { kind: Kind::Reply.name().to_owned() },
        };
        (self.generation, record)
    }
}

body! {
    /// A consumer's answer to `StateQuery`: what it holds.
    State {
        /// Offset of the `Hello` of the sender.
        pub(crate) incarnation: u64,
        /// What it holds, with the positions after the last durable record.
        pub(crate) partitions: Grouped<ProgressRow>,
    }
}

impl Body for State {
    fn into_record(self) -> (u64, Record) {
        let partitions = self.partitions.into_items();
        let incarnation = incarnation(self.incarnation);
        (self.generation, Record::State { incarnation, partitions })
    }
}
