//! The `postgres` sink by URL: which server, which table, which columns.
//!
//! Everything that can be wrong with the text is found here, before anything is contacted. Texts of errors never repeat
//! what may hold a password.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tidegate_runtime::security::{Secret, SecretError};
use tidegate_runtime::spec::Span;

/// The table of positions, beside the table of records.
pub(super) const OFFSETS: &str = "tidegate_offsets";

/// What a longer name would be cut to, without an error.
const LONGEST_NAME: usize = 63;

/// The options, for error texts.
const OPTIONS: &str = "table, schema, create, columns, sslmode, sslrootcert, connections, timeout, passwordEnv, \
                       passwordFile";

/// Where a `postgres` sink writes, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PostgresConfig {
    /// The server's name or address, or the absolute folder of its Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The role that logs in.
    pub user: String,
    /// Where its password is kept, read at each connect.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// The schema of both tables.
    pub schema: String,
    /// The table of records.
    pub table: String,
    /// Whether tables that are absent are created.
    pub create: bool,
    /// What is written to which column; at least one.
    pub columns: Vec<(Field, String)>,
    /// Whether the connection is encrypted, and what is checked.
    pub ssl_mode: SslMode,
    /// The authorities that `verify-full` trusts, as PEM; those of the system when absent.
    pub ssl_root_cert: Option<PathBuf>,
    /// Most connections at a time: from 1 to 100. A write uses one of them. The default of 4 keeps a server's two cores
    /// busy and takes few of its 100 connections.
    pub connections: usize,
    /// How long a stopped owner may hold a partition up, and how long a connect may take: from 100 ms to an hour. It
    /// should be `ownership.writeTimeout`, whose default of 5 s it has.
    pub timeout: Duration,
}

/// A part of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    /// The topic's name.
    Topic,
    /// The partition's number.
    Partition,
    /// The offset.
    Offset,
    /// The timestamp.
    Timestamp,
    /// The key.
    Key,
    /// The value.
    Value,
    /// The headers, as JSON.
    Headers,
}

/// Encryption of the connection, by the names that PostgreSQL's own clients use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// None.
    Disable,
    /// If the server has it, with any certificate: no help against somebody in between.
    Prefer,
    /// Always, with any certificate.
    Require,
    /// Always; the certificate must be for this host and signed by a trusted authority.
    VerifyFull,
}

// === impl Field ===

impl Field {
    /// All of them, in the order of the columns.
    pub const ALL: [Self; 7] = [
        Self::Topic,
        Self::Partition,
        Self::Offset,
        Self::Timestamp,
        Self::Key,
        Self::Value,
        Self::Headers,
    ];

    /// The name in `columns`, which is also the column's where nothing else is said.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Partition => "partition",
            Self::Offset => "offset",
            Self::Timestamp => "timestamp",
            Self::Key => "key",
            Self::Value => "value",
            Self::Headers => "headers",
        }
    }
}

// === impl PostgresConfig ===

impl PostgresConfig {
    /// Reads what follows the scheme's colon: `//user@host:port/database?option=value&…`.
    pub fn parse(rest: &str) -> Result<Self, String> {
        const FORM: &str = "postgres://user@host:port/database?table=records is expected";
        let rest = rest.strip_prefix("//").ok_or(FORM)?;
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = place.split_once('/').ok_or(FORM)?;
        let (user, address) = authority.rsplit_once('@').ok_or(FORM)?;
        if user.contains(':') {
            return Err("expected a URL without password: give passwordEnv=NAME or \
                        passwordFile=/path"
                .to_owned());
        }
        let (host, port) = host_and_port(address)?;
        let mut config = Self {
            host,
            port,
            user: decoded("the user", user)?,
            password: None,
            database: decoded("the database", database)?,
            schema: "public".to_owned(),
            table: "records".to_owned(),
            create: true,
            columns: Field::ALL.map(|field| (field, field.name().to_owned())).to_vec(),
            ssl_mode: SslMode::Prefer,
            ssl_root_cert: None,
            connections: 4,
            timeout: Duration::from_secs(5),
        };
        if config.host.is_empty() || config.user.is_empty() || config.database.is_empty() {
            return Err(FORM.to_owned());
        }
        for option in options.split('&').filter(|option| !option.is_empty()) {
            config.set(option)?;
        }
        config.fault().map_or(Ok(config), Err)
    }

    /// The same for PostgreSQL's own programs, which read it from their environment. Blocks while it reads the password.
    pub fn environment(&self) -> Result<Vec<(&'static str, String)>, SecretError> {
        let mut all = vec![
            ("PGHOST", self.host.clone()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", self.user.clone()),
            ("PGDATABASE", self.database.clone()),
            ("PGSSLMODE", self.ssl_mode.name().to_owned()),
        ];
        if let Some(authorities) = &self.ssl_root_cert {
            all.push(("PGSSLROOTCERT", authorities.display().to_string()));
        }
        if let Some(password) = &self.password {
            all.push(("PGPASSWORD", password.read()?));
        }
        Ok(all)
    }

    fn set(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = &decoded(name, value)?;
        match name {
            "table" => self.table.clone_from(value),
            "schema" => self.schema.clone_from(value),
            "create" => {
                self.create = value
                    .parse()
                    .map_err(|_| format!("create={value} is neither true nor false"))?;
            }
            "columns" => self.columns = columns(value)?,
            "sslmode" => self.ssl_mode = SslMode::parse(value)?,
            "sslrootcert" => self.ssl_root_cert = Some(value.into()),
            "connections" => {
                self.connections =
                    value.parse().map_err(|_| format!("connections={value} is no number"))?;
            }
            "timeout" => self.timeout = Span::parse(value)?,
            "passwordEnv" => self.password = Some(Secret::Env(value.clone())),
            "passwordFile" => self.password = Some(Secret::File(value.clone())),
            "password" => {
                return Err("a password is given by reference: passwordEnv=NAME or \
                            passwordFile=/path"
                    .to_owned());
            }
            _ => return Err(format!("option {name:?} is not one of {OPTIONS}")),
        }
        Ok(())
    }

    /// What is out of bounds, named; `None` when nothing is.
    fn fault(&self) -> Option<String> {
        let names = [&self.schema, &self.table].into_iter();
        let mut names = names.chain(self.columns.iter().map(|(_, column)| column));
        if let Some(name) = names.find(|name| !is_name(name)) {
            return Some(format!("{name:?} is no name of 1 to {LONGEST_NAME} bytes"));
        }
        if self.table == OFFSETS {
            return Some(format!("table={OFFSETS} is where the positions are: name another one"));
        }
        if !(1..=100).contains(&self.connections) {
            return Some(format!("connections={} is not in 1..100", self.connections));
        }
        let (least, most) = (Duration::from_millis(100), Duration::from_secs(3600));
        if !(least..=most).contains(&self.timeout) {
            return Some(format!("timeout={} is not in 100ms..1h", Span::print(self.timeout)));
        }
        if self.ssl_root_cert.is_some() && self.ssl_mode != SslMode::VerifyFull {
            return Some("sslrootcert is for sslmode=verify-full".to_owned());
        }
        None
    }

    /// The table of records, as SQL writes it.
    pub(super) fn records(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.table))
    }

    /// The table of positions, as SQL writes it.
    pub(super) fn offsets(&self) -> String {
        format!("{}.{OFFSETS}", quoted(&self.schema))
    }

    /// The columns of records, as SQL writes them.
    pub(super) fn column_list(&self) -> String {
        self.columns.iter().map(|(_, column)| quoted(column)).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for PostgresConfig {
    /// The server and the database, for error texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database {} at {}:{}", self.database, self.host, self.port)
    }
}

// === impl SslMode ===

impl SslMode {
    const ALL: [Self; 4] = [Self::Disable, Self::Prefer, Self::Require, Self::VerifyFull];

    const fn name(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyFull => "verify-full",
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("sslmode={text} is not one of {names}")
        })
    }
}

// === helpers ===

/// A name as SQL writes it, whatever it holds.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn is_name(name: &str) -> bool {
    (1..=LONGEST_NAME).contains(&name.len()) && !name.contains('\0')
}

fn decoded(what: &str, text: &str) -> Result<String, String> {
    crate::spec::percent_decoded(text).ok_or_else(|| format!("{what} has a bad % escape"))
}

fn host_and_port(address: &str) -> Result<(String, u16), String> {
    let bad = || format!("{address:?} is not host, host:port or [address]:port");
    let (host, port) = match address.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((host, port))) => (host, port.strip_prefix(':')),
        Some(None) => return Err(bad()),
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = port.map_or(Ok(5432), |port| port.parse().map_err(|_| bad()))?;
    Ok((decoded("the host", host)?, port))
}

/// Reads `topic,offset:position,…`: fields, each with the name of its column where that is another one.
fn columns(text: &str) -> Result<Vec<(Field, String)>, String> {
    let mut columns: Vec<(Field, String)> = Vec::new();
    for entry in text.split(',') {
        let (name, column) = entry.split_once(':').unwrap_or((entry, entry));
        let field = Field::ALL.into_iter().find(|field| field.name() == name).ok_or_else(|| {
            let names = Field::ALL.map(Field::name).join(", ");
            format!("columns: {name:?} is not one of {names}")
        })?;
        if columns.iter().any(|(known, of)| *known == field || of == column) {
            return Err(format!("columns: {entry:?} repeats a field or a column"));
        }
        columns.push((field, column.to_owned()));
    }
    Ok(columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(rest: &str) -> String {
        PostgresConfig::parse(rest).unwrap_err()
    }

    #[test]
    fn a_url_names_server_table_and_columns() {
        let config = PostgresConfig::parse(
            "//load%40er@[::1]:6000/lake?table=orders&schema=raw&create=false\
             &columns=offset:position,value&sslmode=verify-full&sslrootcert=/ca.pem&connections=2\
             &timeout=7s&passwordEnv=PG",
        )
        .unwrap();
        assert_eq!((config.host.as_str(), config.port), ("::1", 6000));
        assert_eq!((config.user.as_str(), config.database.as_str()), ("load@er", "lake"));
        assert_eq!(config.records(), "\"raw\".\"orders\"");
        assert_eq!(config.column_list(), "\"position\", \"value\"");
        assert!(!config.create);
        assert_eq!(config.ssl_mode, SslMode::VerifyFull);
        assert_eq!((config.connections, config.timeout), (2, Duration::from_secs(7)));
        assert_eq!(config.password, Some(Secret::Env("PG".to_owned())));
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let config = PostgresConfig::parse("//u@%2Frun%2Fpostgresql/d").unwrap();
        assert_eq!((config.host.as_str(), config.port), ("/run/postgresql", 5432));
        assert_eq!(config.records(), "\"public\".\"records\"");
        assert_eq!(config.columns.len(), Field::ALL.len());
        assert_eq!(config.timeout, Duration::from_secs(5));
    }

    #[test]
    fn faults_say_what_is_expected_and_repeat_no_password() {
        assert!(fault("/u@h/d").contains("postgres://user@host:port/database"));
        assert!(fault("//h/d").contains("postgres://user@host:port/database"));
        assert!(fault("//u:hunter2@h/d").contains("passwordEnv"));
        assert!(!fault("//u:hunter2@h/d").contains("hunter2"));
        assert!(fault("//u@h/d?password=hunter2").contains("passwordFile"));
        assert!(!fault("//u@h/d?password=hunter2").contains("hunter2"));
        assert!(fault("//u@h:x/d").contains("host:port"));
        assert!(fault("//u@h/d?columns=topic,size").contains("\"size\" is not one of topic"));
        assert!(fault("//u@h/d?columns=key:a,value:a").contains("repeats"));
        assert!(fault("//u@h/d?table=tidegate_offsets").contains("name another one"));
        assert!(fault("//u@h/d?connections=0").contains("not in 1..100"));
        assert!(fault("//u@h/d?timeout=1ms").contains("not in 100ms..1h"));
        assert!(fault("//u@h/d?sslmode=allow").contains("verify-full"));
        assert!(fault("//u@h/d?fast=yes").contains("option \"fast\" is not one of"));
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }
}
