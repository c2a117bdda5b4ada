//! What the loops need from the world, as traits that adapters implement.
//!
//! Ports carry ids and bytes; they know neither Kafka's client libraries nor Tidegate's message formats. Every call may
//! be retried by its caller according to the error's [`Class`] and nothing else.

mod clock;
mod control;
mod data;
mod dead_letters;
mod error;
mod feeds;
mod measure;
mod produce;
mod sink;
mod state;
mod workers;

pub use clock::{BootClock, Clock};
pub use control::{
    Admin, AppendError, ControlLog, ControlReader, Offsets, RawRecord, ReadError, TopicSpec,
    TopicState,
};
pub use data::{PartitionReader, ReadEvent, Record, RecordBatch, TopicPartition};
pub use dead_letters::{DeadLetter, DeadLetters};
pub use error::{Class, Error};
pub use feeds::{Overridden, Overrides, Rates};
pub use measure::{
    BatchAt, BatchSize, Bound, BrokerFailure, LogSizes, MeasuredTopic, PartitionSample, Round,
};
pub use produce::{Delivery, DeliverySender, OutgoingRecord, Producer};
pub use sink::{Batch, Guarantee, Rejection, Sink, SinkError};
pub use state::{Persisted, StateError, StateFile};
pub use workers::{Doing, Evidence, Phase, WorkerChange, WorkerSpec, WorkerState, Workers};
