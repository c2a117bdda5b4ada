//! Real PostgreSQL servers for tests, by way of the launcher `testing/real-postgres/postgres`.
//!
//! As with Kafka, [`RealPostgres::start`] shares one server of each version within a test run or a test process, and
//! [`RealPostgres::start_own`] starts one that may be crashed. A test on a shared server has a database of its own. Nothing
//! is left behind: the launcher wipes a server once the process that owns it has ended.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, process};

use crate::ports::{PortRange, free_port_range};

/// A version of PostgreSQL that the harness runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresVersion {
    /// 18, the newest.
    V18,
    /// 14, the oldest that the sink works with.
    V14,
}

impl PostgresVersion {
    fn number(self) -> &'static str {
        match self {
            Self::V18 => "18",
            Self::V14 => "14",
        }
    }
}

/// A running server on loopback.
#[derive(Debug)]
pub struct RealPostgres {
    port: u16,
    data: PathBuf,
    /// Present when the server is this value's own. Keeps other tests off its port while it is down.
    own: Option<PortRange>,
}

impl RealPostgres {
    /// The superuser.
    pub const USER: &'static str = "admin";

    /// The superuser's password.
    pub const PASSWORD: &'static str = "admin-secret";

    /// Joins the run's server of this version, starting it if it is the first to ask.
    ///
    /// # Panics
    ///
    /// When the server cannot be started, with what the launcher said.
    pub fn start(version: PostgresVersion) -> Self {
        let owner = env::var("TIDEGATE_TEST_OWNER").unwrap_or_else(|_| process::id().to_string());
        let data = data_of(&owner, version.number());
        let ports = free_port_range(1);
        let port = up(&data, version, ports.base(), &["--owner", &owner, "--join"]);
        Self { port, data, own: None }
    }

    /// Starts a server that belongs to this value alone, with settings as `key=value`.
    ///
    /// # Panics
    ///
    /// When the server cannot be started, with what the launcher said.
    pub fn start_own(version: PostgresVersion, settings: &[&str]) -> Self {
        let ports = free_port_range(1);
        let owner = process::id().to_string();
        let data = data_of(&owner, &format!("own-{}", ports.base()));
        let mut more = vec!["--owner", &owner];
        more.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        let port = up(&data, version, ports.base(), &more);
        Self { port, data, own: Some(ports) }
    }

    /// Its port on 127.0.0.1, which the server's certificate calls `localhost`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate of the authority that has signed the server's.
    pub fn authority(&self) -> PathBuf {
        self.data.join("tls/ca.pem")
    }

    /// The certificate of an authority that has not.
    pub fn other_authority(&self) -> PathBuf {
        self.data.join("tls/other.pem")
    }

    /// Crashes the server: no transaction is finished, nothing is flushed.
    ///
    /// # Panics
    ///
    /// When the server is shared.
    pub fn kill(&self) {
        self.change("kill");
    }

    /// Starts the server after a crash and waits until it takes connections.
    ///
    /// # Panics
    ///
    /// When the server is shared, or does not come up.
    pub fn restart(&self) {
        self.change("up");
    }

    fn change(&self, command: &str) {
        assert!(self.own.is_some(), "this server is shared with other tests: use start_own");
        launch(&self.data, &[command]);
    }
}

impl Drop for RealPostgres {
    /// Ends an own server and deletes its data. What fails here the watcher does later.
    fn drop(&mut self) {
        if self.own.is_some() {
            drop(launcher(&self.data, &["wipe"]));
        }
    }
}

// === helpers ===

fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("this crate lies two levels below the repository's root")
}

/// Where a server of a test run or a test process keeps its data.
fn data_of(owner: &str, name: &str) -> PathBuf {
    repository().join(format!("target/real-postgres/test-{owner}-{name}"))
}

fn up(data: &Path, version: PostgresVersion, port: u16, more: &[&str]) -> u16 {
    let port = port.to_string();
    let mut arguments = vec!["up", "--version", version.number(), "--port", &port];
    arguments.extend(more);
    let address = launch(data, &arguments);
    let (_, port) = address.trim().rsplit_once(':').expect("the launcher prints host:port");
    port.parse().expect("a port is a number")
}

/// Runs the launcher and returns its standard output.
fn launch(data: &Path, arguments: &[&str]) -> String {
    let output = launcher(data, arguments);
    assert!(
        output.status.success(),
        "the real PostgreSQL in {} failed ({}): {}",
        data.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn launcher(data: &Path, arguments: &[&str]) -> Output {
    Command::new(repository().join("testing/real-postgres/postgres"))
        .args(arguments)
        .env("POSTGRES_DATA", data)
        .stdin(Stdio::null())
        .output()
        .expect("the launcher is part of the repository and needs bash only")
}
