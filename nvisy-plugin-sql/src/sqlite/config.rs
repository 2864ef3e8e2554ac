//! The connection to a SQLite database file.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use nvisy_core::config::Problem;
use nvisy_core::connection::Reach;
use nvisy_core::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::SqliteClient;

const BUSY_TIMEOUT_MS: u64 = 10_000;
const READERS: u32 = 4;

/// A SQLite database file: `sql/sqlite`.
///
/// One connection writes, several read. A source never writes: its connections are read-only
/// to SQLite itself.
///
/// # Examples
///
/// ```
/// use nvisy_plugin_sql::Sqlite;
///
/// let tickets = Sqlite::at("tickets.db").create();
/// assert_eq!(serde_json::to_string(&tickets).unwrap(), r#"{"path":"tickets.db","create":true}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "SqliteConnection")]
#[serde(deny_unknown_fields)]
pub struct Sqlite {
    /// The path of the file.
    pub path: String,
    /// Whether the file, and its directory, are created if they do not exist. Default no.
    #[serde(default, skip_serializing_if = "is_false")]
    pub create: bool,
    /// Whether nothing may be written. Default no.
    #[serde(default, skip_serializing_if = "is_false")]
    pub read_only: bool,
    /// Whether the database keeps a write-ahead log, which lets readers read while a writer
    /// writes. Default: a file that is created here does, any other stays as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wal: Option<bool>,
    /// How long to wait for another program's lock, in milliseconds. Default 10,000.
    #[serde(default = "default_busy_timeout_ms", skip_serializing_if = "is_default_busy_timeout")]
    pub busy_timeout_ms: u64,
    /// How many connections read at once. Default 4.
    #[serde(default = "default_readers", skip_serializing_if = "is_default_readers")]
    pub readers: NonZeroU32,
    /// What the database is called in the ids of its items. Default its absolute path: name it
    /// to keep the ids when the file moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn default_busy_timeout_ms() -> u64 {
    BUSY_TIMEOUT_MS
}

fn is_default_busy_timeout(value: &u64) -> bool {
    *value == BUSY_TIMEOUT_MS
}

fn default_readers() -> NonZeroU32 {
    NonZeroU32::new(READERS).unwrap_or(NonZeroU32::MIN)
}

fn is_default_readers(value: &NonZeroU32) -> bool {
    *value == default_readers()
}

impl Sqlite {
    /// The database file at a path.
    #[must_use]
    pub fn at(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            create: false,
            read_only: false,
            wal: None,
            busy_timeout_ms: BUSY_TIMEOUT_MS,
            readers: default_readers(),
            identity: None,
        }
    }

    /// Creates the file, and its directory, if they do not exist.
    #[must_use]
    pub fn create(mut self) -> Self {
        self.create = true;
        self
    }

    /// Refuses to write.
    #[must_use]
    pub fn read_only(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Says whether the database keeps a write-ahead log.
    #[must_use]
    pub fn wal(mut self, wal: bool) -> Self {
        self.wal = Some(wal);
        self
    }

    /// Sets how long to wait for another program's lock. Default 10 seconds.
    #[must_use]
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self
    }

    /// Sets how many connections read at once. Default 4.
    #[must_use]
    pub fn readers(mut self, readers: NonZeroU32) -> Self {
        self.readers = readers;
        self
    }

    /// Names the database in the ids of its items, whatever its path.
    #[must_use]
    pub fn known_as(mut self, identity: impl Into<String>) -> Self {
        self.identity = Some(identity.into());
        self
    }
}

impl Connection for Sqlite {
    const NAME: &'static str = "sql/sqlite";
    type Client = SqliteClient;

    fn validate(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if self.path.is_empty() {
            problems.push(Problem::new("path", "is empty").with_help("give the path of a database file"));
        }
        if self.path == ":memory:" {
            let problem = Problem::new("path", "a database in memory is gone with each of its connections");
            problems.push(problem.with_help("give the path of a file"));
        }
        if self.path.contains('\0') {
            problems.push(Problem::new("path", "holds a NUL character"));
        }
        if self.create && self.read_only {
            problems.push(Problem::new("create", "a read-only database cannot be created"));
        }
        if self.busy_timeout_ms > i32::MAX as u64 {
            problems.push(Problem::new("busy_timeout_ms", format!("is more than {} ms", i32::MAX)));
        }
        problems
    }

    fn reach(&self) -> Vec<Reach> {
        vec![Reach::Files { setting: "path".into() }]
    }

    async fn connect(&self, context: &ConnectContext) -> Result<SqliteClient> {
        if !context.is_rehearsal() {
            return SqliteClient::open(self).await;
        }
        let client = SqliteClient::look(self).await?;
        if !Path::new(&self.path).exists() {
            context.note_missing(client.place());
        }
        Ok(client)
    }

    async fn verify(&self, client: &SqliteClient) -> Result<()> {
        client.verify().await
    }

    async fn disconnect(&self, client: &SqliteClient) -> Result<()> {
        client.close().await;
        Ok(())
    }
}
