//! The ways to say who one is, beyond those that the suite is run with.

use tidegate_kafka::{ControlOptions, Kafka};
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::Class;
use tidegate_runtime::security::{Cluster, Mechanism};
use tidegate_testing::{SecureListener, unique_name};

use crate::grants::{Scram, add_user};
use crate::suite::{PATIENCE, new_topic, raw, soon};
use crate::world::{World, chain, connect, greet, openssl, sasl, text};

/// Makes both clients work: the topic is made by the thin layer, and written by librdkafka.
pub(crate) async fn works(cluster: &Cluster) -> Kafka {
    let kafka = connect(cluster);
    let topic = new_topic(&kafka, "mechanism", 1).await;
    let log = kafka.control_log(&topic, ControlOptions::default()).unwrap();
    assert_eq!(log.append(0, raw("x")).await.unwrap(), 0);
    let mut reader = log.read(0, 0).await.unwrap();
    assert_eq!(soon("the record", reader.next()).await.unwrap().len(), 1);
    kafka
}

pub(crate) async fn plain_and_scram_sha_256_are_spoken(world: &World) {
    let mut cluster = world.as_admin(SecureListener::SaslSsl);
    let password = world.secret("plain", "admin-secret");
    cluster.security.sasl = Some(sasl(Mechanism::Plain, "admin", password));
    works(&cluster).await;

    // Kafka's own client has no more to say about such a name and password than ours.
    let (user, secret) = ("admin", "pässwörd, with = and ,");
    add_user(world.kafka.bootstrap(), user, secret, Scram::Sha256);
    let password = world.secret("sha-256", secret);
    cluster.security.sasl = Some(sasl(Mechanism::ScramSha256, user, password));
    accepted(&cluster).await;
    works(&cluster).await;
}

/// Waits until a user that was just made is known to the broker.
pub(crate) async fn accepted(cluster: &Cluster) {
    let known = async {
        while let Err(error) = greet(cluster).await {
            assert!(error.to_string().contains("refused the credentials"), "{}", chain(&error));
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    soon("the new user", known).await;
}

/// The broker would end the connections after two seconds; a call that met that would fail.
pub(crate) async fn a_session_of_limited_time_is_renewed_unnoticed(world: &World) {
    let mut cluster = world.as_admin(SecureListener::SaslSsl);
    let password = world.secret("session", "admin-secret");
    cluster.security.sasl = Some(sasl(Mechanism::Plain, "admin", password));
    let kafka = works(&cluster).await;
    let topic = new_topic(&kafka, "session", 1).await;
    let log = kafka.control_log(&topic, ControlOptions::default()).unwrap();
    let mut reader = log.read(0, 0).await.unwrap();
    let admin = kafka.admin();
    let began = tokio::time::Instant::now();
    // Three sessions, whatever the machine's speed: the broker counts them by its clock.
    let mut appended = 0_u64;
    while began.elapsed() < std::time::Duration::from_secs(7) {
        assert_eq!(admin.brokers().await.unwrap(), 1);
        assert_eq!(log.append(0, raw("x")).await.unwrap(), appended);
        assert_eq!(log.end(0).await.unwrap(), appended + 1);
        let records = tokio::time::timeout(PATIENCE, reader.next()).await.unwrap().unwrap();
        assert_eq!(records[0].offset, appended);
        appended += 1;
    }
}

pub(crate) async fn an_encrypted_key_is_decrypted(world: &World) {
    let (plain, new, old) =
        (world.tls_file("admin.key"), text(&world.path("new.key")), text(&world.path("old.key")));
    let pass = "pass:key-secret";
    openssl(&[
        "pkcs8",
        "-topk8",
        "-v2",
        "aes-256-cbc",
        "-in",
        &plain,
        "-out",
        &new,
        "-passout",
        pass,
    ]);
    openssl(&["rsa", "-aes256", "-traditional", "-in", &plain, "-out", &old, "-passout", pass]);
    let with = |file: &str, password: Option<&str>| {
        let mut cluster = world.as_admin(SecureListener::Ssl);
        let tls = cluster.security.tls.as_mut().unwrap();
        tls.key_file = Some(file.to_owned());
        tls.key_password =
            password.map(|password| world.secret(&unique_name("key-password"), password));
        cluster
    };
    works(&with(&new, Some("key-secret"))).await;

    for (cluster, sentence) in [
        (with(&new, None), "is encrypted: set keyPassword"),
        (with(&new, Some("wrong")), "keyPassword is wrong"),
        (with(&old, Some("key-secret")), "convert it with `openssl pkcs8 -topk8"),
        (with(&world.tls_file("ca.pem"), None), "holds no private key in PEM"),
        (with(&world.tls_file("stranger.key"), None), "does not belong to the certificate"),
    ] {
        let error = greet(&cluster).await.unwrap_err();
        assert!(error.to_string().contains(sentence), "{sentence:?}: {}", chain(&error));
        assert_eq!(
            (error.class(), error.code()),
            (Class::Permanent, Some(Code::AuthenticationRefused))
        );
    }
    // librdkafka could read the old form: both clients refuse it alike.
    let kafka = connect(&with(&old, Some("key-secret")));
    let error = kafka.producer(tidegate_kafka::ProducerOptions::default()).unwrap_err();
    assert!(error.to_string().contains("convert it with"), "{error}");
}
