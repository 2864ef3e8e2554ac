//! Integration tests: one binary for the crate.

mod builder;
mod compiler;
mod expression;
mod graph;
mod sample;
