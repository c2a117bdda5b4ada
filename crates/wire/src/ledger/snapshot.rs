//! The JSON of a part of a snapshot: the fold as lists that a person can read.
//!
//! A snapshot is needed to read a ledger whose beginning was deleted, so it has a version of its own: a reader passes over
//! one whose form it does not know.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_core::ids::{ConsumerNumber, GroupName, Incarnation, Offset, ProcessId, Term};
use tidegate_core::ledger::{self, Attempt, Facts, Record, Reign};

use super::bodies::{PlanTerms, body};
use super::{Body, incarnation};
use crate::ids::{BootText, Consumer, DirectoryText, ProcessText};
use crate::kind::Kind;
use crate::rows::{Grouped, OwnershipRow};

/// Version of the form below.
const VERSION: u32 = 1;

body! {
    /// A cache of the fold below an offset, in parts.
    Snapshot {
        /// The group whose ledger it is.
        pub(crate) group: String,
        /// Everything below this offset is in it.
        pub(crate) upto: u64,
        /// Which part, from 0.
        pub(crate) part: u32,
        /// Of how many.
        pub(crate) of: u32,
        /// Version of the lists that follow.
        pub(crate) version: u32,
        /// Who reigns.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub(crate) reign: Option<ReignText>,
        /// The last plan.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pub(crate) plan: Option<PlanAt>,
        /// The highest tries of processes.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub(crate) attempts: Vec<AttemptText>,
        /// Incarnations that live.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub(crate) lives: Vec<LifeText>,
        /// Incarnations that have ended, as far as they are remembered.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub(crate) ended: Vec<EndedText>,
        /// The latest Hellos of consumers.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        pub(crate) hellos: Vec<HellosText>,
        /// Who owns which partition.
        #[serde(default)]
        pub(crate) partitions: Grouped<OwnershipRow>,
    }
}

/// A controller's reign.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReignText {
    /// Offset of its `Elect`.
    term: u64,
    /// The process.
    process: ProcessText,
    /// Which of its tries.
    attempt: u32,
    /// Its last record.
    seq: u64,
}

/// A plan with its place.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PlanAt {
    /// Its offset, which is its id.
    at: u64,
    #[serde(flatten)]
    terms: PlanTerms,
}

/// The highest try of a process.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AttemptText {
    /// The process.
    process: ProcessText,
    /// The number of the try.
    number: u32,
    /// Its offset.
    at: u64,
}

/// A living incarnation.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LifeText {
    /// Offset of its `Hello`.
    incarnation: u64,
    /// Its consumer number.
    consumer: Consumer,
    /// Its process.
    process: ProcessText,
    /// Boot of its machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    boot: Option<BootText>,
    /// Its state directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    directory: Option<DirectoryText>,
    /// Its last heartbeat.
    beat: u64,
}

/// An incarnation that has ended.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndedText {
    /// Offset of its `Hello`.
    incarnation: u64,
    /// Its consumer number.
    consumer: Consumer,
}

/// The latest Hellos of one consumer number.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HellosText {
    /// The consumer number.
    consumer: Consumer,
    /// Offset of the last one.
    last: u64,
    /// The process that said it.
    process: ProcessText,
    /// Offset of the last one of another process.
    #[serde(skip_serializing_if = "Option::is_none")]
    other: Option<u64>,
}

impl Snapshot {
    pub(crate) fn of(
        generation: u64,
        group: &GroupName,
        (upto, part, of): (Offset, u32, u32),
        facts: &Facts,
    ) -> Self {
        Self {
            generation,
            group: group.0.clone(),
            upto: upto.0,
            part,
            of,
            version: VERSION,
            reign: facts.reign.map(ReignText::of),
            plan: facts
                .plan
                .as_ref()
                .map(|plan| PlanAt { at: plan.at.0, terms: PlanTerms::of(&plan.body) }),
            attempts: facts.attempts.iter().map(AttemptText::of).collect(),
            lives: facts.lives.iter().map(LifeText::of).collect(),
            ended: facts.ended.iter().map(EndedText::of).collect(),
            hellos: facts.hellos.iter().map(HellosText::of).collect(),
            partitions: Grouped::of(&facts.partitions),
        }
    }

    fn facts(self) -> Facts {
        Facts {
            reign: self.reign.map(ReignText::meaning),
            plan: self.plan.map(|plan| ledger::AdoptedPlan {
                at: Offset(plan.at),
                body: plan.terms.meaning(),
            }),
            attempts: self.attempts.into_iter().map(AttemptText::meaning).collect(),
            lives: self.lives.into_iter().map(LifeText::meaning).collect(),
            ended: self.ended.into_iter().map(EndedText::meaning).collect(),
            hellos: self.hellos.into_iter().map(HellosText::meaning).collect(),
            partitions: self.partitions.into_items(),
        }
    }
}

impl Body for Snapshot {
    fn into_record(self) -> (u64, Record) {
        let generation = self.generation;
        if self.version != VERSION {
            return (generation, Record::Unknown { kind: Kind::Snapshot.name().to_owned() });
        }
        let record = Record::Snapshot {
            group: GroupName(self.group.clone()),
            upto: Offset(self.upto),
            part: self.part,
            of: self.of,
            facts: Box::new(self.facts()),
        };
        (generation, record)
    }
}

impl ReignText {
    fn of(reign: Reign) -> Self {
        let Reign { term, process, attempt, seq } = reign;
        Self { term: term.0.0, process: ProcessText(process), attempt, seq }
    }

    fn meaning(self) -> Reign {
        let Self { term, process, attempt, seq } = self;
        Reign { term: Term(Offset(term)), process: process.0, attempt, seq }
    }
}

impl AttemptText {
    fn of((process, attempt): &(ProcessId, Attempt)) -> Self {
        Self { process: ProcessText(*process), number: attempt.number, at: attempt.at.0 }
    }

    fn meaning(self) -> (ProcessId, Attempt) {
        (self.process.0, Attempt { number: self.number, at: Offset(self.at) })
    }
}

impl LifeText {
    fn of((incarnation, life): &(Incarnation, ledger::Life)) -> Self {
        Self {
            incarnation: incarnation.0.0,
            consumer: Consumer(life.consumer),
            process: ProcessText(life.process),
            boot: life.boot.map(BootText),
            directory: life.directory.map(DirectoryText),
            beat: life.beat,
        }
    }

    fn meaning(self) -> (Incarnation, ledger::Life) {
        let life = ledger::Life {
            consumer: self.consumer.0,
            process: self.process.0,
            boot: self.boot.map(|boot| boot.0),
            directory: self.directory.map(|directory| directory.0),
            beat: self.beat,
        };
        (incarnation(self.incarnation), life)
    }
}

impl EndedText {
    fn of((incarnation, consumer): &(Incarnation, ConsumerNumber)) -> Self {
        Self { incarnation: incarnation.0.0, consumer: Consumer(*consumer) }
    }

    fn meaning(self) -> (Incarnation, ConsumerNumber) {
        (incarnation(self.incarnation), self.consumer.0)
    }
}

impl HellosText {
    fn of((consumer, latest): &(ConsumerNumber, ledger::LatestHellos)) -> Self {
        let (last, process) = latest.last;
        Self {
            consumer: Consumer(*consumer),
            last: last.0,
            process: ProcessText(process),
            other: latest.other.map(|at| at.0),
        }
    }

    fn meaning(self) -> (ConsumerNumber, ledger::LatestHellos) {
        let last = (Offset(self.last), self.process.0);
        (self.consumer.0, ledger::LatestHellos { last, other: self.other.map(Offset) })
    }
}
