//! A bare `COPY` of the same rows: what the speed of the sink is measured against.
//!
//! It has what any loader must have (a connection, one transaction for each batch, rows in the same form) and nothing that
//! makes the sink exactly-once.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::SinkExt as _;
use tidegate_runtime::ports::{Batch, TopicPartition};

use super::connect::{Session, copy, in_time, log_in};
use super::encode::{Column, Unfit, encode};
use super::error::PostgresError;
use super::{PostgresConfig, schema};

/// A connection that copies rows into the table of a sink, without its guarantee. For measurements only.
pub struct BareCopy {
    config: Arc<PostgresConfig>,
    columns: Vec<Column>,
    session: Session,
}

impl std::fmt::Debug for BareCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BareCopy").field("config", &self.config).finish_non_exhaustive()
    }
}

impl BareCopy {
    /// Connects, and provides the table as the sink does.
    pub async fn open(config: PostgresConfig) -> Result<Self, PostgresError> {
        let config = Arc::new(config);
        let opening = async {
            let session = log_in(&config).await?;
            let columns = schema::provide(&session.client, &config).await?;
            Ok((session, columns))
        };
        let (session, columns) = in_time(&config, opening).await?;
        Ok(Self { config, columns, session })
    }

    /// How a `COPY` into the table is called by psql, when the rows are in a file: what [`BareCopy::rows`] returns.
    pub fn psql_command(&self, file: &str) -> String {
        let (table, columns) = (self.config.records(), self.config.column_list());
        format!(
            "\\copy {table} ({columns}) from '{}' with (format binary)",
            file.replace('\'', "''")
        )
    }

    /// The rows of a batch in the form of `COPY`.
    pub async fn rows(
        &self,
        partition: &TopicPartition,
        batch: Batch<'_>,
    ) -> Result<Vec<Bytes>, PostgresError> {
        let unfit = |unfit: Unfit| PostgresError::Statement {
            place: self.config.to_string(),
            doing: "take the records",
            class: tidegate_runtime::ports::Class::Permanent,
            source: format!("{unfit:?}").into(),
        };
        encode(&self.columns, partition, batch).await.map_err(unfit)
    }

    /// Copies the records of a batch in a transaction of its own, and returns how many rows there are more.
    pub async fn copy(
        &self,
        partition: &TopicPartition,
        batch: Batch<'_>,
    ) -> Result<u64, PostgresError> {
        let rows = self.rows(partition, batch).await?;
        let copied = async {
            let mut into = pin!(self.session.client.copy_in(&copy(&self.config)).await?);
            for slice in rows {
                into.send(slice).await?;
            }
            into.finish().await
        };
        copied.await.map_err(|error| PostgresError::of(&self.config, "take the records", error))
    }
}
