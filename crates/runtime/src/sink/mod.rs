//! The door for sinks of other people: everything that a sink needs is here, under one name.
//!
//! A sink implements [`Sink`] and shows by [`conformance()`] that it keeps what the trait asks for. The example
//! `custom_sink` is a whole one in some thirty lines.

pub mod conformance;

pub use async_trait::async_trait;
pub use bytes::Bytes;
pub use tidegate_core::ids::{FencingToken, PartitionId, Position, TopicId};

pub use self::conformance::conformance;
pub use crate::ports::{
    Batch, Class, Guarantee, Record, Rejection, Sink, SinkError, TopicPartition,
};
