//! What the processes tell about themselves: the answer to `GET /status`, of which the command line and the custom
//! resource are views.
//!
//! Everything here is for people and tools; no decision is taken from it. Readers tolerate fields and words that they do
//! not know, so that a command line may ask a process of another version.

mod alarm;
mod group;
mod process;
mod rate;

pub use alarm::{Alarm, RaisedAlarm, Severity};
pub use group::{
    ConsumerRow, Decision, Freshness, Mode, OverrideRow, Ownership, PartitionRow, PlanStatus, Role,
    RolloutStatus, SpecSummary, Status, TopicRow, Waiting, WorkerPhase,
};
pub use process::{ConsumerStatus, HeldPartition, HeldState, LeaseState, MonitorStatus};
pub use rate::ByteRate;
