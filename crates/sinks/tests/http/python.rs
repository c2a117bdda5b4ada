//! The example receiver, which anybody may begin with: it must be exactly-once.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use tidegate_runtime::sink::conformance::Suite;
use tidegate_runtime::sink::{Sink, TopicPartition};
use tidegate_testing::{TempDir, require_tool};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use crate::{Exactly, open};

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/http_receiver.py")
}

/// The offsets that are in the receiver's file.
async fn offsets(file: &Path, partition: &TopicPartition) -> Vec<u64> {
    let query = "import json, sqlite3, sys\n\
                 rows = sqlite3.connect(sys.argv[1]).execute('SELECT line FROM lines WHERE part = ? ORDER BY rowid', sys.argv[2:])\n\
                 print(*(json.loads(line)['offset'] for line, in rows))";
    let part = format!("{}/{}", partition.id.topic, partition.id.number);
    let mut python = Command::new(require_tool("python3"));
    let output = python.args(["-c", query]).arg(file).arg(part).output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().map(|offset| offset.parse().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_receiver_makes_it_exactly_once() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("lines.db");
    let mut receiver = Command::new(require_tool("python3"))
        .arg(script())
        .args(["0".as_ref(), file.as_os_str()])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap()).lines();
    let url = lines.next_line().await.unwrap().unwrap();
    let suite = Suite::new(async || Arc::new(Exactly(open(&url).await)) as Arc<dyn Sink>);
    let suite = suite.reading(|partition| {
        let file = file.clone();
        Box::pin(async move { Ok(offsets(&file, &partition).await) })
    });
    suite.run().await.assert_passed();
    receiver.kill().await.unwrap();
}
