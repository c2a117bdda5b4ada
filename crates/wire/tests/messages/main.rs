//! Tests of all messages through the public interface.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod damage;
mod golden;
mod lines;
mod properties;
mod samples;
mod schemas;
mod statuses;
mod tolerance;
