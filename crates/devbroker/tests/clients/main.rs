//! The broker under the clients it is made for: librdkafka, kcat, and a bare protocol client where those hide too much.
//!
//! Every wait ends on a condition within [`support::BOUND`]; nothing leaves the loopback interface.

mod faults;
mod kcat;
mod nodes;
mod offsets;
mod raw;
mod records;
mod retention;
mod support;
mod topics;
