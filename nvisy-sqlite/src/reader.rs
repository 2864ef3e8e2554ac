//! A connection that reads, as long as somebody waits for what it reads.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::pool::PoolConnection;
use sqlx::{Sqlite, SqliteConnection};

/// After how many instructions of SQLite a query looks whether anybody still waits: some tens of
/// microseconds.
const INSTRUCTIONS: i32 = 10_000;

/// A connection that reads. Dropped, it breaks off the query that it is still at, which would keep
/// it from everybody else until its next row: between two steps of SQLite, so that what an extension
/// does in one step, as to look for neighbours, comes to its end.
pub struct Reader {
    connection: PoolConnection<Sqlite>,
    dropped: Arc<AtomicBool>,
}

impl Reader {
    pub(crate) async fn new(mut connection: PoolConnection<Sqlite>) -> Result<Self, sqlx::Error> {
        let dropped = Arc::new(AtomicBool::new(false));
        let wanted = {
            let dropped = dropped.clone();
            move || !dropped.load(Ordering::Relaxed)
        };
        connection.lock_handle().await?.set_progress_handler(INSTRUCTIONS, wanted);
        Ok(Self { connection, dropped })
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Deref for Reader {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.connection
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.connection
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use crate::Database;
    use crate::file::tests::Place;

    /// Gives no row, ever.
    const ENDLESS: &str =
        "WITH RECURSIVE n (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n";

    #[tokio::test]
    async fn a_query_that_nobody_waits_for_keeps_its_connection_from_nobody() {
        let place = Place::new();
        let file = place.file().create().readers(NonZeroU32::MIN);
        let database = Database::open(&file).await.unwrap();
        let counting = async {
            let mut reader = database.reader().await.unwrap();
            sqlx::query_scalar::<_, i64>(ENDLESS).fetch_one(&mut *reader).await
        };
        assert!(tokio::time::timeout(Duration::from_millis(50), counting).await.is_err());
        for _ in 0..2 {
            let reader = tokio::time::timeout(Duration::from_secs(60), database.reader()).await;
            let mut reader = reader.unwrap().unwrap();
            // What is wanted is not broken off, however long it is.
            let long = format!("{ENDLESS} LIMIT 1").replace("FROM n)", "FROM n WHERE x < 100000)");
            let count = sqlx::query_scalar(sqlx::AssertSqlSafe(long)).fetch_one(&mut *reader).await;
            assert_eq!(count.map(|count: i64| count).unwrap(), 100_000);
        }
    }
}
