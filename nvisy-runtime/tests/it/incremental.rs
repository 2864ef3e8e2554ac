//! Runs that read what has changed since the last one: real files, real indexes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nvisy_core::prelude::*;
use nvisy_core::testing::faulty::{Fault, FaultKind, FaultySink, Script, Site};
use nvisy_core::testing::memory::MemoryStore as Place;
use nvisy_core::{CheckpointStore, ErrorKind};
use nvisy_runtime::Engine;
use nvisy_runtime::checkpoint::DirectoryStore;
use nvisy_runtime::engine::{IncrementReport, RunReport, RunState, RunStatus};
use nvisy_runtime::graph::Graph;
use nvisy_runtime::plugins::sql;
use serde_json::{Value, json};

use crate::fixture::{builder, is_accused, node, run_on, sink, state_of, unique};

/// Markdown into an index of passages, and records into a table: all that two folders hold.
fn graph(dir: &Path) -> Value {
    json!({
        "version": 1,
        "name": "test",
        "connections": {
            "files": { "use": "object/local", "config": { "root": dir.join("in") } },
            "db": { "use": "sql/sqlite", "config": { "path": dir.join("out.db"), "create": true } },
            "index": { "use": "vector/sqlite", "config": { "path": dir.join("index.db"), "create": true } },
        },
        "settings": { "checkpoint": { "every": "5ms" } },
        "nodes": {
            "texts": { "type": "source", "use": "object/text", "connection": "files", "incremental": true, "allow_empty": true,
                       "config": { "glob": "*.md" } },
            "chunk": { "type": "action", "use": "ai/chunk", "inputs": ["texts"],
                       "config": { "strategy": "characters", "size": 40 } },
            "embed": { "type": "action", "use": "ai/embed", "connection": { "use": "ai/local" },
                       "inputs": ["chunk"], "config": { "model": "local/hash", "dimensions": 8 } },
            "vectors": { "type": "sink", "use": "vector/sqlite", "connection": "index", "inputs": ["embed"],
                         "config": { "collection": "passages", "create": true } },
            "records": { "type": "source", "use": "object/jsonl", "connection": "files", "incremental": true, "allow_empty": true,
                         "config": { "glob": "*.jsonl", "schema": [{ "name": "n", "type": "int" }] } },
            "table": { "type": "sink", "use": "sql/sqlite", "connection": "db", "inputs": ["records"],
                       "config": { "table": "records", "create": true } },
        },
    })
}

fn compiled(graph: &Value) -> Graph {
    Graph::from_json(&graph.to_string()).unwrap_or_else(|error| panic!("{error}"))
}

fn engine(dir: &Path) -> Engine {
    Engine::builder().state(dir.join("state")).build().unwrap()
}

async fn run(dir: &Path) -> RunReport {
    run_of(dir, &graph(dir)).await
}

async fn run_of(dir: &Path, graph: &Value) -> RunReport {
    let report = run_on(&engine(dir), &compiled(graph)).await;
    assert_eq!(report.status, RunStatus::Success, "{report}");
    report
}

fn directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("in")).unwrap();
    dir
}

fn put(dir: &Path, name: &str, text: &str) {
    let path = dir.join("in").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Lets a file be as old as if nobody had touched it for an hour.
fn age(dir: &Path, name: &str) {
    set_time(dir, name, SystemTime::now() - Duration::from_secs(3_600));
}

fn set_time(dir: &Path, name: &str, time: SystemTime) {
    let file = File::options().append(true).open(dir.join("in").join(name)).unwrap();
    file.set_modified(time).unwrap();
}

/// All that the sinks hold but for when it was written, by id.
async fn found(dir: &Path) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    let nodes = [
        json!({ "type": "source", "use": "vector/sqlite", "connection": "index", "config": { "collection": "passages" } }),
        json!({ "type": "source", "use": "sql/sqlite", "connection": "db",
                "config": { "table": "records", "columns": ["nvisy_id", "n"] } }),
    ];
    for (node, file) in nodes.into_iter().zip(["index.db", "out.db"]) {
        if !has_content(&dir.join(file)) {
            continue;
        }
        let (mut graph, to) = (graph(dir), unique("found"));
        let connection = node["connection"].as_str().unwrap().to_owned();
        graph["nodes"] = json!({ "in": node, "out": sink(&to, "in") });
        graph["connections"].as_object_mut().unwrap().retain(|name, _| *name == connection);
        let report = builder().build().unwrap().run(&compiled(&graph)).await.unwrap();
        assert!(report.is_success() || report.to_string().contains("does not exist"), "{report}");
        for item in Place::named(&to).items() {
            let shown = nvisy_core::testing::plain(item.payload());
            let id = shown["nvisy_id"].as_str().map_or_else(|| item.id().to_string(), str::to_owned);
            assert!(all.insert(id, shown).is_none(), "an item is there twice");
        }
    }
    all
}

fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

/// All that the sinks would hold of a run that has no past, by the same ids.
async fn fresh(dir: &Path) -> BTreeMap<String, Value> {
    let anew = tempfile::tempdir().unwrap();
    let mut graph = graph(anew.path());
    graph["connections"]["files"]["config"]["root"] = json!(dir.join("in"));
    run_of(anew.path(), &graph).await;
    found(anew.path()).await
}

fn increment(report: &RunReport, source: &str) -> [u64; 4] {
    let found = node(report, source).increment.unwrap_or_else(|| panic!("{report}"));
    let IncrementReport { new, changed, unchanged, vanished } = found;
    [new, changed, unchanged, vanished]
}

#[tokio::test]
async fn of_a_thousand_files_one_that_was_edited_is_embedded_and_its_stale_chunks_are_gone() {
    let dir = directory();
    let dir = dir.path();
    for n in 0..1_000 {
        put(
            dir,
            &format!("{n}.md"),
            &format!("Passage one of file {n}, rather long.\n\nAnd passage two of {n}."),
        );
    }
    let report = run(dir).await;
    assert_eq!(increment(&report, "texts"), [1_000, 0, 0, 0], "{report}");
    let before = found(dir).await;

    put(dir, "500.md", "Short now.");
    let began = Instant::now();
    let report = run(dir).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}: {report}");
    assert_eq!(increment(&report, "texts"), [0, 1, 999, 0], "{report}");
    assert_eq!(node(&report, "texts").received, 1);
    assert_eq!(node(&report, "embed").received, 1, "the chunk of the file that was edited, and no other");
    let after = found(dir).await;
    let stale = before.len() + 1 - after.len() - 1;
    assert_eq!(node(&report, "vectors").deleted, stale as u64, "{report}");
    assert_eq!(after, fresh(dir).await);

    let text = report.to_string();
    assert!(text.contains("  texts: 1,000 partitions: 0 new, 1 changed, 999 unchanged; 0 gone\n"), "{text}");
    assert!(text.contains(&format!("  vectors: {stale} stale item")), "{text}");
    let report: Value = serde_json::to_value(&report).unwrap();
    assert_eq!(
        report["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "texts").unwrap()["increment"],
        json!({ "new": 0, "changed": 1, "unchanged": 999, "vanished": 0 })
    );

    let checkpoint = DirectoryStore::new(dir.join("state")).peek("test").await.unwrap().unwrap();
    let state = RunState::of("test", &checkpoint).unwrap();
    assert_eq!((state.partitions.len(), state.ended, state.items()), (1_000, 1_000, 1_000));
    assert!(state.to_string().contains("finished: the next one reads what has changed"), "{state}");
}

#[tokio::test]
async fn what_is_new_changes_or_goes_is_followed_and_what_stays_costs_nothing() {
    let dir = directory();
    let dir = dir.path();
    put(dir, "a.md", "The first text, which is longer than one passage can be.");
    put(dir, "b.md", "The second.");
    put(dir, "a.jsonl", "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}\n");
    put(dir, "b.jsonl", "{\"n\": 4}\n");
    run(dir).await;
    let report = run(dir).await;
    assert_eq!((increment(&report, "texts"), increment(&report, "records")), ([0, 0, 2, 0], [0, 0, 2, 0]));
    assert_eq!((node(&report, "texts").received, node(&report, "records").received), (0, 0));

    put(dir, "a.md", "The first.");
    put(dir, "c.md", "The third.");
    fs::remove_file(dir.join("in/b.md")).unwrap();
    put(dir, "a.jsonl", "{\"n\": 1}\n");
    fs::remove_file(dir.join("in/b.jsonl")).unwrap();
    let report = run(dir).await;
    assert_eq!((increment(&report, "texts"), increment(&report, "records")), ([1, 1, 0, 1], [0, 1, 0, 1]));
    assert_eq!((node(&report, "vectors").deleted, node(&report, "table").deleted), (2, 3), "{report}");
    let found_now = found(dir).await;
    assert_eq!(found_now.len(), 3, "{found_now:#?}");
    assert_eq!(found_now, fresh(dir).await);

    // A file that comes back is new.
    put(dir, "b.md", "The second.");
    assert_eq!(increment(&run(dir).await, "texts"), [1, 0, 2, 0]);
    assert_eq!(found(dir).await, fresh(dir).await);
}

#[tokio::test]
async fn a_change_within_the_tick_of_the_clock_of_files_is_seen_and_a_touched_file_is_not_read_again() {
    let dir = directory();
    let dir = dir.path();
    let tick = SystemTime::now();
    put(dir, "a.md", "before");
    set_time(dir, "a.md", tick);
    put(dir, "old.md", "old");
    age(dir, "old.md");
    run(dir).await;

    // The same size, the same time: only the content tells.
    put(dir, "a.md", "behind");
    set_time(dir, "a.md", tick);
    assert_eq!(increment(&run(dir).await, "texts"), [0, 1, 1, 0]);
    assert_eq!(found(dir).await, fresh(dir).await);

    age(dir, "a.md");
    assert_eq!(increment(&run(dir).await, "texts"), [0, 0, 2, 0], "its content is the same");
    // It is known by its time from now on, which is long ago.
    put(dir, "a.md", "beyond");
    assert_eq!(increment(&run(dir).await, "texts"), [0, 1, 1, 0]);
    assert_eq!(found(dir).await, fresh(dir).await);
}

#[tokio::test]
async fn a_folder_that_is_empty_all_of_a_sudden_deletes_nothing_unless_it_may_be() {
    let dir = directory();
    let dir = dir.path();
    put(dir, "a.md", "The first.");
    put(dir, "b.md", "The second.");
    put(dir, "a.jsonl", "{\"n\": 1}\n");
    let mut strict = graph(dir);
    strict["nodes"]["texts"].as_object_mut().unwrap().remove("allow_empty");
    run_of(dir, &strict).await;
    let before = found(dir).await;

    // As where a file system is not mounted; the other source still has what it had.
    let mounted = ["a.md", "b.md"].map(|name| (name, fs::read(dir.join("in").join(name)).unwrap()));
    mounted.iter().for_each(|(name, _)| fs::remove_file(dir.join("in").join(name)).unwrap());
    for _ in 0..2 {
        let report = run_on(&engine(dir), &compiled(&strict)).await;
        assert_ne!(report.status, RunStatus::Success, "{report}");
        let error = report.to_string();
        assert!(
            error.contains("nothing is left of the 2 partitions") && error.contains("`allow_empty`"),
            "{error}"
        );
        let dry = engine(dir).dry_run(&compiled(&strict)).await.unwrap();
        assert!(dry.to_string().contains("nothing is left"), "{dry}");
        assert_eq!(found(dir).await, before);
    }
    for (name, bytes) in &mounted {
        fs::write(dir.join("in").join(name), bytes).unwrap();
    }
    run_of(dir, &strict).await;
    assert_eq!(found(dir).await, before);

    mounted.iter().for_each(|(name, _)| fs::remove_file(dir.join("in").join(name)).unwrap());
    let report = run(dir).await;
    assert_eq!((increment(&report, "texts"), node(&report, "vectors").deleted), ([0, 0, 0, 2], 2));
    assert_eq!(found(dir).await.len(), 1);
}

#[cfg(unix)]
#[tokio::test]
async fn what_a_link_led_to_that_leads_to_nothing_for_now_is_not_gone() {
    let dir = directory();
    let dir = dir.path();
    let mut linked = graph(dir);
    linked["nodes"]["texts"]["config"]["glob"] = json!("docs/**/*.md");
    put(dir, "docs/plain.md", "A text that is there.");
    put(dir, "volume/books/one.md", "A text on another volume.");
    std::os::unix::fs::symlink("../volume/books", dir.join("in/docs/books")).unwrap();
    assert_eq!(increment(&run_of(dir, &linked).await, "texts"), [2, 0, 0, 0]);
    let before = found(dir).await;

    fs::rename(dir.join("in/volume"), dir.join("in/away")).unwrap();
    fs::remove_file(dir.join("in/docs/plain.md")).unwrap();
    let report = run_of(dir, &linked).await;
    assert_eq!(increment(&report, "texts"), [0, 0, 0, 1], "{report}");
    assert!(report.warnings.iter().any(|told| told.contains("docs/books")), "{report}");
    assert_eq!(found(dir).await.len() + 1, before.len());

    fs::rename(dir.join("in/away"), dir.join("in/volume")).unwrap();
    assert_eq!(increment(&run_of(dir, &linked).await, "texts"), [0, 0, 1, 0]);
    fs::remove_file(dir.join("in/docs/books")).unwrap();
    assert_eq!(increment(&run_of(dir, &linked).await, "texts"), [0, 0, 0, 1]);
}

#[tokio::test]
async fn a_graph_that_has_changed_makes_everything_again() {
    let dir = directory();
    let dir = dir.path();
    let text = "A text that is cut into passages of some length, or of another.";
    (0..3).for_each(|n| put(dir, &format!("{n}.md"), text));
    run(dir).await;
    let mut other = graph(dir);
    other["nodes"]["chunk"]["config"]["size"] = json!(30);
    // What is accepted is that a run goes on: this one begins.
    let report = run_on(&engine(dir).accepting(["chunk"]), &compiled(&other)).await;
    assert_eq!(increment(&report, "texts"), [0, 3, 0, 0]);
    other["nodes"]["chunk"]["config"]["size"] = json!(20);
    let report = run_of(dir, &other).await;
    assert_eq!(increment(&report, "texts"), [0, 3, 0, 0]);
    assert!(node(&report, "vectors").deleted > 0, "{report}");
    assert_eq!(increment(&run_of(dir, &other).await, "texts"), [0, 0, 3, 0]);

    // Under another name, and from another place: what the one before has left goes.
    let node_before = other["nodes"].as_object_mut().unwrap().remove("texts").unwrap();
    other["nodes"]["renamed"] = node_before;
    other["nodes"]["chunk"]["inputs"] = json!(["renamed"]);
    other["nodes"]["chunk"]["config"]["size"] = json!(40);
    assert_eq!(increment(&run_of(dir, &other).await, "renamed"), [3, 0, 0, 0]);
    let (chunks, of_one) = (found(dir).await, fresh(dir).await);
    assert_eq!(chunks, of_one);
    fs::create_dir(dir.join("moved")).unwrap();
    fs::rename(dir.join("in/1.md"), dir.join("moved/1.md")).unwrap();
    other["connections"]["files"]["config"]["root"] = json!(dir.join("moved"));
    assert_eq!(increment(&run_of(dir, &other).await, "renamed"), [1, 0, 0, 0]);
    assert_eq!(found(dir).await.len() * 3, of_one.len(), "the passages of one file of three");
}

#[tokio::test]
async fn a_file_that_failed_is_read_again_and_keeps_what_was_there() {
    let dir = directory();
    let dir = dir.path();
    let fails = |text: &'static str| {
        let engine = Engine::builder().state(dir.join("state"));
        engine.function("pass", move |item: Item<nvisy_core::primitive::document::Document>| {
            match item.text.contains(text) {
                true => Err(Error::new(ErrorKind::Permission, "not today")),
                false => Ok(Outcome::emit(item)),
            }
        })
    };
    let mut graph = graph(dir);
    graph["nodes"]["pass"] = json!({ "type": "action", "use": "fn/pass", "inputs": ["chunk"] });
    graph["nodes"]["embed"]["inputs"] = json!(["pass"]);
    put(dir, "a.md", "The first text.");
    put(dir, "b.md", "The second text.");
    run_on(&fails("!").build().unwrap(), &compiled(&graph)).await;
    let before = found(dir).await;

    put(dir, "b.md", "The second text!");
    let report = run_on(&fails("!").build().unwrap(), &compiled(&graph)).await;
    assert_ne!(report.status, RunStatus::Success);
    assert_eq!(found(dir).await, before, "nothing is deleted for what is not there yet");
    let report = run_on(&fails("?").build().unwrap(), &compiled(&graph)).await;
    assert_eq!(increment(&report, "texts"), [0, 1, 1, 0], "{report}");
    assert_eq!(found(dir).await, fresh(dir).await);
}

/// Changes some files at random.
fn edit(dir: &Path, dice: &mut impl FnMut(u64) -> u64) {
    for _ in 0..1 + dice(4) {
        let n = dice(8);
        match dice(4) {
            0 => drop(fs::remove_file(dir.join(format!("in/{n}.md")))),
            1 => put(
                dir,
                &format!("{n}.jsonl"),
                &(0..dice(40)).fold(String::new(), |text, _| format!("{text}{{\"n\": {}}}\n", dice(1_000))),
            ),
            _ => {
                put(dir, &format!("{n}.md"), &format!("text {} ", dice(1_000)).repeat(1 + dice(20) as usize))
            }
        }
    }
}

#[test]
fn whenever_it_is_killed_nothing_stale_stays_and_nothing_is_lost() {
    let mut kills = 0;
    for seed in 1..9_u64 {
        let dir = directory();
        let dir = dir.path();
        let mut state = seed;
        let mut dice = |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        for n in 0..6 {
            put(dir, &format!("{n}.md"), &format!("text {n} ").repeat(10));
        }
        for round in 0..4 {
            edit(dir, &mut dice);
            for attempt in 1.. {
                let life = Duration::from_millis(dice(30 * attempt));
                let runtime = tokio::runtime::Builder::new_multi_thread()
                    .worker_threads(2)
                    .enable_all()
                    .build()
                    .unwrap();
                let ended = runtime.block_on(async {
                    let (engine, graph) = (engine(dir), compiled(&graph(dir)));
                    tokio::select! {
                        ended = engine.run(&graph) => Some(ended),
                        () = async {
                            tokio::time::sleep(life).await;
                            while state_of(&dir.join("state"), "test").await.as_ref().is_some_and(is_accused) {
                                tokio::time::sleep(Duration::from_millis(5)).await;
                            }
                        } => None,
                    }
                });
                // It is gone, but for calls that block, which cannot be.
                runtime.shutdown_timeout(Duration::from_secs(60));
                match ended {
                    Some(report) => {
                        let report = report.unwrap();
                        assert_eq!(report.status, RunStatus::Success, "seed {seed}: {report}");
                        break;
                    }
                    None => kills += 1,
                }
                if dice(3) == 0 {
                    edit(dir, &mut dice);
                }
            }
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let (there, wanted) = runtime.block_on(async { (found(dir).await, fresh(dir).await) });
            assert_eq!(there, wanted, "seed {seed}, round {round}");
        }
    }
    assert!(kills > 30, "{kills}");
}

#[tokio::test]
async fn whatever_becomes_of_the_call_that_deletes_the_run_after_it_makes_it_whole() {
    for kind in
        [FaultKind::Terminal, FaultKind::AmbiguousApplied, FaultKind::AmbiguousNotApplied, FaultKind::Panic]
    {
        let dir = directory();
        let dir = dir.path();
        let script = unique("script");
        let mut graph = graph(dir);
        let table = graph["nodes"]["table"]["config"].take();
        graph["nodes"]["table"]["use"] = json!("faulty/sink");
        graph["nodes"]["table"]["config"] = json!({ "script": script, "sink": table });
        graph["nodes"]["table"]["retry"] = json!({ "max_attempts": 1 });
        let engine = Engine::builder().state(dir.join("state")).sink::<FaultySink<sql::SqliteSink>>();
        let engine = engine.build().unwrap();
        put(dir, "a.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
        put(dir, "b.jsonl", "{\"n\": 3}\n");
        run_on(&engine, &compiled(&graph)).await;
        put(dir, "a.jsonl", "{\"n\": 5}\n");
        fs::remove_file(dir.join("in/b.jsonl")).unwrap();
        Script::named(&script).add(Fault::new(Site::Replace, 2, kind));
        let report = run_on(&engine, &compiled(&graph)).await;
        assert!(!report.is_success() && !report.checkpoint.as_ref().unwrap().finished, "{kind:?}: {report}");
        let report = run_on(&engine, &compiled(&graph)).await;
        assert!(report.is_success(), "{kind:?}: {report}");
        assert_eq!(found(dir).await, fresh(dir).await, "{kind:?}");
    }
}

#[tokio::test]
async fn a_clock_that_goes_back_leaves_nothing_stale() {
    let dir = directory();
    let dir = dir.path();
    let mut records = graph(dir);
    records["nodes"].as_object_mut().unwrap().retain(|name, _| name == "records" || name == "table");
    records["connections"].as_object_mut().unwrap().remove("index");
    let generations = async || {
        let mut graph = records.clone();
        let to = unique("generations");
        let table = json!({ "type": "source", "use": "sql/sqlite", "connection": "db",
                            "config": { "table": "records", "columns": ["n", "nvisy_generation"] } });
        graph["nodes"] = json!({ "in": table, "out": sink(&to, "in") });
        graph["connections"].as_object_mut().unwrap().remove("files");
        run_on(&builder().build().unwrap(), &compiled(&graph)).await;
        let rows = Place::named(&to).items();
        let row = rows.iter().map(|row| nvisy_core::testing::plain(row.payload()));
        let row = row.map(|row| (row["n"].as_i64().unwrap(), row["nvisy_generation"].as_u64().unwrap()));
        row.collect::<BTreeMap<_, _>>()
    };
    put(dir, "a.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    run_of(dir, &records).await;

    // The clock of the next run stands some centuries ahead.
    let store = DirectoryStore::new(dir.join("state"));
    let mut checkpoints = store.open("test").await.unwrap();
    let mut header: Value = serde_json::from_slice(&checkpoints.last().entries["run"]).unwrap();
    let ahead = header["generation"].as_u64().unwrap() + 10_000_000_000_000;
    header["generation"] = json!(ahead);
    let mut changes = nvisy_core::Changes::default();
    changes.put("run", header.to_string());
    checkpoints.commit(changes).await.unwrap();
    drop(checkpoints);
    put(dir, "a.jsonl", "{\"n\": 10}\n{\"n\": 20}\n{\"n\": 30}\n");
    run_of(dir, &records).await;
    let before = generations().await;
    assert!(before.keys().eq(&[10, 20, 30]) && before.values().all(|n| *n > ahead), "{before:?}");

    // And now it stands right again.
    put(dir, "a.jsonl", "{\"n\": 100}\n");
    run_of(dir, &records).await;
    let after = generations().await;
    assert!(after.keys().eq(&[100]) && after.values().all(|n| *n > before[&10]), "{after:?}");
}

#[tokio::test]
async fn a_table_is_read_on_behind_its_last_key() {
    let dir = directory();
    let dir = dir.path();
    put(dir, "a.jsonl", "{\"n\": 1}\n{\"n\": 2}\n");
    let mut fill = graph(dir);
    fill["nodes"] = json!({ "records": fill["nodes"]["records"], "table": fill["nodes"]["table"] });
    fill["nodes"]["table"]["config"] = json!({ "table": "t", "key": ["n"], "create": true });
    fill["connections"].as_object_mut().unwrap().remove("index");
    run_of(dir, &fill).await;

    let (mut copy, to) = (fill.clone(), unique("to"));
    copy["name"] = json!("copy");
    copy["connections"].as_object_mut().unwrap().remove("files");
    let table = json!({ "type": "source", "use": "sql/sqlite", "connection": "db", "incremental": true,
                        "config": { "table": "t", "columns": ["n"], "key": ["n"] } });
    copy["nodes"] = json!({ "in": table, "out": sink(&to, "in") });
    let engine = builder().state(dir.join("state")).build().unwrap();
    let copied = async || node(&run_on(&engine, &compiled(&copy)).await, "in").received;
    assert_eq!((copied().await, copied().await), (2, 0));
    put(dir, "a.jsonl", "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}\n");
    run_of(dir, &fill).await;
    assert_eq!((copied().await, copied().await), (1, 0));
    assert_eq!(Place::named(&to).items().len(), 3);
    let checkpoint = DirectoryStore::new(dir.join("state")).peek("copy").await.unwrap().unwrap();
    let state = RunState::of("copy", &checkpoint).unwrap();
    assert_eq!((state.items(), state.incremental), (3, true), "{state}");
}

#[tokio::test]
async fn what_cannot_be_done_incrementally_is_refused_with_the_reason() {
    let dir = directory();
    let dir = dir.path();
    let refused = |graph: &Value| {
        let engine = builder().state(dir.join("state")).build().unwrap();
        engine.compile(&compiled(graph)).map(|_| ()).unwrap_err().to_string()
    };
    let mut lines = graph(dir);
    lines["nodes"]["table"] = json!({ "type": "sink", "use": "object/jsonl", "connection": "files",
                                      "inputs": ["records"], "config": { "path": "out.jsonl" } });
    lines["connections"].as_object_mut().unwrap().remove("db");
    assert!(refused(&lines).contains("\"table\" would keep what is stale"), "{}", refused(&lines));
    let mut inserts = graph(dir);
    inserts["nodes"]["table"]["config"]["mode"] = json!("insert");
    assert!(
        refused(&inserts).contains("incremental.sink: nodes.records.incremental"),
        "{}",
        refused(&inserts)
    );
    let mut spills = graph(dir);
    spills["nodes"]["copies"] =
        json!({ "type": "fan_out", "inputs": ["chunk"], "spill": { "embed": { "memory": "1MB" } } });
    spills["nodes"]["embed"]["inputs"] = json!(["copies"]);
    assert!(refused(&spills).contains("\"copies\" keeps what its readers"), "{}", refused(&spills));
    let mut ranges = graph(dir);
    ranges["connections"].as_object_mut().unwrap().retain(|name, _| name == "db");
    ranges["nodes"] = json!({
        "in": { "type": "source", "use": "sql/sqlite", "connection": "db", "incremental": true,
                "config": { "table": "t", "partitions": 4 } },
        "out": sink("nowhere", "in"),
    });
    assert!(refused(&ranges).contains("its key ranges change as the table grows"), "{}", refused(&ranges));
    let memory = json!({ "version": 1, "name": "test", "nodes": {
        "in": { "type": "source", "use": "memory/source", "incremental": true, "config": { "items": [] } },
        "out": sink("nowhere", "in"),
    } });
    assert!(refused(&memory).contains("it does not tell what has changed"), "{}", refused(&memory));

    let mut idle = graph(dir);
    idle["nodes"]["texts"].as_object_mut().unwrap().remove("incremental");
    assert!(refused(&idle).contains("`allow_empty` would do nothing"), "{}", refused(&idle));

    let error = Engine::builder().build().unwrap().run(&compiled(&graph(dir))).await.unwrap_err();
    assert!(error.to_string().contains("EngineBuilder::state"), "{error}");
    let mut mixed = graph(dir);
    mixed["nodes"]["stream"] = json!({ "type": "action", "use": "memory/relay", "inputs": ["chunk"],
                                       "config": { "form": "pipe" } });
    mixed["nodes"]["embed"]["inputs"] = json!(["stream"]);
    let engine = builder().state(dir.join("state")).build().unwrap();
    let error = engine.run(&compiled(&mixed)).await.unwrap_err();
    assert!(error.to_string().contains("may make one item of several files"), "{error}");
}

#[tokio::test]
async fn the_plan_says_what_is_read_and_what_is_deleted() {
    let dir = directory();
    let plan = engine(dir.path()).compile(&compiled(&graph(dir.path()))).unwrap().explain();
    assert!(plan.contains("\n  reads what is new or has changed, also where nothing is left\n"), "{plan}");
    assert!(plan.contains("\n  deletes what is stale of what has changed or is gone\n"), "{plan}");
}

#[tokio::test]
async fn a_dry_run_says_what_has_changed_and_changes_nothing() {
    let place = directory();
    let dir = place.path();
    for n in 0..20 {
        put(dir, &format!("{n:02}.md"), &format!("Text {n} says what it says."));
        age(dir, &format!("{n:02}.md"));
    }
    run(dir).await;
    put(dir, "03.md", "Text 3 says something else now.");
    put(dir, "20.md", "Text 20 is new.");
    fs::remove_file(dir.join("in/07.md")).unwrap();
    let (before, store) = (found(dir).await, DirectoryStore::new(dir.join("state")));
    let checkpoint = store.peek("test").await.unwrap();

    let dry = engine(dir).dry_run(&compiled(&graph(dir))).await.unwrap();
    assert!(dry.is_success(), "{dry}");
    let texts = dry.sources.iter().find(|source| &*source.name == "texts").unwrap();
    let told = IncrementReport { new: 1, changed: 1, unchanged: 18, vanished: 1 };
    assert_eq!((texts.open, texts.increment), (2, Some(told)), "{dry}");
    assert_eq!(texts.items.number(), 2, "{dry}");
    assert_eq!(store.peek("test").await.unwrap(), checkpoint);
    assert_eq!(found(dir).await, before);

    let report = run(dir).await;
    assert_eq!(node(&report, "texts").increment, Some(told));
}
