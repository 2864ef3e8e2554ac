//! An index that follows a folder: what is new or has changed is read, what is stale goes.
//!
//! ```sh
//! cargo run --release --example incremental
//! ```
#![expect(clippy::print_stdout, reason = "examples print")]

use std::fs;

use nvisy_runtime::plugins::{ai, object, vector};
use nvisy_runtime::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = examples::output("incremental")?;
    let notes = folder.join("notes");
    fs::create_dir(&notes)?;
    for n in 0..100 {
        fs::write(
            notes.join(format!("{n}.md")),
            format!("# Note {n}\n\nSome words.\n\n## More\n\nAnd {n} more."),
        )?;
    }
    let graph = Graph::builder("incremental");
    let index = folder.join("index.db").display().to_string();
    graph
        .source("notes", object::Text::all().on(object::Local::at(&notes)))
        .incremental()
        .then("chunk", ai::Chunk::markdown(8))
        .then("embed", ai::Embed::model(ai::Local::HASH).on(ai::Local::new()))
        .sink(
            "store",
            vector::SqliteSink::collection("notes").create().on(vector::Sqlite::at(index).create()),
        );
    let graph = graph.build()?;
    // What has been read is remembered from run to run.
    let engine = Engine::builder().state(folder.join("state")).build()?;

    show("a hundred notes", &engine.run(&graph).await?);
    show("nothing has happened", &engine.run(&graph).await?);
    fs::write(notes.join("7.md"), "# Seven")?;
    fs::write(notes.join("new.md"), "# A new note")?;
    fs::remove_file(notes.join("42.md"))?;
    let report = engine.run(&graph).await?;
    show("one rewritten, one new, one gone", &report);
    println!("\n{report}");
    Ok(())
}

fn show(what: &str, report: &RunReport) {
    let of = |name: &str| report.node(name);
    let found = of("notes").and_then(|node| node.increment).unwrap_or_default();
    let embedded = of("embed").map_or(0, |node| node.received);
    let deleted = of("store").map_or(0, |node| node.deleted);
    println!("{what}: {found}; {embedded} embedded, {deleted} deleted");
}
