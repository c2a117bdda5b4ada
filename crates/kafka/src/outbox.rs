//! Records on their way out, through librdkafka: the one producer behind control topics and data topics.
//!
//! Deliveries are reported by a polling thread straight to whoever waits; no task is started. What is on its
//! way is bounded in bytes by a semaphore whose permits travel with the records, so that a sender waits instead of
//! seeing a full queue.
//!
//! An idempotent producer whose sequence broke (a log that lost its end) refuses everything from then on; it is
//! replaced by a new one, and what the old one held has an unknown outcome.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Header, Message as _, OwnedHeaders};
use rdkafka::producer::{
    BaseProducer, BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext,
};
use rdkafka::types::RDKafkaErrorCode as Code;
use tidegate_runtime::ports::{
    AppendError, Class, Delivery, DeliverySender, Error, OutgoingRecord, Producer,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::cluster::Cluster;
use crate::config::{self, Callbacks};
use crate::errors::{self, Right};

/// What a record costs beside its bytes, in librdkafka and here.
const OVERHEAD: usize = 128;

/// How long a thread waits for reports before it looks whether to end. The library spins for the last millisecond of each wait, so that one
/// of its own threads, which wait for 100 ms, takes most of a percent of a core for nothing.
const POLL: Duration = Duration::from_secs(1);

/// How often a partition that librdkafka does not know yet is tried, and how long its metadata may take each time.
const TRIES: u32 = 5;
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// What a producer is made for.
#[derive(Clone, Debug)]
pub(crate) struct Purpose {
    pub(crate) linger_ms: u32,
    pub(crate) timeout: Duration,
    pub(crate) compression: &'static str,
    /// Unacknowledged bytes, overheads included.
    pub(crate) max_bytes: u32,
}

/// A producer with a bounded number of bytes under way.
#[derive(Debug)]
pub(crate) struct Outbox {
    cluster: Arc<Cluster>,
    maker: Maker,
    current: Mutex<Arc<Client>>,
    room: Arc<Semaphore>,
    max_bytes: u32,
}

/// Makes producers, again when one breaks.
struct Maker(ClientConfig, Reports);

impl std::fmt::Debug for Maker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The settings hold secrets.
        f.write_str("Maker")
    }
}

/// librdkafka's producer, and what its polling thread lives by: dropped in this order, so that the thread has the last handle and ends the producer.
/// librdkafka takes more than half a second for that, and a task must not stand still for it. What was not acknowledged has an unknown
/// outcome either way.
struct Client {
    producer: Arc<BaseProducer<Reports>>,
    _lives: Arc<()>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// Hands delivery reports to those who wait.
#[derive(Clone, Debug)]
struct Reports(Callbacks);

/// What travels with a record.
#[derive(Debug)]
pub(crate) struct Ticket {
    sender: DeliverySender,
    /// Who may know more of a failure than the record's report says.
    client: Weak<Client>,
    _room: OwnedSemaphorePermit,
}

// === impl Reports ===

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = Callbacks::ENABLE_REFRESH_OAUTH_TOKEN;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        ClientContext::error(&self.0, error, reason);
    }

    fn generate_oauth_token(
        &self,
        config: Option<&str>,
    ) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        self.0.generate_oauth_token(config)
    }
}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        let outcome = match result {
            Ok(message) => u64::try_from(message.offset()).map_err(|_| {
                let text = "the broker acknowledged a record without its offset";
                AppendError::Unknown(Error::new(Class::Transient, text))
            }),
            Err((error, message)) => {
                Err(failed(ticket.cause(error), message.topic(), message.partition()))
            }
        };
        ticket.sender.tell(outcome);
    }
}

// === impl Ticket ===

impl Ticket {
    /// Why a record came back. A user who may write nowhere is refused before any record is sent: the producer breaks,
    /// and its records say only that they were thrown away.
    fn cause(&self, error: &KafkaError) -> KafkaError {
        let denied = Code::ClusterAuthorizationFailed;
        let thrown_away = errors::code_of(error) == Some(Code::PurgeQueue);
        let client = self.client.upgrade().filter(|_| thrown_away);
        let broken = client.and_then(|client| client.producer.client().fatal_error());
        match broken {
            Some((code, _)) if code == denied => KafkaError::MessageProduction(denied),
            _ => error.clone(),
        }
    }
}

/// The error for a record that came back.
fn failed(error: KafkaError, topic: &str, partition: i32) -> AppendError {
    let doing = format!("failed to append to partition {topic}-{partition}");
    let certain = errors::code_of(&error).is_some_and(errors::surely_not_appended);
    let error = errors::library(doing, Right::topic("Write", topic), error);
    if certain { AppendError::Refused(error) } else { AppendError::Unknown(error) }
}

// === impl Outbox ===

impl Outbox {
    pub(crate) fn new(
        cluster: Arc<Cluster>,
        mut settings: ClientConfig,
        purpose: &Purpose,
    ) -> Result<Self, Error> {
        settings
            // A topic is made on purpose or not at all.
            .set("allow.auto.create.topics", "false")
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", purpose.linger_ms.to_string())
            .set("message.timeout.ms", purpose.timeout.as_millis().to_string())
            .set("compression.type", purpose.compression)
            .set("batch.size", "1000000")
            // The semaphore is the bound; librdkafka's own must lie above it.
            .set("queue.buffering.max.messages", "10000000")
            .set("queue.buffering.max.kbytes", "2097151");
        let maker = Maker(settings, Reports(Callbacks::new(cluster.tokens())));
        let current = Mutex::new(maker.make()?);
        let room = usize::try_from(purpose.max_bytes).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Self {
            cluster,
            maker,
            current,
            room: Arc::new(Semaphore::new(room)),
            max_bytes: purpose.max_bytes,
        })
    }

    /// Queues a record, in the order of the calls.
    pub(crate) async fn push(&self, record: &OutgoingRecord) -> Result<Delivery, AppendError> {
        let (topic, partition) = (record.topic.as_ref(), record.partition);
        self.cluster.check(topic, partition).await.map_err(AppendError::Refused)?;
        let bytes = u32::try_from(record.size().saturating_add(OVERHEAD)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(bytes.min(self.max_bytes)).await;
        let room = room.map_err(|closed| {
            let error = Error::new(Class::Permanent, "the producer was closed").because(closed);
            AppendError::Refused(error)
        })?;
        let (sender, delivery) = Delivery::pending();
        let mut ticket = Box::new(Ticket { sender, client: Weak::new(), _room: room });
        for left in (0..TRIES).rev() {
            let client = self.client();
            ticket.client = Arc::downgrade(&client);
            let error = match client.queue(record, ticket) {
                Ok(()) => return Ok(delivery),
                Err((error, back)) => {
                    ticket = back;
                    error
                }
            };
            let healed = left > 0 && self.heal(&client, topic, &error).await;
            if !healed {
                let doing = format!("failed to append to partition {topic}-{partition}");
                let right = Right::topic("Write", topic);
                return Err(AppendError::Refused(errors::library(doing, right, error)));
            }
        }
        let text =
            format!("failed to append to partition {topic}-{partition}: it is not known yet");
        Err(AppendError::Refused(Error::new(Class::Transient, text)))
    }

    /// Removes what stood in a record's way, and returns whether to try again.
    async fn heal(&self, client: &Arc<Client>, topic: &str, error: &KafkaError) -> bool {
        match errors::code_of(error) {
            // The partition exists: only librdkafka has not heard of it.
            Some(Code::UnknownPartition | Code::UnknownTopic) => {
                let (client, topic) = (Arc::clone(client), topic.to_owned());
                let asked = tokio::task::spawn_blocking(move || {
                    client.producer.client().fetch_metadata(Some(&topic), METADATA_TIMEOUT).is_ok()
                });
                asked.await.unwrap_or(false)
            }
            Some(Code::Fatal) => self.replace(client),
            _ => false,
        }
    }

    /// Makes a new producer in the place of one that is beyond repair.
    fn replace(&self, broken: &Arc<Client>) -> bool {
        let reason =
            broken.producer.client().fatal_error().map(|(_, reason)| reason).unwrap_or_default();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, broken) {
            return true;
        }
        tracing::warn!(reason, "a producer is broken and replaced");
        match self.maker.make() {
            Ok(client) => {
                *current = client;
                true
            }
            Err(error) => {
                tracing::error!(error = %error, "failed to replace a broken producer");
                false
            }
        }
    }

    fn client(&self) -> Arc<Client> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

// === impl Maker, Client ===

impl Maker {
    fn make(&self) -> Result<Arc<Client>, Error> {
        let made: Result<BaseProducer<Reports>, KafkaError> =
            self.0.create_with_context(self.1.clone());
        let producer = Arc::new(made.map_err(|error| config::not_made("producer", &error))?);
        let lives = Arc::new(());
        let (polled, is_used) = (Arc::clone(&producer), Arc::downgrade(&lives));
        let polling = std::thread::Builder::new().name("kafka-producer".to_owned());
        let polling = polling.spawn(move || {
            while is_used.strong_count() > 0 {
                polled.poll(POLL);
            }
        });
        polling.map_err(|error| {
            Error::new(Class::Transient, "failed to start a producer's thread").because(error)
        })?;
        Ok(Arc::new(Client { producer, _lives: lives }))
    }
}

impl Client {
    fn queue(
        &self,
        record: &OutgoingRecord,
        ticket: Box<Ticket>,
    ) -> Result<(), (KafkaError, Box<Ticket>)> {
        let partition = i32::try_from(record.partition).unwrap_or(i32::MAX);
        let mut outgoing: BaseRecord<'_, [u8], [u8], Box<Ticket>> =
            BaseRecord::with_opaque_to(&record.topic, ticket).partition(partition);
        outgoing.key = record.key.as_deref();
        outgoing.payload = record.value.as_deref();
        outgoing.timestamp = record.timestamp_ms.and_then(|at| i64::try_from(at).ok());
        if !record.headers.is_empty() {
            let none = OwnedHeaders::new_with_capacity(record.headers.len());
            let headers = record.headers.iter().fold(none, |headers, (key, value)| {
                headers.insert(Header { key, value: value.as_deref() })
            });
            outgoing.headers = Some(headers);
        }
        self.producer.send(outgoing).map_err(|(error, record)| (error, record.delivery_opaque))
    }
}

/// The produce port.
#[derive(Debug)]
pub(crate) struct KafkaProducer(pub(crate) Outbox);

#[async_trait::async_trait]
impl Producer for KafkaProducer {
    async fn enqueue(&self, record: OutgoingRecord) -> Result<Delivery, AppendError> {
        self.0.push(&record).await
    }
}
