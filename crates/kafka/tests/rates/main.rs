//! What the monitor publishes of real logs on Apache Kafka: what brokers do to a log must not show in the rates.
//!
//! Each story runs a monitor as `tidegate monitor` does, writes to a topic that it watches, and holds every single sample that
//! was published against what was written.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod judge;
mod leader;
mod load;
mod stories;
mod transactions;
mod watch;

use std::future::Future;

use tidegate_kafka::Kafka;
use tidegate_runtime::security::Cluster;
use tidegate_testing::{KafkaOptions, KafkaVersion, RealKafka};

/// A broker on which much happens to logs in little time.
fn broker(version: KafkaVersion) -> RealKafka {
    let settings = ["log.retention.check.interval.ms=1000", "log.cleaner.backoff.ms=1000"];
    RealKafka::start_own(&KafkaOptions {
        settings: settings.map(str::to_owned).into(),
        ..KafkaOptions::new(version, 1)
    })
}

/// A client of its own, as each process has one.
fn client(bootstrap: &str) -> Kafka {
    let cluster = Cluster { bootstrap_servers: bootstrap.to_owned(), ..Cluster::default() };
    tidegate_kafka::connect(&cluster, "rates").unwrap()
}

/// Runs a story on a runtime like the processes'.
fn run(story: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().build().unwrap().block_on(story);
}

/// The stories on one version of Kafka: those that share a broker, and that of three of them.
macro_rules! on {
    ($name:ident, $version:expr; $($module:ident: $($story:ident),+);+ $(;)?) => {
        mod $name {
            use std::sync::OnceLock;

            use tidegate_testing::{KafkaVersion, RealKafka};

            fn bootstrap() -> String {
                static BROKER: OnceLock<RealKafka> = OnceLock::new();
                BROKER.get_or_init(|| crate::broker($version)).bootstrap().to_owned()
            }

            $($(#[test]
            fn $story() {
                crate::run(crate::$module::$story(bootstrap()));
            })+)+

            #[test]
            fn a_leader_that_is_killed_makes_no_spike_and_no_zero_and_hides_nothing_of_the_others() {
                let kafka = crate::leader::cluster($version);
                crate::run(crate::leader::a_killed_leader_does_not_show(&kafka));
            }
        }
    };
    ($name:ident, $version:expr) => {
        on! { $name, $version;
            stories:
                retention_does_not_show,
                compaction_does_not_show,
                partitions_that_are_added_are_right_within_30_s_of_their_first_records,
                a_topic_that_is_made_again_is_measured_from_its_first_record_and_knows_nothing_of_the_former;
            transactions:
                a_transaction_counts_with_all_that_it_writes_before_it_ends_and_though_it_is_aborted;
        }
    };
}

on! { kafka_4, KafkaVersion::V4 }
on! { kafka_3, KafkaVersion::V3 }
