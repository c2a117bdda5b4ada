//! The table of positions: one row for each partition, which says who owns it and where the sink stands.
//!
//! Owners meet in this row and nowhere else. To acquire is to put one's token into it and to raise `acquisition`; to write
//! is to move `next`, on condition that the row is still as the owner left it. So of all writes that begin at a position
//! one is committed, and none of an earlier acquisition once a later one is: not even of the same owner's, whose lost
//! write may still be on its way.

use tidegate_core::ids::{Epoch, FencingToken, Generation, Offset, Position};
use tidegate_runtime::ports::TopicPartition;
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

use super::config::PostgresConfig;
use super::connect::Connection;

/// The columns with their types, and whether they are part of the key.
pub(super) const COLUMNS: [(&str, &str, bool); 9] = [
    ("records_table", "text", true),
    ("topic_id", "text", true),
    ("partition", "integer", true),
    ("topic", "text", false),
    ("generation", "bigint", false),
    ("epoch", "bigint", false),
    ("acquisition", "bigint", false),
    ("next", "bigint", false),
    ("updated", "timestamp with time zone", false),
];

/// Which row, and for whom.
#[derive(Debug)]
pub(super) struct Key {
    records_table: String,
    topic_id: String,
    partition: i32,
    topic: String,
    generation: i64,
    epoch: i64,
}

/// A row that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken {
    /// Which acquisition of the partition this is.
    pub(super) acquisition: i64,
    /// Where the sink stands.
    pub(super) next: Option<Position>,
}

// === impl Key ===

impl Key {
    /// `None` when a number is beyond what the table can hold, which Kafka's numbers are not.
    pub(super) fn new(
        config: &PostgresConfig,
        partition: &TopicPartition,
        token: FencingToken,
    ) -> Option<Self> {
        Some(Self {
            records_table: config.table.clone(),
            topic_id: partition.id.topic.to_string(),
            partition: i32::try_from(partition.id.number).ok()?,
            topic: partition.topic.clone(),
            generation: i64::try_from(token.generation.0).ok()?,
            epoch: i64::try_from(token.epoch.0.0).ok()?,
        })
    }
}

// === statements ===

/// The statement that creates the table.
pub(super) fn create(config: &PostgresConfig) -> String {
    let column = |(name, of_type, _): (&str, &str, bool)| {
        let null = if name == "next" { "" } else { " NOT NULL" };
        format!("{name} {of_type}{null}")
    };
    let columns = COLUMNS.map(column).join(", ");
    format!("CREATE TABLE {} ({columns}, PRIMARY KEY ({}))", config.offsets(), key_columns())
}

/// The columns of the key, as SQL writes them.
pub(super) fn key_columns() -> String {
    let key = COLUMNS.iter().filter(|(.., is_key)| *is_key);
    key.map(|(name, ..)| *name).collect::<Vec<_>>().join(", ")
}

/// Takes the row of a partition; `None` when a higher token has it. Waits for a transaction that is about to move it.
pub(super) async fn acquire(
    client: &Client,
    config: &PostgresConfig,
    key: &Key,
) -> Result<Option<Taken>, tokio_postgres::Error> {
    let sql = format!(
        "INSERT INTO {} AS o (records_table, topic_id, partition, topic, generation, epoch, \
         acquisition, updated) VALUES ($1, $2, $3, $4, $5, $6, 1, pg_catalog.now()) \
         ON CONFLICT ({}) DO UPDATE SET topic = excluded.topic, generation = excluded.generation, \
         epoch = excluded.epoch, acquisition = o.acquisition + 1, updated = excluded.updated \
         WHERE (o.generation, o.epoch) <= (excluded.generation, excluded.epoch) \
         RETURNING o.acquisition, o.next",
        config.offsets(),
        key_columns()
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 6] = [
        (&key.records_table, Type::TEXT),
        (&key.topic_id, Type::TEXT),
        (&key.partition, Type::INT4),
        (&key.topic, Type::TEXT),
        (&key.generation, Type::INT8),
        (&key.epoch, Type::INT8),
    ];
    let row = client.query_typed_opt(&sql, &parameters).await?;
    Ok(row.map(|row| Taken { acquisition: row.get(0), next: position(row.get(1)) }))
}

/// The types of the parameters of [`advance`].
pub(super) const ADVANCE_TYPES: [Type; 8] = [
    Type::INT8,
    Type::TEXT,
    Type::TEXT,
    Type::INT4,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
];

/// The statement by which a write counts.
pub(super) fn advance(config: &PostgresConfig) -> String {
    format!(
        "UPDATE {} SET next = $1, updated = pg_catalog.now() WHERE records_table = $2 \
         AND topic_id = $3 AND partition = $4 AND generation = $5 AND epoch = $6 \
         AND acquisition = $7 AND (next = $8 OR next IS NULL)",
        config.offsets()
    )
}

/// Moves the row of a partition; false when it is not as this owner left it.
pub(super) async fn move_on(
    connection: &Connection,
    key: &Key,
    acquisition: i64,
    expected: Position,
    end: Position,
) -> Result<bool, tokio_postgres::Error> {
    let (end, expected) = (bigint(end), bigint(expected));
    let parameters: [&(dyn ToSql + Sync); 8] = [
        &end,
        &key.records_table,
        &key.topic_id,
        &key.partition,
        &key.generation,
        &key.epoch,
        &acquisition,
        &expected,
    ];
    Ok(connection.client.execute(&connection.advance, &parameters).await? == 1)
}

/// Who has the row of a partition, and where it stands, for the reason of an error.
pub(super) async fn look(
    client: &Client,
    config: &PostgresConfig,
    key: &Key,
) -> Result<Option<(FencingToken, Option<Position>)>, tokio_postgres::Error> {
    let sql = format!(
        "SELECT generation, epoch, next FROM {} \
         WHERE records_table = $1 AND topic_id = $2 AND partition = $3",
        config.offsets()
    );
    let parameters: [(&(dyn ToSql + Sync), Type); 3] = [
        (&key.records_table, Type::TEXT),
        (&key.topic_id, Type::TEXT),
        (&key.partition, Type::INT4),
    ];
    let row = client.query_typed_opt(&sql, &parameters).await?;
    Ok(row.map(|row| {
        let (generation, epoch): (i64, i64) = (row.get(0), row.get(1));
        let token = FencingToken {
            generation: Generation(generation.unsigned_abs()),
            epoch: Epoch(Offset(epoch.unsigned_abs())),
        };
        (token, position(row.get(2)))
    }))
}

fn position(next: Option<i64>) -> Option<Position> {
    next.map(|next| Position(next.unsigned_abs()))
}

/// Positions beyond were refused before.
fn bigint(position: Position) -> i64 {
    i64::try_from(position.0).unwrap_or(i64::MAX)
}
