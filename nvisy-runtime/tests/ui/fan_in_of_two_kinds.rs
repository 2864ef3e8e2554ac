//! Rows and documents flow together without a conversion.

use nvisy_core::testing::memory::{MemorySink, MemorySource};
use nvisy_runtime::prelude::*;

fn main() {
    let graph = Graph::builder("both");
    let texts = graph.source("texts", MemorySource::documents(["a"]));
    let rows = graph.source("rows", MemorySource::rows([]));
    Flow::fan_in("all", [texts, rows]).sink("kept", MemorySink::named("kept"));
}
