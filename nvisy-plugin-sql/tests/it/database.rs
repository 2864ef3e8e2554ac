//! A database of its own for each test, and looks into it past the plugin.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use nvisy_core::config::parse;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::{BatchLimits, Payload};
use nvisy_plugin_sql::{Sqlite, SqliteClient, SqliteSink, SqliteSource};
use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Column, Connection as _, Row as _, TypeInfo, ValueRef};

pub(crate) struct Database {
    pub(crate) directory: tempfile::TempDir,
}

impl Database {
    pub(crate) fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) async fn with(sql: &str) -> Self {
        let database = Self::empty();
        database.execute(sql).await;
        database
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("test.db")
    }

    pub(crate) fn config(&self) -> Sqlite {
        Sqlite::at(self.path().to_str().unwrap()).create()
    }

    pub(crate) async fn client(&self) -> SqliteClient {
        connect(&self.config()).await.unwrap()
    }

    pub(crate) async fn connection(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.path()).create_if_missing(true);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let mut connection = self.connection().await;
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    /// What a query gives, by storage class: blobs as hexadecimal texts.
    pub(crate) async fn query(&self, sql: &str) -> Vec<Value> {
        let mut connection = self.connection().await;
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let rows = rows.iter().map(|row| {
            let columns = row.columns().iter().map(|column| {
                let at = column.ordinal();
                let raw = row.try_get_raw(at).unwrap();
                let class = if raw.is_null() { "NULL".into() } else { raw.type_info().name().to_owned() };
                let value = match class.as_str() {
                    "NULL" => Value::Null,
                    "INTEGER" => json!(row.get_unchecked::<i64, _>(at)),
                    "REAL" => json!(row.get_unchecked::<f64, _>(at)),
                    "BLOB" => {
                        let bytes = row.get_unchecked::<Vec<u8>, _>(at);
                        json!(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>())
                    }
                    _ => json!(row.get_unchecked::<String, _>(at)),
                };
                (column.name().to_owned(), value)
            });
            Value::Object(columns.collect::<Map<_, _>>())
        });
        rows.collect()
    }
}

pub(crate) async fn connect(config: &Sqlite) -> Result<SqliteClient> {
    config.connect(&ConnectContext::detached()).await
}

/// Everything that a source reads: rows, what is rejected, and the position behind each batch.
#[derive(Debug, Default)]
pub(crate) struct Read {
    pub(crate) rows: Vec<Row>,
    pub(crate) positions: Vec<Position>,
    pub(crate) rejected: Vec<(Value, Error)>,
    pub(crate) batches: Vec<usize>,
}

impl Read {
    pub(crate) fn json(&self) -> Vec<Value> {
        self.rows.iter().map(|row| Value::Object(row.to_json())).collect()
    }
}

pub(crate) async fn read(source: &SqliteSource, client: &Arc<SqliteClient>) -> Result<Read> {
    read_from(source, client, &Partition::whole(), None, 1_024).await
}

pub(crate) async fn read_from(
    source: &SqliteSource,
    client: &Arc<SqliteClient>,
    partition: &Partition,
    after: Option<Position>,
    items: usize,
) -> Result<Read> {
    let open = OpenContext::new(Context::detached(), client.clone());
    let context = ReadContext::new(open, source.identity(client), BatchLimits::items(items));
    let mut stream = std::pin::pin!(source.read(partition, after, &context));
    let mut read = Read::default();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        read.batches.push(batch.batch.len());
        for primitive in batch.batch.iter() {
            read.positions.push(primitive.root().unwrap().position);
            let Payload::Row(row) = primitive.payload() else { panic!("no row") };
            read.rows.push(row.clone());
        }
        for rejected in batch.rejected {
            let Payload::Raw(raw) = rejected.primitive.payload() else { panic!("no raw") };
            read.rejected.push((raw.as_json().unwrap().clone(), rejected.error));
        }
    }
    Ok(read)
}

/// Rows of JSON objects, as items of a batch, with ids by their place.
pub(crate) fn batch(objects: &[Value]) -> Batch {
    let primitives = objects.iter().enumerate().map(|(n, object)| {
        let row = Row::from_json(object.as_object().unwrap(), None).unwrap();
        Item::detached(&format!("item {n}"), row).into_primitive()
    });
    Batch::from_primitives(primitives.collect())
}

pub(crate) async fn write(
    sink: &SqliteSink,
    client: &Arc<SqliteClient>,
    batch: &Batch,
) -> Result<WriteReport> {
    let context = OpenContext::new(Context::detached(), client.clone());
    let open = sink.open(&context).await?;
    let report = open.write(batch, context.context()).await?;
    open.close(context.context()).await?;
    Ok(report)
}

/// A config out of JSON, as a graph would hold it.
pub(crate) fn source_of(config: &Value) -> SqliteSource {
    parse(config).unwrap()
}
