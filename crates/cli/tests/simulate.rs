//! `tidegate simulate`: what it writes, and what it says to wrong usage and to files that cannot be used.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::io::Write as _;
use std::process::Output;

use serde_json::Value;
use tempfile::NamedTempFile;

use support::{run, stderr, stdout};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../testing/golden/packing.jsonl");

fn file(text: impl AsRef<[u8]>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_ref()).unwrap();
    file
}

fn path(file: &NamedTempFile) -> &str {
    file.path().to_str().unwrap()
}

fn simulate(arguments: &[&str]) -> Output {
    run(&[&["simulate"], arguments].concat())
}

fn succeeded(arguments: &[&str]) -> String {
    let output = simulate(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", stderr(&output));
    stdout(&output)
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeeded(&[arguments, &["--output", "json"]].concat())).unwrap()
}

/// What is said to a command that ends with this code.
fn refused(code: i32, arguments: &[&str]) -> String {
    let output = simulate(arguments);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", stderr(&output));
    assert_eq!(stdout(&output), "", "{arguments:?}");
    stderr(&output)
}

#[test]
fn all_golden_cases_are_equal() {
    assert_eq!(succeeded(&["golden", GOLDEN]), "35 cases, 35 equal\n");
}

#[test]
fn a_golden_case_that_differs_is_told_and_ends_with_1() {
    let text = std::fs::read_to_string(GOLDEN).unwrap();
    let changed = file(text.replacen("\"nf\":{\"next\":[0]", "\"nf\":{\"next\":[7]", 1));
    let output = simulate(&["golden", path(&changed)]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(
        said.starts_with(
            "line 1, nf of \"one partition, nothing assigned\": expected [7], found [0]"
        )
    );
    assert!(said.ends_with("35 cases, 34 equal\n"), "{said}");
}

#[test]
fn a_golden_file_that_cannot_be_used_ends_with_3_and_its_place() {
    let broken = file("{\"name\": 1}\n");
    let said = refused(3, &["golden", path(&broken)]);
    assert!(
        said.contains(&format!("{}, line 1, column 10: not a golden case", path(&broken))),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(refused(3, &["golden", "/nowhere/at/all"]).contains("failed to read /nowhere/at/all"));
    let binary = file(b"ok\n\xff\n");
    assert!(refused(3, &["golden", path(&binary)]).contains("line 2: not UTF-8 text"));
}

#[test]
fn a_stream_is_the_same_for_the_same_seed() {
    let arguments = ["stream", "--recipe", "walk", "--partitions", "4", "--iterations", "3"];
    let stream = |seed| succeeded(&[&arguments[..], &["--delta", "10", "--seed", seed]].concat());
    assert_eq!(stream("7"), stream("7"));
    assert_ne!(stream("7"), stream("8"));
    let written = stream("7");
    assert_eq!(written.lines().next(), Some("walk-1:0,walk-1:1,walk-2:0,walk-2:1"));
    assert_eq!(written.lines().count(), 4);
    let realistic =
        succeeded(&["stream", "--recipe", "realistic", "--iterations", "2", "--sigma", "1.8"]);
    assert_eq!(realistic.lines().nth(1).unwrap().split(',').count(), 600);
}

#[test]
fn a_stream_that_was_written_is_compared_as_one_that_is_made() {
    let recipe = ["--recipe", "walk", "--partitions", "20", "--iterations", "20", "--seed", "3"];
    let written = file(succeeded(&[&["stream"], &recipe[..]].concat()));
    let policies = ["--policies", "mwf,bfd,tight:alpha=2,kafka-round-robin-9"];
    let made = json(&[&["compare"], &recipe[..], &policies].concat());
    let read =
        json(&[&["compare", "--stream", path(&written), "--seed", "3"], &policies[..]].concat());
    assert_eq!(made["iterations"], 20);
    for name in ["mwf", "bfd", "tight:alpha=2", "kafka-round-robin-9"] {
        for key in ["consumers", "cbs", "r_score"] {
            assert!(made["policies"][name][key].is_number(), "{made}");
            assert_eq!(made["policies"][name][key], read["policies"][name][key]);
        }
        assert!(made["policies"][name]["solve_ms"]["p50"].is_number(), "{made}");
        assert!(made["policies"][name]["sd"].is_null(), "one stream has no deviation");
    }
}

#[test]
fn seeds_give_means_with_their_deviation() {
    let compared = json(&[
        "compare",
        "--recipe",
        "walk",
        "--partitions",
        "20",
        "--iterations",
        "20",
        "--seeds",
        "3",
        "--policies",
        "bfd",
    ]);
    assert_eq!(compared["streams"], 3);
    assert!(compared["policies"]["bfd"]["sd"]["r_score"].as_f64().unwrap() > 0.0, "{compared}");
}

#[test]
fn a_comparison_for_people_is_a_table_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("report");
    let recipe = ["--recipe", "walk", "--partitions", "20", "--iterations", "10"];
    let report = ["--report", directory.to_str().unwrap()];
    let said = succeeded(&[&["compare"], &recipe[..], &report].concat());
    assert!(
        said.starts_with("policy") && said.contains("\nmbfp ") && said.contains("\ncalm "),
        "{said}"
    );
    let page = std::fs::read_to_string(directory.join("index.html")).unwrap();
    assert!(page.contains("<svg") && page.contains("CBS [%]") && page.contains("<td>tight</td>"));
    assert!(!page.contains("src=") && !page.contains("href="), "it needs no other file");
    assert!(directory.join("compare.csv").exists() && directory.join("compare.json").exists());
}

#[test]
fn a_stream_that_cannot_be_used_ends_with_3_and_its_place() {
    for (text, said) in [
        ("", ", line 1, column 1: the file is empty"),
        ("a:0\n", ", line 2, column 1: expected a row of rates"),
        ("a:0,a:1\n1\n", ", line 2, column 2: expected 2 fields as in the header, found 1"),
        (
            "a:0,a:1\n1,2\n1,2,3\n",
            ", line 3, column 3: expected 2 fields as in the header, found 3",
        ),
        (
            "a:0,a:1\n1,-2\n",
            ", line 2, column 2: expected a rate, a whole number of 0 or more, found \"-2\"",
        ),
        ("a:0,a:1\n1,fast\n", ", line 2, column 2: expected a rate"),
        ("a:0,a:0\n1,2\n", ", line 1, column 2: partition a:0 is already in column 1"),
        ("a:0,b\n1,2\n", ", line 1, column 2: expected topic:partition, found \"b\""),
        ("a:0,a:1\n18446744073709551615,1\n", ", line 2, column 2: the rates of this row add up"),
    ] {
        let stream = file(text);
        let error = refused(3, &["compare", "--stream", path(&stream)]);
        assert!(error.contains(&format!("{}{said}", path(&stream))), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
    let missing = refused(3, &["compare", "--stream", "/nowhere/at/all"]);
    assert!(missing.contains("failed to read /nowhere/at/all: No such file"), "{missing}");
}

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_known() {
    let unknown = refused(2, &["compare", "--recipe", "walk", "--policies", "mwf,bestfit"]);
    assert!(unknown.contains("unknown policy \"bestfit\", expected one of nf, nfd, "), "{unknown}");
    assert!(unknown.contains("balanced, tight") && unknown.contains("kafka-sticky-K"), "{unknown}");
    for (arguments, said) in [
        (&["compare"][..], "--stream"),
        (&["compare", "--recipe", "walk", "--capacity", "0"], "--capacity"),
        (&["compare", "--recipe", "walk", "--stream", "x"], "--stream"),
        (&["compare", "--recipe", "walk", "--policies", "tight:alpha=x"], "alpha=A"),
        (&["compare", "--recipe", "walk", "--policies", "kafka-range-0"], "from 1 on"),
        (&["compare", "--recipe", "walk", "--seeds", "0"], "--seeds"),
        (&["compare", "--stream", "x", "--seeds", "2"], "--seeds needs --recipe"),
        (&["compare", "--stream", "x", "--delta", "2"], "--delta needs --recipe"),
        (&["stream"], "--recipe"),
        (&["stream", "--recipe", "storm"], "realistic"),
        (&["stream", "--recipe", "walk", "--partitions", "0"], "--partitions"),
        (&["stream", "--recipe", "walk", "--sigma", "1"], "--sigma needs --recipe realistic"),
        (&["stream", "--recipe", "realistic", "--delta", "1"], "--delta needs --recipe walk"),
        (&["stream", "--recipe", "realistic", "--sigma", "9"], "--sigma"),
        (&["compere"], "'compare'"),
    ] {
        let error = refused(2, arguments);
        assert!(error.contains(said), "{arguments:?}: {error}");
    }
}

/// A small stream, and the options of the published experiment.
fn latency(more: &[&str]) -> Vec<String> {
    let recipe = ["latency", "--recipe", "walk", "--partitions", "12", "--iterations", "10"];
    recipe.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

fn as_words(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

#[test]
fn latency_is_measured_in_either_model() {
    let published = [
        "--policies",
        "mwf,tight:alpha=2,kafka-round-robin-12",
        "--packing",
        "100",
        "--overload",
        "120",
        "--consumer-capacity",
        "133",
        "--interval",
        "30s",
        "--migration",
        "5s",
        "--model",
        "published",
    ];
    let fluid = [
        "--policies",
        "mwf,tight:alpha=2,kafka-round-robin-12",
        "--model",
        "fluid",
        "--start-delay",
        "25s",
        "--handoff",
        "make-first",
    ];
    for more in [&published[..], &fluid[..]] {
        let measured = json(&as_words(&latency(more)));
        for name in ["mwf", "tight:alpha=2", "kafka-round-robin-12"] {
            let figures = &measured["policies"][name];
            for key in ["consumers", "r_score", "late_share"] {
                assert!(figures[key].is_number(), "{measured}");
            }
            for key in ["mean", "p50", "p90", "p99", "p999"] {
                assert!(figures["latency_s"][key].is_number(), "{measured}");
            }
            assert!(figures["sd"].is_null());
        }
        let kafka = &measured["policies"]["kafka-round-robin-12"];
        assert!((kafka["consumers"].as_f64().unwrap() - 12.0).abs() < 1e-9, "{kafka}");
        assert!(kafka["latency_s"]["p999"].as_f64().unwrap() < 1e-9, "{kafka}");
    }
    let seeds = json(&as_words(&latency(&["--seeds", "2", "--policies", "bfd"])));
    assert!(seeds["policies"]["bfd"]["sd"]["latency_s"]["mean"].is_number(), "{seeds}");
}

#[test]
fn how_often_to_decide_is_a_table_with_and_without_events() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let recipe = ["frequency", "--recipe", "walk", "--partitions", "12", "--iterations", "4"];
    let periods = ["--periods", "10s,60s", "--policies", "bfd,balanced", "--report", directory];
    let found = json(&[&recipe[..], &periods[..]].concat());
    let rows = found["rows"].as_array().unwrap();
    let ways: Vec<_> =
        rows.iter().map(|row| (row["policy"].as_str().unwrap(), row["events"] == true)).collect();
    let (bfd, alone, events) = (("bfd", false), ("balanced", false), ("balanced", true));
    assert_eq!(ways, [bfd, bfd, alone, alone, events, events]);
    assert!(rows[0]["period_s"] == 10.0 && rows[0]["latency_s"]["p99"].is_number(), "{found}");
    let page = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
    assert!(page.contains("balanced, with events") && page.contains("period [s]"));
}

#[test]
fn latency_for_people_is_a_table_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let report = ["--report", folder.path().to_str().unwrap(), "--policies", "mwf,calm"];
    let said = succeeded(&as_words(&latency(&report)));
    assert!(
        said.starts_with("policy") && said.contains("p99.9 [s]") && said.contains("\ncalm "),
        "{said}"
    );
    let page = std::fs::read_to_string(folder.path().join("index.html")).unwrap();
    assert!(page.contains("The published model: a measurement each 30s") && page.contains("<svg"));
    assert!(
        folder.path().join("latency.csv").exists() && folder.path().join("latency.json").exists()
    );
}

#[test]
fn wrong_usage_of_latency_and_frequency_ends_with_2() {
    for (more, said) in [
        (&["--policies", "x"][..], "unknown policy \"x\""),
        (&["--start-delay", "25s"], "--start-delay needs --model fluid"),
        (&["--handoff", "make-first"], "--handoff needs --model fluid"),
        (&["--handoff", "none"], "make-first"),
        (&["--model", "real"], "fluid"),
        (&["--interval", "0s"], "expected a second or more"),
        (&["--interval", "soon"], "expected a duration"),
        (&["--packing", "0"], "--packing"),
        (
            &["--overload", "90"],
            "0 < packing <= overload <= capacity, got packing 100, overload 90",
        ),
        (&["--consumer-capacity", "110"], "got packing 100, overload 120 and capacity 110"),
    ] {
        let error = refused(2, &as_words(&latency(more)));
        assert!(error.contains(said), "{more:?}: {error}");
    }
    let periods = refused(2, &["frequency", "--recipe", "walk", "--periods", "0s"]);
    assert!(periods.contains("expected a second or more"), "{periods}");
    let broken = file("a:0\n-1\n");
    for command in ["latency", "frequency"] {
        let error = refused(3, &[command, "--stream", path(&broken)]);
        assert!(error.contains("line 2, column 1: expected a rate"), "{error}");
    }
}

#[test]
fn the_planner_is_timed_phase_by_phase() {
    let arguments =
        ["bench", "planner", "--partitions", "60", "--per-consumer", "2,5", "--decisions", "3"];
    let arguments = [&arguments[..], &["--budget", "1ms", "--output", "json"]].concat();
    let output = run(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let sizes: Vec<_> =
        found.as_array().unwrap().iter().map(|group| &group["per_consumer"]).collect();
    assert_eq!(sizes, [2, 5]);
    for phase in ["prepare", "keep", "evict", "place", "dissolve", "improve", "describe"] {
        assert!(found[0]["next_ms"][phase].as_f64().is_some_and(|time| time >= 0.0), "{found}");
    }
    assert!(found[0]["constructive_ms"]["max"].as_f64() > Some(0.0), "{found}");
}
