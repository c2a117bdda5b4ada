//! What a sink is compared with: the same bytes in a plain file of its disk, the same rows copied to its database.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow, ensure};
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

/// Copies the same rows to a table of the same shape: over the connection library that the sink has, and by psql;
/// in both ways a connection for each partition.
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
    let mut commands = Vec::new();
    for partition in load.partitions() {
        let path = |name: &str| folder.path().join(format!("{}-{name}", partition.id.number));
        let (mut batches, mut script) = (load.batches(), Vec::new());
        while let Some(batch) = batches.next() {
            let rows = path(&script.len().to_string());
            tokio::fs::write(&rows, to_psql.rows(partition, batch).await?.concat()).await?;
            script.push(to_psql.psql_command(&rows.display().to_string()));
        }
        tokio::fs::write(path("script"), script.join("\n")).await?;
        let mut command = Command::new(psql);
        command.args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1"]);
        command.envs(config.environment()?).arg("--file").arg(path("script"));
        commands.push(command);
    }
    if let Some(run) = tokio::task::spawn_blocking(move || by_psql(commands)).await?? {
        runs.push(("psql", run));
    }
    Ok(runs)
}

/// Runs psql, all at once; `None` when it is not there.
fn by_psql(commands: Vec<Command>) -> anyhow::Result<Option<Run>> {
    let began = now();
    let mut running = Vec::new();
    for mut command in commands {
        let mistakes = tempfile::NamedTempFile::new()?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(mistakes.reopen()?);
        match command.spawn() {
            Ok(child) => running.push((child, mistakes)),
            Err(error) => {
                let program = command.get_program().display();
                output::complain(&format!(
                    "{program} is left out ({error}): install it, or say where it is with --psql"
                ));
                return Ok(None);
            }
        }
    }
    let ended: Vec<_> = std::thread::scope(|scope| {
        let watched = running
            .into_iter()
            .map(|(child, mistakes)| (scope.spawn(|| watch(child, PATIENCE)), mistakes));
        let watched: Vec<_> = watched.collect();
        watched.into_iter().map(|(watching, mistakes)| (watching.join(), mistakes)).collect()
    });
    let seconds = began.elapsed().as_secs_f64();
    let mut run = Run { seconds, cpu_seconds: 0.0, rss_peak_mib: 0 };
    for (watched, mistakes) in ended {
        let watched = watched.map_err(|_| anyhow!("a thread that watched psql has failed"))?;
        let (cpu_seconds, rss_peak_mib, worked) = watched?;
        ensure!(worked, "psql has failed: {}", std::fs::read_to_string(mistakes.path())?.trim());
        run.cpu_seconds += cpu_seconds;
        run.rss_peak_mib += rss_peak_mib;
    }
    Ok(Some(run))
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
