//! The commands to consumers as JSON.
//!
//! Each states the life of the ledger and of the consumer that it is for, also one that this version does not know: its
//! consumer has to be able to say so.

use std::time::Duration;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_core::ids::{Epoch, Generation, Incarnation, Offset, Term};
use tidegate_core::ledger::{self, CommandBody};

use crate::envelope::{Encoded, Opened, seal, seal_named, to_json};
use crate::error::Error;
use crate::kind::Kind;
use crate::rows::{Grouped, PositionRow};

macro_rules! command {
    ($(#[$doc:meta])* $name:ident { $($fields:tt)* }) => {
        $(#[$doc])*
        #[derive(Debug, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        pub(crate) struct $name {
            /// Life of the ledger that the command follows from: unix seconds.
            generation: u64,
            /// Offset of the `Hello` of the addressee.
            incarnation: u64,
            $($fields)*
        }
    };
}

command! {
    /// Read these partitions from these positions.
    StartConsumingCommand {
        /// Offset of the `Elect` of the sender.
        term: u64,
        /// Offset of the `Grant`.
        epoch: u64,
        /// What to read and from where.
        partitions: Grouped<PositionRow>,
    }
}

command! {
    /// Give these partitions back.
    StopConsumingCommand {
        /// Offset of the `Elect` of the sender.
        term: u64,
        /// Offset of the `Grant`.
        epoch: u64,
        /// What to give back.
        partitions: Grouped<u32>,
        /// How long a write in flight may take to end.
        deadline_ms: u64,
    }
}

command! {
    /// Say what you hold.
    StateQuery {
        /// Offset of the `Elect` of the sender.
        term: u64,
    }
}

command! {
    /// Give everything back.
    Drain {
        /// Offset of the `Elect` of the sender.
        term: u64,
    }
}

command! {
    /// The incarnation has ended, or its Hello was ignored: say Hello again.
    Ended {}
}

/// Writes a command.
///
/// ```
/// use tidegate_core::ids::{Generation, Incarnation, Offset};
/// use tidegate_core::ledger::{Command, CommandBody};
///
/// let incarnation = Incarnation(Offset(40));
/// let command = Command { generation: Generation(1), incarnation, body: CommandBody::Ended };
/// let encoded = tidegate_wire::encode_command(&command);
/// let decoded = tidegate_wire::decode_command(&encoded.header_refs(), encoded.value.as_deref());
/// assert_eq!(decoded.unwrap(), command);
/// ```
pub fn encode_command(command: &ledger::Command) -> Encoded {
    let generation = command.generation.0;
    let incarnation = command.incarnation.0.0;
    match &command.body {
        CommandBody::Start { term, epoch, partitions } => {
            let partitions = Grouped::of(partitions);
            let (term, epoch) = (term.0.0, epoch.0.0);
            let body = StartConsumingCommand { generation, incarnation, term, epoch, partitions };
            seal(Kind::StartConsumingCommand, &body)
        }
        CommandBody::Stop { term, epoch, partitions, deadline } => {
            let body = StopConsumingCommand {
                generation,
                incarnation,
                term: term.0.0,
                epoch: epoch.0.0,
                partitions: Grouped::of(partitions),
                deadline_ms: u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX),
            };
            seal(Kind::StopConsumingCommand, &body)
        }
        CommandBody::StateQuery { term } => {
            seal(Kind::StateQuery, &StateQuery { generation, incarnation, term: term.0.0 })
        }
        CommandBody::Drain { term } => {
            seal(Kind::Drain, &Drain { generation, incarnation, term: term.0.0 })
        }
        CommandBody::Ended => seal(Kind::Ended, &Ended { generation, incarnation }),
        CommandBody::Unknown { kind } => {
            seal_named(kind, Some(to_json(&Ended { generation, incarnation })))
        }
    }
}

/// Reads a command.
pub fn decode_command(
    headers: &[(&str, &[u8])],
    value: Option<&[u8]>,
) -> Result<ledger::Command, Error> {
    let opened = Opened::new(headers, value)?;
    match Kind::parse(opened.kind) {
        Some(Kind::StartConsumingCommand) => read::<StartConsumingCommand>(&opened),
        Some(Kind::StopConsumingCommand) => read::<StopConsumingCommand>(&opened),
        Some(Kind::StateQuery) => read::<StateQuery>(&opened),
        Some(Kind::Drain) => read::<Drain>(&opened),
        Some(Kind::Ended) => read::<Ended>(&opened),
        Some(_) | None => {
            let command = read::<Ended>(&opened)?;
            let body = CommandBody::Unknown { kind: opened.kind.to_owned() };
            Ok(ledger::Command { body, ..command })
        }
    }
}

/// The JSON of a command that can be read back.
trait Body: DeserializeOwned {
    /// Generation, incarnation and body.
    fn into_parts(self) -> (u64, u64, CommandBody);
}

fn read<B: Body>(opened: &Opened<'_>) -> Result<ledger::Command, Error> {
    let (generation, incarnation, body) = opened.parse::<B>()?.into_parts();
    let incarnation = Incarnation(Offset(incarnation));
    Ok(ledger::Command { generation: Generation(generation), incarnation, body })
}

impl Body for StartConsumingCommand {
    fn into_parts(self) -> (u64, u64, CommandBody) {
        let body = CommandBody::Start {
            term: Term(Offset(self.term)),
            epoch: Epoch(Offset(self.epoch)),
            partitions: self.partitions.into_items(),
        };
        (self.generation, self.incarnation, body)
    }
}

impl Body for StopConsumingCommand {
    fn into_parts(self) -> (u64, u64, CommandBody) {
        let body = CommandBody::Stop {
            term: Term(Offset(self.term)),
            epoch: Epoch(Offset(self.epoch)),
            partitions: self.partitions.into_items(),
            deadline: Duration::from_millis(self.deadline_ms),
        };
        (self.generation, self.incarnation, body)
    }
}

impl Body for StateQuery {
    fn into_parts(self) -> (u64, u64, CommandBody) {
        let term = Term(Offset(self.term));
        (self.generation, self.incarnation, CommandBody::StateQuery { term })
    }
}

impl Body for Drain {
    fn into_parts(self) -> (u64, u64, CommandBody) {
        let term = Term(Offset(self.term));
        (self.generation, self.incarnation, CommandBody::Drain { term })
    }
}

impl Body for Ended {
    fn into_parts(self) -> (u64, u64, CommandBody) {
        (self.generation, self.incarnation, CommandBody::Ended)
    }
}
