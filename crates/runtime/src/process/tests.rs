use std::path::Path;

use tidegate_core::ids::BootId;

use super::*;
use crate::ports::BootClock;

fn consumer(number: u32) -> ConsumerNumber {
    ConsumerNumber::new(number).unwrap()
}

fn spec(revision: &str) -> WorkerSpec {
    WorkerSpec { revision: revision.to_owned(), group: format!("group: {revision}\n").into() }
}

/// Children that run a shell script with the consumer's number, directory and process id as `$1`, `$2` and `$3`.
fn options(root: &Path, script: &str) -> ProcessOptions {
    let arguments = ["-c", script, "sh", "{consumer}", "{directory}", "{process}"];
    ProcessOptions {
        command: ChildCommand {
            program: "/bin/sh".into(),
            arguments: arguments.map(str::to_owned).into(),
            environment: vec![("SPEC".to_owned(), "{spec}".to_owned())],
        },
        directory: root.to_owned(),
        stop_grace: Duration::from_secs(5),
        backoff: Backoff { initial: Duration::from_millis(1), max: Duration::from_millis(4) },
    }
}

async fn start(options: ProcessOptions) -> ProcessWorkers {
    ProcessWorkers::start(options, Arc::new(BootClock)).await.unwrap()
}

/// The next change to a phase; those before it are skipped.
async fn next(workers: &mut ProcessWorkers, phase: Phase) -> WorkerChange {
    let found = async {
        loop {
            let change = workers.changed().await;
            if change.phase == phase {
                return change;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), found).await.expect("the phase is reached")
}

async fn content(path: &Path) -> String {
    loop {
        match std::fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn running_id(change: &WorkerChange) -> ProcessId {
    ProcessId::parse(change.detail.strip_prefix("process ").unwrap()).unwrap()
}

const SLEEP: &str = "exec sleep 1000";

#[tokio::test]
async fn a_child_gets_its_number_directory_and_id_and_a_log() {
    let root = tempfile::tempdir().unwrap();
    let script = r#"echo "$1 $3 $TIDEGATE_PROCESS_ID $(cat $SPEC)" > "$2/seen"; echo out; echo err >&2; exec sleep 1000"#;
    let mut workers = start(options(root.path(), script)).await;
    workers.ensure(consumer(3), &spec("r1")).await.unwrap();
    let id = running_id(&next(&mut workers, Phase::Running).await);
    let directory = root.path().join("consumer-3");
    assert_eq!(content(&directory.join("seen")).await, format!("3 {id} {id} group: r1\n"));
    while content(&directory.join("log")).await != "out\nerr\n" {}
    workers.ensure(consumer(3), &spec("r1")).await.unwrap();
    assert_eq!(workers.list().await.unwrap()[&consumer(3)].starts, 1);
    workers.shut_down().await;
    assert!(workers.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_child_that_ends_is_reported_dead_with_its_last_words_and_started_again() {
    let root = tempfile::tempdir().unwrap();
    let mut workers = start(options(root.path(), "echo the sink is unreachable; exit 3")).await;
    workers.ensure(consumer(1), &spec("r1")).await.unwrap();
    for starts in 1..4 {
        let id = running_id(&next(&mut workers, Phase::Running).await);
        let ended = next(&mut workers, Phase::BackingOff).await;
        assert_eq!(ended.died, Some((id, Evidence::Reaped)));
        assert_eq!(ended.detail, "exit status: 3: the sink is unreachable");
        assert!(starts <= workers.list().await.unwrap()[&consumer(1)].starts);
    }
    workers.remove(consumer(1)).await.unwrap();
    next(&mut workers, Phase::Gone).await;
}

#[tokio::test]
async fn a_removed_child_ends_by_sigterm_and_a_stubborn_one_by_sigkill() {
    let root = tempfile::tempdir().unwrap();
    let polite = "trap 'exit 0' TERM; echo up > $2/up; while :; do sleep 0.01; done";
    let mut workers = start(options(root.path(), polite)).await;
    workers.ensure(consumer(1), &spec("r1")).await.unwrap();
    let id = running_id(&next(&mut workers, Phase::Running).await);
    content(&root.path().join("consumer-1/up")).await;
    workers.remove(consumer(1)).await.unwrap();
    next(&mut workers, Phase::Stopping).await;
    let ended = next(&mut workers, Phase::Stopping).await;
    assert_eq!(
        (ended.died, ended.detail.as_str()),
        (Some((id, Evidence::Reaped)), "exit status: 0")
    );
    next(&mut workers, Phase::Gone).await;
    drop(workers);

    let stubborn = "trap '' TERM; echo up > $2/up; while :; do sleep 0.01; done";
    let grace = Duration::from_millis(50);
    let mut workers =
        start(ProcessOptions { stop_grace: grace, ..options(root.path(), stubborn) }).await;
    workers.ensure(consumer(2), &spec("r1")).await.unwrap();
    content(&root.path().join("consumer-2/up")).await;
    workers.remove(consumer(2)).await.unwrap();
    next(&mut workers, Phase::Stopping).await;
    let ended = next(&mut workers, Phase::Stopping).await;
    assert!(ended.detail.contains("SIGKILL"), "{}", ended.detail);
}

#[tokio::test]
async fn a_killed_child_comes_back_as_another_process() {
    let root = tempfile::tempdir().unwrap();
    let mut workers = start(options(root.path(), SLEEP)).await;
    assert!(!workers.kill(consumer(1)));
    workers.ensure(consumer(1), &spec("r1")).await.unwrap();
    let first = running_id(&next(&mut workers, Phase::Running).await);
    assert!(workers.kill(consumer(1)));
    let ended = next(&mut workers, Phase::BackingOff).await;
    assert_eq!(ended.died, Some((first, Evidence::Reaped)));
    assert!(ended.detail.contains("SIGKILL"));
    assert_ne!(running_id(&next(&mut workers, Phase::Running).await), first);
    workers.shut_down().await;
}

#[tokio::test]
async fn a_child_of_another_revision_is_replaced() {
    let root = tempfile::tempdir().unwrap();
    let mut workers = start(options(root.path(), SLEEP)).await;
    workers.ensure(consumer(1), &spec("r1")).await.unwrap();
    let first = running_id(&next(&mut workers, Phase::Running).await);
    workers.ensure(consumer(1), &spec("r2")).await.unwrap();
    assert_ne!(running_id(&next(&mut workers, Phase::Running).await), first);
    assert_eq!(workers.list().await.unwrap()[&consumer(1)].spec, spec("r2"));
    workers.shut_down().await;
}

#[tokio::test]
async fn children_outlive_their_controller_and_the_next_one_adopts_them() {
    let root = tempfile::tempdir().unwrap();
    let mut workers = start(options(root.path(), SLEEP)).await;
    workers.ensure(consumer(1), &spec("r1")).await.unwrap();
    let id = running_id(&next(&mut workers, Phase::Running).await);
    drop(workers);

    let mut workers = start(options(root.path(), SLEEP)).await;
    assert_eq!(running_id(&next(&mut workers, Phase::Running).await), id);
    workers.ensure(consumer(1), &spec("r1")).await.unwrap();
    assert_eq!(workers.list().await.unwrap()[&consumer(1)].spec, spec("r1"));
    assert!(workers.kill(consumer(1)));
    let ended = next(&mut workers, Phase::BackingOff).await;
    assert_eq!(ended.died, Some((id, Evidence::Reaped)));
    workers.shut_down().await;
}

#[tokio::test]
async fn a_child_whose_pid_was_not_written_down_is_found_by_its_id() {
    let root = tempfile::tempdir().unwrap();
    let mut workers = start(options(root.path(), SLEEP)).await;
    workers.ensure(consumer(1), &spec("r1")).await.unwrap();
    let id = running_id(&next(&mut workers, Phase::Running).await);
    drop(workers);
    Record::new(id, "r1").save(&root.path().join("consumer-1")).unwrap();
    let mut workers = start(options(root.path(), SLEEP)).await;
    assert_eq!(running_id(&next(&mut workers, Phase::Running).await), id);
    workers.shut_down().await;
}

#[tokio::test]
async fn a_child_that_died_without_a_controller_is_reported_dead() {
    let root = tempfile::tempdir().unwrap();
    let (gone, earlier_boot) = (ProcessId(1), ProcessId(2));
    let directory = |number| root.path().join(format!("consumer-{number}"));
    std::fs::create_dir_all(directory(1)).unwrap();
    std::fs::create_dir_all(directory(2)).unwrap();
    // Process 1 exists always, but was not started at this tick.
    Record { pid: Some((1, u64::MAX)), ..Record::new(gone, "r") }.save(&directory(1)).unwrap();
    Record { boot: Some(BootId(1)), ..Record::new(earlier_boot, "r") }.save(&directory(2)).unwrap();
    let mut workers = start(options(root.path(), SLEEP)).await;
    assert_eq!(workers.changed().await.died, Some((gone, Evidence::Reaped)));
    assert_eq!(workers.changed().await.died, Some((earlier_boot, Evidence::Reaped)));
    assert!(workers.list().await.unwrap().is_empty());
}

#[tokio::test]
async fn nothing_is_claimed_about_a_child_of_another_container_or_one_never_started() {
    let root = tempfile::tempdir().unwrap();
    let directory = root.path().join("consumer-1");
    std::fs::create_dir_all(&directory).unwrap();
    let record = Record { pid: Some((1, u64::MAX)), ..Record::new(ProcessId(1), "r") };
    let other_namespace = Record { namespace: "pid:[1]".to_owned(), ..record.clone() };
    let never_started = Record { pid: None, ..record };
    for record in [other_namespace, never_started] {
        record.save(&directory).unwrap();
        let workers = start(options(root.path(), SLEEP)).await;
        assert!(workers.found_dead.is_empty());
        assert!(workers.tasks.is_empty());
    }
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_trouble_and_is_tried_again() {
    let root = tempfile::tempdir().unwrap();
    let mut options = options(root.path(), SLEEP);
    options.command.program = "/nonexistent/tidegate".into();
    let mut workers = start(options).await;
    workers.ensure(consumer(1), &spec("r1")).await.unwrap();
    for _ in 0..2 {
        let trouble = next(&mut workers, Phase::BackingOff).await;
        assert!(trouble.detail.contains("failed to start /nonexistent/tidegate"));
        assert_eq!(trouble.died, None);
    }
    assert!(workers.list().await.unwrap()[&consumer(1)].trouble.is_some());
    workers.shut_down().await;
}

#[tokio::test]
async fn a_second_controller_on_the_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let _first = start(options(root.path(), SLEEP)).await;
    let second = ProcessWorkers::start(options(root.path(), SLEEP), Arc::new(BootClock)).await;
    assert_eq!(second.unwrap_err().class(), Class::Permanent);
}
