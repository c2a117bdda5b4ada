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

mod pump;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{BufMut as _, Bytes, BytesMut};
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
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::pump::{Fate, Outgoing, ROOM, Stranger, pump};
use crate::oauth::Tokens;
use crate::sasl::Unproven;
use crate::transport::{self, Address};
use crate::{bounded, sasl, tls};

/// How long an answer may take, unless the call says otherwise. Below the period after which an operator would take
/// the broker for dead, above a long garbage collection.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take that a broker gives from memory: versions and metadata. Shorter, because while one broker
/// is stopped another can answer the same.
pub(crate) const QUICK_TIMEOUT: Duration = Duration::from_secs(3);

/// Requests that may wait for an answer on one connection: enough for a round of samples, and a bound.
const MAX_PIPELINED: usize = 64;

/// Bytes of a frame's length, which stand in front of it.
const LENGTH: usize = 4;

/// Requests that are answered before a broker looks at who asks: `ApiVersions`, `SaslHandshake`, `SaslAuthenticate`.
const FIRST_QUESTIONS: [i16; 3] = [18, 17, 36];

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_listener_may_want_is_what_the_settings_lack_until_one_was_content() {
        let access = Access::new(Security::default(), "test").unwrap();
        let wanted = access.wanted();
        assert_eq!(wanted.as_deref(), Some("TLS (security.tls) or SASL (security.sasl)"));
        access.proven.store(true, Ordering::Release);
        assert_eq!(access.wanted(), None);
    }
}
