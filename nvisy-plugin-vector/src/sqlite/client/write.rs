//! Writing embeddings: one transaction a batch.

use std::collections::HashMap;

use nvisy_core::primitive::embedding::Metric;
use nvisy_core::{Error, PrimitiveId, Result};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, Row, SqliteConnection};

use super::SqliteClient;
use super::collection::{Collection, create, find, metric_name};
use crate::point::NewPoint;

const COLUMNS: [&str; 22] = [
    "rowid",
    "id",
    "text",
    "title",
    "source_uri",
    "language",
    "mime_type",
    "byte_start",
    "byte_end",
    "chunk",
    "allow_empty",
    "attributes",
    "model",
    "content_hash",
    "metric",
    "said",
    "nvisy_run",
    "nvisy_root",
    "nvisy_lineage",
    "apart",
    "nvisy_origin",
    "nvisy_generation",
];
/// How many points one statement inserts.
const POINTS: usize = 32;
/// How many ids one statement looks up or deletes.
const IDS: usize = 256;
/// Lengths beyond which sqlite-vec's arithmetic in 32 bits runs over or under.
const LENGTHS: std::ops::RangeInclusive<f64> = 1e-12..=1e12;

/// How to find, or make, the collection to write to.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub(crate) name: String,
    pub(crate) create: bool,
    pub(crate) dimensions: Option<u32>,
    pub(crate) metric: Option<Metric>,
}

impl SqliteClient {
    /// Writes points; says of each whether it was taken. An error means that nothing was written.
    pub(crate) async fn write(&self, to: &Destination, points: &[NewPoint]) -> Result<Vec<Result<()>>> {
        let failed = |error| self.database.error(error);
        let mut transaction = self.database.begin().await?;
        let found = find(&mut transaction, &to.name).await.map_err(failed)?;
        let collection = match (found, points.first()) {
            (Some(collection), _) => collection,
            (None, Some(first)) if to.create => {
                let dimensions = to.dimensions.unwrap_or(first.embedding.dimensions() as u32);
                self.check_dimensions(&to.name, dimensions)?;
                let metric = to.metric.or(first.embedding.metric).unwrap_or_default();
                create(&mut transaction, &to.name, dimensions, metric).await.map_err(failed)?
            }
            (None, None) => return Ok(Vec::new()),
            (None, Some(_)) => return Err(self.gone(&to.name)),
        };
        let results: Vec<Result<()>> =
            points.iter().map(|point| point.check(&to.name, collection.dimensions())).collect();

        // Of an item that comes twice, the last one stays.
        let mut last: HashMap<PrimitiveId, usize> = HashMap::with_capacity(points.len());
        for (index, point) in points.iter().enumerate().filter(|(index, _)| results[*index].is_ok()) {
            last.insert(point.id, index);
        }
        let taken: Vec<&NewPoint> = points
            .iter()
            .enumerate()
            .filter(|(index, point)| last.get(&point.id) == Some(index))
            .map(|(_, point)| point)
            .collect();
        if !taken.is_empty() {
            put(&mut transaction, &collection, &taken).await.map_err(failed)?;
        }
        self.database.commit(transaction).await?;
        Ok(results)
    }

    fn gone(&self, name: &str) -> Error {
        let message = format!("{}: collection \"{name}\" does not exist any more", self.database.place());
        Error::new(nvisy_core::ErrorKind::NotFound, message)
    }
}

/// Puts points in, in place of those with the same ids.
async fn put(
    connection: &mut SqliteConnection,
    collection: &Collection,
    points: &[&NewPoint],
) -> Result<(), sqlx::Error> {
    let (table, vectors) = (collection.points(), collection.vectors());
    let ids: Vec<String> = points.iter().map(|point| point.id.to_string()).collect();

    let mut known: HashMap<String, i64> = HashMap::new();
    for some in ids.chunks(IDS) {
        let sql = format!("SELECT id, rowid FROM {table} WHERE id IN ({})", places(some.len()));
        let mut arguments = SqliteArguments::default();
        some.iter().try_for_each(|id| arguments.add(id.as_str())).map_err(sqlx::Error::Encode)?;
        for row in sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(&mut *connection).await? {
            known.insert(row.try_get(0)?, row.try_get(1)?);
        }
    }
    let sql = format!("SELECT coalesce(max(rowid), 0) FROM {table}");
    let mut free: i64 = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut *connection).await?;
    let rowids: Vec<i64> = ids
        .iter()
        .map(|id| {
            known.get(id).copied().unwrap_or_else(|| {
                free += 1;
                free
            })
        })
        .collect();

    let known: Vec<i64> = known.into_values().collect();
    for some in known.chunks(IDS) {
        let sql = format!("DELETE FROM {vectors} WHERE rowid IN ({})", places(some.len()));
        let mut arguments = SqliteArguments::default();
        some.iter().try_for_each(|rowid| arguments.add(*rowid)).map_err(sqlx::Error::Encode)?;
        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *connection).await?;
    }

    let mut compared: Vec<(i64, Vec<u8>)> = Vec::with_capacity(points.len());
    for (start, some) in points.chunks(POINTS).enumerate().map(|(n, some)| (n * POINTS, some)) {
        let mut arguments = SqliteArguments::default();
        for (offset, point) in some.iter().enumerate() {
            let index = start + offset;
            let stored = Stored::of(&point.embedding.vector, collection.metric());
            bind(point, &ids[index], rowids[index], stored.apart.as_deref(), &mut arguments)?;
            compared.extend(stored.compared.map(|vector| (rowids[index], vector)));
        }
        let sql = upsert(&table, some.len());
        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *connection).await?;
    }
    for some in compared.chunks(POINTS) {
        let rows = vec!["(?, ?)"; some.len()].join(", ");
        let sql = format!("INSERT INTO {vectors} (rowid, vector) VALUES {rows}");
        let mut arguments = SqliteArguments::default();
        for (rowid, vector) in some {
            arguments
                .add(*rowid)
                .and_then(|()| arguments.add(vector.as_slice()))
                .map_err(sqlx::Error::Encode)?;
        }
        sqlx::query_with(AssertSqlSafe(sql), arguments).execute(&mut *connection).await?;
    }
    Ok(())
}

fn places(count: usize) -> String {
    vec!["?"; count].join(", ")
}

fn upsert(table: &str, rows: usize) -> String {
    let row = format!("({})", places(COLUMNS.len()));
    let changes: Vec<String> = COLUMNS[2..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        "INSERT INTO {table} ({}) VALUES {} ON CONFLICT DO UPDATE SET {}",
        COLUMNS.join(", "),
        vec![row; rows].join(", "),
        changes.join(", ")
    )
}

fn bind(
    point: &NewPoint,
    id: &str,
    rowid: i64,
    apart: Option<&[u8]>,
    arguments: &mut SqliteArguments,
) -> Result<(), sqlx::Error> {
    let embedding = &point.embedding;
    let document = embedding.document.as_deref();
    let json = |text: Result<String, serde_json::Error>| text.map_err(|e| sqlx::Error::Encode(e.into()));
    let attributes = match document {
        Some(document) => json(serde_json::to_string(&document.attributes))?,
        None => "{}".to_owned(),
    };
    let said = json(serde_json::to_string(&point.said()))?;
    let lineage = json(serde_json::to_string(&point.lineage))?;
    let range = document.and_then(|document| document.byte_range.as_ref());
    let mut add = || -> Result<(), sqlx::error::BoxDynError> {
        arguments.add(rowid)?;
        arguments.add(id)?;
        arguments.add(document.map(|document| document.text.as_str()))?;
        arguments.add(document.and_then(|document| document.title.as_deref()))?;
        arguments.add(document.and_then(|document| document.source_uri.as_deref()))?;
        arguments.add(document.and_then(|document| document.language.as_deref()))?;
        arguments.add(document.and_then(|document| document.mime_type.as_deref()))?;
        // Above half of their range they are negative to SQLite, and read back as they were.
        arguments.add(range.map(|range| range.start as i64))?;
        arguments.add(range.map(|range| range.end as i64))?;
        arguments.add(document.and_then(|document| document.chunk).map(|chunk| chunk as i64))?;
        arguments.add(document.is_some_and(|document| document.allow_empty))?;
        arguments.add(attributes.as_str())?;
        arguments.add(embedding.model.as_str())?;
        arguments.add(embedding.content_hash.as_deref())?;
        arguments.add(embedding.metric.map(metric_name))?;
        arguments.add(said.as_str())?;
        arguments.add(point.run.map(|run| run.to_string()))?;
        arguments.add(point.root.map(|root| root.to_string()))?;
        arguments.add(lineage.as_str())?;
        arguments.add(apart)?;
        arguments.add(point.origin.map(|origin| origin.to_string()))?;
        arguments.add(point.generation as i64)
    };
    add().map_err(sqlx::Error::Encode)
}

/// A vector as it is kept: what it is compared by, and what it is where that is another.
struct Stored {
    compared: Option<Vec<u8>>,
    apart: Option<Vec<u8>>,
}

impl Stored {
    fn of(vector: &[f32], metric: Metric) -> Self {
        let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if metric != Metric::Cosine || LENGTHS.contains(&length) {
            return Self { compared: Some(bytes(vector.iter().copied())), apart: None };
        }
        // A vector of no length has no direction: it is kept, and found by its text alone.
        let unit = vector.iter().map(|x| (f64::from(*x) / length) as f32);
        Self { compared: (length > 0.0).then(|| bytes(unit)), apart: Some(bytes(vector.iter().copied())) }
    }
}

/// Writes a vector as sqlite-vec reads it: 32-bit floats, little-endian.
pub(crate) fn bytes(vector: impl Iterator<Item = f32>) -> Vec<u8> {
    vector.flat_map(f32::to_le_bytes).collect()
}

/// Reads a vector of 32-bit floats, little-endian.
pub(crate) fn vector(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_that_32_bits_cannot_compare_is_kept_apart() {
        let plain = Stored::of(&[3.0, 4.0], Metric::Cosine);
        assert_eq!((plain.compared.map(|b| vector(&b)), plain.apart), (Some(vec![3.0, 4.0]), None));
        let zero = Stored::of(&[0.0, 0.0], Metric::Cosine);
        assert_eq!((zero.compared, zero.apart.map(|b| vector(&b))), (None, Some(vec![0.0, 0.0])));
        let huge = Stored::of(&[f32::MAX, 0.0], Metric::Cosine);
        assert_eq!(huge.compared.map(|b| vector(&b)), Some(vec![1.0, 0.0]));
        assert_eq!(huge.apart.map(|b| vector(&b)), Some(vec![f32::MAX, 0.0]));
        assert!(Stored::of(&[0.0], Metric::L2).apart.is_none());
    }
}
