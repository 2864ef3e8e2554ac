//! What a sink that only adds rows has written in a run, kept by the transactions that write: what
//! comes again is not added again, whatever became of the run's checkpoints.

use std::collections::HashSet;

use nvisy_core::{Context, Error, ErrorKind, PrimitiveId, Result};
use sqlx::{AssertSqlSafe, Executor, SqliteConnection};

use super::SqliteClient;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS nvisy_writing (
        sink INTEGER PRIMARY KEY, graph TEXT NOT NULL, node TEXT NOT NULL, target TEXT NOT NULL,
        run TEXT NOT NULL, memory INTEGER, complete INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS nvisy_written (
        memory INTEGER NOT NULL, item BLOB NOT NULL, PRIMARY KEY (memory, item)
    ) WITHOUT ROWID;";
/// Tables that an older version has made have one run a memory, under the number of its sink.
const IS_OLDER: &str =
    "SELECT NOT EXISTS (SELECT 1 FROM pragma_table_info('nvisy_writing') WHERE name = 'memory')";
const RENEW: &str = "
    ALTER TABLE nvisy_writing ADD COLUMN memory INTEGER;
    UPDATE nvisy_writing SET memory = sink;
    ALTER TABLE nvisy_written RENAME COLUMN sink TO memory;";
/// The run itself; else a memory with which no run has come to its end: it is of this one, whose
/// checkpoints have lost its beginning.
const FIND: &str = "SELECT sink, memory, run FROM nvisy_writing AS this
    WHERE graph = ?1 AND node = ?2 AND target = ?3 AND (run = ?4 OR memory IS NOT NULL AND NOT EXISTS
        (SELECT 1 FROM nvisy_writing AS other WHERE other.memory = this.memory AND other.complete))
    ORDER BY run = ?4 DESC, sink DESC LIMIT 1";
const GO_ON: &str = "UPDATE nvisy_writing SET complete = 0 WHERE sink = ?";
/// What begins has a memory of its own, under its own number.
const BEGIN: &str = "INSERT INTO nvisy_writing (graph, node, target, run, memory, complete)
    VALUES (?1, ?2, ?3, ?4, coalesce(?5, (SELECT coalesce(max(sink), 0) + 1 FROM nvisy_writing)), 0)
    RETURNING sink, memory";
/// What is over, but for the last: its checkpoints may have lost its end.
const OVER: &str = "SELECT memory FROM nvisy_writing
    WHERE graph = ?1 AND node = ?2 AND target = ?3 AND memory <> ?4
    GROUP BY memory HAVING max(complete) ORDER BY max(sink) DESC LIMIT -1 OFFSET 1";
const FORGET_ITEMS: &str = "DELETE FROM nvisy_written WHERE memory = ?";
const FORGET_FINISHED: &str = "DELETE FROM nvisy_writing WHERE memory = ? AND complete";
/// A run that has not finished is to know, when it goes on, that it is forgotten.
const FORGET_OTHERS: &str = "UPDATE nvisy_writing SET memory = NULL WHERE memory = ?";
const COMPLETE: &str = "UPDATE nvisy_writing SET complete = 1 WHERE sink = ?";
/// How many items one statement looks for, or keeps.
const MAX_ITEMS: usize = 500;

/// What a sink has written in a run. Runs share one where the later ones have taken it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Memory {
    /// The number of the sink in its run.
    sink: i64,
    /// The number that the items are kept under.
    memory: i64,
}

impl SqliteClient {
    /// Takes up what a sink has written in this run, or begins.
    ///
    /// A memory that is found is joined, and stays that of the run that began it, too: who goes on
    /// with that one later finds in it what either has written.
    pub(crate) async fn remember(&self, context: &Context, target: &str) -> Result<Memory> {
        let Some(run) = context.run() else {
            return Err(Error::internal("a sink remembers what it writes in a run, and there is none"));
        };
        let run = run.to_string();
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        transaction.execute(TABLES).await.map_err(failed)?;
        if sqlx::query_scalar(IS_OLDER).fetch_one(&mut *transaction).await.map_err(failed)? {
            transaction.execute(RENEW).await.map_err(failed)?;
        }
        let find = sqlx::query_as(FIND).bind(&**context.graph()).bind(&**context.node()).bind(target);
        let found: Option<(i64, Option<i64>, String)> =
            find.bind(&run).fetch_optional(&mut *transaction).await.map_err(failed)?;
        let (mut joined, mut before) = (None, None);
        let mine = match found {
            Some((sink, Some(memory), other)) if other == run => {
                let go_on = sqlx::query(GO_ON).bind(sink);
                go_on.execute(&mut *transaction).await.map_err(failed)?;
                Some(Memory { sink, memory })
            }
            Some((_, None, _)) => return Err(self.forgotten(target, &run)),
            Some((_, Some(memory), other)) => {
                if is_empty(&mut transaction, target).await.map_err(failed)? {
                    // Somebody has begun anew, with an empty table and without the checkpoints.
                    let forget = sqlx::query(FORGET_ITEMS).bind(memory);
                    forget.execute(&mut *transaction).await.map_err(failed)?;
                } else {
                    before = Some(other);
                }
                joined = Some(memory);
                None
            }
            None => None,
        };
        let mine = match mine {
            Some(mine) => mine,
            None => {
                let begin = sqlx::query_as(BEGIN).bind(&**context.graph()).bind(&**context.node());
                let begin = begin.bind(target).bind(&run).bind(joined);
                let (sink, memory) = begin.fetch_one(&mut *transaction).await.map_err(failed)?;
                Memory { sink, memory }
            }
        };
        let over = sqlx::query_scalar(OVER).bind(&**context.graph()).bind(&**context.node()).bind(target);
        let over: Vec<i64> = over.bind(mine.memory).fetch_all(&mut *transaction).await.map_err(failed)?;
        for memory in over {
            for sql in [FORGET_ITEMS, FORGET_FINISHED, FORGET_OTHERS] {
                sqlx::query(sql).bind(memory).execute(&mut *transaction).await.map_err(failed)?;
            }
        }
        transaction.commit().await.map_err(failed)?;
        if let Some(before) = before {
            context.meter().warn(&format!(
                "table \"{target}\": run {before} has not finished, and is taken for this one: what it has \
                 added is not added again"
            ));
        }
        Ok(mine)
    }

    /// The run has come to its end: the next one adds rows of its own.
    pub(crate) async fn complete(&self, memory: Memory) -> Result<()> {
        let mut connection = self.database.writer().await?;
        let complete = sqlx::query(COMPLETE).bind(memory.sink).execute(&mut *connection).await;
        complete.map(drop).map_err(|error| self.database.error(error))
    }

    fn forgotten(&self, target: &str, run: &str) -> Error {
        let place = self.database.place();
        let message = format!(
            "{place}: table \"{target}\": run {run} has not finished, and what it has added is no longer known, \
             since later runs have finished: see which rows it has left, and begin anew without its state"
        );
        Error::new(ErrorKind::Conflict, message)
    }
}

async fn is_empty(connection: &mut SqliteConnection, target: &str) -> Result<bool, sqlx::Error> {
    let there = super::schema::describe(connection, target).await?.is_some();
    let look = format!("SELECT EXISTS (SELECT 1 FROM {})", super::quoted(target));
    Ok(!there || !sqlx::query_scalar::<_, bool>(AssertSqlSafe(look)).fetch_one(connection).await?)
}

/// Returns which of the items are written.
pub(super) async fn written(
    connection: &mut SqliteConnection,
    memory: Memory,
    items: &[PrimitiveId],
) -> Result<HashSet<PrimitiveId>, sqlx::Error> {
    let mut there = HashSet::new();
    for items in items.chunks(MAX_ITEMS) {
        let places = vec!["?"; items.len()].join(", ");
        let sql = format!("SELECT item FROM nvisy_written WHERE memory = ? AND item IN ({places})");
        let mut query = sqlx::query_scalar::<_, Vec<u8>>(AssertSqlSafe(sql)).bind(memory.memory);
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
    memory: Memory,
    items: &[PrimitiveId],
) -> Result<(), sqlx::Error> {
    for items in items.chunks(MAX_ITEMS) {
        let places = vec!["(?, ?)"; items.len()].join(", ");
        let sql = format!("INSERT INTO nvisy_written (memory, item) VALUES {places}");
        let mut query = sqlx::query(AssertSqlSafe(sql));
        for item in items {
            query = query.bind(memory.memory).bind(item.as_bytes().to_vec());
        }
        query.execute(&mut *connection).await?;
    }
    Ok(())
}
