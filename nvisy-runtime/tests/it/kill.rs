//! A process that is killed again and again, until it is done: nothing is lost, nothing doubled.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nvisy_core::prelude::*;
use nvisy_core::primitive::row::Row;
use nvisy_core::testing::memory::MemoryStore;
use nvisy_runtime::Engine;
use nvisy_runtime::engine::{RunState, RunStatus};
use serde_json::{Value, json};

use crate::fixture::{builder, is_accused, sink, state_of, unique};
use crate::torture::{Shows, Torture};

const CHILD: &str = "NVISY_TEST_KILLED_IN";
const FILES: u64 = 4;
/// Records a file; every hundredth is none.
const RECORDS: u64 = 1_500;
const SPAN: u64 = 400;

/// Numbers that stand in no record: the lines are broken there.
fn is_bad(n: u64) -> bool {
    n % 100 == 7
}

/// How many records later one comes again, if it does.
const BEHIND: u64 = 300;

fn comes_again(n: u64) -> bool {
    n % 10 == 3 && !is_bad(n) && n % RECORDS + BEHIND < RECORDS
}

fn write_input(dir: &Path) {
    for file in 0..FILES {
        let mut text = String::new();
        for n in file * RECORDS..(file + 1) * RECORDS {
            if n >= file * RECORDS + BEHIND && comes_again(n - BEHIND) {
                writeln!(text, "{{\"n\": {0}, \"text\": \"record {0} of all\"}}", n - BEHIND).unwrap();
            }
            if is_bad(n) {
                writeln!(text, "{{\"n\": {n}, ").unwrap();
            } else {
                writeln!(text, "{{\"n\": {n}, \"text\": \"record {n} of all\"}}").unwrap();
            }
        }
        std::fs::write(dir.join(format!("in-{file}.jsonl")), text).unwrap();
    }
}

fn graph(dir: &Path) -> String {
    let file = |path: &str| json!({ "path": path });
    json!({
        "version": 1,
        "name": "killed",
        "connections": {
            "files": { "use": "object/local", "config": { "root": dir } },
            "db": { "use": "sql/sqlite", "config": { "path": dir.join("out.db"), "create": true } },
            "index": { "use": "vector/sqlite", "config": { "path": dir.join("index.db"), "create": true } },
        },
        "settings": { "checkpoint": { "every": "50ms", "uncommitted_items": SPAN } },
        "nodes": {
            "in": { "type": "source", "use": "object/jsonl", "connection": "files",
                    "config": { "glob": "in-*.jsonl" }, "batch": { "items": 50 } },
            "log": { "type": "action", "use": "fn/log", "inputs": ["in"] },
            "once": { "type": "action", "use": "deduplicate", "inputs": ["log"],
                      "config": { "key": "row.n", "memory": "1MB" } },
            "copies": { "type": "fan_out", "inputs": ["once"] },
            "table": { "type": "sink", "use": "sql/sqlite", "connection": "db", "inputs": ["copies"],
                       "config": { "table": "records", "mode": "upsert", "key": ["n"], "create": true } },
            "added": { "type": "sink", "use": "sql/sqlite", "connection": "db", "inputs": ["copies"],
                       "config": { "table": "added", "mode": "insert", "create": true } },
            "lines": { "type": "sink", "use": "object/jsonl", "connection": "files", "inputs": ["copies"],
                       "config": file("out/lines-{part}.jsonl") },
            "columns": { "type": "sink", "use": "object/parquet", "connection": "files", "inputs": ["copies"],
                         "config": file("out/columns-{part}.parquet") },
            "texts": { "type": "action", "use": "convert", "inputs": ["copies"],
                       "config": { "to": "document", "text": "text" } },
            "embed": { "type": "action", "use": "ai/embed", "connection": { "use": "ai/local" },
                       "inputs": ["texts"], "config": { "model": "local/hash", "dimensions": 16 } },
            "vectors": { "type": "sink", "use": "vector/sqlite", "connection": "index", "inputs": ["embed"],
                         "config": { "collection": "records", "create": true } },
            "letters": { "type": "sink", "use": "object/jsonl", "connection": "files",
                         "inputs": ["in.dead_letter"], "config": file("out/letters-{part}.jsonl") },
        },
    })
    .to_string()
}

/// The process that is killed: it notes each item that it works on, and runs to the end.
#[test]
fn child() {
    let Some(dir) = std::env::var_os(CHILD) else { return };
    let dir = Path::new(&dir);
    let noted = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("noted")).unwrap();
    let engine = Engine::builder()
        .state(dir.join("state"))
        .function("log", move |item: Item<Row>| {
            let n = item.get_i64("n").unwrap_or(-1);
            (&noted).write_all(format!("{n}\n").as_bytes()).unwrap();
            Ok(Outcome::emit(item))
        })
        .build()
        .unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let report = runtime.block_on(async {
        let plan = engine.compile_json(&graph(dir)).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
        engine.start_plan(&plan).await.unwrap().wait().await.unwrap()
    });
    assert_eq!(report.status, RunStatus::Success, "{report}");
    assert!(report.checkpoint.unwrap().finished);
}

/// Runs the child until it ends by itself. Returns how often it was killed.
fn kill_until_done(dir: &Path, seed: u64) -> u64 {
    let mut dice = seed;
    let mut kills = 0;
    while !is_finished(dir) {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["kill::child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD, dir)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The more often it was killed, the longer it may live: it gets done in the end.
        let life = Duration::from_millis(30 + (dice >> 33) % (250 + kills * 15));
        let dies = std::time::Instant::now() + life;
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if std::time::Instant::now() >= dies && !state(dir).as_ref().is_some_and(is_accused) => {
                    break None;
                }
                None => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        match ended {
            Some(status) if status.success() => return kills,
            Some(status) => {
                let mut said = String::new();
                std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
                panic!("seed {seed}, after {kills} kills: {status}: {said}");
            }
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                kills += 1;
            }
        }
        assert!(kills < 300, "seed {seed}: it never gets done");
    }
    kills
}

fn state(dir: &Path) -> Option<RunState> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(state_of(&dir.join("state"), "killed"))
}

/// Whether it was killed when it had done everything: then it would begin anew.
fn is_finished(dir: &Path) -> bool {
    state(dir).is_some_and(|state| state.finished)
}

/// Reads back what a source finds, and how often each number stands in it.
async fn numbers(dir: &Path, node: Value) -> BTreeMap<i64, u64> {
    let mut graph: Value = serde_json::from_str(&graph(dir)).unwrap();
    let to = unique("found");
    graph["nodes"] = json!({ "in": node, "out": sink(&to, "in") });
    let connection = graph["nodes"]["in"]["connection"].as_str().unwrap().to_owned();
    graph["connections"].as_object_mut().unwrap().retain(|name, _| *name == connection);
    graph.as_object_mut().unwrap().remove("settings");
    let engine = builder().build().unwrap();
    let plan = engine.compile_json(&graph.to_string()).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    let report = engine.start_plan(&plan).await.unwrap().wait().await.unwrap();
    assert_eq!(report.status, RunStatus::Success, "{report}");
    let mut found = BTreeMap::new();
    for item in MemoryStore::named(&to).plain() {
        *found.entry(number_of(&item)).or_default() += 1;
    }
    found
}

/// The number of a record, which also stands in its text, in its vector's text, and in the
/// broken line of a dead letter.
fn number_of(item: &Value) -> i64 {
    if let Some(n) = item["n"].as_i64() {
        return n;
    }
    let text = item.to_string();
    let behind = |mark: &str| text.split_once(mark).map(|(_, rest)| rest.to_owned());
    let rest = behind("record ").or_else(|| behind("n\\\\\\\": ")).or_else(|| behind("n\\\": "));
    let rest = rest.unwrap_or_else(|| panic!("no number in {text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|_| panic!("no number in {text}"))
}

fn files(kind: &str, glob: &str) -> Value {
    json!({ "type": "source", "use": kind, "connection": "files", "config": { "glob": glob } })
}

/// Whatever a checkpoint has is in the log, however the process ended; of what went `aside` the
/// sinks may have had a part before.
#[cfg(feature = "lineage")]
fn everything_is_in_the_log(dir: &Path, seed: u64, aside: &BTreeSet<i64>) {
    for file in 0..FILES {
        let object = format!("in-{file}.jsonl");
        let forward = nvisy_runtime::lineage::trace_forward(dir.join("state"), object.as_str()).unwrap();
        assert!(forward.skipped.is_empty(), "seed {seed}: {:?}", forward.skipped);
        let records = file * RECORDS..(file + 1) * RECORDS;
        let bad = records.clone().filter(|n| is_bad(*n)).count() as u64;
        let aside = aside.iter().filter(|n| records.contains(&(**n as u64))).count() as u64;
        for sink in ["added", "columns", "letters", "lines", "table", "vectors"] {
            let logged = forward.sinks.get(sink).map_or(0, |ids| ids.len() as u64);
            let all = if sink == "letters" { bad + aside } else { RECORDS - bad };
            assert!(
                logged <= all && all <= logged + aside,
                "seed {seed}: {object}: {sink} has {logged} of {all}"
            );
        }
    }
}

#[test]
fn whenever_it_is_killed_everything_is_there_once_in_the_end() {
    let mut torture = Torture::of("kill", 50, 1);
    let (mut kills, mut repeats) = (0, 0);
    while kills < torture.cases
        && let Some(seed) = torture.next_seed()
    {
        let shows = Shows { kind: "kill", seed };
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        write_input(dir);
        let killed = kill_until_done(dir, seed);
        kills += killed;
        let once = |bad: bool| {
            (0..FILES * RECORDS)
                .filter(move |n| is_bad(*n) == bad)
                .map(|n| (n as i64, 1))
                .collect::<BTreeMap<_, _>>()
        };
        let places = [
            (files("object/jsonl", "out/lines-*.jsonl"), false),
            (files("object/parquet", "out/columns-*.parquet"), false),
            (files("object/jsonl", "out/letters-*.jsonl"), true),
            (
                json!({ "type": "source", "use": "sql/sqlite", "connection": "db", "config": { "table": "records" } }),
                false,
            ),
            (
                json!({ "type": "source", "use": "sql/sqlite", "connection": "db", "config": { "table": "added" } }),
                false,
            ),
            (
                json!({ "type": "source", "use": "vector/sqlite", "connection": "index", "config": { "collection": "records" } }),
                false,
            ),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        // A record that alone was on its way whenever the process was killed, three times, is set
        // aside: how should the engine know that it was not to blame?
        let letters = runtime.block_on(numbers(dir, files("object/jsonl", "out/letters-*.jsonl")));
        let aside: BTreeSet<i64> = letters.keys().copied().filter(|n| !is_bad(*n as u64)).collect();
        assert!(aside.len() as u64 * 3 <= killed, "seed {seed}: {aside:?} after {killed} kills");
        let mut wrong = Vec::new();
        let (mut lost, mut doubled) = (0, 0);
        for (place, bad) in places {
            let found = runtime.block_on(numbers(dir, place.clone()));
            let mut wanted = once(bad);
            wanted.retain(|n, _| !aside.contains(n));
            let missing: Vec<_> = wanted.keys().filter(|n| !found.contains_key(n)).collect();
            let strange = |n: &i64| !wanted.contains_key(n) && !aside.contains(n);
            let more: Vec<_> = found.iter().filter(|(n, times)| **times > 1 || strange(n)).collect();
            lost += missing.len() as u64;
            doubled += more.len() as u64;
            if !missing.is_empty() || !more.is_empty() {
                wrong.push(format!("{}: lost {missing:?}, there too often {more:?}", place["use"]));
            }
        }
        if !wrong.is_empty() {
            torture.tell(kills, [lost, doubled, repeats]);
            panic!("seed {seed}, {killed} kills: {wrong:#?}");
        }
        for entry in std::fs::read_dir(dir.join("out")).unwrap() {
            let name = entry.unwrap().file_name();
            assert!(!name.to_string_lossy().starts_with('.'), "seed {seed}: {name:?} was left behind");
        }
        #[cfg(feature = "lineage")]
        everything_is_in_the_log(dir, seed, &aside);
        let good = once(false).len() as u64;

        let noted = std::fs::read_to_string(dir.join("noted")).unwrap().lines().count() as u64;
        let again = (0..FILES * RECORDS).filter(|n| comes_again(*n)).count() as u64;
        let repeated = noted - good - again;
        // What is read ahead of a checkpoint: the span, and a batch a partition that is open.
        let bound = killed * (SPAN + 50 * FILES);
        println!(
            "seed {seed}: {killed} kills, lost 0, doubled 0, worked on again {repeated} of {good} (at most {bound})"
        );
        assert!(repeated <= bound, "seed {seed}: {repeated} of {bound}");
        repeats += repeated;
        drop(shows);
    }
    torture.tell(kills, [0, 0, repeats]);
}
