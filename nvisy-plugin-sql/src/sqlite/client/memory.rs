//! What a sink that only adds rows has written in a run, kept by the transactions that write: what
//! comes again is not added again, whatever became of the run's checkpoints.

use std::collections::HashSet;

use nvisy_core::{Context, Error, PrimitiveId, Result};
use sqlx::{AssertSqlSafe, Executor, SqliteConnection};

use super::SqliteClient;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS nvisy_writing (
        sink INTEGER PRIMARY KEY, graph TEXT NOT NULL, node TEXT NOT NULL, target TEXT NOT NULL,
        run TEXT NOT NULL, complete INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS nvisy_written (
        sink INTEGER NOT NULL, item BLOB NOT NULL, PRIMARY KEY (sink, item)
    ) WITHOUT ROWID;";
/// The run itself; else one that has not come to its end: it is this one, whose checkpoints have
/// lost its beginning.
const FIND: &str = "SELECT sink, run = ?4 FROM nvisy_writing
    WHERE graph = ?1 AND node = ?2 AND target = ?3 AND (run = ?4 OR NOT complete)
    ORDER BY run = ?4 DESC, sink DESC LIMIT 1";
const TAKE_UP: &str = "UPDATE nvisy_writing SET run = ?, complete = 0 WHERE sink = ?";
const BEGIN: &str = "INSERT INTO nvisy_writing (graph, node, target, run, complete) VALUES (?, ?, ?, ?, 0)";
/// What is over, but for the last: its checkpoints may have lost its end.
const OVER: &str = "SELECT sink, complete FROM nvisy_writing
    WHERE graph = ? AND node = ? AND target = ? AND complete ORDER BY sink DESC LIMIT -1 OFFSET 1";
const COMPLETE: &str = "UPDATE nvisy_writing SET complete = 1 WHERE sink = ?";
/// How many items one statement looks for, or keeps.
const MAX_ITEMS: usize = 500;

impl SqliteClient {
    /// Takes up what a sink has written in this run, or begins. Returns its number.
    pub(crate) async fn remember(&self, context: &Context, target: &str) -> Result<i64> {
        let Some(run) = context.run() else {
            return Err(Error::internal("a sink remembers what it writes in a run, and there is none"));
        };
        let run = run.to_string();
        let of = |sql| sqlx::query_as(sql).bind(&**context.graph()).bind(&**context.node()).bind(target);
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        transaction.execute(TABLES).await.map_err(failed)?;
        let found: Option<(i64, bool)> =
            of(FIND).bind(&run).fetch_optional(&mut *transaction).await.map_err(failed)?;
        let sink = match found {
            Some((sink, same)) => {
                sqlx::query(TAKE_UP)
                    .bind(&run)
                    .bind(sink)
                    .execute(&mut *transaction)
                    .await
                    .map_err(failed)?;
                if !same && is_empty(&mut transaction, target).await.map_err(failed)? {
                    // Somebody has begun anew, with an empty table and without the checkpoints.
                    forget(&mut transaction, sink).await.map_err(failed)?;
                }
                sink
            }
            None => {
                let begin = sqlx::query(BEGIN).bind(&**context.graph()).bind(&**context.node());
                let begun = begin.bind(target).bind(&run).execute(&mut *transaction).await.map_err(failed)?;
                begun.last_insert_rowid()
            }
        };
        let over: Vec<(i64, bool)> = of(OVER).fetch_all(&mut *transaction).await.map_err(failed)?;
        for (sink, _) in over {
            forget(&mut transaction, sink).await.map_err(failed)?;
            let remove = sqlx::query("DELETE FROM nvisy_writing WHERE sink = ?").bind(sink);
            remove.execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(sink)
    }

    /// The run has come to its end: the next one adds rows of its own.
    pub(crate) async fn complete(&self, sink: i64) -> Result<()> {
        let mut connection = self.database.writer().await?;
        let complete = sqlx::query(COMPLETE).bind(sink).execute(&mut *connection).await;
        complete.map(drop).map_err(|error| self.database.error(error))
    }
}

async fn is_empty(connection: &mut SqliteConnection, target: &str) -> Result<bool, sqlx::Error> {
    let there = super::schema::describe(connection, target).await?.is_some();
    let look = format!("SELECT EXISTS (SELECT 1 FROM {})", super::quoted(target));
    Ok(!there || !sqlx::query_scalar::<_, bool>(AssertSqlSafe(look)).fetch_one(connection).await?)
}

async fn forget(connection: &mut SqliteConnection, sink: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM nvisy_written WHERE sink = ?").bind(sink).execute(connection).await.map(drop)
}

/// Returns which of the items are written.
pub(super) async fn written(
    connection: &mut SqliteConnection,
    sink: i64,
    items: &[PrimitiveId],
) -> Result<HashSet<PrimitiveId>, sqlx::Error> {
    let mut there = HashSet::new();
    for items in items.chunks(MAX_ITEMS) {
        let places = vec!["?"; items.len()].join(", ");
        let sql = format!("SELECT item FROM nvisy_written WHERE sink = ? AND item IN ({places})");
        let mut query = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(sink);
        for item in items {
            query = query.bind(item.as_bytes().to_vec());
        }
        let found = query.fetch_all(&mut *connection).await?;
        let found = found.into_iter().filter_map(|item| <[u8; 16]>::try_from(item).ok());
        there.extend(found.filter_map(|item| PrimitiveId::from_bytes(item).ok()));
    }
    Ok(there)
}

/// Keeps which items are written, in the transaction that writes them.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    sink: i64,
    items: &[PrimitiveId],
) -> Result<(), sqlx::Error> {
    for items in items.chunks(MAX_ITEMS) {
        let places = vec!["(?, ?)"; items.len()].join(", ");
        let sql = format!("INSERT INTO nvisy_written (sink, item) VALUES {places}");
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for item in items {
            query = query.bind(sink).bind(item.as_bytes().to_vec());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}
