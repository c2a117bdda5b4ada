//! The helpers themselves, on real brokers.

use std::net::TcpStream;

use tidegate_testing::{KafkaOptions, KafkaVersion, RealKafka, SecureListener, unique_name};

fn topics(kafka: &RealKafka) -> String {
    kafka.tool(&["topics", "--bootstrap-server", kafka.bootstrap(), "--list"])
}

fn create_topic(kafka: &RealKafka, topic: &str) {
    kafka.tool(&["topics", "--bootstrap-server", kafka.bootstrap(), "--create", "--topic", topic]);
}

#[test]
fn an_own_cluster_keeps_its_topics_over_a_crash_and_is_gone_when_dropped() {
    let mut options = KafkaOptions::new(KafkaVersion::V4, 1);
    options.settings.push("broker.session.timeout.ms=3000".to_owned());
    let kafka = RealKafka::start_own(&options);
    let address = kafka.bootstrap().to_owned();
    create_topic(&kafka, "orders");
    kafka.kill(1);
    assert!(TcpStream::connect(&address).is_err());
    kafka.restart();
    assert!(topics(&kafka).lines().any(|topic| topic == "orders"));
    drop(kafka);
    assert!(TcpStream::connect(&address).is_err());
}

#[test]
fn tests_that_ask_for_the_same_cluster_share_it() {
    let one = RealKafka::start(KafkaVersion::V3, 1);
    let topic = unique_name("orders");
    create_topic(&one, &topic);
    let other = RealKafka::start(KafkaVersion::V3, 1);
    assert_eq!(one.bootstrap(), other.bootstrap());
    assert!(topics(&other).lines().any(|name| name == topic));
}

#[test]
fn a_secure_cluster_listens_where_it_says_and_makes_certificates() {
    let options = KafkaOptions { secure: true, ..KafkaOptions::new(KafkaVersion::V4, 1) };
    let kafka = RealKafka::start_own(&options);
    for listener in [SecureListener::SaslPlaintext, SecureListener::SaslSsl, SecureListener::Ssl] {
        TcpStream::connect(kafka.secure_bootstrap(listener)).expect("the listener is there");
    }
    assert!(kafka.tls_directory().join("ca.pem").is_file());
}
