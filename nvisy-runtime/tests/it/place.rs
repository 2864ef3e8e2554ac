//! Where runs keep their state, and what is said when that place is no good.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nvisy_core::prelude::*;
use nvisy_core::testing::memory::{Form, MemoryStore as Place};
use nvisy_core::{Error, ErrorKind};
use nvisy_runtime::Engine;
use nvisy_runtime::checkpoint::{DirectoryStore, MemoryStore};
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::graph::{CheckpointSettings, Graph};
use serde_json::{Value, json};

use crate::fixture::*;

const ITEMS: u64 = 40;

/// Items of which one, while it is sick, fails: the run is to be resumed then.
fn sick(out: &str, is_sick: &Arc<AtomicBool>, settings: Value) -> Graph {
    let is_sick = is_sick.clone();
    let work = each(Form::Transform, "in", move |item| match n(&item) {
        20 if is_sick.load(Ordering::Relaxed) => Err(Error::new(ErrorKind::Permission, "not today")),
        _ => Ok(Outcome::emit(item)),
    });
    document(json!({
        "settings": settings,
        "nodes": { "in": batches(ITEMS, 5), "work": work, "out": sink(out, "work") },
    }))
}

fn in_directory(directory: &Path) -> Value {
    json!({ "checkpoint": { "directory": directory } })
}

async fn refused(engine: &Engine, graph: &Graph) -> Error {
    match within(engine.start(graph)).await {
        Ok(handle) => panic!("it runs: {}", handle.wait().await.unwrap()),
        Err(error) => error,
    }
}

fn is_resumed(report: &RunReport) -> bool {
    report.checkpoint.as_ref().is_some_and(|checkpoint| checkpoint.resumed)
}

#[test]
fn a_directory_without_a_name_is_none() {
    let error = builder().state("").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Configuration);
    assert_eq!(
        error.message(),
        "the name of the state directory is empty: name one, such as \"state\", or leave it out"
    );
}

#[tokio::test]
async fn a_graph_turns_checkpoints_on_by_itself() {
    let (dir, out, is_sick) = (tempfile::tempdir().unwrap(), unique("out"), Arc::new(AtomicBool::new(true)));
    let state = dir.path().join("made/when/needed");
    let graph = sick(&out, &is_sick, in_directory(&state));
    let report = run_graph(&graph).await;
    assert_ne!(report.status, RunStatus::Success, "{report}");
    assert!(DirectoryStore::new(&state).peek("test").await.unwrap().is_some());
    is_sick.store(false, Ordering::Relaxed);
    let report = run_graph(&graph).await;
    assert_eq!((report.status, is_resumed(&report)), (RunStatus::Success, true), "{report}");
    assert_eq!((node(&report, "in").received, written(&out)), (ITEMS - 20, all(ITEMS)));

    // The engine's place and the graph's are the same kind of place.
    is_sick.store(true, Ordering::Relaxed);
    run_graph(&graph).await;
    is_sick.store(false, Ordering::Relaxed);
    let mut without = graph;
    without.settings.checkpoint = None;
    let report = run_on(&builder().state(&state).build().unwrap(), &without).await;
    assert_eq!((report.status, is_resumed(&report)), (RunStatus::Success, true), "{report}");
}

#[tokio::test]
async fn two_places_for_the_state_are_one_too_many() {
    let dir = tempfile::tempdir().unwrap();
    let graph = sick(&unique("out"), &Arc::default(), in_directory(dir.path()));
    for engine in [builder().state(dir.path()), builder().checkpoints(MemoryStore::new())] {
        let error = refused(&engine.build().unwrap(), &graph).await;
        assert_eq!(error.kind(), ErrorKind::Configuration);
        for said in ["settings.checkpoint.directory", "EngineBuilder::state", "leave one of them out"] {
            assert!(error.message().contains(said), "{error}");
        }
    }
}

#[test]
fn a_stranger_names_no_directory() {
    let graph = sick(&unique("out"), &Arc::default(), json!({ "checkpoint": { "directory": "state" } }));
    let said = builder().untrusted().build().unwrap().compile(&graph).unwrap_err().to_string();
    assert!(said.contains("reach.files: settings.checkpoint.directory"), "{said}");
    assert!(said.contains("EngineBuilder::state"), "{said}");
    let graph = sick(&unique("out"), &Arc::default(), json!({ "checkpoint": { "directory": "" } }));
    let said = engine().compile(&graph).unwrap_err().to_string();
    assert!(said.contains("settings.checkpoint.directory"), "{said}");
}

#[test]
fn the_builder_and_the_json_name_the_same_directory_and_the_plan_tells_it() {
    let graph = sick(&unique("out"), &Arc::default(), json!({ "checkpoint": { "directory": "state" } }));
    let mut built = graph.clone();
    built.settings.checkpoint =
        Some(CheckpointSettings { directory: Some("state".to_owned()), ..CheckpointSettings::default() });
    assert_eq!(built, graph);
    assert_eq!(Graph::from_json(&built.to_json()).unwrap(), graph);
    let plan = engine().compile(&graph).unwrap().explain();
    assert!(plan.contains("the run keeps what it needs to go on in \"state\"\n"), "{plan}");
}

#[tokio::test]
async fn a_place_that_is_no_directory_is_named_before_anything_is_read() {
    let (dir, out) = (tempfile::tempdir().unwrap(), unique("out"));
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let error = refused(&engine(), &sick(&out, &Arc::default(), in_directory(&file))).await;
    assert_eq!(error.kind(), ErrorKind::Configuration, "{error}");
    assert!(error.message().contains(file.to_str().unwrap()), "{error}");
    assert_eq!(Place::named(&out).tally().opens, 0);
}

#[tokio::test]
async fn state_that_is_half_deleted_falls_back_or_begins_anew_and_nothing_is_lost() {
    for keep_newest in [true, false] {
        let (dir, out) = (tempfile::tempdir().unwrap(), unique("out"));
        let is_sick = Arc::new(AtomicBool::new(true));
        let graph = sick(&out, &is_sick, in_directory(dir.path()));
        run_graph(&graph).await;
        let place = DirectoryStore::new(dir.path()).directory("test");
        let mut logs: Vec<_> =
            std::fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        match keep_newest {
            // Half of the newest file.
            true => {
                let newest = logs.last().unwrap();
                let bytes = std::fs::read(newest).unwrap();
                std::fs::write(newest, &bytes[..bytes.len() / 2]).unwrap();
            }
            false => logs.iter().for_each(|log| std::fs::remove_file(log).unwrap()),
        }
        is_sick.store(false, Ordering::Relaxed);
        let report = run_graph(&graph).await;
        assert_eq!((report.status, written(&out)), (RunStatus::Success, all(ITEMS)), "{report}");
        let recovery = report.checkpoint.unwrap().recovery;
        assert_eq!(recovery.is_some(), keep_newest, "{recovery:?}");
    }
}

#[tokio::test]
async fn state_of_a_newer_version_is_refused_with_the_remedy() {
    use nvisy_core::{Changes, CheckpointStore};
    let (store, out) = (MemoryStore::new(), unique("out"));
    let mut newer = Changes::default();
    newer.put("run", r#"{"version": 99, "what": "comes later"}"#);
    store.open("test").await.unwrap().commit(newer).await.unwrap();
    let engine = builder().checkpoints(store.clone()).build().unwrap();
    let error = refused(&engine, &sick(&out, &Arc::default(), json!({}))).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(error.message().contains("newer version: run it with that, or begin anew without it"), "{error}");
    assert_eq!(store.peek("test").unwrap().generation, 1, "it is left as it is");
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_gone_when_the_run_goes_on_is_told() {
    let (store, out) = (MemoryStore::new(), unique("out"));
    let is_sick = Arc::new(AtomicBool::new(true));
    let of = |partitions: u32| {
        let mut graph = sick(&out, &is_sick, json!({}));
        let nvisy_runtime::graph::NodeBody::Source(source) = &mut graph.nodes.get_mut("in").unwrap().body
        else {
            panic!("it is a source");
        };
        source.config["partitions"] = json!(partitions);
        graph
    };
    let engine = builder().checkpoints(store).build().unwrap().accepting(["in", "work"]);
    assert_ne!(run_on(&engine, &of(3)).await.status, RunStatus::Success);
    is_sick.store(false, Ordering::Relaxed);
    let report = run_on(&engine, &of(2)).await;
    let told = &node(&report, "in").errors;
    assert!(told.iter().any(|error| error.message.contains("partition \"2\" is gone")), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_sink_that_fails_fails_the_run_and_nothing_is_acknowledged() {
    let store = MemoryStore::new();
    let bad = each(Form::Transform, "in", |item| match n(&item) {
        7 => Err(Error::new(ErrorKind::Validation, "it is seven")),
        _ => Ok(Outcome::emit(item)),
    });
    let letters = write("work.dead_letter", |_| async {
        Err(Error::new(ErrorKind::Permission, "no letters are taken"))
    });
    let out = unique("out");
    let graph = graph(json!({
        "in": batches(ITEMS, 1), "work": bad, "out": sink(&out, "work"), "letters": letters,
    }));
    let engine = builder().checkpoints(store).build().unwrap();
    for run in 0..2 {
        let report = run_on(&engine, &graph).await;
        assert!(matches!(report.status, RunStatus::PartialFailure | RunStatus::Failure), "{report}");
        assert_eq!(settled_items(&report), 7, "run {run}: {report}");
        let failure = node(&report, "letters").failure.clone().unwrap();
        assert!(failure.message.contains("no letters are taken"), "{report}");
    }
}

#[cfg(feature = "object")]
#[tokio::test]
async fn a_file_that_was_cut_short_replaced_or_removed_when_the_run_goes_on_is_told() {
    for change in ["cut short", "replaced", "removed"] {
        let (dir, out) = (tempfile::tempdir().unwrap(), unique("out"));
        let is_sick = Arc::new(AtomicBool::new(true));
        let lines = |n: u64| (0..n).map(|n| format!("{{\"n\": {n}}}\n")).collect::<String>();
        let file = dir.path().join("in.jsonl");
        std::fs::write(&file, lines(ITEMS)).unwrap();
        std::fs::write(dir.path().join("other.jsonl"), lines(ITEMS)).unwrap();
        let sick = is_sick.clone();
        let work = act(Form::Batch, "in", move |items: Vec<Item>, _| {
            let sick = sick.load(Ordering::Relaxed);
            async move {
                let outcome = |item: Item| match item.primitive().payload() {
                    Payload::Row(row) if sick && row.get_i64("n") == Some(30) => {
                        Outcome::fail(Error::new(ErrorKind::Permission, "not today"))
                    }
                    _ => Outcome::emit(item),
                };
                Ok(items.into_iter().map(outcome).collect())
            }
        });
        let files = json!({ "use": "object/local", "config": { "root": dir.path() } });
        let graph = document(json!({
            "settings": in_directory(&dir.path().join("state")),
            "nodes": {
                "in": { "type": "source", "use": "object/jsonl", "connection": files,
                        "config": { "glob": "*.jsonl" }, "batch": { "items": 5 } },
                "work": work,
                "out": sink(&out, "work"),
            },
        }));
        let report = run_graph(&graph).await;
        assert!(
            report.partitions.iter().any(|part| &*part.partition == "in.jsonl" && part.items == 30),
            "{report}"
        );
        is_sick.store(false, Ordering::Relaxed);
        let told = match change {
            "removed" => {
                std::fs::remove_file(&file).unwrap();
                "partition \"in.jsonl\" is gone, of which 30 items were read: there may have been more: put it back, accept that with `Engine::accepting([\"in\"])`"
            }
            "replaced" => {
                std::fs::write(&file, lines(ITEMS).replace("\"n\": ", "\"n\":      ")).unwrap();
                "object \"in.jsonl\" has no record at byte"
            }
            _ => {
                std::fs::write(&file, lines(10)).unwrap();
                "object \"in.jsonl\" has no record at byte"
            }
        };
        let report = run_graph(&graph).await;
        assert!(node(&report, "in").errors.iter().any(|error| error.message.contains(told)), "{report}");
        assert_ne!(report.status, RunStatus::Success, "{report}");
        assert_eq!(
            node(&report, "in").errors[0].tag,
            if change == "removed" { "connector.not_found" } else { "connector.conflict" }
        );
        if change == "removed" {
            let mut other = written(&out);
            other.dedup();
            assert_eq!(other, all(ITEMS), "the other file is read");
            let accepting = builder().build().unwrap().accepting(["in"]);
            let report = run_on(&accepting, &graph).await;
            assert_eq!(report.status, RunStatus::Success, "{report}");
            assert!(report.checkpoint.unwrap().finished);
        }
    }
}

/// The connection of a database in a folder.
#[cfg(feature = "sql")]
fn table_in(dir: &Path) -> Value {
    json!({ "use": "sql/sqlite", "config": { "path": dir.join("t.db"), "create": true } })
}

/// Has so many rows in its table `t`.
#[cfg(feature = "sql")]
async fn fill(db: &Value, rows: u64) {
    let convert = json!({ "type": "action", "use": "convert", "inputs": ["in"], "config": { "to": "row" } });
    let table = json!({ "type": "sink", "use": "sql/sqlite", "connection": db, "inputs": ["rows"],
                        "config": { "table": "t", "key": ["n"], "create": true } });
    let report = run(json!({ "in": numbers(rows), "rows": convert, "table": table })).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
}

/// Key ranges are other ones when a table has grown a lot: what was read of the old ones would be read
/// again, and written again where that is not by id.
#[cfg(feature = "sql")]
#[tokio::test]
async fn a_table_that_is_cut_into_other_ranges_when_the_run_goes_on_is_told() {
    let (dir, out) = (tempfile::tempdir().unwrap(), unique("out"));
    let db = table_in(dir.path());
    let is_sick = Arc::new(AtomicBool::new(true));
    let sick = is_sick.clone();
    let work = each(Form::Transform, "in", move |item| match item.primitive().payload() {
        Payload::Row(row) if sick.load(Ordering::Relaxed) && row.get_i64("n") == Some(20) => {
            Err(Error::new(ErrorKind::Permission, "not today"))
        }
        _ => Ok(Outcome::emit(item)),
    });
    let graph = document(json!({
        "settings": in_directory(&dir.path().join("state")),
        "nodes": {
            "in": { "type": "source", "use": "sql/sqlite", "connection": db, "batch": { "items": 5 },
                    "config": { "table": "t", "columns": ["n"], "key": ["n"], "partitions": 2 } },
            "work": work,
            "out": sink(&out, "work"),
        },
    }));
    fill(&db, 40).await;
    assert_ne!(run_graph(&graph).await.status, RunStatus::Success);
    is_sick.store(false, Ordering::Relaxed);
    fill(&db, 400).await;
    let report = run_graph(&graph).await;
    assert_ne!(report.status, RunStatus::Success, "{report}");
    let told = &node(&report, "in").errors[0].message;
    assert!(told.contains("cut into other ranges") && told.contains("Engine::accepting"), "{told}");
    assert_eq!(
        node(&report, "in").received,
        0,
        "nothing is read of ranges that hold what was read: {report}"
    );
    // Nor when it is tried again.
    let report = run_graph(&graph).await;
    assert_eq!((report.status, node(&report, "in").received), (RunStatus::Failure, 0), "{report}");
    let accepting = builder().build().unwrap().accepting(["in"]);
    let report = run_on(&accepting, &graph).await;
    assert_eq!((report.status, written(&out)), (RunStatus::Success, all(400)), "{report}");
}

/// Ranges that were read to their end are cut otherwise, too, when the run goes on for another source.
#[cfg(feature = "sql")]
#[tokio::test]
async fn ranges_that_were_read_to_their_end_are_not_read_again_under_other_names() {
    let (dir, out) = (tempfile::tempdir().unwrap(), unique("out"));
    let db = table_in(dir.path());
    let is_sick = Arc::new(AtomicBool::new(true));
    let sick = is_sick.clone();
    let work = each(Form::Transform, "beside", move |item| match n(&item) {
        20 if sick.load(Ordering::Relaxed) => Err(Error::new(ErrorKind::Permission, "not today")),
        _ => Ok(Outcome::emit(item)),
    });
    let graph = document(json!({
        "settings": in_directory(&dir.path().join("state")),
        "nodes": {
            "in": { "type": "source", "use": "sql/sqlite", "connection": db,
                    "config": { "table": "t", "columns": ["n"], "key": ["n"], "partitions": 2 } },
            "out": sink(&out, "in"),
            "beside": batches(ITEMS, 5), "work": work, "other": sink(&unique("other"), "work"),
        },
    }));
    fill(&db, 40).await;
    assert_ne!(run_graph(&graph).await.status, RunStatus::Success);
    assert_eq!(written(&out).len(), 40);
    is_sick.store(false, Ordering::Relaxed);
    fill(&db, 400).await;
    let report = run_graph(&graph).await;
    assert_eq!((report.status, node(&report, "in").received), (RunStatus::PartialFailure, 0), "{report}");
}

#[tokio::test]
async fn a_store_of_checkpoints_that_is_named_is_used_in_whatever_order() {
    for first in [true, false] {
        let (place, store, out) = (tempfile::tempdir().unwrap(), MemoryStore::new(), unique("out"));
        let builder = match first {
            true => builder().checkpoints(store.clone()).state(place.path()),
            false => builder().state(place.path()).checkpoints(store.clone()),
        };
        let graph = graph(json!({ "in": numbers(3), "out": sink(&out, "in") }));
        run_on(&builder.build().unwrap(), &graph).await;
        assert!(store.peek("test").is_some(), "first: {first}");
        assert!(state_of(place.path(), "test").await.is_none(), "first: {first}");
    }
}
