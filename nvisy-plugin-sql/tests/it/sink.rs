//! Writing tables.

use std::io::{Seek, SeekFrom, Write};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::{RunId, Staging};
use nvisy_plugin_sql::{Drift, Sqlite, SqliteSink, SqliteSource};
use serde_json::{Value, json};
use sqlx::Connection as _;

use crate::database::{Database, batch, connect, read, write};

pub(crate) fn rejected(report: &WriteReport) -> Vec<(u32, String)> {
    report
        .others()
        .iter()
        .map(|(index, status)| match status {
            WriteStatus::Rejected(error) => (*index, error.message().to_owned()),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[tokio::test]
async fn a_table_is_created_from_the_rows_and_reads_back() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let rows = [
        json!({"id": 1, "text": "", "real": 0.5, "flag": true, "list": [1, 2], "nothing": null}),
        json!({"id": 2, "text": null, "real": null, "flag": null, "list": null, "nothing": null}),
    ];
    let sink = SqliteSink::table("t").upsert(["id"]).create();
    assert!(write(&sink, &client, &batch(&rows)).await.unwrap().is_applied());
    let found = read(&SqliteSource::table("t"), &client).await.unwrap().json();
    assert_eq!(
        found[0],
        json!({"id": 1, "text": "", "real": 0.5, "flag": true, "list": "[1,2]", "nothing": null})
    );
    assert_eq!(
        found[1],
        json!({"id": 2, "text": null, "real": null, "flag": null, "list": null, "nothing": null})
    );
}

#[tokio::test]
async fn dates_and_moments_read_back_as_such() {
    let database = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, day DATE, at TIMESTAMP, zoned TIMESTAMP);
         INSERT INTO t VALUES (1, '2024-02-29', '2024-02-29 10:00:00.000001', '2024-02-29T10:00:00Z'), (2, NULL, NULL, NULL)",
    )
    .await;
    let client = Arc::new(database.client().await);
    let first = read(&SqliteSource::table("t"), &client).await.unwrap();
    let items = first
        .rows
        .iter()
        .enumerate()
        .map(|(n, row)| Item::detached(&n.to_string(), row.clone()).into_primitive());
    let items = Batch::from_primitives(items.collect());
    write(&SqliteSink::table("copy").upsert(["id"]).create(), &client, &items).await.unwrap();
    let second = read(&SqliteSource::table("copy"), &client).await.unwrap();
    assert_eq!(first.json(), second.json());
    let types = |row: &Row| row.schema().fields().iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    assert_eq!(types(&first.rows[0]), types(&second.rows[0]));
}

#[tokio::test]
async fn an_upsert_changes_nothing_the_second_time() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let items = batch(&(0..200).map(|n| json!({"n": n, "s": format!("row {n}")})).collect::<Vec<_>>());
    for sink in [SqliteSink::table("by_id").create(), SqliteSink::table("by_key").upsert(["n"]).create()] {
        assert!(write(&sink, &client, &items).await.unwrap().is_applied());
        let select = format!("SELECT rowid, * FROM {} ORDER BY n", sink.table);
        let first = database.query(&select).await;
        assert_eq!(first.len(), 200);
        assert!(write(&sink, &client, &items).await.unwrap().is_applied());
        assert_eq!(database.query(&select).await, first);
    }
}

#[tokio::test]
async fn modes_do_what_they_say() {
    let database =
        Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT, b TEXT DEFAULT 'b')").await;
    let client = Arc::new(database.client().await);
    database.execute("INSERT INTO t VALUES (1, 'old', 'kept')").await;
    let new = batch(&[json!({"id": 1, "a": "new"})]);
    let select = "SELECT * FROM t";

    let report = write(&SqliteSink::table("t").insert(), &client, &new).await.unwrap();
    let WriteStatus::Rejected(error) = report.status(0) else { panic!("{report:?}") };
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.message().contains("UNIQUE constraint failed: t.id"), "{error}");

    write(&SqliteSink::table("t").upsert(["ID"]), &client, &new).await.unwrap();
    assert_eq!(database.query(select).await, [json!({"id": 1, "a": "new", "b": "kept"})]);
    write(&SqliteSink::table("t").replace(["id"]), &client, &new).await.unwrap();
    assert_eq!(database.query(select).await, [json!({"id": 1, "a": "new", "b": "b"})]);

    let guarantees =
        [SqliteSink::table("t").insert(), SqliteSink::table("t"), SqliteSink::table("t").replace(["id"])];
    assert_eq!(
        guarantees.map(|sink| sink.guarantee()),
        [Guarantee::Append, Guarantee::Upsert, Guarantee::Upsert]
    );
}

#[tokio::test]
async fn of_items_with_one_key_the_last_stays() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let items = batch(&[json!({"id": 1, "v": "a"}), json!({"id": 2, "v": "b"}), json!({"id": 1, "v": "c"})]);
    write(&SqliteSink::table("t").upsert(["id"]).create(), &client, &items).await.unwrap();
    assert_eq!(
        database.query("SELECT * FROM t").await,
        [json!({"id": 1, "v": "c"}), json!({"id": 2, "v": "b"})]
    );
}

#[tokio::test]
async fn rows_that_fill_no_column_are_there_each() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER DEFAULT 7)").await;
    let client = Arc::new(database.client().await);
    let rows: Vec<Value> = (0..150).map(|_| json!({"unknown": null})).collect();
    let report = write(&SqliteSink::table("t").insert(), &client, &batch(&rows)).await.unwrap();
    assert!(report.others().is_empty());
    assert_eq!(
        database.query("SELECT count(*) AS rows, sum(n) AS sum FROM t").await,
        [json!({"rows": 150, "sum": 150 * 7})]
    );
}

#[tokio::test]
async fn a_violated_constraint_rejects_its_item_alone() {
    let database = Database::with(
        "CREATE TABLE parents (id INTEGER PRIMARY KEY); INSERT INTO parents VALUES (1);
         CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER CHECK (n < 100), s TEXT NOT NULL,
            parent INTEGER REFERENCES parents)",
    )
    .await;
    let client = Arc::new(database.client().await);
    let mut rows: Vec<Value> =
        (0..300).map(|n| json!({"id": n, "n": n % 100, "s": "s", "parent": 1})).collect();
    rows[7]["n"] = json!(100);
    rows[70]["s"] = json!(null);
    rows[71]["parent"] = json!(9);
    rows[299]["n"] = json!(1000);
    let report = write(&SqliteSink::table("t").upsert(["id"]), &client, &batch(&rows)).await.unwrap();
    let rejected = rejected(&report);
    assert_eq!(rejected.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [7, 70, 71, 299]);
    assert!(rejected[0].1.contains("table \"t\": CHECK constraint failed"), "{rejected:?}");
    assert!(rejected[1].1.contains("NOT NULL constraint failed: t.s"), "{rejected:?}");
    assert!(rejected[2].1.contains("FOREIGN KEY constraint failed"), "{rejected:?}");
    assert_eq!(database.query("SELECT count(*) AS n FROM t").await, [json!({"n": 296})]);
}

#[tokio::test]
async fn a_copy_of_an_item_that_was_refused_is_written_and_the_one_after_it_is_not() {
    let database = Database::with("CREATE TABLE t (n INTEGER CHECK (n < 100), s TEXT NOT NULL)").await;
    let client = Arc::new(database.client().await);
    let sink = SqliteSink::table("t").insert();
    let context = Context::new("graph", "table", "sql/sqlite").in_run(RunId::new());
    let context = OpenContext::new(context, client.clone()).with_staging(Staging::Remember);
    let item = |key: &str, object: Value| {
        Item::detached(key, Row::from_json(object.as_object().unwrap(), None).unwrap()).into_primitive()
    };
    let copies = |bad: Value| {
        let good = json!({"n": 1, "s": "good"});
        let other = item("other", json!({"n": 2, "s": "other"}));
        let same = [bad, good.clone(), good].map(|object| item("same", object));
        [vec![other], same.to_vec()].concat().into_iter().collect::<Batch>()
    };
    for bad in [json!({"n": 1000, "s": "bad"}), json!({"n": 1, "s": null})] {
        let open = sink.open(&context).await.unwrap();
        let report = open.write(&copies(bad.clone()), context.context()).await.unwrap();
        assert!(matches!(report.status(1), WriteStatus::Rejected(_)), "{bad}: {report:?}");
        assert!(matches!(report.status(2), WriteStatus::Applied), "{bad}: {report:?}");
        assert!(matches!(report.status(3), WriteStatus::AlreadyApplied), "{bad}: {report:?}");
        let rows = database.query("SELECT n FROM t ORDER BY n").await;
        assert_eq!(rows, [json!({"n": 1}), json!({"n": 2})], "{bad}");
        database.execute("DELETE FROM t; DELETE FROM nvisy_written").await;
    }
}

#[tokio::test]
async fn an_item_that_tears_the_transaction_down_is_rejected_alone() {
    let schemas = [
        "CREATE TABLE p (id INTEGER PRIMARY KEY);
         CREATE TABLE t (id INTEGER PRIMARY KEY, p INTEGER REFERENCES p DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE t (id INTEGER PRIMARY KEY, p INTEGER);
         CREATE TRIGGER no BEFORE INSERT ON t WHEN new.p = 9 BEGIN SELECT RAISE(ROLLBACK, 'no nine'); END",
    ];
    for schema in schemas {
        let database = Database::with(schema).await;
        let client = Arc::new(database.client().await);
        let rows: Vec<Value> =
            (0..10).map(|n| json!({"id": n, "p": if n == 4 { json!(9) } else { json!(null) }})).collect();
        let report = write(&SqliteSink::table("t").upsert(["id"]), &client, &batch(&rows)).await.unwrap();
        assert_eq!(rejected(&report).len(), 1, "{report:?}");
        assert_eq!(rejected(&report)[0].0, 4);
        assert_eq!(database.query("SELECT count(*) AS n FROM t").await, [json!({"n": 9})]);
    }
}

#[tokio::test]
async fn what_sqlite_would_alter_is_rejected() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, v REAL)").await;
    let client = Arc::new(database.client().await);
    let row = |v: f64| {
        let values = arrow::array::Float64Array::from(vec![v]);
        let ids = arrow::array::UInt64Array::from(vec![if v == 2.0 { u64::MAX } else { 1 }]);
        let columns: Vec<(&str, arrow::array::ArrayRef)> =
            vec![("id", Arc::new(ids)), ("v", Arc::new(values))];
        let rows = arrow::array::RecordBatch::try_from_iter(columns).unwrap();
        Item::detached(&v.to_string(), Row::new(Arc::new(rows), 0).unwrap()).into_primitive()
    };
    let items = Batch::from_primitives([f64::NAN, 2.0, f64::INFINITY].map(row).into());
    let report = write(&SqliteSink::table("t").upsert(["id"]), &client, &items).await.unwrap();
    let rejected = rejected(&report);
    assert!(rejected[0].1.contains("`row.v`: is not a number (NaN)"), "{rejected:?}");
    assert!(
        rejected[1].1.contains("`row.id`: 18446744073709551615 is larger than a SQLite integer"),
        "{rejected:?}"
    );
    assert_eq!(database.query("SELECT id, v = 9e999 AS inf FROM t").await, [json!({"id": 1, "inf": 1})]);
}

#[tokio::test]
async fn an_integer_that_a_real_column_cannot_hold_is_rejected() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, v REAL)").await;
    let client = Arc::new(database.client().await);
    let large = 1_i64 << 53;
    let items =
        batch(&[json!({"id": 1, "v": large}), json!({"id": 2, "v": large + 1}), json!({"id": 3, "v": 7})]);
    for drift in [Drift::Fail, Drift::Widen] {
        let sink = SqliteSink::table("t").upsert(["id"]).drift(drift);
        let rejected = rejected(&write(&sink, &client, &items).await.unwrap());
        let [(1, message)] = rejected.as_slice() else { panic!("{rejected:?}") };
        assert!(
            message.contains("`row.v`: 9007199254740993 has more digits than a real number holds"),
            "{message}"
        );
    }
    let found = database.query("SELECT * FROM t").await;
    assert_eq!(found, [json!({"id": 1, "v": large as f64}), json!({"id": 3, "v": 7.0})]);
}

#[tokio::test]
async fn other_kinds_are_rejected_with_the_remedy() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let raw = Item::detached("raw", Raw::Json(json!(1))).into_primitive();
    let mut items = batch(&[json!({"id": 1})]).into_primitives();
    items.insert(0, raw);
    let sink = SqliteSink::table("t").upsert(["id"]).create();
    let report = write(&sink, &client, &Batch::from_primitives(items)).await.unwrap();
    assert_eq!(
        rejected(&report),
        [(0, "expected a row, found a raw: put a `convert` in between".to_owned())]
    );
    assert_eq!(database.query("SELECT * FROM t").await, [json!({"id": 1})]);
}

#[tokio::test]
async fn lineage_columns_name_item_run_and_root() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let items = batch(&[json!({"v": 1})]);
    write(&SqliteSink::table("t").with_lineage().create(), &client, &items).await.unwrap();
    let id = items.id(0).to_string();
    assert_eq!(
        database.query("SELECT * FROM t").await,
        [json!({"nvisy_id": id, "nvisy_run": null, "nvisy_root": id, "v": 1})]
    );
    // Read back and written again, the columns are the new item's.
    let rows = read(&SqliteSource::table("t"), &client).await.unwrap().rows;
    let copy = Batch::from_primitives(vec![Item::detached("copy", rows[0].clone()).into_primitive()]);
    write(&SqliteSink::table("copy").with_lineage().create(), &client, &copy).await.unwrap();
    assert_eq!(
        database.query("SELECT nvisy_id FROM copy").await,
        [json!({"nvisy_id": copy.id(0).to_string()})]
    );
}

#[tokio::test]
async fn names_of_any_kind_are_written() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let name = "x\"); DROP TABLE y; -- 漢";
    let sink = SqliteSink::table(name).upsert([name]).create();
    write(&sink, &client, &batch(&[json!({name: "'; DROP TABLE y; --", "select": 1, "": 2})])).await.unwrap();
    let found = read(&SqliteSource::table(name), &client).await.unwrap().json();
    assert_eq!(found, [json!({name: "'; DROP TABLE y; --", "select": 1, "": 2})]);
}

#[tokio::test]
async fn what_cannot_be_written_to_is_told_at_the_start() {
    let database = Database::with("CREATE TABLE t (a INTEGER)").await;
    let client = Arc::new(database.client().await);
    let items = batch(&[json!({"a": 1})]);
    let error = write(&SqliteSink::table("missing"), &client, &items).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("table \"missing\" does not exist; it holds \"t\""), "{error}");
    let error = write(&SqliteSink::table("t"), &client, &items).await.unwrap_err();
    assert!(error.message().contains("has no primary key or unique index over (nvisy_id)"), "{error}");

    let read_only =
        Arc::new(connect(&Sqlite::at(database.path().to_str().unwrap()).read_only()).await.unwrap());
    let error = write(&SqliteSink::table("t").insert(), &read_only, &items).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.message().contains("is opened read-only: unset `read_only` to write"), "{error}");
    assert_eq!(read(&SqliteSource::table("t"), &read_only).await.unwrap().rows.len(), 0);
}

#[tokio::test]
async fn a_locked_database_is_worth_another_try() {
    let database = Database::with("CREATE TABLE t (a INTEGER)").await;
    let client = connect(&database.config().busy_timeout(Duration::from_millis(20))).await.unwrap();
    let mut other = database.connection().await;
    let lock = other.begin_with("BEGIN EXCLUSIVE").await.unwrap();
    let client = Arc::new(client);
    let context = OpenContext::new(Context::detached(), client.clone());
    drop(lock);
    let sink = SqliteSink::table("t").insert().open(&context).await.unwrap();
    let lock = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let items = batch(&[json!({"a": 1})]);
    let error = sink.write(&items, context.context()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Timeout, RetryClass::Transient), "{error}");
    drop(lock);
    other.close().await.unwrap();
    assert!(sink.write(&items, context.context()).await.unwrap().is_applied());
}

#[tokio::test]
async fn a_reader_that_holds_a_commit_up_is_worth_another_try() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY); INSERT INTO t VALUES (0)").await;
    let config = database.config().wal(false).busy_timeout(Duration::from_millis(20));
    let client = Arc::new(connect(&config).await.unwrap());
    let context = OpenContext::new(Context::detached(), client.clone());
    let sink = SqliteSink::table("t").upsert(["id"]).open(&context).await.unwrap();
    let mut other = database.connection().await;
    let mut reading = other.begin().await.unwrap();
    sqlx::query("SELECT * FROM t").fetch_all(&mut *reading).await.unwrap();

    let items = batch(&[json!({"id": 1}), json!({"id": 2})]);
    let error = sink.write(&items, context.context()).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Timeout, RetryClass::Transient), "{error}");
    assert!(error.message().contains("raise `busy_timeout_ms`"), "{error}");
    reading.rollback().await.unwrap();
    assert_eq!(database.query("SELECT count(*) AS n FROM t").await, [json!({"n": 1})]);
    assert!(sink.write(&items, context.context()).await.unwrap().is_applied());
    assert_eq!(database.query("SELECT count(*) AS n FROM t").await, [json!({"n": 3})]);
}

#[tokio::test]
async fn a_file_that_may_not_be_written_to_says_so() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY)").await;
    // SQLite opens a file of a later write format read-only, whoever opens it.
    let mut file = std::fs::OpenOptions::new().write(true).open(database.path()).unwrap();
    file.seek(SeekFrom::Start(18)).unwrap();
    file.write_all(&[3]).unwrap();
    let client = Arc::new(database.client().await);
    let items = batch(&[json!({"id": 1})]);
    let error = write(&SqliteSink::table("t").upsert(["id"]), &client, &items).await.unwrap_err();
    assert_eq!((error.kind(), error.retry_class()), (ErrorKind::Permission, RetryClass::Permanent));
    assert!(error.message().contains("is read-only: make the file and its directory writable"), "{error}");
    assert!(read(&SqliteSource::table("t"), &client).await.unwrap().rows.is_empty());
}

#[tokio::test]
async fn a_trigger_that_fails_a_row_leaves_nothing_of_it() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)").await;
    let client = Arc::new(database.client().await);
    database
        .execute("CREATE TRIGGER full AFTER INSERT ON t WHEN new.id = 99 BEGIN SELECT RAISE(FAIL, 'x'); END")
        .await;
    let rows: Vec<Value> = (0..100).map(|n| json!({"id": n, "v": "x"})).collect();
    let report = write(&SqliteSink::table("t").upsert(["id"]).drift(Drift::Widen), &client, &batch(&rows))
        .await
        .unwrap();
    assert_eq!(rejected(&report).len(), 1);
    assert_eq!(rejected(&report)[0].0, 99);
    assert_eq!(database.query("SELECT count(*) AS n FROM t").await, [json!({"n": 99})]);
}

#[tokio::test]
async fn a_dropped_write_leaves_all_or_nothing() {
    let rows: Vec<Value> = (0..150).map(|n| json!({"id": n, "v": "x"})).collect();
    let items = batch(&rows);
    let mut polls = 0;
    loop {
        let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT)").await;
        let client = Arc::new(database.client().await);
        let context = OpenContext::new(Context::detached(), client.clone());
        let sink = SqliteSink::table("t").upsert(["id"]).open(&context).await.unwrap();
        let done = {
            let mut writing = std::pin::pin!(sink.write(&items, context.context()));
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
        let disconnect = database.config();
        disconnect.disconnect(&client).await.unwrap();
        let count = database.query("SELECT count(*) AS n FROM t").await[0]["n"].clone();
        assert!(count == 0 || count == 150, "{count} after {polls} polls");
        if done {
            assert_eq!(count, 150);
            break;
        }
        polls = polls * 2 + 1;
        assert!(polls < 1 << 22, "the write never ends");
    }
}

#[tokio::test]
async fn writers_of_one_connection_take_turns() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY)").await;
    let client = Arc::new(database.client().await);
    let batches: Vec<Batch> =
        (0..8).map(|b| batch(&(0..100).map(|n| json!({"id": b * 100 + n})).collect::<Vec<_>>())).collect();
    let sink = SqliteSink::table("t").upsert(["id"]);
    let writes = batches.iter().map(|batch| write(&sink, &client, batch));
    for report in futures::future::join_all(writes).await {
        assert!(report.unwrap().is_applied());
    }
    assert_eq!(database.query("SELECT count(*) AS n FROM t").await, [json!({"n": 800})]);
}

#[tokio::test]
async fn wide_rows_are_written_in_narrower_statements() {
    let database = Database::empty();
    let client = Arc::new(database.client().await);
    let row = |n: u64| {
        let mut row: serde_json::Map<String, Value> =
            (0..1_500).map(|c| (format!("c{c}"), json!(n * c))).collect();
        row.insert("id".into(), json!(n));
        Value::Object(row)
    };
    let items = batch(&(0..50).map(row).collect::<Vec<_>>());
    let sink = SqliteSink::table("wide").upsert(["id"]).create();
    assert!(write(&sink, &client, &items).await.unwrap().is_applied());
    assert_eq!(database.query("SELECT sum(c1499) AS s FROM wide").await, [json!({"s": 1_499 * 49 * 50 / 2})]);
}

#[tokio::test]
async fn of_a_commit_that_nobody_knows_of_its_item_alone_is_ambiguous() {
    // Written together, the second item takes all with it: each is tried alone then.
    for (first, status, written) in [(0, "Applied", vec![0, 2]), (1, "Rejected", vec![2])] {
        let database = Database::with(
            "CREATE TABLE t (id INTEGER, n INTEGER);
             CREATE TRIGGER tears BEFORE INSERT ON t WHEN new.n = 1 BEGIN SELECT RAISE(ROLLBACK, 'x'); END",
        )
        .await;
        let config = database.config().wal(false).busy_timeout(Duration::from_secs(60));
        let client = Arc::new(connect(&config).await.unwrap());
        let context = OpenContext::new(Context::detached(), client.clone());
        let sink = SqliteSink::table("t").insert().open(&context).await.unwrap();
        let ns = [first, 1, 2, 3];
        let items = batch(&ns.iter().zip(0..).map(|(n, id)| json!({"id": id, "n": n})).collect::<Vec<_>>());
        let mut writing = std::pin::pin!(sink.write(&items, context.context()));

        // Another program reads as soon as the first item is done with.
        let mut other = database.connection().await;
        let reading = loop {
            let mut reading = other.begin().await.unwrap();
            let rows = sqlx::query("SELECT * FROM t").fetch_all(&mut *reading).await.unwrap();
            if rows.len() + 1 == written.len() {
                break reading;
            }
            reading.rollback().await.unwrap();
            assert!(writing.as_mut().now_or_never().is_none());
        };
        // The commit of the third item waits for it, and cannot end: its journal goes.
        let journal = database.directory.path().join("test.db-journal");
        while !journal.exists() {
            assert!(writing.as_mut().now_or_never().is_none());
            tokio::task::yield_now().await;
        }
        std::fs::remove_file(&journal).unwrap();
        reading.rollback().await.unwrap();

        let report = writing.await.unwrap();
        let said = |index| format!("{:?}", report.status(index)).split('(').next().unwrap().to_owned();
        assert_eq!([0, 1, 2, 3].map(said), [status, "Rejected", "Ambiguous", "Retryable"], "{report:?}");
        let WriteStatus::Retryable(error) = report.status(3) else { panic!("{report:?}") };
        assert!(error.message().contains("was not tried"), "{error}");
        // It is there, as it happens: tried again, it would be there twice.
        let written: Vec<Value> = written.iter().map(|id| json!({"id": id})).collect();
        assert_eq!(database.query("SELECT id FROM t ORDER BY id").await, written);
    }
}

#[tokio::test]
async fn a_connection_that_goes_between_two_items_takes_no_report_of_what_is_written_with_it() {
    let database = Database::with(
        "CREATE TABLE t (id INTEGER, n INTEGER);
         CREATE TRIGGER tears BEFORE INSERT ON t WHEN new.n = 1 BEGIN SELECT RAISE(ROLLBACK, 'x'); END",
    )
    .await;
    let client = Arc::new(database.client().await);
    let context = OpenContext::new(Context::detached(), client.clone());
    let sink = SqliteSink::table("t").insert().open(&context).await.unwrap();
    // The last item takes all with it: each is tried alone then.
    let rows: Vec<Value> = (0..300).map(|id| json!({"id": id, "n": id / 299})).collect();
    let items = batch(&rows);
    let mut writing = std::pin::pin!(sink.write(&items, context.context()));
    while database.query("SELECT id FROM t").await.is_empty() {
        assert!(writing.as_mut().now_or_never().is_none());
    }
    let config = database.config();
    let (report, closed) = tokio::join!(writing, config.disconnect(&client));
    closed.unwrap();
    let report = report.unwrap();
    let written = (0..300).filter(|index| matches!(report.status(*index), WriteStatus::Applied));
    let written: Vec<Value> = written.map(|id| json!({"id": id})).collect();
    assert_eq!(database.query("SELECT id FROM t ORDER BY id").await, written);
    assert!(report.others().iter().all(|(_, status)| matches!(status, WriteStatus::Retryable(_))));
    assert!((1..300).contains(&written.len()), "{}", written.len());
}
