//! The rules of the conformance kit.

use std::sync::Arc;

use nvisy_core::prelude::*;
use nvisy_core::primitive::embedding::{Embedding, EmbeddingFields};
use nvisy_core::testing::conformance::{self, OpenSource, SinkHarness, SourceHarness, Target, samples};
use nvisy_core::testing::plain;
use nvisy_core::{Kind, Payload};
use nvisy_plugin_vector::{Sqlite, SqliteSink, SqliteSource};
use serde_json::json;

use crate::index::{Index, connect, document, embedding, item, read, write};

fn nth(n: u64) -> Embedding {
    let document = document(&format!("text {n}"), &format!("{n}.md"), &json!({"n": n}));
    embedding(&[1.0, n as f32, -0.5], Some(document))
}

async fn filled(items: u64) -> Arc<Index> {
    let index = Index::new();
    let client = index.client().await;
    let batch = Batch::from_primitives((0..items).map(|n| item(&n.to_string(), nth(n))).collect());
    let sink = SqliteSink::collection("docs").create().dimensions(3.try_into().unwrap());
    write(&sink, &client, &batch).await.unwrap();
    Arc::new(index)
}

#[tokio::test]
async fn the_source_conforms() {
    let at = |index: Arc<Index>, collection: &'static str| {
        move || {
            let index = index.clone();
            async move {
                Ok(OpenSource::new(SqliteSource::collection(collection), connect(&index.config()).await?))
            }
        }
    };
    let (many, none, one) = (filled(25).await, filled(0).await, filled(1).await);
    let harness =
        SourceHarness::new(at(many.clone(), "docs"), (0..25).map(|n| plain(&nth(n).into_payload())))
            .with_empty(at(none, "docs"))
            .with_single(at(one, "docs"), plain(&nth(0).into_payload()))
            .failing("a missing collection", ErrorKind::NotFound, at(many, "nothing"))
            .failing("a missing file", ErrorKind::NotFound, || async {
                Ok(OpenSource::new(
                    SqliteSource::collection("docs"),
                    connect(&Sqlite::at("no/such/file.db")).await?,
                ))
            });
    conformance::source(&harness).await.assert_passed();
}

#[tokio::test]
async fn the_sink_conforms() {
    let target = |sink: SqliteSink| async move {
        let index = Arc::new(Index::new());
        let client = connect(&index.config()).await?;
        Ok(Target::new(sink, client, move || {
            let index = index.clone();
            async move {
                let client = index.client().await;
                Ok(read("docs", &client).await.iter().map(|item| plain(item.payload())).collect())
            }
        }))
    };
    let fresh = move || target(SqliteSink::collection("docs").create().dimensions(3.try_into().unwrap()));
    let extremes = samples::documents().into_iter().map(|document| {
        let Payload::Document(document) = document else { panic!("no document") };
        let vector = vec![f32::MAX, f32::MIN_POSITIVE, -0.0];
        let fields = EmbeddingFields { vector, document: Some(document), ..Default::default() };
        Embedding::try_from(fields).unwrap().into_payload()
    });
    let harness = SinkHarness::new(fresh, |n| nth(n).into_payload())
        .with_extremes(extremes)
        .with_nulls([embedding(&[0.0, 0.0, 0.0], None).into_payload()])
        .refusing([embedding(&[1.0], None).into_payload(), embedding(&[1.0; 4], None).into_payload()])
        .with_newer(|n| nth(n + 1_000_000).into_payload())
        .with_at_most(1_500)
        .failing("a missing collection", ErrorKind::NotFound, move || {
            target(SqliteSink::collection("nothing"))
        });
    conformance::sink(&harness).await.assert_passed();
}
