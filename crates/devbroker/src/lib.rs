//! A small in-memory broker that speaks the Kafka protocol, for demos and tests. **Never for production.**
//!
//! It keeps nothing: records, topics and committed offsets live in the memory of one process and end
//! with it. It replicates nothing: the "nodes" are ports of that one process over one shared log. It
//! authenticates nobody and binds to loopback unless told otherwise. In return a test can stop its
//! nodes, move its leaders and have it fail on demand.
//!
//! ```text
//! clients ──► connection (one per socket) ──► handlers ──► cluster ──► log
//!              frames, long poll, faults      pure          pure        pure
//! ```
//!
//! librdkafka (idempotent producers included) and kcat work unchanged, as long as consumers assign
//! their partitions themselves; the Java clients were not tried. It leaves out group membership
//! (`subscribe`), transactions, compaction (a compacted topic keeps everything), quotas, ACLs, TLS,
//! fetch sessions, and record formats before magic 2. A seek by time into a compressed batch lands
//! on the batch's first record.
//!
//! ```no_run
//! use tidegate_devbroker::{ApiKey, DevBroker, FaultAction, FaultRule, Options};
//!
//! # async fn example() -> Result<(), tidegate_devbroker::Error> {
//! let broker = DevBroker::start(Options::default()).await?;
//! println!("bootstrap.servers={}", broker.bootstrap());
//! broker.inject(FaultRule::new(ApiKey::Produce, FaultAction::ApplyThenDrop).after(3).times(1));
//! broker.stop().await;
//! # Ok(())
//! # }
//! ```

mod batch;
// The same guard at both ends of the protocol: one file, because neither end may depend on the other.
#[path = "../../kafka/src/bounded.rs"]
mod bounded;
mod broker;
mod clock;
mod cluster;
mod codec;
mod config;
mod connection;
mod error;
mod faults;
mod handlers;
mod log;
mod node;
mod options;
mod shared;

pub use kafka_protocol::ResponseError;
pub use kafka_protocol::messages::ApiKey;

pub use crate::broker::DevBroker;
pub use crate::cluster::NodeId;
pub use crate::error::Error;
pub use crate::faults::{FaultAction, FaultId, FaultRule};
pub use crate::options::Options;
