//! A sink that takes embeddings behind a node that gives documents.

use nvisy_core::primitive::embedding::Embedding;
use nvisy_core::testing::memory::{MemorySink, MemorySource};
use nvisy_runtime::prelude::*;

fn main() {
    let graph = Graph::builder("wrong");
    let texts = graph.source("texts", MemorySource::documents(["a"]));
    texts.sink("vectors", MemorySink::named("vectors").typed::<Embedding>());
}
