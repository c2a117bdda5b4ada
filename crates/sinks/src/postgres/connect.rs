//! Connections: how one is made, and how few of them serve all partitions.
//!
//! A connection goes back to the pool only from a transaction that has ended, by [`Lease::give_back`]. Whatever else
//! becomes of a lease (an error, a future that was dropped) closes it, so that half a transaction is never gone on with,
//! and the server undoes it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tidegate_runtime::task::{Task, spawn_named};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Config, Statement};

use super::config::{PostgresConfig, SslMode};
use super::error::PostgresError;
use super::{offsets, schema, tls};

/// What the sink relies on has been there since this version.
const OLDEST_VERSION: i32 = 140_000;

/// Probes after which a silent peer is given up, beside the first.
const KEEPALIVE_PROBES: u32 = 3;

/// A session that is logged in and set up.
pub(super) struct Session {
    pub(super) client: Client,
    /// Moves the bytes; dropping it closes the socket at once.
    driver: Task<()>,
}

/// A session with what it needs for each batch.
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) copy: Statement,
    pub(super) advance: Statement,
    pub(super) layout: Statement,
    #[expect(dead_code, reason = "held for what its end does")]
    driver: Task<()>,
}

/// A few connections, made when they are needed.
pub(super) struct Pool {
    config: Arc<PostgresConfig>,
    permits: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

/// A connection for one call.
pub(super) struct Lease<'a> {
    pool: &'a Pool,
    connection: Connection,
    _permit: SemaphorePermit<'a>,
}

// === impl Pool ===

impl Pool {
    pub(super) fn new(config: Arc<PostgresConfig>) -> Self {
        let permits = Semaphore::new(config.connections);
        Self { config, permits, idle: Mutex::default() }
    }

    /// Waits for a connection and makes it, if none is idle.
    pub(super) async fn lease(&self) -> Result<Lease<'_>, PostgresError> {
        let permit = self.permits.acquire().await.map_err(|closed| PostgresError::Unreachable {
            place: self.config.to_string(),
            source: closed.into(),
        })?;
        let connection = match self.idle() {
            Some(connection) => connection,
            None => in_time(&self.config, connect(&self.config)).await?,
        };
        Ok(Lease { pool: self, connection, _permit: permit })
    }

    /// Closes what is idle: when one connection has broken, the others seldom have not.
    pub(super) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn idle(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|connection| !connection.client.is_closed());
        idle.pop()
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("free", &self.permits.available_permits())
            .finish_non_exhaustive()
    }
}

// === impl Lease ===

impl Lease<'_> {
    /// Keeps the connection for others: its transaction has ended.
    pub(super) fn give_back(self) {
        let mut idle = self.pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(self.connection);
    }
}

impl std::ops::Deref for Lease<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

// === connecting ===

/// Does something within the time-out.
pub(super) async fn in_time<T>(
    config: &PostgresConfig,
    doing: impl Future<Output = Result<T, PostgresError>>,
) -> Result<T, PostgresError> {
    let done = tokio::time::timeout(config.timeout, doing).await;
    done.unwrap_or_else(|_| {
        Err(PostgresError::Slow { place: config.to_string(), after: config.timeout })
    })
}

async fn connect(config: &Arc<PostgresConfig>) -> Result<Connection, PostgresError> {
    let Session { client, driver } = log_in(config).await?;
    let (text, types) = (&Type::TEXT, &offsets::ADVANCE_TYPES);
    let prepared = async {
        let copy = client.prepare(&copy(config)).await?;
        let advance = client.prepare_typed(&offsets::advance(config), types).await?;
        let columns = [text.clone(), text.clone()];
        Ok((copy, advance, client.prepare_typed(schema::COLUMNS, &columns).await?))
    };
    let prepared = prepared.await.map_err(|error| PostgresError::of(config, "prepare", error));
    let (copy, advance, layout) = prepared?;
    Ok(Connection { client, copy, advance, layout, driver })
}

/// Makes a session that is checked and set up.
pub(super) async fn log_in(config: &Arc<PostgresConfig>) -> Result<Session, PostgresError> {
    let failed = |error| PostgresError::of(config, "begin a session", error);
    let reading = Arc::clone(config);
    let prepared = tokio::task::spawn_blocking(move || prepare(&reading)).await;
    let (settings, tls) = prepared.map_err(|stopped| PostgresError::Unreachable {
        place: config.to_string(),
        source: stopped.into(),
    })??;
    let (client, connection) = settings.connect(tls).await.map_err(failed)?;
    // What ends the connection is told to whoever waits for an answer on it.
    let driver = spawn_named("postgres connection", async move { drop(connection.await) });
    let row = client.query_typed_one(&session(config), &[]).await.map_err(failed)?;
    let (version, number): (String, i32) = (row.get(0), row.get(1));
    let (place, follows) = (config.to_string(), row.get(2));
    if number < OLDEST_VERSION {
        return Err(PostgresError::TooOld { place, found: version });
    }
    if follows {
        return Err(PostgresError::ReadOnly { place, source: None });
    }
    Ok(Session { client, driver })
}

/// What a connect needs from files and from the environment. Blocks while it reads them.
fn prepare(
    config: &PostgresConfig,
) -> Result<(Config, tokio_postgres_rustls::MakeRustlsConnect), PostgresError> {
    let mut settings = Config::new();
    settings
        .host(&config.host)
        .port(config.port)
        .user(&config.user)
        .dbname(&config.database)
        .application_name("tidegate")
        .ssl_mode(match config.ssl_mode {
            SslMode::Disable => tokio_postgres::config::SslMode::Disable,
            SslMode::Prefer => tokio_postgres::config::SslMode::Prefer,
            SslMode::Require | SslMode::VerifyFull => tokio_postgres::config::SslMode::Require,
        })
        .connect_timeout(config.timeout)
        .tcp_user_timeout(config.timeout)
        .keepalives_idle(Duration::from_secs(keepalive_seconds(config)))
        .keepalives_interval(Duration::from_secs(
            keepalive_seconds(config).div_ceil(u64::from(KEEPALIVE_PROBES)),
        ))
        .keepalives_retries(KEEPALIVE_PROBES);
    if let Some(password) = &config.password {
        settings.password(password.read().map_err(|error| PostgresError::Secret {
            user: config.user.clone(),
            source: error.into(),
        })?);
    }
    let tls = tls::connector(config)
        .map_err(|source| PostgresError::Tls { place: config.to_string(), source })?;
    Ok((settings, tls))
}

/// The time-out in the unit of TCP's keepalives, at least one.
fn keepalive_seconds(config: &PostgresConfig) -> u64 {
    config.timeout.as_secs() + u64::from(config.timeout.subsec_nanos() > 0)
}

/// Settings of the session, whatever those of the server, the database and the role are; and what the server is.
///
/// - A commit is acknowledged when it is on disk, `synchronous_commit` at least `on`.
/// - An owner that stalls, or whose machine is gone, is rid of its locks by `idle_in_transaction_session_timeout` and
///   the settings of TCP.
/// - Nobody waits for a lock for longer.
/// - There is no `statement_timeout`: while a commit waits for a standby, it would end the wait with a mere warning and
///   have the commit acknowledged before it is safe.
fn session(config: &PostgresConfig) -> String {
    let (ms, seconds) = (config.timeout.as_millis(), keepalive_seconds(config));
    let settings = [
        ("statement_timeout", "0".to_owned()),
        ("lock_timeout", ms.to_string()),
        ("idle_in_transaction_session_timeout", ms.to_string()),
        ("tcp_user_timeout", ms.to_string()),
        ("tcp_keepalives_idle", seconds.to_string()),
        ("tcp_keepalives_interval", seconds.div_ceil(u64::from(KEEPALIVE_PROBES)).to_string()),
        ("tcp_keepalives_count", KEEPALIVE_PROBES.to_string()),
        ("default_transaction_read_only", "off".to_owned()),
    ];
    let settings = settings
        .map(|(name, value)| format!(", pg_catalog.set_config('{name}', '{value}', false)"));
    format!(
        "SELECT pg_catalog.current_setting('server_version'), \
         pg_catalog.current_setting('server_version_num')::pg_catalog.int4, \
         pg_catalog.pg_is_in_recovery(), \
         pg_catalog.set_config('synchronous_commit', \
         CASE pg_catalog.current_setting('synchronous_commit') \
         WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false){}",
        settings.concat()
    )
}

/// The statement that takes the records.
pub(super) fn copy(config: &PostgresConfig) -> String {
    format!("COPY {} ({}) FROM STDIN (FORMAT binary)", config.records(), config.column_list())
}
