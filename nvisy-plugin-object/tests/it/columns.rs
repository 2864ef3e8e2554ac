//! What the columns of an object are called, and how many there are.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use nvisy_plugin_object::{Ipc, JsonlSink, Parquet};
use serde_json::json;

use crate::support::Store;

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
