//! What is written reads back as it was: types, nulls, extremes, nesting, compression.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::DataType;
use futures::StreamExt;
use nvisy_core::DeadLetter;
use nvisy_core::prelude::*;
use nvisy_plugin_object::{
    Bytes, BytesSink, ColumnType, Csv, CsvSink, Ipc, IpcSink, Jsonl, JsonlSink, ObjectClient, Parquet,
    ParquetCompression, ParquetSink, Text, TextSink,
};
use serde_json::{Value, json};

use crate::support::{Store, batch, check_resume};

const ROWS: &str = r#"{"id":1,"f":0.1,"s":"plain","b":true,"l":[1,null,3],"o":{"x":"y","n":[{"d":1}]}}
{"id":-9223372036854775808,"f":1e300,"s":"Grüße 漢字 👩‍👩‍👧‍👦 \u0001\t\"\\\n,;","b":false,"l":[],"o":{"x":null,"n":[]}}
{"id":9223372036854775807,"f":-0.0,"s":"","b":null,"l":null,"o":null}
{"id":null,"f":null,"s":null,"b":null,"l":null,"o":{"x":"","n":null}}
"#;

async fn round<S, K, B>(sink: K, back: B, source: &S) -> (Vec<Value>, Vec<Value>)
where
    S: Source<Client = ObjectClient>,
    K: SinkConfig<Client = ObjectClient>,
    B: Source<Client = ObjectClient>,
{
    let store = Store::new();
    store.put("in.jsonl", ROWS).put("in.csv", FLAT);
    store.copy(source, &sink).await.unwrap();
    for limits in [BatchLimits::items(1), BatchLimits::items(3)] {
        check_resume(&store, &back, limits).await;
    }
    let original = store.read(source).await.unwrap();
    let copied = store.read(&back).await.unwrap();
    assert!(copied.error.is_none() && copied.rejected.is_empty(), "{copied:?}");
    (original.items, copied.items)
}

#[tokio::test]
async fn rows_with_nulls_extremes_and_nesting_keep_their_values() {
    let source = Jsonl::path("in.jsonl");
    for path in ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"] {
        let (original, copied) = round(JsonlSink::path(path), Jsonl::path(path), &source).await;
        assert_eq!(original, copied, "{path}");
        assert_eq!(original[1]["id"], i64::MIN);
    }
    for compression in [ParquetCompression::None, ParquetCompression::Snappy, ParquetCompression::Zstd] {
        let sink = ParquetSink::path("a.parquet").compression(compression).row_group_rows(3);
        let (original, copied) = round(sink, Parquet::path("a.parquet"), &source).await;
        assert_eq!(original, copied, "{compression:?}");
    }
    let (original, copied) = round(IpcSink::path("a.arrow"), Ipc::path("a.arrow"), &source).await;
    assert_eq!(original, copied);
}

const FLAT: &str = "int,float,text,flag,day,time,moment\n\
    1,.046,plain,true,2024-02-29,2024-02-29T13:14:15,2024-02-29T13:14:15.25Z\n\
    -9223372036854775808,1e300,\"a \"\"b\"\", \n c\",FALSE,0001-01-01,1969-12-31 23:59:59.999999,2024-02-29T13:14:15+02:00\n\
    9223372036854775807,NaN,\"\",,,,\n\
    ,,Grüße 漢字 👩‍👩‍👧‍👦,,,,\n";

#[tokio::test]
async fn csv_keeps_types_nulls_and_empty_texts() {
    let source = Csv::path("in.csv");
    for path in ["b.csv", "b.tsv", "b.csv.gz", "b.tsv.zst"] {
        let (original, copied) = round(CsvSink::path(path), Csv::path(path), &source).await;
        assert_eq!(original, copied, "{path}");
        assert_eq!(
            original[0],
            json!({"int": 1, "float": 0.046, "text": "plain", "flag": true, "day": "2024-02-29",
            "time": "2024-02-29T13:14:15", "moment": "2024-02-29T13:14:15.250Z"})
        );
        assert_eq!(original[1]["moment"], "2024-02-29T11:14:15Z");
        assert_eq!((&original[2]["text"], &original[3]["text"]), (&json!(""), &json!("Grüße 漢字 👩‍👩‍👧‍👦")));
    }
    let sink = CsvSink::path("c.csv").delimiter(';').header(false);
    let mut back = Csv::path("c.csv").delimiter(';').header(false);
    for (name, column_type) in
        [("int", ColumnType::Int), ("float", ColumnType::Float), ("text", ColumnType::Text)]
    {
        back = back.column(name, column_type);
    }
    back = back.column("flag", ColumnType::Bool).column("day", ColumnType::Date);
    back = back.column("time", ColumnType::Timestamp).column("moment", ColumnType::TimestampUtc);
    let (original, copied) = round(sink, back, &source).await;
    assert_eq!(original, copied);
}

#[tokio::test]
async fn csv_keeps_floats_that_are_no_number_however_wide_they_are() {
    let floats: ArrayRef = Arc::new(arrow::array::Float64Array::from(vec![
        Some(f64::NAN),
        Some(f64::INFINITY),
        Some(f64::NEG_INFINITY),
        Some(1.5),
        None,
    ]));
    for wide in [DataType::Float16, DataType::Float32, DataType::Float64] {
        let store = Store::new();
        let column = arrow::compute::cast(&floats, &wide).unwrap();
        let rows = Arc::new(RecordBatch::try_from_iter([("n", column.clone()), ("x", column)]).unwrap());
        let rows = batch((0..5).map(|n| nvisy_core::primitive::row::Row::new(rows.clone(), n).unwrap()));
        let sink = store.open(&CsvSink::path("a.csv")).await.unwrap();
        assert!(sink.write(&rows, &Context::detached()).await.unwrap().is_applied());
        sink.close(&Context::detached()).await.unwrap();
        assert_eq!(store.get("a.csv"), "n,x\nNaN,NaN\ninf,inf\n-inf,-inf\n1.5,1.5\n,\n", "{wide}");
        let read = store.read(&Csv::path("a.csv")).await.unwrap();
        assert!(read.rejected.is_empty() && read.items.len() == 5, "{wide}: {read:?}");
    }
}

#[tokio::test]
async fn a_null_in_a_table_of_one_column_of_text_reads_back_as_an_empty_text() {
    let store = Store::new();
    store.put("in.jsonl", "{\"t\":null}\n{\"t\":\"a\"}\n{\"t\":\"\"}\n");
    store.copy(&Jsonl::all(), &CsvSink::path("a.csv")).await.unwrap();
    assert_eq!(store.get("a.csv"), "t\n\"\"\na\n\"\"\n");
    let read = store.read(&Csv::all()).await.unwrap();
    assert_eq!(read.items, [json!({"t": ""}), json!({"t": "a"}), json!({"t": ""})]);
}

#[tokio::test]
async fn rows_stay_columns_from_csv_to_parquet() {
    use futures::StreamExt;
    let store = Store::new();
    store.put("in.csv", FLAT);
    let source = Csv::path("in.csv");
    let mut batches = std::pin::pin!(nvisy_core::stream::read(&source, store.client().await));
    let batch = batches.next().await.unwrap().unwrap();
    let types: Vec<String> =
        batch.as_rows().unwrap().schema().fields().iter().map(|f| f.data_type().to_string()).collect();
    assert_eq!(
        types,
        ["Int64", "Float64", "Utf8", "Boolean", "Date32", "Timestamp(µs)", "Timestamp(µs, \"UTC\")"]
    );
    store.copy(&source, &ParquetSink::path("out.parquet")).await.unwrap();
    let back = Parquet::path("out.parquet").columns(["text", "int"]);
    let read = store.read(&back).await.unwrap();
    assert_eq!(read.items[0], json!({"int": 1, "text": "plain"}));
    assert_eq!(read.offsets, [0, 1, 2, 3]);
    assert!(store.read(&Parquet::path("out.parquet").columns(["nope"])).await.unwrap().error.is_some());
}

#[tokio::test]
async fn dictionaries_of_several_batches_fit_one_file() {
    let store = Store::new();
    let sink = store.open(&IpcSink::path("a.arrow")).await.unwrap();
    for values in [["a", "b"], ["c", "a"]] {
        let texts: ArrayRef = Arc::new(StringArray::from(values.to_vec()));
        let dictionary = DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
        let column = arrow::compute::cast(&texts, &dictionary).unwrap();
        assert_eq!(column.len(), 2);
        let rows = RecordBatch::try_from_iter([("kind", column)]).unwrap();
        let rows =
            batch((0..2).map(|n| nvisy_core::primitive::row::Row::new(Arc::new(rows.clone()), n).unwrap()));
        assert!(sink.write(&rows, &Context::detached()).await.unwrap().is_applied());
    }
    sink.close(&Context::detached()).await.unwrap();
    let kinds: Vec<Value> =
        store.read(&Ipc::all()).await.unwrap().items.iter().map(|i| i["kind"].clone()).collect();
    assert_eq!(kinds, ["a", "b", "c", "a"]);
}

#[tokio::test]
async fn documents_and_objects_keep_their_bytes() {
    let store = Store::new();
    store
        .put("in/a.md", "Intro\n\n# Title\n\nüber")
        .put("in/deep/b.txt", "b\r\n")
        .put("in/c.bin", [0, 255, 10]);
    let read = store.read(&Text::prefix("in/")).await.unwrap();
    let uri = format!("file://{}/in/a.md", store.directory.path().canonicalize().unwrap().display());
    assert_eq!(
        read.items[0],
        json!({"text": "Intro\n\n# Title\n\nüber", "title": "Title", "mime_type": "text/markdown",
            "source_uri": uri, "byte_range": {"start": 0, "end": 21}})
    );
    store.copy(&Text::prefix("in/"), &TextSink::path("texts/{stem}.copy.txt.gz")).await.unwrap();
    let copies = store.read(&Text::prefix("texts/")).await.unwrap();
    assert_eq!(copies.items[1]["text"], "b\r\n");
    store.copy(&Bytes::prefix("in/"), &BytesSink::path("copies/{key}")).await.unwrap();
    store.copy(&Bytes::prefix("in/"), &BytesSink::path("copies/{key}")).await.unwrap();
    assert_eq!(std::fs::read(store.path("copies/in/c.bin")).unwrap(), [0, 255, 10]);
    assert_eq!(store.files().iter().filter(|file| file.starts_with("copies/")).count(), 3);
    assert_eq!(store.files().iter().filter(|file| file.contains("tmp")).count(), 0);
}

#[tokio::test]
async fn configs_read_back_from_their_json() {
    let jsonl = Jsonl::prefix("a/").glob("*.jsonl").column("id", ColumnType::Int).sample(5);
    let json = serde_json::to_value(&jsonl).unwrap();
    assert_eq!(
        json,
        json!({"prefix": "a/", "glob": "*.jsonl", "schema": [{"name": "id", "type": "int"}], "sample": 5})
    );
    assert_eq!(nvisy_core::config::parse::<Jsonl>(&json).unwrap(), jsonl);
    let plugin = nvisy_plugin_object::plugin();
    let names: Vec<&str> = plugin.sources().iter().map(|s| s.name()).collect();
    assert_eq!(
        names,
        [
            "object/text",
            "object/bytes",
            "object/jsonl",
            "object/json",
            "object/csv",
            "object/parquet",
            "object/ipc"
        ]
    );
    for entry in plugin.sources() {
        let problems = entry.parse(&json!({"path": "../x", "nope": 1})).unwrap_err();
        assert!(problems.iter().any(|p| p.path == "nope"), "{problems:?}");
        let problems = entry.parse(&json!({"path": "../x"})).unwrap_err();
        assert!(problems[0].message.contains("leads out"), "{problems:?}");
    }
    for entry in plugin.sinks() {
        let problems = entry.parse(&json!({"path": "/abs/{what}"})).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}

#[tokio::test]
async fn dead_letters_of_every_kind_read_back_where_their_columns_are_texts() {
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../nvisy-core/tests/golden/0.1");
    let letters: Vec<DeadLetter> = nvisy_core::Kinds::ANY
        .iter()
        .map(|kind| {
            let json = std::fs::read(golden.join(format!("{kind}.json"))).unwrap();
            let error = Error::new(ErrorKind::Timeout, "too late").with_detail("of the item");
            let time = nvisy_core::metadata::Timestamp::default();
            DeadLetter::new(serde_json::from_slice(&json).unwrap(), &error, "act".into(), 3, time)
        })
        .collect();
    let (store, context) = (Store::new(), Context::detached());
    let sink = store.open(&JsonlSink::path("kept.jsonl")).await.unwrap();
    let kept = letters.iter().map(|letter| letter.to_primitive().unwrap()).collect();
    assert!(sink.write(&Batch::from_primitives(kept), &context).await.unwrap().is_applied());
    sink.close(&context).await.unwrap();
    let read = async |source: &Jsonl| {
        let batches = nvisy_core::stream::read(source, store.client().await).collect::<Vec<_>>().await;
        let items = batches.into_iter().flat_map(|batch| batch.unwrap().into_primitives());
        items.map(|item| DeadLetter::from_primitive(&item)).collect::<Vec<_>>()
    };

    let texts = ["primitive", "error", "node", "time", "position"];
    let source = Jsonl::path("kept.jsonl").column("attempts", ColumnType::Int);
    let source = texts.into_iter().fold(source, |source, name| source.column(name, ColumnType::Text));
    let back: Vec<DeadLetter> = read(&source).await.into_iter().map(|letter| letter.unwrap()).collect();
    assert_eq!(back, letters);
    for (back, letter) in back.into_iter().zip(letters) {
        let (back, item) = (back.replay(), letter.primitive);
        assert_eq!((back.id(), back.root()), (item.id(), item.root()));
        assert_eq!(back.content_hash(), item.content_hash());
    }

    for letter in read(&Jsonl::path("kept.jsonl")).await {
        let error = letter.unwrap_err();
        assert!(error.message().contains("`primitive` is missing or no text"), "{error}");
    }
}
