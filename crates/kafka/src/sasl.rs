//! SASL: who this client is, told to a broker after the versions are known. One place for both clients decides which
//! mechanisms there are and reads the password; bearer tokens come from [`crate::oauth`].
//!
//! Secrets are read when a connection is made, so that a changed file is picked up; they are neither printed nor part
//! of an error.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest,
};
use kafka_protocol::protocol::StrBytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::Value;
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{Class, Error};
use tidegate_runtime::security::{Mechanism, Sasl, Secret};

use crate::connection::{Connection, REQUEST_TIMEOUT};
use crate::errors::{self, Answer};
use crate::oauth::{self, Given, Token, Tokens};
use crate::scram::{Hash, Scram, ScramError};

/// Most letters of a broker's answer that are passed on.
const WORDS: usize = 100;

/// Bytes of a nonce: twice what makes a repetition unthinkable.
const NONCE_BYTES: usize = 24;

/// Where the bearer tokens of these settings come from, if they have any. Fails for what no client of ours can do.
pub(crate) fn check(sasl: &Sasl) -> Result<Option<Tokens>, Error> {
    let tokens = Tokens::of(sasl)?;
    if tokens.is_none() {
        password_of(sasl)?;
    }
    Ok(tokens)
}

/// Kafka's name of a mechanism.
pub(crate) fn name_of(mechanism: Mechanism) -> &'static str {
    match mechanism {
        Mechanism::Plain => "PLAIN",
        Mechanism::ScramSha256 => "SCRAM-SHA-256",
        Mechanism::ScramSha512 => "SCRAM-SHA-512",
        Mechanism::OauthBearer => "OAUTHBEARER",
    }
}

/// The password as it is now.
pub(crate) fn read_password(sasl: &Sasl) -> Result<String, Error> {
    let password = password_of(sasl)?.read().map_err(|cause| {
        Error::new(Class::Permanent, "failed to read security.sasl.password").because(cause)
    })?;
    Ok(password)
}

fn password_of(sasl: &Sasl) -> Result<&Secret, Error> {
    sasl.password.as_ref().ok_or_else(|| {
        let text = "security.sasl.password is missing: the mechanism needs one";
        Error::new(Class::Permanent, text)
    })
}

/// Why a broker does not know who this is.
#[derive(Debug)]
pub(crate) enum Unproven {
    /// A token was refused, and the next one may be taken. Brokers want another connection for another try.
    Token(Error),
    /// Another try brings the same.
    Other(Error),
}

impl From<Error> for Unproven {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl From<Unproven> for Error {
    fn from(unproven: Unproven) -> Self {
        match unproven {
            Unproven::Token(error) | Unproven::Other(error) => error,
        }
    }
}

/// Tells a broker who this is. Returns for how long the broker believes it; `None` is for ever.
pub(crate) async fn authenticate(
    connection: &Connection,
    sasl: &Sasl,
    tokens: Option<&Tokens>,
) -> Result<Option<Duration>, Unproven> {
    let name = name_of(sasl.mechanism);
    let last = if let Some(tokens) = tokens {
        let asked = tokens.clone();
        let given = blocking(move || asked.current()).await?;
        choose(connection, name).await?;
        let outcome = bearer(connection, given.token()).await;
        judged(tokens, &given, outcome)?
    } else {
        let reading = sasl.clone();
        let password = blocking(move || read_password(&reading)).await?;
        choose(connection, name).await?;
        match sasl.mechanism {
            Mechanism::Plain => say(connection, plain(&sasl.username, &password)?).await?,
            Mechanism::ScramSha256 => scram(connection, sasl, Hash::sha256(), password).await?,
            Mechanism::ScramSha512 => scram(connection, sasl, Hash::sha512(), password).await?,
            Mechanism::OauthBearer => {
                let text = "OAUTHBEARER has no source of tokens";
                return Err(Error::new(Class::Permanent, text).into());
            }
        }
    };
    let lifetime = u64::try_from(last.session_lifetime_ms).unwrap_or_default();
    Ok((lifetime > 0).then(|| Duration::from_millis(lifetime)))
}

/// What a broker said to a token. A refusal is for good only when no other token is to be had.
fn judged<T>(tokens: &Tokens, given: &Given, outcome: Result<T, Error>) -> Result<T, Unproven> {
    match outcome {
        Ok(said) => {
            tokens.note_taken();
            Ok(said)
        }
        Err(error) if error.class() == Class::Permanent && tokens.drop_refused(given) => {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a bearer token is refused, and the next one tried"
            );
            Err(Unproven::Token(oauth::of_class(Class::Transient, &error)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Agrees on the mechanism.
async fn choose(connection: &Connection, name: &'static str) -> Result<(), Error> {
    let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(name));
    let version = connection.version::<SaslHandshakeRequest>(1)?;
    let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
    let Some(code) = ResponseError::try_from_code(answer.error_code) else { return Ok(()) };
    let broker = connection.address();
    let text = match code {
        ResponseError::UnsupportedSaslMechanism => {
            let offered: Vec<&str> = answer.mechanisms.iter().map(StrBytes::as_str).collect();
            let offered = offered.join(", ");
            format!(
                "broker {broker} does not enable SASL {name}: set security.sasl.mechanism to one of {offered}"
            )
        }
        ResponseError::IllegalSaslState => format!(
            "the listener of broker {broker} has no SASL: \
             name one that has, or leave security.sasl out"
        ),
        _ => format!("broker {broker} refused to begin SASL {name}"),
    };
    let error = Error::new(errors::class_of(code), text).coded(Code::AuthenticationRefused);
    Err(error.because(Answer { code, message: None }))
}

/// Sends a message of the mechanism and returns what the broker says to it.
async fn say(connection: &Connection, message: Vec<u8>) -> Result<SaslAuthenticateResponse, Error> {
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from(message));
    let version = connection.version::<SaslAuthenticateRequest>(2)?;
    let answer = connection.call(&request, version, REQUEST_TIMEOUT).await?;
    match ResponseError::try_from_code(answer.error_code) {
        None => Ok(answer),
        Some(code) => {
            let message = answer.error_message.as_ref().map(ToString::to_string);
            let refused = errors::credentials_refused(errors::class_of(code));
            Err(refused.because(Answer { code, message }))
        }
    }
}

/// The one message of PLAIN: RFC 4616.
fn plain(user: &str, password: &str) -> Result<Vec<u8>, Error> {
    if user.contains('\0') || password.contains('\0') {
        let text = "security.sasl: user and password of PLAIN must not contain NUL";
        return Err(Error::new(Class::Permanent, text));
    }
    Ok([b"\0", user.as_bytes(), b"\0", password.as_bytes()].concat())
}

/// RFC 7628: one message, to which a broker that is content says nothing. One that is not says why, and wants to be
/// told that this was heard before it refuses.
async fn bearer(connection: &Connection, token: &Token) -> Result<SaslAuthenticateResponse, Error> {
    let message = format!("n,,\u{1}auth=Bearer {}\u{1}\u{1}", token.value());
    let answer = say(connection, message.into_bytes()).await?;
    if answer.auth_bytes.is_empty() {
        return Ok(answer);
    }
    let told = Refusal::read(&answer.auth_bytes);
    // What comes now is a refusal without the reason.
    let _refused = say(connection, vec![1]).await;
    let text = "the broker refused the bearer token: check security.sasl, and the issuer, audience and \
                clock that the cluster wants";
    Err(Error::new(Class::Permanent, text).coded(Code::AuthenticationRefused).because(told))
}

/// What a broker says of a token that it does not take.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the broker answered {status}{}", scope.as_deref().map(|scope| format!(", it wants scope {scope}")).unwrap_or_default())]
struct Refusal {
    status: String,
    scope: Option<String>,
}

impl Refusal {
    fn read(answer: &[u8]) -> Self {
        let answer: Option<Value> = serde_json::from_slice(answer).ok();
        let field = |name| {
            let text = answer.as_ref()?.get(name)?.as_str()?;
            let fits = |letter: char| letter.is_ascii_graphic() || letter == ' ';
            Some(text.chars().filter(|letter| fits(*letter)).take(WORDS).collect::<String>())
        };
        let status = field("status").unwrap_or_else(|| "without a status".to_owned());
        Self { status, scope: field("scope") }
    }
}

async fn scram(
    connection: &Connection,
    sasl: &Sasl,
    hash: Hash,
    password: String,
) -> Result<SaslAuthenticateResponse, Error> {
    let scram = Scram::new(hash, &sasl.username, password, nonce()?);
    let challenge = say(connection, scram.first().into_bytes()).await?.auth_bytes;
    let proof = blocking(move || scram.prove(&challenge).map_err(not_proved)).await?;
    let last = say(connection, proof.message().as_bytes().to_vec()).await?;
    proof.check(&last.auth_bytes).map_err(not_proved)?;
    Ok(last)
}

fn not_proved(cause: ScramError) -> Error {
    let error = match cause {
        ScramError::Refused => errors::credentials_refused(Class::Permanent),
        _ => Error::new(
            Class::Permanent,
            "the broker does not keep to SCRAM: it is not to be trusted",
        )
        .coded(Code::AuthenticationRefused),
    };
    error.because(cause)
}

fn nonce() -> Result<String, Error> {
    let mut bytes = [0; NONCE_BYTES];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| Error::new(Class::Transient, "failed to get random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Runs what reads a file or computes for long where it holds up nobody.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(|cause| {
        Error::new(Class::Permanent, "failed to authenticate: the work was given up").because(cause)
    })?
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use bytes::{Buf as _, BytesMut};
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::{
        ApiVersionsResponse, RequestHeader, ResponseHeader, SaslHandshakeResponse,
    };
    use kafka_protocol::protocol::{Decodable as _, Encodable};
    use tidegate_runtime::security::Security;
    use tidegate_runtime::task::{Task, spawn_named};
    use tidegate_testing::TempDir;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::connection::Access;
    use crate::transport::Address;

    /// A broker that takes one token. When it has refused another, the issuer writes that one to the client's file.
    struct Broker {
        address: Address,
        _task: Task<()>,
    }

    impl Broker {
        async fn start(takes: &'static str, file: PathBuf) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap().to_string();
            let serving = async move {
                while let Ok((stream, _)) = listener.accept().await {
                    serve(stream, takes, &file).await;
                }
            };
            let task = spawn_named("broker that takes one token", serving);
            Self { address: Address::parse_list(&address).remove(0), _task: task }
        }

        async fn greet(&self, access: &Arc<Access>) -> Result<(), Error> {
            Connection::open(self.address.clone(), Arc::clone(access)).await.map(drop)
        }
    }

    /// Answers the first questions of a connection, until it ends.
    async fn serve(mut stream: TcpStream, takes: &str, file: &std::path::Path) {
        while let Ok(length) = stream.read_i32().await {
            let mut frame = vec![0; usize::try_from(length).unwrap()];
            stream.read_exact(&mut frame).await.unwrap();
            let mut frame = Bytes::from(frame);
            let (key, version) = ((&frame[..]).get_i16(), (&frame[2..]).get_i16());
            let head = if key == 17 { 1 } else { 2 };
            let header = RequestHeader::decode(&mut frame, head).unwrap();
            let body = match key {
                18 => {
                    let known = |key, highest| {
                        ApiVersion::default().with_api_key(key).with_max_version(highest)
                    };
                    let keys = vec![known(17, 1), known(36, 2)];
                    encoded(&ApiVersionsResponse::default().with_api_keys(keys), version)
                }
                17 => encoded(&SaslHandshakeResponse::default(), version),
                _ => {
                    let said = SaslAuthenticateRequest::decode(&mut frame, version).unwrap();
                    encoded(&judge(&said.auth_bytes, takes, file), version)
                }
            };
            let header_version = i16::from(key == 36);
            let head = ResponseHeader::default().with_correlation_id(header.correlation_id);
            let answer = [encoded(&head, header_version), body].concat();
            stream.write_i32(i32::try_from(answer.len()).unwrap()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
        }
    }

    fn judge(said: &[u8], takes: &str, file: &std::path::Path) -> SaslAuthenticateResponse {
        let answer = SaslAuthenticateResponse::default();
        let said = String::from_utf8_lossy(said);
        if said == "\u{1}" {
            return answer.with_error_code(ResponseError::SaslAuthenticationFailed.code());
        }
        if said.contains(&format!("Bearer {takes}\u{1}")) {
            return answer;
        }
        std::fs::write(file, takes).unwrap();
        answer.with_auth_bytes(Bytes::from_static(br#"{"status":"invalid_token"}"#))
    }

    fn encoded(message: &impl Encodable, version: i16) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        message.encode(&mut bytes, version).unwrap();
        bytes.to_vec()
    }

    fn by_file(file: &std::path::Path) -> Arc<Access> {
        let token_file = Some(file.to_str().unwrap().to_owned());
        let sasl = Sasl { token_file, ..Sasl::new(Mechanism::OauthBearer) };
        Arc::new(Access::new(Security { tls: None, sasl: Some(sasl) }, "test").unwrap())
    }

    #[tokio::test]
    async fn a_token_that_was_taken_before_is_replaced_when_it_is_refused() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "first").unwrap();
        let access = by_file(&file);
        Broker::start("first", file.clone()).await.greet(&access).await.unwrap();
        // Another one takes its place: it was revoked.
        Broker::start("second", file).await.greet(&access).await.unwrap();
    }

    #[tokio::test]
    async fn a_first_token_that_is_refused_is_refused_for_good() {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "wrong").unwrap();
        let broker = Broker::start("right", file.clone()).await;
        let access = by_file(&file);
        let error = broker.greet(&access).await.unwrap_err();
        assert_eq!(error.class(), Class::Permanent);
        assert!(error.to_string().starts_with("the broker refused the bearer token"), "{error}");
        // The file is right by now.
        broker.greet(&access).await.unwrap();
    }

    #[test]
    fn plain_is_user_and_password_between_nuls() {
        assert_eq!(plain("tidegate", "pass,word").unwrap(), b"\0tidegate\0pass,word");
        let error = plain("tidegate", "secr\0et").unwrap_err();
        assert!(!format!("{error:?}").contains("secr"), "{error:?}");
    }

    #[test]
    fn a_refused_token_is_told_in_the_words_of_the_broker_if_they_are_words() {
        let told = |answer: &str| Refusal::read(answer.as_bytes()).to_string();
        assert_eq!(told(r#"{"status":"invalid_token"}"#), "the broker answered invalid_token");
        let scoped = told(r#"{"status":"insufficient_scope\n","scope":"kafka read"}"#);
        assert_eq!(scoped, "the broker answered insufficient_scope, it wants scope kafka read");
        assert_eq!(told("\u{1}"), "the broker answered without a status");
        assert!(told(&format!(r#"{{"status":"{}"}}"#, "x".repeat(5000))).len() < 200);
    }

    #[test]
    fn nonces_are_printable_without_commas_and_differ() {
        let (one, other) = (nonce().unwrap(), nonce().unwrap());
        assert_ne!(one, other);
        assert!(one.len() >= 32 && one.bytes().all(|byte| byte.is_ascii_graphic() && byte != b','));
    }
}
