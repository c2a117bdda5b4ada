//! `cargo xtask s3`: the launcher of real S3 servers, `testing/real-s3/s3`.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::run::{program, root, run};

const LAUNCHER: &str = "testing/real-s3/s3";

/// Runs the launcher with the user's arguments, in the user's directory, and ends as it ends.
pub(crate) fn forward(arguments: &[String]) -> Result<ExitCode> {
    let mut command = Command::new(root().join(LAUNCHER));
    let status = command.args(arguments).status().context("failed to start the S3 launcher")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Builds the server into the user's cache, so that no test waits for it.
pub(crate) fn fetch() -> Result<()> {
    run(program(LAUNCHER).arg("fetch"))
}
