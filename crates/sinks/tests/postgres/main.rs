//! The `postgres` sink on real PostgreSQL servers: its guarantee under faults, its checks, its errors.
//!
//! Each test has a database of its own on a server that it shares with the others, except where the server crashes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod acks;
mod crash;
mod guarantee;
mod login;
mod proxy;
mod records;
mod schema;
mod world;
