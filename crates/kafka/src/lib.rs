//! Tidegate's Kafka ports, on two clients that each do what they are good at.
//!
//! - A **thin layer** of our own on `kafka-protocol` reads and asks: the data path of consumers
//!   ([`Kafka::partition_reader`]), control topics, metadata with topic ids, offsets of very many partitions in one request
//!   per broker, sizes of logs, administration and group offsets. librdkafka lacks some of these, and needs several
//!   times to a thousand times the work for others.
//! - **librdkafka** writes: [`Kafka::producer`] and appends to control topics.
//!
//! ```text
//!              ┌─ admin, offsets, log_sizes, partition_reader ─► cluster ─► connection ─► transport ─► socket, TLS
//!   Kafka ─────┼─ control_log ── append ────┐     ▲ checks, bounds, long poll
//!              │                            ▼     │
//!              └─ producer ───────────────► outbox ─► librdkafka
//! ```
//!
//! Besides the dev broker this is the only crate that names a Kafka library. It decides nothing: classes of errors are
//! in one table, and whoever calls retries by them.

mod admin;
mod backoff;
mod batch_sizes;
mod batch_writer;
mod bounded;
mod cluster;
mod config;
mod connection;
mod control;
mod control_reader;
mod dead_letters;
mod decompress;
mod errors;
mod group_offsets;
mod list_offsets;
mod metadata;
mod numbered;
mod oauth;
mod offsets_probe;
mod outbox;
mod reader;
mod record_batch;
mod records;
mod sasl;
mod scram;
mod sizes;
mod tls;
mod tls_files;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use tidegate_runtime::ports::{
    Admin, ControlLog, DeadLetters, Error, LogSizes, Offsets, PartitionReader, Producer,
};
use tidegate_runtime::security;

pub use crate::batch_writer::BatchWriter;
use crate::cluster::Cluster;
pub use crate::connection::Traffic;
use crate::dead_letters::KafkaDeadLetters;
pub use crate::offsets_probe::OffsetsProbe;
use crate::outbox::{KafkaProducer, Outbox, Purpose};
pub use crate::reader::ReaderOptions;

/// Unacknowledged bytes of a control topic's producer: its records are small, and a controller that is this far ahead
/// of its log has another problem.
const CONTROL_BYTES: u32 = 16 << 20;

/// How a control topic is written.
#[derive(Clone, Copy, Debug)]
pub struct ControlOptions {
    /// After how long an append without an acknowledgement has an unknown outcome.
    pub append_timeout: Duration,
}

impl Default for ControlOptions {
    fn default() -> Self {
        // The write time-out of the lease rules: lease (15 s) less two heartbeats, halved.
        Self { append_timeout: Duration::from_secs(5) }
    }
}

/// How data topics are written.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// Bytes that may be unacknowledged before `enqueue` waits.
    pub max_bytes: u32,
    /// How long records wait to be sent together.
    pub linger_ms: u32,
    /// After how long a record without an acknowledgement has an unknown outcome.
    pub timeout: Duration,
    /// Whether batches are compressed, with zstd.
    pub compressed: bool,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            // A second's worth at half a gigabit: enough to keep every partition's pipeline full.
            max_bytes: 64 << 20,
            linger_ms: 5,
            timeout: Duration::from_secs(30),
            compressed: false,
        }
    }
}

/// After how long a dead letter without an acknowledgement has an unknown outcome: about a write time-out, after which
/// nobody waits for it any more.
const DEAD_LETTER_TIMEOUT: Duration = Duration::from_secs(5);

/// One cluster, and the ports to it.
#[derive(Clone, Debug)]
pub struct Kafka {
    cluster: Arc<Cluster>,
    settings: security::Cluster,
    client_id: String,
}

/// Prepares to use a cluster. Connections are made when they are needed: only settings that cannot be right fail here.
pub fn connect(settings: &security::Cluster, client_id: &str) -> Result<Kafka, Error> {
    let cluster = Arc::new(Cluster::new(settings, client_id)?);
    Ok(Kafka { cluster, settings: settings.clone(), client_id: client_id.to_owned() })
}

impl Kafka {
    /// Administration of topics.
    pub fn admin(&self) -> Arc<dyn Admin> {
        Arc::new(admin::KafkaAdmin::new(Arc::clone(&self.cluster)))
    }

    /// Offsets of groups and logs.
    pub fn offsets(&self) -> Arc<dyn Offsets> {
        Arc::new(group_offsets::KafkaOffsets::new(Arc::clone(&self.cluster)))
    }

    /// Samples of partitions for the monitor; metadata is asked for again when it is older than `refresh`.
    pub fn log_sizes(&self, refresh: Duration) -> Box<dyn LogSizes> {
        Box::new(sizes::KafkaLogSizes::new(Arc::clone(&self.cluster), refresh))
    }

    /// The partitions of one control topic. Makes a producer of its own.
    pub fn control_log(
        &self,
        topic: &str,
        options: ControlOptions,
    ) -> Result<Arc<dyn ControlLog>, Error> {
        let outbox = self.outbox(&Purpose {
            linger_ms: 0,
            timeout: options.append_timeout,
            compression: "zstd",
            max_bytes: CONTROL_BYTES,
        })?;
        Ok(Arc::new(control::KafkaControlLog::new(Arc::clone(&self.cluster), topic, outbox)))
    }

    /// A producer for data topics.
    pub fn producer(&self, options: ProducerOptions) -> Result<Arc<dyn Producer>, Error> {
        let outbox = self.outbox(&Purpose {
            linger_ms: options.linger_ms,
            timeout: options.timeout,
            compression: if options.compressed { "zstd" } else { "none" },
            max_bytes: options.max_bytes,
        })?;
        Ok(Arc::new(KafkaProducer(outbox)))
    }

    /// Dead letters in a topic, which must be there when the first record comes.
    pub fn dead_letters(&self, topic: &str) -> Result<Arc<dyn DeadLetters>, Error> {
        let producer = self.producer(ProducerOptions {
            // A write waits for them, within its time-out: nothing is gained by waiting for more.
            linger_ms: 0,
            timeout: DEAD_LETTER_TIMEOUT,
            ..ProducerOptions::default()
        })?;
        let cluster = Arc::clone(&self.cluster);
        Ok(Arc::new(KafkaDeadLetters::new(cluster, producer, topic)))
    }

    /// A reader of data partitions; call it from within a tokio runtime.
    pub fn partition_reader(&self, options: ReaderOptions) -> Box<dyn PartitionReader> {
        Box::new(reader::KafkaReader::new(Arc::clone(&self.cluster), options))
    }

    /// Writes batches of known size, for measurements.
    pub fn batch_writer(&self) -> BatchWriter {
        BatchWriter::new(Arc::clone(&self.cluster))
    }

    /// Asks for the offsets of topics in two ways, for measurements. The second knows plain sockets only.
    pub async fn offsets_probe(&self, topics: &[String]) -> Result<OffsetsProbe, Error> {
        OffsetsProbe::new(Arc::clone(&self.cluster), topics).await
    }

    /// What the thin layer has sent and received so far.
    pub fn traffic(&self) -> Traffic {
        self.cluster.traffic()
    }

    fn outbox(&self, purpose: &Purpose) -> Result<Outbox, Error> {
        let settings = config::client(&self.settings, &self.client_id)?;
        Outbox::new(Arc::clone(&self.cluster), settings, purpose)
    }
}
