//! A flow that feeds two nodes without a fan-out.

use nvisy_core::testing::memory::{MemorySink, MemorySource};
use nvisy_runtime::prelude::*;

fn main() {
    let graph = Graph::builder("twice");
    let texts = graph.source("texts", MemorySource::documents(["a"]));
    texts.sink("one", MemorySink::named("one"));
    texts.sink("two", MemorySink::named("two"));
}
