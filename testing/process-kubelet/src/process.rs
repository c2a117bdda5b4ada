//! The process of a container: its environment and mounts, its signals and its exit.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Container;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{info, warn};

use crate::container::{Sandbox, Stop};
use crate::environment::{self, expand};
use crate::probe::{self, Target};

/// How a container has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i32,
    pub(crate) reason: &'static str,
}

impl Exit {
    fn new(code: i32) -> Self {
        Self { code, reason: if code == 0 { "Completed" } else { "Error" } }
    }

    /// What the container runtime says of a process that SIGKILL has ended.
    const KILLED: Self = Self { code: 137, reason: "Error" };
}

/// A running container. Dropping it kills it with everything it started.
pub(crate) struct Process {
    pub(crate) id: String,
    pub(crate) grace_s: u64,
    pub(crate) started_at: Timestamp,
    spec: Container,
    ip: String,
    /// A shell whose only child is the container's first process; it passes the exit status on.
    child: Child,
}

/// The shell outside: its child is the first of the pid namespace. Without the second command it would become that child.
const PARENT: &str = r#""$@"; exit $?"#;

// === impl Process ===

impl Process {
    pub(crate) async fn start(
        sandbox: &Sandbox,
        spec: &Container,
        program: &Path,
        restarts: i32,
    ) -> Result<Self> {
        let (pod, uid) = (&sandbox.pod, sandbox.pod.uid().unwrap_or_default());
        let env = environment::variables(&sandbox.node, pod, spec, &sandbox.ip).await?;
        let entry_point = spec.command.clone();
        let entry_point = entry_point.unwrap_or_else(|| vec![program.display().to_string()]);
        let argv = entry_point.iter().chain(spec.args.iter().flatten());
        let log = log(sandbox, &spec.name, restarts)?;
        // The container dies when the process before it does, and that when this tool does. It is pid 1 of its pid
        // namespace, so that nothing it starts can outlive it. `unshare --fork` would lose the exit status of a SIGKILL.
        let child = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
            ])
            .args(["sh", "-c", PARENT, "sh", "setpriv", "--pdeathsig", "KILL"])
            .args(["sh", "-c", &mounts(sandbox, spec, &env)?, "sh"])
            .args(argv.map(|word| expand(word, &env)))
            .current_dir("/")
            .env_clear()
            .envs(env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("failed to start setpriv (of util-linux)")?;
        let id = format!("process://{uid}/{}/{restarts}", spec.name);
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds);
        info!("started {} {id}", pod.name_any());
        Ok(Self {
            id,
            grace_s: grace.unwrap_or(30).unsigned_abs(),
            started_at: Timestamp::now(),
            spec: spec.clone(),
            ip: sandbox.ip.clone(),
            child,
        })
    }

    /// What probes and hooks act on; `None` when the process has ended already.
    pub(crate) async fn target(&self) -> Option<Target> {
        let pid = self.first_pid().await?;
        Some(Target { container: self.spec.clone(), ip: self.ip.clone(), pid })
    }

    pub(crate) async fn wait(&mut self) -> Exit {
        let status = self.child.wait().await;
        let code = |status: ExitStatus| status.code().or(status.signal().map(|it| 128 + it));
        let code = status.ok().and_then(code).unwrap_or(255);
        info!("exit {code} {}", self.id);
        Exit::new(code)
    }

    /// `preStop`, SIGTERM to the first process only, and SIGKILL to all at the deadline.
    pub(crate) async fn terminate(&mut self, mut deadline: Stop) -> Exit {
        let by = |deadline: &Stop| deadline.borrow().unwrap_or_else(Instant::now);
        let hook = self.spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.as_ref());
        if let (Some(hook), Some(target)) = (hook, self.target().await)
            && let Ok(Err(error)) = timeout_at(by(&deadline), probe::hook(&target, hook)).await
        {
            warn!("{}: preStop: {error:#}", self.id);
        }
        self.signal(Signal::TERM).await;
        loop {
            let kill_at = by(&deadline);
            tokio::select! {
                exit = self.wait() => return exit,
                () = sleep_until(kill_at) => {
                    self.signal(Signal::KILL).await;
                    self.wait().await;
                    return Exit::KILLED;
                }
                Ok(()) = deadline.changed() => {}
            }
        }
    }

    async fn signal(&self, signal: Signal) {
        info!("{signal:?} {}", self.id);
        if let Some(pid) = self.first_pid().await
            && let Err(error) = kill_process(pid, signal)
        {
            // It has ended by itself, as a rule.
            info!("{signal:?} {}: {error}", self.id);
        }
    }

    /// The container's first process, as the host numbers it; it exists shortly after its parent does.
    async fn first_pid(&self) -> Option<Pid> {
        let parent = self.child.id()?;
        let children = format!("/proc/{parent}/task/{parent}/children");
        for _ in 0..200 {
            let text = fs::read_to_string(&children).ok()?;
            if let Some(pid) = text.split_whitespace().next() {
                return Pid::from_raw(pid.parse().ok()?);
            }
            sleep(Duration::from_millis(5)).await;
        }
        None
    }
}

fn log(sandbox: &Sandbox, container: &str, restarts: i32) -> Result<File> {
    let pod = &sandbox.pod;
    let (namespace, uid) = (pod.namespace().unwrap_or_default(), pod.uid().unwrap_or_default());
    let folder = format!("logs/{namespace}_{}_{uid}/{container}", pod.name_any());
    let folder = sandbox.node.host.root.join(folder);
    fs::create_dir_all(&folder)
        .with_context(|| format!("failed to create {}", folder.display()))?;
    let file = folder.join(format!("{restarts}.log"));
    let log = OpenOptions::new().create(true).append(true).open(&file);
    log.with_context(|| format!("failed to open {}", file.display()))
}

/// The shell text that binds the volumes in the container's own mount namespace and becomes the container.
fn mounts(sandbox: &Sandbox, spec: &Container, env: &[(String, String)]) -> Result<String> {
    let mut script = vec!["set -e".to_owned(), "mount -t proc proc /proc".to_owned()];
    for mount in spec.volume_mounts.iter().flatten() {
        let volume = sandbox.volumes.get(&mount.name);
        let volume = volume.with_context(|| format!("there is no volume {}", mount.name))?;
        let expanded = mount.sub_path_expr.as_ref().map(|path| expand(path, env));
        let sub_path = expanded.or(mount.sub_path.clone()).unwrap_or_default();
        let source = volume.join(&sub_path);
        if !source.exists() {
            fs::create_dir_all(&source).with_context(|| format!("subPath {sub_path}"))?;
        }
        let (from, to) = (quote(&source.to_string_lossy()), quote(&mount.mount_path));
        if source.is_dir() {
            script.push(format!("mkdir -p {to}"));
        } else {
            script.push(format!("mkdir -p \"$(dirname {to})\"; [ -e {to} ] || : > {to}"));
        }
        script.push(format!("mount --bind {from} {to}"));
        if mount.read_only == Some(true) {
            script.push(format!("mount -o remount,bind,ro {to}"));
        }
    }
    let context = spec.security_context.as_ref();
    if context.and_then(|context| context.read_only_root_filesystem) == Some(true) {
        script.push("mount -o remount,bind,ro /".to_owned());
    }
    if let Some(dir) = &spec.working_dir {
        script.push(format!("cd {}", quote(dir)));
    }
    script.push("exec \"$@\"".to_owned());
    Ok(script.join("\n"))
}

fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quoted_text_is_one_word_of_the_shell() {
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
