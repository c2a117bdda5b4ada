//! `cargo xtask kafka`, `postgres`, `s3` and `kube`: the launchers of the real servers that tests run against, below `testing`.
//!
//! They fetch what they run: by Maven, for which some need a Java, or as Go modules.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

use crate::needs;
use crate::run::{program, root, run};

/// The launcher of one kind of server.
pub(crate) struct Launcher {
    script: &'static str,
}

pub(crate) const KAFKA: Launcher = Launcher { script: "testing/real-kafka/kafka" };
pub(crate) const POSTGRES: Launcher = Launcher { script: "testing/real-postgres/postgres" };
pub(crate) const S3: Launcher = Launcher { script: "testing/real-s3/s3" };
pub(crate) const KUBE: Launcher = Launcher { script: "testing/kube-testbed/kube" };

impl Launcher {
    /// Runs it with the user's arguments, in the user's directory, and ends as it ends.
    pub(crate) fn forward(&self, arguments: &[String]) -> Result<ExitCode> {
        let mut command = Command::new(root().join(self.script));
        if let Some(home) = needs::java_home() {
            command.env("JAVA_HOME", home);
        }
        let status = command.args(arguments).status();
        let status = status.with_context(|| format!("failed to start {}", self.script))?;
        let code = status.code().and_then(|code| u8::try_from(code).ok());
        Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
    }

    /// Fetches all versions into the user's cache, so that no test waits for them.
    pub(crate) fn fetch(&self, java_home: Option<&Path>) -> Result<()> {
        let mut command = program(self.script);
        if let Some(home) = java_home {
            command.env("JAVA_HOME", home);
        }
        run(command.arg("fetch"))
    }

    /// True if the server itself has been fetched.
    pub(crate) fn is_built(&self) -> Result<bool> {
        let status = program(self.script).arg("built").status();
        Ok(status.with_context(|| format!("failed to start {}", self.script))?.success())
    }
}
