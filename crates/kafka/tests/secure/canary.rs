//! Secrets with values that nothing else has, and a search for them in everything that is said.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use base64::Engine as _;
use tidegate_core::ids::{PartitionId, TopicId};
use tidegate_kafka::{ControlOptions, ProducerOptions, ReaderOptions};
use tidegate_runtime::ports::{TopicPartition, TopicSpec};
use tidegate_runtime::security::{Cluster, Mechanism, Sasl, Secret};
use tidegate_testing::{SecureListener, unique_name};
use tracing_subscriber::fmt::MakeWriter;

use crate::grants::{Scram, add_user};
use crate::issuer::{Endpoint, Issuer, response};
use crate::mechanisms::accepted;
use crate::suite::raw;
use crate::world::{World, chain, openssl, sasl, text};

/// What is logged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(crate) fn text(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// All that is logged in this process from the first look on.
fn log() -> &'static Log {
    static LOG: OnceLock<Log> = OnceLock::new();
    LOG.get_or_init(|| {
        let log = Log::default();
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(log.clone())
            .init();
        log
    })
}

/// A value that nothing else has.
fn canary(name: &str) -> String {
    let mut random = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random).unwrap();
    format!("{name}{:032x}", u128::from_ne_bytes(random))
}

/// What was said: texts for people and for developers.
#[derive(Debug, Default)]
struct Said(String);

impl Said {
    fn shown(&mut self, value: &dyn std::fmt::Debug) {
        writeln!(self.0, "{value:?}").unwrap();
    }

    fn outcome<T: std::fmt::Debug, E: std::error::Error + 'static>(
        &mut self,
        outcome: &Result<T, E>,
    ) {
        self.shown(outcome);
        if let Err(error) = outcome {
            self.0 += &chain(error);
        }
    }

    /// Does what there is to do with a cluster.
    async fn listen(&mut self, cluster: &Cluster) {
        self.shown(cluster);
        let kafka = tidegate_kafka::connect(cluster, "canary");
        self.outcome(&kafka);
        let Ok(kafka) = kafka else { return };
        self.outcome(&kafka.admin().brokers().await);
        let topic = unique_name("canary");
        let spec = TopicSpec {
            name: topic.clone(),
            partitions: 1,
            replication: Some(1),
            config: BTreeMap::new(),
        };
        self.outcome(&kafka.admin().create(&spec).await);
        let log = kafka.control_log(&topic, ControlOptions::default());
        self.outcome(&log);
        if let Ok(log) = log {
            self.outcome(&log.append(0, raw("x")).await);
            self.outcome(&log.end(0).await);
        }
        self.shown(&kafka.partition_reader(ReaderOptions::default()));
        self.outcome(&kafka.producer(ProducerOptions::default()));
        let id = PartitionId { topic: TopicId([7; 16]), number: 0 };
        let offsets = kafka.offsets().committed("canary", &[TopicPartition { topic, id }]).await;
        self.outcome(&offsets);
        self.shown(&kafka);
    }
}

pub(crate) async fn secrets_appear_in_no_error_no_debug_text_and_no_log(world: &World) {
    let log = log();
    let mut secrets = Vec::new();
    let mut secret = |name: &str| {
        let value = canary(name);
        secrets.push(value.clone());
        value
    };
    let mut said = Said::default();

    // One that is right, and wrong ones.
    let user = unique_name("canary");
    let right = secret("right");
    add_user(world.kafka.bootstrap(), &user, &right, Scram::Sha512);
    let mut cluster = world.as_admin(SecureListener::SaslSsl);
    let password = world.secret("canary-right", &right);
    cluster.security.sasl = Some(sasl(Mechanism::ScramSha512, &user, password));
    accepted(&cluster).await;
    said.listen(&cluster).await;
    for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512, Mechanism::Plain] {
        let wrong = secret("wrong");
        let password = world.secret("canary-wrong", &wrong);
        cluster.security.sasl = Some(sasl(mechanism, "admin", password));
        said.listen(&cluster).await;
    }
    // One that librdkafka or PLAIN could stumble over.
    let broken = format!("{}\0rest", secret("broken"));
    let password = world.secret("canary-broken", &broken);
    cluster.security.sasl = Some(sasl(Mechanism::Plain, "admin", password));
    said.listen(&cluster).await;

    // Passwords of a key: right, wrong, and for a key that is none.
    let (plain, key) = (world.tls_file("admin.key"), text(&world.path("canary.key")));
    let pass = secret("key");
    openssl(&[
        "pkcs8",
        "-topk8",
        "-v2",
        "aes-256-cbc",
        "-in",
        &plain,
        "-out",
        &key,
        "-passout",
        &format!("pass:{pass}"),
    ]);
    let mut cluster = world.as_admin(SecureListener::Ssl);
    for (file, password) in
        [(&key, pass), (&key, secret("wrongkey")), (&world.tls_file("ca.pem"), secret("nokey"))]
    {
        let tls = cluster.security.tls.as_mut().unwrap();
        tls.key_file = Some(file.clone());
        tls.key_password = Some(world.secret("canary-key", &password));
        said.listen(&cluster).await;
    }
    bearer(world, &mut said, &mut secrets).await;
    let said = said.0;
    // It was said at all.
    assert!(said.contains("refused the credentials") && said.contains("keyPassword is wrong"));
    assert!(said.contains("refused the bearer token") && said.contains("gave no token"));
    let log = log.text();
    assert!(log.contains("DEBUG"), "the log was listened to");
    for secret in &secrets {
        assert!(!said.contains(secret), "a secret was said");
        assert!(!log.contains(secret), "a secret was logged");
    }
}

/// Tokens and the secret of a client. The endpoint is one that repeats what it was sent.
async fn bearer(world: &World, said: &mut Said, secrets: &mut Vec<String>) {
    let hour = std::time::Duration::from_secs(3600);
    let (issuer, unknown) = (Issuer::of(world), Issuer::unknown());
    let opaque = canary("opaque");
    for token in [issuer.token("admin", hour), unknown.token("admin", hour), opaque] {
        let Secret::File(path) = world.secret("canary-token", &token) else { unreachable!() };
        let sasl = Sasl { token_file: Some(path), ..Sasl::new(Mechanism::OauthBearer) };
        said.listen(&world.bearer(sasl)).await;
        secrets.push(token);
    }
    let no_token = canary("broken");
    let Secret::File(path) = world.secret("canary-token", &format!("{no_token} rest")) else {
        unreachable!()
    };
    let sasl = Sasl { token_file: Some(path), ..Sasl::new(Mechanism::OauthBearer) };
    said.listen(&world.bearer(sasl)).await;
    secrets.push(no_token);

    let secret = canary("client");
    let echoed = secret.clone();
    let refuses = Box::new(move |request: &str| {
        let said = format!("{echoed}: {}", request.replace(['\r', '\n', '"'], " "));
        response(
            "400 Bad Request",
            &format!(r#"{{"error":"{said}","error_description":"{said}"}}"#),
        )
    });
    let endpoint = Endpoint::start(world, world.secret("canary-client", &secret), refuses).await;
    said.listen(&world.bearer(endpoint.sasl())).await;
    secrets.push(base64::engine::general_purpose::STANDARD.encode(format!("tidegate:{secret}")));
    secrets.push(secret);
    for token in [issuer.token("admin", hour), unknown.token("admin", hour)] {
        let body = format!(r#"{{"access_token":"{token}"}}"#);
        endpoint.answers(Box::new(move |_| response("200 OK", &body)));
        said.listen(&world.bearer(endpoint.sasl())).await;
        secrets.push(token);
    }
}
