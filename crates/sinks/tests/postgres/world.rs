//! A database for one test, its superuser, and owners of partitions that write to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, PartitionId, Position, TopicId};
use tidegate_runtime::ports::{Batch, BootClock, Record, Sink, SinkError, TopicPartition};
use tidegate_sinks::Error;
use tidegate_testing::{PostgresVersion, RealPostgres, unique_name};
use tokio_postgres::{Client, NoTls};

/// For what takes a second at most.
const PATIENCE: Duration = Duration::from_secs(30);

/// A database of its own.
pub(crate) struct World {
    pub(crate) server: RealPostgres,
    pub(crate) database: String,
    pub(crate) admin: Client,
    secrets: TempDir,
}

impl World {
    /// A database on the newest server that is shared.
    pub(crate) async fn new() -> Self {
        Self::on(|| RealPostgres::start(PostgresVersion::V18)).await
    }

    pub(crate) async fn on(start: fn() -> RealPostgres) -> Self {
        let server = tokio::task::spawn_blocking(start).await.unwrap();
        let database = unique_name("test").replace('-', "_");
        let admin = connect(server.port(), "postgres").await;
        admin.batch_execute(&format!("CREATE DATABASE {database}")).await.unwrap();
        let admin = connect(server.port(), &database).await;
        let secrets = TempDir::new().unwrap();
        std::fs::write(secrets.path().join("admin"), RealPostgres::PASSWORD).unwrap();
        std::fs::write(secrets.path().join("loader"), "loader-secret\n").unwrap();
        Self { server, database, admin, secrets }
    }

    /// The superuser again, after a crash.
    pub(crate) async fn reconnect(&mut self) {
        self.admin = connect(self.server.port(), &self.database).await;
    }

    pub(crate) fn url(&self, options: &str) -> String {
        self.url_at(self.server.port(), "admin", options)
    }

    pub(crate) fn url_at(&self, port: u16, user: &str, options: &str) -> String {
        format!(
            "postgres://{user}@localhost:{port}/{}?passwordFile={}&{options}",
            self.database,
            self.secrets.path().join(user).display()
        )
    }

    pub(crate) async fn open(&self, options: &str) -> Arc<dyn Sink> {
        open(&self.url(options)).await.unwrap()
    }

    /// Why a sink cannot be opened, with its causes.
    pub(crate) async fn refusal(&self, options: &str) -> String {
        refusal(&self.url(options)).await
    }

    pub(crate) async fn run(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap();
    }

    /// Offsets in the table of records, in order.
    pub(crate) async fn offsets(&self) -> Vec<i64> {
        let rows = self.admin.query("SELECT \"offset\" FROM records ORDER BY 1", &[]).await;
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.admin.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Waits until a query counts more than none.
    pub(crate) async fn until(&self, sql: &str) {
        let waiting = async {
            while self.count(sql).await == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        in_time(waiting).await;
    }

    /// The sessions of sinks in this database.
    pub(crate) fn sessions(&self) -> String {
        format!(
            "FROM pg_stat_activity WHERE datname = '{}' AND application_name = 'tidegate'",
            self.database
        )
    }
}

async fn connect(port: u16, database: &str) -> Client {
    let settings = format!(
        "host=127.0.0.1 port={port} user={} password={} dbname={database}",
        RealPostgres::USER,
        RealPostgres::PASSWORD
    );
    let (client, connection) = tokio_postgres::connect(&settings, NoTls).await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "it ends with its client")]
    tokio::task::spawn(connection);
    client
}

pub(crate) async fn open(url: &str) -> Result<Arc<dyn Sink>, Error> {
    tidegate_sinks::open(url, Arc::new(BootClock)).await
}

pub(crate) async fn refusal(url: &str) -> String {
    chain(&open(url).await.unwrap_err())
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// Fails when something does not end: nothing that is waited for takes a tenth of it.
pub(crate) async fn in_time<T>(doing: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, doing).await.expect("it ends in time")
}

pub(crate) fn partition(number: u32) -> TopicPartition {
    let id = PartitionId { topic: TopicId([7; 16]), number };
    TopicPartition { topic: "orders".to_owned(), id }
}

pub(crate) fn token(epoch: u64) -> FencingToken {
    FencingToken { generation: Generation(1), epoch: Epoch(Offset(epoch)) }
}

/// A record without anything special.
pub(crate) fn record(offset: u64) -> Record {
    valued(offset, &format!("value {offset}"))
}

pub(crate) fn valued(offset: u64, value: &str) -> Record {
    Record {
        offset,
        timestamp_ms: 1_700_000_000_123,
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        headers: Vec::new(),
    }
}

/// Writes plain records.
pub(crate) async fn write(
    sink: &Arc<dyn Sink>,
    epoch: u64,
    offsets: std::ops::Range<u64>,
) -> Result<(), SinkError> {
    let records: Vec<_> = offsets.clone().map(record).collect();
    let batch =
        Batch { expected: Position(offsets.start), records: &records, end: Position(offsets.end) };
    sink.write(&partition(0), token(epoch), batch).await
}

/// Acquires partition 0.
pub(crate) async fn acquire(sink: &Arc<dyn Sink>, epoch: u64) -> Result<Option<u64>, SinkError> {
    let found = sink.acquire(&partition(0), token(epoch)).await;
    found.map(|found| found.map(|position| position.0))
}
