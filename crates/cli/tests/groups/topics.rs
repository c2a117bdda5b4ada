//! Topics that come and go while a group runs, each with its own sink.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use tidegate_kafka::Kafka;
use tidegate_runtime::ports::TopicSpec;
use tidegate_runtime::security::Cluster;

use crate::group::{broker, end, log, start, wait_for};
use crate::quick::{consumer, quick};
use crate::support::{run, stderr, stdout};

const PARTITIONS: u32 = 2;

/// Makes a topic and writes ten records to each of its partitions.
async fn make(kafka: &Kafka, topic: &str) {
    let spec = TopicSpec {
        name: topic.to_owned(),
        partitions: PARTITIONS,
        replication: Some(1),
        config: BTreeMap::from([("retention.ms".to_owned(), "-1".to_owned())]),
    };
    assert!(kafka.admin().create(&spec).await.unwrap());
    let values: Vec<Bytes> = (0..10).map(|at| format!("{topic} {at}").into()).collect();
    let batches = (0..PARTITIONS).map(|number| (number, values.clone())).collect();
    kafka.batch_writer().write(topic, &batches, 1_700_000_000_000).await.unwrap();
}

/// Waits until exactly these topics are owned, and all that was written to them is durable.
fn wait_for_topics(folder: &Path, spec: &str, topics: &[&str]) {
    let wanted: BTreeSet<&str> = topics.iter().copied().collect();
    let durable = |row: &Value| row["state"] == "active" && row["next"] == 10;
    wait_for(folder, spec, &format!("owner of {topics:?}"), |told| {
        let rows = told["partitions"].as_array().unwrap();
        let owned: BTreeSet<&str> = rows.iter().filter_map(|row| row["topic"].as_str()).collect();
        let count = topics.len() * usize::try_from(PARTITIONS).unwrap();
        owned == wanted && rows.len() == count && rows.iter().all(durable)
    });
}

/// How many records a sink has of each topic.
fn delivered(sink: &Path) -> BTreeMap<String, usize> {
    let target = format!("file://{}", sink.display());
    let read = run(&["sink", "read", &target]);
    assert_eq!(read.status.code(), Some(0), "{}", stderr(&read));
    let mut counts = BTreeMap::new();
    for line in stdout(&read).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        *counts.entry(record["topic"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

#[test]
fn topics_that_come_and_go_are_read_into_their_own_sinks_and_given_up() {
    let (_broker, bootstrap) = broker();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (orders, clicks) = (folder.join("orders"), folder.join("clicks"));
    let path = folder.join("group.yaml");
    let text = format!(
        "group: topics\nmode: own\ncluster: {{bootstrapServers: '{bootstrap}'}}\n\
         topics:\n- {{name: 'orders.*', sink: 'file://{}'}}\n- {{name: clicks, sink: 'file://{}'}}\n\
         capacity: {{bytesPerSecond: 1MB/s}}\n{}\n",
        orders.display(),
        clicks.display(),
        quick(folder)
    );
    std::fs::write(&path, text).unwrap();
    let spec = path.to_str().unwrap();
    let created = run(&["topics", "create", "--spec", spec]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));
    let cluster = Cluster { bootstrap_servers: bootstrap, ..Cluster::default() };
    let kafka = tidegate_kafka::connect(&cluster, "test").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(make(&kafka, "orders.eu"));
    let processes = [
        ("monitor", start(folder, spec, &["monitor"])),
        ("controller", start(folder, spec, &["controller"])),
        ("consumer", consumer(folder, spec)),
    ];
    wait_for_topics(folder, spec, &["orders.eu"]);
    // One that a pattern fits, one that was named before it was there, and one that is nobody's.
    runtime.block_on(async {
        make(&kafka, "orders.us").await;
        make(&kafka, "clicks").await;
        make(&kafka, "others").await;
    });
    wait_for_topics(folder, spec, &["clicks", "orders.eu", "orders.us"]);
    runtime.block_on(kafka.admin().delete("orders.eu")).unwrap();
    wait_for_topics(folder, spec, &["clicks", "orders.us"]);
    for (name, process) in processes {
        assert_eq!(end(process), Some(0), "{}", log(folder, name));
    }
    let all = |topics: &[&str]| -> BTreeMap<String, usize> {
        topics.iter().map(|topic| ((*topic).to_owned(), 20)).collect()
    };
    assert_eq!(delivered(&orders), all(&["orders.eu", "orders.us"]));
    assert_eq!(delivered(&clicks), all(&["clicks"]));
}
