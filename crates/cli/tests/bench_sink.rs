//! `tidegate bench sink`: sinks and what they are compared with are timed, and nothing stays behind. How fast is not judged.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;
use tidegate_testing::{PostgresVersion, RealPostgres};

use support::{run, stderr, stdout};

const TINY: [&str; 6] = ["--record-bytes", "100B", "--partitions", "2", "--bytes", "1MB"];

/// Runs it with a report in JSON, and returns the rows.
fn rows(arguments: &[&str]) -> Vec<Value> {
    let all = [&["bench", "sink", "--output", "json", "--repeat", "2"], arguments].concat();
    let output = run(&all);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let found: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let rows = found["runs"].as_array().unwrap().clone();
    for row in &rows {
        for figure in ["records_per_s", "mb_per_s", "cpu_ns_per_record"] {
            assert!(row[figure].as_f64().unwrap() >= 0.0, "{figure} of {row}");
        }
        assert!(row["records_per_s"].as_f64().unwrap() > 0.0, "{row}");
        // So little takes less than one.
        assert!(row["rss_mib"].is_u64(), "{row}");
    }
    rows
}

fn who(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["who"].as_str().unwrap()).collect()
}

#[test]
fn a_folder_is_timed_beside_a_plain_file_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (sink, report) = (folder.path().join("sink"), folder.path().join("report"));
    std::fs::create_dir(&sink).unwrap();
    std::fs::write(sink.join("kept"), "what was there").unwrap();
    let url = format!("file://{}?compression=zstd", sink.display());
    let arguments = ["--sink", "blackhole:", "--sink", &url, "--report", report.to_str().unwrap()];
    let more = ["--record-bytes", "100B,1KiB", "--partitions", "1,3", "--bytes", "1MB"];
    let rows = rows(&[&arguments[..], &more].concat());
    let of_folder = ["plain file", "synced file", "tidegate"];
    assert_eq!(who(&rows), [&["tidegate"; 4][..], &of_folder.repeat(4)].concat());
    assert_eq!(rows[0]["sink"], "blackhole:");
    let cells: Vec<_> = rows
        .iter()
        .take(4)
        .map(|row| (row["record_bytes"].as_u64(), row["partitions"].as_u64()))
        .collect();
    let wanted = [(100, 1), (100, 3), (1024, 1), (1024, 3)];
    assert_eq!(cells, wanted.map(|(bytes, partitions)| (Some(bytes), Some(partitions))));
    let left: Vec<_> =
        std::fs::read_dir(&sink).unwrap().map(|at| at.unwrap().file_name()).collect();
    assert_eq!(left, ["kept"]);
    let csv = std::fs::read_to_string(report.join("figures.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + rows.len());
    for chart in ["speed-100.svg", "cost-1024.svg"] {
        assert!(std::fs::read_to_string(report.join(chart)).unwrap().contains("<svg"), "{chart}");
    }
}

#[test]
fn a_database_is_timed_beside_copies_and_left_as_it_was() {
    let server = RealPostgres::start(PostgresVersion::V18);
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, RealPostgres::PASSWORD).unwrap();
    let port = server.port();
    let url =
        format!("postgres://admin@localhost:{port}/postgres?passwordFile={}", secret.display());
    // In place of psql, which is no part of the server: it takes a script of copies from files that are there.
    let psql = folder.path().join("psql");
    let script = format!(
        "#!/bin/sh\nset -eu\n[ \"$PGHOST $PGPORT $PGUSER $PGPASSWORD\" = \"localhost {port} admin {}\" ]\n\
         for last; do :; done\n\
         grep -o \"from '[^']*' with (format binary)\" \"$last\" | cut -d\"'\" -f2 | xargs ls >>{}\n",
        RealPostgres::PASSWORD,
        folder.path().join("read").display()
    );
    std::fs::write(&psql, script).unwrap();
    std::fs::set_permissions(&psql, std::fs::Permissions::from_mode(0o755)).unwrap();
    let psql = psql.to_str().unwrap();
    let found = rows(&[&TINY[..], &["--sink", &url, "--psql", psql]].concat());
    assert_eq!(who(&found), ["bare COPY", "psql", "tidegate"]);
    assert!(found.iter().all(|row| !row["sink"].as_str().unwrap().contains("secret")));
    let read = std::fs::read_to_string(folder.path().join("read")).unwrap();
    assert_eq!(read.lines().count(), 4, "a batch of each partition, in each run");
    let found = rows(&[&TINY[..], &["--sink", &url, "--psql", "/nowhere/psql"]].concat());
    assert_eq!(who(&found), ["bare COPY", "tidegate"]);
}

#[test]
fn a_sink_that_cannot_be_opened_is_named() {
    let output = run(&[&["bench", "sink", "--sink", "ftp://host"][..], &TINY].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no sink is known for \"ftp://host\""), "{}", stderr(&output));
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!("file://{}", file.path().display());
    let output = run(&[&["bench", "sink", "--sink", &url][..], &TINY].concat());
    assert_eq!(output.status.code(), Some(1));
    let said = stderr(&output);
    assert!(said.contains("failed to open sink") && !said.contains("delete"), "{said}");
}
