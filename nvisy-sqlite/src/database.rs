//! An open file: one connection that writes, several that read.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nvisy_core::{Error, ErrorKind, Result};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, Executor, Transaction};

use crate::error::{translate, translate_commit};
use crate::file::{Content, File};
use crate::reader::Reader;

/// How long a task waits for its turn at the connection that writes, or at one that reads.
const TURN: Duration = Duration::from_secs(300);

/// An open SQLite file: what a plugin's client speaks its own language through.
///
/// One connection writes, and whoever wants to waits for a turn. Those that read are read-only to
/// SQLite itself. A commit is on the disk when it returns (`synchronous = FULL`).
///
/// # Examples
///
/// The example of [`Content`] opens one.
pub struct Database {
    identity: String,
    place: String,
    readers: SqlitePool,
    writer: Option<SqlitePool>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("identity", &self.identity).finish()
    }
}

impl Database {
    /// Opens a file, and creates it with its directory where its settings ask for that.
    ///
    /// # Errors
    ///
    /// `not_found` if there is no file and none is to be created; `configuration` if it is no
    /// database; `permission` and the like if it cannot be read.
    pub async fn open<C: Content>(file: &File<C>) -> Result<Self> {
        Self::connect(file, false).await
    }

    /// Opens a file to look into it, and changes nothing: where it is to be created, it is empty.
    ///
    /// # Errors
    ///
    /// Those of [`open`](Self::open).
    pub async fn look<C: Content>(file: &File<C>) -> Result<Self> {
        Self::connect(file, true).await
    }

    async fn connect<C: Content>(file: &File<C>, looks: bool) -> Result<Self> {
        C::prepare()?;
        let place = format!("{} \"{}\"", C::NOUN, file.path);
        let path = Path::new(&file.path);
        let exists = path.exists();
        if !exists && !file.create {
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
            .busy_timeout(Duration::from_millis(file.busy_timeout_ms))
            .synchronous(SqliteSynchronous::Full)
            .disable_statement_logging();
        options = match exists || !looks {
            true => options.filename(&path).read_only(file.read_only),
            false => options.in_memory(true),
        };

        let writer = if file.read_only || looks {
            None
        } else {
            let mut options = options.clone().create_if_missing(file.create);
            match file.wal {
                Some(true) => options = options.journal_mode(SqliteJournalMode::Wal),
                Some(false) => options = options.journal_mode(SqliteJournalMode::Delete),
                None if !exists => options = options.journal_mode(SqliteJournalMode::Wal),
                None => {}
            }
            // SQLite ends a transaction of its own accord where the disk fails, and the driver believes
            // it open: such a connection writes nothing any more, and another takes its place.
            let pool = pool(1)
                .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }));
            Some(pool.connect_lazy_with(options))
        };
        let readers = pool(file.readers.get()).connect_lazy_with(options.pragma("query_only", "on"));

        let identity = file.identity.clone().unwrap_or_else(|| canonical(&path).display().to_string());
        let database = Self { identity, place, readers, writer };
        if let Some(writer) = &database.writer
            && (!exists || file.wal.is_some())
        {
            // The writer opens first: it creates the file and sets how it keeps its journal.
            drop(writer.acquire().await.map_err(|e| database.error(e))?);
        }
        database.verify().await?;
        Ok(database)
    }

    /// Checks that the file is a database that can be read.
    ///
    /// # Errors
    ///
    /// `configuration` if it is no database; `permission` and the like if it cannot be read.
    pub async fn verify(&self) -> Result<()> {
        let mut connection = self.reader().await?;
        let checked = connection.execute("SELECT count(*) FROM sqlite_schema").await;
        checked.map(drop).map_err(|e| self.error(e))
    }

    /// Closes the connections, when they are no longer in use.
    pub async fn close(&self) {
        self.readers.close().await;
        if let Some(writer) = &self.writer {
            writer.close().await;
        }
    }

    /// Returns what the file is called in the ids of its items.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Returns what the file is called in messages: `database "a.db"`.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns a connection that reads, when one is free. Dropped, it breaks off the query that it is
    /// still at.
    ///
    /// # Errors
    ///
    /// `timeout` if every connection stays in use; what [`translate`] says where one cannot be opened.
    pub async fn reader(&self) -> Result<Reader> {
        let connection = self.readers.acquire().await.map_err(|error| match error {
            sqlx::Error::PoolTimedOut => {
                let (place, seconds) = (&self.place, TURN.as_secs());
                let message = format!(
                    "{place}: every connection that reads stayed in use for {seconds} seconds: raise `readers`, or \
                     make what is read lighter"
                );
                Error::new(ErrorKind::Timeout, message).with_source(error)
            }
            error => self.error(error),
        })?;
        Reader::new(connection).await.map_err(|error| self.error(error))
    }

    /// Returns the connection that writes, when it is free.
    ///
    /// # Errors
    ///
    /// `permission` if the file is opened read-only; else those of [`reader`](Self::reader).
    pub async fn writer(&self) -> Result<PoolConnection<sqlx::Sqlite>> {
        self.writers()?.acquire().await.map_err(|e| self.error(e))
    }

    /// Begins a transaction that writes, when it is its turn. Dropped, it changes nothing.
    ///
    /// # Errors
    ///
    /// Those of [`writer`](Self::writer); `timeout` if another program holds the write lock.
    pub async fn begin(&self) -> Result<Transaction<'static, sqlx::Sqlite>> {
        self.writers()?.begin_with("BEGIN IMMEDIATE").await.map_err(|e| self.error(e))
    }

    /// Commits a transaction.
    ///
    /// # Errors
    ///
    /// `ambiguous` if the disk failed: whether it was done is open; else those of any statement.
    pub async fn commit(&self, transaction: Transaction<'static, sqlx::Sqlite>) -> Result<()> {
        transaction.commit().await.map_err(|e| translate_commit(&self.place, e))
    }

    fn writers(&self) -> Result<&SqlitePool> {
        self.writer.as_ref().ok_or_else(|| {
            let message = format!(
                "{} is opened read-only: unset `read_only` to write, where this is no dry run",
                self.place
            );
            Error::new(ErrorKind::Permission, message)
        })
    }

    /// Translates an error of the driver about this file.
    #[must_use]
    pub fn error(&self, error: sqlx::Error) -> Error {
        translate(&self.place, error)
    }

    /// Returns the error of a table, a collection, or `what` else the file does not have under
    /// `name`: it says which there are.
    #[must_use]
    pub fn no_such(&self, what: &str, name: &str, there: &[String]) -> Error {
        const SHOWN: usize = 10;
        let mut held: Vec<String> = there.iter().take(SHOWN).map(|name| format!("\"{name}\"")).collect();
        if there.len() > SHOWN {
            held.push("…".to_owned());
        }
        let held = if held.is_empty() { "none".to_owned() } else { held.join(", ") };
        let place = &self.place;
        Error::new(
            ErrorKind::NotFound,
            format!(
                "{place}: {what} \"{name}\" does not exist; it holds {held}: check its name, or let a sink create it, with `create`"
            ),
        )
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    let pool = SqlitePoolOptions::new().max_connections(connections).acquire_timeout(TURN);
    pool.idle_timeout(None).max_lifetime(None)
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

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use nvisy_core::RetryClass;
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::file::tests::{Notes, Place};
    use crate::is_about_the_item;

    async fn fails(database: &Database, sql: &str) -> sqlx::Error {
        let mut writer = database.writer().await.unwrap();
        writer.execute(AssertSqlSafe(sql)).await.unwrap_err()
    }

    #[tokio::test]
    async fn what_sqlite_says_has_a_kind_and_names_the_file() {
        let place = Place::new();
        let database = Database::open(&place.file().create()).await.unwrap();
        let mut writer = database.writer().await.unwrap();
        writer.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b NOT NULL)").await.unwrap();
        drop(writer);
        for (sql, kind, says, of_the_item) in [
            ("SELECT 1 +", ErrorKind::Configuration, "incomplete input", false),
            ("SELECT * FROM nowhere", ErrorKind::NotFound, "no such table: nowhere", false),
            ("INSERT INTO t VALUES (1, 2), (1, 2)", ErrorKind::Conflict, "UNIQUE constraint failed", true),
            ("INSERT INTO t (a) VALUES (1)", ErrorKind::Validation, "NOT NULL constraint failed", true),
            ("INSERT INTO t VALUES ('x', 2)", ErrorKind::Validation, "datatype mismatch", true),
        ] {
            let error = fails(&database, sql).await;
            assert_eq!(is_about_the_item(&error), of_the_item, "{sql}");
            let error = database.error(error);
            assert_eq!(error.kind(), kind, "{sql}: {error}");
            assert!(error.message().starts_with(&format!("{}: ", place.named())), "{error}");
            assert!(error.message().contains(says), "{error}");
        }
    }

    #[tokio::test]
    async fn another_programs_lock_is_a_timeout_that_may_be_tried_again() {
        let place = Place::new();
        let file = place.file().create().busy_timeout(Duration::ZERO);
        let (holder, waiter) = (Database::open(&file).await.unwrap(), Database::open(&file).await.unwrap());
        let held = holder.begin().await.unwrap();
        let error = waiter.begin().await.unwrap_err();
        assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Timeout, RetryClass::Transient));
        assert!(error.message().contains("raise `busy_timeout_ms`"), "{error}");
        drop(held);
        waiter.commit(waiter.begin().await.unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn who_wants_to_read_waits_for_a_turn_as_who_wants_to_write() {
        let place = Place::new();
        let file = place.file().create().readers(NonZeroU32::MIN);
        let database = Database::open(&file).await.unwrap();
        let held = database.reader().await.unwrap();
        tokio::time::pause();
        let begun = tokio::time::Instant::now();
        let error = database.reader().await.unwrap_err();
        assert!(begun.elapsed() >= TURN, "{:?}", begun.elapsed());
        assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Timeout, RetryClass::Transient));
        assert!(error.message().contains("stayed in use for 300 seconds: raise `readers`"), "{error}");
        drop(held);
    }

    #[tokio::test]
    async fn what_reads_cannot_write_and_what_is_read_only_has_no_writer() {
        let place = Place::new();
        let database = Database::open(&place.file().create()).await.unwrap();
        let mut reader = database.reader().await.unwrap();
        let error = database.error(reader.execute("CREATE TABLE t (a)").await.unwrap_err());
        assert_eq!(error.kind(), ErrorKind::Permission, "{error}");
        let database = Database::open(&place.file().read_only()).await.unwrap();
        let error = database.writer().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.message().contains("unset `read_only`"), "{error}");
    }

    #[tokio::test]
    async fn a_transaction_that_sqlite_ends_of_its_own_accord_is_in_nobodys_way() {
        let place = Place::new();
        let database = Database::open(&place.file().create()).await.unwrap();
        let mut writer = database.writer().await.unwrap();
        writer.execute("CREATE TABLE t (a); PRAGMA max_page_count = 8").await.unwrap();
        drop(writer);
        let mut transaction = database.begin().await.unwrap();
        let error = transaction.execute("INSERT INTO t VALUES (zeroblob(100000))").await.unwrap_err();
        assert!(database.error(error).message().contains("the disk is full"));
        drop(transaction);

        database.writer().await.unwrap().execute("PRAGMA max_page_count = 800").await.unwrap();
        let mut transaction = database.begin().await.unwrap();
        transaction.execute("INSERT INTO t VALUES (zeroblob(100000))").await.unwrap();
        database.commit(transaction).await.unwrap();
    }

    #[tokio::test]
    async fn looking_changes_nothing_and_finds_nothing_where_a_file_would_be_made() {
        let place = Place::new();
        let database = Database::look(&place.file().create()).await.unwrap();
        database.verify().await.unwrap();
        assert!(database.writer().await.is_err());
        assert!(!place.path().exists());
        let error = Database::look::<Notes>(&place.file()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
}
