//! An open index: all of SQLite's language.

mod collection;
mod condition;
mod read;
mod replace;
mod write;

use nvisy_core::Client;
use nvisy_sqlite::Database;

pub use self::collection::Collection;
pub(crate) use self::collection::MAX_DIMENSIONS;
pub(crate) use self::write::Destination;

/// An open SQLite file with collections of vectors.
#[derive(Debug)]
pub struct SqliteClient {
    pub(super) database: Database,
}

impl Client for SqliteClient {
    const FAMILY: &'static str = "vector/sqlite";
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use nvisy_core::prelude::*;
    use nvisy_core::primitive::document::Document;
    use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields};
    use sqlx::{AssertSqlSafe, Executor};

    use super::*;
    use crate::{Search, Sqlite, SqliteSink};

    fn embeddings(ids: std::ops::Range<u32>) -> Batch {
        let embedding = |id: u32| {
            let document = Document::new(format!("word{id} ").repeat(200)).unwrap();
            let fields = EmbeddingFields {
                vector: vec![id as f32 + 1.0; 64],
                model: "test".into(),
                document: Some(Arc::new(document)),
                ..Default::default()
            };
            let embedding = Embedding::try_from(fields).unwrap();
            Item::detached(&id.to_string(), embedding).into_primitive()
        };
        Batch::from_primitives(ids.map(embedding).collect())
    }

    /// Lets the file grow by so many pages, as long as the connection that writes lives.
    async fn limit(client: &SqliteClient, pages: i64) {
        let mut writer = client.database.writer().await.unwrap();
        let count = sqlx::query_scalar("PRAGMA page_count").fetch_one(&mut *writer);
        let most: i64 = count.await.map(|count: i64| count + pages).unwrap();
        writer.execute(AssertSqlSafe(format!("PRAGMA max_page_count = {most}"))).await.unwrap();
    }

    #[tokio::test]
    async fn a_full_disk_takes_nothing_of_a_batch_and_all_of_it_when_there_is_room() {
        for wal in [true, false] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("t.db");
            let config = Sqlite::at(path.to_str().unwrap()).create().wal(wal);
            let client = Arc::new(config.connect(&ConnectContext::detached()).await.unwrap());
            let context = OpenContext::new(Context::detached(), client.clone());
            let sink = SqliteSink::collection("docs").create();
            let sink = sink.dimensions(NonZeroU32::new(64).unwrap()).open(&context).await.unwrap();
            let full = |error: Error| {
                assert_eq!(
                    (error.kind(), error.retry_class()),
                    (ErrorKind::Permission, RetryClass::Permanent)
                );
                assert!(error.message().contains("disk is full"), "{error}");
            };

            // The points find room, their vectors do not.
            limit(&client, 20).await;
            full(sink.write(&embeddings(0..3), context.context()).await.unwrap_err());
            assert_eq!(client.count("docs").await.unwrap(), 0);
            limit(&client, 1_000).await;
            assert!(sink.write(&embeddings(0..3), context.context()).await.unwrap().is_applied());

            limit(&client, 100).await;
            full(sink.write(&embeddings(2..500), context.context()).await.unwrap_err());
            assert_eq!(client.count("docs").await.unwrap(), 3);
            assert!(Search::by_text("word400").run(&client, "docs").await.unwrap().is_empty());
            assert_eq!(Search::by_vector([1.0; 64]).run(&client, "docs").await.unwrap().len(), 3);

            limit(&client, 10_000).await;
            assert!(sink.write(&embeddings(2..500), context.context()).await.unwrap().is_applied());
            assert_eq!(client.count("docs").await.unwrap(), 500);
            assert_eq!(Search::by_text("word400").run(&client, "docs").await.unwrap().len(), 1);
        }
    }
}
