//! What integration tests of several crates share: a real Apache Kafka, PostgreSQL, S3 server and Kubernetes, free ports,
//! tools that must be there.
//!
//! A development dependency only. A bench that cannot be had fails the test that wants it: nothing here returns an
//! `Option` that a test could take for leave to skip.
//!
//! Everything blocks. A test on tokio starts its bench before it enters the runtime, or in `spawn_blocking`.
#![expect(
    clippy::panic,
    reason = "a missing bench is a failed test, with the reason as its message"
)]

mod ports;
mod real_kafka;
mod real_kube;
mod real_postgres;
mod real_s3;
mod tools;

pub use tempfile::TempDir;

pub use ports::{PortRange, free_port_range};
pub use real_kafka::{KafkaOptions, KafkaVersion, RealKafka, SecureListener};
pub use real_kube::{Fault, Namespace, RealKube};
pub use real_postgres::{PostgresVersion, RealPostgres};
pub use real_s3::RealS3;
pub use tools::{require_tool, unique_name};
