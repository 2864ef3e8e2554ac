//! Every rule of the conformance kit, for every source and sink.

use std::sync::Arc;

use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::object::Object;
use nvisy_core::primitive::row::Row;
use nvisy_core::testing::conformance::{self, OpenSource, SinkHarness, SourceHarness, Target, samples};
use nvisy_core::testing::plain;
use nvisy_core::{ErrorKind, Payload};
use nvisy_plugin_object::{
    Bytes, BytesSink, Csv, CsvSink, Ipc, IpcSink, Json, Jsonl, JsonlSink, Local, ObjectClient, OnExisting,
    Parquet, ParquetSink, Text, TextSink,
};
use serde_json::{Value, json};

use crate::support::{Store, read};

async fn connect(store: &Store) -> Result<ObjectClient> {
    Local::at(store.directory.path()).connect(&ConnectContext::detached()).await
}

/// Checks a source over what `fill` puts into a store: `source` reads `in/`, and is to find
/// `expected` there, one item in `one/` and none in `none/`.
async fn check_source<S: Source<Client = ObjectClient>>(
    store: Store,
    source: impl Fn(&str) -> S + Clone + 'static,
    missing: S,
    expected: Vec<Value>,
    single: Value,
    rejected: usize,
) {
    std::fs::create_dir_all(store.path("none")).unwrap();
    let store = Arc::new(store);
    let opener = |prefix: &'static str| {
        let (store, source) = (store.clone(), source.clone());
        move || {
            let (store, source) = (store.clone(), source.clone());
            async move { Ok(OpenSource::new(source(prefix), connect(&store).await?)) }
        }
    };
    let other = store.clone();
    let harness = SourceHarness::new(opener("in/"), expected)
        .rejecting(rejected)
        .with_empty(opener("none/"))
        .with_single(opener("one/"), single)
        .failing("an object that is not there", ErrorKind::NotFound, move || {
            let (store, missing) = (other.clone(), missing.clone());
            async move { Ok(OpenSource::new(missing, connect(&store).await?)) }
        });
    conformance::source(&harness).await.assert_passed();
}

fn number(n: i64) -> Value {
    json!({"n": n, "t": format!("text {n}")})
}

fn numbers() -> Vec<Value> {
    (0..30).map(number).collect()
}

fn lines(range: std::ops::Range<i64>) -> String {
    range.map(|n| number(n).to_string() + "\n").collect()
}

#[tokio::test]
async fn json_lines_keep_the_contract_of_a_source() {
    let store = Store::new();
    store
        .put("in/a.jsonl", lines(0..12) + "no\n")
        .put("in/b.jsonl", lines(12..30))
        .put("one/a.jsonl", lines(0..1));
    store.put("none/a.jsonl", "");
    check_source(store, |prefix| Jsonl::prefix(prefix), Jsonl::path("nope.jsonl"), numbers(), number(0), 1)
        .await;
}

#[tokio::test]
async fn json_keeps_the_contract_of_a_source() {
    let store = Store::new();
    let array = |range: std::ops::Range<i64>| format!("[{}]", lines(range).trim().replace('\n', ","));
    store.put("in/a.json", array(0..12)).put("in/b.json", array(12..30)).put("one/a.json", array(0..1));
    store.put("none/a.json", "[]");
    check_source(store, |prefix| Json::prefix(prefix), Json::path("nope.json"), numbers(), number(0), 0)
        .await;
}

#[tokio::test]
async fn csv_keeps_the_contract_of_a_source() {
    let store = Store::new();
    let table = |range: std::ops::Range<i64>| -> String {
        "n,t\n".to_owned() + &range.map(|n| format!("{n},\"text {n}\"\r\n")).collect::<String>()
    };
    store
        .put("in/a.csv", table(0..12) + "1,2,3\n")
        .put("in/b.csv", table(12..30))
        .put("one/a.csv", table(0..1));
    store.put("none/a.csv", "n,t\n");
    check_source(store, |prefix| Csv::prefix(prefix), Csv::path("nope.csv"), numbers(), number(0), 1).await;
}

#[tokio::test]
async fn parquet_and_ipc_keep_the_contract_of_a_source() {
    let store = Store::new();
    store.put("a.jsonl", lines(0..12)).put("b.jsonl", lines(12..30)).put("c.jsonl", lines(0..1));
    for (from, to) in [("a", "in/a"), ("b", "in/b"), ("c", "one/a")] {
        let source = Jsonl::path(format!("{from}.jsonl"));
        let sink = ParquetSink::path(format!("{to}.parquet")).row_group_rows(5);
        store.copy(&source, &sink).await.unwrap();
        store.copy(&source, &IpcSink::path(format!("{to}.arrow"))).await.unwrap();
    }
    let copy = Store::new();
    for file in store.files() {
        copy.put(&file, std::fs::read(store.path(&file)).unwrap());
    }
    check_source(
        store,
        |prefix| Parquet::prefix(prefix),
        Parquet::path("no.parquet"),
        numbers(),
        number(0),
        0,
    )
    .await;
    check_source(copy, |prefix| Ipc::prefix(prefix), Ipc::path("no.arrow"), numbers(), number(0), 0).await;
}

#[tokio::test]
async fn texts_and_bytes_keep_the_contract_of_a_source() {
    let store = Store::new();
    let name = |n: usize| format!("in/{n:02}.md");
    (0..12).for_each(|n| {
        store.put(&name(n), format!("# Title {n}"));
    });
    store.put("in/bad.md", b"\xff").put("one/a.md", "# Title 0");
    let root = store.directory.path().canonicalize().unwrap().display().to_string();
    let document = move |key: &str, n: usize| {
        let text = format!("# Title {n}");
        json!({"byte_range": {"start": 0, "end": text.len()}, "mime_type": "text/markdown", "text": text,
            "title": format!("Title {n}"), "source_uri": format!("file://{root}/{key}")})
    };
    let expected = (0..12).map(|n| document(&name(n), n)).collect();
    let single = document("one/a.md", 0);
    check_source(store, |prefix| Text::prefix(prefix), Text::path("no.md"), expected, single, 1).await;

    let store = Arc::new(Store::new());
    (0..12).for_each(|n| {
        store.put(&name(n), [n as u8; 3]);
    });
    store.put("one/a.bin", [0; 3]);
    std::fs::create_dir_all(store.path("none")).unwrap();
    let open = |prefix: &'static str| {
        let store = store.clone();
        move || {
            let store = store.clone();
            async move { Ok(OpenSource::new(Bytes::prefix(prefix), connect(&store).await?)) }
        }
    };
    let bytes = |payload: &Payload| match payload {
        Payload::Object(object) => json!(object.bytes.as_deref()),
        other => plain(other),
    };
    let harness = SourceHarness::new(open("in/"), (0..12).map(|n: u8| json!(vec![n; 3])))
        .showing(bytes)
        .with_empty(open("none/"))
        .with_single(open("one/"), json!(vec![0; 3]));
    conformance::source(&harness).await.assert_passed();
}

fn row(value: &Value) -> Payload {
    // Of one schema, whatever is null.
    let columns = [("n", "Int64"), ("f", "Float64"), ("t", "Utf8"), ("b", "Boolean")];
    let types = columns.map(|(name, data_type)| {
        let data_type = match data_type {
            "Int64" => arrow::datatypes::DataType::Int64,
            "Float64" => arrow::datatypes::DataType::Float64,
            "Utf8" => arrow::datatypes::DataType::Utf8,
            _ => arrow::datatypes::DataType::Boolean,
        };
        arrow::datatypes::Field::new(name, data_type, true)
    });
    let schema = Arc::new(arrow::datatypes::Schema::new(types.to_vec()));
    Row::from_json(value.as_object().unwrap(), Some(schema)).unwrap().into()
}

fn rows() -> (Vec<Payload>, Vec<Payload>) {
    let texts =
        samples::texts().into_iter().map(|text| row(&json!({"n": 1, "f": 0.5, "t": text, "b": true})));
    let integers =
        samples::integers().into_iter().map(|n| row(&json!({"n": n, "f": 0.5, "t": "x", "b": false})));
    let floats = samples::floats().into_iter().map(|f| row(&json!({"n": 1, "f": f, "t": "x", "b": false})));
    let nulls = [
        json!({"n": null, "f": 0.5, "t": "x", "b": true}),
        json!({"n": 1, "f": null, "t": "", "b": null}),
        json!({"n": null, "f": null, "t": null, "b": null}),
    ];
    (texts.chain(integers).chain(floats).collect(), nulls.iter().map(row).collect())
}

/// Checks a sink of rows: `source` reads back what is in a store.
async fn check_rows<K, S>(sink: impl Fn() -> K + Clone + 'static, source: S)
where
    K: SinkConfig<Client = ObjectClient>,
    S: Source<Client = ObjectClient>,
{
    let (extremes, nulls) = rows();
    let fresh = move |store: Arc<Store>, sink: K| {
        let source = source.clone();
        async move {
            let client = connect(&store).await?;
            Ok(Target::new(sink, client, move || {
                let (store, source) = (store.clone(), source.clone());
                async move {
                    let read = read(&source, store.client().await, BatchLimits::default()).await?;
                    assert!(read.error.is_none() && read.rejected.is_empty(), "{read:?}");
                    Ok(read.items)
                }
            }))
        }
    };
    let (ok, outside) = (fresh.clone(), sink.clone());
    let harness = SinkHarness::new(
        move || ok(Arc::new(Store::new()), sink()),
        |n| row(&json!({"n": n, "f": 0.5, "t": format!("item {n}"), "b": n % 2 == 0})),
    )
    .with_extremes(extremes)
    .with_nulls(nulls)
    .refusing([Row::from_json(json!({"other": 1}).as_object().unwrap(), None).unwrap().into()])
    .failing("a name that is taken", ErrorKind::Conflict, move || {
        let store = Store::new();
        for key in ["out.jsonl", "out.csv", "out.parquet", "out.arrow"] {
            store.put(key, "taken");
        }
        let mut json = serde_json::to_value(outside()).unwrap();
        json["on_existing"] = json!("fail");
        fresh(Arc::new(store), serde_json::from_value(json).unwrap())
    });
    conformance::sink(&harness).await.assert_passed();
}

#[tokio::test]
async fn csv_keeps_the_contract_of_a_sink() {
    use nvisy_plugin_object::ColumnType as T;
    let source =
        Csv::all().column("n", T::Int).column("f", T::Float).column("t", T::Text).column("b", T::Bool);
    check_rows(|| CsvSink::path("out.csv").on_existing(OnExisting::Number), source).await;
}

#[tokio::test]
async fn parquet_keeps_the_contract_of_a_sink() {
    check_rows(|| ParquetSink::path("out.parquet").on_existing(OnExisting::Number), Parquet::all()).await;
}

#[tokio::test]
async fn ipc_keeps_the_contract_of_a_sink() {
    check_rows(|| IpcSink::path("out.arrow").on_existing(OnExisting::Number), Ipc::all()).await;
}

/// Every JSON value of every line in a store.
fn json_lines(store: &Store) -> Vec<Value> {
    let files = store.files().into_iter().filter(|file| file.ends_with(".jsonl"));
    files
        .flat_map(|file| {
            store.get(&file).lines().map(|l| serde_json::from_str(l).unwrap()).collect::<Vec<_>>()
        })
        .collect()
}

#[tokio::test]
async fn json_lines_keep_the_contract_of_a_sink() {
    let (extremes, nulls) = rows();
    let fresh = || async {
        let store = Arc::new(Store::new());
        let sink = JsonlSink::path("out.jsonl").on_existing(OnExisting::Number);
        let client = connect(&store).await?;
        Ok(Target::new(sink, client, move || {
            let store = store.clone();
            async move { Ok(json_lines(&store)) }
        }))
    };
    let show = |item: &Primitive| match item.payload() {
        Payload::Document(document) => serde_json::to_value(&**document).unwrap(),
        other => plain(other),
    };
    let documents = samples::documents().into_iter().map(Kind::into_payload);
    let harness =
        SinkHarness::new(fresh, |n| row(&json!({"n": n, "f": 0.5, "t": format!("item {n}"), "b": true})))
            .showing(show)
            .with_extremes(extremes.into_iter().chain(documents))
            .with_nulls(nulls);
    conformance::sink(&harness).await.assert_passed();
}

#[tokio::test]
async fn whole_files_keep_the_contract_of_a_sink() {
    fn contents(store: &Store) -> Vec<Value> {
        let files = store.files().into_iter().filter(|file| !file.contains("nvisy-tmp"));
        files.map(|file| json!(std::fs::read(store.path(&file)).unwrap())).collect()
    }
    let fresh = || async {
        let store = Arc::new(Store::new());
        let client = connect(&store).await?;
        Ok(Target::new(TextSink::path("{id}.txt"), client, move || {
            let store = store.clone();
            async move { Ok(contents(&store)) }
        }))
    };
    let document = |text: String| Payload::from(Document::new(text).unwrap());
    let texts = samples::texts().into_iter().filter(|text| !text.is_empty());
    let show = |item: &Primitive| match item.payload() {
        Payload::Document(document) => json!(document.text.as_bytes()),
        other => plain(other),
    };
    let harness = SinkHarness::new(fresh, move |n| document(format!("text {n}")))
        .showing(show)
        .with_extremes(texts.map(document))
        .with_newer(move |n| document(format!("newer text {n}")))
        .with_at_most(50);
    conformance::sink(&harness).await.assert_passed();

    let fresh = || async {
        let store = Arc::new(Store::new());
        let client = connect(&store).await?;
        Ok(Target::new(BytesSink::path("{key}"), client, move || {
            let store = store.clone();
            async move { Ok(contents(&store)) }
        }))
    };
    let object = |key: String, bytes: Vec<u8>| Payload::from(Object::new(key, bytes).unwrap());
    let show = |item: &Primitive| match item.payload() {
        Payload::Object(object) => json!(object.bytes.as_deref()),
        other => plain(other),
    };
    let harness =
        SinkHarness::new(fresh, move |n| object(format!("d/{n}.bin"), format!("bytes {n}").into_bytes()))
            .showing(show)
            .with_extremes([
                object("all.bin".into(), (0..=255).collect()),
                object("ünï 漢.bin".into(), vec![0]),
            ])
            .with_newer(move |n| object(format!("d/{n}.bin"), format!("newer {n}").into_bytes()))
            .refusing([object("../out.bin".into(), vec![1]), object("/abs.bin".into(), vec![1])])
            .with_at_most(50);
    conformance::sink(&harness).await.assert_passed();
}
