//! Files that are being written: what a killed process left goes, what a live one writes stays.

use std::path::PathBuf;

use nvisy_core::OpenContext;
use nvisy_core::prelude::*;
use nvisy_core::primitive::document::Document;
use nvisy_core::primitive::object::Object;
use nvisy_core::primitive::row::Row;
use nvisy_plugin_object::{BytesSink, JsonlSink, ObjectClient, TextSink};
use serde_json::json;

use crate::support::{Store, batch};

fn row() -> Batch {
    batch([Row::from_json(json!({"n": 1}).as_object().unwrap(), None).unwrap()])
}

fn context(node: &str) -> Context {
    Context::new("graph", node, "object/files")
}

async fn open<S: SinkConfig<Client = ObjectClient>>(store: &Store, node: &str, sink: &S) -> S::Sink {
    sink.open(&OpenContext::new(context(node), store.client().await)).await.unwrap()
}

fn temporaries(store: &Store) -> Vec<String> {
    store.files().into_iter().filter(|file| file.ends_with(".nvisy-tmp")).collect()
}

/// Leaves what a process that was killed leaves: a copy of a file under way that nobody has open.
fn leave(store: &Store, under_way: &str) -> PathBuf {
    let left = store.path(&under_way.replace(".nvisy-tmp", "9.nvisy-tmp"));
    std::fs::copy(store.path(under_way), &left).unwrap();
    left
}

#[tokio::test]
async fn what_a_killed_process_left_goes_and_what_a_live_one_writes_stays() {
    let store = Store::new();
    let config = JsonlSink::path("out/{date}/{part}.jsonl");
    let live = open(&store, "node", &config).await;
    live.write(&row(), &context("node")).await.unwrap();
    let [mine] = &temporaries(&store)[..] else { panic!("{:?}", store.files()) };
    let left = leave(&store, mine);
    let other = open(&store, "other", &JsonlSink::path("out/x.jsonl")).await;
    other.write(&row(), &context("other")).await.unwrap();
    let all = temporaries(&store);
    let others = all.iter().find(|file| *file != mine && store.path(file) != left).unwrap();
    let others_left = leave(&store, others);

    let next = open(&store, "node", &config).await;
    assert!(!left.exists() && others_left.exists(), "{:?}", temporaries(&store));
    assert_eq!(temporaries(&store).len(), 3);
    live.close(&context("node")).await.unwrap();
    other.close(&context("other")).await.unwrap();
    drop((live, other, next));
    assert_eq!(temporaries(&store).len(), 1, "that of the other node");
    assert_eq!(store.get("out/x.jsonl"), "{\"n\":1}\n");
    assert_eq!(store.files().len(), 3);
}

#[tokio::test]
async fn sinks_of_whole_files_sweep_too_and_write_through_the_directory_of_all() {
    let store = Store::new();
    let probe = open(&store, "node", &JsonlSink::path("probe.jsonl")).await;
    probe.write(&row(), &context("node")).await.unwrap();
    let [under_way] = &temporaries(&store)[..] else { panic!("{:?}", store.files()) };

    let left = leave(&store, under_way);
    let sink = open(&store, "node", &BytesSink::path("{key}")).await;
    assert!(!left.exists());
    let object = batch([Object::new("deep/er/a.bin", &b"bytes"[..]).unwrap()]);
    assert!(sink.write(&object, &context("node")).await.unwrap().is_applied());

    let left = leave(&store, under_way);
    let sink = open(&store, "node", &TextSink::path("texts.txt")).await;
    assert!(!left.exists());
    let text = batch([Document::new("text").unwrap()]);
    assert!(sink.write(&text, &context("node")).await.unwrap().is_applied());
    drop(probe);
    assert_eq!(store.files(), ["deep/er/a.bin", "texts.txt"]);
}
