//! Probes and lifecycle hooks: HTTP, TCP and commands inside the container.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use k8s_openapi::api::core::v1::{
    Container, ExecAction, HTTPGetAction, LifecycleHandler, Probe, TCPSocketAction,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// What the probes of a container have found.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The startup probe passed, or there is none.
    Started,
    /// The readiness probe changed its mind.
    Ready(bool),
    /// A startup or liveness probe failed for good: restart the container.
    Unhealthy(String),
}

/// What a probe acts on.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) container: Container,
    pub(crate) ip: String,
    /// The container's first process, as the host numbers it.
    pub(crate) pid: Pid,
}

/// Runs the container's probes until dropped.
pub(crate) async fn watch(target: Target, verdicts: mpsc::Sender<Verdict>) {
    let tell = |verdict| async { drop(verdicts.send(verdict).await) };
    if let Some(probe) = &target.container.startup_probe {
        let mut counter = Counter::new(probe, false);
        while counter.healthy != Some(true) {
            counter.next(&target).await;
            if counter.healthy == Some(false) {
                return tell(Verdict::Unhealthy(format!("startup probe: {}", counter.reason)))
                    .await;
            }
        }
    }
    tell(Verdict::Started).await;
    let readiness = async {
        let Some(probe) = &target.container.readiness_probe else { return };
        let mut counter = Counter::new(probe, false);
        loop {
            let before = counter.healthy;
            counter.next(&target).await;
            if let Some(ready) = counter.healthy.filter(|_| counter.healthy != before) {
                tell(Verdict::Ready(ready)).await;
            }
        }
    };
    let liveness = async {
        let Some(probe) = &target.container.liveness_probe else { return };
        let mut counter = Counter::new(probe, true);
        while counter.healthy != Some(false) {
            counter.next(&target).await;
        }
        tell(Verdict::Unhealthy(format!("liveness probe: {}", counter.reason))).await;
    };
    tokio::join!(readiness, liveness);
}

/// Runs a `preStop` hook.
pub(crate) async fn hook(target: &Target, hook: &LifecycleHandler) -> Result<()> {
    if let Some(pause) = &hook.sleep {
        sleep(Duration::from_secs(pause.seconds.unsigned_abs())).await;
        return Ok(());
    }
    act(target, hook.http_get.as_ref(), hook.tcp_socket.as_ref(), hook.exec.as_ref()).await
}

/// Counts consecutive outcomes against the probe's thresholds.
struct Counter<'a> {
    probe: &'a Probe,
    delay: i32,
    streak: (bool, i32),
    healthy: Option<bool>,
    reason: String,
}

// === impl Counter ===

impl<'a> Counter<'a> {
    fn new(probe: &'a Probe, healthy: bool) -> Self {
        let delay = probe.initial_delay_seconds.unwrap_or(0);
        Self {
            probe,
            delay,
            streak: (healthy, 0),
            healthy: healthy.then_some(true),
            reason: String::new(),
        }
    }

    async fn next(&mut self, target: &Target) {
        let seconds = |value: Option<i32>, default| {
            Duration::from_secs(value.unwrap_or(default).max(0).unsigned_abs().into())
        };
        sleep(seconds(Some(self.delay), 0)).await;
        self.delay = self.probe.period_seconds.unwrap_or(10);
        let probe = self.probe;
        let action =
            act(target, probe.http_get.as_ref(), probe.tcp_socket.as_ref(), probe.exec.as_ref());
        let limit = seconds(probe.timeout_seconds, 1);
        let outcome = timeout(limit, action)
            .await
            .unwrap_or_else(|_| Err(anyhow!("no answer within {limit:?}")));
        let passed = outcome.is_ok();
        self.streak =
            if self.streak.0 == passed { (passed, self.streak.1 + 1) } else { (passed, 1) };
        let needed = if passed {
            probe.success_threshold.unwrap_or(1)
        } else {
            probe.failure_threshold.unwrap_or(3)
        };
        if self.streak.1 >= needed {
            self.healthy = Some(passed);
        }
        if let Err(error) = outcome {
            self.reason = format!("{error:#}");
        }
    }
}

async fn act(
    target: &Target,
    http: Option<&HTTPGetAction>,
    tcp: Option<&TCPSocketAction>,
    exec: Option<&ExecAction>,
) -> Result<()> {
    if let Some(http) = http {
        return get(target, http).await;
    }
    if let Some(tcp) = tcp {
        let host = tcp.host.as_deref().unwrap_or(&target.ip);
        TcpStream::connect((host, port(target, &tcp.port)?)).await?;
        return Ok(());
    }
    let command =
        exec.and_then(|exec| exec.command.as_ref()).context("unsupported kind of probe")?;
    let pid = target.pid.as_raw_nonzero().to_string();
    let mut process = Command::new("nsenter");
    process.args(["--target", &pid, "--mount", "--pid", "--"]).args(command).kill_on_drop(true);
    let status =
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().await?;
    ensure!(status.success(), "command: {status}");
    Ok(())
}

async fn get(target: &Target, http: &HTTPGetAction) -> Result<()> {
    ensure!(http.scheme.as_deref() != Some("HTTPS"), "HTTPS probes are not supported");
    let host = http.host.as_deref().unwrap_or(&target.ip);
    let mut stream = TcpStream::connect((host, port(target, &http.port)?)).await?;
    let headers = http.http_headers.iter().flatten();
    let headers: String = headers
        .flat_map(|header| [header.name.as_str(), ": ", header.value.as_str(), "\r\n"])
        .collect();
    let path = http.path.as_deref().unwrap_or("/");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: kube-probe/1\r\nConnection: close\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0; 12]; // HTTP/1.1 200
    stream.read_exact(&mut start).await?;
    let code: u16 = std::str::from_utf8(&start[9..])?.parse()?;
    ensure!((200..400).contains(&code), "HTTP status {code}");
    Ok(())
}

fn port(target: &Target, port: &IntOrString) -> Result<u16> {
    let number = match port {
        IntOrString::Int(number) => *number,
        IntOrString::String(name) => {
            let mut ports = target.container.ports.iter().flatten();
            let named = ports.find(|port| port.name.as_ref() == Some(name));
            named.with_context(|| format!("no port named {name}"))?.container_port
        }
    };
    Ok(u16::try_from(number)?)
}
