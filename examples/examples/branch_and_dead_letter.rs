//! Bad records go aside, good ones arrive, and the report says what went where and why.
//!
//! ```sh
//! cargo run --release --example branch_and_dead_letter
//! ```
#![expect(clippy::print_stdout, reason = "examples print")]

use std::fs;

use nvisy_runtime::actions::{Map, Validate};
use nvisy_runtime::plugins::object::{Jsonl, JsonlSink, Local};
use nvisy_runtime::{DeadLetter, prelude::*};
use serde_json::json;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = examples::output("branch_and_dead_letter")?;

    let graph = Graph::builder("orders");
    let data = graph.connect("data", Local::at(examples::data()));
    let out = graph.connect("out", Local::at(&folder));

    let totals = graph
        .source("orders", Jsonl::path("orders.jsonl").on(&data))
        .then(
            "valid",
            Validate::schema(json!({
                "required": ["id", "customer"],
                "properties": { "customer": { "type": "string" }, "quantity": { "minimum": 1 } }
            })),
        )
        .then("total", Map::new().set("total", "double(row.quantity) * row.price"));
    let [large, small] = totals.branch("size", [("large", "row.total >= 500.0")], "small");
    large.sink("large", JsonlSink::path("large.jsonl").on(&out));
    small.sink("small", JsonlSink::path("small.jsonl").on(&out));
    graph.dead_letters("aside", JsonlSink::path("aside.jsonl").on(&out));

    let report = Engine::builder().build()?.run(&graph.build()?).await?;
    println!("{report}");

    for file in ["large.jsonl", "small.jsonl"] {
        println!("{file}\n{}", fs::read_to_string(folder.join(file))?);
    }
    println!("aside.jsonl");
    for line in fs::read_to_string(folder.join("aside.jsonl"))?.lines() {
        let letter: DeadLetter = serde_json::from_str(line)?;
        println!(
            "{} at node \"{}\": {}",
            letter.position.unwrap_or_default(),
            letter.node,
            letter.error.message
        );
    }
    Ok(())
}
