//! An issuer of bearer tokens: the harness's key, and a token endpoint on loopback that speaks TLS with the harness's
//! certificate.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tidegate_runtime::ports::{BootClock, Clock as _};
use tidegate_runtime::security::{Mechanism, Sasl, Secret};
use tidegate_runtime::task::{Task, spawn_named};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::world::World;

/// Signs tokens.
#[derive(Clone)]
pub(crate) struct Issuer(Arc<EcdsaKeyPair>);

impl Issuer {
    /// The one whose tokens the brokers believe.
    pub(crate) fn of(world: &World) -> Self {
        let key = PrivatePkcs8KeyDer::from_pem_file(world.tls_file("issuer.key")).unwrap();
        Self::with(key.secret_pkcs8_der())
    }

    /// One that nobody knows.
    pub(crate) fn unknown() -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self::with(key.as_ref())
    }

    fn with(key: &[u8]) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &random).unwrap();
        Self(Arc::new(key))
    }

    /// A token for a user that holds for a while from now on.
    pub(crate) fn token(&self, user: &str, lifetime: Duration) -> String {
        self.token_at(user, BootClock.unix_ms(), lifetime)
    }

    /// A token as it was given at a time.
    pub(crate) fn token_at(&self, user: &str, at_ms: u64, lifetime: Duration) -> String {
        let issued = at_ms / 1000;
        let expires = issued + lifetime.as_secs();
        let claims = format!(
            r#"{{"iss":"tests","aud":"kafka","sub":"{user}","iat":{issued},"exp":{expires}}}"#
        );
        let head = r#"{"alg":"ES256","kid":"tests"}"#;
        let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(head), URL_SAFE_NO_PAD.encode(claims));
        let signature = self.0.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What an endpoint says to a request.
type Answer = Box<dyn Fn(&str) -> String + Send>;

/// A token endpoint. It ends when it is dropped.
pub(crate) struct Endpoint {
    url: String,
    shared: Arc<Shared>,
    ca_file: String,
    secret: Secret,
    _server: Task<()>,
}

struct Shared {
    answer: Mutex<Answer>,
    asked: AtomicUsize,
}

impl Endpoint {
    /// Starts one that answers as it is told; a client's secret is `secret`.
    pub(crate) async fn start(world: &World, secret: Secret, answer: Answer) -> Self {
        let chain = vec![CertificateDer::from_pem_file(world.tls_file("broker.crt")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(world.tls_file("broker.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://127.0.0.1:{}/token", listener.local_addr().unwrap().port());
        let shared = Arc::new(Shared { answer: Mutex::new(answer), asked: AtomicUsize::new(0) });
        let serving = Arc::clone(&shared);
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let server = async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that does not like the certificate hangs up.
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let request = request(&mut stream).await;
                serving.asked.fetch_add(1, Ordering::SeqCst);
                let answer =
                    serving.answer.lock().unwrap_or_else(PoisonError::into_inner)(&request);
                let _sent = stream.write_all(answer.as_bytes()).await;
                let _closed = stream.shutdown().await;
            }
        };
        Self {
            url,
            shared,
            ca_file: world.tls_file("ca.pem"),
            secret,
            _server: spawn_named("token endpoint", server),
        }
    }

    /// From now on it answers so.
    pub(crate) fn answers(&self, answer: Answer) {
        *self.shared.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Settings to ask it with.
    pub(crate) fn sasl(&self) -> Sasl {
        Sasl {
            token_endpoint: Some(self.url.clone()),
            token_endpoint_ca_file: Some(self.ca_file.clone()),
            client_id: Some("tidegate".to_owned()),
            client_secret: Some(self.secret.clone()),
            scope: Some("kafka".to_owned()),
            ..Sasl::new(Mechanism::OauthBearer)
        }
    }
}

/// Tokens for the user who may do everything, each for a while.
pub(crate) fn gives(issuer: Issuer, lifetime: Duration) -> Answer {
    promises(issuer, lifetime, lifetime)
}

/// The same, said to hold for another time than brokers take them.
pub(crate) fn promises(issuer: Issuer, lifetime: Duration, said: Duration) -> Answer {
    Box::new(move |request| {
        let asked = request.starts_with("POST /token HTTP/1.1\r\n")
            && request.ends_with("\r\n\r\ngrant_type=client_credentials&scope=kafka");
        assert!(asked, "the request is one of RFC 6749");
        let token = issuer.token("admin", lifetime);
        let body = format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":{}}}"#,
            said.as_secs()
        );
        response("200 OK", &body)
    })
}

/// The same answer to everybody.
pub(crate) fn says(status: &'static str, body: &'static str) -> Answer {
    Box::new(move |_| response(status, body))
}

pub(crate) fn response(status: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

/// A whole request, head and body.
async fn request(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    loop {
        let mut more = [0; 1024];
        let count = stream.read(&mut more).await.unwrap_or_default();
        text += std::str::from_utf8(&more[..count]).unwrap();
        let whole = text.split_once("\r\n\r\n").is_some_and(|(head, body)| {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            body.len() >= length.map_or(0, |length| length.parse().unwrap())
        });
        if whole || count == 0 {
            return text;
        }
    }
}
