//! Records that are deleted before they were read: the partition stops with the numbers, and goes on once that was decided.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use serde_json::Value;
use tidegate_kafka::ControlOptions;
use tidegate_runtime::ports::{ControlLog, RawRecord, TopicSpec};
use tidegate_runtime::security::Cluster;

use crate::group::{Running, broker, end, log, start, wait_for, write_spec};
use crate::support::{run, stderr};

async fn write(log: &dyn ControlLog, count: usize) {
    for _ in 0..count {
        let value = Some(Bytes::from_static(b"record"));
        log.append(0, RawRecord { value, ..RawRecord::default() }).await.unwrap();
    }
}

fn consumer(folder: &Path, spec: &str) -> Running {
    let data = folder.join("consumer-1");
    start(folder, spec, &["consumer", "--id", "1", "--data", data.to_str().unwrap()])
}

fn stands(told: &Value, next: u64) -> bool {
    let rows = told["partitions"].as_array();
    rows.is_some_and(|rows| rows.len() == 1 && rows[0]["next"] == next)
}

#[test]
fn a_partition_whose_records_were_deleted_stops_and_goes_on_behind_the_gap_if_that_is_decided() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (_broker, bootstrap) = broker();
    let workers =
        format!("workers: {{kind: manual, dataDirectory: '{}'}}", folder.join("data").display());
    let spec = write_spec(folder, &bootstrap, &workers);
    let created = run(&["topics", "create", "--spec", &spec]);
    assert_eq!(created.status.code(), Some(0), "{}", stderr(&created));
    let cluster = Cluster { bootstrap_servers: bootstrap, ..Cluster::default() };
    let kafka = tidegate_kafka::connect(&cluster, "test").unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let data = runtime.block_on(async {
        let (name, config) = ("example.0".to_owned(), BTreeMap::new());
        let topic = TopicSpec { name, partitions: 1, replication: Some(1), config };
        assert!(kafka.admin().create(&topic).await.unwrap());
        let data = kafka.control_log("example.0", ControlOptions::default()).unwrap();
        write(&*data, 5).await;
        data
    });
    let processes = [
        ("monitor", start(folder, &spec, &["monitor"])),
        ("controller", start(folder, &spec, &["controller"])),
    ];
    let first = consumer(folder, &spec);
    wait_for(folder, &spec, "delivery of the first records", |told| stands(told, 5));
    assert_eq!(end(first), Some(0), "{}", log(folder, "consumer"));
    runtime.block_on(async {
        write(&*data, 10).await;
        data.trim(0, 12).await.unwrap();
    });

    let second = consumer(folder, &spec);
    let told =
        "example.0-0 is to be read from offset 5 on, and its log is from 12 to 15: 7 offsets";
    wait_for(folder, &spec, "alarm", |_| log(folder, "consumer").contains(told));
    assert_eq!(end(second), Some(0), "{}", log(folder, "consumer"));

    let skip = format!("{workers}\nconsumer: {{onOutOfRange: skip}}");
    let decided = write_spec(folder, &cluster.bootstrap_servers, &skip);
    let third = consumer(folder, &decided);
    wait_for(folder, &spec, "delivery behind the gap", |told| stands(told, 15));
    let text = log(folder, "consumer");
    let gap = "a gap is recorded and passed over partition=example.0-0 from=5 to=12 offsets=7";
    assert!(text.contains(told) && text.contains(gap), "{text}");
    assert_eq!(end(third), Some(0), "{}", log(folder, "consumer"));
    for (name, process) in processes {
        assert_eq!(end(process), Some(0), "{}", log(folder, name));
    }
}
