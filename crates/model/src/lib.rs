//! The ownership protocol under a model checker: the production state machines, in every order of events.
//!
//! ```text
//! scenario ─► World (states, actions, properties) ─► stateright ─► findings
//!               │
//!               ├─ State: ledger, command partitions, processes, sink, what is in flight, what may still go wrong
//!               ├─ Action: an append arrives (or worse), a process reads, looks, works, dies; time passes
//!               └─ Audit: P1, P2, P3, P4, K1 after each action; Recovery: P5 from states in which faults end
//! ```
//!
//! Nothing of the protocol is written twice: controllers, consumers and the fold are those of `tidegate-core`. The shells
//! are reduced to a few lines; what the record of decisions 0009 says is left out is left to the simulator.

mod action;
mod audit;
mod check;
mod configurations;
mod forgery;
mod hurry;
mod logs;
mod process;
mod recovery;
mod scenario;
mod settings;
mod share;
mod sink;
mod state;
mod tell;
mod world;

pub use action::{Action, Fate, Way};
pub use audit::{Promise, Reached};
pub use check::{Bounds, Findings, explore, scenarios};
pub use scenario::{Begin, Budget, Failing, Loss, Matter, Scenario};
pub use sink::SinkKind;
pub use state::State;
pub use world::World;
