//! The suite against Apache Kafka, oldest and newest supported version.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cognitive_complexity,
    reason = "helpers of tests, and stories told in one piece"
)]

mod suite;

mod kafka_4 {
    use std::sync::OnceLock;

    use tidegate_testing::{KafkaVersion, RealKafka};

    fn bootstrap() -> String {
        static KAFKA: OnceLock<RealKafka> = OnceLock::new();
        let kafka = KAFKA.get_or_init(|| RealKafka::start(KafkaVersion::V4, 1));
        kafka.bootstrap().to_owned()
    }

    crate::suite! { crate::suite::plaintext(&super::bootstrap()) }
}

mod kafka_3 {
    use std::sync::OnceLock;

    use tidegate_testing::{KafkaVersion, RealKafka};

    fn bootstrap() -> String {
        static KAFKA: OnceLock<RealKafka> = OnceLock::new();
        let kafka = KAFKA.get_or_init(|| RealKafka::start(KafkaVersion::V3, 1));
        kafka.bootstrap().to_owned()
    }

    crate::suite! { crate::suite::plaintext(&super::bootstrap()) }
}
