//! The records of the ledger as JSON.
//!
//! Words that this version does not know are read as what is safest to believe: evidence as silence (which has to be proved
//! by the last heartbeat), a trigger as none, a stop's reason as a command's. A whole kind that is not known becomes
//! [`Record::Unknown`], and so does a Reply with an unknown refusal: neither has an effect.

mod bodies;
mod snapshot;

use serde::de::DeserializeOwned;
use tidegate_core::ids::{Generation, Incarnation, Offset, Term};
use tidegate_core::ledger::{Entry, Record, Seal};

pub(crate) use self::bodies::{
    Elect, Fenced, Genesis, Goodbye, Grant, Heartbeat, Hello, Lineage, Plan, PlanTerms, Progress,
    Reply, StartConsumingEvent, State, StopConsumingEvent, Tick,
};
pub(crate) use self::snapshot::Snapshot;

use crate::envelope::{Encoded, Opened, seal, seal_named, to_json};
use crate::error::Error;
use crate::ids::{Consumer, ProcessText};
use crate::kind::Kind;
use crate::rows::Grouped;
use crate::words::{EvidenceWord, ReasonWord, RefusalWord};

/// Writes a record of the ledger, as large as it may be: who writes of very many partitions makes several records.
///
/// ```
/// use tidegate_core::ids::{Generation, GroupName};
/// use tidegate_core::ledger::{Entry, Record};
///
/// let record = Record::Genesis { group: GroupName("orders".into()), first: true };
/// let entry = Entry { generation: Generation(1_790_000_000), record };
/// let encoded = tidegate_wire::encode_entry(&entry);
/// assert_eq!(encoded.value.as_deref(), Some(&br#"{"generation":1790000000,"group":"orders","first":true}"#[..]));
/// let decoded = tidegate_wire::decode_entry(&encoded.header_refs(), encoded.value.as_deref());
/// assert_eq!(decoded.unwrap(), entry);
/// ```
#[expect(clippy::too_many_lines, reason = "one arm per record; splitting hides the table")]
pub fn encode_entry(entry: &Entry) -> Encoded {
    let generation = entry.generation.0;
    match &entry.record {
        Record::Genesis { group, first } => {
            seal(Kind::Genesis, &Genesis { generation, group: group.0.clone(), first: *first })
        }
        Record::Elect { process, attempt } => {
            let process = ProcessText(*process);
            seal(Kind::Elect, &Elect { generation, process, attempt: *attempt })
        }
        Record::Tick { seal: Seal { term, seq } } => {
            seal(Kind::Tick, &Tick { generation, term: term.0.0, seq: *seq })
        }
        Record::Plan { seal: sealed, plan } => {
            let Seal { term, seq } = *sealed;
            let terms = PlanTerms::of(plan);
            seal(Kind::Plan, &Plan { generation, term: term.0.0, seq, terms })
        }
        Record::Hello(hello) => seal(Kind::Hello, &Hello::of(generation, hello)),
        Record::Heartbeat { consumer, incarnation, seq, heard, figures } => seal(
            Kind::Heartbeat,
            &Heartbeat {
                generation,
                consumer: Consumer(*consumer),
                incarnation: incarnation.0.0,
                seq: *seq,
                heard: heard.0,
                figures: Grouped::of(figures),
            },
        ),
        Record::Grant { seal: Seal { term, seq }, consumer, incarnation, partitions } => seal(
            Kind::Grant,
            &Grant {
                generation,
                term: term.0.0,
                seq: *seq,
                consumer: Consumer(*consumer),
                incarnation: incarnation.0.0,
                partitions: Grouped::of(partitions),
            },
        ),
        Record::Started { incarnation, partitions } => seal(
            Kind::StartConsumingEvent,
            &StartConsumingEvent {
                generation,
                incarnation: incarnation.0.0,
                partitions: Grouped::of(partitions),
            },
        ),
        Record::Progress { incarnation, partitions } => {
            let partitions = Grouped::of(partitions);
            seal(Kind::Progress, &Progress { generation, incarnation: incarnation.0.0, partitions })
        }
        Record::Stopped { incarnation, partitions, reason } => seal(
            Kind::StopConsumingEvent,
            &StopConsumingEvent {
                generation,
                incarnation: incarnation.0.0,
                partitions: Grouped::of(partitions),
                reason: ReasonWord::of(*reason),
            },
        ),
        Record::Fenced { seal: Seal { term, seq }, incarnation, beat, evidence } => seal(
            Kind::Fenced,
            &Fenced {
                generation,
                term: term.0.0,
                seq: *seq,
                incarnation: incarnation.0.0,
                beat: *beat,
                evidence: EvidenceWord::of(*evidence),
            },
        ),
        Record::Goodbye { incarnation, clean } => {
            let incarnation = incarnation.0.0;
            seal(Kind::Goodbye, &Goodbye { generation, incarnation, clean: *clean })
        }
        Record::Reply { incarnation, command, refusal } => seal(
            Kind::Reply,
            &Reply {
                generation,
                incarnation: incarnation.0.0,
                command: command.0,
                refusal: RefusalWord::of(*refusal),
            },
        ),
        Record::State { incarnation, partitions } => {
            let partitions = Grouped::of(partitions);
            seal(Kind::State, &State { generation, incarnation: incarnation.0.0, partitions })
        }
        Record::Snapshot { group, upto, part, of, facts } => {
            let place = (*upto, *part, *of);
            seal(Kind::Snapshot, &Snapshot::of(generation, group, place, facts))
        }
        Record::Unknown { kind } => seal_named(kind, Some(to_json(&Lineage { generation }))),
    }
}

/// Reads a record of the ledger.
pub fn decode_entry(headers: &[(&str, &[u8])], value: Option<&[u8]>) -> Result<Entry, Error> {
    let opened = Opened::new(headers, value)?;
    match Kind::parse(opened.kind) {
        Some(Kind::Genesis) => read::<Genesis>(&opened),
        Some(Kind::Elect) => read::<Elect>(&opened),
        Some(Kind::Tick) => read::<Tick>(&opened),
        Some(Kind::Plan) => read::<Plan>(&opened),
        Some(Kind::Hello) => read::<Hello>(&opened),
        Some(Kind::Heartbeat) => read::<Heartbeat>(&opened),
        Some(Kind::Grant) => read::<Grant>(&opened),
        Some(Kind::StartConsumingEvent) => read::<StartConsumingEvent>(&opened),
        Some(Kind::Progress) => read::<Progress>(&opened),
        Some(Kind::StopConsumingEvent) => read::<StopConsumingEvent>(&opened),
        Some(Kind::Fenced) => read::<Fenced>(&opened),
        Some(Kind::Goodbye) => read::<Goodbye>(&opened),
        Some(Kind::Reply) => read::<Reply>(&opened),
        Some(Kind::State) => read::<State>(&opened),
        Some(Kind::Snapshot) => read::<Snapshot>(&opened),
        // Messages of other topics may become records of the ledger in a later version.
        Some(_) | None => Ok(unknown(&opened)),
    }
}

fn unknown(opened: &Opened<'_>) -> Entry {
    // A later version may have another form altogether; then the record is of no generation that exists.
    let generation = opened.parse::<Lineage>().map_or(0, |lineage| lineage.generation);
    let record = Record::Unknown { kind: opened.kind.to_owned() };
    Entry { generation: Generation(generation), record }
}

fn read<B: Body>(opened: &Opened<'_>) -> Result<Entry, Error> {
    let (generation, record) = opened.parse::<B>()?.into_record();
    Ok(Entry { generation: Generation(generation), record })
}

/// The JSON of a record that can be read back.
trait Body: DeserializeOwned {
    fn into_record(self) -> (u64, Record);
}

const fn incarnation(offset: u64) -> Incarnation {
    Incarnation(Offset(offset))
}

const fn sealed(term: u64, seq: u64) -> Seal {
    Seal { term: Term(Offset(term)), seq }
}
