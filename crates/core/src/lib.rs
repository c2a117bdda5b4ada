//! Every decision of Tidegate, and nothing else.
//!
//! This crate has no IO, no clock, no randomness but that of a seed, and no log: a step takes the time and an input and returns effects,
//! which the shells in `tidegate-runtime` carry out and the simulator in `tidegate-sim` plays with.
//! It never fails on what other processes say: such input is ignored with a reason.
#![no_std]
#![warn(clippy::as_conversions, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

extern crate alloc;

pub mod consumer;
pub mod controller;
pub mod demand;
pub mod ids;
pub mod ledger;
pub mod mutants;
pub mod pack;
pub mod random;
pub mod rates;
pub mod rollout;
#[cfg(test)]
mod samples;
