//! What a sink holds, beside what the load was acknowledged.

use std::path::Path;

use serde_json::Value;

use crate::support::{run, stderr, stdout};

/// The report of an audit of the folder's sink, which must find nothing wrong.
pub(crate) fn audited(folder: &Path, ledger: &str) -> Value {
    let sink = format!("file://{}", folder.join("sink").display());
    let audit = run(&["audit", "--sink", &sink, "--ledger", ledger, "--output", "json"]);
    assert_eq!(audit.status.code(), Some(0), "{}{}", stdout(&audit), stderr(&audit));
    serde_json::from_str(&stdout(&audit)).unwrap()
}
