//! Reading embeddings: by id, by vector, by text.

use std::collections::HashMap;

use futures::TryStreamExt;
use nvisy_core::config::Problem;
use nvisy_core::lineage::Record;
use nvisy_core::primitive::document::DocumentFields;
use nvisy_core::primitive::embedding::Metric;
use nvisy_core::{Error, ErrorKind, Payload, Result};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Connection, Row, SqliteConnection};

use super::SqliteClient;
use super::collection::{Collection, metric_of};
use super::condition::condition;
use super::write::{bytes, vector};
use crate::filter::Filter;
use crate::point::{Before, StoredPoint};
use crate::search::{Hit, Search, fuse, terms};

/// How many neighbours sqlite-vec gives at the most.
const MAX_K: usize = 4_096;
/// How deep the rankings are that are fused.
const FUSED: usize = 64;
/// How much a word in the title counts, against one in the text.
const TITLE_WEIGHT: f64 = 1.5;

/// The columns of a point, in the order that [`point`] reads them.
const POINT: &str = "p.id, p.text, p.title, p.source_uri, p.language, p.mime_type, p.byte_start, p.byte_end, p.chunk, \
                     p.allow_empty, p.attributes, p.model, p.content_hash, p.metric, p.said, p.nvisy_run, \
                     p.nvisy_root, p.nvisy_lineage";
/// The column of the vector, behind them.
const VECTOR: usize = 18;

/// A point with its payload, or its id and why it cannot be read.
pub(crate) type Scrolled = Result<(StoredPoint, Payload), (String, Error)>;

impl SqliteClient {
    /// Reads the points behind an id, in the order of their ids, each with its vector.
    pub(crate) async fn scroll(
        &self,
        collection: &Collection,
        filter: Option<&Filter>,
        after: Option<&str>,
        limit: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Scrolled>, bool)> {
        let mut arguments = SqliteArguments::default();
        let mut conditions = Vec::new();
        if let Some(filter) = filter {
            conditions.push(condition(filter, &mut arguments).map_err(|e| self.database.error(e))?);
        }
        if let Some(after) = after {
            conditions.push("p.id > ?".to_owned());
            add(&mut arguments, after).map_err(|e| self.database.error(e))?;
        }
        // One more shows whether there is another page.
        add(&mut arguments, i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1)
            .map_err(|e| self.database.error(e))?;
        let (points, vectors) = (collection.points(), collection.vectors());
        let wanted = if conditions.is_empty() { "1".to_owned() } else { conditions.join(" AND ") };
        let sql = format!(
            "SELECT {POINT}, coalesce(p.apart, v.vector) FROM {points} AS p LEFT JOIN {vectors} AS v \
             ON v.rowid = p.rowid WHERE {wanted} ORDER BY p.id LIMIT ?"
        );
        let mut connection = self.database.reader().await?;
        let mut rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch(&mut *connection);
        let (mut page, mut size) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await.map_err(|e| self.database.error(e))? {
            if page.len() >= limit || size >= max_bytes {
                return Ok((page, false));
            }
            let place =
                || format!("{}: collection \"{}\": cannot be read", self.database.place(), collection.name());
            let read = point(&row).and_then(|mut point| {
                point.vector = vector(row.try_get(VECTOR)?);
                Ok(point)
            });
            let sealed = match read {
                Ok(mut point) => point.seal().map(|payload| (point, payload)),
                Err(error) => Err(Error::new(ErrorKind::Validation, place()).with_source(error)),
            };
            page.push(match sealed {
                Ok((point, payload)) => {
                    size += payload.size();
                    Ok((point, payload))
                }
                Err(error) => Err((row.try_get(0).map_err(|e| self.database.error(e))?, error)),
            });
        }
        Ok((page, true))
    }

    /// Asks a collection: see [`Search::run`].
    pub(crate) async fn search(&self, name: &str, search: &Search) -> Result<Vec<Hit>> {
        let problems = search.filter.as_ref().map(|filter| filter.validate("filter")).unwrap_or_default();
        if let Some(Problem { path, message, .. }) = problems.into_iter().next() {
            return Err(Error::invalid(path, message));
        }
        if search.k == 0 || search.k > MAX_K {
            return Err(Error::invalid("k", format!("is {}: ask for 1 to {MAX_K} hits", search.k)));
        }
        let mut connection = self.database.reader().await?;
        // What it finds and what it shows of that is of one commit: a row id that is free may be
        // another embedding's in the next.
        let mut transaction = connection.begin().await.map_err(|e| self.database.error(e))?;
        let collection = self.existing_on(&mut transaction, name).await?;
        let (k, filter) = (search.k, search.filter.as_ref());
        let ranked = match (&search.vector, &search.text) {
            (Some(vector), None) => self.nearest(&mut transaction, &collection, vector, k, filter).await?,
            (None, Some(text)) => self.matching(&mut transaction, &collection, text, k, filter).await?,
            (Some(vector), Some(text)) => {
                let depth = k.max(FUSED);
                let keys = |ranking: Vec<(i64, f64)>| ranking.into_iter().map(|(key, _)| key).collect();
                let by_vector = self.nearest(&mut transaction, &collection, vector, depth, filter).await?;
                let by_text = self.matching(&mut transaction, &collection, text, depth, filter).await?;
                fuse(&[keys(by_text), keys(by_vector)], k)
            }
            (None, None) => Vec::new(),
        };
        self.hits(&mut transaction, &collection, &ranked).await
    }

    /// Returns the row ids of the nearest vectors with their scores, best first.
    async fn nearest(
        &self,
        connection: &mut SqliteConnection,
        collection: &Collection,
        query: &[f32],
        k: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<(i64, f64)>> {
        let (name, have, want) = (collection.name(), query.len(), collection.dimensions());
        if have != want as usize {
            let message = format!(
                "has {have} dimensions, the collection \"{name}\" has {want}: embed with the same model"
            );
            return Err(Error::invalid("vector", message));
        }
        let length = query.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
        if !length.is_finite() {
            return Err(Error::invalid("vector", "holds something that is no finite number"));
        }
        let found = match collection.metric() {
            Metric::Dot => products(connection, collection, query, k, filter).await,
            // A vector of no length is as near to one as to another.
            Metric::Cosine if length == 0.0 => return Ok(Vec::new()),
            Metric::Cosine => {
                let unit: Vec<f32> = query.iter().map(|x| (f64::from(*x) / length) as f32).collect();
                let near = neighbours(connection, collection, &unit, k, filter).await;
                near.map(|near| near.into_iter().map(|(key, distance)| (key, 1.0 - distance)).collect())
            }
            Metric::L2 => {
                let near = neighbours(connection, collection, query, k, filter).await;
                near.map(|near| near.into_iter().map(|(key, distance)| (key, -distance)).collect())
            }
        };
        found.map_err(|e| self.database.error(e))
    }

    /// Returns the row ids of the texts that match best with their scores, best first.
    async fn matching(
        &self,
        connection: &mut SqliteConnection,
        collection: &Collection,
        question: &str,
        k: usize,
        filter: Option<&Filter>,
    ) -> Result<Vec<(i64, f64)>> {
        // Within double quotes there is no syntax, and the terms hold none of these.
        let terms: Vec<String> = terms(question).into_iter().map(|term| format!("\"{term}\"")).collect();
        if terms.is_empty() {
            return Ok(Vec::new());
        }
        let texts = collection.texts();
        let mut arguments = SqliteArguments::default();
        add(&mut arguments, terms.join(" OR ")).map_err(|e| self.database.error(e))?;
        let among = among(collection, filter, &mut arguments).map_err(|e| self.database.error(e))?;
        add(&mut arguments, k as i64).map_err(|e| self.database.error(e))?;
        let sql = format!(
            "SELECT rowid, rank FROM {texts} WHERE {texts} MATCH ? AND rank MATCH 'bm25({TITLE_WEIGHT}, 1.0)' {among} \
             ORDER BY rank, rowid LIMIT ?"
        );
        let found: Vec<(i64, f64)> = sqlx::query_as_with(AssertSqlSafe(sql), arguments)
            .fetch_all(connection)
            .await
            .map_err(|e| self.database.error(e))?;
        Ok(found.into_iter().map(|(key, rank)| (key, -rank)).collect())
    }

    async fn hits(
        &self,
        connection: &mut SqliteConnection,
        collection: &Collection,
        ranked: &[(i64, f64)],
    ) -> Result<Vec<Hit>> {
        let mut points: HashMap<i64, StoredPoint> = HashMap::with_capacity(ranked.len());
        for some in ranked.chunks(256) {
            let places = vec!["?"; some.len()].join(", ");
            let sql = format!(
                "SELECT {POINT}, p.rowid FROM {} AS p WHERE p.rowid IN ({places})",
                collection.points()
            );
            let mut arguments = SqliteArguments::default();
            some.iter()
                .try_for_each(|(key, _)| add(&mut arguments, *key))
                .map_err(|e| self.database.error(e))?;
            let rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch_all(&mut *connection).await;
            for row in rows.map_err(|e| self.database.error(e))? {
                let key = row.try_get(VECTOR).map_err(|e| self.database.error(e))?;
                points.insert(key, point(&row).map_err(|e| self.database.error(e))?);
            }
        }
        Ok(ranked.iter().filter_map(|(key, score)| Some(Hit::new(*score, points.remove(key)?))).collect())
    }
}

fn add<'t, T: sqlx::Encode<'t, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>>(
    arguments: &mut SqliteArguments,
    value: T,
) -> Result<(), sqlx::Error> {
    arguments.add(value).map_err(sqlx::Error::Encode)
}

/// A condition on the row id: that the filter holds for it.
fn among(
    collection: &Collection,
    filter: Option<&Filter>,
    arguments: &mut SqliteArguments,
) -> Result<String, sqlx::Error> {
    let Some(filter) = filter else { return Ok(String::new()) };
    let wanted = condition(filter, arguments)?;
    Ok(format!("AND rowid IN (SELECT rowid FROM {} WHERE {wanted})", collection.points()))
}

async fn neighbours(
    connection: &mut SqliteConnection,
    collection: &Collection,
    query: &[f32],
    k: usize,
    filter: Option<&Filter>,
) -> Result<Vec<(i64, f64)>, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    add(&mut arguments, bytes(query.iter().copied()))?;
    add(&mut arguments, k as i64)?;
    let among = among(collection, filter, &mut arguments)?;
    let sql = format!(
        "SELECT rowid, distance FROM {} WHERE vector MATCH ? AND k = ? {among}",
        collection.vectors()
    );
    let mut found: Vec<(i64, f64)> =
        sqlx::query_as_with(AssertSqlSafe(sql), arguments).fetch_all(connection).await?;
    found.sort_by(|(a, x), (b, y)| x.total_cmp(y).then(a.cmp(b)));
    Ok(found)
}

async fn products(
    connection: &mut SqliteConnection,
    collection: &Collection,
    query: &[f32],
    k: usize,
    filter: Option<&Filter>,
) -> Result<Vec<(i64, f64)>, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    let among = among(collection, filter, &mut arguments)?;
    let sql = format!("SELECT rowid, vector FROM {} WHERE 1 {among}", collection.vectors());
    let mut rows = sqlx::query_with(AssertSqlSafe(sql), arguments).fetch(connection);
    let mut best: Vec<(i64, f64)> = Vec::new();
    let order = |(a, x): &(i64, f64), (b, y): &(i64, f64)| y.total_cmp(x).then(a.cmp(b));
    while let Some(row) = rows.try_next().await? {
        let key = row.try_get(0)?;
        let stored: &[u8] = row.try_get(1)?;
        let product = vector(stored).iter().zip(query).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        best.push((key, product));
        if best.len() >= 2 * k + 64 {
            best.sort_by(order);
            best.truncate(k);
        }
    }
    best.sort_by(order);
    best.truncate(k);
    Ok(best)
}

/// Reads the columns of [`POINT`].
fn point(row: &SqliteRow) -> Result<StoredPoint, sqlx::Error> {
    fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
        serde_json::from_str(text).map_err(|e| sqlx::Error::Decode(e.into()))
    }
    fn parsed<T: std::str::FromStr<Err = Error>>(text: Option<&str>) -> Result<Option<T>, sqlx::Error> {
        text.map(str::parse).transpose().map_err(|e: Error| sqlx::Error::Decode(e.into()))
    }
    let id: &str = row.try_get(0)?;
    let document = match row.try_get::<Option<String>, _>(1)? {
        None => None,
        Some(text) => {
            let range: (Option<i64>, Option<i64>) = (row.try_get(6)?, row.try_get(7)?);
            Some(DocumentFields {
                text,
                title: row.try_get(2)?,
                source_uri: row.try_get(3)?,
                language: row.try_get(4)?,
                mime_type: row.try_get(5)?,
                byte_range: range.0.zip(range.1).map(|(start, end)| start as u64..end as u64),
                chunk: row.try_get::<Option<i64>, _>(8)?.map(|chunk| chunk as u64),
                allow_empty: row.try_get(9)?,
                attributes: json(row.try_get(10)?)?,
            })
        }
    };
    let metric = match row.try_get::<Option<&str>, _>(13)? {
        None => None,
        Some(name) => {
            let unknown = || sqlx::Error::Decode(format!("there is no metric \"{name}\"").into());
            Some(metric_of(name).ok_or_else(unknown)?)
        }
    };
    let lineage: Vec<Record> = json(row.try_get(17)?)?;
    Ok(StoredPoint {
        id: id.parse().map_err(|e: Error| sqlx::Error::Decode(e.into()))?,
        vector: Vec::new(),
        model: row.try_get(11)?,
        content_hash: row.try_get(12)?,
        metric,
        document,
        said: json(row.try_get(14)?)?,
        run: parsed(row.try_get(15)?)?,
        origin: Before { root: parsed(row.try_get(16)?)?, lineage },
    })
}
