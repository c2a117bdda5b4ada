//! What a sink is compared with: the same bytes in a plain file of its disk, the same rows copied to its database.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use tidegate_core::ids::FencingToken;
use tidegate_runtime::ports::{Batch, Guarantee, Sink, SinkError, TopicPartition};
use tidegate_sinks::SinkSpec;
use tidegate_sinks::object::place::Place;
use tidegate_sinks::postgres::{BareCopy, PostgresConfig};

use super::load::Load;
use crate::commands::bench::figures::Run;
use crate::commands::bench::usage::{Meter, now, watch};
use crate::output;

/// How long psql may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Measures the limits of a sink, if it has any; its records are written.
pub(super) async fn measure(
    sink: &SinkSpec,
    load: &Load,
    psql: &Path,
) -> anyhow::Result<Vec<(&'static str, Run)>> {
    match sink {
        SinkSpec::Object { place: Place::Folder(root), .. } => {
            let root = root.clone();
            tokio::task::spawn_blocking(move || plain_files(&root))
                .await?
                .context("failed to write plain files beside the objects")
        }
        SinkSpec::Postgres(config) => copies(config, load, psql).await,
        _ => Ok(Vec::new()),
    }
}

// === plain files ===

/// Writes what all objects hold to one file: synced at the end, and synced as often as the sink did.
fn plain_files(root: &Path) -> std::io::Result<Vec<(&'static str, Run)>> {
    let mut objects = Vec::new();
    files(root, &mut objects)?;
    let contents = objects.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let write = |name: &str, each: bool| -> std::io::Result<Run> {
        let meter = Meter::start();
        let mut file = File::create(root.join(name))?;
        for content in &contents {
            file.write_all(content)?;
            if each {
                file.sync_all()?;
            }
        }
        file.sync_all()?;
        Ok(meter.stop())
    };
    Ok(vec![("plain file", write("plain", false)?), ("synced file", write("synced", true)?)])
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() { files(&path, found)? } else { found.push(path) }
    }
    Ok(())
}

// === PostgreSQL ===

/// Copies the same rows to a table of the same shape: over the connection library that the sink has, a connection for each
/// partition, and by psql.
async fn copies(
    config: &PostgresConfig,
    load: &Load,
    psql: &Path,
) -> anyhow::Result<Vec<(&'static str, Run)>> {
    let of = |table: &str| PostgresConfig { table: table.to_owned(), ..config.clone() };
    let mut connections = Vec::new();
    for _ in load.partitions() {
        connections.push(BareCopy::open(of("bare")).await?);
    }
    let mut runs = vec![("bare COPY", load.write(Arc::new(Bare { connections })).await?)];
    let to_psql = BareCopy::open(of("psql")).await?;
    let folder = tempfile::tempdir().context("failed to make a folder for temporary files")?;
    let mut script = Vec::new();
    for partition in load.partitions() {
        let mut batches = load.batches();
        while let Some(batch) = batches.next() {
            let path = folder.path().join(script.len().to_string());
            tokio::fs::write(&path, to_psql.rows(partition, batch).await?.concat()).await?;
            script.push(to_psql.psql_command(&path.display().to_string()));
        }
    }
    let mut command = Command::new(psql);
    command.args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"]).envs(config.environment()?);
    command.arg("--file").arg(folder.path().join("script"));
    tokio::fs::write(folder.path().join("script"), script.join("\n")).await?;
    if let Some(run) = tokio::task::spawn_blocking(move || by_psql(command)).await?? {
        runs.push(("psql", run));
    }
    Ok(runs)
}

/// Runs psql; `None` when it is not there.
fn by_psql(mut command: Command) -> anyhow::Result<Option<Run>> {
    let mistakes = tempfile::NamedTempFile::new()?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(mistakes.reopen()?);
    let began = now();
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let program = command.get_program().display();
            output::complain(&format!(
                "{program} is left out ({error}): install it, or say where it is with --psql"
            ));
            return Ok(None);
        }
    };
    let (cpu_seconds, rss_peak_mib, worked) = watch(child, PATIENCE)?;
    let seconds = began.elapsed().as_secs_f64();
    let mistakes = std::fs::read_to_string(mistakes.path())?;
    ensure!(worked, "psql has failed: {}", mistakes.trim());
    Ok(Some(Run { seconds, cpu_seconds, rss_peak_mib }))
}

/// A bare copy as the load takes it.
#[derive(Debug)]
struct Bare {
    connections: Vec<BareCopy>,
}

#[async_trait]
impl Sink for Bare {
    fn guarantee(&self) -> Guarantee {
        Guarantee::AtLeastOnce
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        _: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let refused = |source: Box<dyn std::error::Error + Send + Sync>| SinkError::Refused {
            partition: partition.clone(),
            source,
        };
        let connection = usize::try_from(partition.id.number).ok();
        let connection = connection.and_then(|number| self.connections.get(number));
        let connection = connection.ok_or_else(|| refused("it has no connection".into()))?;
        connection.copy(partition, batch).await.map_err(|error| refused(error.into()))?;
        Ok(())
    }
}
