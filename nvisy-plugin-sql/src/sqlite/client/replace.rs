//! Deleting what is stale of the objects that it came from.

use nvisy_core::{ReplaceSet, Result};
use nvisy_sqlite::{translate, translate_commit};
use sqlx::{AssertSqlSafe, Connection, Executor};

use super::schema::describe;
use super::{SqliteClient, quoted};
use crate::sqlite::sink::{GENERATION, ORIGIN};

impl SqliteClient {
    /// Removes the rows of a table that are stale of some origins, in one transaction. Returns how
    /// many those were.
    pub(crate) async fn replace(&self, table: &str, sets: &[ReplaceSet]) -> Result<u64> {
        let place = format!("{}: table \"{table}\"", self.database.place());
        let failed = |error| translate(&place, error);
        let mut connection = self.database.writer().await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let described = describe(&mut transaction, table).await.map_err(failed)?;
        if described.is_none_or(|table| table.column(ORIGIN).is_none()) {
            // Nothing has been written yet.
            return Ok(0);
        }
        let (index, table) = (quoted(&format!("{table}_{ORIGIN}")), quoted(table));
        let sql = format!("CREATE INDEX IF NOT EXISTS {index} ON {table} ({ORIGIN})");
        transaction.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
        // A column that is declared as a text makes one of the number.
        let sql = format!("DELETE FROM {table} WHERE {ORIGIN} = ? AND CAST({GENERATION} AS INTEGER) < ?");
        let mut deleted = 0;
        for set in sets {
            let delete = sqlx::query(AssertSqlSafe(sql.clone())).bind(set.origin.to_string());
            let done = delete.bind(set.generation as i64).execute(&mut *transaction).await;
            deleted += done.map_err(failed)?.rows_affected();
        }
        transaction.commit().await.map_err(|error| translate_commit(&place, error))?;
        Ok(deleted)
    }
}
