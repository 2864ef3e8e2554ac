//! Deleting what is stale, and the mode that puts rows in place of others.

use std::sync::Arc;

use nvisy_core::position::Positions;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::{Origin, Payload, ReplaceSet, SourceIdentity};
use nvisy_plugin_sql::SqliteSink;
use serde_json::json;

use crate::database::{Database, batch, write};

fn source() -> SourceIdentity {
    SourceIdentity::new("files")
}

/// Rows of one object, by their ids.
fn rows(ids: &[u64]) -> Batch {
    let row =
        |id: &u64| Payload::Row(Row::from_json(json!({ "id": id }).as_object().unwrap(), None).unwrap());
    let context = Context::new("graph", "read", "object/file");
    let positions = Positions::rows("a.jsonl", 0);
    let rows = ids.iter().map(row).collect();
    Batch::read(rows, positions, &source(), context.step(), context.metadata()).unwrap()
}

#[tokio::test]
async fn what_is_stale_goes_whatever_the_column_of_the_generation_is_declared_as() {
    for declared in ["INTEGER", "", "TEXT", "BLOB", "REAL"] {
        let table = format!(
            "CREATE TABLE t (id INTEGER PRIMARY KEY, nvisy_origin TEXT, nvisy_generation {declared})"
        );
        let database = Database::with(&table).await;
        let client = Arc::new(database.client().await);
        let origin = Origin::new("graph", "read", &source(), "a.jsonl");
        for (generation, ids, deleted) in [(9, &[1, 2, 3][..], 0), (10, &[2, 3], 1), (11, &[3, 4], 1)] {
            let context = Context::new("graph", "table", "sql/sqlite").in_generation(generation);
            let context = OpenContext::new(context, client.clone());
            let sink = SqliteSink::table("t").upsert(["id"]).open(&context).await.unwrap();
            assert!(sink.write(&rows(ids), context.context()).await.unwrap().is_applied());
            let gone = sink.replace(&[ReplaceSet { origin, generation }], context.context()).await.unwrap();
            assert_eq!(gone, deleted, "declared \"{declared}\", generation {generation}");
        }
        let left = database.query("SELECT id FROM t ORDER BY id").await;
        assert_eq!(left, [json!({"id": 3}), json!({"id": 4})], "declared \"{declared}\"");
    }
}

#[tokio::test]
async fn a_column_that_is_missing_is_named_with_its_declaration() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, nvisy_origin TEXT)").await;
    let client = Arc::new(database.client().await);
    let error = write(&SqliteSink::table("t").upsert(["id"]), &client, &rows(&[1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(
        error
            .message()
            .contains("has no column \"nvisy_generation\": add it, declared INTEGER, or set `drift`"),
        "{error}"
    );
}

#[tokio::test]
async fn null_does_not_become_a_default() {
    let table = "CREATE TABLE t (id INTEGER NOT NULL PRIMARY KEY, code TEXT UNIQUE,
        state TEXT NOT NULL DEFAULT 'open', note TEXT DEFAULT 'none')";
    let database = Database::with(table).await;
    let client = Arc::new(database.client().await);
    let rows = batch(&[
        json!({"id": 1, "code": "a", "state": null}),
        json!({"id": 2, "code": "b", "note": null}),
        json!({"id": 3, "code": "c"}),
    ]);
    let report = write(&SqliteSink::table("t").replace(["id"]), &client, &rows).await.unwrap();
    let [(0, WriteStatus::Rejected(error))] = report.others() else { panic!("{report:?}") };
    assert!(
        error.message().contains("`row.state`: is null, which the column is declared not to be"),
        "{error}"
    );
    assert_eq!(
        database.query("SELECT * FROM t").await,
        [
            json!({"id": 2, "code": "b", "state": "open", "note": null}),
            json!({"id": 3, "code": "c", "state": "open", "note": "none"})
        ]
    );
    // A row id that is null numbers itself.
    let row = batch(&[json!({"id": null, "code": "c"})]);
    assert!(write(&SqliteSink::table("t").replace(["code"]), &client, &row).await.unwrap().is_applied());
    assert_eq!(database.query("SELECT count(*) AS n FROM t").await, [json!({"n": 2})]);
}
