//! Reading tables and queries.

use std::num::NonZeroU32;
use std::sync::Arc;

use nvisy_core::prelude::*;
use nvisy_plugin_sql::{ColumnType, Sqlite, SqliteSource};
use serde_json::{Value, json};

use crate::database::{Database, connect, read, read_from, source_of};

const TICKETS: &str = "
    CREATE TABLE tickets (id INTEGER PRIMARY KEY, state TEXT NOT NULL, body TEXT, price REAL);
    INSERT INTO tickets VALUES (1, 'open', 'Printer on fire', 9.5), (2, 'closed', '', NULL), (5, 'open', NULL, 3),
        (9, 'open', 'Größe 👩‍👩‍👧‍👦', -1e300);";

async fn ids(database: &Database, source: &SqliteSource) -> Vec<i64> {
    let client = Arc::new(database.client().await);
    read(source, &client).await.unwrap().rows.iter().map(|row| row.get_i64("id").unwrap()).collect()
}

#[tokio::test]
async fn null_stays_apart_from_the_empty_text() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    let found = read(&SqliteSource::table("tickets"), &client).await.unwrap();
    assert_eq!(
        found.json(),
        [
            json!({"id": 1, "state": "open", "body": "Printer on fire", "price": 9.5}),
            json!({"id": 2, "state": "closed", "body": "", "price": null}),
            json!({"id": 5, "state": "open", "body": null, "price": 3.0}),
            json!({"id": 9, "state": "open", "body": "Größe 👩‍👩‍👧‍👦", "price": -1e300}),
        ]
    );
    let schema = found.rows[0].schema();
    assert!(!schema.field_with_name("state").unwrap().is_nullable());
    assert!(schema.field_with_name("body").unwrap().is_nullable());
}

#[tokio::test]
async fn reading_resumes_after_every_position_whatever_the_page() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    let source = SqliteSource::table("tickets");
    let all = read(&source, &client).await.unwrap();
    for items in [1, 2, 3, 4, 5] {
        let paged = read_from(&source, &client, &Partition::whole(), None, items).await.unwrap();
        assert_eq!(paged.json(), all.json());
        assert!(paged.batches.iter().all(|len| *len <= items && *len > 0), "{:?}", paged.batches);
        for (at, position) in all.positions.iter().enumerate() {
            let rest = read_from(&source, &client, &Partition::whole(), Some(position.clone()), items)
                .await
                .unwrap();
            assert_eq!(rest.json(), all.json()[at + 1..]);
        }
    }
}

#[tokio::test]
async fn projection_filter_and_parameters_choose() {
    let database = Database::with(TICKETS).await;
    let source = SqliteSource::table("tickets")
        .columns(["ID", "body"])
        .filter("state = ? AND id > ?", [json!("open"), json!(1)]);
    let client = Arc::new(database.client().await);
    let found = read(&source, &client).await.unwrap().json();
    assert_eq!(found, [json!({"id": 5, "body": null}), json!({"id": 9, "body": "Größe 👩‍👩‍👧‍👦"})]);
    let json = json!({"table": "tickets", "where": "state = ?1 OR state = ?1 AND id = ?2", "parameters": ["open", 5]});
    assert_eq!(ids(&database, &source_of(&json)).await, [1, 5, 9]);
}

#[tokio::test]
async fn a_parameter_is_never_taken_for_sql() {
    let database = Database::with(TICKETS).await;
    let source = SqliteSource::table("tickets").filter("state = ?", ["open' OR '1'='1"]);
    assert_eq!(ids(&database, &source).await, [0_i64; 0]);
}

#[tokio::test]
async fn names_are_never_taken_for_sql() {
    let name = "t\"; DROP TABLE tickets; --";
    let database = Database::with(TICKETS).await;
    let quoted = name.replace('"', "\"\"");
    database
        .execute(&format!(
            "CREATE TABLE \"{quoted}\" (\"{quoted}\" TEXT PRIMARY KEY); INSERT INTO \"{quoted}\" VALUES ('x')"
        ))
        .await;
    let client = Arc::new(database.client().await);
    let found = read(&SqliteSource::table(name).columns([name]), &client).await.unwrap();
    assert_eq!(found.json(), [json!({ name: "x" })]);
    for table in ["tickets; DROP TABLE tickets", "tickets\" --", "sqlite_schema\" WHERE 1 --"] {
        let error = read(&SqliteSource::table(table), &client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    }
    // SQLite would take an unknown name in double quotes for a text.
    let error = read(&SqliteSource::table("tickets").columns(["nothing"]), &client).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.message().contains("has no column \"nothing\"; it has id, state, body, price"), "{error}");
    assert_eq!(database.query("SELECT count(*) AS n FROM tickets").await, [json!({"n": 4})]);
}

#[tokio::test]
async fn a_source_cannot_write() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    for query in ["SELECT 1 AS id; DELETE FROM tickets", "DELETE FROM tickets RETURNING id"] {
        let error = read(&SqliteSource::query(query).key(["id"]), &client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    }
    for condition in ["1); DELETE FROM tickets; --", "1) OR (1"] {
        let source = SqliteSource { filter: Some(condition.into()), ..SqliteSource::table("tickets") };
        let _ = read(&source, &client).await;
    }
    assert_eq!(database.query("SELECT count(*) AS n FROM tickets").await, [json!({"n": 4})]);
}

#[tokio::test]
async fn parameters_are_counted() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    let source = SqliteSource::table("tickets").filter("id > ? AND id < ?", [1]);
    let error = read(&source, &client).await.unwrap_err();
    assert!(error.message().contains("1 parameters for 2 places in `where`"), "{error}");
}

#[tokio::test]
async fn a_query_has_no_parameters() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    for condition in ["id > ?", "id > ?2", "id > :least"] {
        let query = format!("SELECT * FROM tickets WHERE {condition}");
        let plain = SqliteSource::query(&query).key(["id"]);
        for source in [plain.clone(), plain.filter("id < ?", [9])] {
            let error = read(&source, &client).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.message().contains("query: nothing gives a value to its"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_query_is_read_by_its_key() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    let source =
        SqliteSource::query("SELECT state, count(*) AS n FROM tickets GROUP BY state; ").key(["state"]);
    for items in [1, 10] {
        let found = read_from(&source, &client, &Partition::whole(), None, items).await.unwrap().json();
        assert_eq!(found, [json!({"state": "closed", "n": 1}), json!({"state": "open", "n": 3})]);
    }
}

#[tokio::test]
async fn a_key_that_is_not_unique_is_an_error_on_any_page() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    let source = SqliteSource::query("SELECT * FROM tickets").key(["state"]);
    for items in [1, 2, 3, 10] {
        let error = read_from(&source, &client, &Partition::whole(), None, items).await.unwrap_err();
        assert!(error.message().contains("the key (state) is not unique, open is there twice"), "{error}");
    }
    // Of a table the row id breaks the tie.
    let tied = SqliteSource::table("tickets").key(["state"]);
    for items in [1, 2, 10] {
        let found = read_from(&tied, &client, &Partition::whole(), None, items).await.unwrap();
        assert_eq!(found.rows.iter().map(|row| row.get_i64("id").unwrap()).collect::<Vec<_>>(), [2, 1, 5, 9]);
    }
}

#[tokio::test]
async fn keys_of_every_kind_order_the_rows() {
    let database = Database::with(
        "CREATE TABLE texts (code TEXT COLLATE NOCASE PRIMARY KEY, n);
         INSERT INTO texts VALUES ('b', 1), ('A', 2), ('c', 3), ('', 4);
         CREATE TABLE pairs (a INT, b BLOB, PRIMARY KEY (a, b)) WITHOUT ROWID;
         INSERT INTO pairs VALUES (1, x'02'), (1, x'01'), (0, x'ff');
         CREATE TABLE mixed (k PRIMARY KEY);
         INSERT INTO mixed VALUES (2), (1.5), ('text'), (x'00'), ('');
         CREATE TABLE bare (v TEXT); INSERT INTO bare VALUES ('z'), ('y'), ('z');
         CREATE TABLE hidden (rowid TEXT, v INT); INSERT INTO hidden VALUES ('a', 1), ('a', 2);",
    )
    .await;
    let client = Arc::new(database.client().await);
    let cases = [
        ("texts", "code", vec![json!(""), json!("A"), json!("b"), json!("c")]),
        ("pairs", "b", vec![json!("/w=="), json!("AQ=="), json!("Ag==")]),
        ("mixed", "k", vec![json!("1.5"), json!("2"), json!(""), json!("text")]),
        ("bare", "v", vec![json!("z"), json!("y"), json!("z")]),
        ("hidden", "v", vec![json!(1), json!(2)]),
    ];
    for (table, column, expected) in cases {
        for items in [1, 2, 10] {
            let source = SqliteSource::table(table);
            let found = read_from(&source, &client, &Partition::whole(), None, items).await.unwrap();
            let values: Vec<Value> = found.json().iter().map(|row| row[column].clone()).collect();
            assert_eq!(values, expected, "{table} by {items}");
        }
    }
}

#[tokio::test]
async fn a_row_without_a_key_is_an_error_that_names_the_column() {
    let database =
        Database::with("CREATE TABLE t (code TEXT PRIMARY KEY); INSERT INTO t VALUES ('a'), (NULL)").await;
    let client = Arc::new(database.client().await);
    let error = read(&SqliteSource::table("t"), &client).await.unwrap_err();
    assert!(error.message().contains("a row has null in the key column \"code\""), "{error}");
}

#[tokio::test]
async fn a_row_whose_key_is_infinite_has_no_position() {
    for key in ["9e999", "-9e999"] {
        let table = format!("CREATE TABLE t (x REAL PRIMARY KEY); INSERT INTO t VALUES (0.5), ({key})");
        let database = Database::with(&table).await;
        let client = Arc::new(database.client().await);
        let error = read(&SqliteSource::table("t"), &client).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Validation);
        assert!(error.message().contains("a row has an infinite number in the key column \"x\""), "{error}");
    }
}

#[tokio::test]
async fn a_view_needs_a_key() {
    let database = Database::with(TICKETS).await;
    database.execute("CREATE VIEW open AS SELECT * FROM tickets WHERE state = 'open'").await;
    let client = Arc::new(database.client().await);
    let error = read(&SqliteSource::table("open"), &client).await.unwrap_err();
    assert!(error.message().contains("name columns that are unique with `key`"), "{error}");
    assert_eq!(ids(&database, &SqliteSource::table("open").key(["id"])).await, [1, 5, 9]);
}

#[tokio::test]
async fn declared_types_are_faithful() {
    let database = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, flag BOOLEAN, day DATE, at TIMESTAMP, zoned DATETIME, big BIGINT,
            real DOUBLE, price DECIMAL(10, 2), bytes BLOB, text VARCHAR(10), any);
         INSERT INTO t VALUES
            (1, 1, '2024-02-29', '2024-02-29 10:00:00.5', '2024-02-29T12:00:00+02:00', 9223372036854775807,
             1.5, 10, x'00ff', 'a', 7),
            (2, 0, '0001-01-01', '1969-12-31T23:59:59.999999', '2024-02-29T10:00:00Z', -9223372036854775808,
             2, 9.99, x'', '', -1),
            (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);",
    )
    .await;
    let client = Arc::new(database.client().await);
    let found = read(&SqliteSource::table("t"), &client).await.unwrap();
    assert!(found.rejected.is_empty(), "{:?}", found.rejected);
    let types: Vec<String> =
        found.rows[0].schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(
        types,
        [
            "Int64",
            "Boolean",
            "Date32",
            "Timestamp(µs)",
            "Timestamp(µs, \"UTC\")",
            "Int64",
            "Float64",
            "Float64",
            "Binary",
            "Utf8",
            "Int64",
        ]
    );
    let (first, second, third) = (&found.rows[0], &found.rows[1], &found.rows[2]);
    assert_eq!(first.get_timestamp("zoned"), second.get_timestamp("zoned"));
    assert_eq!(first.get_i64("big"), Some(i64::MAX));
    assert_eq!(second.get_i64("big"), Some(i64::MIN));
    assert_eq!(first.get_bytes("bytes"), Some(&[0, 255][..]));
    assert_eq!(second.get_bytes("bytes"), Some(&[][..]));
    assert_eq!(first.to_json()["day"], "2024-02-29");
    assert!(third.columns().skip(1).all(|(_, cell)| cell.is_null()));
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_rejected_and_the_rest_arrives() {
    let database = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER, s TEXT);
         INSERT INTO t VALUES (1, 1, 'a'), (2, 'two', 'b'), (3, 3, x'ff'), (4, 4, CAST(x'ff' AS TEXT)), (5, 5, 'e');",
    )
    .await;
    let client = Arc::new(database.client().await);
    for items in [1, 2, 10] {
        let found =
            read_from(&SqliteSource::table("t"), &client, &Partition::whole(), None, items).await.unwrap();
        assert_eq!(found.rows.iter().map(|row| row.get_i64("id").unwrap()).collect::<Vec<_>>(), [1, 5]);
        let rejected: Vec<_> = found.rejected.iter().map(|(raw, _)| raw["id"].clone()).collect();
        assert_eq!(rejected, [2, 3, 4]);
        let (raw, error) = &found.rejected[0];
        assert_eq!(*raw, json!({"id": 2, "n": "two", "s": "b"}));
        assert_eq!(error.context().item.as_deref(), Some("2"));
        assert_eq!(error.context().field.as_deref(), Some("row.n"));
        assert!(error.message().contains("row 2 holds a text that is no int64"), "{error}");
    }
    let as_text =
        SqliteSource::table("t").column_type("n", ColumnType::Utf8).column_type("s", ColumnType::Binary);
    let found = read(&as_text, &client).await.unwrap();
    assert!(found.rejected.is_empty());
    assert_eq!(found.rows[0].get_str("n"), Some("1"));
    assert_eq!(found.rows[1].get_str("n"), Some("two"));
}

#[tokio::test]
async fn big_values_cut_pages_short() {
    let database = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY, body BLOB);
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20)
         INSERT INTO t SELECT i, zeroblob(300000) FROM n;",
    )
    .await;
    let client = Arc::new(database.client().await);
    let found = read(&SqliteSource::table("t"), &client).await.unwrap();
    assert_eq!(found.rows.len(), 20);
    assert!(found.batches.iter().all(|len| *len <= 4), "{:?}", found.batches);
}

#[tokio::test]
async fn partitions_hold_every_row_once() {
    let database = Database::with(
        "CREATE TABLE t (id INTEGER PRIMARY KEY);
         WITH RECURSIVE n(i) AS (SELECT -50 UNION ALL SELECT i + 7 FROM n WHERE i < 1000) INSERT INTO t SELECT i FROM n;
         CREATE TABLE ends (id INTEGER PRIMARY KEY);
         INSERT INTO ends VALUES (-9223372036854775808), (0), (9223372036854775806), (9223372036854775807);
         CREATE TABLE empty (id INTEGER PRIMARY KEY);
         CREATE TABLE texts (code TEXT PRIMARY KEY); INSERT INTO texts VALUES ('a'), ('b');",
    )
    .await;
    let client = Arc::new(database.client().await);
    let open = OpenContext::new(Context::detached(), client.clone());
    let four = NonZeroU32::new(4).unwrap();

    for table in ["t", "ends"] {
        let source = SqliteSource::table(table).in_partitions(four);
        let partitions = source.partitions(&open).await.unwrap();
        assert!(partitions.len() > 1 && partitions.len() <= 4, "{partitions:?}");
        let mut found = Vec::new();
        for partition in &partitions {
            let part = read_from(&source, &client, partition, None, 10).await.unwrap();
            assert_eq!(partition.items, Some(part.rows.len() as u64));
            found.extend(part.json());
        }
        assert_eq!(found, read(&SqliteSource::table(table), &client).await.unwrap().json());
    }

    for (table, items) in [("empty", 0), ("texts", 2)] {
        let partitions = SqliteSource::table(table).in_partitions(four).partitions(&open).await.unwrap();
        assert_eq!(partitions, [Partition::whole().with_items(items)]);
    }
    let source = SqliteSource::table("t");
    let error = read_from(&source, &client, &Partition::new("a..b"), None, 10).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
}

#[tokio::test]
async fn ids_depend_on_the_database_and_the_key_alone() {
    let database = Database::with(TICKETS).await;
    let client = database.client().await;
    let named = connect(&database.config().known_as("helpdesk")).await.unwrap();
    let source = SqliteSource::table("tickets");
    assert_eq!(source.identity(&named).name(), "sqlite:helpdesk#tickets");
    assert_ne!(source.identity(&named), source.identity(&client));
    let query = SqliteSource::query("SELECT *\n  FROM tickets").key(["id"]);
    assert_eq!(query.identity(&named).name(), "sqlite:helpdesk#SELECT * FROM tickets");
    assert_eq!(query.named("tickets").identity(&named), source.identity(&named));
    // The same file by another path.
    let roundabout =
        database.directory.path().join("..").join(database.directory.path().file_name().unwrap());
    let other = connect(&Sqlite::at(roundabout.join("test.db").to_str().unwrap())).await.unwrap();
    assert_eq!(source.identity(&other), source.identity(&client));
}

#[tokio::test]
async fn nothing_is_fetched_before_the_first_poll() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    let open = OpenContext::new(Context::detached(), client.clone());
    let source = SqliteSource::table("nothing");
    let context = ReadContext::new(open, source.identity(&client), nvisy_core::BatchLimits::default());
    drop(source.read(&Partition::whole(), None, &context));
}

#[tokio::test]
async fn a_position_of_another_key_is_refused() {
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    let source = SqliteSource::table("tickets");
    for position in [Position::Offset(1), Position::Keyset([].into())] {
        let error = read_from(&source, &client, &Partition::whole(), Some(position), 10).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration);
    }
}

#[tokio::test]
async fn what_is_no_database_is_told_clearly() {
    let database = Database::empty();
    let path = database.path();
    let at = || Sqlite::at(path.to_str().unwrap());
    let error = connect(&at()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("does not exist: check the path, or set `create`"), "{error}");

    std::fs::write(
        &path,
        "this is a text file, and long enough to be looked at as a database header".repeat(20),
    )
    .unwrap();
    let error = connect(&at()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert!(error.message().contains("is not a SQLite database"), "{error}");

    let error = connect(&Sqlite::at(database.directory.path().to_str().unwrap())).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Permission);
    assert!(error.message().contains("cannot be opened"), "{error}");
}

#[tokio::test]
async fn a_utf_16_database_reads_alike() {
    let database = Database::with("PRAGMA encoding = 'UTF-16'; CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT); INSERT INTO t VALUES (1, 'Größe 漢字'), (2, '')").await;
    let client = Arc::new(database.client().await);
    let found = read(&SqliteSource::table("t"), &client).await.unwrap();
    assert_eq!(found.json(), [json!({"id": 1, "s": "Größe 漢字"}), json!({"id": 2, "s": ""})]);
}

#[tokio::test]
async fn an_empty_table_gives_no_batch() {
    let database = Database::with("CREATE TABLE t (id INTEGER PRIMARY KEY, s TEXT)").await;
    let client = Arc::new(database.client().await);
    let found = read(&SqliteSource::table("t"), &client).await.unwrap();
    assert!(found.rows.is_empty() && found.batches.is_empty());
}

#[tokio::test]
async fn keys_that_are_equal_in_the_order_and_not_in_bytes_are_all_read() {
    let tables = "CREATE TABLE t (k TEXT COLLATE NOCASE NOT NULL, n);
         CREATE UNIQUE INDEX i ON t (k COLLATE BINARY);
         INSERT INTO t VALUES ('a', 1), ('A', 2), ('B', 3), ('b', 4), ('c', 5), ('C', 6);";
    let database = Database::with(tables).await;
    let client = Arc::new(database.client().await);
    let of_table = source_of(&json!({"table": "t", "key": ["k"]}));
    let of_query = source_of(&json!({"query": "SELECT k, n FROM t", "key": ["k"]}));
    for source in [of_table, of_query] {
        for items in [1, 2, 3, 4, 100] {
            let read = read_from(&source, &client, &Partition::whole(), None, items).await.unwrap();
            let mut numbers: Vec<_> = read.json().iter().map(|row| row["n"].to_string()).collect();
            numbers.sort();
            assert_eq!(numbers.len(), 6, "pages of {items}: {numbers:?}");
        }
    }
}

#[tokio::test]
async fn numbers_that_are_equal_are_one_key() {
    let database =
        Database::with("CREATE TABLE t (k, n); INSERT INTO t VALUES (1, 1), (1.0, 2), (2, 3);").await;
    let client = Arc::new(database.client().await);
    let source = source_of(&json!({"query": "SELECT k, n FROM t", "key": ["k"]}));
    for items in [1, 2, 100] {
        let error = read_from(&source, &client, &Partition::whole(), None, items).await.unwrap_err();
        assert!(error.message().contains("is not unique"), "{error}");
    }
}

/// Rows 1 to 9, which change when five of them are read: of the rest nothing is lost, nothing is read
/// that was, and what comes before them is left for the next reading.
#[tokio::test]
async fn a_table_whose_rows_change_is_read_on_behind_the_last_key() {
    let keys = [
        ("id INTEGER PRIMARY KEY", "id"),
        ("id TEXT PRIMARY KEY", "id"),
        ("id INTEGER PRIMARY KEY, other", "id"),
        ("x INT DEFAULT 1, id INT, PRIMARY KEY (x, id)", "id"),
    ];
    let changes: [(&str, &[i64]); 8] = [
        ("DELETE FROM t WHERE id = 5", &[6, 7, 8, 9]),
        ("DELETE FROM t WHERE id <= 5", &[6, 7, 8, 9]),
        ("DELETE FROM t WHERE id IN (4, 5, 6)", &[7, 8, 9]),
        ("DELETE FROM t WHERE id > 5", &[]),
        ("DELETE FROM t", &[]),
        ("INSERT INTO t (id) VALUES (0)", &[6, 7, 8, 9]),
        ("DELETE FROM t WHERE id IN (5, 9); VACUUM; REINDEX", &[6, 7, 8]),
        // As if they were there in another order, and some were read in the meantime.
        (
            "CREATE TABLE u AS SELECT id FROM t; DELETE FROM t; INSERT INTO t (id) SELECT id FROM u ORDER BY id DESC",
            &[6, 7, 8, 9],
        ),
    ];
    for (columns, key) in keys {
        for (change, left) in changes {
            let rows = (1..10).map(|id| format!("({id})")).collect::<Vec<_>>().join(", ");
            let filled = format!("CREATE TABLE t ({columns}); INSERT INTO t (id) VALUES {rows}");
            let database = Database::with(&filled).await;
            let client = Arc::new(database.client().await);
            let source = SqliteSource::table("t").columns([key]);
            let before = read(&source, &client).await.unwrap();
            let after = before.positions[4].clone();
            database.execute(change).await;
            for items in [1, 2, 100] {
                let whole = Partition::whole();
                let rest = read_from(&source, &client, &whole, Some(after.clone()), items).await.unwrap();
                let ids: Vec<i64> = rest
                    .json()
                    .iter()
                    .map(|row| row["id"].to_string().trim_matches('"').parse().unwrap())
                    .collect();
                assert_eq!(ids, left, "{columns}: {change}, by {items}");
            }
        }
    }
}

#[tokio::test]
async fn a_table_that_is_another_one_when_it_is_read_on_is_told() {
    let changes = [
        ("DROP TABLE tickets", ErrorKind::NotFound, "\"tickets\""),
        ("ALTER TABLE tickets RENAME TO others", ErrorKind::NotFound, "\"tickets\""),
        ("ALTER TABLE tickets RENAME COLUMN id TO number", ErrorKind::Configuration, "has no column \"id\""),
        (
            "CREATE TABLE u (id INT, state TEXT, PRIMARY KEY (id, state)); DROP TABLE tickets; \
             ALTER TABLE u RENAME TO tickets",
            ErrorKind::Configuration,
            "the source was read by another key: begin anew without the run's state",
        ),
    ];
    for (change, kind, told) in changes {
        let database = Database::with(TICKETS).await;
        let client = Arc::new(database.client().await);
        let source = SqliteSource::table("tickets").columns(["id"]);
        let after = read(&source, &client).await.unwrap().positions[1].clone();
        database.execute(change).await;
        let client = Arc::new(database.client().await);
        let error = read_from(&source, &client, &Partition::whole(), Some(after), 10).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{change}: {error}");
        assert!(error.message().contains(told), "{change}: {error}");
    }
}

#[tokio::test]
async fn rows_that_change_between_two_pages_are_neither_lost_nor_read_twice() {
    use futures::StreamExt;
    let database = Database::with(TICKETS).await;
    let client = Arc::new(database.client().await);
    let source = SqliteSource::table("tickets").columns(["id"]);
    let open = OpenContext::new(Context::detached(), client.clone());
    let context = ReadContext::new(open, source.identity(&client), nvisy_core::BatchLimits::items(1));
    let whole = Partition::whole();
    let mut pages = std::pin::pin!(source.read(&whole, None, &context));
    let mut ids = Vec::new();
    let changes = [
        "DELETE FROM tickets WHERE id = 1; INSERT INTO tickets VALUES (0, '', '', 0), (3, '', '', 0)",
        "UPDATE tickets SET id = 4 WHERE id = 2",
        "DELETE FROM tickets WHERE id IN (3, 5)",
        "",
        "",
    ];
    for change in changes {
        let Some(page) = pages.next().await else { break };
        ids.extend(page.unwrap().batch.iter().map(|item| match item.payload() {
            Payload::Row(row) => row.get_i64("id").unwrap(),
            other => panic!("{other:?}"),
        }));
        database.execute(change).await;
    }
    // What has another key is another row.
    assert_eq!(ids, [1, 2, 3, 4, 9]);
}
