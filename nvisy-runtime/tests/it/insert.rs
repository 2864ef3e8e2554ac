//! A sink that only adds rows has each once, whatever becomes of the run and its checkpoints.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::Form;
use nvisy_runtime::Engine;
use nvisy_runtime::checkpoint::MemoryStore;
use nvisy_runtime::compiler::DeliveryGuarantee;
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::graph::Graph;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::fixture::*;

const ITEMS: u64 = 300;

fn added(dir: &Path, use_: &str, input: &str) -> Value {
    let connection = json!({ "use": "sql/sqlite", "config": { "path": dir.join("out.db"), "create": true } });
    let config = json!({ "table": "added", "mode": "insert", "create": true });
    json!({ "type": "sink", "use": use_, "connection": connection, "inputs": [input], "config": config })
}

/// Numbers, of which a table gets a row each and another sink a copy. When so many are seen, a bell
/// rings.
fn graph(dir: &Path, out: &str, bell: &Arc<(Notify, AtomicU64, u64)>) -> Graph {
    let bell = bell.clone();
    let seen = act(Form::Batch, "in", move |items: Vec<Item>, _| {
        if bell.1.fetch_add(items.len() as u64, Ordering::Relaxed) >= bell.2 {
            bell.0.notify_one();
        }
        async move { Ok(items.into_iter().map(Outcome::emit).collect()) }
    });
    document(json!({
        "settings": { "checkpoint": { "every": "1ms", "uncommitted_items": 40 } },
        "nodes": {
            "in": with(batches(ITEMS, 5), json!({ "config": { "partitions": 2 } })),
            "seen": seen,
            "copies": { "type": "fan_out", "inputs": ["seen"] },
            "rows": { "type": "action", "use": "convert", "inputs": ["copies"], "config": { "to": "row" } },
            "table": with(added(dir, "sql/sqlite", "rows"), json!({ "batch": { "items": 7 } })),
            "copy": sink(out, "copies"),
        },
    }))
}

/// The numbers in the table, in order.
fn rows(dir: &Path) -> Vec<u64> {
    let to = unique("rows");
    let connection = json!({ "use": "sql/sqlite", "config": { "path": dir.join("out.db") } });
    let source = json!({ "type": "source", "use": "sql/sqlite", "connection": connection, "config": { "table": "added" } });
    let report = new_runtime().block_on(run(json!({ "in": source, "out": sink(&to, "in") })));
    assert_eq!(report.status, RunStatus::Success, "{report}");
    written(&to)
}

fn new_runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn engine_with(store: &MemoryStore) -> Engine {
    builder().checkpoints(store.clone()).build().unwrap().accepting(["seen"])
}

/// Runs until so many items are seen, and then is gone, as if killed.
fn run_until(store: &MemoryStore, dir: &Path, out: &str, items: u64) -> Option<RunReport> {
    let bell = Arc::new((Notify::new(), AtomicU64::new(0), items));
    let graph = graph(dir, out, &bell);
    let runtime = new_runtime();
    let report = runtime.block_on(async {
        let engine = engine_with(store);
        tokio::select! {
            () = bell.0.notified() => None,
            report = engine.run(&graph) => Some(report.unwrap_or_else(|error| panic!("{error:?}"))),
        }
    });
    runtime.shutdown_background();
    report
}

#[test]
fn a_graph_that_was_corrected_is_refused_where_rows_of_the_former_one_may_be() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
    let graph = |value: &str| {
        let set = json!({ "set": { "twice": value } });
        document(json!({
            "nodes": {
                "in": batches(20, 20),
                "rows": { "type": "action", "use": "convert", "inputs": ["in"], "config": { "to": "row" } },
                "map": { "type": "action", "use": "map", "inputs": ["rows"], "config": set },
                "table": added(dir.path(), "sql/sqlite", "map"),
            },
        }))
    };
    let runtime = new_runtime();
    let engine = engine_with(&store);
    let failed = graph("100 / (row.n - 7)");
    let report = runtime.block_on(engine.run(&failed)).unwrap();
    assert_eq!(report.status, RunStatus::Failure, "{report}");
    let error = runtime.block_on(engine.run(&graph("row.n * 2"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains("node \"map\" is another one"), "{error}");
}

#[test]
fn whenever_it_is_killed_and_whatever_the_checkpoints_forget_each_row_is_there_once() {
    for (seed, back) in (1..=4_u64).flat_map(|seed| (0..=3).map(move |back| (seed, back))) {
        let (dir, store, out) = (tempfile::tempdir().unwrap(), MemoryStore::new(), unique("out"));
        let mut forgotten = 0;
        let report = (0..).find_map(|kill: u64| {
            assert!(kill < 50, "seed {seed}: it never gets done");
            let report = run_until(&store, dir.path(), &out, 20 + (kill * 7 + seed * 13) % 60 + kill * 10);
            if report.is_none() {
                forgotten += (0..back).filter(|_| store.go_back("test")).count();
            }
            report
        });
        let report = report.unwrap();
        assert_eq!(report.status, RunStatus::Success, "seed {seed}: {report}");
        assert!(back == 0 || forgotten > 0);
        assert_eq!(rows(dir.path()), all(ITEMS), "seed {seed}, back {back}");
        assert_eq!(written(&out), all(ITEMS));

        // What is over is over: the next run adds rows of its own.
        if seed == 1 {
            assert!(run_until(&store, dir.path(), &out, u64::MAX).is_some());
            assert_eq!(rows(dir.path()).len() as u64, 2 * ITEMS);
        }
    }
}

#[test]
fn a_run_that_was_drained_and_whose_checkpoints_are_lost_wholly_adds_no_row_again() {
    let (dir, out) = (tempfile::tempdir().unwrap(), unique("out"));
    let bell = Arc::new((Notify::new(), AtomicU64::new(0), 60));
    let graph = graph(dir.path(), &out, &bell);
    let drained = new_runtime().block_on(async {
        let run = engine_with(&MemoryStore::new()).start(&graph).await.unwrap();
        bell.0.notified().await;
        run.drain(std::time::Duration::from_secs(600));
        run.wait().await.unwrap()
    });
    assert_eq!(drained.status, RunStatus::Success, "{drained}");
    let before = rows(dir.path()).len() as u64;
    assert!(before > 0 && before < ITEMS, "{before}");
    assert!(run_until(&MemoryStore::new(), dir.path(), &out, u64::MAX).is_some());
    assert_eq!(rows(dir.path()), all(ITEMS));
}

#[test]
fn a_run_that_failed_before_the_sink_and_whose_checkpoints_are_lost_wholly_adds_no_row_again() {
    let dir = tempfile::tempdir().unwrap();
    let failing = |from: u64| {
        let picky = act(Form::Batch, "in", move |items: Vec<Item>, _| async move {
            let fails = items.iter().any(|item| n(item) >= from);
            let failed = Err(Error::configuration("it takes no more"));
            if fails { failed } else { Ok(items.into_iter().map(Outcome::emit).collect()) }
        });
        document(json!({ "nodes": {
            "in": batches(ITEMS, 5),
            "picky": picky,
            "rows": { "type": "action", "use": "convert", "inputs": ["picky"], "config": { "to": "row" } },
            "table": added(dir.path(), "sql/sqlite", "rows"),
        } }))
    };
    let run = |from| new_runtime().block_on(run_on(&engine_with(&MemoryStore::new()), &failing(from)));
    let failed = run(100);
    assert_ne!(failed.status, RunStatus::Success, "{failed}");
    let before = rows(dir.path()).len() as u64;
    assert!(before > 0 && before < ITEMS, "{before}");
    let report = run(u64::MAX);
    assert_eq!((report.status, rows(dir.path())), (RunStatus::Success, all(ITEMS)), "{report}");
}

#[test]
fn rows_whose_keys_collide_are_there_each() {
    let (dir, store) = (tempfile::tempdir().unwrap(), MemoryStore::new());
    let graph = document(json!({ "nodes": {
        "in": with(batches(20, 5), json!({ "key": "1" })),
        "rows": { "type": "action", "use": "convert", "inputs": ["in"], "config": { "to": "row" } },
        "table": added(dir.path(), "sql/sqlite", "rows"),
    } }));
    let report = new_runtime().block_on(run_on(&engine_with(&store), &graph));
    assert_eq!((report.status, rows(dir.path())), (RunStatus::Success, all(20)), "{report}");
}

#[test]
fn the_plan_and_the_report_say_what_checkpoints_make_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let bell = Arc::new((Notify::new(), AtomicU64::new(0), u64::MAX));
    let graph = graph(dir.path(), &unique("out"), &bell);
    let plan = engine().compile(&graph).unwrap().explain();
    let line = plan.lines().find(|line| line.contains("→ table:")).unwrap();
    assert!(
        line.contains(
            "at least once: with a state directory each item is there once; without, the sink appends"
        ),
        "{line}"
    );
    let report = new_runtime().block_on(run_graph(&graph));
    assert_eq!(report.guarantee, Some(DeliveryGuarantee::AtLeastOnce));
    let report = new_runtime().block_on(run_on(&engine_with(&MemoryStore::new()), &graph));
    assert_eq!(report.guarantee, Some(DeliveryGuarantee::ExactlyOnceEffect));
}
