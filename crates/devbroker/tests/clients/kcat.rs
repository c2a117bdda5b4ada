//! kcat, unchanged, as a user at a shell would run it.

use std::process::Stdio;

use tidegate_devbroker::DevBroker;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use crate::support::{BOUND, broker};

/// What kcat prints, with `input` on its standard input.
///
/// A missing kcat is a failure: a test that does not run proves nothing.
async fn kcat(broker: &DevBroker, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new("kcat")
        .args(["-b", &broker.bootstrap()])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kcat runs: `cargo xtask test` or `apt-get install kcat` installs it");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    stdin.write_all(input.as_bytes()).await.expect("kcat reads its input");
    drop(stdin);
    let ended = timeout(BOUND, child.wait_with_output()).await;
    let output = ended.expect("kcat ends within the bound").expect("kcat was started");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "kcat {arguments:?}: {complaint}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kcat_lists_produces_and_consumes() {
    let broker = broker(3).await;
    broker.create_topic("t", 2, &[]).unwrap();

    let listed = kcat(&broker, &["-L"], "").await;
    assert!(listed.contains("3 brokers:"), "{listed}");
    assert!(listed.contains("topic \"t\" with 2 partitions:"), "{listed}");

    let snappy = ["-P", "-t", "t", "-p", "1", "-z", "snappy"];
    kcat(&broker, &snappy, "one\ntwo\nthree\n").await;
    let all = ["-C", "-q", "-t", "t", "-p", "1", "-o", "beginning", "-e", "-f", "%o=%s\\n"];
    assert_eq!(kcat(&broker, &all, "").await, "0=one\n1=two\n2=three\n");

    let end = kcat(&broker, &["-Q", "-t", "t:1:-1"], "").await;
    assert!(end.contains("t [1] offset 3"), "{end}");
    broker.stop().await;
}
