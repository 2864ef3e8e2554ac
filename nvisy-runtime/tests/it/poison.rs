//! Items that end the process: found after some starts, set aside, and all others are there once.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::testing::memory::MemoryStore;
use nvisy_runtime::Engine;
use nvisy_runtime::checkpoint::DirectoryStore;
use nvisy_runtime::engine::{RunReport, RunState, RunStatus};
use serde_json::{Value, json};

use crate::fixture::{builder, sink, unique};

const CHILD: &str = "NVISY_TEST_POISONED_IN";
const FILES: u64 = 3;
const RECORDS: u64 = 400;

/// What the child is given beside its directory.
fn settings(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("settings.json")).unwrap()).unwrap()
}

fn graph(dir: &Path) -> String {
    let staging = settings(dir)["staging"] == json!(true);
    let aside = settings(dir)["aside"] == json!(true);
    let mut graph = json!({
        "version": 1,
        "name": "poisoned",
        "connections": {
            "files": { "use": "object/local", "config": { "root": dir } },
            "db": { "use": "sql/sqlite", "config": { "path": dir.join("out.db"), "create": true } },
        },
        "settings": { "checkpoint": { "every": "20ms" } },
        "nodes": {
            "in": { "type": "source", "use": "object/jsonl", "connection": "files",
                    "config": { "glob": "in-*.jsonl" }, "batch": { "items": 100 } },
            "work": { "type": "action", "use": "fn/work", "inputs": ["in"] },
            "table": { "type": "sink", "use": "sql/sqlite", "connection": "db", "inputs": ["work"],
                       "config": { "table": "records", "key": ["n"], "create": true } },
        },
    });
    if staging {
        graph["nodes"]["table"] = json!({ "type": "sink", "use": "object/jsonl", "connection": "files",
            "inputs": ["work"], "config": { "path": "out/lines-{part}.jsonl" } });
        graph["connections"].as_object_mut().unwrap().remove("db");
    }
    if aside {
        graph["nodes"]["letters"] = json!({ "type": "sink", "use": "object/jsonl", "connection": "files",
            "inputs": ["in.dead_letter"], "config": { "path": "letters/{part}.jsonl" } });
    }
    graph.to_string()
}

/// The process that the items end: it notes each that it works on.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let poison: Vec<i64> = serde_json::from_value(settings(dir)["poison"].clone()).unwrap();
    let noted = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("noted")).unwrap();
    let engine = Engine::builder()
        .state(dir.join("state"))
        .function("work", move |item: Item<Row>| {
            let n = item.get_i64("n").unwrap_or(-1);
            (&noted).write_all(format!("{n}\n").as_bytes()).unwrap();
            if poison.contains(&n) {
                std::process::abort();
            }
            Ok(Outcome::emit(item))
        })
        .build()
        .unwrap()
        .accepting(["letters"]);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(async {
        let plan = engine.compile_json(&graph(dir)).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        engine.start_plan(&plan).await.unwrap().wait().await.unwrap()
    });
    std::fs::write(dir.join("report.json"), serde_json::to_vec(&report).unwrap()).unwrap();
}

/// A directory with the input of a child that ends at some items.
fn place(settings: &Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("settings.json"), settings.to_string()).unwrap();
    for file in 0..FILES {
        let records = (file * RECORDS..(file + 1) * RECORDS).map(|n| format!("{{\"n\": {n}}}\n"));
        std::fs::write(dir.path().join(format!("in-{file}.jsonl")), records.collect::<String>()).unwrap();
    }
    dir
}

/// Starts the child until it ends by itself. Returns how often it was started, and its report.
fn start_until_it_ends(dir: &Path, mut between: impl FnMut(&RunState)) -> (u32, RunReport) {
    for starts in 1..=20 {
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["poison::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap();
        if status.success() {
            let report = std::fs::read(dir.join("report.json")).unwrap();
            return (starts, serde_json::from_slice(&report).unwrap());
        }
        between(&state(dir));
    }
    panic!("it never gets done");
}

fn state(dir: &Path) -> RunState {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let checkpoint = runtime.block_on(DirectoryStore::new(dir.join("state")).peek("poisoned")).unwrap();
    RunState::of("poisoned", &checkpoint.unwrap()).unwrap()
}

/// Reads back the items that a source finds.
fn found(dir: &Path, node: &Value) -> Vec<Primitive> {
    let mut graph: Value = serde_json::from_str(&graph(dir)).unwrap();
    let to = unique("found");
    graph["nodes"] = json!({ "in": node, "out": sink(&to, "in") });
    let connection = node["connection"].as_str().unwrap();
    graph["connections"].as_object_mut().unwrap().retain(|name, _| name == connection);
    graph.as_object_mut().unwrap().remove("settings");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = runtime.block_on(async {
        let engine = builder().build().unwrap();
        let plan = engine.compile_json(&graph.to_string()).unwrap_or_else(|error| panic!("{error}"));
        engine.start_plan(&plan).await.unwrap().wait().await.unwrap()
    });
    assert_eq!(report.status, RunStatus::Success, "{report}");
    MemoryStore::named(&to).items()
}

fn numbers(items: &[Primitive]) -> Vec<i64> {
    let number = |item: &Primitive| item.clone().typed::<Row>().ok().and_then(|row| row.get_i64("n"));
    let mut numbers: Vec<i64> = items.iter().filter_map(number).collect();
    numbers.sort_unstable();
    numbers
}

fn files(glob: &str) -> Value {
    json!({ "type": "source", "use": "object/jsonl", "connection": "files", "config": { "glob": glob } })
}

fn table() -> Value {
    json!({ "type": "source", "use": "sql/sqlite", "connection": "db", "config": { "table": "records" } })
}

fn all_but(poison: &[i64]) -> Vec<i64> {
    (0..(FILES * RECORDS) as i64).filter(|n| !poison.contains(n)).collect()
}

/// How often each item was worked on.
fn worked_on(dir: &Path, n: i64) -> usize {
    std::fs::read_to_string(dir.join("noted")).unwrap().lines().filter(|line| *line == n.to_string()).count()
}

/// The numbers in the dead letters, whose items read back.
fn letters(dir: &Path) -> Vec<i64> {
    let letters = std::fs::read_dir(dir.join("letters")).into_iter().flatten();
    let text: String = letters.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    let letters = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut numbers: Vec<i64> = letters
        .map(|letter| {
            assert!(letter.to_string().contains("the process ended 3 times"), "{letter}");
            letter["primitive"]["payload"]["values"][0].as_i64().unwrap()
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn items_that_end_the_process_go_aside_and_all_others_arrive() {
    for (poison, staging, most) in
        [(vec![537], false, 7), (vec![0, 537], false, 12), (vec![537, 1_199], true, 12)]
    {
        let dir = place(&json!({ "poison": poison, "staging": staging, "aside": true }));
        let dir = dir.path();
        let mut begun_alone = 0;
        let (starts, report) = start_until_it_ends(dir, |state| {
            assert!(state.running, "{state}");
            begun_alone += u32::from(state.begun.len() == 1 && state.begun[0].items == 1);
        });
        assert_eq!(report.status, RunStatus::Success, "{report}");
        assert!(starts <= most, "{poison:?}: {starts} starts");
        assert_eq!(begun_alone, 3 * poison.len() as u32);
        let checkpoint = report.checkpoint.unwrap();
        assert_eq!(checkpoint.killed, 1, "the last one: {checkpoint}");
        assert!(checkpoint.careful > 0, "{checkpoint}");
        let out = if staging { files("out/lines-*.jsonl") } else { table() };
        assert_eq!(numbers(&found(dir, &out)), all_but(&poison), "{poison:?}");
        assert_eq!(letters(dir), poison);
        for n in &poison {
            assert!(worked_on(dir, *n) <= 6, "{n}: {} times", worked_on(dir, *n));
        }
        let state = state(dir);
        assert!(state.finished && !state.running && state.begun.is_empty(), "{state}");
    }
}

#[test]
fn where_nothing_goes_aside_the_run_fails_with_the_item_and_the_remedy() {
    let dir = place(&json!({ "poison": [42], "staging": false, "aside": false }));
    let dir = dir.path();
    for _ in 0..2 {
        let (starts, report) = start_until_it_ends(dir, |_| {});
        assert!(starts <= 7 && report.status != RunStatus::Success, "{report}");
        let failure = report.node("in").unwrap().failure.clone().unwrap();
        assert!(failure.message.contains("the process ended 3 times"), "{failure:?}");
        assert!(failure.message.contains("settings.dead_letter"), "{failure:?}");
        assert!(failure.context.item.is_some(), "{failure:?}");
        assert!(!numbers(&found(dir, &table())).contains(&42));
    }
    assert_eq!(worked_on(dir, 42), 6, "it is not tried again");

    // With a place for it, the run goes on.
    std::fs::write(
        dir.join("settings.json"),
        json!({ "poison": [42], "staging": false, "aside": true }).to_string(),
    )
    .unwrap();
    std::fs::remove_file(dir.join("report.json")).unwrap();
    let (starts, report) = start_until_it_ends(dir, |_| {});
    assert_eq!((starts, report.status), (1, RunStatus::Success), "{report}");
    assert_eq!((letters(dir), numbers(&found(dir, &table()))), (vec![42], all_but(&[42])));
}
