//! Between the messages of `tidegate-wire` and the raw records of a control log.

use bytes::Bytes;
use tidegate_core::ledger::{Command, Entry};
use tidegate_wire::{Encoded, Error, Override, PartitionRates};

use crate::ports::RawRecord;

/// A record of the ledger to append.
pub(crate) fn of_entry(entry: &Entry) -> RawRecord {
    to_record(tidegate_wire::encode_entry(entry))
}

/// A command to append.
pub(crate) fn of_command(command: &Command) -> RawRecord {
    to_record(tidegate_wire::encode_command(command))
}

/// Largest value of a record of rates: below the 1 MB that a broker takes by default, with room for the envelope.
const RATES_BYTES: usize = 900_000;

/// Rates to append, in as many records as they need.
pub(crate) fn of_rates(rates: &PartitionRates) -> Vec<RawRecord> {
    tidegate_wire::encode_rates_in_parts(rates, RATES_BYTES).into_iter().map(to_record).collect()
}

/// Reads a record of the ledger.
pub(crate) fn entry(record: &RawRecord) -> Result<Entry, Error> {
    tidegate_wire::decode_entry(&headers(record), record.value.as_deref())
}

/// Reads a command.
pub(crate) fn command(record: &RawRecord) -> Result<Command, Error> {
    tidegate_wire::decode_command(&headers(record), record.value.as_deref())
}

/// Reads rates.
pub(crate) fn rates(record: &RawRecord) -> Result<PartitionRates, Error> {
    tidegate_wire::decode_rates(&headers(record), record.value.as_deref())
}

/// A record of the service topic to append.
pub(crate) fn of_override(change: &Override) -> RawRecord {
    to_record(tidegate_wire::encode_override(change))
}

/// Reads a record of the service topic.
pub(crate) fn service(record: &RawRecord) -> Result<Override, Error> {
    tidegate_wire::decode_override(record.key.as_deref(), &headers(record), record.value.as_deref())
}

fn headers(record: &RawRecord) -> Vec<(&str, &[u8])> {
    record.headers.iter().map(|(name, value)| (name.as_str(), &**value)).collect()
}

fn to_record(encoded: Encoded) -> RawRecord {
    RawRecord {
        offset: 0,
        timestamp_ms: 0,
        key: encoded.key.map(Bytes::from),
        headers: encoded
            .headers
            .into_iter()
            .map(|(name, value)| (name, Bytes::from(value)))
            .collect(),
        value: encoded.value.map(Bytes::from),
    }
}
