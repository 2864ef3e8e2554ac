//! An open database: all of SQLite's language.

mod checkpoint;
mod memory;
mod plan;
mod read;
mod replace;
mod schema;
mod statement;
mod write;

use nvisy_core::Client;
use nvisy_sqlite::Database;

pub(crate) use self::read::{From, Selection};
pub(crate) use self::schema::{Seen, Table};
pub(crate) use self::write::{Extra, Taken, Target, Write, Writer};

/// An open SQLite database.
#[derive(Debug)]
pub struct SqliteClient {
    pub(super) database: Database,
}

impl Client for SqliteClient {
    const FAMILY: &'static str = "sql/sqlite";
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
    use sqlx::{AssertSqlSafe, Executor};

    use super::*;
    use crate::{Drift, Sqlite, SqliteSink};

    fn rows(ids: std::ops::Range<u64>) -> Batch {
        let row = |id: u64| {
            let object = json!({"id": id, "text": "x".repeat(2_000), "wide": "y"});
            let row = Row::from_json(object.as_object().unwrap(), None).unwrap();
            Item::detached(&id.to_string(), row).into_primitive()
        };
        Batch::from_primitives(ids.map(row).collect())
    }

    /// Lets the file grow to so many pages, as long as the connection that writes lives.
    async fn limit(client: &SqliteClient, pages: u32) {
        let limit = AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        client.database.writer().await.unwrap().execute(limit).await.unwrap();
    }

    async fn count(client: &SqliteClient) -> i64 {
        let mut reader = client.database.reader().await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM t").fetch_one(&mut *reader).await.unwrap()
    }

    #[tokio::test]
    async fn a_full_disk_takes_nothing_of_a_batch_and_all_of_it_when_there_is_room() {
        for wal in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("t.db");
            let config = Sqlite::at(path.to_str().unwrap()).create().wal(wal);
            let client = Arc::new(config.connect(&ConnectContext::detached()).await.unwrap());
            let context = OpenContext::new(Context::detached(), client.clone());
            let sink = SqliteSink::table("t").upsert(["id"]).drift(Drift::Widen).create();
            let sink = sink.open(&context).await.unwrap();

            limit(&client, 30).await;
            let error = sink.write(&rows(0..100), context.context()).await.unwrap_err();
            assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Permission, RetryClass::Permanent));
            assert!(error.message().contains("table \"t\": the disk is full"), "{error}");
            assert!(client.describe("t").await.unwrap().is_none(), "the table went with its rows");

            assert!(sink.write(&rows(0..10), context.context()).await.unwrap().is_applied());
            limit(&client, 30).await;
            assert!(sink.write(&rows(5..100), context.context()).await.is_err());
            assert_eq!(count(&client).await, 10);
            limit(&client, 1_000).await;
            assert!(sink.write(&rows(5..100), context.context()).await.unwrap().is_applied());
            assert_eq!(count(&client).await, 100);
        }
    }
}
