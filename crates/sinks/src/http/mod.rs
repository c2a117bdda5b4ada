//! The `http` sink: batches as lines of JSON, posted to a receiver of your own.
//!
//! ```text
//! POST /lines                         Tidegate-Action: write
//! Tidegate-Topic: orders              Tidegate-Expected: 1200      the receiver must stand here
//! Tidegate-Topic-Id: shwAf4D_…        Tidegate-Next: 1450          and stands here afterwards
//! Tidegate-Partition: 7               Tidegate-Records: 248
//! Tidegate-Generation, -Epoch         Idempotency-Key: shwAf4D_…-7-1200-1450
//! ```
//!
//! At-least-once with any receiver that takes lines. One that keeps the position and the token of each partition, and
//! compares them as docs/sinks.md says, makes it exactly-once: all checks of the conformance suite hold then.
//!
//! - A request whose answer was lost is repeated once, with the same key. When the repetition is told that somebody else
//!   has written, that may have been the first: the outcome is unknown then, and not fenced.
//! - A batch that is too large for the receiver is cut in halves, which are sent in order. What is learned of its limit is
//!   kept, and tried again after some successes. A record that is too large by itself is rejected, if the receiver has
//!   taken smaller ones and none as large: a proxy may have a limit for a while that good records do not meet.
//! - A rejection that comes when a part of the batch is already durable is kept back: this write fails as one of unknown
//!   outcome, and each later one that holds the record is rejected before anything is sent, until one passes it. A
//!   receiver without a position is sent the whole batch again after each such failure: what was found before must
//!   not be forgotten, or two such records would never get past each other.
//! - A receiver that says when to come back is left alone until then, by all partitions.

mod answer;
mod client;
mod config;
mod parts;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, USER_AGENT};
use hyper::{Request, StatusCode};
use tidegate_core::ids::{FencingToken, Instant, PartitionId, Position};
use tidegate_runtime::ports::{
    Batch, Class, Clock, Guarantee, Record, Rejection, Sink, SinkError, TopicPartition,
};
use tidegate_runtime::security::SecretError;

use self::answer::{Acquired, Answer, Verdict};
use self::client::Client;
use self::parts::{Lines, Part};
use crate::spec::{Cause, NotOpened};

pub use self::config::HttpConfig;

/// Posts batches to a receiver.
#[derive(Debug)]
pub struct HttpSink {
    config: HttpConfig,
    client: Client,
    clock: Arc<dyn Clock>,
    known: Mutex<Known>,
}

/// What the sink has learned.
#[derive(Debug)]
struct Known {
    partitions: BTreeMap<PartitionId, Entry>,
    /// The receiver wants to hear nothing before this.
    not_before: Instant,
    /// Bodies are cut to less than this: half of one that was too large for it.
    below: usize,
    /// Parts in a row that were taken since `below` changed.
    in_a_row: u32,
    /// The largest body that was taken; 0 again when one that is no larger was refused.
    taken: usize,
}

/// After so many parts in a row a larger one is tried: one request in 33 is wasted where the limit is still there.
const TRY_AFTER: u32 = 32;

impl Known {
    fn took(&mut self, bytes: usize) {
        self.taken = self.taken.max(bytes);
        self.in_a_row += 1;
        if self.in_a_row == TRY_AFTER {
            self.in_a_row = 0;
            self.below = self.below.saturating_mul(2);
        }
    }

    /// True when it fits what is known that a body of this size is too large, and smaller ones are not.
    fn refused(&mut self, bytes: usize) -> bool {
        self.in_a_row = 0;
        if bytes <= self.taken {
            self.taken = 0;
        }
        self.taken > 0
    }
}

#[derive(Debug, Default)]
struct Entry {
    /// The owner in this process.
    owner: Option<FencingToken>,
    /// What the receiver rejected when a part of the batch was already durable, by offset, until a write passes it.
    kept_back: BTreeMap<u64, String>,
    /// That was told, and nothing was sent since.
    told: bool,
}

/// A request that failed; the URL is without what may be secret.
#[derive(Debug, thiserror::Error)]
enum HttpError {
    #[error("failed to send to {url}")]
    Lost {
        url: String,
        #[source]
        source: Cause,
    },
    #[error(
        "the certificate of {url} is not accepted: set #caFile= to the authority that it is from"
    )]
    Certificate {
        url: String,
        #[source]
        source: Cause,
    },
    #[error("{url} did not answer within {}", tidegate_runtime::spec::Span::print(*.limit))]
    Late { url: String, limit: Duration },
    #[error("{url} wants to be left alone for {}", tidegate_runtime::spec::Span::print(*.wait))]
    Busy { url: String, wait: Duration },
    #[error("{url} answered {status}{quoted}")]
    Away { url: String, status: StatusCode, quoted: String },
    #[error("{url} answered {status}{quoted}; {advice}")]
    Refused { url: String, status: StatusCode, quoted: String, advice: &'static str },
    #[error(
        "the answer of {url} was lost, and the repeated request was answered {status}: somebody has written"
    )]
    Unclear { url: String, status: StatusCode },
    #[error("{url} has taken a part of the batch and rejects {} of its records", .records)]
    Half { url: String, records: usize },
    #[error("failed to read the bearer token for {url}")]
    Secret {
        url: String,
        #[source]
        source: SecretError,
    },
    #[error(
        "failed to make a request for {0}: the bearer token or the topic's name is no text of a header"
    )]
    Request(String),
}

/// A call of an owner, with its time.
struct Call<'a> {
    partition: &'a TopicPartition,
    token: FencingToken,
    deadline: Instant,
}

/// What is sent.
struct Message {
    action: &'static str,
    /// Where the batch begins and ends.
    span: Option<(Position, Position)>,
    records: usize,
    body: Bytes,
}

impl HttpSink {
    /// A sink for a receiver, which is not asked yet.
    pub(crate) async fn open(config: HttpConfig, clock: Arc<dyn Clock>) -> Result<Self, NotOpened> {
        let wrong = |source| NotOpened { class: Class::Permanent, source };
        let asked = config.clone();
        let client = tokio::task::spawn_blocking(move || Client::new(&asked)).await;
        let client = client.map_err(|died| wrong(died.into()))?.map_err(wrong)?;
        let known = Known {
            partitions: BTreeMap::new(),
            not_before: Instant::default(),
            below: usize::MAX,
            in_a_row: 0,
            taken: 0,
        };
        Ok(Self { config, client, clock, known: Mutex::new(known) })
    }

    fn with<T>(&self, with: impl FnOnce(&mut Known) -> T) -> T {
        with(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn with_entry<T>(&self, id: PartitionId, with: impl FnOnce(&mut Entry) -> T) -> T {
        self.with(|known| with(known.partitions.entry(id).or_default()))
    }

    fn url(&self) -> String {
        self.config.to_string()
    }

    fn call<'a>(&self, partition: &'a TopicPartition, token: FencingToken) -> Call<'a> {
        Call { partition, token, deadline: self.clock.now().after(self.config.timeout) }
    }

    /// Sends a message until it is answered, and returns the answer; true when it answers a repetition.
    async fn exchange(
        &self,
        call: &Call<'_>,
        message: &Message,
    ) -> Result<(Answer, bool), SinkError> {
        let mut repeated = false;
        loop {
            self.turn(call).await?;
            let request = self.request(call, message).await?;
            let left = call.deadline.since(self.clock.now());
            let url = self.url();
            match tokio::time::timeout(left, self.client.send(request)).await {
                Ok(Ok(answer)) => match answer.retry_after(self.clock.unix_ms()) {
                    None => return Ok((answer, repeated)),
                    Some(wait) => {
                        let until = self.clock.now().after(wait);
                        self.with(|known| known.not_before = known.not_before.max(until));
                    }
                },
                Ok(Err(lost)) if lost.certificate => {
                    return Err(call.refused(HttpError::Certificate { url, source: lost.cause }));
                }
                Ok(Err(lost)) if lost.connected && !repeated => repeated = true,
                Ok(Err(lost)) => {
                    return Err(call.unavailable(HttpError::Lost { url, source: lost.cause }));
                }
                Err(_) => {
                    let limit = self.config.timeout;
                    return Err(call.unavailable(HttpError::Late { url, limit }));
                }
            }
        }
    }

    /// Waits until the receiver may be asked, if that is in time.
    async fn turn(&self, call: &Call<'_>) -> Result<(), SinkError> {
        let wait = self.with(|known| known.not_before).since(self.clock.now());
        if wait >= call.deadline.since(self.clock.now()) {
            return Err(call.unavailable(HttpError::Busy { url: self.url(), wait }));
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    async fn request(
        &self,
        call: &Call<'_>,
        message: &Message,
    ) -> Result<Request<Full<Bytes>>, SinkError> {
        let TopicPartition { topic, id } = call.partition;
        let mut request = Request::post(&self.config.uri)
            .header(USER_AGENT, concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-ndjson")
            // Also when it is 0, which the library would leave out and many servers wait for.
            .header(CONTENT_LENGTH, message.body.len())
            .header("tidegate-action", message.action)
            .header("tidegate-topic", topic)
            .header("tidegate-topic-id", id.topic.to_string())
            .header("tidegate-partition", id.number)
            .header("tidegate-generation", call.token.generation.0)
            .header("tidegate-epoch", call.token.epoch.0.0);
        if let Some((begin, end)) = message.span {
            let key = format!("{}-{}-{}-{}", id.topic, id.number, begin.0, end.0);
            request = request
                .header("tidegate-expected", begin.0)
                .header("tidegate-next", end.0)
                .header("tidegate-records", message.records)
                .header("idempotency-key", key);
        }
        if let Some(secret) = self.secret(call).await? {
            request = request.header(AUTHORIZATION, format!("Bearer {secret}"));
        }
        let mut request = request
            .body(Full::new(message.body.clone()))
            // The cause is left out: it could quote a header.
            .map_err(|_| call.refused(HttpError::Request(self.url())))?;
        if let Some(token) = request.headers_mut().get_mut(AUTHORIZATION) {
            token.set_sensitive(true);
        }
        Ok(request)
    }

    /// The bearer token as it is now.
    async fn secret(&self, call: &Call<'_>) -> Result<Option<String>, SinkError> {
        let Some(secret) = self.config.bearer.clone() else { return Ok(None) };
        let read = tokio::task::spawn_blocking(move || secret.read()).await;
        match read {
            Ok(Ok(secret)) => Ok(Some(secret)),
            Ok(Err(source)) => Err(call.refused(HttpError::Secret { url: self.url(), source })),
            Err(died) => {
                Err(call.unavailable(HttpError::Lost { url: self.url(), source: died.into() }))
            }
        }
    }

    /// The error of an answer that is neither success nor about single records.
    async fn failed(&self, call: &Call<'_>, answer: &Answer, verdict: Verdict) -> SinkError {
        let (url, status) = (self.url(), answer.status);
        let secret = self.secret(call).await.ok().flatten();
        let quoted = answer.quoted(secret.as_deref());
        match verdict {
            Verdict::Fenced => SinkError::Fenced {
                partition: call.partition.clone(),
                reason: format!("{url} answered {status}{quoted}"),
            },
            Verdict::Refused(advice) => {
                call.refused(HttpError::Refused { url, status, quoted, advice })
            }
            Verdict::TooLarge => {
                let advice = "raise its limit of a body, or that of a proxy before it: it has taken no smaller \
                              record since";
                call.refused(HttpError::Refused { url, status, quoted, advice })
            }
            Verdict::Away | Verdict::Durable | Verdict::Rejected(_) => {
                call.unavailable(HttpError::Away { url, status, quoted })
            }
        }
    }

    /// Posts the parts of a batch, cutting those that are too large.
    async fn post(&self, call: &Call<'_>, lines: &Lines) -> Result<(), SinkError> {
        let mut parts = lines.parts(self.with(|known| known.below));
        let mut durable = false;
        while let Some(part) = parts.pop_front() {
            match self.post_part(call, lines, &part).await? {
                Posted::Durable => durable = true,
                Posted::Cut([first, second]) => {
                    parts.push_front(second);
                    parts.push_front(first);
                }
                Posted::Rejected(records) if durable => {
                    let error = HttpError::Half { url: self.url(), records: records.len() };
                    let records = records.into_iter().map(|it| (it.offset, it.reason));
                    self.with_entry(call.partition.id, |entry| entry.kept_back.extend(records));
                    return Err(call.unavailable(error));
                }
                Posted::Rejected(records) => {
                    let partition = call.partition.clone();
                    return Err(SinkError::Rejected { partition, records });
                }
            }
        }
        Ok(())
    }

    async fn post_part(
        &self,
        call: &Call<'_>,
        lines: &Lines,
        part: &Part,
    ) -> Result<Posted, SinkError> {
        let message = Message {
            action: "write",
            span: Some(lines.span(part)),
            records: Lines::records(part),
            body: lines.body(part),
        };
        let (answer, repeated) = self.exchange(call, &message).await?;
        let (offsets, bytes) = (lines.offsets(part), message.body.len());
        match answer.to_write(offsets) {
            Verdict::Durable => {
                self.with(|known| known.took(bytes));
                Ok(Posted::Durable)
            }
            Verdict::Rejected(records) => Ok(Posted::Rejected(records)),
            Verdict::Fenced if repeated => {
                let (url, status) = (self.url(), answer.status);
                Err(call.unavailable(HttpError::Unclear { url, status }))
            }
            Verdict::TooLarge => {
                match (Lines::halves(part), offsets, self.with(|known| known.refused(bytes))) {
                    (Some(halves), ..) => {
                        self.with(|known| known.below = known.below.min(bytes / 2 + 1));
                        Ok(Posted::Cut(halves))
                    }
                    (None, [offset], true) => {
                        let reason =
                            format!("its line of {bytes} bytes is too large for the receiver");
                        Ok(Posted::Rejected(vec![Rejection { offset: *offset, reason }]))
                    }
                    _ => Err(self.failed(call, &answer, Verdict::TooLarge).await),
                }
            }
            verdict => Err(self.failed(call, &answer, verdict).await),
        }
    }

    /// What was rejected of this batch when an earlier attempt had already written a part of it.
    ///
    /// Who was told and comes with the same records again had nowhere to put them. They are forgotten then, since the
    /// receiver may have changed its mind.
    fn kept_back(&self, partition: &TopicPartition, batch: Batch<'_>) -> Option<SinkError> {
        let records = self.with_entry(partition.id, |entry| {
            let kept = |record: &Record| {
                let reason = entry.kept_back.get(&record.offset)?.clone();
                Some(Rejection { offset: record.offset, reason })
            };
            let records: Vec<_> = batch.records.iter().filter_map(kept).collect();
            if !records.is_empty() && entry.told {
                entry.kept_back.clear();
            }
            entry.told = !records.is_empty() && !entry.told;
            if entry.told { records } else { Vec::new() }
        });
        let partition = partition.clone();
        (!records.is_empty()).then_some(SinkError::Rejected { partition, records })
    }
}

/// What came of a part.
enum Posted {
    Durable,
    Cut([Part; 2]),
    Rejected(Vec<Rejection>),
}

impl Call<'_> {
    fn unavailable(&self, error: HttpError) -> SinkError {
        SinkError::Unavailable { partition: self.partition.clone(), source: error.into() }
    }

    fn refused(&self, error: HttpError) -> SinkError {
        SinkError::Refused { partition: self.partition.clone(), source: error.into() }
    }
}

#[async_trait]
impl Sink for HttpSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn acquire(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<Option<Position>, SinkError> {
        let call = self.call(partition, token);
        let message = Message { action: "acquire", span: None, records: 0, body: Bytes::new() };
        let (answer, _) = self.exchange(&call, &message).await?;
        match answer.to_acquire() {
            Acquired::At(position) => {
                self.with_entry(partition.id, |entry| entry.owner = Some(token));
                Ok(position)
            }
            Acquired::Not(verdict) => Err(self.failed(&call, &answer, verdict).await),
        }
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        if self.with_entry(partition.id, |entry| entry.owner != Some(token)) {
            let reason = "it is not acquired with this token".to_owned();
            return Err(SinkError::Fenced { partition: partition.clone(), reason });
        }
        if let Some(rejected) = self.kept_back(partition, batch) {
            return Err(rejected);
        }
        let lines = Lines::encode(partition, batch).await;
        self.post(&self.call(partition, token), &lines).await?;
        let ahead = |entry: &mut Entry| entry.kept_back = entry.kept_back.split_off(&batch.end.0);
        self.with_entry(partition.id, ahead);
        Ok(())
    }

    async fn release(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<(), SinkError> {
        self.with(|known| {
            let entry = known.partitions.get(&partition.id);
            if entry.is_some_and(|entry| entry.owner == Some(token)) {
                known.partitions.remove(&partition.id);
            }
        });
        Ok(())
    }
}
