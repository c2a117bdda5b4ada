//! The main job on the embedded broker and on Apache Kafka.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod job;

use tidegate_devbroker::{DevBroker, Options};
use tidegate_load::audit::AuditReport;
use tidegate_runtime::security::Cluster;
use tidegate_testing::{KafkaVersion, RealKafka};
use tidegate_wire::Status;

use crate::job::{Job, Parts, assert_clean};

async fn main_job(bootstrap: &str) -> (AuditReport, Status) {
    let cluster = Cluster { bootstrap_servers: bootstrap.to_owned(), ..Cluster::default() };
    let kafka = tidegate_kafka::connect(&cluster, "main-job").unwrap();
    let parts = Parts {
        operator: kafka.clone(),
        monitor: kafka.clone(),
        controller: kafka.clone(),
        consumer: kafka.clone(),
        load: kafka,
    };
    Job::new(&cluster).run(&parts).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_delivered_once_while_partitions_move_on_the_embedded_broker() {
    let _logged = tidegate_runtime::telemetry::logging::init(
        None,
        tidegate_runtime::telemetry::logging::Format::Text,
    );
    let broker = DevBroker::start(Options::default()).await.unwrap();
    let (report, status) = main_job(&broker.bootstrap()).await;
    assert_clean(&report, &status);
    broker.stop().await;
}

fn on_real_kafka(version: KafkaVersion) {
    let kafka = RealKafka::start(version, 1);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (report, status) = runtime.block_on(main_job(kafka.bootstrap()));
    assert_clean(&report, &status);
}

#[test]
fn everything_is_delivered_once_while_partitions_move_on_kafka_4() {
    on_real_kafka(KafkaVersion::V4);
}

#[test]
fn everything_is_delivered_once_while_partitions_move_on_kafka_3() {
    on_real_kafka(KafkaVersion::V3);
}
