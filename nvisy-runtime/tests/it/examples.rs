//! The graphs of the examples, with every call meeting every fault, and stopped at every point: what
//! their sinks hold in the end is what an undisturbed run leaves, each item once.

mod faults;
mod graphs;
mod stops;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nvisy_core::testing::faulty::{self, Script};
use nvisy_core::testing::memory::MemoryStore;
use nvisy_core::testing::plain;
use nvisy_core::{DeadLetter, ErrorKind, Result};
use nvisy_runtime::engine::{RunReport, RunStatus};
use nvisy_runtime::graph::Graph;
use nvisy_runtime::registry::Registry;
use nvisy_runtime::{Engine, actions, plugins};
use serde_json::{Value, json};

use self::graphs::Example;
use crate::fixture::{builder, sink, unique};

/// How far cases that come after each other are apart: they are of all examples and sites soon.
const STRIDE: u64 = 7_919;

fn engine(dir: &Path, script: &Script) -> Engine {
    let all = plugins::enabled().into_iter().chain([actions::plugin()]);
    let faulty = all.map(|plugin| faulty::plugin(plugin, script));
    let registry = faulty.fold(Registry::new(), |registry, plugin| registry.plugin(&plugin));
    Engine::builder().registry(registry).state(dir.join("state")).build().unwrap()
}

fn new_runtime() -> tokio::runtime::Runtime {
    // The test's own future is polled after every poll of a task.
    tokio::runtime::Builder::new_current_thread().enable_all().event_interval(1).build().unwrap()
}

/// An example in a folder of its own: what it is called is part of ids.
struct Place<'a> {
    example: &'a Example,
    dir: tempfile::TempDir,
    graph: Graph,
    document: Value,
}

impl<'a> Place<'a> {
    fn new(example: &'a Example) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let document = (example.graph)(dir.path());
        Self { example, graph: compiled(&document), document, dir }
    }

    /// Begins anew, up to the run that something may happen to.
    async fn prepare(&self) {
        let dir = self.dir.path();
        for entry in fs::read_dir(dir).unwrap() {
            fs::remove_dir_all(entry.unwrap().path()).unwrap();
        }
        for folder in ["in", "out"] {
            fs::create_dir(dir.join(folder)).unwrap();
        }
        (self.example.write)(&dir.join("in"));
        for before in self.example.before {
            let report = engine(dir, &Script::new()).run(&compiled(&before(dir))).await.unwrap();
            assert_eq!(report.status, RunStatus::Success, "{}: {report}", self.example.name);
        }
        (self.example.edit)(&dir.join("in"));
    }

    /// Runs once.
    async fn run(&self, script: &Script) -> Result<RunReport> {
        engine(self.dir.path(), script).run(&self.graph).await
    }

    /// Runs, undisturbed, until it ends as it should. Returns how many items were read.
    async fn finish(&self, what: &str) -> u64 {
        let mut read = 0;
        for _ in 0..4 {
            let report = self.run(&Script::new()).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
            read += read_by(&report, &self.document);
            if report.status == self.example.ends {
                return read;
            }
        }
        panic!("{what}: it never gets done");
    }

    /// Runs undisturbed. Returns what the sinks hold then, and how many items were read.
    async fn undisturbed(&self, script: &Script) -> (Found, u64) {
        let report = self.run(script).await.unwrap_or_else(|error| panic!("{error:?}"));
        assert_eq!(report.status, self.example.ends, "{report}");
        (self.found().await, read_by(&report, &self.document))
    }

    /// Looks whether the sinks hold what an undisturbed run leaves.
    async fn check(&self, clean: &Found, what: &str) {
        let [lost, doubled] = self.found().await.wrong(clean);
        assert!(lost.is_empty() && doubled.is_empty(), "{what}: lost {lost:#?}, doubled {doubled:#?}");
    }

    /// What the sinks hold.
    async fn found(&self) -> Found {
        let mut found = Found::default();
        let nodes = self.document["nodes"].as_object().unwrap();
        for (name, node) in nodes.iter().filter(|(_, node)| node["type"] == "sink") {
            let rows = self.rows(node).await;
            let of_all = self.document["settings"]["dead_letter"] == **name;
            if of_all || node["inputs"][0].as_str().is_some_and(|input| input.ends_with(".dead_letter")) {
                found.letters.extend(rows);
            } else {
                // Which of those that say the same is the first is a matter of time.
                let once = nodes.values().any(|node| node["use"] == "deduplicate");
                let texts = || rows.iter().filter_map(|row| key(row)).collect();
                found.rows.insert(name.clone(), if once { texts() } else { rows });
            }
        }
        found
    }

    /// What a sink holds, in order.
    async fn rows(&self, node: &Value) -> Vec<String> {
        let uses = node["use"].as_str().unwrap();
        let config = &node["config"];
        let connection = &self.document["connections"][node["connection"].as_str().unwrap()];
        let mut rows = match uses {
            "object/jsonl" | "object/csv" => {
                let texts = self.files(config).into_iter().map(|file| fs::read_to_string(file).unwrap());
                let lines = |text: String| {
                    text.lines()
                        .skip(usize::from(uses == "object/csv"))
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                };
                texts.flat_map(lines).collect()
            }
            "object/parquet" => {
                let paths = self.files(config);
                let paths = paths.iter().map(|path| path.file_name().unwrap().to_str().unwrap());
                let mut rows = Vec::new();
                for path in paths {
                    rows.extend(read(uses, connection, json!({ "path": path })).await);
                }
                rows
            }
            _ if fs::metadata(connection["config"]["path"].as_str().unwrap())
                .is_ok_and(|file| file.len() > 0) =>
            {
                read(uses, connection, config.clone()).await
            }
            _ => Vec::new(),
        };
        rows.sort();
        rows
    }

    /// The files of a sink: the one that it names, and those with a number.
    fn files(&self, config: &Value) -> Vec<std::path::PathBuf> {
        let (stem, extension) = config["path"].as_str().unwrap().rsplit_once('.').unwrap();
        let stem = stem.trim_end_matches("{part}");
        let all = fs::read_dir(self.dir.path().join("out")).unwrap().map(|entry| entry.unwrap().path());
        let all = all.filter(|path| path.extension().is_some_and(|found| found == extension));
        all.filter(|path| path.file_stem().unwrap().to_str().unwrap().starts_with(stem)).collect()
    }
}

fn compiled(graph: &Value) -> Graph {
    Graph::from_json(&graph.to_string()).unwrap_or_else(|error| panic!("{error}"))
}

/// All that a source finds in a table, a collection or a file, each with its id but for files.
async fn read(uses: &str, connection: &Value, config: Value) -> Vec<String> {
    let to = unique("found");
    let config: Value = config
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| ["table", "collection", "path"].contains(&name.as_str()))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let source = json!({ "type": "source", "use": uses, "connection": connection, "config": config });
    let graph = crate::fixture::graph(json!({ "in": source, "out": sink(&to, "in") }));
    let report = builder().build().unwrap().run(&graph).await.unwrap();
    // Nothing was there yet.
    assert!(report.is_success() || report.to_string().contains("does not exist"), "{report}");
    let items = MemoryStore::named(&to).items();
    MemoryStore::remove(&to);
    let shown = |item: &nvisy_core::Primitive| {
        let mut row = plain(item.payload());
        // A number of the run.
        row.as_object_mut().unwrap().remove("nvisy_generation");
        if uses == "vector/sqlite" { format!("{} {row}", item.id()) } else { row.to_string() }
    };
    items.iter().map(shown).collect()
}

/// How many items the sources of a run have read.
fn read_by(report: &RunReport, document: &Value) -> u64 {
    let source = |name: &str| document["nodes"][name]["type"] == "source";
    report.nodes.iter().filter(|node| source(&node.name)).map(|node| node.received).sum()
}

/// What the sinks of a graph hold.
#[derive(Debug, Default)]
struct Found {
    /// In order, by sink.
    rows: BTreeMap<String, Vec<String>>,
    letters: Vec<String>,
}

impl Found {
    /// What is lost and what is there twice, or both in its place and set aside, beside what an
    /// undisturbed run leaves.
    fn wrong(&self, clean: &Self) -> [Vec<String>; 2] {
        let [mut lost, mut doubled] = [Vec::new(), Vec::new()];
        let letters = self.read_letters();
        let wanted: BTreeSet<_> = clean.read_letters().into_iter().map(|letter| letter.position).collect();
        let aside: BTreeSet<_> = letters.iter().map(|letter| letter.position.clone()).collect();
        lost.extend(wanted.difference(&aside).map(|position| format!("letter of {position:?}")));
        let mut ids = BTreeSet::new();
        let twice = letters.iter().filter(|letter| !ids.insert((letter.node.clone(), letter.primitive.id())));
        doubled.extend(twice.map(|letter| format!("letter of {:?} at {}", letter.position, letter.node)));
        let letters_of = |row: &str| {
            let key = key(row);
            letters
                .iter()
                .zip(&self.letters)
                .filter(move |(_, text)| key.as_ref().is_some_and(|key| text.contains(key)))
        };
        for (sink, rows) in &clean.rows {
            let found = &self.rows[sink];
            let times = |rows: &[String], row: &String| rows.iter().filter(|other| *other == row).count();
            for row in rows {
                let (there, aside) = (times(found, row), letters_of(row).next().is_some());
                // The letter of what may have been written says so.
                let certain = letters_of(row).any(|(letter, _)| letter.error.kind != ErrorKind::Ambiguous);
                if there < times(rows, row) && !aside {
                    lost.push(format!("{sink}: {row}"));
                } else if there > times(rows, row) || there > 0 && certain {
                    doubled.push(format!("{sink}: {row}"));
                }
            }
            doubled.extend(
                found.iter().filter(|row| !rows.contains(row)).map(|row| format!("{sink}: strange {row}")),
            );
        }
        [lost, doubled]
    }

    fn read_letters(&self) -> Vec<DeadLetter> {
        self.letters.iter().map(|letter| serde_json::from_str(letter).unwrap()).collect()
    }
}

/// What the dead letter of an item has, too: its text as JSON writes it, or its id.
fn key(row: &str) -> Option<String> {
    let row: Value = serde_json::from_str(&row[row.find('{')?..]).ok()?;
    let key = [&row["document"]["text"], &row["text"], &row["id"]].into_iter().find(|key| key.is_string())?;
    Some(key.to_string())
}
