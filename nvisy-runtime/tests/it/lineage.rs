//! The log of lineage: where what was written comes from, and what became of what was read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nvisy_core::prelude::*;
use nvisy_core::primitive::raw::Raw;
use nvisy_core::testing::memory::{Form, MemoryStore};
use nvisy_core::{Error, ErrorKind, PrimitiveId};
use nvisy_runtime::Engine;
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::graph::Graph;
use nvisy_runtime::lineage::{Back, Forward, Trace, trace_back, trace_forward};
use serde_json::{Map, Value, json};

use crate::fixture::*;

const CANARY: &str = "canary-4be1";

/// Texts of some chunks each, with letters of several bytes.
fn write_texts(dir: &Path, files: usize) {
    for file in 0..files {
        let mut text = String::new();
        for line in 0..20 {
            writeln!(text, "Zeile {line} von Datei {file}: für Ähren, {CANARY}.").unwrap();
        }
        fs::write(dir.join(format!("text-{file}.txt")), text).unwrap();
    }
}

/// Texts of a directory → chunks → vectors in a file beside them.
fn passages(dir: &Path) -> Graph {
    document(json!({
        "connections": {
            "files": { "use": "object/local", "config": { "root": dir } },
            "index": { "use": "vector/sqlite", "config": { "path": dir.join("index.db"), "create": true } },
        },
        "nodes": {
            "read": { "type": "source", "use": "object/text", "connection": "files", "config": { "glob": "*.txt" } },
            "chunk": { "type": "action", "use": "ai/chunk", "inputs": ["read"],
                       "config": { "strategy": "characters", "size": 40, "overlap": 8 } },
            "embed": { "type": "action", "use": "ai/embed", "connection": { "use": "ai/local" },
                       "inputs": ["chunk"], "config": { "model": "local/hash", "dimensions": 8 } },
            "store": { "type": "sink", "use": "vector/sqlite", "connection": "index", "inputs": ["embed"],
                       "config": { "collection": "passages", "create": true } },
        },
    }))
}

async fn ran(engine: &Engine, graph: &Graph) -> RunReport {
    let report = engine.run(graph).await.unwrap();
    assert_eq!(report.status, RunStatus::Success, "{report}");
    report
}

/// What a vector database holds beside its vectors: a map of fields for each.
async fn points(dir: &Path) -> Vec<Map<String, Value>> {
    let to = unique("points");
    let graph = document(json!({
        "connections": { "db": { "use": "sql/sqlite", "config": { "path": dir.join("index.db") } } },
        "nodes": {
            "in": { "type": "source", "use": "sql/sqlite", "connection": "db",
                    "config": { "table": "nvisy_points_1" } },
            "out": sink(&to, "in"),
        },
    }));
    ran(&engine(), &graph).await;
    MemoryStore::named(&to).plain().into_iter().map(|row| row.as_object().unwrap().clone()).collect()
}

fn id_of(point: &Map<String, Value>) -> PrimitiveId {
    point["id"].as_str().unwrap().parse().unwrap()
}

fn log_files(log: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(log).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// The one way to an item.
fn the_trace(log: &Path, id: PrimitiveId) -> Trace {
    let Back { mut traces, skipped } = trace_back(log, id).unwrap();
    assert_eq!((traces.len(), skipped), (1, Vec::new()), "{id}");
    traces.remove(0)
}

#[tokio::test]
async fn every_vector_traces_back_to_its_file_and_its_bytes() {
    let place = tempfile::tempdir().unwrap();
    let (dir, state) = (place.path(), place.path().join("state"));
    write_texts(dir, 3);
    let engine = builder().state(&state).build().unwrap();
    let report = ran(&engine, &passages(dir)).await;
    let points = points(dir).await;
    assert!(points.len() > 30, "{}", points.len());
    for point in &points {
        let trace = the_trace(&state, id_of(point));
        let file = fs::read(dir.join(trace.object.as_ref().unwrap())).unwrap();
        let range = trace.byte_range.clone().unwrap();
        let bytes = &file[range.start as usize..range.end as usize];
        assert_eq!(std::str::from_utf8(bytes).unwrap(), point["text"].as_str().unwrap());
        assert_eq!(trace.chunk, point["chunk"].as_u64());
        assert_eq!(trace.root.to_string(), point["nvisy_root"].as_str().unwrap());
        let steps = trace.steps.iter().map(|hop| (hop.node.as_str(), hop.operation.as_str()));
        let steps: Vec<_> = steps.collect();
        assert_eq!(steps, [("read", "object/text"), ("chunk", "ai/chunk"), ("embed", "ai/embed")]);
        assert_eq!((trace.sink.as_deref(), trace.run), (Some("store"), Some(report.run)));

        // The destination alone knows the same, but for who wrote it.
        let told = Trace::from_fields(point).unwrap();
        assert_eq!(Trace { sink: None, graph: None, ..trace }, told);
    }
}

#[tokio::test]
async fn forward_are_all_chunks_of_a_file_and_no_others() {
    let place = tempfile::tempdir().unwrap();
    let (dir, state) = (place.path(), place.path().join("state"));
    write_texts(dir, 3);
    ran(&builder().state(&state).build().unwrap(), &passages(dir)).await;
    let points = points(dir).await;
    for file in ["text-0.txt", "text-1.txt", "text-2.txt"] {
        let of_file =
            |point: &&Map<String, Value>| Trace::from_fields(point).unwrap().comes_from(&file.into());
        let theirs: Vec<_> = points.iter().filter(of_file).collect();
        let ids: BTreeSet<_> = theirs.iter().map(|point| id_of(point)).collect();
        assert!(ids.len() > 10 && ids.len() < points.len());
        let Forward { sinks, skipped } = trace_forward(&state, file).unwrap();
        assert_eq!((sinks, skipped), ([("store".to_owned(), ids.clone())].into(), Vec::new()));
        let root = theirs[0]["nvisy_root"].as_str().unwrap();
        assert_eq!(trace_forward(&state, root).unwrap().sinks["store"], ids);
    }
    assert_eq!(trace_forward(&state, "text-3.txt").unwrap(), Forward::default());
    let unknown: PrimitiveId = "54c507e2-d35b-829c-9fe1-3b3024beee4e".parse().unwrap();
    assert_eq!(trace_back(&state, unknown).unwrap(), Back::default());
    assert_eq!(trace_forward(&state, unknown).unwrap(), Forward::default());
    let error = trace_back(dir.join("nowhere"), unknown).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn rows_trace_to_their_lines_though_their_ids_are_not_logged() {
    let place = tempfile::tempdir().unwrap();
    let (dir, log) = (place.path(), place.path().join("log"));
    let mut lines = String::new();
    (0..500).for_each(|n| {
        writeln!(lines, "{{\"n\": {n}, \"text\": \"{CANARY} {}\"}}", "x".repeat(n % 70)).unwrap()
    });
    fs::write(dir.join("in.jsonl"), &lines).unwrap();
    let graph = document(json!({
        "connections": { "files": { "use": "object/local", "config": { "root": dir } } },
        "nodes": {
            "in": { "type": "source", "use": "object/jsonl", "connection": "files",
                    "config": { "path": "in.jsonl" }, "batch": { "items": 100 } },
            "keep": { "type": "action", "use": "filter", "inputs": ["in"], "config": { "when": "row.n % 3 != 1" } },
            "copies": { "type": "fan_out", "inputs": ["keep"] },
            "lines": { "type": "sink", "use": "object/jsonl", "connection": "files", "inputs": ["copies"],
                       "config": { "path": "out.jsonl", "lineage": true } },
            "columns": { "type": "sink", "use": "object/parquet", "connection": "files", "inputs": ["copies"],
                         "config": { "path": "out.parquet" } },
        },
    }));
    ran(&builder().lineage(&log).build().unwrap(), &graph).await;
    let out = fs::read_to_string(dir.join("out.jsonl")).unwrap();
    let written: Vec<Map<String, Value>> =
        out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(written.len(), 333);
    for fields in written.iter().step_by(29) {
        let told = Trace::from_fields(fields).unwrap();
        let Back { traces, .. } = trace_back(&log, told.id).unwrap();
        let mut sinks: Vec<_> = traces.iter().filter_map(|trace| trace.sink.as_deref()).collect();
        sinks.sort_unstable();
        assert_eq!(sinks, ["columns", "lines"]);
        let at = traces[0].offset.unwrap() as usize;
        let line: Value = serde_json::from_str(lines[at..].lines().next().unwrap()).unwrap();
        assert_eq!(line["n"], fields["n"]);
        assert_eq!(
            (&told.object, told.offset, &told.source),
            (&traces[0].object, traces[0].offset, &traces[0].source)
        );
        let forward = trace_forward(&log, told.id).unwrap().sinks;
        let one = BTreeSet::from([told.id]);
        assert_eq!(forward, [("columns".to_owned(), one.clone()), ("lines".to_owned(), one)].into());
    }
    let all: BTreeSet<_> = written.iter().map(|fields| Trace::from_fields(fields).unwrap().id).collect();
    assert_eq!(trace_forward(&log, "in.jsonl").unwrap().sinks["columns"], all);
    let bytes: u64 = log_files(&log).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
    assert!(bytes < 12_000, "{bytes} bytes for twice 333 rows: two bytes each, and what a file is in itself");
}

/// Numbers, each batch of which takes a millisecond, written by their ids.
fn slow(out: &str, items: u64) -> Graph {
    let work = act(Form::Batch, "in", move |items: Vec<Item>, _| {
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(items.into_iter().map(Outcome::emit).collect())
        })
    });
    document(json!({
        "settings": { "checkpoint": { "every": "1ms", "uncommitted_items": 60 } },
        "nodes": {
            "in": with(batches(items, 6), json!({ "config": { "partitions": 3 } })),
            "work": with(work, json!({ "config": { "items": 6 }, "concurrency": 1 })),
            "out": sink(out, "work"),
        },
    }))
}

#[tokio::test(start_paused = true)]
async fn after_a_cancelled_run_that_went_on_everything_written_is_in_the_log() {
    let place = tempfile::tempdir().unwrap();
    let (out, state) = (unique("out"), place.path().join("state"));
    let (engine, graph) = (builder().state(&state).build().unwrap(), slow(&out, 300));
    let handle = engine.start(&graph).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    handle.cancel();
    let report = handle.wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Cancelled);
    let covered = settled_items(&report);
    assert!(0 < covered && covered < 300, "{report}");
    let logged = |id: &PrimitiveId| !trace_back(&state, *id).unwrap().traces.is_empty();
    let known = MemoryStore::named(&out).ids().iter().filter(|id| logged(id)).count() as u64;
    assert!(known >= covered, "{known} of {covered}");

    let report = ran(&engine, &graph).await;
    assert_eq!(written(&out), all(300));
    for item in MemoryStore::named(&out).items() {
        let trace = the_trace(&state, item.id());
        assert_eq!(
            (trace.offset, trace.run),
            (Some(number(&item)), Some(report.run)),
            "in both parts of the run"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_sink_refused_is_not_in_the_log() {
    let place = tempfile::tempdir().unwrap();
    let refuse = write("in", |items| async move {
        let mut report = WriteReport::applied(items.len());
        for (at, item) in items.iter().enumerate().filter(|(_, item)| number(item) % 2 == 1) {
            let odd = Error::new(ErrorKind::Validation, "odd").at_item(item.id());
            report = report.with(at as u32, WriteStatus::Rejected(odd));
        }
        Ok(report)
    });
    let graph = graph(json!({ "in": numbers(10), "out": with(refuse, json!({ "on_error": "drop" })) }));
    let report = ran(&builder().lineage(place.path()).build().unwrap(), &graph).await;
    assert_eq!(node(&report, "out").dropped, 5, "{report}");
    let files = log_files(place.path());
    assert_eq!(files.len(), 1);
    let to = unique("ids");
    ran(&engine(), &self::graph(json!({ "in": numbers(10), "out": sink(&to, "in") }))).await;
    for item in MemoryStore::named(&to).items() {
        let known = trace_back(place.path(), item.id()).unwrap().traces.len();
        assert_eq!(known as u64, 1 - number(&item) % 2, "{}", number(&item));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_logged_is_not_counted_as_done() {
    let place = tempfile::tempdir().unwrap();
    let (out, state) = (unique("out"), place.path().join("state"));
    let log = state.join("lineage");
    let gone = log.clone();
    let work = each(Form::Transform, "in", move |item| {
        let _ = fs::remove_dir_all(&gone);
        Ok(Outcome::emit(item))
    });
    let sick = graph(json!({ "in": batches(60, 6), "work": work, "out": sink(&out, "work") }));
    let engine = builder().state(&state).build().unwrap();
    let report = engine.run(&sick).await.unwrap();
    assert_ne!(report.status, RunStatus::Success, "{report}");
    assert!(report.failure.as_ref().unwrap().message.contains("log of lineage"), "{report}");
    let checkpoint = report.checkpoint.as_ref().unwrap();
    assert!(!checkpoint.finished && checkpoint.generation == 2, "none but that it began and ended: {report}");

    fs::write(&log, "a file").unwrap();
    let error = engine.run(&sick).await.unwrap_err();
    assert!(error.to_string().contains("log of lineage"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn there_is_a_log_where_one_is_asked_for() {
    let place = tempfile::tempdir().unwrap();
    let (state, log) = (place.path().join("state"), place.path().join("log"));
    let graph = graph(json!({ "in": numbers(3), "out": sink(&unique("out"), "in") }));
    ran(&builder().state(&state).without_lineage().build().unwrap(), &graph).await;
    ran(&builder().without_lineage().state(&state).build().unwrap(), &graph).await;
    assert!(!state.join("lineage").exists());
    ran(&builder().lineage(&log).state(&state).build().unwrap(), &graph).await;
    assert!(!state.join("lineage").exists());
    assert_eq!(log_files(&log).len(), 1);
    ran(&builder().state(&state).build().unwrap(), &graph).await;
    assert_eq!(log_files(&state.join("lineage")).len(), 1);
}

#[tokio::test]
async fn the_log_holds_nothing_of_what_items_hold() {
    let place = tempfile::tempdir().unwrap();
    let (dir, state) = (place.path(), place.path().join("state"));
    write_texts(dir, 2);
    ran(&builder().state(&state).build().unwrap(), &passages(dir)).await;
    let files = log_files(&state.join("lineage"));
    let holds = |word: &str| {
        files
            .iter()
            .any(|file| fs::read(file).unwrap().windows(word.len()).any(|window| window == word.as_bytes()))
    };
    assert!(holds("text-1.txt") && holds("ai/chunk"), "names can be seen there");
    assert!(!holds(CANARY) && !holds("hren"));
}

#[tokio::test]
async fn damaged_files_are_named_and_never_believed() {
    let place = tempfile::tempdir().unwrap();
    let (dir, state) = (place.path(), place.path().join("state"));
    write_texts(dir, 1);
    ran(&builder().state(&state).build().unwrap(), &passages(dir)).await;
    let log = state.join("lineage");
    let files = log_files(&log);
    let [file] = files.as_slice() else { panic!("one file: {files:?}") };
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let whole = fs::read(file).unwrap();
    let all = trace_forward(&log, "text-0.txt").unwrap();
    let id = *all.sinks["store"].first().unwrap();
    let back = trace_back(&log, id).unwrap();

    let check = |bytes: &[u8], what: String| {
        fs::write(file, bytes).unwrap();
        let named = |skipped: &[String]| skipped.len() == 1 && skipped[0].contains(&name);
        let forward = trace_forward(&log, "text-0.txt").unwrap();
        let found = trace_back(&log, id).unwrap();
        let right = (&found, &forward) == (&back, &all);
        let told = named(&found.skipped) && named(&forward.skipped) && found.traces.is_empty();
        (!right && !told).then(|| format!("{what}: {found:?} {forward:?}"))
    };
    let mut wrong = Vec::new();
    // All of the footer, where lengths and offsets stand, and a sample of the rest.
    let tail = whole.len() - 400;
    let sample = (0..tail).step_by(crate::torture::step(whole.len() / 150)).chain(tail..whole.len());
    for at in sample {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        wrong.extend(check(&flipped, format!("flipped at {at} of {}", whole.len())));
        if at % crate::torture::step(4) == 0 {
            wrong.extend(check(&whole[..at], format!("cut at {at} of {}", whole.len())));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    fs::write(file, &whole).unwrap();
    fs::write(log.join("notes.txt"), "not ours").unwrap();
    fs::write(log.join(name.replace(".parquet", ".part")), "not whole").unwrap();
    let found = trace_back(&log, id).unwrap();
    assert_eq!(found.traces, back.traces);
    assert!(found.skipped.len() == 1 && found.skipped[0].contains("notes.txt"), "{found:?}");
}

#[tokio::test]
async fn one_of_many_is_found_at_once() {
    let place = tempfile::tempdir().unwrap();
    let out = unique("out");
    let parts = each(Form::Transform, "in", |item| {
        let parts = (0..50).map(|part| item.derive("part", part, Raw::Json(json!({ "n": part }))).into_any());
        Ok(Outcome::emit_all(parts))
    });
    let graph = graph(json!({ "in": numbers(400), "parts": parts, "out": sink(&out, "parts") }));
    ran(&builder().lineage(place.path()).build().unwrap(), &graph).await;
    let ids = MemoryStore::named(&out).ids();
    assert_eq!(ids.len(), 20_000);
    let began = Instant::now();
    for id in ids.iter().step_by(1_999) {
        assert_eq!(the_trace(place.path(), *id).steps.len(), 2);
    }
    // The target is 50 ms each of a million, in release: `cargo xtask bench lineage`.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
