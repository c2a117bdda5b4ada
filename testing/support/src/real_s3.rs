//! A real S3 server for tests, by way of the launcher `testing/real-s3/s3`.
//!
//! It starts within a second, so each test that asks for one has its own. Nothing is left behind: it is wiped when
//! dropped, and the launcher watches it and wipes it once the process that owns it has ended, even by SIGKILL.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, process};

use crate::ports::{PortRange, free_port_range};

/// A running server on loopback.
#[derive(Debug)]
pub struct RealS3 {
    endpoint: String,
    data: PathBuf,
    /// Keeps other tests off the port while the server is down.
    _port: PortRange,
}

impl RealS3 {
    /// The bucket that is there from the start.
    pub const BUCKET: &str = "tidegate";

    /// The only user's key.
    pub const ACCESS_KEY: &str = "tidegate";

    /// The only user's secret.
    pub const SECRET_KEY: &str = "tidegate-secret";

    /// Starts a server; the first start on a machine builds it.
    ///
    /// # Panics
    ///
    /// When it cannot be started, with what the launcher said.
    pub fn start() -> Self {
        let port = free_port_range(1);
        let data =
            repository().join(format!("target/real-s3/test-{}-{}", process::id(), port.base()));
        let (number, owner) = (port.base().to_string(), process::id().to_string());
        let arguments = ["up", "--port", &number, "--bucket", Self::BUCKET, "--owner", &owner];
        let endpoint = launch(&data, &arguments).trim().to_owned();
        Self { endpoint, data, _port: port }
    }

    /// Where it listens, as `http://127.0.0.1:port`.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The environment of a client that may do everything.
    pub fn environment() -> [(&'static str, &'static str); 2] {
        [("AWS_ACCESS_KEY_ID", Self::ACCESS_KEY), ("AWS_SECRET_ACCESS_KEY", Self::SECRET_KEY)]
    }

    /// The file that keeps an object of [`Self::BUCKET`]: the server's data is a folder.
    pub fn file(&self, key: &str) -> PathBuf {
        self.data.join("objects").join(Self::BUCKET).join(key)
    }

    /// Crashes it (SIGKILL).
    ///
    /// # Panics
    ///
    /// When the launcher fails.
    pub fn kill(&self) {
        launch(&self.data, &["kill"]);
    }

    /// Starts it again on the same data and port.
    ///
    /// # Panics
    ///
    /// When it does not come up.
    pub fn restart(&self) {
        launch(&self.data, &["up"]);
    }
}

impl Drop for RealS3 {
    /// What fails here the watcher does later.
    fn drop(&mut self) {
        drop(launcher(&self.data, &["wipe"]).status());
        drop(fs::remove_dir_all(&self.data));
    }
}

fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("this crate lies two levels below the repository's root")
}

/// Runs the launcher and returns its standard output.
fn launch(data: &Path, arguments: &[&str]) -> String {
    let output = launcher(data, arguments).output();
    let output = output.expect("the launcher is part of the repository and needs bash only");
    assert!(
        output.status.success(),
        "the real S3 in {} failed ({}): {}",
        data.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn launcher(data: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(repository().join("testing/real-s3/s3"));
    command.args(arguments).env("S3_DATA", data).stdin(Stdio::null());
    command
}
