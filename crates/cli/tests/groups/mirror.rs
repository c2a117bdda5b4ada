//! The group's offsets on Apache Kafka, while somebody else subscribes with the group's name and when nobody does any more.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use bytes::Bytes;
use serde_json::Value;
use tidegate_core::ids::{PartitionId, Position};
use tidegate_kafka::{ControlOptions, Kafka};
use tidegate_runtime::ports::{RawRecord, TopicPartition, TopicSpec};
use tidegate_runtime::security::Cluster;
use tidegate_testing::{KafkaVersion, RealKafka, require_tool, unique_name};

use crate::group::{Running, end, log, start, wait_for, write_spec};
use crate::support::{run, stderr};

const RECORDS: u64 = 5;

async fn write(kafka: &Kafka, topic: &str) {
    let log = kafka.control_log(topic, ControlOptions::default()).unwrap();
    for _ in 0..RECORDS {
        let value = Some(Bytes::from_static(b"record"));
        log.append(0, RawRecord { value, ..RawRecord::default() }).await.unwrap();
    }
}

#[test]
fn a_member_of_the_group_keeps_commits_away_and_nothing_else() {
    let cluster = RealKafka::start(KafkaVersion::V4, 1);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let name = unique_name("mirror");
    let topic = format!("{name}.0");
    let more = format!(
        "controlTopics: {{monitor: {name}-m, controller: {name}-c, service: {name}-s, \
         replication: 1, allowWeakLedger: true}}\n\
         workers: {{kind: manual, dataDirectory: '{}'}}",
        folder.join("data").display()
    );
    let spec = write_spec(folder, cluster.bootstrap(), &more);
    let text = std::fs::read_to_string(&spec).unwrap();
    let text = text.replace("group: by-hand", &format!("group: {name}"));
    std::fs::write(&spec, text.replace("example.*", &format!("{name}.*"))).unwrap();
    let created = run(&["topics", "create", "--spec", &spec]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));

    let settings =
        Cluster { bootstrap_servers: cluster.bootstrap().to_owned(), ..Cluster::default() };
    let kafka = tidegate_kafka::connect(&settings, "test").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let id = runtime.block_on(async {
        let config = BTreeMap::new();
        let new = TopicSpec { name: topic.clone(), partitions: 1, replication: Some(1), config };
        assert!(kafka.admin().create(&new).await.unwrap());
        write(&kafka, &topic).await;
        kafka.admin().describe(std::slice::from_ref(&topic)).await.unwrap()[0].id
    });
    let partition =
        TopicPartition { topic: topic.clone(), id: PartitionId { topic: id, number: 0 } };
    let committed = || {
        let found = kafka.offsets();
        let all = std::slice::from_ref(&partition);
        runtime.block_on(found.committed(&name, all)).unwrap().get(&partition.id).copied()
    };
    let data = folder.join("consumer-1");
    let consumer = ["consumer", "--id", "1", "--data", data.to_str().unwrap()];
    let processes = [
        ("monitor", start(folder, &spec, &["monitor"])),
        ("controller", start(folder, &spec, &["controller"])),
        ("consumer", start(folder, &spec, &consumer)),
    ];
    let durable = |told: &Value, next: u64| {
        let rows = told["partitions"].as_array();
        rows.is_some_and(|rows| rows.len() == 1 && rows[0]["next"] == next)
    };
    wait_for(folder, &spec, "a first commit", |_| committed() == Some(Position(RECORDS)));

    let mut member = Command::new(require_tool("kcat"));
    member.args(["-b", cluster.bootstrap(), "-X", "enable.auto.commit=false", "-G", &name, &topic]);
    let member = Running(member.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    // It becomes a member in its own time: until then each look gives the consumer something to commit.
    let written = Cell::new(RECORDS);
    wait_for(folder, &spec, "a commit that is refused", |_| {
        runtime.block_on(write(&kafka, &topic));
        written.set(written.get() + RECORDS);
        log(folder, "consumer").contains("failed to mirror positions as group offsets")
    });
    runtime.block_on(write(&kafka, &topic));
    let written = written.get() + RECORDS;
    wait_for(folder, &spec, "delivery of all", |told| durable(told, written));
    assert!(committed() < Some(Position(written)), "commits are refused");
    assert_eq!(end(member), Some(0), "it leaves the group");
    wait_for(folder, &spec, "a commit of all", |_| committed() == Some(Position(written)));
    let again = "positions are mirrored as group offsets again";
    wait_for(folder, &spec, again, |_| log(folder, "consumer").contains(again));
    for (name, process) in processes {
        assert_eq!(end(process), Some(0), "{}", log(folder, name));
    }
}
