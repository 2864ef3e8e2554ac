//! What the engine does with a graph, as its user would notice it.

mod batching;
mod connections;
mod failure;
mod flow;
mod isolation;
mod lifecycle;
mod limits;
mod retry;
mod sinks;
mod tell;
