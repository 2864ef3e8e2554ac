//! Writing collections, and what can be done with them as a whole.

use std::io::{Seek, SeekFrom, Write};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use nvisy_core::Primitive;
use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::embedding::Metric;
use nvisy_plugin_vector::{Search, Sqlite, SqliteSink};
use serde_json::json;
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::index::{Index, connect, document, embedding, filled, item, read, samples, write};

fn rejected(report: &WriteReport) -> Vec<(u32, String)> {
    let rejected = report.others().iter().map(|(index, status)| match status {
        WriteStatus::Rejected(error) => (*index, error.message().to_owned()),
        other => panic!("{other:?}"),
    });
    rejected.collect()
}

fn sorted(mut items: Vec<Primitive>) -> Vec<Primitive> {
    items.sort_by_key(Primitive::id);
    items
}

#[tokio::test]
async fn what_is_written_twice_is_there_once_and_unchanged() {
    let (index, client) = filled().await;
    let dump = |client: Arc<nvisy_plugin_vector::SqliteClient>| async move { read("docs", &client).await };
    let first: Vec<_> =
        dump(client.clone()).await.iter().map(|item| (item.id(), item.payload().clone())).collect();
    let sink = SqliteSink::collection("docs");
    for _ in 0..2 {
        write(&sink, &client, &Batch::from_primitives(samples())).await.unwrap();
    }
    let again: Vec<_> =
        dump(client.clone()).await.iter().map(|item| (item.id(), item.payload().clone())).collect();
    assert_eq!(first, again);
    assert_eq!(client.count("docs").await.unwrap(), 4);
    let hits = Search::by_text("ownership").run(&client, "docs").await.unwrap();
    assert_eq!(hits.len(), 1);
    drop(index);
}

#[tokio::test]
async fn a_vector_of_other_dimensions_is_rejected_and_its_neighbours_written() {
    let (_index, client) = filled().await;
    let items = vec![
        item("a", embedding(&[1.0, 2.0, 3.0], None)),
        item("b", embedding(&[1.0, 2.0], None)),
        Item::detached("c", Document::new("a text").unwrap()).into_primitive(),
        item("d", embedding(&[1.0, 2.0, 3.0], None)),
    ];
    let report =
        write(&SqliteSink::collection("docs"), &client, &Batch::from_primitives(items)).await.unwrap();
    let rejected = rejected(&report);
    assert_eq!(rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
    assert!(rejected[0].1.contains("has 2 dimensions, the collection \"docs\" takes 3"), "{rejected:?}");
    assert!(
        rejected[1].1.contains("expected an embedding, found a document: put an `ai/embed` in between"),
        "{rejected:?}"
    );
    assert_eq!(client.count("docs").await.unwrap(), 6);
}

#[tokio::test]
async fn a_newer_version_takes_the_place_in_every_index() {
    let (_index, client) = filled().await;
    let newer = item(
        "owner",
        embedding(&[0.0, 0.0, 1.0], Some(document("All about lifetimes.", "owner.md", &json!({})))),
    );
    write(&SqliteSink::collection("docs"), &client, &Batch::from_primitives(vec![newer.clone()]))
        .await
        .unwrap();
    assert_eq!(client.count("docs").await.unwrap(), 4);
    assert!(Search::by_text("ownership").run(&client, "docs").await.unwrap().is_empty());
    assert_eq!(Search::by_text("lifetime").run(&client, "docs").await.unwrap()[0].id, newer.id());
    let nearest = Search::by_vector([0.0, 0.0, 1.0]).k(2).run(&client, "docs").await.unwrap();
    assert!(nearest.iter().any(|hit| hit.id == newer.id()));
    let first = Search::by_vector([1.0, 0.0, 0.0]).k(1).run(&client, "docs").await.unwrap();
    assert_eq!(first[0].source_uri.as_deref(), Some("borrow.md"));
}

#[tokio::test]
async fn of_items_with_one_id_the_last_stays() {
    let index = Index::new();
    let client = index.client().await;
    let items = vec![
        item("a", embedding(&[1.0], None)),
        item("b", embedding(&[2.0], None)),
        item("a", embedding(&[3.0], None)),
    ];
    let sink = SqliteSink::collection("docs").create();
    assert!(write(&sink, &client, &Batch::from_primitives(items.clone())).await.unwrap().is_applied());
    let payloads: Vec<_> = read("docs", &client).await.iter().map(|item| item.payload().clone()).collect();
    let expected: Vec<_> = sorted(items[1..].to_vec()).iter().map(|item| item.payload().clone()).collect();
    assert_eq!(payloads, expected);
}

#[tokio::test]
async fn collections_are_created_listed_counted_and_dropped() {
    let index = Index::new();
    let client = index.client().await;
    assert!(client.collections().await.unwrap().is_empty());
    let three = NonZeroU32::new(3).unwrap();
    for name in ["b", "a'; DROP TABLE nvisy_collections; --", "漢"] {
        client.create_collection(name, three, Metric::L2).await.unwrap();
    }
    client.create_collection("b", three, Metric::L2).await.unwrap();
    let error = client.create_collection("b", NonZeroU32::MIN, Metric::L2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("collection \"b\" has 3 dimensions, 1 are asked for"), "{error}");
    let names: Vec<_> = client.collections().await.unwrap().iter().map(|c| c.name().to_owned()).collect();
    assert_eq!(names, ["a'; DROP TABLE nvisy_collections; --", "b", "漢"]);
    assert!(client.drop_collection("b").await.unwrap());
    assert!(!client.drop_collection("b").await.unwrap());
    assert_eq!(client.collections().await.unwrap().len(), 2);
    assert_eq!(client.count("漢").await.unwrap(), 0);
    assert_eq!(client.count("b").await.unwrap_err().kind(), ErrorKind::NotFound);
    let error = client.create_collection("huge", NonZeroU32::MAX, Metric::L2).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Validation);
}

#[tokio::test]
async fn what_derives_from_a_source_item_is_deleted_with_it() {
    let (_index, client) = filled().await;
    let root = samples()[0].root().unwrap().id;
    assert_eq!(client.delete_by_root("docs", root).await.unwrap(), 1);
    assert_eq!(client.delete_by_root("docs", root).await.unwrap(), 0);
    assert_eq!(client.count("docs").await.unwrap(), 3);
    assert!(Search::by_text("ownership").run(&client, "docs").await.unwrap().is_empty());
    assert_eq!(Search::by_vector([1.0, 0.0, 0.0]).run(&client, "docs").await.unwrap().len(), 3);
}

#[tokio::test]
async fn what_cannot_be_written_to_is_told_at_the_start() {
    let (index, client) = filled().await;
    let batch = Batch::from_primitives(samples());
    let error = write(&SqliteSink::collection("other"), &client, &batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("collection \"other\" does not exist; it holds \"docs\""), "{error}");
    let error =
        write(&SqliteSink::collection("docs").metric(Metric::Dot), &client, &batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("compares by cosine, dot is asked for"), "{error}");

    let path = index.path();
    let read_only = Arc::new(connect(&Sqlite::at(path.to_str().unwrap()).read_only()).await.unwrap());
    let error = write(&SqliteSink::collection("docs"), &read_only, &batch).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert_eq!(Search::by_text("trait").run(&read_only, "docs").await.unwrap().len(), 1);

    let missing = index.directory.path().join("missing.db");
    let error = connect(&Sqlite::at(missing.to_str().unwrap())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    std::fs::write(&missing, "no database at all ".repeat(100)).unwrap();
    let error = connect(&Sqlite::at(missing.to_str().unwrap())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn a_locked_index_is_worth_another_try() {
    let index = Index::new();
    let config = index.config().busy_timeout(Duration::from_millis(20));
    let client = Arc::new(connect(&config).await.unwrap());
    let context = OpenContext::new(Context::detached(), client.clone());
    let sink = SqliteSink::collection("docs").create().open(&context).await.unwrap();
    let options = SqliteConnectOptions::new().filename(index.path());
    let mut other = SqliteConnection::connect_with(&options).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let batch = Batch::from_primitives(samples());
    let error = sink.write(&batch, context.context()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Timeout, RetryClass::Transient), "{error}");
    lock.rollback().await.unwrap();
    assert!(sink.write(&batch, context.context()).await.unwrap().is_applied());
    assert_eq!(client.count("docs").await.unwrap(), 4);
}

#[tokio::test]
async fn a_file_that_may_not_be_written_to_says_so() {
    let (index, client) = filled().await;
    index.config().disconnect(&client).await.unwrap();
    // SQLite opens a file of a later write format read-only, whoever opens it.
    let mut file = std::fs::OpenOptions::new().write(true).open(index.path()).unwrap();
    file.seek(SeekFrom::Start(18)).unwrap();
    file.write_all(&[3]).unwrap();
    let client = index.client().await;
    let batch = Batch::from_primitives(samples());
    let error = write(&SqliteSink::collection("docs"), &client, &batch).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Permission, RetryClass::Permanent));
    assert!(error.message().contains("is read-only: make the file and its directory writable"), "{error}");
    assert_eq!(client.count("docs").await.unwrap(), 4);
}

#[tokio::test]
async fn a_dropped_write_leaves_all_or_nothing() {
    let items: Vec<_> = (0..80).map(|n| item(&n.to_string(), embedding(&[n as f32, 1.0], None))).collect();
    let batch = Batch::from_primitives(items);
    let mut polls = 0_u64;
    loop {
        let index = Index::new();
        let client = index.client().await;
        let context = OpenContext::new(Context::detached(), client.clone());
        let sink = SqliteSink::collection("docs").create().open(&context).await.unwrap();
        let done = {
            let mut writing = std::pin::pin!(sink.write(&batch, context.context()));
            let mut done = false;
            for _ in 0..polls {
                if writing.as_mut().now_or_never().is_some() {
                    done = true;
                    break;
                }
                tokio::task::yield_now().await;
            }
            done
        };
        index.config().disconnect(&client).await.unwrap();
        let count = match index.client().await.count("docs").await {
            Ok(count) => count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                0
            }
        };
        assert!(count == 0 || count == 80, "{count} after {polls} polls");
        if done {
            assert_eq!(count, 80);
            break;
        }
        polls = polls * 2 + 1;
        assert!(polls < 1 << 24, "the write never ends");
    }
}
