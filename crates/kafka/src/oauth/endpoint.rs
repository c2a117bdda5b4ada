//! A token endpoint: one request of the client-credentials flow (RFC 6749, section 4.4) over TLS, by hyper.
//!
//! Errors name the endpoint, without what may follow a `?`. Of a refusal only the code is passed on: what else an
//! endpoint says may repeat what it was sent.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::security::{Sasl, Secret, Tls};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::token::Token;
use crate::tls;

/// How long a token may take. It is fetched before the old one ends, and a caller that waits for the first is a process
/// that starts.
pub(super) const FETCH_TIMEOUT: Duration = Duration::from_secs(10);

/// The largest answer that is believed: tokens with many groups have some ten kilobytes.
const MAX_ANSWER: usize = 1 << 20;

/// What leads to a token.
pub(super) struct Endpoint {
    uri: Uri,
    ca_file: Option<String>,
    client_id: String,
    client_secret: Secret,
    scope: Option<String>,
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.uri.host().unwrap_or_default();
        write!(f, "https://{host}:{}{}", self.port(), self.uri.path())
    }
}

impl Endpoint {
    /// Reads the settings; asks nobody yet.
    pub(super) fn new(url: &str, sasl: &Sasl) -> Result<Self, Error> {
        // The URL may hold what nobody should see: it is not quoted.
        let wrong = || {
            let text = "security.sasl.tokenEndpoint is no URL of the form https://HOST[:PORT]/PATH";
            Error::new(Class::Permanent, text)
        };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("https") || authority.as_str().contains('@') {
            return Err(wrong());
        }
        let (Some(client_id), Some(client_secret)) = (&sasl.client_id, &sasl.client_secret) else {
            let text = "security.sasl: tokenEndpoint needs clientId and clientSecret";
            return Err(Error::new(Class::Permanent, text));
        };
        Ok(Self {
            ca_file: sasl.token_endpoint_ca_file.clone(),
            client_id: client_id.clone(),
            client_secret: client_secret.clone(),
            scope: sasl.scope.clone(),
            uri,
        })
    }

    fn port(&self) -> u16 {
        self.uri.port_u16().unwrap_or(443)
    }

    /// Asks for a token. Blocks the thread, which must not be one of a runtime.
    pub(super) fn fetch(&self, now_ms: u64) -> Result<Token, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|cause| {
            Error::new(Class::Transient, "failed to ask for a token").because(cause)
        })?;
        let secret = self.client_secret.read().map_err(|cause| {
            let text = "failed to read security.sasl.clientSecret";
            Error::new(Class::Permanent, text).because(cause)
        })?;
        let asked = async { tokio::time::timeout(FETCH_TIMEOUT, self.ask(&secret)).await };
        let answer = runtime.block_on(asked);
        // A name that is still being looked up is not waited for.
        runtime.shutdown_background();
        let (status, body) = answer.map_err(|_| {
            let text = format!("token endpoint {self} did not answer within {FETCH_TIMEOUT:?}");
            Error::new(Class::Transient, text).coded(Code::AuthenticationRefused)
        })??;
        self.read(status, &body, &secret, now_ms)
    }

    async fn ask(&self, secret: &str) -> Result<(StatusCode, Bytes), Error> {
        let stream = TokioIo::new(self.connect().await?);
        let request = self.request(secret)?;
        let lost = |cause: Box<dyn std::error::Error + Send + Sync>| {
            self.failed("failed to speak HTTP with", Class::Transient).because(cause)
        };
        let (mut sender, connection) =
            http1::handshake(stream).await.map_err(|cause| lost(cause.into()))?;
        let exchange = async {
            let answer = sender.send_request(request).await?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body.to_bytes()))
        };
        driven(exchange, connection).await.map_err(lost)
    }

    async fn connect(&self) -> Result<tokio_rustls::client::TlsStream<TcpStream>, Error> {
        let host = self.uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let stream = TcpStream::connect((host, self.port())).await.map_err(|cause| {
            self.failed("failed to connect to", Class::Transient).because(cause)
        })?;
        let name = ServerName::try_from(host.to_owned()).map_err(|cause| {
            let doing = "no certificate can be for the name of";
            self.failed(doing, Class::Permanent).because(cause)
        })?;
        let trusted = Tls { ca_file: self.ca_file.clone(), ..Tls::default() };
        let config = tls::configure(&trusted, "security.sasl.tokenEndpointCaFile")?;
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|cause| {
            let of_tls = cause.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
            let class = if of_tls.is_some() { Class::Permanent } else { Class::Transient };
            let text = format!(
                "failed to speak TLS with token endpoint {self}: check its address, and that \
                 security.sasl.tokenEndpointCaFile holds the authority of its certificate"
            );
            Error::new(class, text).coded(Code::AuthenticationRefused).because(cause)
        })
    }

    fn request(&self, secret: &str) -> Result<Request<Full<Bytes>>, Error> {
        let credentials = format!("{}:{}", form_encoded(&self.client_id), form_encoded(secret));
        let mut form = "grant_type=client_credentials".to_owned();
        if let Some(scope) = &self.scope {
            form = format!("{form}&scope={}", form_encoded(scope));
        }
        let target = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map(hyper::http::uri::Authority::as_str);
        Request::post(target)
            .header(HOST, host.unwrap_or_default())
            .header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(credentials)))
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form))
            // The cause is left out: it could quote a header.
            .map_err(|_| self.failed("failed to make a request for", Class::Permanent))
    }

    fn read(
        &self,
        status: StatusCode,
        body: &[u8],
        secret: &str,
        now_ms: u64,
    ) -> Result<Token, Error> {
        let answer: Option<Value> = serde_json::from_slice(body).ok();
        let field = |name| answer.as_ref().and_then(|answer| answer.get(name));
        if !status.is_success() {
            let code = field("error").and_then(Value::as_str);
            return Err(self.refused(status, code.filter(|code| is_code(code, secret))));
        }
        let Some(text) = field("access_token").and_then(Value::as_str) else {
            let text = format!(
                "token endpoint {self} answered {status} without an access_token: is it the URL of \
                 the token endpoint?"
            );
            let error = Error::new(Class::Permanent, text);
            return Err(error.coded(Code::AuthenticationRefused));
        };
        // Some send the number as text.
        let seconds = field("expires_in")
            .and_then(|value| value.as_u64().or_else(|| value.as_str()?.parse().ok()));
        let lifetime_ms = seconds.map(|seconds| seconds.saturating_mul(1000));
        let token = Token::new(text, lifetime_ms, now_ms).map_err(|cause| {
            self.failed("there is no bearer token in the answer of", Class::Permanent)
                .because(cause)
        })?;
        if !token.holds(now_ms) {
            let text = format!(
                "token endpoint {self} gave a token that has expired: look at the clocks of both machines"
            );
            return Err(Error::new(Class::Transient, text).coded(Code::AuthenticationRefused));
        }
        Ok(token)
    }

    /// The error for an answer that is none. What a server may say while it is overloaded is transient.
    fn refused(&self, status: StatusCode, code: Option<&str>) -> Error {
        let passing = status.is_server_error()
            || [StatusCode::TOO_MANY_REQUESTS, StatusCode::REQUEST_TIMEOUT].contains(&status);
        let code = code.map_or_else(String::new, |code| format!(", {code}"));
        if passing {
            let text = format!("token endpoint {self} gave no token: it answered {status}{code}");
            return Error::new(Class::Transient, text).coded(Code::AuthenticationRefused);
        }
        let text = format!(
            "token endpoint {self} gave no token: it answered {status}{code}; check tokenEndpoint, \
             clientId, clientSecret and scope in security.sasl"
        );
        Error::new(Class::Permanent, text).coded(Code::AuthenticationRefused)
    }

    fn failed(&self, doing: &str, class: Class) -> Error {
        let text = format!("{doing} token endpoint {self}");
        Error::new(class, text).coded(Code::AuthenticationRefused)
    }
}

/// What `work` comes to while `connection` moves its bytes. A connection that ends tells `work` why.
async fn driven<T>(
    work: impl Future<Output = T>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> T {
    let moving = async {
        let _told = connection.await;
        std::future::pending::<std::convert::Infallible>().await
    };
    tokio::select! {
        outcome = work => outcome,
        never = moving => match never {},
    }
}

/// True for an error code of RFC 6749, such as `invalid_client`; anything else might be something else.
fn is_code(text: &str, secret: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    text.len() <= 64 && text.bytes().all(fits) && !text.contains(secret)
}

/// Text as RFC 6749 has it in the form and in the credentials: all but unreserved characters is escaped.
fn form_encoded(text: &str) -> String {
    let encoded = |byte: u8| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            char::from(byte).to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use tidegate_runtime::security::Mechanism;

    use super::*;

    fn sasl() -> Sasl {
        Sasl {
            client_id: Some("tide gate".to_owned()),
            client_secret: Some(Secret::Env("TIDEGATE_NO_SUCH_VARIABLE".to_owned())),
            scope: Some("kafka read".to_owned()),
            ..Sasl::new(Mechanism::OauthBearer)
        }
    }

    fn endpoint() -> Endpoint {
        Endpoint::new("https://issuer.test/realm/token?key=hunter2", &sasl()).unwrap()
    }

    fn answered(status: u16, body: &str) -> Result<Token, Error> {
        let status = StatusCode::from_u16(status).unwrap();
        endpoint().read(status, body.as_bytes(), "hunter2", 1_000)
    }

    #[test]
    fn only_urls_of_https_without_credentials_are_endpoints_and_none_is_quoted() {
        for url in
            ["http://host/t", "host", "/t", "https://u:hunter2@host/t", "https://", "hun ter2"]
        {
            let error = Endpoint::new(url, &sasl()).err().unwrap();
            assert!(error.to_string().contains("tokenEndpoint"), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
        assert_eq!(endpoint().to_string(), "https://issuer.test:443/realm/token");
        let without = Sasl { client_secret: None, ..sasl() };
        assert!(Endpoint::new("https://host/t", &without).is_err());
    }

    #[test]
    fn the_request_is_a_form_with_the_credentials_in_its_head() {
        let request = endpoint().request("s:cr~t+ü").unwrap();
        assert_eq!(request.uri(), "/realm/token?key=hunter2");
        assert_eq!(request.headers()[HOST], "issuer.test");
        let credentials = STANDARD.encode("tide%20gate:s%3Acr~t%2B%C3%BC");
        assert_eq!(request.headers()[AUTHORIZATION], format!("Basic {credentials}"));
    }

    #[test]
    fn an_answer_is_a_token_with_its_lifetime() {
        let token =
            answered(200, r#"{"access_token":"abc","token_type":"Bearer","expires_in":60}"#)
                .unwrap();
        assert_eq!((token.value(), token.expires_ms()), ("abc", 61_000));
        let token = answered(200, r#"{"access_token":"abc","expires_in":"60"}"#).unwrap();
        assert_eq!(token.expires_ms(), 61_000);
    }

    #[test]
    fn a_refusal_names_the_endpoint_and_the_code_and_nothing_else() {
        for (status, body, class, words) in [
            (
                401,
                r#"{"error":"invalid_client"}"#,
                Class::Permanent,
                "401 Unauthorized, invalid_client;",
            ),
            (400, r#"{"error":"hunter2 is wrong"}"#, Class::Permanent, "400 Bad Request; check"),
            (400, r#"{"error":"hunter2"}"#, Class::Permanent, "400 Bad Request; check"),
            (503, "<html>hunter2</html>", Class::Transient, "503 Service Unavailable"),
            (429, "{}", Class::Transient, "429 Too Many Requests"),
            (200, "<html>hunter2</html>", Class::Permanent, "without an access_token"),
            (200, r#"{"access_token":"hunter 2"}"#, Class::Permanent, "there is no bearer token"),
            (200, r#"{"access_token":"hunter2","expires_in":0}"#, Class::Transient, "has expired"),
        ] {
            let error = answered(status, body).unwrap_err();
            assert!(error.to_string().contains(words), "{words:?}: {error}");
            assert!(error.to_string().contains("https://issuer.test:443/realm/token"), "{error}");
            assert_eq!((error.class(), error.code()), (class, Some(Code::AuthenticationRefused)));
            assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
        }
    }

    #[test]
    fn a_secret_that_cannot_be_read_is_named_by_its_reference() {
        let error = endpoint().fetch(0).unwrap_err();
        assert!(error.to_string().contains("security.sasl.clientSecret"), "{error}");
    }
}
