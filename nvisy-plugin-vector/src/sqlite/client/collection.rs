//! Collections: their tables, and what can be done with one as a whole.

use std::num::NonZeroU32;

use nvisy_core::primitive::embedding::Metric;
use nvisy_core::{Error, ErrorKind, PrimitiveId, Result};
use sqlx::{AssertSqlSafe, Executor, Row, SqliteConnection};

use super::SqliteClient;

/// How many dimensions sqlite-vec takes.
pub(crate) const MAX_DIMENSIONS: u32 = 8_192;

/// A number is never another collection's again: who still has it finds no table, and not the other's.
const REGISTRY: &str = "CREATE TABLE IF NOT EXISTS nvisy_collections (\
    number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, dimensions INTEGER NOT NULL, metric TEXT NOT NULL)";
const HAS_REGISTRY: &str =
    "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'nvisy_collections'";
const FIND: &str = "SELECT number, name, dimensions, metric FROM nvisy_collections WHERE name = ?";
const LIST: &str = "SELECT number, name, dimensions, metric FROM nvisy_collections ORDER BY name";
const ADD: &str = "INSERT INTO nvisy_collections (name, dimensions, metric) VALUES (?, ?, ?)";
const REMOVE: &str = "DELETE FROM nvisy_collections WHERE number = ?";

/// A named set of embeddings of one size, compared in one way.
///
/// Its name is a value, not part of any table's name: any text will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collection {
    number: i64,
    name: String,
    dimensions: u32,
    metric: Metric,
}

impl Collection {
    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns how many numbers each vector has.
    #[must_use]
    pub fn dimensions(&self) -> u32 {
        self.dimensions
    }

    /// Returns how vectors are compared.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// The table of everything but the vectors.
    pub(crate) fn points(&self) -> String {
        format!("nvisy_points_{}", self.number)
    }

    /// The table of the vectors.
    pub(crate) fn vectors(&self) -> String {
        format!("nvisy_vectors_{}", self.number)
    }

    /// The full-text index.
    pub(crate) fn texts(&self) -> String {
        format!("nvisy_texts_{}", self.number)
    }

    fn creation(&self) -> Vec<String> {
        let (points, vectors, texts) = (self.points(), self.vectors(), self.texts());
        let dimensions = self.dimensions;
        vec![
            format!(
                "CREATE TABLE {points} (rowid INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT, title TEXT, \
                 source_uri TEXT, language TEXT, mime_type TEXT, byte_start INTEGER, byte_end INTEGER, \
                 chunk INTEGER, allow_empty INTEGER NOT NULL, attributes TEXT NOT NULL, model TEXT NOT NULL, \
                 content_hash TEXT, metric TEXT, said TEXT NOT NULL, nvisy_run TEXT, nvisy_root TEXT, \
                 nvisy_lineage TEXT NOT NULL, apart BLOB, nvisy_origin TEXT, nvisy_generation INTEGER)"
            ),
            format!("CREATE INDEX {points}_root ON {points} (nvisy_root)"),
            format!("CREATE INDEX {points}_origin ON {points} (nvisy_origin)"),
            match self.metric {
                Metric::Cosine => {
                    format!(
                        "CREATE VIRTUAL TABLE {vectors} USING vec0(vector float[{dimensions}] distance_metric=cosine)"
                    )
                }
                Metric::L2 => {
                    format!(
                        "CREATE VIRTUAL TABLE {vectors} USING vec0(vector float[{dimensions}] distance_metric=l2)"
                    )
                }
                // sqlite-vec knows no inner product: the vectors are compared here.
                Metric::Dot => {
                    format!("CREATE TABLE {vectors} (rowid INTEGER PRIMARY KEY, vector BLOB NOT NULL)")
                }
            },
            format!(
                "CREATE VIRTUAL TABLE {texts} USING fts5(title, text, content='{points}', content_rowid='rowid', \
                 tokenize='porter unicode61 remove_diacritics 2')"
            ),
            format!(
                "CREATE TRIGGER {points}_added AFTER INSERT ON {points} BEGIN \
                 INSERT INTO {texts} (rowid, title, text) VALUES (new.rowid, new.title, new.text); END"
            ),
            format!(
                "CREATE TRIGGER {points}_removed AFTER DELETE ON {points} BEGIN \
                 INSERT INTO {texts} ({texts}, rowid, title, text) VALUES ('delete', old.rowid, old.title, old.text); END"
            ),
            format!(
                "CREATE TRIGGER {points}_changed AFTER UPDATE ON {points} \
                 WHEN old.title IS NOT new.title OR old.text IS NOT new.text BEGIN \
                 INSERT INTO {texts} ({texts}, rowid, title, text) VALUES ('delete', old.rowid, old.title, old.text); \
                 INSERT INTO {texts} (rowid, title, text) VALUES (new.rowid, new.title, new.text); END"
            ),
        ]
    }
}

pub(crate) fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::Cosine => "cosine",
        Metric::Dot => "dot",
        Metric::L2 => "l2",
    }
}

pub(crate) fn metric_of(name: &str) -> Option<Metric> {
    [Metric::Cosine, Metric::Dot, Metric::L2].into_iter().find(|metric| metric_name(*metric) == name)
}

fn collection(row: &sqlx::sqlite::SqliteRow) -> Result<Collection, sqlx::Error> {
    let metric: String = row.try_get(3)?;
    let metric = metric_of(&metric)
        .ok_or_else(|| sqlx::Error::Protocol(format!("there is no metric \"{metric}\"")))?;
    Ok(Collection { number: row.try_get(0)?, name: row.try_get(1)?, dimensions: row.try_get(2)?, metric })
}

async fn has_registry(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    let count: i64 = sqlx::query_scalar(HAS_REGISTRY).fetch_one(connection).await?;
    Ok(count > 0)
}

pub(crate) async fn find(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<Collection>, sqlx::Error> {
    if !has_registry(connection).await? {
        return Ok(None);
    }
    let row = sqlx::query(FIND).bind(name).fetch_optional(connection).await?;
    row.as_ref().map(collection).transpose()
}

async fn list(connection: &mut SqliteConnection) -> Result<Vec<Collection>, sqlx::Error> {
    if !has_registry(connection).await? {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(LIST).fetch_all(connection).await?;
    rows.iter().map(collection).collect()
}

/// Creates a collection within a transaction.
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    name: &str,
    dimensions: u32,
    metric: Metric,
) -> Result<Collection, sqlx::Error> {
    connection.execute(REGISTRY).await?;
    let added =
        sqlx::query(ADD).bind(name).bind(dimensions).bind(metric_name(metric)).execute(&mut *connection);
    let number = added.await?.last_insert_rowid();
    let collection = Collection { number, name: name.to_owned(), dimensions, metric };
    for sql in collection.creation() {
        connection.execute(AssertSqlSafe(sql)).await?;
    }
    Ok(collection)
}

impl SqliteClient {
    /// Returns the collections, by name.
    ///
    /// # Errors
    ///
    /// `connection` and the like if the file cannot be read.
    pub async fn collections(&self) -> Result<Vec<Collection>> {
        let mut connection = self.database.reader().await?;
        list(&mut connection).await.map_err(|e| self.database.error(e))
    }

    /// Returns the collection of a name, if there is one.
    ///
    /// # Errors
    ///
    /// `connection` and the like if the file cannot be read.
    pub async fn collection(&self, name: &str) -> Result<Option<Collection>> {
        let mut connection = self.database.reader().await?;
        find(&mut connection, name).await.map_err(|e| self.database.error(e))
    }

    /// Returns the collection of a name.
    pub(crate) async fn existing(&self, name: &str) -> Result<Collection> {
        let mut connection = self.database.reader().await?;
        self.existing_on(&mut connection, name).await
    }

    /// Returns the collection of a name, as a connection sees it.
    pub(crate) async fn existing_on(
        &self,
        connection: &mut SqliteConnection,
        name: &str,
    ) -> Result<Collection> {
        let failed = |error| self.database.error(error);
        if let Some(collection) = find(connection, name).await.map_err(failed)? {
            return Ok(collection);
        }
        let there = list(connection).await.map_err(failed)?;
        let there: Vec<String> = there.into_iter().map(|collection| collection.name).collect();
        Err(self.database.no_such("collection", name, &there))
    }

    /// Creates a collection, unless there is such a one.
    ///
    /// # Errors
    ///
    /// `conflict` if there is one of the name with other dimensions or another metric.
    pub async fn create_collection(
        &self,
        name: &str,
        dimensions: NonZeroU32,
        metric: Metric,
    ) -> Result<Collection> {
        self.check_dimensions(name, dimensions.get())?;
        let mut transaction = self.database.begin().await?;
        let collection = match find(&mut transaction, name).await.map_err(|e| self.database.error(e))? {
            Some(collection) => {
                self.check(&collection, Some(dimensions), Some(metric))?;
                collection
            }
            None => create(&mut transaction, name, dimensions.get(), metric)
                .await
                .map_err(|e| self.database.error(e))?,
        };
        self.database.commit(transaction).await?;
        Ok(collection)
    }

    pub(crate) fn check_dimensions(&self, name: &str, dimensions: u32) -> Result<()> {
        if dimensions <= MAX_DIMENSIONS {
            return Ok(());
        }
        let place = self.database.place();
        Err(Error::invalid(
            "embedding.vector",
            format!(
                "{place}: collection \"{name}\": has {dimensions} dimensions, sqlite-vec takes {MAX_DIMENSIONS}"
            ),
        ))
    }

    /// Checks that a collection is what is asked for.
    pub(crate) fn check(
        &self,
        collection: &Collection,
        dimensions: Option<NonZeroU32>,
        metric: Option<Metric>,
    ) -> Result<()> {
        let (place, name) = (self.database.place(), &collection.name);
        if let Some(want) = dimensions
            && want.get() != collection.dimensions
        {
            let have = collection.dimensions;
            let message =
                format!("{place}: collection \"{name}\" has {have} dimensions, {want} are asked for");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        if let Some(want) = metric
            && want != collection.metric
        {
            let (have, want) = (metric_name(collection.metric), metric_name(want));
            let message = format!("{place}: collection \"{name}\" compares by {have}, {want} is asked for");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        Ok(())
    }

    /// Removes a collection with everything in it. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// `permission` if the file is read-only.
    pub async fn drop_collection(&self, name: &str) -> Result<bool> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        let Some(collection) = find(&mut transaction, name).await.map_err(failed)? else { return Ok(false) };
        for table in [collection.texts(), collection.vectors(), collection.points()] {
            let sql = format!("DROP TABLE {table}");
            transaction.execute(AssertSqlSafe(sql)).await.map_err(failed)?;
        }
        sqlx::query(REMOVE).bind(collection.number).execute(&mut *transaction).await.map_err(failed)?;
        self.database.commit(transaction).await?;
        Ok(true)
    }

    /// Counts the embeddings of a collection.
    ///
    /// # Errors
    ///
    /// `not_found` if there is no such collection.
    pub async fn count(&self, name: &str) -> Result<u64> {
        let collection = self.existing(name).await?;
        let sql = format!("SELECT count(*) FROM {}", collection.points());
        let mut connection = self.database.reader().await?;
        let count: i64 = sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&mut *connection)
            .await
            .map_err(|e| self.database.error(e))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// Removes everything that derives from a source item. Returns how many embeddings that were.
    ///
    /// # Errors
    ///
    /// `not_found` if there is no such collection; `permission` if the file is read-only.
    pub async fn delete_by_root(&self, name: &str, root: PrimitiveId) -> Result<u64> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        let collection = self.existing_on(&mut transaction, name).await?;
        let (points, vectors) = (collection.points(), collection.vectors());
        let which = format!("SELECT rowid FROM {points} WHERE nvisy_root = ?");
        let root = root.to_string();
        let sql = format!("DELETE FROM {vectors} WHERE rowid IN ({which})");
        sqlx::query(AssertSqlSafe(sql)).bind(&root).execute(&mut *transaction).await.map_err(failed)?;
        let sql = format!("DELETE FROM {points} WHERE nvisy_root = ?");
        let deleted =
            sqlx::query(AssertSqlSafe(sql)).bind(&root).execute(&mut *transaction).await.map_err(failed)?;
        self.database.commit(transaction).await?;
        Ok(deleted.rows_affected())
    }
}
