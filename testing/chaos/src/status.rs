//! What the controllers say of themselves: who leads, and which consumers should run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tidegate_runtime::task::{Task, spawn_named};
use tidegate_wire::Status;
use tidegate_wire::status::Role;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(400);

/// A controller that stands still accepts a connection and does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a controller notes its address, in its data directory.
pub(crate) const ADDRESS_FILE: &str = "controller.address";

/// What the leader said last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Which controller leads, as of the last look; `None` when nobody says so.
    pub(crate) leader: Option<u32>,
    /// The consumers that should run. Stays while nobody leads.
    pub(crate) wanted: BTreeSet<u32>,
}

/// Looks at these controllers, by number and data directory, from now on. Ends when the task is dropped.
pub(crate) fn watch(controllers: Vec<(u32, PathBuf)>) -> (watch::Receiver<Seen>, Task<()>) {
    let (sender, receiver) = watch::channel(Seen::default());
    let looking = async move {
        loop {
            let mut leaders = Vec::new();
            for (number, directory) in &controllers {
                match tokio::time::timeout(PATIENCE, status(directory)).await {
                    Ok(Ok(status)) if status.role == Role::Leader => {
                        leaders.push((*number, status));
                    }
                    Ok(Ok(_)) | Err(_) => {}
                    Ok(Err(error)) => tracing::debug!(number, "no status: {error:#}"),
                }
            }
            sender.send_modify(|seen| take(seen, leaders));
            tokio::time::sleep(LOOK).await;
        }
    };
    (receiver, spawn_named("status", looking))
}

/// One that was stopped and went on may say that it leads until it reads that it does not: the latest term counts.
fn take(seen: &mut Seen, leaders: Vec<(u32, Status)>) {
    let leader = leaders.into_iter().max_by_key(|(_, status)| status.term);
    seen.leader = leader.as_ref().map(|(number, _)| *number);
    if let Some((_, status)) = leader {
        let wanted = status.consumers.iter().filter(|row| row.wanted).map(|row| row.number);
        seen.wanted = wanted.collect();
    }
}

async fn status(directory: &std::path::Path) -> anyhow::Result<Status> {
    let address = tokio::fs::read_to_string(directory.join(ADDRESS_FILE)).await?;
    let host = address.trim().strip_prefix("http://").context("the address is no URL")?;
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET /status HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").context("the answer is no HTTP")?;
    serde_json::from_str(body).context("the answer is no status")
}

#[cfg(test)]
mod tests {
    use tidegate_wire::status::ConsumerRow;

    use super::*;

    fn leader(number: u32, term: u64, wanted: &[u32]) -> (u32, Status) {
        let row = |number| ConsumerRow { number, wanted: true, ..ConsumerRow::default() };
        let mut consumers: Vec<_> = wanted.iter().copied().map(row).collect();
        consumers.push(ConsumerRow { number: 99, ..ConsumerRow::default() });
        (number, Status { term: Some(term), consumers, ..Status::default() })
    }

    #[test]
    fn the_latest_term_counts_and_wishes_outlast_their_leader() {
        let mut seen = Seen::default();
        take(&mut seen, vec![leader(1, 900, &[1, 2]), leader(2, 700, &[3])]);
        assert_eq!((seen.leader, seen.wanted.clone()), (Some(1), [1, 2].into()));
        take(&mut seen, Vec::new());
        assert_eq!((seen.leader, seen.wanted), (None, [1, 2].into()));
    }
}
