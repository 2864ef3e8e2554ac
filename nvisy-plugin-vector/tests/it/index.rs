//! An index of its own for each test, and embeddings to put into it.

use std::path::PathBuf;
use std::sync::Arc;

use futures::StreamExt;
use nvisy_core::prelude::*;
use nvisy_core::primitive::document::{Document, DocumentFields};
use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields};
use nvisy_core::{BatchLimits, Primitive};
use nvisy_plugin_vector::{Sqlite, SqliteClient, SqliteSink, SqliteSource};
use serde_json::{Value, json};

pub(crate) struct Index {
    pub(crate) directory: tempfile::TempDir,
}

impl Index {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("index.db")
    }

    pub(crate) fn config(&self) -> Sqlite {
        Sqlite::at(self.path().to_str().unwrap()).create()
    }

    pub(crate) async fn client(&self) -> Arc<SqliteClient> {
        Arc::new(connect(&self.config()).await.unwrap())
    }
}

pub(crate) async fn connect(config: &Sqlite) -> Result<SqliteClient> {
    config.connect(&ConnectContext::detached()).await
}

pub(crate) fn document(text: &str, uri: &str, attributes: &Value) -> DocumentFields {
    DocumentFields {
        text: text.into(),
        title: Some(format!("Title of {uri}")),
        language: Some("en".into()),
        mime_type: Some("text/plain".into()),
        source_uri: Some(uri.into()),
        byte_range: Some(7..7 + text.len() as u64),
        chunk: Some(3),
        attributes: serde_json::from_value(attributes.clone()).unwrap(),
        allow_empty: text.is_empty(),
    }
}

pub(crate) fn embedding(vector: &[f32], document: Option<DocumentFields>) -> Embedding {
    let document = document.map(|fields| Arc::new(Document::try_from(fields).unwrap()));
    let fields =
        EmbeddingFields { vector: vector.to_vec(), model: "test".into(), document, ..Default::default() };
    fields.try_into().unwrap()
}

pub(crate) fn item(key: &str, embedding: Embedding) -> Primitive {
    Item::detached(key, embedding).into_primitive()
}

/// Three dimensions, a text each, and attributes.
pub(crate) fn samples() -> Vec<Primitive> {
    let samples = [
        (
            "owner",
            [1.0, 0.0, 0.0],
            "Every value has an owner; ownership moves.",
            json!({"year": 2020, "draft": true}),
        ),
        ("borrow", [0.9, 0.1, 0.0], "The borrow checker compares scopes.", json!({"year": 2021, "tag": "x"})),
        (
            "trait",
            [0.0, 1.0, 0.0],
            "A trait defines shared behavior.",
            json!({"year": 2022, "deep": {"a/b": [1, "z"]}}),
        ),
        (
            "unwrap",
            [0.0, 0.0, 2.0],
            "Call unwrap_or_else with a closure.",
            json!({"tag": null, "weird') OR 1=1; --": "x"}),
        ),
    ];
    let item = |(name, vector, text, attributes): (&str, [f32; 3], &str, Value)| {
        item(name, embedding(&vector, Some(document(text, &format!("{name}.md"), &attributes))))
    };
    samples.into_iter().map(item).collect()
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

/// An index with the samples in the collection "docs".
pub(crate) async fn filled() -> (Index, Arc<SqliteClient>) {
    let index = Index::new();
    let client = index.client().await;
    let report =
        write(&SqliteSink::collection("docs").create(), &client, &Batch::from_primitives(samples())).await;
    assert!(report.unwrap().is_applied());
    (index, client)
}

/// What a source reads after a position, and the position of each.
pub(crate) async fn read_from(
    source: &SqliteSource,
    client: &Arc<SqliteClient>,
    after: Option<Position>,
    items: usize,
) -> Result<Vec<(Primitive, Position)>> {
    let open = OpenContext::new(Context::detached(), client.clone());
    let context = ReadContext::new(open, source.identity(client), BatchLimits::items(items));
    let whole = Partition::whole();
    let mut stream = std::pin::pin!(source.read(&whole, after, &context));
    let mut read = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        assert!(batch.batch.len() <= items && batch.rejected.is_empty(), "{:?}", batch.rejected);
        read.extend(batch.batch.iter().map(|item| (item.clone(), item.root().unwrap().position)));
    }
    Ok(read)
}

pub(crate) async fn read(collection: &str, client: &Arc<SqliteClient>) -> Vec<Primitive> {
    let read = read_from(&SqliteSource::collection(collection), client, None, 1_024).await.unwrap();
    read.into_iter().map(|(item, _)| item).collect()
}
