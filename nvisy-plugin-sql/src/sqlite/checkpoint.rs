//! Checkpoints in a SQLite database.

use futures::FutureExt;
use futures::future::BoxFuture;
use nvisy_core::prelude::*;
use nvisy_core::{Changes, Checkpoint, CheckpointStore, Checkpoints};
use nvisy_sqlite::Database;

use super::client::SqliteClient;
use super::config::Sqlite;

/// How often a commit waits for the lock of another program, each time as long as `busy_timeout_ms`
/// says: a run would end of it, though nothing is amiss.
const TRIES: u32 = 6;

/// Keeps the checkpoints of all graphs in two tables of a SQLite database:
/// `nvisy_checkpoint_generation` and `nvisy_checkpoint`.
///
/// A commit is one transaction with `synchronous = FULL`: durable when it returns. It waits six times
/// as long as the database's `busy_timeout_ms` says, a minute by default, for another program's lock.
/// Two runs may have the same graph open; the one that commits first goes on, and the other gets a
/// `conflict`.
/// [`peek`](CheckpointStore::peek) writes nothing, and waits for no run that has them open.
///
/// # Examples
///
/// ```
/// use nvisy_core::{Changes, CheckpointStore};
/// use nvisy_plugin_sql::SqliteCheckpoints;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> nvisy_core::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("runs.db").display().to_string();
/// let store = SqliteCheckpoints::at(path);
/// let mut changes = Changes::default();
/// changes.put("read/all", "42");
/// store.open("tickets").await?.commit(changes).await?;
/// assert_eq!(store.open("tickets").await?.last().entries["read/all"], "42");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqliteCheckpoints(Sqlite);

impl SqliteCheckpoints {
    /// Keeps checkpoints in the database file at a path, which is made when it does not exist.
    #[must_use]
    pub fn at(path: impl Into<String>) -> Self {
        Self(Sqlite::at(path).create())
    }

    /// Keeps checkpoints in a database with settings of its own.
    #[must_use]
    pub fn of(database: Sqlite) -> Self {
        Self(database)
    }
}

impl CheckpointStore for SqliteCheckpoints {
    fn open<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Box<dyn Checkpoints>>> {
        async move {
            let client = SqliteClient { database: Database::open(&self.0).await? };
            let last = client.checkpoint(graph).await?;
            Ok(Box::new(Open { client, graph: graph.to_owned(), last }) as Box<dyn Checkpoints>)
        }
        .boxed()
    }

    fn peek<'a>(&'a self, graph: &'a str) -> BoxFuture<'a, Result<Option<Checkpoint>>> {
        async move {
            let client = SqliteClient { database: Database::look(&self.0).await? };
            let last = client.committed(graph).await;
            client.database.close().await;
            last
        }
        .boxed()
    }
}

/// The checkpoints of one graph, open.
#[derive(Debug)]
struct Open {
    client: SqliteClient,
    graph: String,
    last: Checkpoint,
}

impl Open {
    /// Makes the changes, and returns whether the graph stood where it was left. Tries again where
    /// it is certain that nothing was committed, and somebody else was in the way.
    async fn advance(&self, changes: &Changes) -> Result<bool> {
        let mut tries = 1;
        loop {
            match self.client.advance(&self.graph, self.last.generation, changes).await {
                Err(error)
                    if tries < TRIES
                        && matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Connection) =>
                {
                    tries += 1;
                }
                advanced => return advanced,
            }
        }
    }
}

impl Checkpoints for Open {
    fn last(&self) -> &Checkpoint {
        &self.last
    }

    fn commit(&mut self, changes: Changes) -> BoxFuture<'_, Result<u64>> {
        async move {
            if !self.advance(&changes).await? {
                let message = format!(
                    "the checkpoints of graph \"{}\" in {} are no longer at generation {}: another run has gone \
                     on with them",
                    self.graph,
                    self.client.database.place(),
                    self.last.generation
                );
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            self.last.apply(changes);
            Ok(self.last.generation)
        }
        .boxed()
    }
}
