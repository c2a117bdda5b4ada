//! Consumers on Kubernetes: for each one a Deployment of one pod, or a StatefulSet of one, and a claim for its state.
//!
//! ```text
//! ensure, remove ─► KubeWorkers ──apply, delete──► API server
//!        changed ◄─── Sight ◄────────watch──────────────┘
//! ```
//!
//! Everything that is made is labelled with its group and its consumer's number, and is found by these labels: there is no other
//! memory, so that a controller that starts knows what an earlier one has made. The only crate that names `kube`.

mod client;
mod errors;
mod events;
mod kinds;
mod names;
mod objects;
pub mod operator;
mod options;
pub mod resource;
mod sight;
mod stages;
mod unbound;
mod upkeep;
mod watch;
mod workers;

pub use client::{Client, connect};
pub use names::{CONSUMER_LABEL, Names};
pub use options::KubeOptions;
pub use sight::process_of_pod;
pub use workers::KubeWorkers;
