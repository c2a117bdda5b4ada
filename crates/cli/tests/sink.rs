//! `tidegate sink`: records are read back, objects listed, and damage is found.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use tempfile::TempDir;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Batch, BootClock, Record, TopicPartition};
use tidegate_testing::RealS3;

use support::{run, stderr, stdout, tidegate};

/// Writes the offsets 10..13, a gap up to 20, and 20..22 to a partition.
async fn write(url: &str, number: u32) {
    let sink = tidegate_sinks::open(url, Arc::new(BootClock)).await.unwrap();
    let id = PartitionId { topic: TopicId([7; 16]), number };
    let partition = TopicPartition { topic: "orders".to_owned(), id };
    let token = FencingToken { generation: Generation(1), epoch: Epoch(Offset(42)) };
    sink.acquire(&partition, token).await.unwrap();
    for (expected, range, end) in [(10, 10..13, 13), (13, 0..0, 20), (20, 20..22, 22)] {
        let record = |offset| Record {
            offset,
            timestamp_ms: 1,
            key: None,
            value: Some(Bytes::from(format!("value {offset}"))),
            headers: Vec::new(),
        };
        let records: Vec<_> = range.map(record).collect();
        let batch = Batch { expected: Position(expected), records: &records, end: Position(end) };
        sink.write(&partition, token, batch).await.unwrap();
    }
}

/// A folder with two partitions, compressed or not, and its URL.
fn folder(options: &str) -> (TempDir, String) {
    let root = TempDir::new().unwrap();
    let url = format!("file://{}{options}", root.path().display());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        write(&url, 0).await;
        write(&url, 3).await;
    });
    (root, url)
}

fn offsets(text: &str) -> Vec<(u64, u64)> {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines
        .map(|line| (line["partition"].as_u64().unwrap(), line["offset"].as_u64().unwrap()))
        .collect()
}

fn objects(root: &Path) -> Vec<PathBuf> {
    let topic = fs::read_dir(root.join("orders")).unwrap().next().unwrap().unwrap().path();
    let mut found: Vec<_> =
        fs::read_dir(topic.join("3")).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn records_are_read_back_in_order_compressed_or_not() {
    for options in ["", "?compression=zstd"] {
        let (_root, url) = folder(options);
        let all = run(&["sink", "read", &url]);
        assert_eq!(all.status.code(), Some(0), "{}", stderr(&all));
        let wanted = [10, 11, 12, 20, 21];
        let both = [0, 3].into_iter().flat_map(|number| wanted.map(|offset| (number, offset)));
        assert!(offsets(&stdout(&all)).into_iter().eq(both), "{}", stdout(&all));
        let one =
            run(&["sink", "read", &url, "--topic", "orders", "--partition", "3", "--from", "12"]);
        assert_eq!(offsets(&stdout(&one)), [(3, 12), (3, 20), (3, 21)]);
        let none = run(&["sink", "read", &url, "--from", "22"]);
        assert_eq!((none.status.code(), stdout(&none).as_str()), (Some(0), ""));
    }
}

#[test]
fn a_partition_that_is_not_there_is_named_as_a_fault_of_the_input() {
    let (_root, url) = folder("");
    let output = run(&["sink", "read", &url, "--topic", "bills"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("the sink has no such partition"), "{}", stderr(&output));
}

#[test]
fn objects_are_listed_with_what_they_hold_and_who_wrote_them() {
    let (_root, url) = folder("?compression=zstd");
    let output = run(&["sink", "read", &url, "--list", "--partition", "3", "--output", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let figures = |row: &Value| {
        ["position", "start", "end", "records", "epoch"].map(|name| row[name].as_u64().unwrap())
    };
    let wanted = [[0, 10, 13, 3, 42], [13, 13, 20, 0, 42], [20, 20, 22, 2, 42]];
    assert!(rows.iter().map(figures).eq(wanted), "{text}");
    assert_eq!(rows[0]["encoding"], "zstd");
    let table = stdout(&run(&["sink", "read", &url, "--list", "--from", "20"]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 6, "two heads and one object for each partition:\n{table}");
    assert!(lines[0].starts_with("orders-0 of topic "), "{table}");
}

#[test]
fn damage_is_told_and_ends_with_1_and_the_rest_is_read() {
    let (root, url) = folder("");
    let whole = run(&["sink", "verify", &url]);
    assert_eq!(whole.status.code(), Some(0), "{}", stderr(&whole));
    assert!(stdout(&whole).ends_with("2 partitions, 10 records, 0 faults\n"), "{}", stdout(&whole));
    let objects = objects(root.path());
    let mut bytes = fs::read(&objects[0]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&objects[0], bytes).unwrap();
    fs::remove_file(&objects[1]).unwrap();
    let verified = run(&["sink", "verify", &url, "--output", "json"]);
    assert_eq!(verified.status.code(), Some(1));
    let told: Value = serde_json::from_str(&stdout(&verified)).unwrap();
    assert_eq!((&told[0]["faultCount"], &told[1]["faultCount"]), (&0.into(), &1.into()));
    let read = run(&["sink", "read", &url, "--partition", "3"]);
    assert_eq!(read.status.code(), Some(1));
    assert_eq!(offsets(&stdout(&read)), [(3, 20), (3, 21)]);
    assert!(stderr(&read).contains("the checksum of the body is wrong"), "{}", stderr(&read));
}

#[test]
fn a_bucket_is_read_with_the_credentials_of_the_environment() {
    let server = RealS3::start();
    let url = format!("s3://{}/records?endpoint={}", RealS3::BUCKET, server.endpoint());
    let (root, _) = folder("");
    // The server's data is a folder.
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(root.path())
        .arg(server.file("records"))
        .status();
    assert!(copied.unwrap().success());
    let read = tidegate(&["sink", "read", &url]).envs(RealS3::environment()).output().unwrap();
    assert_eq!(read.status.code(), Some(0), "{}", stderr(&read));
    assert_eq!(offsets(&stdout(&read)).len(), 10);
    let refused = run(&["sink", "verify", &format!("{url}&secretKey=hush")]);
    assert_eq!(refused.status.code(), Some(1));
    let told = stderr(&refused);
    assert!(
        told.contains("credentials do not belong in a URL") && !told.contains("hush"),
        "{told}"
    );
}
