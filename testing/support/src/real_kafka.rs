//! Real Apache Kafka clusters for tests, by way of the launcher `testing/real-kafka/kafka`.
//!
//! Starting a cluster costs 4 to 25 s, so [`RealKafka::start`] shares: all tests of one run (`cargo xtask test` gives its
//! process id as `TIDEGATE_TEST_OWNER`) or else of one process join one cluster for each version and size, which the first of them starts.
//! Such a test names its topics with [`unique_name`](crate::unique_name) and leaves the nodes alone. A test that breaks
//! nodes or wants other settings takes [`RealKafka::start_own`].
//!
//! Nothing is left behind: an own cluster is wiped when dropped, and each cluster is watched by the launcher, which
//! wipes it once the process that owns it has ended, even by SIGKILL.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::{env, process};

use crate::ports::{PortRange, free_port_range};

/// A version of Apache Kafka that the harness runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KafkaVersion {
    /// 4.3, the newest.
    V4,
    /// 3.9, the oldest that is supported.
    V3,
}

impl KafkaVersion {
    fn number(self) -> &'static str {
        match self {
            Self::V4 => "4",
            Self::V3 => "3",
        }
    }
}

/// What an own cluster is like.
#[derive(Debug, Clone)]
pub struct KafkaOptions {
    /// The version of all nodes.
    pub version: KafkaVersion,
    /// 1 or 3.
    pub nodes: u8,
    /// Adds the listeners of [`SecureListener`], users and access control.
    pub secure: bool,
    /// Broker settings as `key=value`, for instance `broker.session.timeout.ms=3000`.
    pub settings: Vec<String>,
}

impl KafkaOptions {
    /// A cluster without security and special settings.
    pub fn new(version: KafkaVersion, nodes: u8) -> Self {
        Self { version, nodes, secure: false, settings: Vec::new() }
    }
}

/// The listeners of a secure cluster. Users and passwords: `testing/real-kafka/README.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecureListener {
    /// SCRAM-SHA-512 without TLS.
    SaslPlaintext,
    /// SCRAM-SHA-512 over TLS.
    SaslSsl,
    /// TLS with client certificates.
    Ssl,
    /// SCRAM-SHA-512 over TLS, with a broker's certificate for another host name.
    Elsewhere,
}

impl SecureListener {
    /// Where the listener is, counted from the plaintext listener of the same node.
    fn port_offset(self) -> u16 {
        match self {
            Self::SaslPlaintext => 10,
            Self::SaslSsl => 20,
            Self::Ssl => 30,
            Self::Elsewhere => 40,
        }
    }
}

/// A running cluster on loopback.
#[derive(Debug)]
pub struct RealKafka {
    bootstrap: String,
    version: KafkaVersion,
    data: PathBuf,
    /// Present when the cluster is this value's own. Keeps other tests off the ports while a node is down.
    own: Option<PortRange>,
}

impl RealKafka {
    /// Joins the run's cluster of this version and size, starting it if it is the first to ask.
    ///
    /// `TIDEGATE_TEST_KAFKA_4_1=HOST:PORT` (version and nodes) names a cluster to be used instead.
    ///
    /// # Panics
    ///
    /// When the cluster cannot be started, with what the launcher said.
    pub fn start(version: KafkaVersion, nodes: u8) -> Self {
        let name = format!("{}_{nodes}", version.number());
        if let Ok(bootstrap) = env::var(format!("TIDEGATE_TEST_KAFKA_{name}")) {
            return Self { bootstrap, version, data: data_of("nobody", &name), own: None };
        }
        let owner = env::var("TIDEGATE_TEST_OWNER").unwrap_or_else(|_| process::id().to_string());
        let data = data_of(&owner, &name);
        let ports = free_port_range(100);
        let bootstrap = up(
            &data,
            &KafkaOptions::new(version, nodes),
            ports.base(),
            &["--owner", &owner, "--join"],
        );
        Self { bootstrap, version, data, own: None }
    }

    /// Starts a cluster that belongs to this value alone.
    ///
    /// # Panics
    ///
    /// When the cluster cannot be started, with what the launcher said.
    pub fn start_own(options: &KafkaOptions) -> Self {
        let ports = free_port_range(100);
        let owner = process::id().to_string();
        let data = data_of(&owner, &format!("own-{}", ports.base()));
        let bootstrap = up(&data, options, ports.base(), &["--owner", &owner]);
        Self { bootstrap, version: options.version, data, own: Some(ports) }
    }

    /// The plaintext addresses, `host:port,...`.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// The addresses of a listener of a cluster started with `secure`.
    ///
    /// # Panics
    ///
    /// When the addresses handed to this run by the environment are not `host:port,...`.
    pub fn secure_bootstrap(&self, listener: SecureListener) -> String {
        let moved = |address: &str| {
            let (host, port) = address.rsplit_once(':').expect("an address is host:port");
            let port: u16 = port.parse().expect("a port is a number");
            format!("{host}:{}", port + listener.port_offset())
        };
        self.bootstrap.split(',').map(moved).collect::<Vec<_>>().join(",")
    }

    /// The directory with `ca.pem` and each user's certificate and key, of a cluster started with `secure`.
    pub fn tls_directory(&self) -> PathBuf {
        self.data.join("tls")
    }

    /// What a node has written to its standard output and error, over all of its lives.
    pub fn log(&self, node: u8) -> PathBuf {
        self.data.join(format!("node{node}.out"))
    }

    /// Crashes a node (SIGKILL). Nodes are numbered from 1.
    ///
    /// # Panics
    ///
    /// When the cluster is shared.
    pub fn kill(&self, node: u8) {
        self.change(&["kill", &node.to_string()]);
    }

    /// Ends a node cleanly (SIGTERM).
    ///
    /// # Panics
    ///
    /// When the cluster is shared.
    pub fn stop(&self, node: u8) {
        self.change(&["stop", &node.to_string()]);
    }

    /// Starts the nodes that are down and waits until all of them answer.
    ///
    /// # Panics
    ///
    /// When the cluster is shared, or a node does not come up.
    pub fn restart(&self) {
        self.change(&["up"]);
    }

    /// Runs one of Kafka's own tools, for instance `tool(&["topics", "--bootstrap-server", kafka.bootstrap(), "--list"])`,
    /// and returns what it prints.
    ///
    /// # Panics
    ///
    /// When the tool fails.
    pub fn tool<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let mut all: Vec<&OsStr> = vec![OsStr::new("tool")];
        all.extend(arguments.iter().map(AsRef::as_ref));
        launch(&self.data, self.version, &all)
    }

    fn change(&self, arguments: &[&str]) {
        assert!(self.own.is_some(), "this cluster is shared with other tests: use start_own");
        launch(&self.data, self.version, arguments);
    }
}

impl Drop for RealKafka {
    /// Ends the nodes of an own cluster by process id and deletes its data. What fails here the watcher does later.
    fn drop(&mut self) {
        if self.own.is_some() {
            drop(launcher(&self.data, self.version, &["wipe"]));
        }
    }
}

// === helpers ===

fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.ancestors().nth(2).expect("this crate lies two levels below the repository's root")
}

/// Where a cluster of a test run or a test process keeps its data.
fn data_of(owner: &str, name: &str) -> PathBuf {
    repository().join(format!("target/real-kafka/test-{owner}-{name}"))
}

fn up(data: &Path, options: &KafkaOptions, port: u16, more: &[&str]) -> String {
    let (nodes, port) = (options.nodes.to_string(), port.to_string());
    let version = options.version;
    let mut arguments =
        vec!["up", "--version", version.number(), "--nodes", &nodes, "--port", &port];
    if options.secure {
        arguments.push("--secure");
    }
    for setting in &options.settings {
        arguments.extend(["--set", setting]);
    }
    arguments.extend(more);
    launch(data, version, &arguments).trim().to_owned()
}

/// Runs the launcher and returns its standard output.
fn launch<S: AsRef<OsStr>>(data: &Path, version: KafkaVersion, arguments: &[S]) -> String {
    let output = launcher(data, version, arguments);
    assert!(
        output.status.success(),
        "the real Kafka in {} failed ({}): {}",
        data.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn launcher<S: AsRef<OsStr>>(data: &Path, version: KafkaVersion, arguments: &[S]) -> Output {
    Command::new(repository().join("testing/real-kafka/kafka"))
        .args(arguments)
        .env("KAFKA_DATA", data)
        .env("KAFKA_VERSION", version.number())
        .stdin(Stdio::null())
        .output()
        .expect("the launcher is part of the repository and needs bash only")
}
