//! Rows of a SQLite table in, vectors out, and a question to them.
//!
//! ```sh
//! cargo run --release --example sqlite_to_vectors
//! ```
#![expect(clippy::print_stdout, reason = "examples print")]

use nvisy_runtime::actions::Convert;
use nvisy_runtime::plugins::{ai, object, sql, vector};
use nvisy_runtime::prelude::*;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = examples::output("sqlite_to_vectors")?;
    let path = |file| folder.join(file).display().to_string();
    let engine = Engine::builder().build()?;

    // A table to begin with.
    let graph = Graph::builder("articles");
    graph.source("file", object::Jsonl::path("articles.jsonl").on(object::Local::at(examples::data()))).sink(
        "table",
        sql::SqliteSink::table("articles")
            .upsert(["id"])
            .create()
            .on(sql::Sqlite::at(path("articles.db")).create()),
    );
    print!("{}", engine.run(&graph.build()?).await?);

    let graph = Graph::builder("sqlite_to_vectors");
    let articles = graph.connect("articles", sql::Sqlite::at(path("articles.db")).read_only());
    let index = graph.connect("index", vector::Sqlite::at(path("index.db")).create());
    graph
        .source("nature", sql::SqliteSource::table("articles").filter("topic = ?", ["nature"]).on(&articles))
        .then("documents", Convert::to_document("body").title("title"))
        .then("chunks", ai::Chunk::sentences(2))
        .then("vectors", ai::Embed::model(ai::Local::HASH).on(ai::Local::new()))
        .sink("store", vector::SqliteSink::collection("articles").create().on(&index));
    println!("{}", engine.run(&graph.build()?).await?);

    let question = "Why does the needle not point to the pole?";
    let vectors = ai::Embed::model(ai::Local::HASH).vectors(&ai::Local::new().into(), &[question]).await?;
    let index = vector::Sqlite::at(path("index.db")).connect(&ConnectContext::detached()).await?;
    println!("{question}");
    for hit in vector::Search::hybrid(vectors.concat(), question).k(3).run(&index, "articles").await? {
        println!("  {:.4}  {}: {}", hit.score, hit.title.unwrap_or_default(), hit.text.unwrap_or_default());
        println!("          {}", examples::lineage(&hit.lineage));
    }
    Ok(())
}
