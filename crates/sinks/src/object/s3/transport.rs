//! HTTP under the S3 client: this workspace's TLS, a limit of time for each request, and answers as what they mean.
//!
//! The client sends a request again when its transport says that it never arrived, or when the server says that it
//! failed. So the transport says so only when no connection came about. One that broke may have carried a put to its
//! end: that is an interruption, after which only reads are sent again.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpRequestBody, HttpResponse, HttpService,
};
use rustls::ClientConfig;

use crate::tls;

/// Time for a connection: three tries over the ocean.
const CONNECT: Duration = Duration::from_secs(3);

/// Connections that have nothing to do are closed before a load balancer closes them (AWS: after 20 s).
const IDLE: Duration = Duration::from_secs(15);

/// Statuses below 500 that the client knows what to do with: a condition that is not met, a request that was cut short,
/// too many of them.
const FOR_THE_CLIENT: [u16; 3] = [412, 408, 429];

/// Bytes of an error's text that are kept for people.
const MAX_TEXT: usize = 300;

/// An answer that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The HTTP status.
    pub(super) status: u16,
    /// The code of S3's error document, such as `AccessDenied`; empty when there was none.
    pub(super) code: String,
    /// Its message.
    pub(super) message: String,
}

/// Makes transports.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    tls: Arc<ClientConfig>,
    request_timeout: Duration,
}

/// Carries requests.
#[derive(Debug)]
struct Transport {
    client: Client<HttpsConnector<TcpConnector>, HttpRequestBody>,
    request_timeout: Duration,
}

// === impl Connector ===

impl Connector {
    /// A connector that trusts the system's authorities, or those that `SSL_CERT_FILE` names.
    pub(super) fn new(request_timeout: Duration) -> Result<Self, rustls::Error> {
        // A system's list may be absent where only http:// is spoken.
        let tls = tls::client()?.with_root_certificates(tls::system()).with_no_client_auth();
        Ok(Self { tls: Arc::new(tls), request_timeout })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let is_plain = options.get_config_value(&ClientConfigKey::AllowHttp);
        let is_plain = is_plain.is_some_and(|allowed| allowed == "true");
        let mut tcp = TcpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT));
        tcp.set_nodelay(true);
        let builder = HttpsConnectorBuilder::new().with_tls_config((*self.tls).clone());
        let builder = if is_plain { builder.https_or_http() } else { builder.https_only() };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(builder.enable_http1().wrap_connector(tcp));
        Ok(HttpClient::new(Transport { client, request_timeout: self.request_timeout }))
    }
}

// === impl Transport ===

#[async_trait]
impl HttpService for Transport {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answered = tokio::time::timeout(self.request_timeout, self.send(request)).await;
        answered.unwrap_or_else(|_| {
            let text = format!("no answer within {:?}", self.request_timeout);
            let error = io::Error::new(io::ErrorKind::TimedOut, text);
            Err(HttpError::new(HttpErrorKind::Timeout, error))
        })
    }
}

impl Transport {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_read = request.method().is_safe();
        let response = self.client.request(request).await.map_err(|error| {
            let kind = if error.is_connect() {
                HttpErrorKind::Connect
            } else {
                HttpErrorKind::Interrupted
            };
            HttpError::new(kind, error)
        })?;
        let (parts, body) = response.into_parts();
        // Answers are pages and objects, both bounded by what was asked for.
        let body = body.collect().await;
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error))?;
        let body = body.to_bytes();
        let status = parts.status.as_u16();
        let refusal = Refusal::of(status, &body);
        let is_failure = status >= 500 && status != 501;
        let is_absence = is_read
            && status == 404
            && ["", "NoSuchKey", "NotFound"].contains(&refusal.code.as_str());
        let passes = status < 300 || is_failure || is_absence || FOR_THE_CLIENT.contains(&status);
        if passes {
            return Ok(HttpResponse::from_parts(parts, body.into()));
        }
        Err(HttpError::new(HttpErrorKind::Unknown, refusal))
    }
}

// === impl Refusal ===

impl Refusal {
    fn of(status: u16, body: &Bytes) -> Self {
        let text = String::from_utf8_lossy(body.get(..body.len().min(1 << 16)).unwrap_or_default());
        let element = |name: &str| {
            let (_, rest) = text.split_once(&format!("<{name}>"))?;
            let (content, _) = rest.split_once("</")?;
            Some(content.chars().take(MAX_TEXT).collect::<String>())
        };
        let code = element("Code").unwrap_or_default();
        Self { status, code, message: element("Message").unwrap_or_default() }
    }

    /// The refusal among the causes of an error.
    pub(super) fn among<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        causes(error).find_map(|cause| cause.downcast_ref())
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { status, code, message } = self;
        write!(f, "status {status}")?;
        [code, message]
            .iter()
            .filter(|text| !text.is_empty())
            .try_for_each(|text| write!(f, ", {text}"))
    }
}

impl StdError for Refusal {}

/// True when TLS does not trust who answered, or the other side does not speak it.
pub(super) fn is_distrust(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(is_of_tls)
}

/// An `io::Error` is not the source of what it holds; it may hold another one.
fn is_of_tls(error: &(dyn StdError + 'static)) -> bool {
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    error.is::<rustls::Error>() || held.is_some_and(|held| is_of_tls(held))
}

/// The text of the innermost cause: the client's errors repeat that of each in all above it.
pub(super) fn root(error: &(dyn StdError + 'static)) -> String {
    causes(error).last().map(ToString::to_string).unwrap_or_default()
}

fn causes<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}
