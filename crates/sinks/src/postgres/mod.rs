//! The `postgres` sink: exactly-once, into a table of PostgreSQL.
//!
//! The records of a batch and the new position of its partition are committed in one transaction:
//!
//! ```text
//! BEGIN → COPY records → UPDATE tidegate_offsets SET next = end WHERE ours AND next = expected → COMMIT
//! ```
//!
//! The update comes last, so that its row is locked for as short as possible. When it finds no row, the transaction is
//! rolled back and the write is fenced. So
//!
//! - P1: the rows of a partition are those of the offsets below `next`, each once;
//! - P2: once a higher token has acquired a partition, no write with a lower one becomes visible. `acquire` changes the row
//!   that such a write must find unchanged, and waits for one that has already locked it;
//! - P3: the same holds for earlier writes of the same owner. After a lost acknowledgement of a commit `acquire` tells
//!   whether it happened, and it cannot happen any more afterwards;
//! - P4: an owner that stalls between update and commit holds the next one up for at most the sink's `timeout`: then the
//!   server ends its session. Before the update it holds nobody up.
//!
//! A stale token is fenced by `acquire`, and by every write.
//!
//! A commit is on the server's disk before it is acknowledged; that the server does not lie about it (`fsync = off`), and
//! which standby servers have it (`synchronous_standby_names`), is the server's affair.
//!
//! What this module does not do is to try again: it connects anew when it is called anew.

mod bare;
mod config;
mod connect;
mod encode;
mod error;
mod offsets;
mod said;
mod schema;
pub(crate) mod scratch;
mod tls;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::SinkExt as _;
use tidegate_core::ids::{FencingToken, PartitionId, Position};
use tidegate_runtime::ports::{
    Batch, Class, Guarantee, Record, Rejection, Sink, SinkError, TopicPartition,
};

use self::connect::{Connection, Pool, in_time, log_in};
use self::encode::{Column, Unfit};
use self::offsets::{Key, Taken};

pub use self::bare::BareCopy;
pub use self::config::{Field, PostgresConfig, SslMode};
pub use self::error::{PostgresError, SchemaFault};

/// Writes batches as rows of a table.
#[derive(Debug)]
pub struct PostgresSink {
    config: Arc<PostgresConfig>,
    columns: Vec<Column>,
    pool: Pool,
    owners: Mutex<BTreeMap<PartitionId, Owner>>,
}

/// The owner of a partition in this process.
#[derive(Clone, Copy, Debug)]
struct Owner {
    token: FencingToken,
    acquisition: i64,
    stand: Stand,
}

/// Where the partition stands, as its owner knows it.
#[derive(Clone, Copy, Debug)]
enum Stand {
    /// There: nowhere when it was never written. Left by the next write.
    At(Option<Position>),
    /// A write is in flight, was given up, or failed. Left by `acquire`, and by a write that succeeds or is rejected.
    Unknown,
}

/// Why a batch was not committed.
enum Failed {
    /// The partition's row is not as this owner left it.
    Moved,
    /// The server does not take a record.
    Rejected(Rejection),
    /// It failed.
    Error(PostgresError),
}

// === impl PostgresSink ===

impl PostgresSink {
    /// Connects, provides both tables and checks them.
    pub async fn open(config: PostgresConfig) -> Result<Self, PostgresError> {
        let config = Arc::new(config);
        let opening = async {
            let session = log_in(&config).await?;
            schema::provide(&session.client, &config).await
        };
        let columns = in_time(&config, opening).await?;
        let pool = Pool::new(Arc::clone(&config));
        Ok(Self { config, columns, pool, owners: Mutex::default() })
    }

    fn with_owners<T>(&self, with: impl FnOnce(&mut BTreeMap<PartitionId, Owner>) -> T) -> T {
        with(&mut self.owners.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Checks that this owner may write at this position now. Its stand is unknown until [`Self::settle`].
    fn begin(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        expected: Position,
    ) -> Result<Owner, SinkError> {
        let found = self.with_owners(|owners| {
            let owner = owners.get_mut(&partition.id).filter(|owner| owner.token == token);
            let owner = owner.ok_or_else(|| "it is not acquired with this token".to_owned())?;
            match owner.stand {
                Stand::Unknown => Err("a write is in flight or its outcome unknown".to_owned()),
                Stand::At(Some(at)) if at != expected => Err(stands_elsewhere(at, expected)),
                Stand::At(_) => {
                    let begun = *owner;
                    owner.stand = Stand::Unknown;
                    Ok(begun)
                }
            }
        });
        found.map_err(|reason| fenced(partition, reason))
    }

    /// Puts the owner's stand back, unless the partition was acquired meanwhile.
    fn settle(&self, id: PartitionId, owner: Owner) {
        self.with_owners(|owners| {
            let known = owners.get_mut(&id);
            if let Some(known) = known.filter(|known| known.acquisition == owner.acquisition) {
                *known = owner;
            }
        });
    }

    fn key(&self, partition: &TopicPartition, token: FencingToken) -> Result<Key, SinkError> {
        Key::new(&self.config, partition, token).ok_or_else(|| SinkError::Refused {
            partition: partition.clone(),
            source: "a number of the partition or of the token is too high".into(),
        })
    }

    /// Writes the rows and moves the position, on a connection of its own, which is closed when anything goes wrong.
    async fn transact(
        &self,
        key: &Key,
        owner: Owner,
        batch: Batch<'_>,
        rows: Vec<Bytes>,
    ) -> Result<(), Failed> {
        let lease = self.pool.lease().await.map_err(Failed::Error)?;
        let has_rows = !rows.is_empty();
        if has_rows {
            self.copy(&lease, batch.records, rows).await?;
        }
        let moving =
            offsets::move_on(&lease, key, owner.acquisition, batch.expected, batch.end).await;
        if !moving.map_err(|error| self.failed("move the position", error))? {
            return Err(Failed::Moved);
        }
        if has_rows {
            let committed = lease.client.batch_execute("COMMIT").await;
            committed.map_err(|error| self.failed("commit", error))?;
        }
        lease.give_back();
        Ok(())
    }

    /// Begins a transaction, sends the rows, and looks whether they went to the columns they were made for: from the
    /// `COPY` on the table is locked against changes.
    async fn copy(
        &self,
        connection: &Connection,
        records: &[Record],
        rows: Vec<Bytes>,
    ) -> Result<(), Failed> {
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";
        let begun = connection.client.batch_execute(begin).await;
        begun.map_err(|error| self.failed("begin a transaction", error))?;
        let copied = async {
            let mut into = pin!(connection.client.copy_in(&connection.copy).await?);
            for slice in rows {
                into.send(slice).await?;
            }
            into.finish().await
        };
        copied.await.map_err(|error| match error::rejected_row(&error) {
            Some((row, reason)) if row < records.len() => {
                let offset = records.get(row).map_or(0, |record| record.offset);
                Failed::Rejected(Rejection { offset, reason })
            }
            _ => self.failed("take the records", error),
        })?;
        let (schema, table) = (&self.config.schema, &self.config.table);
        let found = connection.client.query(&connection.layout, &[schema, table]).await;
        let found = found.map_err(|error| self.failed("read its catalog", error))?;
        let layout = schema::layout_of(&found, &self.config);
        if layout.map_err(|fault| Failed::Error(fault.into()))? != self.columns {
            let table = format!("{schema}.{table}");
            return Err(Failed::Error(SchemaFault::Changed { table }.into()));
        }
        Ok(())
    }

    fn failed(&self, doing: &'static str, error: tokio_postgres::Error) -> Failed {
        Failed::Error(PostgresError::of(&self.config, doing, error))
    }

    /// The error for a call that failed. Where the server complains about a table or a right, the sentence for it comes
    /// from another look at the tables.
    async fn explain(&self, partition: &TopicPartition, error: PostgresError) -> SinkError {
        self.pool.clear();
        let mut told = error;
        if told.is_about_schema() {
            let looking = async {
                let session = log_in(&self.config).await?;
                schema::check(&session.client, &self.config).await
            };
            if let Err(error @ PostgresError::Schema(_)) = in_time(&self.config, looking).await {
                told = error;
            }
        }
        let (partition, class) = (partition.clone(), told.class());
        let source = told.into();
        if class == Class::Transient {
            SinkError::Unavailable { partition, source }
        } else {
            SinkError::Refused { partition, source }
        }
    }

    /// Why the partition's row was not as its owner left it: for people only, so that a failure to look does not matter.
    async fn reason(&self, key: &Key, owner: Owner, expected: Position) -> String {
        let looking = async {
            let lease = self.pool.lease().await.ok()?;
            let found = offsets::look(&lease.client, &self.config, key).await.ok()?;
            lease.give_back();
            Some(found)
        };
        match looking.await {
            None => "its row was changed".to_owned(),
            Some(None) => "its row is gone".to_owned(),
            Some(Some((token, _))) if token != owner.token => owned_by(token, owner.token),
            Some(Some((_, Some(at)))) if at != expected => stands_elsewhere(at, expected),
            Some(Some(_)) => "it was acquired again".to_owned(),
        }
    }
}

#[async_trait]
impl Sink for PostgresSink {
    fn guarantee(&self) -> Guarantee {
        Guarantee::ExactlyOnce
    }

    async fn acquire(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<Option<Position>, SinkError> {
        let key = self.key(partition, token)?;
        let acquiring = async {
            let lease = self.pool.lease().await?;
            let failed = |error| PostgresError::of(&self.config, "acquire", error);
            let taken = offsets::acquire(&lease.client, &self.config, &key).await;
            let taken = taken.map_err(failed)?;
            let holder = match taken {
                Some(_) => None,
                None => offsets::look(&lease.client, &self.config, &key).await.map_err(failed)?,
            };
            lease.give_back();
            Ok((taken, holder))
        };
        let (taken, holder) = match acquiring.await {
            Ok(found) => found,
            Err(error) => return Err(self.explain(partition, error).await),
        };
        let Some(Taken { acquisition, next }) = taken else {
            let holder = holder.map(|(holder, _)| owned_by(holder, token));
            let reason = holder.unwrap_or_else(|| "its row is gone".to_owned());
            return Err(fenced(partition, reason));
        };
        let owner = Owner { token, acquisition, stand: Stand::At(next) };
        self.with_owners(|owners| owners.insert(partition.id, owner));
        Ok(next)
    }

    async fn write(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
        batch: Batch<'_>,
    ) -> Result<(), SinkError> {
        let owner = self.begin(partition, token, batch.expected)?;
        let key = self.key(partition, token)?;
        let rejected = |records| {
            self.settle(partition.id, owner);
            Err(SinkError::Rejected { partition: partition.clone(), records })
        };
        let rows = match encode::encode(&self.columns, partition, batch).await {
            Ok(rows) => rows,
            Err(Unfit::Records(records)) => return rejected(records),
            Err(Unfit::Batch(reason)) => {
                let partition = partition.clone();
                return Err(SinkError::Refused { partition, source: reason.into() });
            }
        };
        match self.transact(&key, owner, batch, rows).await {
            Ok(()) => {
                let stand = Stand::At(Some(batch.end));
                self.settle(partition.id, Owner { stand, ..owner });
                Ok(())
            }
            Err(Failed::Moved) => {
                let reason = self.reason(&key, owner, batch.expected).await;
                Err(fenced(partition, reason))
            }
            Err(Failed::Rejected(record)) => rejected(vec![record]),
            Err(Failed::Error(error)) => Err(self.explain(partition, error).await),
        }
    }

    /// Nothing is left to do on the server: the next owner's `acquire` takes the row as it is.
    async fn release(
        &self,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Result<(), SinkError> {
        self.with_owners(|owners| {
            if owners.get(&partition.id).is_some_and(|owner| owner.token == token) {
                owners.remove(&partition.id);
            }
        });
        Ok(())
    }
}

// === helpers ===

fn fenced(partition: &TopicPartition, reason: String) -> SinkError {
    SinkError::Fenced { partition: partition.clone(), reason }
}

fn owned_by(holder: FencingToken, ours: FencingToken) -> String {
    format!("epoch {} has acquired it, ours is {}", holder.epoch, ours.epoch)
}

fn stands_elsewhere(at: Position, expected: Position) -> String {
    format!("it stands at {at:?} and the batch begins at {expected:?}")
}
