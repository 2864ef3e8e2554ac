//! A graph as JSON and the same graph from the builder are one value; JSON is edited as a value.
//!
//! ```sh
//! cargo run --release --example from_json
//! ```
#![expect(clippy::print_stdout, reason = "examples print")]

use nvisy_runtime::actions::{Convert, Filter};
use nvisy_runtime::plugins::object::OnExisting;
use nvisy_runtime::plugins::{ai, object, vector};
use nvisy_runtime::prelude::*;

/// The graph that `graphs/tickets.json` holds.
fn built() -> Result<Graph> {
    let graph = Graph::builder("tickets");
    let data = graph.connect("data", object::Local::at("examples/data"));
    let out = graph.connect("out", object::Local::at("target/examples/tickets").create());
    let index = graph.connect("index", vector::Sqlite::at("target/examples/tickets/index.db").create());

    let documents = graph
        .source("tickets", object::Jsonl::path("tickets.jsonl").on(&data))
        .then("open", Filter::when("row.state == 'open'"))
        .then("documents", Convert::to_document("body").title("subject").language("language"));
    let [english, other] = documents.branch("language", [("english", "document.language == 'en'")], "other");
    english
        .then("chunks", ai::Chunk::tokens(64))
        .then("vectors", ai::Embed::model(ai::Local::HASH).on(ai::Local::new()))
        .sink("store", vector::SqliteSink::collection("tickets").create().on(&index));
    other.sink("others", object::JsonlSink::path("other.jsonl").on_existing(OnExisting::Replace).on(&out));
    graph.dead_letters(
        "failed",
        object::JsonlSink::path("failed.jsonl").on_existing(OnExisting::Replace).on(&out),
    );
    Ok(graph.build()?)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let text = std::fs::read_to_string(examples::root().join("examples/graphs/tickets.json"))?;
    let loaded = Graph::from_json(&text)?;
    assert_eq!(loaded, built()?);
    println!("the file and the builder give the same graph, of {} nodes", loaded.nodes.len());

    let mut edited = loaded.clone();
    if let Some(config) = edited.nodes.get_mut("open").and_then(|node| node.config_mut()) {
        config["when"] = "row.state == 'open' && row.id > 3".into();
    }
    if let Some(node) = edited.nodes.get_mut("vectors") {
        node.policies.retry = Some(Retry::exponential(5));
    }
    Engine::builder().build()?.compile(&edited)?;

    println!("\nwhat was edited:");
    for (mark, line) in examples::changed_lines(&loaded.to_json(), &edited.to_json()) {
        println!("{mark} {line}");
    }
    Ok(())
}
