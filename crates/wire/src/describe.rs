//! Any message in one line for people: `tidegate tail`.
//!
//! Other processes and other tools wrote what is shown. The line has no control characters, so that nothing in a message can
//! move a terminal's cursor, and long lists are cut.

use std::fmt;

use tidegate_core::ids::{ConsumerNumber, Epoch, PartitionId, Position, TopicId};
use tidegate_core::ledger::{
    Command, CommandBody, Entry, Hello, Move, PartitionFigures, PlanBody, Record, Seal,
};

use crate::command::decode_command;
use crate::envelope::Opened;
use crate::error::Error;
use crate::kind::Kind;
use crate::ledger::decode_entry;
use crate::overrides::{Override, decode_override};
use crate::rates::{PartitionRates, decode_rates};
use crate::words::{EvidenceWord, ReasonWord, RefusalWord, SourceWord, TriggerWord};

/// Partitions that are named in one line: about as many as fit on a wide screen.
const NAMED_PARTITIONS: usize = 16;

/// Longest text of others that is shown, such as the value of an override.
const SHOWN_CHARS: usize = 200;

/// Any message.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// A record of the ledger.
    Entry(Entry),
    /// A command to a consumer.
    Command(Command),
    /// Rates of a topic.
    Rates(PartitionRates),
    /// A field of the spec.
    Override(Override),
    /// A kind of a later version.
    Unknown {
        /// Its name.
        kind: String,
    },
}

/// Finds the name of a topic, where it is known.
pub type Names<'a> = &'a dyn Fn(TopicId) -> Option<String>;

/// Reads a record of any of the topics. Tombstones are of the service topic: no other is compacted.
pub fn decode(
    key: Option<&[u8]>,
    headers: &[(&str, &[u8])],
    value: Option<&[u8]>,
) -> Result<Decoded, Error> {
    if value.is_none() && key.is_some() {
        return decode_override(key, headers, value).map(Decoded::Override);
    }
    let opened = Opened::new(headers, value)?;
    match Kind::parse(opened.kind) {
        Some(
            Kind::Genesis
            | Kind::Elect
            | Kind::Tick
            | Kind::Plan
            | Kind::Hello
            | Kind::Heartbeat
            | Kind::Grant
            | Kind::StartConsumingEvent
            | Kind::Progress
            | Kind::StopConsumingEvent
            | Kind::Fenced
            | Kind::Goodbye
            | Kind::Reply
            | Kind::State
            | Kind::Snapshot,
        ) => decode_entry(headers, value).map(Decoded::Entry),
        Some(
            Kind::StartConsumingCommand
            | Kind::StopConsumingCommand
            | Kind::StateQuery
            | Kind::Drain
            | Kind::Ended,
        ) => decode_command(headers, value).map(Decoded::Command),
        Some(Kind::PartitionRates) => decode_rates(headers, value).map(Decoded::Rates),
        Some(Kind::Override) => decode_override(key, headers, value).map(Decoded::Override),
        None => Ok(Decoded::Unknown { kind: opened.kind.to_owned() }),
    }
}

/// A message in one line. Topics without a name are shown by their id.
///
/// ```
/// use tidegate_core::ids::{Epoch, Generation, Incarnation, Offset, PartitionId, Position, Term, TopicId};
/// use tidegate_core::ledger::{Command, CommandBody};
/// use tidegate_wire::{Decoded, describe};
///
/// let partition = PartitionId { topic: TopicId([7; 16]), number: 3 };
/// let body = CommandBody::Start {
///     term: Term(Offset(12)),
///     epoch: Epoch(Offset(77)),
///     partitions: vec![(partition, Position(1200))],
/// };
/// let command = Command { generation: Generation(1), incarnation: Incarnation(Offset(40)), body };
/// let line = describe(&Decoded::Command(command), &|_| Some("orders".to_owned()));
/// assert_eq!(line, "StartConsumingCommand term=12 incarnation=40 epoch=77 orders-3@1200");
/// ```
pub fn describe(decoded: &Decoded, names: Names<'_>) -> String {
    let mut line = Line { text: String::new(), names };
    match decoded {
        Decoded::Entry(entry) => line.entry(entry),
        Decoded::Command(command) => line.command(command),
        Decoded::Rates(rates) => line.rates(rates),
        Decoded::Override(change) => line.change(change),
        Decoded::Unknown { kind } => line.unknown(kind),
    }
    line.text
}

struct Line<'a> {
    text: String,
    names: Names<'a>,
}

// === impl Line ===

impl Line<'_> {
    fn kind(&mut self, kind: Kind) {
        self.text.push_str(kind.name());
    }

    fn unknown(&mut self, kind: &str) {
        self.text.push_str("Unknown");
        self.field("kind", kind);
    }

    /// Adds ` name=value`.
    fn field(&mut self, name: &str, value: impl fmt::Display) {
        self.word(format_args!("{name}={value}"));
    }

    /// Adds a word after a space, made harmless for terminals.
    fn word(&mut self, word: impl fmt::Display) {
        self.text.push(' ');
        let word = word.to_string();
        let harmless = |letter: char| if letter.is_control() { '\u{fffd}' } else { letter };
        let mut letters = word.chars().map(harmless);
        self.text.extend(letters.by_ref().take(SHOWN_CHARS));
        if letters.next().is_some() {
            self.text.push_str("...");
        }
    }

    fn partition(&self, id: PartitionId) -> String {
        let topic = (self.names)(id.topic).unwrap_or_else(|| id.topic.to_string());
        format!("{topic}-{}", id.number)
    }

    /// Adds the first entries of a list of partitions.
    fn list<T>(&mut self, list: &[T], show: impl Fn(&Self, &T) -> String) {
        for entry in list.iter().take(NAMED_PARTITIONS) {
            let word = show(self, entry);
            self.word(word);
        }
        if let Some(more) = list.len().checked_sub(NAMED_PARTITIONS).filter(|more| *more > 0) {
            self.word(format_args!("+{more} more"));
        }
    }

    fn positions(&mut self, list: &[(PartitionId, Position)]) {
        self.list(list, |line, (id, next)| format!("{}@{}", line.partition(*id), next.0));
    }

    fn owned(&mut self, list: &[(PartitionId, Epoch, Position)]) {
        self.list(list, |line, (id, epoch, next)| {
            format!("{}({epoch})@{}", line.partition(*id), next.0)
        });
    }

    fn seal(&mut self, seal: Seal) {
        self.field("term", seal.term);
        self.field("seq", seal.seq);
    }

    fn entry(&mut self, entry: &Entry) {
        match &entry.record {
            Record::Genesis { group, first } => {
                self.kind(Kind::Genesis);
                self.field("generation", entry.generation.0);
                self.field("group", group);
                self.field("first", first);
            }
            Record::Elect { process, attempt } => {
                self.kind(Kind::Elect);
                self.field("process", process);
                self.field("attempt", attempt);
            }
            Record::Tick { seal } => {
                self.kind(Kind::Tick);
                self.seal(*seal);
            }
            Record::Plan { seal, plan } => self.plan(*seal, plan),
            Record::Hello(hello) => self.hello(hello),
            Record::Grant { seal, consumer, incarnation, partitions } => {
                self.kind(Kind::Grant);
                self.seal(*seal);
                self.field("consumer", consumer);
                self.field("incarnation", incarnation);
                self.positions(partitions);
            }
            Record::Fenced { seal, incarnation, beat, evidence } => {
                self.kind(Kind::Fenced);
                self.seal(*seal);
                self.field("incarnation", incarnation);
                self.field("beat", beat);
                self.field("evidence", EvidenceWord::of(*evidence).text());
            }
            Record::Snapshot { upto, part, of, facts, .. } => {
                self.kind(Kind::Snapshot);
                self.field("upto", upto.0);
                self.field("part", format_args!("{}/{of}", u64::from(*part) + 1));
                self.field("lives", facts.lives.len());
                self.field("partitions", facts.partitions.len());
            }
            Record::Unknown { kind } => self.unknown(kind),
            spoken => self.spoken(spoken),
        }
    }

    /// Records of consumers that have an incarnation.
    fn spoken(&mut self, record: &Record) {
        let kind = match record {
            Record::Heartbeat { .. } => Kind::Heartbeat,
            Record::Started { .. } => Kind::StartConsumingEvent,
            Record::Progress { .. } => Kind::Progress,
            Record::Stopped { .. } => Kind::StopConsumingEvent,
            Record::Goodbye { .. } => Kind::Goodbye,
            Record::Reply { .. } => Kind::Reply,
            _ => Kind::State,
        };
        self.kind(kind);
        if let Some(incarnation) = record.speaker() {
            self.field("incarnation", incarnation);
        }
        match record {
            Record::Heartbeat { seq, heard, figures, .. } => {
                self.field("seq", seq);
                self.field("heard", heard.0);
                self.list(figures, Self::figures);
            }
            Record::Started { partitions, .. } => {
                self.list(partitions, |line, (id, epoch)| {
                    format!("{}({epoch})", line.partition(*id))
                });
            }
            Record::Progress { partitions, .. } | Record::State { partitions, .. } => {
                self.owned(partitions);
            }
            Record::Stopped { partitions, reason, .. } => {
                self.field("reason", ReasonWord::of(*reason).text());
                self.list(partitions, |line, (id, epoch, next)| {
                    let next = next.map_or_else(|| "?".to_owned(), |next| next.0.to_string());
                    format!("{}({epoch})@{next}", line.partition(*id))
                });
            }
            Record::Goodbye { clean, .. } => self.field("clean", clean),
            Record::Reply { command, refusal, .. } => {
                self.field("command", command.0);
                self.field("refusal", RefusalWord::of(*refusal).text());
            }
            _ => {}
        }
    }

    fn figures(&self, figures: &PartitionFigures) -> String {
        let PartitionFigures { partition, records, bytes, busy_us, lag } = figures;
        let partition = self.partition(*partition);
        let lag = lag.map(|lag| format!(",lag={lag}")).unwrap_or_default();
        format!("{partition}:records={records},bytes={bytes},busyUs={busy_us}{lag}")
    }

    fn plan(&mut self, seal: Seal, plan: &PlanBody) {
        self.kind(Kind::Plan);
        self.seal(seal);
        if let Some(parent) = plan.parent {
            self.field("parent", parent.0);
        }
        if let Some(trigger) = plan.trigger {
            self.field("trigger", TriggerWord::of(trigger).text());
        }
        self.field("cost", format_args!("{}permille", plan.cost_permille));
        self.field("consumers", plan.consumers);
        self.field("lowerBound", plan.lower_bound);
        self.field("moves", plan.moves.len());
        self.list(&plan.moves, |line, Move { partition, from, to, reason }| {
            let partition = line.partition(*partition);
            format!("{partition}:{}->{}({reason})", place(*from), place(*to))
        });
    }

    fn hello(&mut self, hello: &Hello) {
        self.kind(Kind::Hello);
        self.field("consumer", hello.consumer);
        self.field("process", hello.process);
        self.field("attempt", hello.attempt);
        self.field("seen", hello.seen.0);
        self.field("clean", hello.clean);
        self.positions(&hello.persisted);
    }

    fn command(&mut self, command: &Command) {
        let incarnation = command.incarnation;
        match &command.body {
            CommandBody::Start { term, epoch, partitions } => {
                self.kind(Kind::StartConsumingCommand);
                self.field("term", term);
                self.field("incarnation", incarnation);
                self.field("epoch", epoch);
                self.positions(partitions);
            }
            CommandBody::Stop { term, epoch, partitions, deadline } => {
                self.kind(Kind::StopConsumingCommand);
                self.field("term", term);
                self.field("incarnation", incarnation);
                self.field("epoch", epoch);
                self.field("deadlineMs", deadline.as_millis());
                self.list(partitions, |line, id| line.partition(*id));
            }
            CommandBody::StateQuery { term } => {
                self.kind(Kind::StateQuery);
                self.field("term", term);
                self.field("incarnation", incarnation);
            }
            CommandBody::Drain { term } => {
                self.kind(Kind::Drain);
                self.field("term", term);
                self.field("incarnation", incarnation);
            }
            CommandBody::Ended => {
                self.kind(Kind::Ended);
                self.field("incarnation", incarnation);
            }
            CommandBody::Unknown { kind } => {
                self.unknown(kind);
                self.field("incarnation", incarnation);
            }
        }
    }

    fn rates(&mut self, rates: &PartitionRates) {
        self.kind(Kind::PartitionRates);
        self.field("topic", &rates.topic);
        self.field("partitions", rates.partitions);
        if rates.of > 1 {
            self.field("part", format_args!("{}/{}", u64::from(rates.part) + 1, rates.of));
        }
        self.word(if rates.full { "full" } else { "changes" });
        self.field("missing", rates.missing.len());
        let measured: Vec<_> = rates.rates.iter().collect();
        self.list(&measured, |_, (number, measured)| {
            let source = SourceWord::of(measured.source).text();
            format!("{}-{number}={}B/s({source})", rates.topic, measured.filtered_rate)
        });
    }

    fn change(&mut self, change: &Override) {
        self.kind(Kind::Override);
        self.field("group", &change.group);
        match &change.value {
            Some(value) => self.field(&change.field, value),
            None => self.word(format_args!("{} (back to the file)", change.field)),
        }
    }
}

fn place(consumer: Option<ConsumerNumber>) -> String {
    consumer.map_or_else(|| "-".to_owned(), |consumer| consumer.to_string())
}
