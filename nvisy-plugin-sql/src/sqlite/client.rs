//! An open database: the pools, and all of SQLite's language.

mod checkpoint;
mod memory;
mod read;
mod replace;
mod schema;
mod write;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nvisy_core::{Client, Error, ErrorKind, Result};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Executor};

pub(crate) use self::read::{From, Selection};
pub(crate) use self::schema::Table;
pub(crate) use self::write::{Extra, Taken, Target, Write, Writer};
use super::config::Sqlite;
use crate::error::translate;

/// How long a task waits for its turn at the connection that writes.
const TURN: Duration = Duration::from_secs(300);

/// An open SQLite database.
pub struct SqliteClient {
    identity: String,
    place: String,
    readers: SqlitePool,
    writer: Option<SqlitePool>,
}

impl Client for SqliteClient {
    const FAMILY: &'static str = "sql/sqlite";
}

impl fmt::Debug for SqliteClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteClient").field("identity", &self.identity).finish()
    }
}

impl SqliteClient {
    pub(crate) async fn open(config: &Sqlite) -> Result<Self> {
        Self::connect(config, false).await
    }

    /// Opens it to look into it, and changes nothing: where it is to be created, it is empty.
    pub(crate) async fn look(config: &Sqlite) -> Result<Self> {
        Self::connect(config, true).await
    }

    async fn connect(config: &Sqlite, looks: bool) -> Result<Self> {
        let place = format!("database \"{}\"", config.path);
        let path = Path::new(&config.path);
        let exists = path.exists();
        if !exists && !config.create {
            let message = format!("{place} does not exist: check the path, or set `create`");
            return Err(Error::new(ErrorKind::NotFound, message));
        }
        if let Some(directory) = path.parent()
            && !exists
            && !looks
        {
            std::fs::create_dir_all(directory).map_err(|e| unreachable_path(&place, e))?;
        }
        let path = std::path::absolute(path).map_err(|e| unreachable_path(&place, e))?;
        let mut options = SqliteConnectOptions::new()
            .busy_timeout(Duration::from_millis(config.busy_timeout_ms))
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        options = match exists || !looks {
            true => options.filename(&path).read_only(config.read_only),
            false => options.in_memory(true),
        };

        let writer = if config.read_only || looks {
            None
        } else {
            let mut options = options.clone().create_if_missing(config.create);
            match config.wal {
                Some(true) => options = options.journal_mode(SqliteJournalMode::Wal),
                Some(false) => options = options.journal_mode(SqliteJournalMode::Delete),
                None if !exists => options = options.journal_mode(SqliteJournalMode::Wal),
                None => {}
            }
            Some(pool(1).acquire_timeout(TURN).connect_lazy_with(options))
        };
        let readers = pool(config.readers.get()).connect_lazy_with(options.pragma("query_only", "on"));

        let identity = config.identity.clone().unwrap_or_else(|| canonical(&path).display().to_string());
        let client = Self { identity, place, readers, writer };
        if let Some(writer) = &client.writer
            && (!exists || config.wal.is_some())
        {
            // The writer opens first: it creates the file and sets how it keeps its journal.
            drop(writer.acquire().await.map_err(|e| client.error(e))?);
        }
        client.verify().await?;
        Ok(client)
    }

    /// Checks that the file is a database that can be read.
    pub(crate) async fn verify(&self) -> Result<()> {
        let mut connection = self.reader().await?;
        let checked = connection.execute("SELECT count(*) FROM sqlite_schema").await;
        checked.map(drop).map_err(|e| self.error(e))
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }

    /// Names the database in the ids of its items.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Names the database in messages.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    async fn reader(&self) -> Result<PoolConnection<sqlx::Sqlite>> {
        self.readers.acquire().await.map_err(|e| self.error(e))
    }

    async fn writer(&self) -> Result<PoolConnection<sqlx::Sqlite>> {
        let Some(writer) = &self.writer else {
            let message = format!("{} is opened read-only, as `read_only` and dry runs have it", self.place);
            return Err(Error::new(ErrorKind::Permission, message));
        };
        writer.acquire().await.map_err(|e| self.error(e))
    }

    fn error(&self, error: sqlx::Error) -> Error {
        translate(&self.place, error)
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).idle_timeout(None).max_lifetime(None)
}

fn unreachable_path(place: &str, error: std::io::Error) -> Error {
    let kind = match error.kind() {
        std::io::ErrorKind::PermissionDenied => ErrorKind::Permission,
        _ => ErrorKind::Configuration,
    };
    Error::new(kind, format!("{place}: its directory cannot be made: {error}")).with_source(error)
}

/// The path without links, as far as the file's directory has been made.
fn canonical(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    match (path.parent().map(Path::canonicalize), path.file_name()) {
        (Some(Ok(parent)), Some(name)) => parent.join(name),
        _ => path.to_owned(),
    }
}

/// Quotes an identifier.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nvisy_core::prelude::*;
    use nvisy_core::primitive::row::Row;
    use serde_json::json;

    use super::*;
    use crate::{SqliteSink, sqlite::Drift};

    fn rows(ids: std::ops::Range<u64>) -> Batch {
        let row = |id: u64| {
            let object = json!({"id": id, "text": "x".repeat(2_000), "wide": "y"});
            let row = Row::from_json(object.as_object().unwrap(), None).unwrap();
            Item::detached(&id.to_string(), row).into_primitive()
        };
        Batch::from_primitives(ids.map(row).collect())
    }

    async fn count(client: &SqliteClient) -> i64 {
        let mut reader = client.reader().await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *reader).await.unwrap()
    }

    #[tokio::test]
    async fn a_full_disk_takes_nothing_of_a_batch_and_all_of_it_when_there_is_room() {
        for wal in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("t.db");
            let config = Sqlite::at(path.to_str().unwrap()).create().wal(wal);
            let client = Arc::new(SqliteClient::open(&config).await.unwrap());
            let context = OpenContext::new(Context::detached(), client.clone());
            let sink = SqliteSink::table("t").upsert(["id"]).drift(Drift::Widen).create();
            let sink = sink.open(&context).await.unwrap();

            // As long as this connection lives, the file does not grow beyond.
            client.writer().await.unwrap().execute("PRAGMA max_page_count = 30").await.unwrap();
            let error = sink.write(&rows(0..100), context.context()).await.unwrap_err();
            assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Permission, RetryClass::Permanent));
            assert!(error.message().contains("table \"t\": the disk is full"), "{error}");
            assert!(client.describe("t").await.unwrap().is_none(), "the table went with its rows");

            assert!(sink.write(&rows(0..10), context.context()).await.unwrap().is_applied());
            client.writer().await.unwrap().execute("PRAGMA max_page_count = 30").await.unwrap();
            assert!(sink.write(&rows(5..100), context.context()).await.is_err());
            assert_eq!(count(&client).await, 10);
            assert!(sink.write(&rows(5..100), context.context()).await.unwrap().is_applied());
            assert_eq!(count(&client).await, 100);
        }
    }
}
