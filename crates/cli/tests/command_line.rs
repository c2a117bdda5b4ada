//! What the program says, and the code it ends with: arguments, specifications, clusters that are not there.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::io::Write as _;

use serde_json::Value;
use tempfile::NamedTempFile;

use support::{run, stderr, stdout, tidegate};

/// A port that nothing listens on: that of a listener that is gone.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn spec(more: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let port = closed_port();
    writeln!(
        file,
        "group: test\ncluster: {{bootstrapServers: '127.0.0.1:{port}'}}\n\
         topics: [{{name: 'orders.*', sink: 'blackhole:'}}]\n{more}"
    )
    .unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_known() {
    let output = run(&["topic", "create"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("'topics'"), "{}", stderr(&output));
    assert_eq!(run(&["demo", "--rate", "fast"]).status.code(), Some(2));
    assert_eq!(run(&["status"]).status.code(), Some(2));
    assert_eq!(run(&["consumer", "--spec", "x", "--id", "0"]).status.code(), Some(2));
}

#[test]
fn a_retention_of_nothing_is_wrong_usage_that_names_the_option() {
    let output = run(&["topics", "retain", "--spec", "x", "--time", "0s", "orders"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("'--time <TIME>'"), "{}", stderr(&output));
}

#[test]
fn help_and_version_are_data_and_end_with_0() {
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(stdout(&version).contains("(commit "), "{}", stdout(&version));
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(stdout(&help).contains("Exit codes: 0 done"), "{}", stdout(&help));
}

#[test]
fn all_faults_of_a_specification_are_told_at_once_with_3() {
    let file = spec("capasity: {}\nconsumers: {max: many}\nhttp: {listen: nowhere}");
    let output = run(&["config", "check", path(&file)]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("capasity: unknown key, did you mean capacity?"), "{text}");
    assert!(text.contains("consumers.max") && text.contains("http.listen"), "{text}");
    assert!(text.contains("has 3 faults") && text.contains("TG001"), "{text}");
    assert_eq!(stdout(&output), "");
    let monitor = run(&["monitor", "--spec", path(&file)]);
    assert_eq!(monitor.status.code(), Some(3), "processes check it, too");
}

#[test]
fn faults_are_an_object_with_json() {
    let mut file = NamedTempFile::new().unwrap();
    writeln!(
        file,
        "group: g\ncluster: {{bootstrapServers: 'a:1'}}\ntopics: [{{name: a, sink: 'ftp:'}}]"
    )
    .unwrap();
    let output = run(&["config", "check", "--output", "json", "-f", path(&file)]);
    assert_eq!(output.status.code(), Some(3));
    let checked: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(checked["valid"], false);
    assert_eq!(checked["faults"][0]["path"], "topics[0].sink");
}

#[test]
fn a_valid_specification_is_printed_with_its_defaults() {
    let file = spec("capacity: {bytesPerSecond: 2MB/s}");
    assert_eq!(run(&["config", "check", path(&file)]).status.code(), Some(0));
    let printed = run(&["config", "print", path(&file)]);
    let text = stdout(&printed);
    assert!(text.contains("bytesPerSecond: 2MB/s") && text.contains("packing: 0.75"), "{text}");
    let overridden = tidegate(&["config", "print", path(&file), "--output", "json"])
        .env("TIDEGATE_CONSUMERS_MAX", "33")
        .output()
        .unwrap();
    let spec: Value = serde_json::from_str(&stdout(&overridden)).unwrap();
    assert_eq!(spec["consumers"]["max"], 33);
}

#[test]
fn the_schema_is_json() {
    let schema: Value = serde_json::from_str(&stdout(&run(&["config", "schema"]))).unwrap();
    assert!(schema["properties"]["group"].is_object());
}

#[test]
fn a_cluster_that_is_not_there_is_one_clear_sentence() {
    let file = spec("");
    let output = run(&["topics", "create", "--spec", path(&file)]);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    let sentence = "start one there, or correct the address";
    assert!(text.contains("no broker at 127.0.0.1:") && text.contains(sentence), "{text}");
    assert!(text.contains("TG002"), "{text}");
    assert_eq!(text.lines().count(), 2, "the chain once, and where to read on: {text}");
}

#[test]
fn what_is_missing_is_named() {
    let output = run(&["config", "check", "/nonexistent/group.yaml"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("/nonexistent/group.yaml"), "{}", stderr(&output));
    let address = format!("127.0.0.1:{}", closed_port());
    for url in [&address, &format!("http://{address}/"), &format!("http://{address}/status")] {
        let output = run(&["status", "--url", url]);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("no controller can be reached"), "{}", stderr(&output));
    }
    let output = run(&["status", "--url", "https://127.0.0.1/"]);
    assert!(stderr(&output).contains("expected an address such as"), "{}", stderr(&output));
}

#[test]
fn a_folder_in_use_is_not_kept_in() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine"), "precious").unwrap();
    let output = run(&["demo", "--keep", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("is not empty"), "{}", stderr(&output));
}

#[test]
fn every_command_and_every_page_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["generate-docs", folder.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = std::fs::read_to_string(folder.path().join("cli.md")).unwrap();
    for command in ["demo", "topics create", "consumer", "tail", "config check", "dev-broker"] {
        assert!(page.contains(&format!("\n## tidegate {command}\n")), "{command}: {page}");
    }
    for name in ["config.md", "metrics.md", "errors.md", "schemas/group.json", "schemas/Grant.json"]
    {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}

/// A log of the simulator with three events.
fn log() -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    for (at_us, who, what) in [
        (1_500_000, "p3 c1", "began Incarnation@7"),
        (2_000_000, "ledger", "@8 Tick"),
        (65_000_000, "world", "CrashConsumer"),
    ] {
        writeln!(file, r#"{{"at_us":{at_us},"who":"{who}","what":"{what}"}}"#).unwrap();
    }
    file
}

#[test]
fn a_run_of_the_simulator_can_be_read_whole_or_by_time_and_process() {
    let file = log();
    let shown = |more: &[&str]| {
        let output = run(&[&["replay", path(&file)], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(shown(&[]).lines().count(), 3);
    assert_eq!(shown(&["--from", "2s", "--to", "1m"]), "   2.000000s ledger         @8 Tick\n");
    assert_eq!(shown(&["--process", "c1", "--process", "world"]).lines().count(), 2);
    let passed = shown(&["--output", "json", "--process", "p3"]);
    assert_eq!(
        passed.trim(),
        std::fs::read_to_string(file.path()).unwrap().lines().next().unwrap()
    );
}

#[test]
fn what_is_no_log_of_the_simulator_is_refused_with_its_line() {
    let mut file = log();
    writeln!(file, "{{}}").unwrap();
    let output = run(&["replay", path(&file)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("line 4 of"), "{}", stderr(&output));
    assert_eq!(run(&["replay", "/nowhere/at/all"]).status.code(), Some(1));
}

#[test]
fn the_definition_in_the_chart_is_the_one_that_is_printed() {
    let file =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/tidegate/crds/consumergroups.yaml");
    let installed = std::fs::read_to_string(file).unwrap();
    let printed = stdout(&run(&["crd"]));
    assert_eq!(installed, printed, "write it anew: tidegate crd > {file}");
}
