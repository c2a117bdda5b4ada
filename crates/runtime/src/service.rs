//! The service topic in the hands of an operator.

use tidegate_wire::Override;

use crate::codec;
use crate::ports::{AppendError, ControlLog};

/// Sets a field of a group's specification for those who follow it, or takes it back. Returns the record's offset.
pub async fn write(log: &dyn ControlLog, change: &Override) -> Result<u64, AppendError> {
    log.append(0, codec::of_override(change)).await
}
