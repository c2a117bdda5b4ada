//! The two tables: created where that is asked for, and checked before anything is written.
//!
//! The check reads the catalog. It finds whatever can be found without writing (kinds, columns, types, keys, rights), so
//! that a wrong table is a sentence when the consumer starts instead of a failure of its first write.

use tokio_postgres::types::Type;
use tokio_postgres::{Client, Row};

use super::config::{Field, OFFSETS, PostgresConfig, quoted};
use super::encode::{Column, Kind};
use super::error::{PostgresError, SchemaFault};
use super::offsets;

/// The columns of a table in a schema: name, type, generated, must be given, may be written, may be read.
pub(super) const COLUMNS: &str = "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), \
     a.attgenerated <> '' OR a.attidentity = 'a', \
     a.attnotnull AND NOT a.atthasdef AND a.attidentity = '', \
     pg_catalog.has_column_privilege(c.oid, a.attnum, 'INSERT') \
     FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped";

/// A table: ordinary, logged, key fits, and the rights.
const TABLE: &str = "SELECT c.relkind IN ('r', 'p'), c.relpersistence = 'p', \
     EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique \
     AND i.indimmediate AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
     AND i.indnkeyatts = pg_catalog.cardinality($3) AND NOT EXISTS (SELECT \
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attname = ANY ($3) \
     AND NOT a.attnum = ANY (i.indkey))), \
     pg_catalog.has_schema_privilege(n.oid, 'USAGE'), \
     pg_catalog.has_table_privilege(c.oid, 'SELECT'), \
     pg_catalog.has_table_privilege(c.oid, 'INSERT'), \
     pg_catalog.has_table_privilege(c.oid, 'UPDATE') \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = $2";

/// Any number will do, as long as all that create tables use the same: two creating at once would fail.
const CREATION_LOCK: i64 = 0x7469_6465_6761_7465;

/// Creates what is absent, if that is asked for, and checks both tables. Returns what goes to which column.
pub(super) async fn provide(
    client: &Client,
    config: &PostgresConfig,
) -> Result<Vec<Column>, PostgresError> {
    match check(client, config).await {
        Err(PostgresError::Schema(SchemaFault::NoTable { .. })) if config.create => {
            create(client, config).await?;
            check(client, config).await
        }
        checked => checked,
    }
}

async fn create(client: &Client, config: &PostgresConfig) -> Result<(), PostgresError> {
    may_create(client, config).await?;
    let execute = async |statement: &str| {
        let executed = client.batch_execute(statement).await;
        executed.map_err(|error| PostgresError::of(config, "create a table", error))
    };
    // The lock is the session's: what it protects is committed when it is given up.
    execute(&format!("SELECT pg_catalog.pg_advisory_lock({CREATION_LOCK})")).await?;
    if table(client, config, &config.table, &[]).await?.is_none() {
        execute(&create_records(config)).await?;
    }
    if table(client, config, OFFSETS, &[]).await?.is_none() {
        execute(&offsets::create(config)).await?;
    }
    execute(&format!("SELECT pg_catalog.pg_advisory_unlock({CREATION_LOCK})")).await
}

async fn may_create(client: &Client, config: &PostgresConfig) -> Result<(), PostgresError> {
    let asked = client
        .query_typed_opt(
            "SELECT pg_catalog.has_schema_privilege(n.oid, 'CREATE') \
         FROM pg_catalog.pg_namespace n WHERE n.nspname = $1",
            &[(&config.schema, Type::TEXT)],
        )
        .await;
    let row = asked.map_err(|error| PostgresError::of(config, "read its catalog", error))?;
    match row.map(|row| row.get(0)) {
        Some(true) => Ok(()),
        Some(false) => Err(SchemaFault::NoRight {
            user: config.user.clone(),
            right: "CREATE",
            object: format!("SCHEMA {}", config.schema),
        }
        .into()),
        None => Err(SchemaFault::NoSchema { schema: config.schema.clone() }.into()),
    }
}

/// The statement that creates a table of records.
fn create_records(config: &PostgresConfig) -> String {
    let column = |(field, name): &(Field, String)| {
        let kind = Kind::of(*field).first().map_or("bytea", |kind| kind.name());
        let null = match field {
            Field::Topic | Field::Partition | Field::Offset => " NOT NULL",
            Field::Timestamp | Field::Key | Field::Value | Field::Headers => "",
        };
        format!("{} {kind}{null}", quoted(name))
    };
    let columns = config.columns.iter().map(column).collect::<Vec<_>>().join(", ");
    format!("CREATE TABLE {} ({columns})", config.records())
}

/// Checks both tables and returns what goes to which column.
pub(super) async fn check(
    client: &Client,
    config: &PostgresConfig,
) -> Result<Vec<Column>, PostgresError> {
    let records = format!("{}.{}", config.schema, config.table);
    let right =
        |right, object: String| SchemaFault::NoRight { user: config.user.clone(), right, object };
    let found = table(client, config, &config.table, &[]).await?;
    let found = found.ok_or_else(|| SchemaFault::NoTable { table: records.clone() })?;
    found.fault(&records, config).map_or(Ok(()), Err)?;
    let columns = columns(client, config, &config.table).await?;
    let layout = layout(&columns, config)?;
    if columns.iter().any(|column| is_written(column, config) && !column.insert) {
        return Err(right("INSERT", format!("TABLE {records}")).into());
    }

    let positions = format!("{}.{OFFSETS}", config.schema);
    let key = offsets::COLUMNS.iter().filter(|(.., is_key)| *is_key);
    let key: Vec<&str> = key.map(|(name, ..)| *name).collect();
    let found = table(client, config, OFFSETS, &key).await?;
    let found = found.ok_or_else(|| SchemaFault::NoTable { table: positions.clone() })?;
    found.fault(&positions, config).map_or(Ok(()), Err)?;
    for (name, granted) in
        [("SELECT", found.select), ("INSERT", found.insert), ("UPDATE", found.update)]
    {
        if !granted {
            return Err(right(name, format!("TABLE {positions}")).into());
        }
    }
    check_offsets(&self::columns(client, config, OFFSETS).await?, &positions)?;
    if !found.has_key {
        return Err(SchemaFault::NoKey { table: positions, columns: offsets::key_columns() }.into());
    }
    Ok(layout)
}

fn check_offsets(columns: &[Found], table: &str) -> Result<(), SchemaFault> {
    for (name, expected, _) in offsets::COLUMNS {
        find(columns, table, name, &[expected])?;
    }
    required(columns, table, |name| offsets::COLUMNS.iter().any(|(known, ..)| *known == name))
}

/// What goes to which column, with the types that the columns have.
fn layout(columns: &[Found], config: &PostgresConfig) -> Result<Vec<Column>, SchemaFault> {
    let table = format!("{}.{}", config.schema, config.table);
    let mut layout = Vec::new();
    for (field, name) in &config.columns {
        let kinds = Kind::of(*field);
        let names: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        let column = find(columns, &table, name, &names)?;
        if column.generated {
            return Err(SchemaFault::Generated { table, column: name.clone() });
        }
        let kind = kinds.iter().find(|kind| kind.name() == column.of_type);
        layout.extend(kind.map(|kind| Column { field: *field, name: name.clone(), kind: *kind }));
    }
    required(columns, &table, |name| config.columns.iter().any(|(_, known)| known == name))?;
    Ok(layout)
}

/// The columns of records as they are now, found by the connection's prepared statement.
pub(super) fn layout_of(rows: &[Row], config: &PostgresConfig) -> Result<Vec<Column>, SchemaFault> {
    layout(&rows.iter().map(Found::of).collect::<Vec<_>>(), config)
}

fn find<'a>(
    columns: &'a [Found],
    table: &str,
    name: &str,
    expected: &[&str],
) -> Result<&'a Found, SchemaFault> {
    let (table, wanted) = (table.to_owned(), expected.join(" or "));
    let Some(column) = columns.iter().find(|column| column.name == name) else {
        return Err(SchemaFault::NoColumn { table, column: name.to_owned(), expected: wanted });
    };
    if !expected.contains(&column.of_type.as_str()) {
        return Err(SchemaFault::ColumnType {
            table,
            column: name.to_owned(),
            found: column.of_type.clone(),
            expected: wanted,
        });
    }
    Ok(column)
}

fn required(
    columns: &[Found],
    table: &str,
    is_written: impl Fn(&str) -> bool,
) -> Result<(), SchemaFault> {
    let missing = columns.iter().find(|column| column.required && !is_written(&column.name));
    missing.map_or(Ok(()), |column| {
        Err(SchemaFault::Required { table: table.to_owned(), column: column.name.clone() })
    })
}

fn is_written(column: &Found, config: &PostgresConfig) -> bool {
    config.columns.iter().any(|(_, name)| *name == column.name)
}

// === what the catalog says ===

#[expect(clippy::struct_excessive_bools, reason = "answers of the catalog, one for each question")]
struct Table {
    ordinary: bool,
    logged: bool,
    has_key: bool,
    usage: bool,
    select: bool,
    insert: bool,
    update: bool,
}

impl Table {
    fn fault(&self, table: &str, config: &PostgresConfig) -> Option<SchemaFault> {
        let table = table.to_owned();
        if !self.usage {
            return Some(SchemaFault::NoRight {
                user: config.user.clone(),
                right: "USAGE",
                object: format!("SCHEMA {}", config.schema),
            });
        }
        if !self.ordinary {
            return Some(SchemaFault::NoOrdinaryTable { table });
        }
        (!self.logged).then_some(SchemaFault::Unlogged { table })
    }
}

struct Found {
    name: String,
    of_type: String,
    generated: bool,
    required: bool,
    insert: bool,
}

impl Found {
    fn of(row: &Row) -> Self {
        Self {
            name: row.get(0),
            of_type: row.get(1),
            generated: row.get(2),
            required: row.get(3),
            insert: row.get(4),
        }
    }
}

async fn table(
    client: &Client,
    config: &PostgresConfig,
    name: &str,
    key: &[&str],
) -> Result<Option<Table>, PostgresError> {
    let asked = client
        .query_typed_opt(
            TABLE,
            &[(&config.schema, Type::TEXT), (&name, Type::TEXT), (&key, Type::TEXT_ARRAY)],
        )
        .await;
    let row = asked.map_err(|error| PostgresError::of(config, "read its catalog", error))?;
    Ok(row.map(|row| Table {
        ordinary: row.get(0),
        logged: row.get(1),
        has_key: row.get(2),
        usage: row.get(3),
        select: row.get(4),
        insert: row.get(5),
        update: row.get(6),
    }))
}

async fn columns(
    client: &Client,
    config: &PostgresConfig,
    name: &str,
) -> Result<Vec<Found>, PostgresError> {
    let asked =
        client.query_typed(COLUMNS, &[(&config.schema, Type::TEXT), (&name, Type::TEXT)]).await;
    let rows = asked.map_err(|error| PostgresError::of(config, "read its catalog", error))?;
    Ok(rows.iter().map(Found::of).collect())
}
