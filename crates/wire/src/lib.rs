//! The bytes of every message that Tidegate's processes exchange: the only crate that knows them.
//!
//! ```text
//! core value ──encode──► Encoded { key, headers, JSON value } ──(runtime, kafka)──► a topic
//! core value ◄─decode─── headers, value ◄────────────────────────────────────────── a topic
//! ```
//!
//! Values are JSON, so that any tool for Kafka can show them; the headers say what they are. Decoders never panic, look at
//! no more than [`MAX_VALUE_BYTES`], ignore fields that they do not know, and turn kinds that they do not know into
//! `Unknown` variants: processes of neighbouring versions work together. Nothing here sends, stores or decides.

mod command;
mod describe;
mod envelope;
mod error;
mod ids;
mod kind;
mod ledger;
mod overrides;
mod rates;
mod rows;
mod schema;
pub mod state_file;
pub mod status;
mod words;

pub use command::{decode_command, encode_command};
pub use describe::{Decoded, Names, decode, describe};
pub use envelope::{
    Encoded, MAX_KIND_BYTES, MAX_VALUE_BYTES, TYPE_HEADER, VERSION, VERSION_HEADER,
};
pub use error::{Cause, Error};
pub use kind::Kind;
pub use ledger::{decode_entry, encode_entry};
pub use overrides::{Override, decode_override, encode_override};
pub use rates::{PartitionRates, RatesOf, decode_rates, encode_rates, encode_rates_in_parts};
pub use rows::MAX_PARTITIONS;
pub use schema::schemas;
pub use status::{Alarm, ConsumerStatus, MonitorStatus, Status};
