//! The graphs: those of `examples/graphs` as they are, and those of the example programs as documents,
//! over a few items each.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use nvisy_runtime::engine::RunStatus;
use serde_json::{Value, json};

use crate::fixture::with;

pub(super) struct Example {
    pub(super) name: &'static str,
    /// Writes what it reads into a folder.
    pub(super) write: fn(&Path),
    /// Runs first and undisturbed: `in` and `out` are folders of the one it is given.
    pub(super) before: &'static [fn(&Path) -> Value],
    /// Changes then what it reads.
    pub(super) edit: fn(&Path),
    pub(super) graph: fn(&Path) -> Value,
    pub(super) ends: RunStatus,
}

const fn example(name: &'static str, write: fn(&Path), graph: fn(&Path) -> Value) -> Example {
    Example { name, write, before: &[], edit: |_| {}, graph, ends: RunStatus::Success }
}

pub(super) const ALL: [Example; 11] = [
    example("quickstart", guides, |dir| document("quickstart", dir)),
    example("tickets", |to| lines("tickets.jsonl", 6, to), |dir| document("tickets", dir)),
    Example {
        ends: RunStatus::PartialFailure,
        ..example("partial", articles, |dir| document("partial", dir))
    },
    Example { ends: RunStatus::Failure, ..example("failing", articles, |dir| document("failing", dir)) },
    example("csv_to_parquet", weather, csv_to_parquet),
    Example { before: &[csv_to_parquet], ..example("hot_days", weather, hot_days) },
    example("articles", articles, table_of_articles),
    Example { before: &[table_of_articles], ..example("sqlite_to_vectors", articles, sqlite_to_vectors) },
    Example { before: &[incremental], edit: edit_notes, ..example("incremental", notes, incremental) },
    example("orders", |to| lines("orders.jsonl", 8, to), orders),
    example("survive", parcels, survive),
];

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

/// A graph of `examples/graphs`, whose files are in a folder.
fn document(name: &str, dir: &Path) -> Value {
    let text = fs::read_to_string(examples().join(format!("graphs/{name}.json"))).unwrap();
    let mut graph: Value = serde_json::from_str(&text).unwrap();
    for (_, connection) in graph["connections"].as_object_mut().unwrap() {
        let config = &mut connection["config"];
        if let Some(root) = config["root"].as_str() {
            config["root"] = json!(dir.join(if root.starts_with("target/") { "out" } else { "in" }));
        } else {
            let file = Path::new(config["path"].as_str().unwrap()).file_name().unwrap();
            config["path"] = json!(dir.join("out").join(file));
        }
        config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    }
    small(graph)
}

/// A graph of a program, over the folders `in` and `out`, and with databases in `out`.
fn program(name: &str, dir: &Path, nodes: Value) -> Value {
    let at = |name: &str| dir.join("out").join(name);
    let mut connections = json!({
        "in": { "use": "object/local", "config": { "root": dir.join("in") } },
        "out": { "use": "object/local", "config": { "root": dir.join("out") } },
        "table": { "use": "sql/sqlite", "config": { "path": at("table.db"), "create": true } },
        "index": { "use": "vector/sqlite", "config": { "path": at("index.db"), "create": true } },
    });
    let used = |name: &str| nodes.as_object().unwrap().values().any(|node| node["connection"] == name);
    connections.as_object_mut().unwrap().retain(|name, _| used(name));
    small(json!({ "version": 1, "name": name, "connections": connections, "nodes": nodes }))
}

/// The same in small steps, none of which takes long: several batches, and checkpoints on the way.
fn small(mut graph: Value) -> Value {
    let settings = graph.as_object_mut().unwrap().entry("settings").or_insert_with(|| json!({}));
    settings["checkpoint"] = json!({ "every": "1h", "uncommitted_items": 6 });
    for (_, node) in graph["nodes"].as_object_mut().unwrap() {
        let remembers = node["use"] == "deduplicate";
        let more = match node["type"].as_str().unwrap() {
            "source" => json!({ "batch": { "items": 2 } }),
            "sink" => json!({ "batch": { "items": 3 } }),
            "action" => json!({}),
            _ => continue,
        };
        *node = with(node.take(), more);
        node["timeout"] = json!("400ms");
        if !remembers {
            node["retry"] = json!({ "max_attempts": 2, "initial": "1ms" });
        }
    }
    graph
}

/// The first lines of a file of `examples/data`.
fn lines(file: &str, count: usize, to: &Path) {
    let text = fs::read_to_string(examples().join("data").join(file)).unwrap();
    let lines: String = text.split_inclusive('\n').take(count).collect();
    fs::write(to.join(file), lines).unwrap();
}

fn articles(to: &Path) {
    lines("articles.jsonl", 5, to);
}

fn guides(to: &Path) {
    for name in ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(examples().join("..").join(name)).unwrap();
        let lines: String = text.split_inclusive('\n').take(12).collect();
        fs::write(to.join(name), lines).unwrap();
    }
}

fn source(uses: &str, connection: &str, config: Value) -> Value {
    json!({ "type": "source", "use": uses, "connection": connection, "config": config })
}

fn action(uses: &str, input: &str, config: Value) -> Value {
    json!({ "type": "action", "use": uses, "inputs": [input], "config": config })
}

fn sink(uses: &str, connection: &str, input: &str, config: Value) -> Value {
    json!({ "type": "sink", "use": uses, "connection": connection, "inputs": [input], "config": config })
}

fn embed(input: &str) -> Value {
    with(
        action("ai/embed", input, json!({ "model": "local/hash" })),
        json!({ "connection": { "use": "ai/local" } }),
    )
}

fn weather(to: &Path) {
    let mut csv = String::from("station,day,temperature,rain,note\n");
    for n in 0..10_u32 {
        let station = ["north-1", "north-2", "south-1", "west-1"][n as usize % 4];
        let note = if n % 5 == 0 { "\"checked, twice\"" } else { "" };
        writeln!(csv, "{station},2025-01-{:02},{}.5,{},{note}", n + 1, 35 + n, n % 13).unwrap();
    }
    fs::write(to.join("weather.csv"), csv).unwrap();
}

fn csv_to_parquet(dir: &Path) -> Value {
    program(
        "csv_to_parquet",
        dir,
        json!({
            "csv": source("object/csv", "in", json!({ "path": "weather.csv" })),
            "parquet": sink("object/parquet", "out", "csv", json!({ "path": "weather.parquet" })),
        }),
    )
}

fn hot_days(dir: &Path) -> Value {
    let hot = json!({ "when": "row.temperature > 39.5 && row.station.startsWith('north')" });
    program(
        "hot_days",
        dir,
        json!({
            "parquet": source("object/parquet", "out", json!({ "glob": "weather*.parquet" })),
            "hot": action("filter", "parquet", hot),
            "csv": sink("object/csv", "out", "hot", json!({ "path": "hot.csv" })),
        }),
    )
}

fn table_of_articles(dir: &Path) -> Value {
    let table = json!({ "table": "articles", "mode": "upsert", "key": ["id"], "create": true });
    program(
        "articles",
        dir,
        json!({
            "file": source("object/jsonl", "in", json!({ "path": "articles.jsonl" })),
            "table": sink("sql/sqlite", "table", "file", table),
        }),
    )
}

fn sqlite_to_vectors(dir: &Path) -> Value {
    let nature = json!({ "table": "articles", "where": "topic = ?", "parameters": ["nature"] });
    let document = json!({ "to": "document", "text": "body", "title": "title" });
    program(
        "sqlite_to_vectors",
        dir,
        json!({
            "nature": source("sql/sqlite", "table", nature),
            "documents": action("convert", "nature", document),
            "chunks": action("ai/chunk", "documents", json!({ "strategy": "sentences", "size": 2 })),
            "vectors": embed("chunks"),
            "store": sink("vector/sqlite", "index", "vectors", json!({ "collection": "articles", "create": true })),
        }),
    )
}

fn notes(to: &Path) {
    for n in 0..5 {
        let text = format!("# Note {n}\n\nSome words.\n\n## More\n\nAnd {n} more.");
        fs::write(to.join(format!("{n}.md")), text).unwrap();
    }
}

fn edit_notes(to: &Path) {
    fs::write(to.join("2.md"), "# Two").unwrap();
    fs::write(to.join("new.md"), "# A new note").unwrap();
    fs::remove_file(to.join("4.md")).unwrap();
}

fn incremental(dir: &Path) -> Value {
    program(
        "incremental",
        dir,
        json!({
            "notes": with(source("object/text", "in", json!({ "glob": "*.md" })), json!({ "incremental": true })),
            "chunk": action("ai/chunk", "notes", json!({ "strategy": "markdown", "size": 8 })),
            "embed": embed("chunk"),
            "store": sink("vector/sqlite", "index", "embed", json!({ "collection": "notes", "create": true })),
        }),
    )
}

fn orders(dir: &Path) -> Value {
    let schema = json!({
        "required": ["id", "customer"],
        "properties": { "customer": { "type": "string" }, "quantity": { "minimum": 1 } },
    });
    let mut graph = program(
        "orders",
        dir,
        json!({
            "orders": source("object/jsonl", "in", json!({ "path": "orders.jsonl" })),
            "valid": action("validate", "orders", json!({ "schema": schema })),
            "total": action("map", "valid", json!({ "set": { "total": "double(row.quantity) * row.price" } })),
            "size": { "type": "branch", "inputs": ["total"], "routes": { "large": "row.total >= 500.0" },
                      "default": "small" },
            "large": sink("object/jsonl", "out", "size.large", json!({ "path": "large.jsonl" })),
            "small": sink("object/jsonl", "out", "size.small", json!({ "path": "small.jsonl" })),
            "aside": with(sink("object/jsonl", "out", "", json!({ "path": "aside.jsonl" })), json!({ "inputs": [] })),
        }),
    );
    graph["settings"]["dead_letter"] = json!("aside");
    graph
}

/// Every third says what the one before it said.
fn parcels(to: &Path) {
    for n in 0..6 {
        let said = if n % 3 == 2 { n - 1 } else { n };
        let text =
            format!("Parcel {said} has been on its way since day {said}. It stops. Ask for its van {said}.");
        fs::write(to.join(format!("{n:04}.txt")), text).unwrap();
    }
}

/// As the program, but for a service that charges.
fn survive(dir: &Path) -> Value {
    program(
        "survive",
        dir,
        json!({
            "read": source("object/text", "in", json!({ "glob": "*.txt" })),
            "chunk": action("ai/chunk", "read", json!({ "strategy": "sentences", "size": 2 })),
            "once": action("deduplicate", "chunk", json!({ "key": "document.text" })),
            "embed": embed("once"),
            "store": sink("vector/sqlite", "index", "embed", json!({ "collection": "passages", "create": true })),
        }),
    )
}
