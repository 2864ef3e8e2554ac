//! Deleting what is stale of the objects that it came from.

use nvisy_core::{ReplaceSet, Result};
use sqlx::{AssertSqlSafe, Executor};

use super::SqliteClient;
use super::collection::{Collection, find};

impl SqliteClient {
    /// Lets a collection that an older version has made keep where its points come from.
    pub(crate) async fn keep_origins(&self, collection: &Collection) -> Result<()> {
        let points = collection.points();
        let mut reader = self.database.reader().await?;
        let there: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pragma_table_info(?) WHERE name IN ('nvisy_origin', 'nvisy_generation')",
        )
        .bind(&points)
        .fetch_one(&mut *reader)
        .await
        .map_err(|e| self.database.error(e))?;
        drop(reader);
        if there == 2 {
            return Ok(());
        }
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        for sql in [
            format!("ALTER TABLE {points} ADD COLUMN nvisy_origin TEXT"),
            format!("ALTER TABLE {points} ADD COLUMN nvisy_generation INTEGER"),
            format!("CREATE INDEX {points}_origin ON {points} (nvisy_origin)"),
        ] {
            transaction.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
        }
        self.database.commit(transaction).await
    }

    /// Removes what is stale of some origins, in one transaction. Returns how many embeddings
    /// that were.
    pub(crate) async fn replace(&self, name: &str, sets: &[ReplaceSet]) -> Result<u64> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        // Nothing has been written yet.
        let Some(collection) = find(&mut transaction, name).await.map_err(failed)? else { return Ok(0) };
        let (points, vectors) = (collection.points(), collection.vectors());
        let stale = "nvisy_origin = ? AND nvisy_generation < ?";
        let mut deleted = 0;
        for set in sets {
            let origin = set.origin.to_string();
            let rowids = format!("SELECT rowid FROM {points} WHERE {stale}");
            let mut points_deleted = 0;
            for sql in [
                format!("DELETE FROM {vectors} WHERE rowid IN ({rowids})"),
                format!("DELETE FROM {points} WHERE {stale}"),
            ] {
                let delete = sqlx::query(AssertSqlSafe(sql)).bind(&origin).bind(set.generation as i64);
                points_deleted = delete.execute(&mut *transaction).await.map_err(failed)?.rows_affected();
            }
            deleted += points_deleted;
        }
        self.database.commit(transaction).await?;
        Ok(deleted)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nvisy_core::prelude::*;
    use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields};

    use super::*;
    use crate::{Sqlite, SqliteSink};

    fn batch(context: &Context, vectors: &[[f32; 2]]) -> Batch {
        let payloads = vectors.iter().map(|vector| {
            let fields =
                EmbeddingFields { vector: vector.to_vec(), model: "test".into(), ..Default::default() };
            Embedding::try_from(fields).unwrap().into_payload()
        });
        let (source, positions) = (SourceIdentity::new("folder"), Positions::rows("a.md", 0));
        Batch::read(payloads.collect(), positions, &source, context.step(), context.metadata()).unwrap()
    }

    #[tokio::test]
    async fn a_collection_that_an_older_version_has_made_keeps_origins_from_now_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.db");
        let config = Sqlite::at(path.to_str().unwrap()).create();
        let client = Arc::new(config.connect(&ConnectContext::detached()).await.unwrap());
        let context = |generation| Context::new("graph", "read", "test").in_generation(generation);
        let open = |generation| OpenContext::new(context(generation), client.clone());
        let config = SqliteSink::collection("docs").create();
        let sink = config.open(&open(1)).await.unwrap();
        sink.write(&batch(&context(1), &[[1.0, 0.0], [0.0, 1.0]]), &context(1)).await.unwrap();
        let points = client.existing("docs").await.unwrap().points();
        let mut writer = client.database.writer().await.unwrap();
        for sql in [
            format!("DROP INDEX {points}_origin"),
            format!("ALTER TABLE {points} DROP COLUMN nvisy_origin"),
            format!("ALTER TABLE {points} DROP COLUMN nvisy_generation"),
        ] {
            writer.execute(AssertSqlSafe(sql)).await.unwrap();
        }
        drop(writer);

        let origin = Origin::new("graph", "read", &SourceIdentity::new("folder"), "a.md");
        for (generation, left) in [(2, 2), (3, 1)] {
            let sink = config.open(&open(generation)).await.unwrap();
            let vectors = &[[1.0, 0.0], [0.0, 1.0]][..left];
            sink.write(&batch(&context(generation), vectors), &context(generation)).await.unwrap();
            sink.replace(&[ReplaceSet { origin, generation }], &context(generation)).await.unwrap();
            assert_eq!(client.count("docs").await.unwrap(), left as u64);
        }
    }
}
