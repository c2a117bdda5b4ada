//! Groups that are resources, on a real Kubernetes with a real Kafka: what operators tell in status and Events, what they refuse, what
//! they put right, and that a group that was installed from chart or manifests loses nothing and leaves nothing behind.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail by panicking")]
#![expect(clippy::print_stdout, reason = "figures are shown")]

#[path = "../support/audited.rs"]
mod audited;
#[path = "../support/ends.rs"]
mod ends;
mod everything;
mod figures;
mod installed;
mod life;
#[path = "../support/on_kube.rs"]
mod on_kube;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use ends::Running;
