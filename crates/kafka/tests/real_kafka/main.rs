//! The suite against Apache Kafka, oldest and newest supported version.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cognitive_complexity,
    reason = "helpers of tests, and stories told in one piece"
)]

mod reading;
#[path = "../suite/mod.rs"]
mod suite;

/// Tests that need a cluster of their own kind, for each version.
macro_rules! own_tests {
    ($bootstrap:expr) => {
        mod reading {
            #[test]
            fn every_codec_is_read() {
                crate::run(crate::reading::every_codec_is_read($bootstrap));
            }

            #[test]
            fn markers_and_aborted_records_are_neither_data_nor_lag() {
                crate::run(crate::reading::markers_and_aborted_records_are_neither_data_nor_lag(
                    $bootstrap,
                ));
            }
        }
    };
}

fn run(test: impl Future<Output = ()>) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(test);
}

mod kafka_4 {
    use std::sync::OnceLock;

    use tidegate_testing::{KafkaVersion, RealKafka};

    fn bootstrap() -> String {
        static KAFKA: OnceLock<RealKafka> = OnceLock::new();
        let kafka = KAFKA.get_or_init(|| RealKafka::start(KafkaVersion::V4, 1));
        kafka.bootstrap().to_owned()
    }

    crate::suite! { crate::suite::plaintext(&super::bootstrap()) }

    own_tests! { super::bootstrap() }
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

    own_tests! { super::bootstrap() }
}
