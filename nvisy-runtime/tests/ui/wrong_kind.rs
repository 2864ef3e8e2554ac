//! A node that takes documents behind one that gives rows.

use nvisy_core::primitive::document::Document;
use nvisy_core::testing::memory::{MemorySink, MemorySource};
use nvisy_runtime::prelude::*;

/// Takes documents.
#[derive(Clone, Debug, serde::Deserialize, schemars::JsonSchema, serde::Serialize)]
struct Shout {}

impl Transform for Shout {
    const NAME: &'static str = "acme/shout";
    type Input = Document;
    type Output = Document;

    async fn transform(&self, document: Item<Document>, _: &Context) -> Result<Outcome<Document>> {
        Ok(Outcome::emit(document))
    }
}

fn main() {
    let graph = Graph::builder("wrong");
    graph
        .source("rows", MemorySource::rows([]))
        .then("shout", Shout {})
        .sink("kept", MemorySink::named("kept"));
}
