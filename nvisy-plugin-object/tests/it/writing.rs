//! Files under their final names: whole, durable, or not there.

use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::primitive::row::Row;
use nvisy_core::{ErrorKind, RunId};
use nvisy_plugin_object::{CsvSink, IpcSink, Jsonl, JsonlSink, OnExisting, ParquetSink, TextSink};
use serde_json::{Value, json};

use crate::support::{Store, batch};

fn row(value: &Value) -> Row {
    Row::from_json(value.as_object().unwrap(), None).unwrap()
}

fn rows(n: std::ops::Range<i64>) -> Batch {
    batch(n.map(|n| row(&json!({"n": n}))))
}

async fn write(sink: &impl Sink, batch: &Batch) {
    assert!(sink.write(batch, &Context::detached()).await.unwrap().is_applied());
}

/// Waits until blocking calls that were let go of are over.
async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("it never came to be");
}

#[tokio::test]
async fn nothing_shows_before_the_flush_and_all_of_it_after() {
    let store = Store::new();
    let sink = store.open(&JsonlSink::path("out/a.jsonl")).await.unwrap();
    assert!(store.files().is_empty(), "no file without an item");
    write(&sink, &rows(0..3)).await;
    assert!(!store.files().iter().any(|file| file == "out/a.jsonl"));
    sink.flush(&Context::detached()).await.unwrap();
    assert_eq!(store.files(), ["out/a.jsonl"]);
    assert_eq!(store.get("out/a.jsonl"), "{\"n\":0}\n{\"n\":1}\n{\"n\":2}\n");
    sink.flush(&Context::detached()).await.unwrap();
    write(&sink, &rows(3..4)).await;
    sink.close(&Context::detached()).await.unwrap();
    sink.close(&Context::detached()).await.unwrap();
    assert_eq!(store.files(), ["out/a-1.jsonl", "out/a.jsonl"]);
    assert_eq!(store.get("out/a-1.jsonl"), "{\"n\":3}\n");
}

#[tokio::test]
async fn a_dropped_sink_leaves_nothing_behind() {
    let store = Store::new();
    let sink = store.open(&JsonlSink::path("a.jsonl")).await.unwrap();
    write(&sink, &rows(0..3)).await;
    assert_eq!(store.files().len(), 1);
    drop(sink);
    until(|| store.files().is_empty()).await;
    let sink = store.open(&ParquetSink::path("a.parquet")).await.unwrap();
    write(&sink, &rows(0..3)).await;
    drop(sink);
    until(|| store.files().is_empty()).await;
}

#[tokio::test]
async fn a_file_under_way_is_not_read() {
    let store = Store::new();
    let sink = store.open(&JsonlSink::path("a.jsonl")).await.unwrap();
    write(&sink, &rows(0..3)).await;
    assert!(store.read(&Jsonl::all().glob("**")).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_name_that_is_taken_is_kept_replaced_or_numbered() {
    let store = Store::new();
    store.put("a.jsonl", "old");
    let fail = store.open(&JsonlSink::path("a.jsonl")).await.unwrap_err();
    assert_eq!(fail.kind(), ErrorKind::Conflict);
    assert!(fail.message().contains("a.jsonl") && fail.message().contains("on_existing"), "{fail}");
    assert_eq!(store.get("a.jsonl"), "old");

    let number = JsonlSink::path("a.jsonl").on_existing(OnExisting::Number);
    let sink = store.open(&number).await.unwrap();
    write(&sink, &rows(0..1)).await;
    sink.close(&Context::detached()).await.unwrap();
    assert_eq!((store.get("a.jsonl").as_str(), store.get("a-1.jsonl").as_str()), ("old", "{\"n\":0}\n"));

    let replace = JsonlSink::path("a.jsonl").on_existing(OnExisting::Replace);
    let sink = store.open(&replace).await.unwrap();
    write(&sink, &rows(5..6)).await;
    assert_eq!(store.get("a.jsonl"), "old", "until the new one is whole");
    sink.close(&Context::detached()).await.unwrap();
    assert_eq!(store.get("a.jsonl"), "{\"n\":5}\n");
}

#[tokio::test]
async fn a_name_that_is_taken_meanwhile_is_kept() {
    let store = Store::new();
    let sink = store.open(&JsonlSink::path("a.jsonl")).await.unwrap();
    write(&sink, &rows(0..1)).await;
    store.put("a.jsonl", "someone else's");
    let error = sink.close(&Context::detached()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(store.get("a.jsonl"), "someone else's");
    assert!(sink.flush(&Context::detached()).await.is_err(), "what was lost is never promised");
    assert_eq!(store.files(), ["a.jsonl"]);
}

#[tokio::test]
async fn files_roll_by_rows_and_by_bytes() {
    let store = Store::new();
    let sink = store.open(&JsonlSink::path("r/{part}.jsonl").roll_rows(2)).await.unwrap();
    write(&sink, &rows(0..5)).await;
    sink.close(&Context::detached()).await.unwrap();
    assert_eq!(store.files(), ["r/00000.jsonl", "r/00001.jsonl", "r/00002.jsonl"]);
    assert_eq!(store.get("r/00001.jsonl"), "{\"n\":2}\n{\"n\":3}\n");

    let store = Store::new();
    let sink = store.open(&CsvSink::path("b.csv").roll_bytes(20)).await.unwrap();
    for n in 0..9 {
        write(&sink, &rows(n * 10..n * 10 + 3)).await;
    }
    sink.close(&Context::detached()).await.unwrap();
    assert!(store.files().len() > 2, "{:?}", store.files());
    assert!(store.files().iter().all(|file| store.get(file).starts_with("n\n")));
}

#[tokio::test]
async fn placeholders_name_run_node_and_date() {
    let store = Store::new();
    let run = RunId::from_parts(1, 2);
    let context = Context::new("graph", "node", "object/jsonl").in_run(run);
    let open = nvisy_core::OpenContext::new(context.clone(), store.client().await);
    let sink = JsonlSink::path("{graph}/{node}/{run}.jsonl").open(&open).await.unwrap();
    sink.write(&rows(0..1), &context).await.unwrap();
    sink.close(&context).await.unwrap();
    assert_eq!(store.files(), [format!("graph/node/{run}.jsonl")]);
}

#[tokio::test]
async fn items_of_another_schema_are_rejected_and_the_file_stays_whole() {
    let mixed = || {
        batch([
            row(&json!({"a": 1, "b": "x"})),
            row(&json!({"a": 2})),
            row(&json!({"a": "no", "b": "y"})),
            row(&json!({"a": 3, "b": "z"})),
        ])
    };
    let store = Store::new();
    let csv = store.open(&CsvSink::path("a.csv")).await.unwrap();
    let parquet = store.open(&ParquetSink::path("a.parquet")).await.unwrap();
    let ipc = store.open(&IpcSink::path("a.arrow")).await.unwrap();
    let context = Context::detached();
    for report in [
        csv.write(&mixed(), &context).await.unwrap(),
        parquet.write(&mixed(), &context).await.unwrap(),
        ipc.write(&mixed(), &context).await.unwrap(),
    ] {
        let rejected: Vec<u32> = report.others().iter().map(|(index, _)| *index).collect();
        assert_eq!(rejected, [1, 2]);
        let WriteStatus::Rejected(error) = report.status(2) else { panic!("{report:?}") };
        assert!(error.message().contains("column `a` is Int64 in the file, Utf8 in the item"), "{error}");
    }
    csv.close(&context).await.unwrap();
    parquet.close(&context).await.unwrap();
    ipc.close(&context).await.unwrap();
    assert_eq!(store.get("a.csv"), "a,b\n1,x\n3,z\n");
    assert_eq!(store.read(&nvisy_plugin_object::Parquet::all()).await.unwrap().items.len(), 2);
    assert_eq!(store.read(&nvisy_plugin_object::Ipc::all()).await.unwrap().items.len(), 2);
}

#[tokio::test]
async fn every_kind_is_written_as_json_and_lineage_if_asked() {
    let store = Store::new();
    let sink = store.open(&JsonlSink::path("a.jsonl").lineage(true)).await.unwrap();
    let document = Item::detached("d", Document::new("text").unwrap()).into_primitive();
    let raw = Item::detached("r", Raw::Json(json!([1]))).into_primitive();
    let row = Item::detached("w", row(&json!({"n": 1}))).into_primitive();
    let ids = [document.id(), raw.id(), row.id()];
    write(&sink, &[document, raw, row].into_iter().collect()).await;
    sink.close(&Context::detached()).await.unwrap();
    let lines: Vec<Value> =
        store.get("a.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["text"], "text");
    assert_eq!(lines[1]["value"], json!([1]));
    assert_eq!(lines[2]["n"], 1);
    for (line, id) in lines.iter().zip(ids) {
        assert_eq!(line["nvisy.id"], id.to_string());
        assert_eq!(line["nvisy.root"], id.to_string());
        assert_eq!(line["nvisy.source"], "detached");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_directory_that_takes_no_files_is_a_clear_error() {
    use std::os::unix::fs::PermissionsExt;
    let store = Store::new();
    std::fs::create_dir(store.path("locked")).unwrap();
    std::fs::set_permissions(store.path("locked"), std::fs::Permissions::from_mode(0o555)).unwrap();
    let locked = std::fs::write(store.path("locked/probe"), "").is_err();
    let sink = store.open(&JsonlSink::path("locked/a.jsonl")).await.unwrap();
    let written = sink.write(&rows(0..1), &Context::detached()).await;
    // Nobody locks the superuser out.
    if locked {
        let error = written.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Permission);
        assert!(error.message().contains("locked/a.jsonl"), "{error}");
        assert!(store.files().is_empty());
    }
    std::fs::set_permissions(store.path("locked"), std::fs::Permissions::from_mode(0o755)).unwrap();
    store.put("file", "");
    let sink = store.open(&JsonlSink::path("file/a.jsonl")).await;
    let error = match sink {
        Ok(sink) => sink.write(&rows(0..1), &Context::detached()).await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
}

#[tokio::test]
async fn an_object_that_is_there_just_so_is_written_already() {
    let document = |text: &str| batch([Document::new(text).unwrap()]);
    for path in ["a/{id}.txt", "a/{id}.txt.gz"] {
        let store = Store::new();
        let fail = store.open(&TextSink::path(path).on_existing(OnExisting::Fail)).await.unwrap();
        let report = fail.write(&document("one"), &Context::detached()).await.unwrap();
        assert!(matches!(report.status(0), WriteStatus::Applied));
        let report = fail.write(&document("one"), &Context::detached()).await.unwrap();
        assert!(matches!(report.status(0), WriteStatus::AlreadyApplied), "{report:?}");
        for other in ["two", "longer"] {
            let report = fail.write(&document(other), &Context::detached()).await.unwrap();
            let WriteStatus::Rejected(error) = report.status(0) else { panic!("{report:?}") };
            assert_eq!(error.kind(), ErrorKind::Conflict);
        }
        let number = store.open(&TextSink::path(path).on_existing(OnExisting::Number)).await.unwrap();
        for (text, already) in [("one", true), ("two", false), ("two", true), ("six", false), ("two", true)] {
            let report = number.write(&document(text), &Context::detached()).await.unwrap();
            let status = report.status(0);
            assert_eq!(matches!(status, WriteStatus::AlreadyApplied), already, "{text}: {status:?}");
        }
        assert_eq!(store.files().len(), 3, "{:?}", store.files());
    }
}
