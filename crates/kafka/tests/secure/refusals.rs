//! What a cluster refuses, or the client does: one sentence each, with a class and a code.

use tidegate_kafka::{ControlOptions, ReaderOptions};
use tidegate_runtime::errors::Code;
use tidegate_runtime::ports::{Class, Error, TopicPartition};
use tidegate_runtime::security::{Cluster, Mechanism, Security, Tls};
use tidegate_testing::SecureListener;

use crate::suite::{new_topic, partition, raw};
use crate::world::{World, chain, connect, greet, openssl, sasl, text};

/// Sees to it that a cluster is refused with this sentence, for good.
async fn refused(cluster: &Cluster, sentence: &str) -> Error {
    let error = greet(cluster).await.unwrap_err();
    let told = chain(&error);
    assert!(error.to_string().contains(sentence), "{sentence:?} is not in {told:?}");
    assert_eq!(error.class(), Class::Permanent, "{told}");
    assert_eq!(error.code(), Some(Code::AuthenticationRefused), "{told}");
    error
}

pub(crate) async fn a_wrong_password_is_refused_and_a_corrected_file_is_picked_up(world: &World) {
    let sentence = "the broker refused the credentials: check security.sasl";
    for listener in [SecureListener::SaslPlaintext, SecureListener::SaslSsl] {
        let mut cluster = world.as_admin(listener);
        let name = format!("corrected-{listener:?}");
        let password = world.secret(&name, "wrong");
        cluster.security.sasl = Some(sasl(Mechanism::ScramSha512, "admin", password));
        refused(&cluster, sentence).await;

        let kafka = connect(&cluster);
        let log = kafka.control_log("any", ControlOptions::default()).unwrap();
        let error = log.append(0, raw("x")).await.unwrap_err();
        assert!(chain(&error).contains(sentence), "{}", chain(&error));
        let mut reader = kafka.partition_reader(ReaderOptions::default());
        let any = TopicPartition {
            topic: "any".to_owned(),
            id: tidegate_core::ids::PartitionId {
                topic: tidegate_core::ids::TopicId([1; 16]),
                number: 0,
            },
        };
        let error = reader.assign(&any, tidegate_core::ids::Position(0)).await.unwrap_err();
        assert!(chain(&error).contains(sentence), "{}", chain(&error));

        world.secret(&name, "admin-secret");
        kafka.admin().brokers().await.unwrap();
    }
    let mut cluster = world.as_admin(SecureListener::SaslSsl);
    let password = world.secret("plain-wrong", "wrong");
    cluster.security.sasl = Some(sasl(Mechanism::Plain, "admin", password));
    refused(&cluster, sentence).await;
}

pub(crate) async fn an_unknown_authority_is_refused(world: &World) {
    let (certificate, key) = (world.path("other-ca.pem"), world.path("other-ca.key"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=another CA",
        "-keyout",
        &text(&key),
        "-out",
        &text(&certificate),
    ]);
    let sentence = "is signed by an unknown authority: set security.tls.caFile";
    for listener in [SecureListener::SaslSsl, SecureListener::Ssl] {
        let mut cluster = world.as_admin(listener);
        let tls = cluster.security.tls.as_mut().unwrap();
        tls.ca_file = Some(text(&certificate));
        refused(&cluster, sentence).await;
        // Nor does the system know the authority of the harness.
        cluster.security.tls.as_mut().unwrap().ca_file = None;
        refused(&cluster, sentence).await;
    }
}

pub(crate) async fn a_missing_client_certificate_is_refused(world: &World) {
    let mut cluster = world.as_admin(SecureListener::Ssl);
    cluster.security.tls = Some(world.tls());
    let sentence = "wants a client certificate that it trusts: set security.tls.certificateFile";
    // The refusal comes after the handshake, before or after the first request: it must be told either way.
    for _ in 0..20 {
        refused(&cluster, sentence).await;
    }
}

pub(crate) async fn a_certificate_for_another_name_is_refused_unless_that_is_skipped(
    world: &World,
) {
    let mut cluster = world.as_admin(SecureListener::Elsewhere);
    let error = refused(&cluster, "is for another host name").await;
    assert!(chain(&error).contains("elsewhere.test"), "{}", chain(&error));

    cluster.security.tls.as_mut().unwrap().skip_hostname_check = true;
    let kafka = connect(&cluster);
    let topic = new_topic(&kafka, "elsewhere", 1).await;
    let log = kafka.control_log(&topic, ControlOptions::default()).unwrap();
    assert_eq!(log.append(0, raw("by librdkafka")).await.unwrap(), 0);
    assert_eq!(partition(&kafka, &topic, 0).await.topic, topic);
}

pub(crate) async fn skipping_the_name_does_not_skip_the_authority(world: &World) {
    let mut cluster = world.as_admin(SecureListener::Elsewhere);
    let tls = cluster.security.tls.as_mut().unwrap();
    tls.skip_hostname_check = true;
    // A certificate that is no authority's, and did not sign the broker's.
    tls.ca_file = Some(world.tls_file("stranger.crt"));
    refused(&cluster, "is signed by an unknown authority").await;
}

pub(crate) async fn tls_on_one_side_only_is_said(world: &World) {
    // A broker that does not speak TLS hangs up, as one does that is being stopped.
    for listener in [None, Some(SecureListener::SaslPlaintext)] {
        let servers = listener.map_or_else(
            || world.kafka.bootstrap().to_owned(),
            |listener| world.kafka.secure_bootstrap(listener),
        );
        let security = Security { tls: Some(world.tls()), sasl: None };
        let error = greet(&Cluster { bootstrap_servers: servers, security }).await.unwrap_err();
        assert!(error.to_string().contains("its listener does not speak TLS"), "{error}");
        assert_eq!(error.code(), Some(Code::AuthenticationRefused));
    }
    for listener in [SecureListener::SaslSsl, SecureListener::Ssl] {
        let mut cluster = world.as_admin(listener);
        cluster.security.tls = None;
        let error = greet(&cluster).await.unwrap_err();
        let told = chain(&error);
        assert!(told.contains("(security.tls)") || told.contains("set security.tls"), "{told}");
        assert_eq!(error.code(), Some(Code::AuthenticationRefused), "{told}");
    }
}

pub(crate) async fn sasl_on_one_side_only_is_said(world: &World) {
    let mut cluster = world.plaintext();
    cluster.security.sasl = Some(world.scram("admin"));
    refused(&cluster, "has no SASL: name one that has, or leave security.sasl out").await;
    let mut cluster = world.as_admin(SecureListener::Ssl);
    cluster.security.sasl = Some(world.scram("admin"));
    refused(&cluster, "has no SASL").await;

    for listener in [SecureListener::SaslPlaintext, SecureListener::SaslSsl] {
        let mut cluster = world.as_admin(listener);
        cluster.security.sasl = None;
        let error = greet(&cluster).await.unwrap_err();
        assert!(error.to_string().contains("SASL (security.sasl)"), "{}", chain(&error));
        assert_eq!(error.code(), Some(Code::AuthenticationRefused));
    }

    let mut cluster = world.as_admin(SecureListener::SaslPlaintext);
    cluster.security.sasl.as_mut().unwrap().mechanism = Mechanism::ScramSha256;
    refused(&cluster, "set security.sasl.mechanism to one of SCRAM-SHA-512").await;

    let half = Tls { certificate_file: Some(world.tls_file("admin.crt")), ..world.tls() };
    let mut cluster = world.as_admin(SecureListener::Ssl);
    cluster.security.tls = Some(half);
    refused(&cluster, "certificateFile and keyFile go together").await;
}
