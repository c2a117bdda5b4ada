//! The object sink on a real S3 server, also through a proxy that does to requests what networks and servers do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod access;
mod chains;
mod faults;
mod proxy;
mod world;
