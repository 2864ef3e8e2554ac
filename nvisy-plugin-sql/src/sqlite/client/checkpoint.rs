//! The tables of checkpoints: one row a graph, and one a key.

use nvisy_core::{Changes, Checkpoint, Result};
use sqlx::{Connection, Executor};

use super::SqliteClient;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS nvisy_checkpoint_generation (
        graph TEXT PRIMARY KEY, generation INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS nvisy_checkpoint (
        graph TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (graph, key)
    );";
const ARE_THERE: &str = "SELECT count(*) = 2 FROM sqlite_schema WHERE name IN ('nvisy_checkpoint_generation', 'nvisy_checkpoint')";
const BEGIN: &str = "INSERT INTO nvisy_checkpoint_generation VALUES (?, 0) ON CONFLICT DO NOTHING";
const GENERATION: &str = "SELECT generation FROM nvisy_checkpoint_generation WHERE graph = ?";
const ENTRIES: &str = "SELECT key, value FROM nvisy_checkpoint WHERE graph = ?";
const ADVANCE: &str =
    "UPDATE nvisy_checkpoint_generation SET generation = generation + 1 WHERE graph = ? AND generation = ?";
const PUT: &str = "INSERT INTO nvisy_checkpoint VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET value = excluded.value";
const REMOVE: &str = "DELETE FROM nvisy_checkpoint WHERE graph = ? AND key = ?";

impl SqliteClient {
    /// Returns the checkpoint of a graph, and makes the tables and its row where they are not yet.
    pub(crate) async fn checkpoint(&self, graph: &str) -> Result<Checkpoint> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        transaction.execute(TABLES).await.map_err(failed)?;
        sqlx::query(BEGIN).bind(graph).execute(&mut *transaction).await.map_err(failed)?;
        let generation: i64 =
            sqlx::query_scalar(GENERATION).bind(graph).fetch_one(&mut *transaction).await.map_err(failed)?;
        let entries: Vec<(String, Vec<u8>)> =
            sqlx::query_as(ENTRIES).bind(graph).fetch_all(&mut *transaction).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        let entries = entries.into_iter().map(|(key, value)| (key, value.into())).collect();
        Ok(Checkpoint { generation: generation as u64, entries })
    }

    /// Returns what was committed for a graph last, if anything was, and changes nothing.
    pub(crate) async fn committed(&self, graph: &str) -> Result<Option<Checkpoint>> {
        let failed = |error| self.database.error(error);
        let mut connection = self.database.reader().await?;
        // What it reads is of one commit.
        let mut transaction = connection.begin().await.map_err(failed)?;
        let are_there: bool =
            sqlx::query_scalar(ARE_THERE).fetch_one(&mut *transaction).await.map_err(failed)?;
        if !are_there {
            return Ok(None);
        }
        let generation = sqlx::query_scalar(GENERATION).bind(graph);
        let generation: Option<i64> = generation.fetch_optional(&mut *transaction).await.map_err(failed)?;
        let Some(generation) = generation.filter(|generation| *generation > 0) else { return Ok(None) };
        let entries = sqlx::query_as(ENTRIES).bind(graph);
        let entries: Vec<(String, Vec<u8>)> = entries.fetch_all(&mut *transaction).await.map_err(failed)?;
        let entries = entries.into_iter().map(|(key, value)| (key, value.into())).collect();
        Ok(Some(Checkpoint { generation: generation as u64, entries }))
    }

    /// Makes the changes in one transaction, and returns whether the graph stood at `generation`:
    /// if not, nothing is changed.
    pub(crate) async fn advance(&self, graph: &str, generation: u64, changes: &Changes) -> Result<bool> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        let advance = sqlx::query(ADVANCE).bind(graph).bind(generation as i64);
        if advance.execute(&mut *transaction).await.map_err(failed)?.rows_affected() != 1 {
            return Ok(false);
        }
        for (key, value) in changes.iter() {
            let change = match value {
                Some(value) => sqlx::query(PUT).bind(graph).bind(key).bind(value.to_vec()),
                None => sqlx::query(REMOVE).bind(graph).bind(key),
            };
            change.execute(&mut *transaction).await.map_err(failed)?;
        }
        self.database.commit(transaction).await?;
        Ok(true)
    }
}
