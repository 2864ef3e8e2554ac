//! The rules of the conformance kit.

use nvisy_core::Payload;
use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::testing::conformance::{self, OpenSource, SinkHarness, SourceHarness, Target, samples};
use nvisy_plugin_sql::{Drift, Sqlite, SqliteSink, SqliteSource};
use serde_json::{Value, json};
use std::num::NonZeroU32;
use std::sync::Arc;

use crate::database::{Database, connect};

fn row(object: &Value) -> Payload {
    Payload::Row(Row::from_json(object.as_object().unwrap(), None).unwrap())
}

/// SQLite stores no negative zero.
fn unsigned_zero(mut row: Value) -> Value {
    if row["float"].as_f64() == Some(0.0) {
        row["float"] = json!(0.0);
    }
    row
}

async fn filled(rows: i64) -> Database {
    Database::with(&format!(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT, size REAL);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})
         INSERT INTO t SELECT i * 3, 'row ' || i, CASE WHEN i % 4 THEN i / 2.0 END FROM n WHERE i <= {rows};
         INSERT INTO t SELECT 1000, 'bad', 'text' WHERE {rows} > 5;"
    ))
    .await
}

fn expected(rows: i64) -> Vec<Value> {
    let size = |i: i64| if i % 4 == 0 { json!(null) } else { json!(i as f64 / 2.0) };
    (1..=rows).map(|i| json!({"id": i * 3, "name": format!("row {i}"), "size": size(i)})).collect()
}

#[tokio::test]
async fn the_source_conforms() {
    for partitions in [1, 4] {
        let source = SqliteSource::table("t").in_partitions(NonZeroU32::new(partitions).unwrap());
        let many = Arc::new(filled(25).await);
        let none = Arc::new(filled(0).await);
        let one = Arc::new(filled(1).await);
        let open = move |database: &Arc<Database>, source: SqliteSource| {
            let database = database.clone();
            async move { Ok(OpenSource::new(source, connect(&database.config()).await?)) }
        };
        let at = |database: Arc<Database>, source: &SqliteSource| {
            let source = source.clone();
            move || open(&database, source.clone())
        };
        let harness = SourceHarness::new(at(many.clone(), &source), expected(25))
            .rejecting(1)
            .with_empty(at(none, &source))
            .with_single(at(one, &source), expected(1).remove(0))
            .failing(
                "a missing table",
                ErrorKind::NotFound,
                at(many.clone(), &SqliteSource::table("nothing")),
            )
            .failing("a missing file", ErrorKind::NotFound, || async {
                Ok(OpenSource::new(SqliteSource::table("t"), connect(&Sqlite::at("no/such/file.db")).await?))
            });
        conformance::source(&harness).await.assert_passed();
    }
}

#[tokio::test]
async fn the_sink_conforms() {
    let sinks = [
        SqliteSink::table("t").upsert(["id"]).create().drift(Drift::Widen),
        SqliteSink::table("t").replace(["id"]).create().drift(Drift::Widen),
        SqliteSink::table("t").insert().create().drift(Drift::Widen),
    ];
    for sink in sinks {
        let appends = sink.guarantee() == Guarantee::Append;
        let target = move |sink: SqliteSink| async move {
            let database = Arc::new(Database::empty());
            let client = connect(&database.config()).await?;
            Ok(Target::new(sink, client, move || {
                let database = database.clone();
                async move {
                    let client = Arc::new(connect(&database.config()).await?);
                    let source = SqliteSource::table("t");
                    let found = crate::database::read(&source, &client).await?;
                    assert!(found.rejected.is_empty(), "{:?}", found.rejected);
                    let mut found = found.json();
                    for row in found.iter_mut().filter_map(serde_json::Value::as_object_mut) {
                        // What the sink keeps for itself.
                        row.retain(|name, _| !["nvisy_origin", "nvisy_generation"].contains(&name.as_str()));
                    }
                    Ok(found)
                }
            }))
        };
        let fresh = {
            let sink = sink.clone();
            move || target(sink.clone())
        };
        let item = |n: u64| row(&json!({"id": n, "name": format!("item {n}"), "size": n as f64 / 2.0}));
        let mut harness = SinkHarness::new(fresh, item)
            .showing(|item| unsigned_zero(nvisy_core::testing::plain(item.payload())))
            .with_extremes(samples::rows(&samples::objects()))
            .with_nulls(samples::rows(&samples::objects_with_nulls()))
            .with_at_most(5_000)
            .failing("a missing table", ErrorKind::NotFound, move || target(SqliteSink::table("t").insert()));
        if !appends {
            harness = harness
                .refusing([row(&json!({"id": null, "name": "no key"})), row(&json!({"name": "no key"}))])
                .with_newer(|n| row(&json!({"id": n, "name": format!("newer {n}"), "size": 0.5})));
        }
        let report = conformance::sink(&harness).await;
        report.assert_passed();
        assert_eq!(report.skipped().contains(&"adds_once_what_comes_again_in_a_run"), !appends, "{report}");
    }
}
