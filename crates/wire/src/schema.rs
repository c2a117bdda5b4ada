//! JSON Schemas of everything in this crate that others may read, for `docs/schemas`.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};

use crate::kind::Kind;
use crate::status::{ConsumerStatus, MonitorStatus, Status};
use crate::{command, ledger, overrides, rates};

/// The name and the text of each schema, in order of names: of the values of all messages, and of the statuses.
///
/// They describe what this version writes. Readers tolerate more.
pub fn schemas() -> Vec<(String, String)> {
    let messages = Kind::ALL.iter().map(|kind| (kind.name().to_owned(), message(*kind)));
    let mut schemas: Vec<_> = messages.collect();
    schemas.push(("Status".to_owned(), schema::<Status>()));
    schemas.push(("MonitorStatus".to_owned(), schema::<MonitorStatus>()));
    schemas.push(("ConsumerStatus".to_owned(), schema::<ConsumerStatus>()));
    schemas.sort();
    schemas
}

fn message(kind: Kind) -> String {
    match kind {
        Kind::Genesis => schema::<ledger::Genesis>(),
        Kind::Elect => schema::<ledger::Elect>(),
        Kind::Tick => schema::<ledger::Tick>(),
        Kind::Plan => schema::<ledger::Plan>(),
        Kind::Hello => schema::<ledger::Hello>(),
        Kind::Heartbeat => schema::<ledger::Heartbeat>(),
        Kind::Grant => schema::<ledger::Grant>(),
        Kind::StartConsumingEvent => schema::<ledger::StartConsumingEvent>(),
        Kind::Progress => schema::<ledger::Progress>(),
        Kind::StopConsumingEvent => schema::<ledger::StopConsumingEvent>(),
        Kind::Fenced => schema::<ledger::Fenced>(),
        Kind::Goodbye => schema::<ledger::Goodbye>(),
        Kind::Reply => schema::<ledger::Reply>(),
        Kind::State => schema::<ledger::State>(),
        Kind::Snapshot => schema::<ledger::Snapshot>(),
        Kind::StartConsumingCommand => schema::<command::StartConsumingCommand>(),
        Kind::StopConsumingCommand => schema::<command::StopConsumingCommand>(),
        Kind::StateQuery => schema::<command::StateQuery>(),
        Kind::Drain => schema::<command::Drain>(),
        Kind::Ended => schema::<command::Ended>(),
        Kind::PartitionRates => schema::<rates::Body>(),
        Kind::Override => schema::<overrides::Body>(),
    }
}

fn schema<T: JsonSchema>() -> String {
    let generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let schema = generator.into_root_schema_for::<T>();
    let mut text = serde_json::to_string_pretty(&schema).expect("a schema is a JSON value");
    text.push('\n');
    text
}
