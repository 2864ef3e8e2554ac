//! Writing rows that have other columns than the table.

use std::sync::Arc;

use nvisy_core::prelude::*;
use nvisy_plugin_sql::{Drift, SqliteSink};
use serde_json::json;

use crate::database::{Database, batch, write};
use crate::sink::rejected;

#[tokio::test]
async fn drift_does_what_is_asked() {
    let rows =
        [json!({"id": 1, "a": "x"}), json!({"id": 2, "a": "y", "new": 7}), json!({"id": 3, "new": null})];
    let table = "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)";
    let sink = |drift| SqliteSink::table("t").upsert(["id"]).drift(drift);

    let database = Database::with(table).await;
    let client = Arc::new(database.client().await);
    let error = write(&sink(Drift::Fail), &client, &batch(&rows)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.message().contains("column \"new\": the table has no such column: set `drift`"), "{error}");
    assert!(database.query("SELECT * FROM t").await.is_empty());

    let report = write(&sink(Drift::DeadLetter), &client, &batch(&rows)).await.unwrap();
    assert_eq!(rejected(&report), [(1, "`row.new`: the table has no such column".to_owned())]);

    assert!(write(&sink(Drift::Widen), &client, &batch(&rows)).await.unwrap().is_applied());
    assert_eq!(
        database.query("SELECT * FROM t").await,
        [
            json!({"id": 1, "a": "x", "new": null}),
            json!({"id": 2, "a": "y", "new": 7}),
            json!({"id": 3, "a": null, "new": null})
        ]
    );
}

#[tokio::test]
async fn a_table_is_widened_by_lineage_once() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)").await;
    let client = Arc::new(database.client().await);
    let context = OpenContext::new(Context::detached(), client.clone());
    let sink = SqliteSink::table("t").upsert(["id"]).with_lineage().drift(Drift::Widen);
    let sink = sink.open(&context).await.unwrap();
    let two_schemas = [json!({"id": 1, "a": "x"}), json!({"id": 2, "a": "y", "new": 7})];
    for rows in [&two_schemas[..], &[json!({"id": 3, "a": "z"})], &[json!({"id": 4, "other": true})]] {
        assert!(sink.write(&batch(rows), context.context()).await.unwrap().is_applied());
    }
    assert_eq!(
        database.query("SELECT id, a, new, other, nvisy_id IS NULL AS bare FROM t").await,
        [
            json!({"id": 1, "a": "x", "new": null, "other": null, "bare": 0}),
            json!({"id": 2, "a": "y", "new": 7, "other": null, "bare": 0}),
            json!({"id": 3, "a": "z", "new": null, "other": null, "bare": 0}),
            json!({"id": 4, "a": null, "new": null, "other": 1, "bare": 0})
        ]
    );
}

#[tokio::test]
async fn a_text_for_a_number_is_drift() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, s TEXT)").await;
    let client = Arc::new(database.client().await);
    let rows = [json!({"id": 1, "n": "007"}), json!({"id": 2, "n": 7}), json!({"id": 3, "s": 7})];
    let sink = SqliteSink::table("t").upsert(["id"]).drift(Drift::DeadLetter);
    let report = write(&sink, &client, &batch(&rows)).await.unwrap();
    assert_eq!(
        rejected(&report),
        [
            (0, "`row.n`: the column is declared INTEGER, the rows hold Utf8".to_owned()),
            (2, "`row.s`: the column is declared TEXT, the rows hold Int64".to_owned())
        ]
    );
}

#[tokio::test]
async fn what_another_sink_has_changed_about_the_table_is_seen() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT)").await;
    let client = Arc::new(database.client().await);
    let context = OpenContext::new(Context::detached(), client.clone());
    let sink = |drift| SqliteSink::table("t").upsert(["id"]).drift(drift);
    let mut sinks = Vec::new();
    for drift in [Drift::Widen, Drift::Widen, Drift::DeadLetter, Drift::Fail] {
        let sink = sink(drift).open(&context).await.unwrap();
        // It has seen the table as it was.
        let known = batch(&[json!({"id": 0, "a": "x"})]);
        assert!(sink.write(&known, context.context()).await.unwrap().is_applied());
        sinks.push((drift, sink));
    }
    for (id, (drift, sink)) in (1..).zip(&sinks) {
        let row = batch(&[json!({"id": id, "new": 7})]);
        let report = sink.write(&row, context.context()).await.unwrap();
        assert!(report.is_applied(), "{drift:?}: {report:?}");
    }
    assert_eq!(database.query("SELECT count(new) AS n FROM t").await, [json!({"n": 4})]);
}

#[tokio::test]
async fn columns_that_differ_in_case_alone_are_refused() {
    let twins = batch(&[json!({"id": 1, "Name": "a", "name": "b"})]);
    for drift in [Drift::Fail, Drift::Widen] {
        let database = Database::empty();
        let client = Arc::new(database.client().await);
        let sink = SqliteSink::table("t").upsert(["id"]).create().drift(drift);
        let error = write(&sink, &client, &twins).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
        assert!(
            error.message().contains(
                "column \"name\": the rows have \"Name\", too, and SQLite does not look at case: rename one of the \
                 two with `map`"
            ),
            "{error}"
        );
    }
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)").await;
    let client = Arc::new(database.client().await);
    let sink = SqliteSink::table("t").upsert(["id"]).drift(Drift::DeadLetter);
    let rows = batch(&[
        json!({"id": 1, "Name": "a", "name": "b"}),
        json!({"id": 2, "Name": "a", "name": null}),
        json!({"id": 3, "NAME": "c"}),
    ]);
    let report = write(&sink, &client, &rows).await.unwrap();
    let said = "`row.name`: the rows have \"Name\", too, and SQLite does not look at case";
    assert_eq!(rejected(&report), [(0, said.to_owned())]);
    assert_eq!(
        database.query("SELECT * FROM t").await,
        [json!({"id": 2, "name": "a"}), json!({"id": 3, "name": "c"})]
    );
}
