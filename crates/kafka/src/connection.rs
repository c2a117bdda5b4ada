//! One connection to one broker: frames, correlation, pipelining, and the versions both sides speak.
//!
//! ```text
//!  call ──encode──► bounded queue ──► pump ──► socket
//!       ◄──decode── one-shot ◄── front of the waiting line ◄──┘
//! ```
//!
//! A new connection learns the versions, and then says who it is, if the settings have SASL. Several calls may be under way at once; a broker answers a connection's requests in their order, so the pump keeps
//! a line of those that wait and checks each answer's correlation id against its front. A call that times out leaves
//! an answer on the way, so it marks the connection broken: its owner opens another. The layer does not retry, and
//! knows nothing of topics.
//!
//! A broker may believe an authentication for a limited time. A connection is spent some time before that: its owner
//! opens another, and what is under way on it is still answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader,
};
use kafka_protocol::protocol::{
    Encodable as _, HeaderVersion as _, Request, StrBytes, VersionRange,
};
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::security::Security;
use tidegate_runtime::task::{Task, spawn_named};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::oauth::Tokens;
use crate::sasl::Unproven;
use crate::transport::{self, Address, Stream};
use crate::{bounded, sasl, tls};

/// How long an answer may take, unless the call says otherwise. Below the period after which an operator would take
/// the broker for dead, above a long garbage collection.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take that a broker gives from memory: versions and metadata. Shorter, because while one broker
/// is stopped another can answer the same.
pub(crate) const QUICK_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests that may wait for an answer on one connection: enough for a round of samples, and a bound.
const MAX_PIPELINED: usize = 64;

/// The largest answer that is believed; a length beyond it is taken for something that is no broker.
const MAX_FRAME: usize = 256 << 20;

/// Bytes of a frame's length, which stand in front of it.
const LENGTH: usize = 4;

/// Most room that is made at once for an announced answer, unless more was asked for: more is made as it comes.
const ROOM: usize = 64 << 10;

/// How long what the other side said last is waited for, after a write failed: it has arrived before the failure.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Requests that are answered before a broker looks at who asks: `ApiVersions`, `SaslHandshake`, `SaslAuthenticate`.
const FIRST_QUESTIONS: [i16; 3] = [18, 17, 36];

/// How an alert of TLS begins, by which a listener with TLS answers a client without.
const TLS_ALERT: [u8; 2] = [0x15, 0x03];

/// A live connection. Dropping it closes the socket.
#[derive(Debug)]
pub(crate) struct Connection {
    address: Address,
    access: Arc<Access>,
    versions: BTreeMap<i16, VersionRange>,
    requests: mpsc::Sender<Outgoing>,
    next_correlation: AtomicI32,
    fate: Arc<Fate>,
    /// When to open another, because the broker's belief in the authentication ends soon.
    spent_at: Option<Instant>,
    _pump: Task<()>,
}

/// How a connection fares, shared with its pump.
#[derive(Debug, Default)]
struct Fate {
    broken: AtomicBool,
    /// Why the pump ended. A broker may hang up while nobody asks it anything, and the next one who does should learn why.
    cause: OnceLock<Arc<std::io::Error>>,
}

/// How to speak to the brokers of one cluster.
#[derive(Debug)]
pub(crate) struct Access {
    security: Security,
    client_id: StrBytes,
    tokens: Option<Tokens>,
    /// True once a broker has answered more than the first questions: until then a connection that ends may have ended
    /// for what the settings lack.
    proven: AtomicBool,
    sent: AtomicU64,
    received: AtomicU64,
}

/// What requests and their answers took on all connections of the thin layer together, before TLS. What librdkafka moves
/// does not count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of requests.
    pub sent: u64,
    /// Bytes of answers.
    pub received: u64,
}

/// A request on its way to the pump.
#[derive(Debug)]
struct Outgoing {
    correlation: i32,
    frame: Bytes,
    /// Room that may be made for the answer at once.
    room: usize,
    answer: oneshot::Sender<Result<Bytes, Arc<std::io::Error>>>,
}

// === impl Connection ===

impl Connection {
    /// Connects, learns which versions the broker speaks, and tells it who this is.
    pub(crate) async fn open(address: Address, access: Arc<Access>) -> Result<Self, Error> {
        match Self::open_once(address.clone(), Arc::clone(&access)).await {
            // That token is kept no longer.
            Err(Unproven::Token(_)) => Ok(Self::open_once(address, access).await?),
            other => Ok(other?),
        }
    }

    async fn open_once(address: Address, access: Arc<Access>) -> Result<Self, Unproven> {
        let stream = transport::open(&address, access.security.tls.as_ref()).await?;
        let (requests, incoming) = mpsc::channel(MAX_PIPELINED);
        let fate = Arc::new(Fate::default());
        let pump = pump(stream, incoming, Arc::clone(&fate));
        let mut connection = Self {
            access: Arc::clone(&access),
            versions: BTreeMap::new(),
            requests,
            next_correlation: AtomicI32::new(0),
            fate,
            spent_at: None,
            _pump: spawn_named(format!("kafka {address}"), pump),
            address,
        };
        connection.versions = connection.negotiate().await?;
        if let Some(sasl) = &access.security.sasl {
            let began = Instant::now();
            let lifetime = sasl::authenticate(&connection, sasl, access.tokens.as_ref()).await?;
            // Nine tenths of it are ours: the rest is for the requests that are sent last.
            connection.spent_at = lifetime.map(|lifetime| began + lifetime / 10 * 9);
        }
        Ok(connection)
    }

    /// True once it is time for another: calls on it fail at once, or soon would.
    pub(crate) fn is_spent(&self) -> bool {
        let over = self.spent_at.is_some_and(|spent_at| spent_at <= Instant::now());
        over || self.fate.broken.load(Ordering::Acquire)
    }

    /// The broker's address.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// The highest version of a request that both sides and the caller know.
    pub(crate) fn version<R: Request>(&self, highest: i16) -> Result<i16, Error> {
        let ours = VersionRange { min: R::VERSIONS.min, max: R::VERSIONS.max.min(highest) };
        let common = self.versions.get(&R::KEY).map(|theirs| ours.intersect(theirs));
        match common {
            Some(range) if !range.is_empty() => Ok(range.max),
            _ => {
                let text = format!(
                    "broker {} does not speak request {} as this version needs it",
                    self.address,
                    R::KEY
                );
                Err(Error::new(Class::Permanent, text))
            }
        }
    }

    /// Sends a request of a version from [`Self::version`] and waits for its answer. Dropping the future drops the
    /// answer, not the request.
    pub(crate) async fn call<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
    ) -> Result<R::Response, Error> {
        self.call_for(request, version, timeout, ROOM).await
    }

    /// The same for an answer that was asked to have so many bytes at most. There is room for them at once, and no need to
    /// move what has come of it to larger room again and again.
    pub(crate) async fn call_for<R: Request>(
        &self,
        request: &R,
        version: i16,
        timeout: Duration,
        room: usize,
    ) -> Result<R::Response, Error> {
        let correlation = self.next_correlation.fetch_add(1, Ordering::Relaxed);
        let frame = self.encode(request, version, correlation)?;
        self.access.sent.fetch_add(frame.len() as u64, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let exchange = async {
            let outgoing = Outgoing { correlation, frame, room, answer };
            self.requests.send(outgoing).await.ok()?;
            answered.await.ok()
        };
        let body = match tokio::time::timeout(timeout, exchange).await {
            Ok(Some(Ok(body))) => body,
            Ok(Some(Err(cause))) => return Err(self.lost(cause)),
            Ok(None) => {
                let cause = self.fate.cause.get().map(Arc::clone);
                return Err(cause.map_or_else(|| self.closed(), |cause| self.lost(cause)));
            }
            Err(elapsed) => {
                self.fate.broken.store(true, Ordering::Release);
                let text = format!("broker {} did not answer within {timeout:?}", self.address);
                return Err(Error::new(Class::Transient, text).because(elapsed));
            }
        };
        self.access.received.fetch_add((LENGTH + body.len()) as u64, Ordering::Relaxed);
        let answer = self.decode::<R>(body, version)?;
        if !FIRST_QUESTIONS.contains(&R::KEY) {
            self.access.proven.store(true, Ordering::Release);
        }
        Ok(answer)
    }

    async fn negotiate(&self) -> Result<BTreeMap<i16, VersionRange>, Error> {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("tidegate"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let answer: ApiVersionsResponse = self.call(&request, 3, QUICK_TIMEOUT).await?;
        if let Some(code) = ResponseError::try_from_code(answer.error_code) {
            let text = format!("broker {} refused the handshake: it may be too old", self.address);
            return Err(Error::new(Class::Permanent, text).because(code));
        }
        let range = |min, max| VersionRange { min, max };
        let keys = answer.api_keys.into_iter();
        Ok(keys.map(|key| (key.api_key, range(key.min_version, key.max_version))).collect())
    }

    fn encode<R: Request>(&self, request: &R, version: i16, id: i32) -> Result<Bytes, Error> {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(id)
            .with_client_id(Some(self.access.client_id.clone()));
        let header_version = R::header_version(version);
        let encoded = (|| {
            let size = header.compute_size(header_version)? + request.compute_size(version)?;
            let mut frame = BytesMut::with_capacity(size + 4);
            frame.put_u32(u32::try_from(size)?);
            header.encode(&mut frame, header_version)?;
            request.encode(&mut frame, version)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(frame.freeze())
        })();
        encoded.map_err(|cause| {
            let text = format!("failed to encode request {} version {version}", R::KEY);
            Error::new(Class::Permanent, text).because(cause)
        })
    }

    fn decode<R: Request>(&self, mut body: Bytes, version: i16) -> Result<R::Response, Error> {
        let header = R::Response::header_version(version);
        let decoded = bounded::decode::<ResponseHeader>(&mut body, header)
            .and_then(|_| bounded::decode::<R::Response>(&mut body, version));
        decoded.map_err(|cause| {
            self.fate.broken.store(true, Ordering::Release);
            let text = format!(
                "failed to decode the answer of broker {} to request {} version {version}",
                self.address,
                R::KEY
            );
            Error::new(Class::Transient, text).because(cause)
        })
    }

    /// The error for a connection that failed.
    fn lost(&self, cause: Arc<std::io::Error>) -> Error {
        self.fate.broken.store(true, Ordering::Release);
        let stranger = cause.get_ref().and_then(|cause| cause.downcast_ref::<Stranger>());
        let error = if let Some(sentence) = tls::explain(&self.address, &cause) {
            sentence
        } else if matches!(stranger, Some(Stranger::Tls)) {
            let text = format!("broker {} answers in TLS: set security.tls", self.address);
            Error::new(Class::Permanent, text).coded(Code::AuthenticationRefused)
        } else {
            self.closed()
        };
        error.because(cause)
    }

    /// The error for a connection that is gone. A broker that is being stopped ends connections as one does that wants
    /// something else, so it is transient, and the sentence for those who see it for long says what may be missing.
    fn closed(&self) -> Error {
        self.fate.broken.store(true, Ordering::Release);
        let Some(wanted) = self.access.wanted() else {
            let text = format!("lost the connection to broker {}", self.address);
            return Error::new(Class::Transient, text);
        };
        let text = format!(
            "broker {} closed the connection at the first requests: \
             if it goes on doing so, its listener wants {wanted}",
            self.address
        );
        Error::new(Class::Transient, text).coded(Code::AuthenticationRefused)
    }
}

// === impl Access ===

impl Access {
    /// Fails for settings that no client of ours can use.
    pub(crate) fn new(security: Security, client_id: &str) -> Result<Self, Error> {
        let client_id = StrBytes::from_string(client_id.to_owned());
        let tokens = security.sasl.as_ref().map(sasl::check).transpose()?.flatten();
        let (sent, received) = (AtomicU64::default(), AtomicU64::default());
        Ok(Self { security, client_id, tokens, proven: AtomicBool::new(false), sent, received })
    }

    /// Where bearer tokens come from, if there are any.
    pub(crate) fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// What was sent and received so far.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    /// What a listener that ends connections may want of the settings; `None` once one was content.
    fn wanted(&self) -> Option<String> {
        if self.proven.load(Ordering::Acquire) {
            return None;
        }
        let Security { tls, sasl } = &self.security;
        let without_certificate = tls.as_ref().is_some_and(|tls| tls.certificate_file.is_none());
        let all = [
            (tls.is_none(), "TLS (security.tls)"),
            (without_certificate, "a client certificate (security.tls.certificateFile)"),
            (sasl.is_none(), "SASL (security.sasl)"),
        ];
        let missing: Vec<&str> =
            all.into_iter().filter_map(|(missing, name)| missing.then_some(name)).collect();
        (!missing.is_empty()).then(|| missing.join(" or "))
    }
}

// === the pump ===

/// Moves frames until the connection fails or its last handle is gone. Whoever still waits then learns why.
async fn pump(stream: Box<dyn Stream>, mut incoming: mpsc::Receiver<Outgoing>, fate: Arc<Fate>) {
    let mut waiting = VecDeque::new();
    let outcome = exchange(stream, &mut incoming, &mut waiting).await;
    fate.broken.store(true, Ordering::Release);
    let Err(cause) = outcome.map_err(Arc::new) else { return incoming.close() };
    // Before the queue is closed, so that whoever finds it closed finds this.
    let _first = fate.cause.set(Arc::clone(&cause));
    incoming.close();
    let late = std::iter::from_fn(|| incoming.try_recv().ok());
    for request in waiting.into_iter().chain(late) {
        // Whoever asked may have given up.
        let _gone = request.answer.send(Err(Arc::clone(&cause)));
    }
}

async fn exchange(
    stream: Box<dyn Stream>,
    incoming: &mut mpsc::Receiver<Outgoing>,
    waiting: &mut VecDeque<Outgoing>,
) -> Result<(), std::io::Error> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut outbox = BytesMut::new();
    let mut inbox = BytesMut::with_capacity(64 << 10);
    let mut flushed = true;
    loop {
        // Every branch is cancel-safe: the buffers keep what was moved, and a closed queue stays closed.
        tokio::select! {
            request = incoming.recv(), if waiting.len() < MAX_PIPELINED => {
                let Some(mut request) = request else { return Ok(()) };
                outbox.extend_from_slice(&std::mem::take(&mut request.frame));
                waiting.push_back(request);
            }
            sent = send_some(&mut writer, &mut outbox, &mut flushed), if !outbox.is_empty() || !flushed => {
                if let Err(failure) = sent {
                    return Err(last_words(&mut reader, failure).await);
                }
            }
            read = reader.read_buf(&mut inbox) => {
                if read? == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                let room = |waiting: &VecDeque<Outgoing>| waiting.front().map_or(ROOM, |first| first.room);
                while let Some(frame) = take_frame(&mut inbox, room(waiting))? {
                    answer(waiting, frame)?;
                }
            }
        }
    }
}

/// One step of sending: bytes to the stream or, when there are none left, what the stream keeps back to the socket. TLS may
/// have to wait for room at either, while answers must be read. Cancel-safe, because what one call has moved stays moved.
async fn send_some(
    writer: &mut (impl AsyncWrite + Unpin),
    outbox: &mut BytesMut,
    flushed: &mut bool,
) -> Result<(), std::io::Error> {
    if outbox.is_empty() {
        writer.flush().await?;
        *flushed = true;
    } else {
        *flushed = false;
        writer.write_buf(outbox).await?;
    }
    Ok(())
}

/// Why the other side stopped listening, if it said so: what is read after a failed write is nearer to the reason.
async fn last_words(
    reader: &mut (impl AsyncRead + Unpin),
    failure: std::io::Error,
) -> std::io::Error {
    let mut unread = [0; 1024];
    let reading = async {
        loop {
            match reader.read(&mut unread).await {
                Ok(0) => return None,
                Ok(_) => {}
                Err(error) => return Some(error),
            }
        }
    };
    match tokio::time::timeout(LAST_WORDS, reading).await {
        Ok(Some(reason)) if reason.kind() == std::io::ErrorKind::InvalidData => reason,
        _ => failure,
    }
}

/// Something that is no broker, or not in the way it was addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Stranger {
    /// It speaks TLS.
    #[error("the answer is an alert of TLS")]
    Tls,
    /// It speaks something else.
    #[error("an answer of {0} bytes is announced: this is no Kafka broker")]
    Unknown(usize),
}

/// Cuts a whole frame off the front; makes room for more of one that is not whole, but not for more than so much at once.
fn take_frame(inbox: &mut BytesMut, room: usize) -> Result<Option<Bytes>, std::io::Error> {
    let Some(prefix) = inbox.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        let stranger =
            if prefix.starts_with(&TLS_ALERT) { Stranger::Tls } else { Stranger::Unknown(length) };
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, stranger));
    }
    if inbox.len() < length + 4 {
        inbox.reserve((length + 4 - inbox.len()).min(room.max(ROOM)));
        return Ok(None);
    }
    inbox.advance(4);
    Ok(Some(inbox.split_to(length).freeze()))
}

/// Gives an answer to the first in the line, whose it must be.
fn answer(waiting: &mut VecDeque<Outgoing>, frame: Bytes) -> Result<(), std::io::Error> {
    let correlation = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
    match waiting.pop_front() {
        Some(request) if Some(request.correlation) == correlation => {
            // Whoever asked may have given up.
            let _gone = request.answer.send(Ok(frame));
            Ok(())
        }
        _ => Err(std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            "an answer came to a question that was not asked",
        )),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_are_cut_only_when_whole() {
        let mut inbox = BytesMut::new();
        inbox.extend_from_slice(&[0, 0, 0, 3, 1, 2]);
        assert_eq!(take_frame(&mut inbox, ROOM).unwrap(), None);
        inbox.extend_from_slice(&[3, 0]);
        assert_eq!(take_frame(&mut inbox, ROOM).unwrap().as_deref(), Some([1_u8, 2, 3].as_slice()));
        assert_eq!(inbox.as_ref(), [0]);
    }

    proptest! {
        /// However the bytes arrive: each frame comes out as it was sent, and only whole.
        #[test]
        fn frames_come_out_as_they_went_in(
            frames in vec(vec(any::<u8>(), 0..40), 0..6),
            pieces in vec(1..30_usize, 1..40),
        ) {
            let mut sent = BytesMut::new();
            for frame in &frames {
                sent.put_u32(u32::try_from(frame.len()).unwrap());
                sent.extend_from_slice(frame);
            }
            let (mut inbox, mut received) = (BytesMut::new(), Vec::new());
            for piece in pieces.into_iter().chain([usize::MAX]) {
                let piece = sent.split_to(piece.min(sent.len()));
                inbox.extend_from_slice(&piece);
                while let Some(frame) = take_frame(&mut inbox, ROOM).unwrap() {
                    received.push(frame.to_vec());
                }
            }
            prop_assert_eq!(received, frames);
            prop_assert!(inbox.is_empty());
        }

        /// What is no broker: the bytes are frames, wait for more, or end the connection.
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in vec(any::<u8>(), 0..80), asked in any::<i32>()) {
            let mut inbox = BytesMut::from(&*bytes);
            let (sender, _receiver) = oneshot::channel();
            let frame = Bytes::new();
            let mut waiting = VecDeque::from([Outgoing { correlation: asked, frame, room: ROOM, answer: sender }]);
            while let Ok(Some(frame)) = take_frame(&mut inbox, ROOM) {
                prop_assert!(frame.len() <= bytes.len());
                let correlation = frame.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes));
                let was_asked = !waiting.is_empty() && correlation == Some(asked);
                prop_assert_eq!(answer(&mut waiting, frame).is_ok(), was_asked);
            }
            prop_assert!(inbox.capacity() <= bytes.len() + 2 * ROOM);
        }
    }

    #[test]
    fn an_announced_length_alone_takes_no_memory() {
        let mut inbox = BytesMut::from([15, 255, 255, 255, 0].as_slice());
        assert_eq!(take_frame(&mut inbox, ROOM).unwrap(), None);
        assert!(inbox.capacity() <= 2 * ROOM, "{}", inbox.capacity());
    }

    #[test]
    fn an_announced_length_beyond_reason_is_an_error() {
        let mut inbox = BytesMut::from(b"HTTP/1.1 400 Bad Request".as_slice());
        assert!(take_frame(&mut inbox, ROOM).is_err());
    }

    #[test]
    fn an_alert_of_tls_is_recognised() {
        let mut inbox = BytesMut::from([0x15, 3, 3, 0, 2, 2, 40].as_slice());
        let error = take_frame(&mut inbox, ROOM).unwrap_err();
        let stranger = error.get_ref().and_then(|cause| cause.downcast_ref::<Stranger>());
        assert_eq!(stranger, Some(&Stranger::Tls));
    }

    /// A broker that misses a client certificate says so after the handshake, which may be before the first request is
    /// queued: the reason was lost with the pump.
    #[tokio::test]
    async fn a_connection_that_ended_while_nobody_asked_keeps_the_reason() {
        let (near, far) = tokio::io::duplex(64);
        drop(far);
        let (requests, incoming) = mpsc::channel(1);
        let fate = Arc::new(Fate::default());
        pump(Box::new(near), incoming, Arc::clone(&fate)).await;
        assert!(requests.is_closed() && fate.broken.load(Ordering::Acquire));
        let cause = fate.cause.get().map(|cause| cause.kind());
        assert_eq!(cause, Some(std::io::ErrorKind::UnexpectedEof));
    }

    #[test]
    fn what_a_listener_may_want_is_what_the_settings_lack_until_one_was_content() {
        let access = Access::new(Security::default(), "test").unwrap();
        let wanted = access.wanted();
        assert_eq!(wanted.as_deref(), Some("TLS (security.tls) or SASL (security.sasl)"));
        access.proven.store(true, Ordering::Release);
        assert_eq!(access.wanted(), None);
    }
}
