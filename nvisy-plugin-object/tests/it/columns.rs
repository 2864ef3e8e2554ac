//! What the columns of an object are called, and how many there are.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use nvisy_core::BatchLimits;
use nvisy_plugin_object::{ColumnType, Csv, Drift, Ipc, JsonlSink, Parquet};
use serde_json::json;

use crate::support::{Store, check_resume};

fn three() -> Csv {
    let csv = Csv::path("a.csv").header(false);
    csv.column("a", ColumnType::Int).column("b", ColumnType::Int).column("c", ColumnType::Int)
}

#[tokio::test]
async fn a_given_schema_says_how_many_fields_a_record_without_a_header_has() {
    let store = Store::new();
    store.put("a.csv", "1,2\n1,2,3\n4,5,6,7\n,,x\n8,9,10\n");
    let read = store.read(&three()).await.unwrap();
    assert_eq!(read.items, [json!({"a": 1, "b": 2, "c": 3}), json!({"a": 8, "b": 9, "c": 10})]);
    let says = ["has 2 fields, the schema 3", "has 4 fields, the schema 3", "column `c`: this is no int"];
    assert_eq!(read.rejected.len(), 3);
    for ((_, message), says) in read.rejected.iter().zip(says) {
        assert!(message.contains(says), "{message}");
    }
    let read = store.read(&three().drift(Drift::Ignore)).await.unwrap();
    assert_eq!(read.items.len(), 3, "what is more is left out, what is less is not made up");
    assert_eq!(read.items[1], json!({"a": 4, "b": 5, "c": 6}));
}

#[tokio::test]
async fn most_records_say_how_many_fields_there_are_without_header_and_schema() {
    let store = Store::new();
    let rows: String = (0..50_000).map(|n| format!("{n},{n},x\n")).collect();
    store.put("a.csv", format!("1,2\n{rows}"));
    let csv = Csv::path("a.csv").header(false);
    let read = store.read(&csv).await.unwrap();
    assert_eq!(read.items.len(), 50_000);
    assert_eq!(read.items[1], json!({"column_1": 1, "column_2": 1, "column_3": "x"}));
    assert_eq!(read.rejected.len(), 1);
    assert!(
        read.rejected[0].1.contains("has 2 fields, most of the first records 3"),
        "{}",
        read.rejected[0].1
    );
    store.put("a.csv", "1,2\n3,4,x\n5,6,x\n");
    check_resume(&store, &csv, BatchLimits::items(1)).await;
}

#[tokio::test]
async fn columns_of_one_name_arrive_under_two() {
    let column = |n: i64| -> ArrayRef { Arc::new(Int64Array::from(vec![n])) };
    let fields = ["a", "b", "a"].map(|name| Field::new(name, DataType::Int64, true));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let rows = RecordBatch::try_new(schema.clone(), vec![column(1), column(2), column(3)]).unwrap();
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, schema.clone(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    let store = Store::new();
    store.put("a.parquet", bytes);
    let mut bytes = Vec::new();
    let mut writer = arrow::ipc::writer::FileWriter::try_new(&mut bytes, &schema).unwrap();
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
    drop(writer);
    store.put("a.arrow", bytes);

    let all = "{\"a\":1,\"b\":2,\"a_3\":3}\n";
    store.copy(&Parquet::all(), &JsonlSink::path("parquet.jsonl")).await.unwrap();
    store.copy(&Ipc::all(), &JsonlSink::path("ipc.jsonl")).await.unwrap();
    assert_eq!((&*store.get("parquet.jsonl"), &*store.get("ipc.jsonl")), (all, all));
    let two = store.read(&Parquet::all().columns(["a_3", "b"])).await.unwrap();
    assert_eq!(two.items, [json!({"b": 2, "a_3": 3})]);
}
