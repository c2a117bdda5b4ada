//! The controller's loop: carries out what its state machine in `core` decides.
//!
//! ```text
//! monitor topic ──rates──► core::controller ──records──► ledger ──read back──┐
//! ledger ────────────────►      │   ▲ ▲                                      │
//!                    commands,  │   │ └──────────────────────────────────────┘
//!                    workers    ▼   │ changes
//!                  command partitions, worker keeper
//! ```
//!
//! One task owns all of it. Calls to Kafka run beside it and come back as inputs; the workers have a task of their own.

mod calls;
mod catalog;
mod keeper;
mod measures;
mod notes;
mod respec;
mod rolling;
mod shell;
mod starts;
mod status;

pub use shell::{Error, Ports, Start, run};
