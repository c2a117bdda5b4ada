//! A schema that is made for a while.

use std::sync::Arc;

use super::PostgresConfig;
use super::config::quoted;
use super::connect::log_in;
use super::error::PostgresError;

/// Makes the schema of these settings.
pub(crate) async fn make(config: &PostgresConfig) -> Result<(), PostgresError> {
    let statement = format!("CREATE SCHEMA {}", quoted(&config.schema));
    execute(config, &statement, "create a schema").await
}

/// Drops it with its tables.
pub(crate) async fn discard(config: &PostgresConfig) -> Result<(), PostgresError> {
    let statement = format!("DROP SCHEMA {} CASCADE", quoted(&config.schema));
    execute(config, &statement, "drop a schema").await
}

async fn execute(
    config: &PostgresConfig,
    statement: &str,
    doing: &'static str,
) -> Result<(), PostgresError> {
    let session = log_in(&Arc::new(config.clone())).await?;
    let executed = session.client.batch_execute(statement).await;
    executed.map_err(|error| PostgresError::of(config, doing, error))
}
