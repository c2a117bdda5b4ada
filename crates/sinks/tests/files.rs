//! The object sink on a folder that breaks: a disk that is full, rights that are taken away.
//!
//! Each of these tests runs itself again in a namespace of its own, where a small disk can be mounted and where the
//! superuser has no power over other people's files. On a machine that has no such namespaces they fail in CI, and say
//! elsewhere that they were not run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::{env, fs};

use bytes::Bytes;
use tempfile::TempDir;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Batch, BootClock, Class, Record, Sink, SinkError, TopicPartition};
use tidegate_sinks::object::ObjectReader;

/// Names the folder that the inner run of a test is to use.
const INNER: &str = "TIDEGATE_TEST_FOLDER";

fn partition() -> TopicPartition {
    let id = PartitionId { topic: TopicId([7; 16]), number: 3 };
    TopicPartition { topic: "orders".to_owned(), id }
}

fn token(epoch: u64) -> FencingToken {
    FencingToken { generation: Generation(1), epoch: Epoch(Offset(epoch)) }
}

async fn open(folder: &Path) -> Arc<dyn Sink> {
    let url = format!("file://{}", folder.display());
    tidegate_sinks::open(&url, Arc::new(BootClock)).await.expect("the folder can be opened")
}

/// Writes one record of so many bytes at `offset`.
async fn write(sink: &dyn Sink, offset: u64, bytes: usize) -> Result<(), SinkError> {
    let value = Some(Bytes::from(vec![b'x'; bytes]));
    let record = Record { offset, timestamp_ms: 1, key: None, value, headers: Vec::new() };
    let batch = Batch { expected: Position(offset), records: &[record], end: Position(offset + 1) };
    sink.write(&partition(), token(1), batch).await
}

/// Checks that the chain is whole and ends here.
async fn assert_whole(folder: &Path, end: u64) {
    let reader = ObjectReader::folder(folder).await.expect("the folder can be read");
    let report = reader.verify(&partition()).await.expect("the chain can be read");
    assert!(report.is_whole(), "{report}: {:?}", report.faults);
    assert_eq!(report.end, Some(Position(end)));
}

/// Runs the test with this name again, by these commands of a shell in a namespace; `$0` is the folder, `"$@"` runs it.
#[expect(clippy::print_stderr, reason = "what was not run is said loudly")]
fn again(test: &str, unshare: &[&str], shell: &str) {
    let folder = TempDir::new().expect("a temporary folder can be made");
    let probe = Command::new("unshare").args(unshare).arg("true").output();
    if !probe.as_ref().is_ok_and(|probe| probe.status.success()) {
        assert!(env::var_os("CI").is_none(), "unshare {unshare:?} does not work here: {probe:?}");
        eprintln!("NOT RUN: {test}, for unshare {unshare:?} does not work here: {probe:?}");
        return;
    }
    let program = env::current_exe().expect("a test knows its program");
    let mut command = Command::new("unshare");
    command.args(unshare).args(["sh", "-ec", shell]).arg(folder.path()).arg(program);
    let output = command.args(["--exact", test, "--nocapture"]).env(INNER, folder.path()).output();
    let output = output.expect("unshare was there a moment ago");
    let text = String::from_utf8_lossy(&output.stderr);
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{text}");
}

fn inner() -> Option<std::path::PathBuf> {
    env::var_os(INNER).map(Into::into)
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime can be built").block_on(test);
}

#[test]
fn a_full_disk_holds_writes_up_until_there_is_room_and_loses_nothing() {
    const NAME: &str = "a_full_disk_holds_writes_up_until_there_is_room_and_loses_nothing";
    let Some(folder) = inner() else {
        let shell = "mount -t tmpfs -o size=1m none \"$0\"; exec \"$@\"";
        return again(NAME, &["--map-root-user", "--mount"], shell);
    };
    block_on(async {
        let sink = open(&folder).await;
        sink.acquire(&partition(), token(1)).await.expect("there is room");
        write(&*sink, 0, 100_000).await.expect("there is room");
        let ballast = folder.join("ballast");
        fs::write(&ballast, vec![0; 700_000]).expect("there is room");
        let error = write(&*sink, 1, 400_000).await.expect_err("there is no room");
        assert_eq!(error.class(), Class::Transient);
        let cause = std::error::Error::source(&error).and_then(std::error::Error::source);
        let cause = cause.map(ToString::to_string).unwrap_or_default();
        assert!(cause.contains("No space left on device"), "{cause}");
        assert_whole(&folder, 1).await;
        assert_eq!(sink.acquire(&partition(), token(1)).await.expect("reads"), Some(Position(1)));
        fs::remove_file(ballast).expect("it is ours");
        write(&*sink, 1, 400_000).await.expect("there is room again");
        assert_whole(&folder, 2).await;
        let left = fs::read_dir(folder.join("orders")).expect("a folder").flatten().next();
        let chain = left.expect("a topic").path().join("3");
        let names = fs::read_dir(chain).expect("a folder").count();
        assert_eq!(names, 2, "nothing unfinished is left");
    });
}

#[test]
fn rights_that_are_taken_away_stop_a_partition_and_lose_nothing() {
    const NAME: &str = "rights_that_are_taken_away_stop_a_partition_and_lose_nothing";
    // In a user namespace without a mapping there is no superuser, while the files are still one's own.
    let Some(folder) = inner() else { return again(NAME, &["--user"], "exec \"$@\"") };
    block_on(async {
        let sink = open(&folder).await;
        sink.acquire(&partition(), token(1)).await.expect("the rights are there");
        write(&*sink, 0, 100).await.expect("the rights are there");
        let topic = fs::read_dir(folder.join("orders")).expect("a folder").flatten().next();
        let chain = topic.expect("a topic").path().join("3");
        let rights = |mode| fs::set_permissions(&chain, fs::Permissions::from_mode(mode));
        rights(0o555).expect("it is ours");
        let error = write(&*sink, 1, 100).await.expect_err("the rights are gone");
        assert_eq!(error.class(), Class::Permanent);
        assert!(matches!(error, SinkError::Refused { .. }), "{error:?}");
        assert_whole(&folder, 1).await;
        rights(0o755).expect("it is ours");
        assert_eq!(sink.acquire(&partition(), token(1)).await.expect("reads"), Some(Position(1)));
        write(&*sink, 1, 100).await.expect("the rights are back");
        assert_whole(&folder, 2).await;
    });
}
