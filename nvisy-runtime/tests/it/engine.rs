//! What the engine does with a graph, as its user would notice it.

mod batching;
mod connections;
mod dead_letters;
mod failure;
#[cfg(feature = "object")]
mod files;
mod flow;
mod isolation;
mod lifecycle;
mod limits;
mod names;
mod retry;
mod sinks;
mod tell;
