//! A kubelet for tests: it registers nodes and runs the pods bound to them as local processes.
//!
//! A container is a process in its own mount and pid namespace, on the host's network and root file system, with the
//! pod's volumes bound where the pod wants them. README.md lists which promises of a real kubelet hold.
//!
//! ```text
//! main ── node (one per simulated node) ── pod (a worker per pod) ── container (one per container) ── process
//!   └──── storage (provisions volumes)                                 └── images        └── probe
//! ```

mod container;
mod environment;
mod faults;
mod images;
mod node;
mod pod;
mod probe;
mod process;
mod registration;
mod retry;
mod storage;
mod volumes;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Parser;
use kube::{Client, Config};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;

use crate::faults::Faults;

/// What all nodes of this process share.
#[derive(Debug)]
struct Host {
    root: PathBuf,
    faults: Faults,
    crash_backoff: Duration,
    lease_interval: Duration,
    /// Where pods find the API server.
    api: (String, u16),
    /// First two octets of the pods' addresses.
    network: String,
}

#[derive(Debug, Parser)]
struct Args {
    /// Directory for images, faults, volumes and logs
    #[arg(long, default_value = "process-kubelet.d")]
    root: PathBuf,
    /// Number of nodes; they are called pk-0, pk-1, ...
    #[arg(long, default_value_t = 1)]
    nodes: u8,
    /// First delay of CrashLoopBackOff and ImagePullBackOff in milliseconds; a real kubelet has 10000
    #[arg(long, default_value_t = 1000)]
    crash_backoff_ms: u64,
    /// Interval of the nodes' heartbeats in seconds; a real kubelet has 10
    #[arg(long, default_value_t = 10)]
    lease_interval_s: u64,
    /// First two octets of the pods' addresses, inside 127.0.0.0/8
    #[arg(long, default_value = "127.244", value_parser = parse_network)]
    pod_network: String,
}

/// Nodes have sixteen values of the third octet each.
const MOST_NODES: u8 = 16;

fn parse_network(text: &str) -> Result<String, String> {
    let second = text.strip_prefix("127.").and_then(|octet| octet.parse::<u8>().ok());
    second.map(|octet| format!("127.{octet}")).ok_or_else(|| "expected 127.N".to_owned())
}

#[tokio::main]
async fn main() -> Result<()> {
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(colours).init();
    let args = Args::parse();
    anyhow::ensure!(args.nodes <= MOST_NODES, "--nodes: at most {MOST_NODES}");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let config = Config::infer().await.context("failed to read a kubeconfig")?;
    let host = Arc::new(host(&args, &config)?);
    let mut tasks = JoinSet::new();
    tasks.spawn(storage::run(Client::try_from(config.clone())?, Arc::clone(&host)));
    for index in 0..args.nodes {
        tasks.spawn(node::run(config.clone(), index, Arc::clone(&host)));
    }
    // Leaving drops every container: SIGKILL, as when the nodes lose power.
    tokio::select! {
        Some(ended) = tasks.join_next() => ended?.context("a task that never ends ended"),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}

fn host(args: &Args, config: &Config) -> Result<Host> {
    for sub in ["faults", "images", "logs", "pods", "volumes"] {
        let directory = args.root.join(sub);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("failed to create {}", directory.display()))?;
    }
    let root = canonical(&args.root)?;
    Ok(Host {
        faults: Faults::new(root.join("faults")),
        root,
        crash_backoff: Duration::from_millis(args.crash_backoff_ms),
        lease_interval: Duration::from_secs(args.lease_interval_s),
        api: (
            config.cluster_url.host().unwrap_or("127.0.0.1").to_owned(),
            config.cluster_url.port_u16().unwrap_or(443),
        ),
        network: args.pod_network.clone(),
    })
}

fn canonical(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("failed to open {}", path.display()))
}
