//! `cargo xtask postgres`: the launcher of a real PostgreSQL, `testing/real-postgres/postgres`.
//!
//! It fetches the server's programs by Maven, and so needs a Java as the launcher of real Kafka clusters does.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::needs;
use crate::run::{program, root, run};

const LAUNCHER: &str = "testing/real-postgres/postgres";

/// Runs the launcher with the user's arguments, in the user's directory, and ends as it ends.
pub(crate) fn forward(arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new(root().join(LAUNCHER));
    if let Some(home) = needs::java_home() {
        command.env("JAVA_HOME", home);
    }
    let status =
        command.args(arguments).status().context("failed to start the PostgreSQL launcher")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Fetches the programs of all versions into the cache, so that no test waits for them.
pub(crate) fn fetch(java_home: Option<&Path>) -> Result<()> {
    let mut command = program(LAUNCHER);
    if let Some(home) = java_home {
        command.env("JAVA_HOME", home);
    }
    run(command.arg("fetch"))
}
