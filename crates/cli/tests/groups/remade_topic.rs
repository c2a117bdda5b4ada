//! A topic of interest that is deleted and made again while its partitions are owned.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tidegate_kafka::Kafka;
use tidegate_runtime::ports::TopicSpec;
use tidegate_runtime::security::Cluster;
use tidegate_testing::{KafkaOptions, KafkaVersion, RealKafka};

use crate::audited::audited;
use crate::group::{broker, end, log, start, wait_for, write_spec};
use crate::quick::{all_active, consumer, load, quick};
use crate::support::{run, stderr};

/// Deletes the topic, makes it again, and returns its new id.
async fn remake(kafka: &Kafka, name: &str) -> String {
    let admin = kafka.admin();
    admin.delete(name).await.unwrap();
    // Apache Kafka deletes in its own time.
    let gone = async {
        while !admin.describe(&[name.to_owned()]).await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("the topic is gone");
    let spec = TopicSpec {
        name: name.to_owned(),
        partitions: 4,
        replication: Some(1),
        config: BTreeMap::new(),
    };
    assert!(admin.create(&spec).await.unwrap());
    admin.describe(&[name.to_owned()]).await.unwrap()[0].id.to_string()
}

#[test]
fn its_old_partitions_are_given_up_and_the_new_ones_are_read_from_their_beginning() {
    let (_broker, bootstrap) = broker();
    a_topic_is_remade(bootstrap, "");
}

#[test]
fn so_are_they_on_apache_kafka() {
    let kafka = RealKafka::start_own(&KafkaOptions::new(KafkaVersion::V4, 1));
    let control = "controlTopics: {replication: 1, allowWeakLedger: true}\n";
    a_topic_is_remade(kafka.bootstrap().to_owned(), control);
}

fn a_topic_is_remade(bootstrap: String, more: &str) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let spec = write_spec(folder, &bootstrap, &format!("{more}{}", quick(folder)));
    let created = run(&["topics", "create", "--spec", &spec]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));
    let processes = [
        ("monitor", start(folder, &spec, &["monitor"])),
        ("controller", start(folder, &spec, &["controller"])),
        ("consumer", consumer(folder, &spec)),
    ];
    let write = |acknowledged: &Path| {
        let mut load = load(folder, &spec, (acknowledged.to_str().unwrap(), "5s"));
        assert_eq!(load.0.wait().unwrap().code(), Some(0), "{}", log(folder, "load"));
    };
    write(&folder.join("before.json"));
    wait_for(folder, &spec, "owner of all partitions", all_active);

    let cluster = Cluster { bootstrap_servers: bootstrap, ..Cluster::default() };
    let kafka = tidegate_kafka::connect(&cluster, "test").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let id = runtime.block_on(remake(&kafka, "example.0"));
    let acknowledged = folder.join("acknowledged.json");
    write(&acknowledged);
    let renewed = |told: &Value| {
        let topics = told["topics"].as_array().unwrap();
        let rows = told["partitions"].as_array().unwrap();
        let durable = |row: &Value| row["lagRecords"] == 0 && row["next"].as_u64() > Some(0);
        topics.len() == 1 && topics[0]["id"] == id.as_str() && rows.iter().all(durable)
    };
    let what = "new owners of all that was written since";
    wait_for(folder, &spec, what, |told| all_active(told) && renewed(told));
    let told = log(folder, "consumer");
    assert!(told.contains("reading failed partition=example.0-"), "the old ones say so: {told}");
    for (name, process) in processes {
        assert_eq!(end(process), Some(0), "{}", log(folder, name));
    }
    audited(folder, acknowledged.to_str().unwrap());
}
