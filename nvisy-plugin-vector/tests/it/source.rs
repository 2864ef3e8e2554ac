//! Reading collections.

use nvisy_core::prelude::*;
use nvisy_core::primitive::embedding::{EmbeddingFields, Metric};
use nvisy_core::testing::conformance::samples::documents;
use nvisy_core::{Payload, Primitive};
use nvisy_plugin_vector::{Filter, Search, SqliteSink, SqliteSource};
use serde_json::json;

use crate::index::{Index, embedding, filled, item, read, read_from, samples, write};

#[tokio::test]
async fn embeddings_come_back_as_they_were_written() {
    let mut items: Vec<Primitive> = documents()
        .into_iter()
        .enumerate()
        .map(|(n, document)| {
            let Payload::Document(document) = document else { panic!("no document") };
            let fields = EmbeddingFields {
                vector: vec![f32::MAX, f32::MIN_POSITIVE, -0.0, n as f32],
                model: "a model".into(),
                document: Some(document),
                content_hash: Some("abc".into()),
                metric: Some(Metric::Dot),
            };
            let item = Item::detached(
                &n.to_string(),
                nvisy_core::primitive::embedding::Embedding::try_from(fields).unwrap(),
            );
            item.with_tag("n", n.to_string()).into_primitive()
        })
        .collect();
    items.push(item("bare", embedding(&[0.0, 0.0, 0.0, 0.0], None)));
    items.push(item("tiny", embedding(&[f32::from_bits(1), 0.0, 0.0, 0.0], None)));
    items.sort_by_key(Primitive::id);
    for metric in [Metric::Cosine, Metric::L2, Metric::Dot] {
        let index = Index::new();
        let client = index.client().await;
        let sink = SqliteSink::collection("docs").create().metric(metric);
        assert!(write(&sink, &client, &Batch::from_primitives(items.clone())).await.unwrap().is_applied());
        let found = read("docs", &client).await;
        assert_eq!(found.len(), items.len());
        for (found, item) in found.iter().zip(&items) {
            assert_eq!((found.id(), found.payload()), (item.id(), item.payload()));
            assert_eq!(found.metadata().tags, item.metadata().tags);
        }
        // What 32 bits cannot compare does no harm to a search.
        let hits = Search::by_vector([0.0, 0.0, 0.0, 1.0]).k(100).run(&client, "docs").await.unwrap();
        assert!(hits.len() >= items.len() - 1 && hits.iter().all(|hit| !hit.score.is_nan()));
    }
}

#[tokio::test]
async fn reading_resumes_after_every_position_whatever_the_page() {
    let (_index, client) = filled().await;
    let source = SqliteSource::collection("docs");
    let all = read_from(&source, &client, None, 100).await.unwrap();
    assert_eq!(all.len(), 4);
    for items in [1, 2, 3, 4, 5] {
        for (at, (_, position)) in all.iter().enumerate() {
            let rest = read_from(&source, &client, Some(position.clone()), items).await.unwrap();
            let ids =
                |read: &[(Primitive, Position)]| read.iter().map(|(item, _)| item.id()).collect::<Vec<_>>();
            assert_eq!(ids(&rest), ids(&all[at + 1..]));
        }
    }
    let error = read_from(&source, &client, Some(Position::Offset(1)), 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn a_filter_chooses_what_is_read() {
    let (_index, client) = filled().await;
    let source = SqliteSource::collection("docs").filter(Filter::at_least("year", 2021));
    assert_eq!(read_from(&source, &client, None, 1).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_copy_traces_back_to_the_first_source() {
    let (_index, first) = filled().await;
    let items = read("docs", &first).await;
    let copies = Index::new();
    let second = copies.client().await;
    write(&SqliteSink::collection("copy").create(), &second, &Batch::from_primitives(items)).await.unwrap();

    let (a, b) = (read("docs", &first).await, read("copy", &second).await);
    assert!(a.iter().zip(&b).all(|(a, b)| a.id() == b.id() && a.payload() == b.payload()));
    let hit = |hits: Vec<nvisy_plugin_vector::Hit>| hits.into_iter().next().unwrap();
    let original = hit(Search::by_text("ownership").run(&first, "docs").await.unwrap());
    let copy = hit(Search::by_text("ownership").run(&second, "copy").await.unwrap());
    assert_eq!(copy.root, original.root);
    assert_eq!(copy.lineage[..original.lineage.len()], original.lineage[..]);
    assert_eq!(copy.lineage.len(), original.lineage.len() + 1);
    assert!(copy.tags.is_empty());
    let root = samples()[0].root().unwrap().id;
    assert_eq!(second.delete_by_root("copy", root).await.unwrap(), 1);
}

#[tokio::test]
async fn a_point_that_was_damaged_is_rejected_alone() {
    use futures::StreamExt;
    use sqlx::Connection as _;
    let (index, client) = filled().await;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(index.path());
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    let id = samples()[2].id().to_string();
    let damage = "UPDATE nvisy_points_1 SET nvisy_lineage = 'no json' WHERE id = ?";
    sqlx::query(damage).bind(&id).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();

    let source = SqliteSource::collection("docs");
    let open = OpenContext::new(Context::detached(), client.clone());
    let context = ReadContext::new(open, source.identity(&client), nvisy_core::BatchLimits::default());
    let whole = Partition::whole();
    let mut stream = std::pin::pin!(source.read(&whole, None, &context));
    let batch = stream.next().await.unwrap().unwrap();
    assert_eq!((batch.batch.len(), batch.rejected.len()), (3, 1));
    let Payload::Raw(raw) = batch.rejected[0].primitive.payload() else { panic!("no raw") };
    assert_eq!(raw.as_json(), Some(&json!({ "id": id })));
    assert!(stream.next().await.is_none());
}
