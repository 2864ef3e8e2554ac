//! Something that is no action.

use nvisy_core::testing::memory::{MemorySink, MemorySource};
use nvisy_runtime::prelude::*;

fn main() {
    let graph = Graph::builder("none");
    graph
        .source("texts", MemorySource::documents(["a"]))
        .then("what", 7)
        .sink("kept", MemorySink::named("kept"));
}
