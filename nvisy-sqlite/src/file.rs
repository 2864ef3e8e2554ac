//! The settings of a file, and what a plugin says of its own.

use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use nvisy_core::config::Problem;
use nvisy_core::connection::Reach;
use nvisy_core::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::database::Database;

const BUSY_TIMEOUT_MS: u64 = 10_000;
const READERS: u32 = 4;

/// What a plugin keeps in its SQLite files: a connection of its own is `File<ItsContent>`.
///
/// The name of the content in a JSON Schema is that of the connection's settings, and the family
/// of its client the name of the connection in graphs.
///
/// # Examples
///
/// ```
/// use nvisy_core::prelude::*;
/// use nvisy_sqlite::{Content, Database, File};
///
/// /// Files of notes: `notes/sqlite`.
/// #[derive(Clone, Debug, PartialEq, Eq, schemars::JsonSchema)]
/// #[schemars(rename = "NotesConnection")]
/// struct Notes;
///
/// /// An open file of notes.
/// struct NotesClient(Database);
///
/// impl Client for NotesClient {
///     const FAMILY: &'static str = "notes/sqlite";
/// }
///
/// impl Content for Notes {
///     type Client = NotesClient;
///     const NOUN: &'static str = "notebook";
///
///     fn client(database: Database) -> NotesClient {
///         NotesClient(database)
///     }
///
///     fn database(client: &NotesClient) -> &Database {
///         &client.0
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nvisy_core::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("notes.db").display().to_string();
/// let file = File::<Notes>::at(path).create();
/// let NotesClient(database) = file.connect(&ConnectContext::detached()).await?;
/// let mut reader = database.reader().await?;
/// let tables = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *reader);
/// let tables: i64 = tables.await.map_err(|e| database.error(e))?;
/// assert_eq!(tables, 0);
/// # Ok(())
/// # }
/// ```
pub trait Content: Clone + fmt::Debug + Eq + JsonSchema + Send + Sync + 'static {
    /// The client that speaks the plugin's own language.
    type Client: Client;
    /// What messages call a file: `database` in `database "a.db" does not exist`.
    const NOUN: &'static str;

    /// Prepares the process, before a file is opened. Default nothing to do.
    ///
    /// # Errors
    ///
    /// Whatever keeps files from being opened.
    fn prepare() -> Result<()> {
        Ok(())
    }

    /// Makes a client of an open file.
    fn client(database: Database) -> Self::Client;

    /// Returns the file that a client has open.
    fn database(client: &Self::Client) -> &Database;
}

/// A SQLite file, and how it is opened.
///
/// One connection writes, several read. What only reads never writes: its connections are
/// read-only to SQLite itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "{C}")]
#[serde(rename = "Sqlite", deny_unknown_fields)]
pub struct File<C: Content> {
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
    #[serde(skip)]
    content: PhantomData<C>,
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

impl<C: Content> File<C> {
    /// The file at a path.
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
            content: PhantomData,
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

impl<C: Content> Connection for File<C> {
    const NAME: &'static str = C::Client::FAMILY;
    type Client = C::Client;

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

    async fn connect(&self, context: &ConnectContext) -> Result<C::Client> {
        if !context.is_rehearsal() {
            return Database::open(self).await.map(C::client);
        }
        let database = Database::look(self).await?;
        if !Path::new(&self.path).exists() {
            context.note_missing(database.place());
        }
        Ok(C::client(database))
    }

    async fn verify(&self, client: &C::Client) -> Result<()> {
        C::database(client).verify().await
    }

    async fn disconnect(&self, client: &C::Client) -> Result<()> {
        C::database(client).close().await;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::path::PathBuf;

    use serde_json::{from_value, json};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
    #[schemars(rename = "NotesConnection")]
    pub(crate) struct Notes;

    #[derive(Debug)]
    pub(crate) struct NotesClient(Database);

    impl Client for NotesClient {
        const FAMILY: &'static str = "notes/sqlite";
    }

    impl Content for Notes {
        type Client = NotesClient;
        const NOUN: &'static str = "notebook";

        fn client(database: Database) -> NotesClient {
            NotesClient(database)
        }

        fn database(client: &NotesClient) -> &Database {
            &client.0
        }
    }

    /// A place for one file, in a directory that is to be made.
    pub(crate) struct Place(tempfile::TempDir);

    impl Place {
        pub(crate) fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        pub(crate) fn path(&self) -> PathBuf {
            self.0.path().join("made/notes.db")
        }

        pub(crate) fn file(&self) -> File<Notes> {
            File::at(self.path().to_str().unwrap())
        }

        /// What messages call the file.
        pub(crate) fn named(&self) -> String {
            format!("notebook \"{}\"", self.path().display())
        }
    }

    #[test]
    fn what_is_chained_is_what_serializes() {
        let readers = NonZeroU32::new(2).unwrap();
        let file = File::<Notes>::at("a.db").read_only().wal(false).readers(readers).known_as("a");
        let file = file.busy_timeout(Duration::from_millis(5));
        let json = json!({
            "path": "a.db", "read_only": true, "wal": false, "busy_timeout_ms": 5, "readers": 2, "identity": "a"
        });
        assert_eq!(serde_json::to_value(&file).unwrap(), json);
        assert_eq!(from_value::<File<Notes>>(json).unwrap(), file);
        assert_eq!(from_value::<File<Notes>>(json!({"path": "b.db"})).unwrap(), File::at("b.db"));
        let error = from_value::<File<Notes>>(json!({"path": "b.db", "content": null})).unwrap_err();
        assert!(error.to_string().contains("unknown field `content`"), "{error}");
    }

    #[test]
    fn schema_and_name_are_those_of_the_content() {
        let schema = schemars::schema_for!(File<Notes>).to_value();
        assert_eq!(File::<Notes>::schema_name(), "NotesConnection");
        assert_eq!(schema["title"], "NotesConnection");
        assert_eq!(schema["required"], json!(["path"]));
        let names: Vec<_> = schema["properties"].as_object().unwrap().keys().collect();
        let all = ["path", "create", "read_only", "wal", "busy_timeout_ms", "readers", "identity"];
        assert_eq!(names.len(), all.len());
        assert!(all.iter().all(|name| names.iter().any(|other| other == name)), "{names:?}");
        assert_eq!(<File<Notes> as Connection>::NAME, "notes/sqlite");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let file = File::<Notes>::at(":memory:").create().read_only().busy_timeout(Duration::MAX);
        let paths: Vec<_> = file.validate().into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["path", "create", "busy_timeout_ms"]);
    }

    #[tokio::test]
    async fn a_rehearsal_makes_nothing_and_says_what_is_missing() {
        let place = Place::new();
        let context = ConnectContext::detached().rehearsing();
        let client = place.file().create().connect(&context).await.unwrap();
        assert_eq!(context.missing(), [place.named()]);
        assert!(!place.path().exists());
        place.file().disconnect(&client).await.unwrap();

        let file = place.file().create();
        let client = file.connect(&ConnectContext::detached()).await.unwrap();
        assert!(place.path().exists());
        file.verify(&client).await.unwrap();
        file.disconnect(&client).await.unwrap();
        assert!(file.verify(&client).await.is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_is_made_only_where_that_is_asked_for() {
        let place = Place::new();
        let error = place.file().connect(&ConnectContext::detached()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let message = format!("{} does not exist: check the path, or set `create`", place.named());
        assert_eq!(error.message(), message);
    }
}
