//! Where a group begins that starts at the end of its topics, and what it does not leave out: partitions and topics that are
//! made while it runs.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use tidegate_kafka::{ControlOptions, Kafka};
use tidegate_runtime::ports::{RawRecord, TopicSpec};
use tidegate_runtime::security::Cluster;

use crate::group::{broker, end, log, start, wait_for, write_spec};
use crate::support::{run, stderr, stdout};

async fn create(kafka: &Kafka, name: &str, partitions: u32) {
    let (name, replication) = (name.to_owned(), Some(1));
    let spec = TopicSpec { name, partitions, replication, config: BTreeMap::new() };
    assert!(kafka.admin().create(&spec).await.unwrap());
}

/// So many records to each of these partitions.
async fn write(kafka: &Kafka, topic: &str, partitions: std::ops::Range<u32>, count: usize) {
    let log = kafka.control_log(topic, ControlOptions::default()).unwrap();
    for partition in partitions {
        for _ in 0..count {
            let value = Some(Bytes::from_static(b"record"));
            log.append(partition, RawRecord { value, ..RawRecord::default() }).await.unwrap();
        }
    }
}

/// The position at which each partition was granted first, by the topic's id and its number.
fn first_grants(spec: &str) -> BTreeMap<(String, u64), u64> {
    let dump = run(&["ledger", "dump", "--spec", spec, "--output", "json"]);
    assert_eq!(dump.status.code(), Some(0), "{}", stderr(&dump));
    let text = stdout(&dump);
    let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut grants = BTreeMap::new();
    for message in messages.filter(|message| message["type"] == "Grant") {
        for topic in message["value"]["partitions"].as_array().unwrap() {
            for row in topic["partitions"].as_array().unwrap() {
                let id = topic["topicId"].as_str().unwrap().to_owned();
                let at = (id, row[0].as_u64().unwrap());
                grants.entry(at).or_insert(row[1].as_u64().unwrap());
            }
        }
    }
    grants
}

#[test]
fn a_group_that_starts_at_the_end_reads_what_is_made_later_from_its_beginning() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_broker, bootstrap) = broker();
    let workers =
        format!("workers: {{kind: manual, dataDirectory: '{}'}}", folder.join("data").display());
    let spec = write_spec(folder, &bootstrap, &workers);
    let text = std::fs::read_to_string(&spec).unwrap();
    let latest = text.replace("name: 'example.*',", "name: 'example.*', start: latest,");
    assert_ne!(latest, text);
    std::fs::write(&spec, latest).unwrap();
    let created = run(&["topics", "create", "--spec", &spec]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));

    let cluster = Cluster { bootstrap_servers: bootstrap, ..Cluster::default() };
    let kafka = tidegate_kafka::connect(&cluster, "test").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        create(&kafka, "example.0", 2).await;
        write(&kafka, "example.0", 0..2, 5).await;
    });
    let data = folder.join("consumer-1");
    let consumer = ["consumer", "--id", "1", "--data", data.to_str().unwrap()];
    let processes = [
        ("monitor", start(folder, &spec, &["monitor"])),
        ("controller", start(folder, &spec, &["controller"])),
        ("consumer", start(folder, &spec, &consumer)),
    ];
    let all_read = |told: &Value, count: usize| {
        let done = |row: &Value| row["state"] == "active" && row["lagRecords"] == 0;
        let rows = told["partitions"].as_array();
        rows.is_some_and(|rows| rows.len() == count && rows.iter().all(done))
    };
    wait_for(folder, &spec, "owner of all partitions", |told| all_read(told, 2));
    let ids = runtime.block_on(async {
        let admin = kafka.admin();
        admin.grow("example.0", 4).await.unwrap();
        write(&kafka, "example.0", 2..4, 3).await;
        create(&kafka, "example.1", 1).await;
        write(&kafka, "example.1", 0..1, 3).await;
        let names = ["example.0".to_owned(), "example.1".to_owned()];
        admin.describe(&names).await.unwrap()
    });
    wait_for(folder, &spec, "owner of what was made since", |told| all_read(told, 5));
    for (name, process) in processes {
        assert_eq!(end(process), Some(0), "{}", log(folder, name));
    }
    let id = |name: &str| ids.iter().find(|topic| topic.name == name).unwrap().id.to_string();
    let (old, new) = (id("example.0"), id("example.1"));
    let expected = [(&old, 0, 5), (&old, 1, 5), (&old, 2, 0), (&old, 3, 0), (&new, 0, 0)];
    let expected = expected.map(|(topic, number, at)| ((topic.clone(), number), at));
    assert_eq!(first_grants(&spec), BTreeMap::from(expected));
}
