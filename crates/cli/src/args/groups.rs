//! Which groups a controller or a monitor is for: the one of a file, or all that are resources in Kubernetes.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use super::values::listen_address;
use super::{ServiceArgs, SpecArgs};

/// One group of a file, or those of Kubernetes.
#[derive(Clone, Debug, Args)]
pub(crate) struct GroupsArgs {
    /// The group's specification.
    #[arg(short = 'f', long = "spec", value_name = "FILE", required_unless_present = "kubernetes")]
    #[arg(conflicts_with = "kubernetes")]
    spec: Option<PathBuf>,
    /// Uses these brokers instead of the specification's.
    #[arg(long, value_name = "HOST:PORT", conflicts_with = "kubernetes")]
    bootstrap: Option<String>,
    /// Runs all groups that are resources `ConsumerGroup` in Kubernetes. Of several such processes one runs them; another takes over
    /// when it ends.
    #[arg(long)]
    kubernetes: bool,
    /// Namespaces whose resources are run, for `--kubernetes`. The default is the namespace of this program's credentials.
    #[arg(long, env = "TIDEGATE_NAMESPACES", value_name = "NAMES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Namespace of the Lease that says which process runs the groups, for `--kubernetes`. The default is that of this program's
    /// credentials.
    #[arg(long, env = "TIDEGATE_LEASE_NAMESPACE", value_name = "NAME")]
    lease_namespace: Option<String>,
    /// Has a directory for each namespace with the files that resources of it may name, for `--kubernetes`.
    #[arg(long, value_name = "DIR", default_value = "/etc/tidegate/secrets")]
    secrets: PathBuf,
    /// Where /livez, /readyz, /metrics and /status are served, instead of the specification's address; with `--kubernetes`
    /// 0.0.0.0:8080 when left out.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = listen_address)]
    http: Option<SocketAddr>,
}

/// Where groups come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// One group, from a file.
    File(ServiceArgs),
    /// Resources in Kubernetes.
    Kubernetes(KubernetesArgs),
}

/// How resources are run.
#[derive(Clone, Debug)]
pub(crate) struct KubernetesArgs {
    /// Where they are; empty for the namespace of the credentials.
    pub(crate) namespaces: Vec<String>,
    /// Where the Lease is.
    pub(crate) lease_namespace: Option<String>,
    /// Files that they may name, by namespace.
    pub(crate) secrets: PathBuf,
    /// Where the process serves its pages.
    pub(crate) http: SocketAddr,
}

// === impl GroupsArgs ===

impl GroupsArgs {
    /// Where the groups come from: without a file, from Kubernetes.
    pub(crate) fn source(self) -> Source {
        let Self { spec, bootstrap, namespaces, lease_namespace, secrets, http, .. } = self;
        match spec {
            Some(spec) => Source::File(ServiceArgs { spec: SpecArgs { spec, bootstrap }, http }),
            None => Source::Kubernetes(KubernetesArgs {
                namespaces: namespaces.into_iter().filter(|name| !name.is_empty()).collect(),
                lease_namespace: lease_namespace.filter(|name| !name.is_empty()),
                secrets,
                http: http.unwrap_or_else(|| ([0, 0, 0, 0], 8080).into()),
            }),
        }
    }
}
