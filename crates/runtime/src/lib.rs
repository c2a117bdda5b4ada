//! The shells around `tidegate-core`: ports to the world, the three loops, process workers, telemetry and the spec.
//!
//! A loop waits for an input, hands it to a step function of `core` and carries out the effects; it decides nothing.

mod codec;
pub mod consumer;
pub mod controller;
pub mod errors;
pub mod evacuation;
pub mod feeds;
pub mod follow;
#[cfg(test)]
mod generated;
pub mod ledger;
pub mod live;
pub mod manual;
pub mod monitor;
pub mod ports;
pub mod process;
pub mod retention;
pub mod security;
pub mod service;
pub mod settings;
pub mod sink;
pub mod spec;
pub mod state_file;
pub mod task;
pub mod telemetry;
pub mod topics;
