//! `tidegate status`: asks a controller over HTTP.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use tidegate_wire::Status;
use tidegate_wire::status::{
    ByteRate, ConsumerRow, Decision, OverrideRow, PartitionRow, PlanStatus, RolloutStatus,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::processes::ADDRESS_FILE;
use crate::args::StatusArgs;
use crate::failure::Exit;
use crate::output::Output;
use crate::setup;

/// How long a controller may take to answer: it has its status at hand.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(args: &StatusArgs, output: &Output) -> anyhow::Result<Exit> {
    let url = match (&args.url, &args.spec) {
        (Some(url), _) => url.clone(),
        (None, Some(spec)) => noted_url(spec)?,
        (None, None) => bail!("neither --url nor --spec is given"),
    };
    let asked = tokio::time::timeout(TIMEOUT, get(&url, "/status"));
    let body = asked.await.with_context(|| format!("{url} does not answer"))??;
    let status = of_controller(&body).with_context(|| {
        format!(
            "{url}/status is not the status of a controller: a monitor and a consumer have others"
        )
    })?;
    output.result(&text(&status)?, &status)?;
    Ok(Exit::Done)
}

/// The status of a controller. A status is read whatever is missing in it, so that others would be read as an empty one: only
/// a controller's says which role it has.
fn of_controller(body: &str) -> anyhow::Result<Status> {
    let told: serde_json::Value = serde_json::from_str(body)?;
    anyhow::ensure!(told.get("role").is_some(), "it names no role");
    Ok(serde_json::from_value(told)?)
}

/// Where the controller on this machine said that it listens.
fn noted_url(spec: &Path) -> anyhow::Result<String> {
    let spec = setup::load_spec(spec)?;
    if spec.http.listen.port() != 0 {
        return Ok(format!("http://{}", spec.http.listen));
    }
    let file = Path::new(&spec.workers.data_directory).join(ADDRESS_FILE);
    let text = std::fs::read_to_string(&file).with_context(|| {
        format!("no controller has left its address in {}: say it with --url", file.display())
    })?;
    Ok(text.trim().to_owned())
}

/// The body of a page. Ours are small, on plain HTTP and closed after one answer.
async fn get(url: &str, path: &str) -> anyhow::Result<String> {
    let host = url.strip_prefix("http://").unwrap_or(url);
    let host = host.trim_end_matches('/').trim_end_matches("/status");
    let (host, group) = host.split_once('/').unwrap_or((host, ""));
    let is_group = group.is_empty() || group.starts_with("groups/");
    if !is_group || !host.contains(':') {
        bail!(
            "expected an address such as http://127.0.0.1:8080, or with /groups/NAMESPACE/NAME behind it for one of several groups, found {url:?}"
        );
    }
    let path = if group.is_empty() { path.to_owned() } else { format!("/{group}{path}") };
    let mut stream = TcpStream::connect(host)
        .await
        .with_context(|| format!("no controller can be reached at {url}: is it running?"))?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    let code = head.split(' ').nth(1).unwrap_or_default();
    if code != "200" {
        bail!("{url}{path} answered {code}: {}", body.trim());
    }
    Ok(body.to_owned())
}

// === text ===

fn text(status: &Status) -> anyhow::Result<String> {
    let mut text = String::new();
    let (mode, role) = (word(&status.mode)?, word(&status.role)?);
    writeln!(text, "group {}: mode {mode}, this controller is {role}", status.group)?;
    let (ready, wanted) = (status.ready_consumers, status.wanted_consumers);
    let (min, max) = (status.spec.min_consumers, status.spec.max_consumers);
    writeln!(text, "consumers: {ready} ready, {wanted} wanted, {min} to {max} allowed")?;
    if let Some(freshness) = status.freshness {
        writeln!(text, "freshness: p50 {} ms, p99 {} ms", freshness.p50_ms, freshness.p99_ms)?;
    }
    if let Some(plan) = &status.plan {
        writeln!(text, "{}", plan_text(plan))?;
    }
    if status.spec.paused {
        writeln!(text, "paused: only what has no consumer gets one")?;
    }
    for OverrideRow { field, value, refused } in &status.overrides {
        let note = if refused.is_some() { ", which is not in effect" } else { "" };
        writeln!(text, "set by the service topic: {field} = {value}{note}")?;
    }
    if let Some(rollout) = &status.rollout {
        writeln!(text, "{}", rollout_text(rollout))?;
    }
    for alarm in &status.alarms {
        writeln!(text, "ALARM {} ({}): {}", alarm.code, alarm.object, alarm.summary)?;
    }
    consumers(&mut text, &status.consumers)?;
    partitions(&mut text, &status.partitions)?;
    decisions(&mut text, &status.decisions)?;
    Ok(text)
}

fn rollout_text(rollout: &RolloutStatus) -> String {
    let RolloutStatus { revision, updated, consumers, consumer, phase, refused } = rollout;
    let mut text = format!("rollout {revision}: {updated} of {consumers} consumers run it");
    if refused.is_some() {
        text.push_str(", taken back");
    }
    if let (Some(consumer), Some(phase)) = (consumer, phase) {
        format!("{text}; consumer {consumer} is {phase}")
    } else {
        text
    }
}

fn plan_text(plan: &PlanStatus) -> String {
    let PlanStatus { id, moves, done, consumers, lower_bound, .. } = plan;
    let trigger = plan.trigger.as_deref().unwrap_or("unknown");
    format!(
        "plan @{id}: {trigger}, {done} of {moves} moves done, {consumers} consumers (no fewer than {lower_bound} would do)"
    )
}

fn consumers(text: &mut String, rows: &[ConsumerRow]) -> anyhow::Result<()> {
    writeln!(
        text,
        "\nconsumer  worker       state  partitions  of target  load          of capacity"
    )?;
    for row in rows {
        let state = match (row.ready, row.live) {
            (true, _) => "ready",
            (false, true) => "live",
            (false, false) => "-",
        };
        let share =
            row.load_bytes_per_sec.saturating_mul(100).checked_div(row.capacity_bytes_per_sec);
        let (number, worker) = (row.number, word(&row.worker)?);
        let (observed, target) = (row.partitions_observed, row.partitions_target);
        let (load, share) = (ByteRate(row.load_bytes_per_sec), share.unwrap_or(0));
        writeln!(
            text,
            "{number:>8}  {worker:<11}  {state:<5}  {observed:>10}  {target:>9}  {load:<12}  {share:>8} %"
        )?;
        if let Some(trouble) = &row.trouble {
            writeln!(text, "          {trouble}")?;
        }
    }
    Ok(())
}

fn partitions(text: &mut String, rows: &[PartitionRow]) -> anyhow::Result<()> {
    writeln!(
        text,
        "\npartition                       owner  target  state    rate          next        lag"
    )?;
    let number = |value: Option<u32>| value.map_or("-".to_owned(), |value| value.to_string());
    let count = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    for row in rows {
        let name = format!("{}-{}", row.topic, row.number);
        let (owner, target, state) = (number(row.owner), number(row.target), word(&row.state)?);
        let rate = row.bytes_per_sec.map_or("-".to_owned(), |rate| ByteRate(rate).to_string());
        let (next, lag) = (count(row.next), count(row.lag_records));
        writeln!(
            text,
            "{name:<30}  {owner:>5}  {target:>6}  {state:<7}  {rate:<12}  {next:<10}  {lag}"
        )?;
    }
    Ok(())
}

fn decisions(text: &mut String, rows: &[Decision]) -> anyhow::Result<()> {
    if !rows.is_empty() {
        writeln!(text, "\nlast decisions")?;
    }
    for row in rows {
        let Decision { trigger, moves, consumers_before, consumers_after, lower_bound, .. } = row;
        let reasons: Vec<_> =
            row.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        writeln!(
            text,
            "  {trigger}: {moves} moves ({}), {consumers_before} to {consumers_after} consumers, at least {lower_bound}",
            reasons.join(", ")
        )?;
    }
    Ok(())
}

/// A word of a closed list as it stands in the JSON.
fn word(value: &impl serde::Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_value(value)?.as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use tidegate_wire::{ConsumerStatus, MonitorStatus};

    use super::*;

    #[test]
    fn only_a_controllers_status_is_taken_for_one() {
        let controllers = serde_json::to_string(&Status::default()).unwrap();
        assert_eq!(of_controller(&controllers).unwrap(), Status::default());
        let monitors = serde_json::to_string(&MonitorStatus::default()).unwrap();
        let consumers = serde_json::to_string(&ConsumerStatus::default()).unwrap();
        assert!(of_controller(&monitors).is_err() && of_controller(&consumers).is_err());
    }

    #[test]
    fn a_status_is_told_with_what_matters_first() {
        let status = Status {
            group: "orders".to_owned(),
            ready_consumers: 1,
            wanted_consumers: 2,
            consumers: vec![ConsumerRow {
                number: 1,
                ready: true,
                load_bytes_per_sec: 7_500_000,
                capacity_bytes_per_sec: 10_000_000,
                ..ConsumerRow::default()
            }],
            ..Status::default()
        };
        let text = text(&status).unwrap();
        assert!(
            text.starts_with("group orders: mode observe, this controller is follower\n"),
            "{text}"
        );
        assert!(text.contains("consumers: 1 ready, 2 wanted"), "{text}");
        assert!(text.contains("7.50 MB/s") && text.contains("75 %"), "{text}");
    }
}
