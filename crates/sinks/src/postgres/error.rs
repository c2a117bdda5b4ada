//! What can go wrong with a server, in sentences that say what to do, and in the classes that callers act by.
//!
//! A SQLSTATE alone decides the class, so that the language of the server's messages does not matter.

use std::time::Duration;

use tidegate_runtime::ports::Class;
use tidegate_runtime::spec::Span;
use tokio_postgres::error::SqlState;

use super::config::PostgresConfig;
use super::said::Said;
use crate::spec::{Cause, NotOpened};

/// A server or a table that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// Nobody answers there, or the connection broke.
    #[error("failed to speak with {place}: is it up, and are host and port right?")]
    Unreachable {
        /// Database and server.
        place: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// It did not answer in time.
    #[error("{place} did not answer within {}", Span::print(*.after))]
    Slow {
        /// Database and server.
        place: String,
        /// The time it had.
        after: Duration,
    },
    /// It does not take this role with this password.
    #[error(
        "{place} refuses the login of user {user}: correct the user, the secret of passwordEnv or \
         passwordFile, or the server's pg_hba.conf"
    )]
    Login {
        /// Database and server.
        place: String,
        /// Who tried.
        user: String,
        /// What the server says.
        #[source]
        source: Cause,
    },
    /// The secret of the login cannot be read.
    #[error("failed to read the password of user {user}")]
    Secret {
        /// Whose it is.
        user: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The server has no such database.
    #[error("{place} does not exist: create it, or correct the URL")]
    NoDatabase {
        /// Database and server.
        place: String,
        /// What the server says.
        #[source]
        source: Cause,
    },
    /// The connection cannot be encrypted as asked.
    #[error("failed to encrypt the connection to {place}: look at sslmode and sslrootcert")]
    Tls {
        /// Database and server.
        place: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The server is not known to do what the sink relies on.
    #[error("{place} runs on PostgreSQL {found}: version 14 or later is needed")]
    TooOld {
        /// Database and server.
        place: String,
        /// Its version.
        found: String,
    },
    /// It follows another server.
    #[error("{place} only takes reads: name the primary server, or wait until it is one")]
    ReadOnly {
        /// Database and server.
        place: String,
        /// What the server says, when a write was tried.
        #[source]
        source: Option<Cause>,
    },
    /// All its connections are taken.
    #[error("{place} takes no more connections: lower `connections`, or raise its max_connections")]
    Crowded {
        /// Database and server.
        place: String,
        /// What the server says.
        #[source]
        source: Cause,
    },
    /// Its disk is full.
    #[error("the disk of {place} is full: make room there, the write is tried again")]
    DiskFull {
        /// Database and server.
        place: String,
        /// What the server says.
        #[source]
        source: Cause,
    },
    /// A table is not as the sink needs it.
    #[error(transparent)]
    Schema(#[from] SchemaFault),
    /// It refused a statement.
    #[error("{place} failed to {doing}")]
    Statement {
        /// Database and server.
        place: String,
        /// What was being done.
        doing: &'static str,
        /// What the caller may do about it.
        class: Class,
        /// What the server says.
        #[source]
        source: Cause,
    },
}

/// A table that is not as the sink needs it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaFault {
    /// It is not there.
    #[error("there is no table {table}: create it, or let create=true do so")]
    NoTable {
        /// Schema and table.
        table: String,
    },
    /// The schema is not there.
    #[error("there is no schema {schema}: create it, or correct the URL")]
    NoSchema {
        /// Its name.
        schema: String,
    },
    /// It is a view, a foreign table or the like.
    #[error("{table} is no ordinary table: exactly-once needs one")]
    NoOrdinaryTable {
        /// Schema and table.
        table: String,
    },
    /// A crash of the server empties it.
    #[error("table {table} does not survive a crash of the server: ALTER TABLE {table} SET LOGGED")]
    Unlogged {
        /// Schema and table.
        table: String,
    },
    /// A column is missing.
    #[error(
        "table {table} has no column {column} of type {expected}: add it, or name another one in `columns`"
    )]
    NoColumn {
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
        /// The types that would do.
        expected: String,
    },
    /// A column has another type.
    #[error(
        "column {column} of table {table} is of type {found}, and {expected} is needed: alter it, or name another \
         one in `columns`"
    )]
    ColumnType {
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
        /// The type it has.
        found: String,
        /// The types that would do.
        expected: String,
    },
    /// A column cannot be written to.
    #[error("column {column} of table {table} is generated: name another one in `columns`")]
    Generated {
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
    },
    /// A column must be given and is not written.
    #[error(
        "column {column} of table {table} is NOT NULL, without a default, and not in `columns`: give it a default"
    )]
    Required {
        /// Schema and table.
        table: String,
        /// The column.
        column: String,
    },
    /// Its rows are not unique where they must be.
    #[error("table {table} has no primary key on ({columns}): add it")]
    NoKey {
        /// Schema and table.
        table: String,
        /// What the key must be on.
        columns: String,
    },
    /// The role may not do what it must.
    #[error("user {user} has no right {right} on {object}: GRANT {right} ON {object} TO {user}")]
    NoRight {
        /// The role.
        user: String,
        /// The right.
        right: &'static str,
        /// A schema or table.
        object: String,
    },
    /// A column has got another type since the sink was opened.
    #[error("the columns of table {table} have changed since it was opened: restart the consumer")]
    Changed {
        /// Schema and table.
        table: String,
    },
}

// === impl PostgresError ===

impl PostgresError {
    /// What the caller may do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Unreachable { .. }
            | Self::Slow { .. }
            | Self::ReadOnly { .. }
            | Self::Crowded { .. }
            | Self::DiskFull { .. } => Class::Transient,
            Self::Statement { class, .. } => *class,
            Self::Login { .. }
            | Self::Secret { .. }
            | Self::NoDatabase { .. }
            | Self::Tls { .. }
            | Self::TooOld { .. }
            | Self::Schema(_) => Class::Permanent,
        }
    }

    /// What the client library says, put into the sentence for it.
    pub(super) fn of(
        config: &PostgresConfig,
        doing: &'static str,
        error: tokio_postgres::Error,
    ) -> Self {
        let place = config.to_string();
        let Some(state) = error.code().cloned() else {
            return Self::without_state(config, error);
        };
        let said = error.as_db_error().map(Said::of);
        let source: Cause = said.map_or_else(|| "no details".into(), Into::into);
        match state {
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                Self::Login { place, user: config.user.clone(), source }
            }
            SqlState::UNDEFINED_DATABASE => Self::NoDatabase { place, source },
            SqlState::READ_ONLY_SQL_TRANSACTION => Self::ReadOnly { place, source: Some(source) },
            SqlState::TOO_MANY_CONNECTIONS => Self::Crowded { place, source },
            SqlState::DISK_FULL => Self::DiskFull { place, source },
            _ => Self::Statement { place, doing, class: class(&state), source },
        }
    }

    /// What is not the server's word. The library tells its kinds apart in their texts only. A handshake that the network
    /// or the end of the server broke off is no fault of TLS.
    fn without_state(config: &PostgresConfig, error: tokio_postgres::Error) -> Self {
        let place = config.to_string();
        let (mut io, mut tls, kind) = (false, false, error.to_string());
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(current) = cause {
            if let Some(failure) = current.downcast_ref::<std::io::Error>() {
                io = true;
                let inner = failure.get_ref();
                tls |= inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).is_some();
            }
            cause = current.source();
        }
        let source = error.into();
        if tls || (!io && kind.contains("TLS")) {
            Self::Tls { place, source }
        } else if !io && (kind.contains("configuration") || kind.contains("authentication")) {
            Self::Login { place, user: config.user.clone(), source }
        } else {
            Self::Unreachable { place, source }
        }
    }

    /// True when a look at the tables may tell more.
    pub(super) fn is_about_schema(&self) -> bool {
        let Self::Statement { source, .. } = self else { return false };
        let server = source.downcast_ref::<Said>();
        server.is_some_and(|said| said.state.code().starts_with("42"))
    }
}

impl From<PostgresError> for NotOpened {
    fn from(error: PostgresError) -> Self {
        Self { class: error.class(), source: error.into() }
    }
}

/// By the first two characters of a SQLSTATE: what passes by itself, of which these are all that can meet the sink:
/// connection (08), ended by a time-out (25P0x), conflicts between transactions (40), resources (53), locks and objects in
/// use (55), an operator's interventions (57) and failures of the server's machine (58).
fn class(state: &SqlState) -> Class {
    let code = state.code();
    let passes = ["08", "25P", "40", "53", "55", "57", "58"];
    if passes.iter().any(|class| code.starts_with(class)) {
        Class::Transient
    } else {
        Class::Permanent
    }
}

/// A record that the server will not take: its place among those sent, counted from 0, and why, without its data.
///
/// The place is in the context of the message, which is `COPY table, line 3, column …` where the server speaks English.
/// Elsewhere it stays unknown, and the batch is refused as a whole.
pub(super) fn rejected_row(error: &tokio_postgres::Error) -> Option<(usize, String)> {
    let error = error.as_db_error()?;
    let state = error.code();
    let is_of_a_row = state.code().starts_with("22")
        || [
            SqlState::NOT_NULL_VIOLATION,
            SqlState::CHECK_VIOLATION,
            SqlState::STATEMENT_TOO_COMPLEX,
            SqlState::PROGRAM_LIMIT_EXCEEDED,
        ]
        .contains(state);
    if !is_of_a_row {
        return None;
    }
    let context = error.where_()?.lines().find(|line| line.starts_with("COPY "))?;
    let (_, after) = context.split_once(", line ")?;
    let digits = after.split(|letter: char| !letter.is_ascii_digit()).next()?;
    let row = digits.parse::<usize>().ok()?.checked_sub(1)?;
    Some((row, Said::of(error).reason()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_transient_and_what_a_person_must_change_is_not() {
        let transient = [
            "08006", "25P03", "40001", "40P01", "53100", "53300", "55P03", "57P01", "57P03",
            "58030",
        ];
        for code in transient {
            assert_eq!(class(&SqlState::from_code(code)), Class::Transient, "{code}");
        }
        for code in ["28P01", "3D000", "42501", "42P01", "42703", "22P02", "23505", "0A000"] {
            assert_eq!(class(&SqlState::from_code(code)), Class::Permanent, "{code}");
        }
    }

    #[test]
    fn a_missing_right_is_a_sentence_with_its_cure() {
        let fault = SchemaFault::NoRight {
            user: "loader".to_owned(),
            right: "INSERT",
            object: "TABLE public.records".to_owned(),
        };
        assert_eq!(
            fault.to_string(),
            "user loader has no right INSERT on TABLE public.records: GRANT INSERT ON TABLE public.records TO loader"
        );
    }
}
