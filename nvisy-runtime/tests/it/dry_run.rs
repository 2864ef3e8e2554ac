//! Dry runs: what they foretell is what a run does, and they do nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::memory::{Form, MemoryStore as Place};
use nvisy_runtime::checkpoint::{DirectoryStore, MemoryStore};
use nvisy_runtime::engine::{DryRun, Forecast};
use nvisy_runtime::graph::Graph;
use nvisy_runtime::memo::MemoryStore as Memo;
use serde_json::{Value, json};

use crate::fixture::*;

fn items_of(numbers: std::ops::Range<u64>, partitions: u32) -> Value {
    let items: Vec<_> = numbers.map(|n| json!({ "n": n })).collect();
    let config = json!({ "items": items, "batch_items": 50, "partitions": partitions });
    json!({ "type": "source", "use": "memory/source", "config": config })
}

/// A paid action, and how many items it was called with.
fn paid(called: &Arc<AtomicU64>, from: &str) -> Value {
    let called = called.clone();
    let act = act(Form::Batch, from, move |items: Vec<Item>, _| {
        called.fetch_add(items.len() as u64, Ordering::Relaxed);
        async move { Ok(items.into_iter().map(Outcome::emit).collect()) }
    });
    with(act, json!({ "memo": true, "config": { "calls": "paid", "items": 8 } }))
}

/// Numbers → the even ones → a paid call → a sink.
fn pipeline(numbers: std::ops::Range<u64>, partitions: u32, called: &Arc<AtomicU64>, out: &str) -> Graph {
    paying(numbers, partitions, &paid(called, "even"), out)
}

fn paying(numbers: std::ops::Range<u64>, partitions: u32, pay: &Value, out: &str) -> Graph {
    graph(json!({
        "in": items_of(numbers, partitions),
        "even": { "type": "action", "use": "filter", "inputs": ["in"], "config": { "when": "raw.n % 2 == 0" } },
        "pay": pay,
        "out": sink(out, "pay"),
    }))
}

fn forecast_of(dry: &DryRun, node: &str) -> Option<Forecast> {
    dry.nodes.iter().find(|forecast| *forecast.name == *node).unwrap().items
}

#[tokio::test(start_paused = true)]
async fn a_small_source_is_looked_at_whole_and_nothing_is_written_or_called() {
    let (called, out, checkpoints, memo) = (Arc::default(), unique("out"), MemoryStore::new(), Memo::new());
    let graph = pipeline(0..100, 4, &called, &out);
    let engine = builder().checkpoints(checkpoints.clone()).memo(memo.clone()).build().unwrap();
    let dry = engine.dry_run(&graph).await.unwrap();
    assert!(dry.is_success() && dry.resumes.is_none(), "{dry}");
    let [source] = &dry.sources[..] else { panic!("{dry}") };
    assert_eq!((source.partitions, source.open, source.items), (4, 4, Forecast::Exactly(100)));
    assert_eq!(forecast_of(&dry, "even"), Some(Forecast::Exactly(100)));
    assert_eq!(forecast_of(&dry, "pay"), Some(Forecast::Exactly(50)));
    assert_eq!(forecast_of(&dry, "out"), None, "nobody knows what the calls give");
    assert_eq!(called.load(Ordering::Relaxed), 0);
    assert!(Place::named(&out).writes().is_empty() && memo.is_empty());
    assert!(checkpoints.peek(&graph.name).is_none_or(|checkpoint| checkpoint.generation == 0));
}

#[tokio::test(start_paused = true)]
async fn it_says_which_calls_the_memo_saves() {
    let (called, out, memo) = (Arc::default(), unique("out"), Memo::new());
    let engine = builder().memo(memo).build().unwrap();
    let pay = paid(&called, "even");
    run_on(&engine, &paying(0..60, 1, &pay, &out)).await;
    assert_eq!(called.swap(0, Ordering::Relaxed), 30);
    let dry = engine.dry_run(&paying(0..100, 1, &pay, &out)).await.unwrap();
    let pay = dry.nodes.iter().find(|node| &*node.name == "pay").unwrap();
    let calls = pay.calls.as_ref().unwrap();
    assert_eq!((calls.items, calls.remembered), (Forecast::Exactly(20), Forecast::Exactly(30)));
    assert_eq!(called.load(Ordering::Relaxed), 0);
    let printed = dry.to_string();
    assert!(printed.contains("it would be called with 20 of 1,580 tokens, the memo has 30"), "{printed}");
}

#[tokio::test(start_paused = true)]
async fn a_large_source_is_sampled_and_the_rest_reckoned() {
    let (called, out) = (Arc::default(), unique("out"));
    let engine = builder().memo(Memo::new()).build().unwrap();
    // The memory source tells how many items there are.
    let dry = engine.dry_run(&pipeline(0..20_000, 100, &called, &out)).await.unwrap();
    let source = &dry.sources[0];
    assert_eq!((source.partitions, source.items), (100, Forecast::Exactly(20_000)));
    assert!((900..3_000).contains(&source.sampled), "{dry}");
    let Some(Forecast::About(even)) = forecast_of(&dry, "pay") else { panic!("{dry}") };
    assert!((9_000..=11_000).contains(&even), "{dry}");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_on_reads_only_what_is_left() {
    let place = tempfile::tempdir().unwrap();
    let (called, out) = (Arc::default(), unique("out"));
    let graph = pipeline(0..200, 1, &called, &out);
    let engine = builder().state(place.path()).build().unwrap();
    let run = engine.start(&graph).await.unwrap();
    while Place::named(&out).len() < 20 {
        tokio::task::yield_now().await;
    }
    run.drain(std::time::Duration::from_secs(5));
    let report = run.wait().await.unwrap();
    let done: u64 = report.partitions.iter().map(|partition| partition.items).sum();
    let store = DirectoryStore::new(place.path());
    let before = store.peek(&graph.name).await.unwrap();
    let dry = engine.dry_run(&graph).await.unwrap();
    if report.checkpoint.unwrap().finished {
        assert!(dry.resumes.is_none());
        return;
    }
    assert_eq!(dry.resumes.as_ref().unwrap().items(), done);
    assert_eq!(dry.sources[0].items, Forecast::Exactly(200 - done), "{dry}");
    assert_eq!(store.peek(&graph.name).await.unwrap(), before, "it changes nothing");
}

#[tokio::test(start_paused = true)]
async fn what_fails_in_the_sample_is_said() {
    let out = unique("out");
    let broken = act(Form::Transform, "in", |items: Vec<Item>, _| async move {
        Ok(items
            .into_iter()
            .map(|_| Outcome::<Raw>::fail(Error::configuration("broken")).into_any())
            .collect())
    });
    let broken = with(broken, json!({ "config": { "calls": "none" } }));
    let graph = graph(json!({ "in": items_of(0..10, 1), "work": broken, "out": sink(&out, "work") }));
    let dry = builder().build().unwrap().dry_run(&graph).await.unwrap();
    assert!(!dry.is_success());
    assert!(dry.to_string().contains("broken"), "{dry}");
}

/// Everything below a folder.
fn below(folder: &std::path::Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<String> = entries
        .flat_map(|path| {
            let inside = if path.is_dir() { below(&path) } else { Vec::new() };
            inside.into_iter().chain([path.display().to_string()])
        })
        .collect();
    found.sort();
    found
}

#[test]
fn what_a_run_would_create_is_said_and_not_created() {
    let place = tempfile::tempdir().unwrap();
    let at = |path: &str| place.path().join(path).display().to_string();
    let connection = |use_: &str, setting: &str, path: &str| json!({ "use": use_, "config": { (setting): at(path), "create": true } });
    let sink = |use_: &str, connection: &str, config: Value| json!({ "type": "sink", "use": use_, "connection": connection, "inputs": ["copies"], "config": config });
    let graph = document(json!({
        "connections": {
            "docs": connection("object/local", "root", "new/docs"),
            "files": connection("object/local", "root", "files"),
            "tables": connection("sql/sqlite", "path", "deep/tables.db"),
            "index": connection("vector/sqlite", "path", "index/index.db"),
        },
        "nodes": {
            "in": { "type": "source", "use": "object/text", "connection": "docs", "config": { "glob": "*.md" } },
            "numbers": items_of(0..10, 1),
            "rows": { "type": "action", "use": "convert", "inputs": ["numbers"], "config": { "to": "row" } },
            "copies": { "type": "fan_out", "inputs": ["rows"] },
            "chunks": { "type": "action", "use": "ai/chunk", "inputs": ["in"],
                        "config": { "strategy": "tokens", "size": 50 } },
            "vectors": { "type": "action", "use": "ai/embed", "connection": { "use": "ai/local" },
                         "inputs": ["chunks"], "config": { "model": "local/hash" } },
            "store": { "type": "sink", "use": "vector/sqlite", "connection": "index", "inputs": ["vectors"],
                       "config": { "collection": "docs", "create": true } },
            "table": sink("sql/sqlite", "tables", json!({ "table": "numbers", "create": true })),
            "file": sink("object/jsonl", "files", json!({ "path": "numbers.jsonl" })),
        }
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let engines = [
        builder().build().unwrap(),
        builder().state(place.path().join("state")).build().unwrap(),
        builder()
            .checkpoints(nvisy_runtime::plugins::sql::SqliteCheckpoints::at(at("runs.db")))
            .build()
            .unwrap(),
    ];
    for engine in &engines {
        let dry = runtime.block_on(engine.dry_run(&graph)).unwrap();
        assert!(dry.is_success(), "{dry}");
        let [docs, files, index, tables] = [
            ("docs", format!("directory \"{}\"", at("new/docs"))),
            ("files", format!("directory \"{}\"", at("files"))),
            ("index", format!("index \"{}\"", at("index/index.db"))),
            ("tables", format!("database \"{}\"", at("deep/tables.db"))),
        ];
        let creates: Vec<_> = dry.creates.iter().map(|it| (&*it.connection, it.what.clone())).collect();
        assert_eq!(creates, [docs, files, index, tables]);
        assert!(dry.to_string().contains("a run would create the index"), "{dry}");
        assert_eq!(dry.sources.iter().map(|source| source.items.number()).sum::<u64>(), 10);
        assert_eq!(below(place.path()), [""; 0]);
    }

    // What there is stays as it is, and nothing is to be created any more.
    std::fs::create_dir_all(at("new/docs")).unwrap();
    std::fs::write(at("new/docs/a.md"), "some words").unwrap();
    runtime.block_on(run_on(&engines[1], &graph));
    let before = below(place.path());
    let dry = runtime.block_on(engines[1].dry_run(&graph)).unwrap();
    assert!(dry.is_success() && dry.creates.is_empty(), "{dry}");
    assert_eq!(below(place.path()), before);
    // The local model calls nobody: what comes out of it is known.
    std::fs::write(at("new/docs/b.md"), "other words").unwrap();
    let dry = runtime.block_on(engines[0].dry_run(&graph)).unwrap();
    let store = dry.nodes.iter().find(|node| &*node.name == "store").unwrap();
    assert_eq!(store.items.map(Forecast::number), Some(2), "{dry}");
    assert!(dry.nodes.iter().all(|node| node.calls.is_none()), "{dry}");
}
