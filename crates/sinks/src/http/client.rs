//! Requests over connections that are kept: hyper's pool, with or without TLS.
//!
//! One request at a time is sent and its answer read to the end. Nothing is repeated here and nothing is followed.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::Request;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::RootCertStore;

use super::answer::Answer;
use super::config::HttpConfig;
use crate::spec::Cause;
use crate::tls;

/// The largest answer that is read: the rejections of a very large batch have some hundred kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// Connections that nobody uses are closed before most servers and balancers do it (often after 60 s).
const IDLE: Duration = Duration::from_secs(30);

/// Sends requests.
#[derive(Clone, Debug)]
pub(super) struct Client(Pool<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    /// A client for a receiver; reads the authorities to trust.
    pub(super) fn new(config: &HttpConfig) -> Result<Self, Cause> {
        let mut roots = RootCertStore::empty();
        if config.is_tls() {
            roots = tls::authorities(config.ca_file.as_deref().map(Path::new), "caFile")?;
        }
        let tls = tls::client()?.with_root_certificates(roots).with_no_client_auth();
        let mut sockets = HttpConnector::new();
        sockets.enforce_http(false);
        sockets.set_nodelay(true);
        sockets.set_connect_timeout(Some(config.timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(sockets);
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .build(connector);
        Ok(Self(pool))
    }

    /// Sends a request and reads the answer.
    pub(super) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Answer, Lost> {
        let answer = self.0.request(request).await.map_err(|cause| {
            let connected = !cause.is_connect();
            let certificate = is_certificate(&cause);
            Lost { connected, certificate, cause: cause.into() }
        })?;
        let (head, body) = answer.into_parts();
        let body = match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => body.to_bytes(),
            // The status is what counts; what is wrong with the connection shows at the next request.
            Err(_) if head.status.is_success() => Bytes::new(),
            Err(cause) => return Err(Lost { connected: true, certificate: false, cause }),
        };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// A request that was not answered.
#[derive(Debug)]
pub(super) struct Lost {
    /// It was sent, or part of it: the receiver may have acted upon it.
    pub(super) connected: bool,
    /// The receiver's certificate is not accepted.
    pub(super) certificate: bool,
    /// Why.
    pub(super) cause: Cause,
}

/// Whether a failed connection is about the receiver's certificate. An error of IO hides the one inside of it from the
/// chain of sources.
fn is_certificate(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let tls = error
            .downcast_ref::<rustls::Error>()
            .or_else(|| inner.and_then(|inner| inner.downcast_ref()));
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        next = match inner {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    false
}
