//! The program beside a cluster, as its administrator.

use std::path::Path;
use std::process::Stdio;

use tidegate_testing::RealKube;

use super::Running;
use crate::support::tidegate;

/// Starts it with these arguments; its log is `NAME.log` in the folder.
pub(crate) fn start(kube: &RealKube, folder: &Path, name: &str, arguments: &[&str]) -> Running {
    let path = folder.join(format!("{name}.log"));
    let log = std::fs::File::options().create(true).append(true).open(path).unwrap();
    let mut command = tidegate(arguments);
    command.args(["--log", "info"]).env("KUBECONFIG", kube.kubeconfig());
    Running(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}
